// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_IO_STEPS_HPP
#define GTCP_TESTS_SUPPORT_IO_STEPS_HPP

// A conversation of which each step of input or output fails once, in each form of the operations: what must hold is
// that every operation ends, once, and that what the peer gets are whole packages in their order.

#include <gtcp/dial.hpp>

#include "support/allocation_sweep.hpp"
#include "support/conn_pair.hpp"
#include "support/descriptors.hpp"
#include "support/forms.hpp"

#include <asio/awaitable.hpp>
#include <asio/error.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace gtcp_test {

enum class step_fault { reset, no_memory, blocks, little };
inline constexpr step_fault all_step_faults[] = {step_fault::reset, step_fault::no_memory, step_fault::blocks,
                                                 step_fault::little};

/// Which call to a transport fails, and how.
struct step_plan {
  long at;
  step_fault how;
  std::atomic<long> count{0};

  bool is_now() { return count++ == at; }
  bool fired() const { return count > at; }
};

/// A transport of which one call fails.
class failing_transport final : public gtcp::detail::transport {
 public:
  /// `buffers_input`: it may hold input while the socket has none, so it never says to wait for that without reason.
  failing_transport(std::unique_ptr<gtcp::detail::transport> inner, std::shared_ptr<step_plan> plan, bool buffers_input)
      : inner_(std::move(inner)), plan_(std::move(plan)), buffers_input_(buffers_input) {}

  gtcp::detail::io_result handshake() override {
    if (!plan_->is_now()) return inner_->handshake();
    switch (plan_->how) {
      case step_fault::reset: return {0, asio::error::connection_reset};
      case step_fault::no_memory: return {0, asio::error::no_buffer_space};
      default: return inner_->handshake();
    }
  }

  gtcp::detail::io_result read_some(asio::mutable_buffer buffer) override {
    if (!plan_->is_now()) return inner_->read_some(buffer);
    switch (plan_->how) {
      case step_fault::reset: return {0, asio::error::connection_reset};
      case step_fault::no_memory: return {0, asio::error::no_buffer_space};
      case step_fault::blocks:
        if (buffers_input_) return inner_->read_some(buffer);
        return {0, {}, gtcp::detail::wait_direction::read, true};
      case step_fault::little: break;
    }
    gtcp::detail::io_result got = inner_->read_some(asio::buffer(buffer, 1));
    if (got.size != 0) got.drained = false;
    return got;
  }

  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    if (!plan_->is_now() || asio::buffer_size(buffers) == 0) return inner_->write_some(buffers);
    switch (plan_->how) {
      case step_fault::reset: return {0, asio::error::connection_reset};
      case step_fault::no_memory: return {0, asio::error::no_buffer_space};
      case step_fault::blocks: return {0, {}, gtcp::detail::wait_direction::write};
      case step_fault::little: break;
    }
    for (const asio::const_buffer& part : buffers) {
      if (part.size() == 0) continue;
      const asio::const_buffer little = asio::buffer(part, 1);
      gtcp::detail::io_result put = inner_->write_some({&little, 1});
      if (!put.error) put.wait_for = gtcp::detail::wait_direction::write;
      return put;
    }
    return {};
  }

  gtcp::detail::io_result finish_stream() override {
    if (!plan_->is_now()) return inner_->finish_stream();
    if (plan_->how == step_fault::reset) return {0, asio::error::connection_reset};
    return inner_->finish_stream();
  }

  void end_of_sending() override { inner_->end_of_sending(); }

  gtcp::detail::io_result discard_some(asio::mutable_buffer buffer) override {
    if (!plan_->is_now()) return inner_->discard_some(buffer);
    if (plan_->how == step_fault::reset) return {0, asio::error::connection_reset};
    return inner_->discard_some(asio::buffer(buffer, plan_->how == step_fault::little ? 1 : buffer.size()));
  }

 private:
  std::unique_ptr<gtcp::detail::transport> inner_;
  const std::shared_ptr<step_plan> plan_;
  const bool buffers_input_;
};

/// What a client says, and how.
class conversation {
 public:
  explicit conversation(form which) : form_(which) {}

  const std::vector<std::string>& packages() const noexcept { return packages_; }

  /// Sends each package and receives its answer, until something fails for good; then closes. Returns how many answers
  /// came.
  std::size_t run(const gtcp::Conn& conn) {
    std::size_t answers = 0;
    std::error_code error;
    for (const std::string& package : packages_) {
      error = attempt([&](std::error_code& ec) { send(conn, package, ec); });
      if (error) break;
      std::string answer;
      error = attempt([&](std::error_code& ec) { answer = receive(conn, ec); });
      if (error) break;
      EXPECT_TRUE(answer == package) << "another answer";
      ++answers;
    }
    close(conn);
    return answers;
  }

 private:
  /// An operation that failed only for now is done again.
  static std::error_code attempt(const std::function<void(std::error_code&)>& operation) {
    std::error_code error;
    for (int i = 0; i < 2; ++i) {
      operation(error);
      if (error != asio::error::no_buffer_space) break;
    }
    return error;
  }

