// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_FAULT_PROXY_HPP
#define GTCP_TESTS_SUPPORT_FAULT_PROXY_HPP

// Stands between clients and a server, and does to their connections what networks do: splits what passes, down to
// single bytes, joins it, delays it, holds it up; and some of them it ends at a byte of its choice: with a reset, by
// closing one direction, by cutting both inside of a package, or by losing all that follows.
//
// What it does to a connection follows from the seed, the listener on which it came, and how many came on that listener
// before: which byte is the last one of each piece, where it waits and for how long, and where it ends. The system's
// are only the moments at which bytes come.

#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/socket_base.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace gtcp_test {

enum class fault : unsigned char {
  none,
  reset,       ///< of both directions
  half_close,  ///< of this direction: it ends, and nobody reads from its sender any more
  cut,         ///< of both directions, inside of a package
  truncate,    ///< the rest of this direction is lost; a little later it ends
};
inline constexpr std::size_t fault_kinds = 5;

inline const char* name_of(fault what) {
  constexpr std::array<const char*, fault_kinds> names = {"none", "reset", "half-close", "cut", "truncate"};
  return names[static_cast<std::size_t>(what)];
}

/// The decisions about one direction of a connection.
class fault_script {
 public:
  /// Some bytes in a row, and what happens behind them.
  struct segment {
    std::size_t size = 0;
    std::size_t piece = 0;              ///< the most bytes of a write
    bool joins = false;                 ///< waits until all of it is there, or nothing comes for a while
    std::chrono::microseconds pause{};  ///< behind it
  };

