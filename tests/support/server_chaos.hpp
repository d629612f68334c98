// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SERVER_CHAOS_HPP
#define GTCP_TESTS_SUPPORT_SERVER_CHAOS_HPP

// The same as chaos.hpp for a server: it is closed, shut down, opened again and destroyed at random, by any thread and
// by its own handlers, while clients come and go, its handlers throw, and the context under it is stopped.

#include <gtcp/dial.hpp>
#include <gtcp/pool_conn.hpp>
#include <gtcp/server.hpp>
#include <gtcp/stats.hpp>

#include "support/chaos.hpp"
#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace gtcp_test::chaos {

using gtcp::Server;

/// How clients get at the server.
struct access {
  std::function<void(const Server&)> prepare;
  std::function<Conn(const std::string&, const gtcp::ConnOption&, std::error_code&)> connect;
  std::function<void(const std::string&, std::function<void(std::error_code, Conn)>, asio::cancellation_slot)>
      start_connecting;
  std::function<gtcp::PoolConn(const std::string&, std::error_code&)> lend;
};

inline constexpr std::chrono::milliseconds client_patience{100};

inline access plain_access() {
  return {
      [](const Server&) {},
      [](const std::string& address, const gtcp::ConnOption& option, std::error_code& error) {
        return gtcp::NewConn(address, client_patience, option, error);
      },
      [](const std::string& address, std::function<void(std::error_code, Conn)> done, asio::cancellation_slot slot) {
        gtcp::AsyncNewConn(address, client_patience, asio::bind_cancellation_slot(slot, std::move(done)));
      },
      [](const std::string& address, std::error_code& error) {
        return gtcp::NewPoolConn(address, client_patience, error);
      }};
}

/// A server, which any thread and any handler may use, or let go.
class shared_server {
 public:
  shared_server(std::uint32_t number, token alive, bool may_use_timers)
      : number_(number), alive_(std::move(alive)), may_use_timers_(may_use_timers) {}

  void put(const Server& server) {
    const std::lock_guard lock(mutex_);
    server_ = server;
  }
  std::optional<Server> get() const {
    const std::lock_guard lock(mutex_);
    return server_;
  }
  /// Lets go of the last handle but for those that others have got.
  void drop() {
    std::optional<Server> last;
    std::vector<Conn> kept;
    const std::lock_guard lock(mutex_);
    std::swap(last, server_);
    std::swap(kept, kept_);
  }
  void keep(const Conn& conn) {
    const std::lock_guard lock(mutex_);
    kept_.push_back(conn);
  }

  const token& alive() const noexcept { return alive_; }
  /// Timers close connections whenever they like, also while the context of the connections is destroyed.
  bool may_use_timers() const noexcept { return may_use_timers_; }
  /// How many shutdowns are going on in the background.
  const std::shared_ptr<std::atomic<int>>& shutdowns() const noexcept { return shutdowns_; }
  dice roll() { return dice(number_ * 64 + next_.fetch_add(1)); }

 private:
  mutable std::mutex mutex_;
  std::optional<Server> server_;
  std::vector<Conn> kept_;
  const std::uint32_t number_;
  const token alive_;
  const bool may_use_timers_;
  const std::shared_ptr<std::atomic<int>> shutdowns_ = std::make_shared<std::atomic<int>>(0);
  std::atomic<std::uint32_t> next_{0};
};

using shared_server_ptr = std::shared_ptr<shared_server>;

/// What a thread, or a handler, does to the server.
inline void meddle(dice& roll, const shared_server_ptr& shared) {
  const std::optional<Server> server = shared->get();
  if (!server) return;
  std::error_code ignored;
  switch (roll(12)) {
    case 0: server->Close(); break;
    case 1: server->Shutdown(roll.microseconds(1000)); break;
    case 2:
      ++*shared->shutdowns();
      server->AsyncShutdown(roll.microseconds(1000), [alive = shared->alive(), left = shared->shutdowns()](
                                                         std::error_code, gtcp::ShutdownResult) { --*left; });
      break;
    case 3: server->CloseAndWait(roll.microseconds(1000), ignored); break;
    case 4: gtcp::FormatPrometheus(server->Stats()); break;
    case 5: {
      gtcp::ServerOption option;
      option.MaxConns = roll(3);
      option.IdleTimeout = std::chrono::milliseconds(roll(3));
      option.ErrorCallback = [](const Conn&, const std::exception_ptr&) {};
      server->SetOption(option);
      break;
    }
    case 6: server->SetErrorCallback([alive = shared->alive()](const Conn&, const std::exception_ptr&) {}); break;
    case 7:
      server->Listen(ignored);
      server->Start(ignored);
      break;
    case 8: shared->drop(); break;
    default: break;
  }
}