  void send(const gtcp::Conn& conn, const std::string& package, std::error_code& error) const {
    switch (form_) {
      case form::blocking: return conn.SendPkg(package, error);
      case form::callback: {
        completion_note<int> note;
        note.run([&](auto handler) { conn.AsyncSendPkg(package, std::move(handler)); });
        error = note.wait();
        return;
      }
      case form::awaited:
        return gtcp_test::run(
            [](const gtcp::Conn& one, const std::string& bytes, std::error_code& failure) -> asio::awaitable<void> {
              auto sending = one.AsyncSendPkg(bytes, failure);
              co_await std::move(sending);
            }(conn, package, error));
    }
  }

  std::string receive(const gtcp::Conn& conn, std::error_code& error) const {
    switch (form_) {
      case form::blocking: return conn.RecvPkgWithTimeout(ceiling, error);
      case form::callback: {
        completion_note<std::string> note;
        note.run([&](auto handler) { conn.AsyncRecvPkgWithTimeout(ceiling, std::move(handler)); });
        error = note.wait();
        return note->value;
      }
      case form::awaited:
        return gtcp_test::run([](const gtcp::Conn& one, std::error_code& failure) -> asio::awaitable<std::string> {
          auto receiving = one.AsyncRecvPkgWithTimeout(ceiling, failure);
          std::string package = co_await std::move(receiving);
          co_return package;
        }(conn, error));
    }
    return {};
  }

  void close(const gtcp::Conn& conn) const {
    std::error_code error;
    switch (form_) {
      case form::blocking: conn.CloseAndWait(ceiling, error); break;
      case form::callback: {
        completion_note<bool> note;
        note.run([&](auto handler) { conn.AsyncClose(std::move(handler)); });
        error = note.wait();
        break;
      }
      case form::awaited:
        gtcp_test::run([](const gtcp::Conn& one) -> asio::awaitable<void> {
          auto closing = one.AsyncClose();
          static_cast<void>(co_await std::move(closing));
        }(conn));
        break;
    }
    EXPECT_FALSE(error) << error.message();
    EXPECT_TRUE(poll_until([&] { return conn.GetNativeHandle() == gtcp::detail::invalid_native_socket; }));
  }

  const form form_;
  const std::vector<std::string> packages_ = {pattern(10, 1), pattern(60'000, 2), std::string(), pattern(300, 3)};
};

/// Answers each package with itself, in a thread of its own, and keeps what came.
class answering_peer {
 public:
  explicit answering_peer(gtcp::Conn conn, std::function<void(const gtcp::Conn&)> begin = {})
      : conn_(std::move(conn)), thread_([this, begin = std::move(begin)] {
          try {
            if (begin) begin(conn_);
            for (;;) {
              std::string package = conn_.RecvPkgWithTimeout(ceiling);
              packages_.push_back(package);
              conn_.SendPkg(package);
            }
          } catch (const std::system_error& error) {
            end_ = error.code();
          }
          conn_.Close();
          conn_ = gtcp::Conn();
        }) {}
  ~answering_peer() { packages(); }

  const std::vector<std::string>& packages() {
    if (thread_.joinable()) thread_.join();
    return packages_;
  }
  const std::error_code& end() const noexcept { return end_; }

 private:
  gtcp::Conn conn_;
  std::vector<std::string> packages_;
  std::error_code end_;
  std::thread thread_;
};

/// Expects `got` to be how `said` begins, at least `least` of it.
inline void expect_whole_packages(const std::vector<std::string>& got, const std::vector<std::string>& said,
                                  std::size_t least) {
  EXPECT_GE(got.size(), least);
  EXPECT_LE(got.size(), said.size());
  for (std::size_t i = 0; i < std::min(got.size(), said.size()); ++i) {
    EXPECT_TRUE(got[i] == said[i]) << "package " << i << " is torn, foreign, or twice there";
  }
}

/// Sweeps over the steps: `scenario(n)` returns whether step n was reached.
template <class Scenario>
void sweep_steps(const Scenario& scenario) {
  for (unsigned i = 0; i < 2 * std::max(1u, std::thread::hardware_concurrency()); ++i) {
    static_cast<void>(gtcp::Runtime::Default().get_executor());
  }
  constexpr long nothing = 1'000'000'000;
  scenario(nothing);
  const std::size_t before = settled_descriptors();
  bool fired = true;
  for (long n = 0; fired; ++n) {
    const ::testing::ScopedTrace trace(__FILE__, __LINE__, "step " + std::to_string(n));
    fired = scenario(n);
    EXPECT_TRUE(poll_until([before] { return open_descriptors() <= before; }))
        << open_descriptors() - before << " descriptors are left";
    if (::testing::Test::HasFailure()) return;
    ASSERT_LT(n, 2000) << "no end";
  }
}

}  // namespace gtcp_test

#endif