  fault_script(dice roll, fault what) : roll_(roll), what_(what) {
    // At the beginning, soon, or somewhere.
    constexpr std::array<std::size_t, 4> below = {200, 5'000, 100'000, 100'000};
    at_ = roll_(below[roll_(below.size())]);
  }

  fault what() const noexcept { return what_; }
  /// How many bytes pass before the fault; a cut is one byte later if that is between two packages.
  std::size_t at() const noexcept { return at_; }

  /// Of at most some hundred pieces: after each one all other connections have their turn, and with a thousand of them
  /// a package in ten thousand pieces would take minutes.
  segment next() {
    segment made;
    switch (roll_(10)) {
      case 0: made = {1 + roll_(200), 1}; break;
      case 1: made = {1 + roll_(400), 2 + roll_(6)}; break;
      case 2:
      case 3:
      case 4: made = {1 + roll_(20'000), 64 * 1024, true}; break;
      default: made = {1 + roll_(20'000), 100 + roll_(1'400)}; break;
    }
    if (roll_.one_in(10)) made.pause = roll_.microseconds(500);
    if (roll_.one_in(60)) made.pause = std::chrono::milliseconds(5 + roll_(20));
    return made;
  }

 private:
  dice roll_;
  fault what_;
  std::size_t at_ = 0;
};

/// What happens to one connection.
struct fault_plan {
  fault_script there;
  fault_script back;

  bool spares() const noexcept { return there.what() == fault::none && back.what() == fault::none; }

  static fault_plan make(std::uint32_t seed, std::size_t listener, std::size_t number, std::size_t one_is_spared_in) {
    const auto base = static_cast<std::uint32_t>(3 * (listener * 1'000'000 + number));
    dice roll(seed, base);
    const bool is_spared = roll.one_in(one_is_spared_in);
    const auto what = is_spared ? fault::none : static_cast<fault>(1 + roll(fault_kinds - 1));
    const bool hits_back = roll.one_in(2);
    return {fault_script(dice(seed, base + 1), hits_back ? fault::none : what),
            fault_script(dice(seed, base + 2), hits_back ? what : fault::none)};
  }
};

class fault_proxy {
 public:
  struct option {
    std::size_t listeners = 1;
    std::size_t one_is_spared_in = 1;  ///< connections; 1: all are
    std::size_t header_size = 2;       ///< of the packages that pass, of which a cut is inside; 0: there are none
    std::uint32_t seed = gtcp_test::seed();
    bool keeps_trace = false;
  };

  fault_proxy(int server_port, const option& settings)
      : settings_(settings), server_(asio::ip::address_v4::loopback(), static_cast<asio::ip::port_type>(server_port)) {
    for (std::size_t listener = 0; listener < settings.listeners; ++listener) {
      acceptors_.push_back(std::make_unique<asio::ip::tcp::acceptor>(
          context_, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0)));
      asio::co_spawn(context_, accept(listener), asio::detached);
    }
    thread_ = std::thread([this] { context_.run(); });
  }
  ~fault_proxy() {
    context_.stop();
    thread_.join();
  }
  fault_proxy(const fault_proxy&) = delete;
  fault_proxy& operator=(const fault_proxy&) = delete;

  /// Where clients connect to. The decisions about connections can be repeated if those on a listener come one by one.
  std::string address(std::size_t listener = 0) const {
    return "127.0.0.1:" + std::to_string(acceptors_[listener]->local_endpoint().port());
  }

  /// Whether the connection that was the `number`th on its listener, from 0 on, is never ended.
  bool spares(std::size_t listener, std::size_t number) const {
    return fault_plan::make(settings_.seed, listener, number, settings_.one_is_spared_in).spares();
  }

  /// How many connections were ended in that way.
  std::size_t ended_by(fault what) const noexcept { return ended_[static_cast<std::size_t>(what)]; }

  std::string summary() const {
    std::string text = std::to_string(connections_) + " connections";
    for (std::size_t what = 1; what < fault_kinds; ++what)
      text += std::string(", ") + name_of(static_cast<fault>(what)) + " " + std::to_string(ended_[what]);
    return text + ", " + std::to_string(bytes_ >> 20) + " MiB in " + std::to_string(pieces_) + " pieces";
  }

  /// What was done to one direction of a connection: "offset what" for each wait, and for its end.
  struct trace {
    std::size_t listener = 0;
    std::size_t number = 0;
    bool back = false;
    fault planned = fault::none;
    std::vector<std::string> events;
  };
  std::vector<trace> traces() const {
    const std::lock_guard lock(mutex_);
    return traces_;
  }

 private:
  struct link {
    explicit link(asio::io_context& context) : client(context), server(context) {}
    asio::ip::tcp::socket client;
    asio::ip::tcp::socket server;
    bool is_cut = false;
  };

  /// One direction of a connection while it passes.
  struct stream {
    std::shared_ptr<link> pair;
    asio::ip::tcp::socket& from;
    asio::ip::tcp::socket& to;
    fault_script script;
    trace done;
    std::string held = {};    ///< has come, and is not passed on
    std::size_t passed = 0;   ///< bytes
    std::size_t left_of = 0;  ///< the payload of the package that passes
    std::size_t header = 0;   ///< how many bytes of a header have passed
    std::size_t announced = 0;
  };

  asio::awaitable<void> accept(std::size_t listener) {
    for (std::size_t number = 0;; ++number) {
      const auto pair = std::make_shared<link>(context_);
      std::error_code error;
      auto accepting =
          acceptors_[listener]->async_accept(pair->client, asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(accepting);
      if (error) continue;
      auto connecting = pair->server.async_connect(server_, asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(connecting);
      if (error) continue;
      for (asio::ip::tcp::socket* const one : {&pair->client, &pair->server}) {
        one->set_option(asio::ip::tcp::no_delay(true), error);
        one->non_blocking(true, error);
      }
      ++connections_;
      const fault_plan plan = fault_plan::make(settings_.seed, listener, number, settings_.one_is_spared_in);
      asio::co_spawn(context_,
                     pass(std::make_unique<stream>(stream{pair, pair->client, pair->server, plan.there,
                                                          trace{listener, number, false, plan.there.what(), {}}})),
                     asio::detached);
      asio::co_spawn(context_,
                     pass(std::make_unique<stream>(stream{pair, pair->server, pair->client, plan.back,
                                                          trace{listener, number, true, plan.back.what(), {}}})),
                     asio::detached);
    }
  }

  asio::awaitable<void> wait(std::chrono::microseconds time) {
    asio::steady_timer timer(context_, time);
    std::error_code ignored;
    auto waiting = timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    co_await std::move(waiting);
  }

  asio::awaitable<void> pass(std::unique_ptr<stream> it) {
    auto passing = pass_until_end(*it);
    const std::error_code error = co_await std::move(passing);
    if (error == asio::error::eof) {
      std::error_code ignored;
      it->to.shutdown(asio::socket_base::shutdown_send, ignored);
    } else if (error && it->pair->is_cut) {
      auto losing = lose_the_rest(*it);
      co_await std::move(losing);
    } else if (error) {
      reset(*it->pair);  // one side has reset, or was
    } else {
      const fault what = it->script.what();
      ++ended_[static_cast<std::size_t>(what)];
      note(*it, name_of(what));
      auto ending = end(*it, what);
      co_await std::move(ending);
    }
    if (settings_.keeps_trace) {
      const std::lock_guard lock(mutex_);
      traces_.push_back(std::move(it->done));
    }
  }

  /// No error: it is time for the fault.
  asio::awaitable<std::error_code> pass_until_end(stream& it) {
    std::error_code error;
    for (;;) {
      const fault_script::segment now = it.script.next();
      for (std::size_t left = now.size; left != 0;) {
        if (it.held.empty() || now.joins) {
          auto filling = fill(it, now.joins ? left : 1);
          error = co_await std::move(filling);
        }
        if (it.held.empty()) co_return error;
        std::size_t size = std::min({it.held.size(), left, now.piece});
        const std::size_t until_fault = bytes_until_fault(it);
        size = std::min(size, until_fault);
        if (size != 0) {
          auto writing = asio::async_write(it.to, asio::buffer(it.held.data(), size),
                                           asio::redirect_error(asio::use_awaitable, error));
          co_await std::move(writing);
          if (error) co_return error;
          note_passed(it, std::string_view(it.held).substr(0, size));
          it.held.erase(0, size);
          left -= size;
        }
        if (size == until_fault && bytes_until_fault(it) == 0) co_return std::error_code();
      }
      if (now.pause.count() != 0) {
        note(it, now.pause < std::chrono::milliseconds(1) ? "delay" : "stall");
        auto waiting = wait(now.pause);
        co_await std::move(waiting);
      }
    }
  }

  /// Reads until `wanted` bytes are held, or, if there are some, nothing more has come for a while.
  asio::awaitable<std::error_code> fill(stream& it, std::size_t wanted) {
    std::array<char, 16 * 1024> buffer;
    std::error_code error;
    while (it.held.size() < wanted && !error) {
      std::size_t size = 0;
      if (it.held.empty()) {
        auto reading = it.from.async_read_some(asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
        size = co_await std::move(reading);
      } else {
        auto waiting = wait(std::chrono::microseconds(200));
        co_await std::move(waiting);
        size = it.from.read_some(asio::buffer(buffer), error);
        if (error == asio::error::would_block) co_return std::error_code();
      }
      it.held.append(buffer.data(), size);
      if (it.pair->is_cut) it.held.clear();
    }
    co_return error;
  }

  std::size_t bytes_until_fault(const stream& it) const {
    const std::size_t at = it.script.at();
    if (it.script.what() == fault::none) return std::string::npos;
    if (it.passed < at) return at - it.passed;
    const bool is_between = settings_.header_size != 0 && it.header == 0 && it.left_of == 0;
    return it.script.what() == fault::cut && is_between ? 1 : 0;
  }

  void note_passed(stream& it, std::string_view bytes) {
    it.passed += bytes.size();
    bytes_ += bytes.size();
    ++pieces_;
    if (settings_.header_size == 0) return;
    while (!bytes.empty()) {
      if (it.left_of != 0) {
        const std::size_t size = std::min(it.left_of, bytes.size());
        it.left_of -= size;
        bytes.remove_prefix(size);
        continue;
      }
      it.announced = it.announced << 8 | static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      if (++it.header != settings_.header_size) continue;
      it.left_of = std::exchange(it.announced, 0);
      it.header = 0;
    }
  }

  asio::awaitable<void> end(stream& it, fault what) {
    std::error_code error;
    switch (what) {
      case fault::none: break;
      case fault::reset: reset(*it.pair); break;
      case fault::half_close: it.to.shutdown(asio::socket_base::shutdown_send, error); break;
      case fault::cut:
        it.pair->is_cut = true;
        for (asio::ip::tcp::socket* const one : {&it.pair->client, &it.pair->server})
          one->shutdown(asio::socket_base::shutdown_send, error);
        break;
      case fault::truncate: {
        auto waiting = wait(std::chrono::milliseconds(2));
        co_await std::move(waiting);
        it.to.shutdown(asio::socket_base::shutdown_send, error);
        break;
      }
    }
    if (what != fault::cut && what != fault::truncate) co_return;
    auto losing = lose_the_rest(it);
    co_await std::move(losing);
  }

  /// What follows goes nowhere; but unread it would make a reset of every end.
  asio::awaitable<void> lose_the_rest(stream& it) {
    std::error_code error;
    while (!error) {
      it.held.clear();
      auto reading = fill(it, 1);
      error = co_await std::move(reading);
    }
  }

  void note(stream& it, const char* what) const {
    if (settings_.keeps_trace) it.done.events.push_back(std::to_string(it.passed) + " " + what);
  }

  static void reset(link& pair) {
    std::error_code ignored;
    for (asio::ip::tcp::socket* const one : {&pair.client, &pair.server}) {
      one->set_option(asio::socket_base::linger(true, 0), ignored);
      one->close(ignored);
    }
  }

  asio::io_context context_{1};
  const option settings_;
  const asio::ip::tcp::endpoint server_;
  std::vector<std::unique_ptr<asio::ip::tcp::acceptor>> acceptors_;
  std::atomic<std::size_t> connections_{0};
  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::size_t> pieces_{0};
  std::array<std::atomic<std::size_t>, fault_kinds> ended_{};
  mutable std::mutex mutex_;
  std::vector<trace> traces_;
  std::thread thread_;
};

}  // namespace gtcp_test

#endif