/// What a handler does with its connection. May throw.
inline void meddle(dice& roll, const shared_server_ptr& shared, const Conn& conn) {
  std::error_code ignored;
  switch (roll(16)) {
    case 0: conn.Close(); break;
    case 1: conn.Abort(); break;
    case 2: conn.CloseWrite(ignored); break;
    case 3: throw std::runtime_error("a handler has had enough");
    case 4:
      conn.Detach();
      shared->keep(conn);
      break;
    case 5:
      if (shared->may_use_timers())
        conn.SetTimeout(roll.microseconds(500), [alive = shared->alive()](Conn self) { self.Close(); });
      break;
    case 6: conn.AsyncRecvPkg([alive = shared->alive(), conn](std::error_code, const std::string&) {}); break;
    case 7: conn.AsyncSendPkg(std::string(roll(20'000), 'x'), [alive = shared->alive()](std::error_code) {}); break;
    case 8: conn.Stats(); break;
    case 9:
    case 10: meddle(roll, shared); break;
    default: break;
  }
}

inline void set_handler(const Server& server, serving which, const shared_server_ptr& shared) {
  switch (which) {
    case serving::thread:
      server.SetHandler([shared](const Conn& conn) {
        dice roll = shared->roll();
        for (std::size_t left = roll(6); left > 0; --left) {
          std::error_code error;
          conn.SendPkg(conn.RecvPkgWithTimeout(roll.microseconds(3000), error));
          meddle(roll, shared, conn);
        }
      });
      break;
    case serving::coroutine:
      server.SetHandler([shared](Conn conn) -> asio::awaitable<void> {
        dice roll = shared->roll();
        for (std::size_t left = roll(6); left > 0; --left) {
          std::string pkg = co_await conn.AsyncRecvPkg();
          co_await conn.AsyncSendPkg(std::move(pkg));
          meddle(roll, shared, conn);
        }
      });
      break;
    case serving::pkg_handler:
      server.SetPkgHandler([shared](Conn& conn, std::string_view pkg) {
        dice roll = shared->roll();
        conn.SendPkg(pkg);
        meddle(roll, shared, conn);
      });
      server.SetOnOpen([shared](Conn& conn) {
        dice roll = shared->roll();
        if (roll.one_in(4)) meddle(roll, shared, conn);
      });
      server.SetOnClose([shared](Conn& conn, std::error_code) {
        dice roll = shared->roll();
        if (roll.one_in(4)) meddle(roll, shared, conn);
      });
      break;
  }
}

/// One client after the other.
inline void visit(dice& roll, const std::string& address, const access& how, const token& alive, std::size_t times) {
  std::deque<asio::cancellation_signal> signals;
  std::atomic<int> left{0};
  const auto talk = [&](const Conn& conn) {
    std::error_code error;
    for (std::size_t packages = roll(4); packages > 0 && !error; --packages) {
      conn.SendPkg(std::string(roll.one_in(4) ? roll(60'000) : roll(100), 'y'), error);
      if (!error && roll.one_in(2)) conn.RecvPkgWithTimeout(roll.microseconds(3000), error);
    }
    if (roll.one_in(4)) conn.Abort();
    if (roll.one_in(4)) conn.CloseWrite(error);
  };
  for (; times > 0; --times) {
    std::error_code error;
    switch (roll(4)) {
      case 0:
      case 1: {
        gtcp::ConnOption option;
        option.Linger = std::chrono::milliseconds(roll(5));
        const Conn conn = how.connect(address, option, error);
        if (!error) talk(conn);
        break;
      }
      case 2: {
        const gtcp::PoolConn conn = how.lend(address, error);
        if (!error) talk(conn);
        break;
      }
      case 3: {
        asio::cancellation_signal& signal = signals.emplace_back();
        ++left;
        how.start_connecting(
            address,
            [alive, &left, again = roll.one_in(2)](std::error_code failed, const Conn& conn) {
              if (!failed && again) conn.AsyncSendPkg("z", [conn, alive](std::error_code) {});
              --left;
            },
            signal.slot());
        // A slot is emitted where its operation runs, or before anything runs.
        if (roll.one_in(3)) signal.emit(asio::cancellation_type::total);
        break;
      }
    }
  }
  EXPECT_TRUE(poll_until([&] { return left == 0; })) << left << " connects have not ended";
}

/// Serves clients for a while in which everything may happen; then looks whether all of it has come to an end.
inline void run_server_round(serving which, std::uint32_t number, const access& how) {
  dice roll(number);
  const token alive = std::make_shared<int>(0);
  auto context = std::make_unique<asio::io_context>();
  auto work = std::make_unique<asio::executor_work_guard<asio::io_context::executor_type>>(context->get_executor());
  const bool on_own_context = which != serving::thread && roll.one_in(2);
  thread_group io;
  if (on_own_context) io.run([&] { context->run(); });
  std::shared_ptr<std::atomic<int>> shutdowns;
  {
    const auto shared = std::make_shared<shared_server>(number, alive, !on_own_context);
    shutdowns = shared->shutdowns();
    gtcp::ServerOption option;
    option.Conn.Linger = std::chrono::milliseconds(roll(5));
    option.Conn.OutboxLimit = 1 + roll(50'000);
    option.Conn.WhenFull = static_cast<gtcp::QueuePolicy>(roll.one_in(2) ? 0 : roll(4));
    if (roll.one_in(3)) option.FirstPkgTimeout = option.PkgTimeout = std::chrono::milliseconds(1 + roll(3));
    if (roll.one_in(3)) option.SendStallTimeout = std::chrono::milliseconds(1 + roll(3));
    if (roll.one_in(3)) option.MaxConns = option.MaxConnsPerAddress = 1 + roll(3);
    if (roll.one_in(3)) option.MaxReceiveMemory = 1 + roll(100'000);
    if (on_own_context) option.Conn.Executor = context->get_executor();
    option.ErrorCallback = [alive](const Conn&, const std::exception_ptr&) {};
    // Asks the server, which it could not under a lock.
    option.Log = [weak = std::weak_ptr(shared)](gtcp::LogLevel, std::string_view, std::uint64_t) {
      if (const auto asked = weak.lock()) {
        if (const std::optional<Server> server = asked->get()) server->Stats();
      }
    };
    std::string address;
    {
      const Server server(any_port, nullptr, option);
      how.prepare(server);
      set_handler(server, which, shared);
      shared->put(server);
      server.Listen();
      address = server.GetListenedAddress();
      if (on_own_context)
        server.AsyncRun([alive](std::error_code) {});
      else
        server.Start();
    }
    thread_group threads;
    for (std::uint32_t id = 0; id < 2; ++id) {
      threads.run(
          [&, own = dice(number * 8 + id), times = 1 + roll(3)]() mutable { visit(own, address, how, alive, times); });
    }
    for (std::size_t pause = roll(1000); pause > 0; --pause) std::this_thread::yield();
    meddle(roll, shared);
    if (on_own_context && roll.one_in(4)) context->stop();
    threads.join();
    meddle(roll, shared);
    if (const std::optional<Server> server = shared->get()) server->Close();
    shared->drop();
  }
  gtcp::CloseIdlePoolConns();
  work.reset();
  io.join();
  // Nobody else may use the context while it is destroyed.
  EXPECT_TRUE(poll_until([&] { return *shutdowns == 0; }));
  finish_default_runtime();
  context.reset();  // with what is left in it
  EXPECT_TRUE(poll_until([&] { return alive.use_count() == 1; })) << alive.use_count() - 1 << " are left";
}

}  // namespace gtcp_test::chaos

#endif
