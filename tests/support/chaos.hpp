// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_CHAOS_HPP
#define GTCP_TESTS_SUPPORT_CHAOS_HPP

// Everything that can be done to two connected Conns, at random, from any thread, inside its own callbacks:
// operations, cancelling, deadlines, closing, dropping the last handle, stopping and destroying what they run on. What
// must hold: no crash, no race, no leak (the sanitizers say), every blocked thread returns, and every handler is called
// or destroyed.

#include <gtcp/conn.hpp>
#include <gtcp/runtime.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp_test::chaos {

using gtcp::Conn;
using gtcp::Cork;
using namespace std::chrono_literals;

/// Held by every handler: how many are left shows in its use_count().
using token = std::shared_ptr<int>;

/// What a callback does with the connections that it was given, or that it keeps.
inline void meddle(dice& roll, const Conn& a, const Conn& b) {
  const Conn& one = roll.one_in(2) ? a : b;
  std::error_code ignored;
  switch (roll(8)) {
    case 0: one.Close(); break;
    case 1: one.Abort(); break;
    case 2: one.CloseWrite(ignored); break;
    case 3: one.TrySendPkg("from a callback", ignored); break;
    case 4: one.AsyncRecvPkg([keep = a](std::error_code, std::string) {}); break;
    case 5: one.SetDeadline(std::chrono::steady_clock::now() + roll.microseconds(500), ignored); break;
    default: break;
  }
}

inline asio::awaitable<void> echo(Conn conn, token alive) {
  static_cast<void>(alive);
  std::error_code error;
  while (!error) {
    auto receiving = conn.AsyncRecvPkg(error);
    std::string package = co_await std::move(receiving);
    if (error) break;
    auto sending = conn.AsyncSendPkg(std::move(package), error);
    co_await std::move(sending);
  }
}

/// One thread's share of a round.
class actor {
 public:
  /// `of_a` and `of_b` are for the handlers of either connection.
  actor(Conn a, Conn b, token of_a, token of_b, bool with_timers, std::uint32_t number)
      : a_(std::move(a)),
        b_(std::move(b)),
        of_a_(std::move(of_a)),
        of_b_(std::move(of_b)),
        with_timers_(with_timers),
        roll_(number),
        number_(number) {}

  void run(std::size_t actions) {
    for (; actions > 0; --actions) act();
  }

 private:
  auto handler(const token& alive) {
    return [alive, a = roll_.one_in(3) ? a_ : Conn(), b = roll_.one_in(3) ? b_ : Conn(),
            roll = dice(number_ * 1000 + static_cast<std::uint32_t>(roll_(1000)))](auto&&...) mutable {
      meddle(roll, a, b);
    };
  }

  void act() {
    const bool on_a = roll_.one_in(2);
    const Conn conn = on_a ? a_ : b_;
    const token& alive = on_a ? of_a_ : of_b_;
    std::error_code error;
    const std::string bytes(roll_.one_in(5) ? roll_(60'000) : roll_(300), 'x');
    switch (roll_(23)) {
      case 0: conn.SendPkgWithTimeout(bytes, roll_.microseconds(500), error); break;
      case 1: conn.RecvPkgWithTimeout(roll_.microseconds(300), error); break;
      case 2: conn.AsyncRecvPkg(handler(alive)); break;
      case 3: conn.AsyncRecvPkgWithTimeout(roll_.microseconds(500), handler(alive)); break;
      case 4: conn.AsyncSendPkg(std::string(bytes), handler(alive)); break;
      case 5: conn.AsyncSendPkgWithTimeout(std::string(bytes), roll_.microseconds(500), handler(alive)); break;
      case 6: conn.TrySendPkg(bytes, error); break;
      case 7: {
        std::string into;
        conn.TryRecvPkg(into, error);
        break;
      }
      case 8: {
        const Cork cork(conn);
        conn.TrySendPkg(bytes, error);
        conn.AsyncSendPkg(std::string(bytes), handler(alive));
        break;
      }
      case 9: conn.SetDeadline(std::chrono::steady_clock::now() + roll_.microseconds(400), error); break;
      case 10: conn.SetDeadline({}, error); break;
      case 11: conn.FlushWithTimeout(roll_.microseconds(400), error); break;
      case 12: conn.AsyncFlush(handler(alive)); break;
      case 13:
        if (conn && with_timers_) {
          conn.SetTimeout(roll_.microseconds(500),
                          [alive, roll = roll_](Conn self) mutable { meddle(roll, self, self); });
        }
        break;
      case 14:
        if (conn && with_timers_)
          conn.SetInterval(100us, [alive](Conn self) {
            std::error_code ended;
            self.TrySendPkg("tick", ended);
          });
        break;
      case 15: {
        asio::cancellation_signal& signal = signals_.emplace_back();
        conn.AsyncRecvPkg(asio::bind_cancellation_slot(signal.slot(), handler(alive)));
        break;
      }
      case 16: {
        asio::cancellation_signal& signal = signals_.emplace_back();
        conn.AsyncSendPkg(std::string(bytes), asio::bind_cancellation_slot(signal.slot(), handler(alive)));
        break;
      }
      case 17:
        if (!signals_.empty()) signals_[roll_(signals_.size())].emit(asio::cancellation_type::total);
        break;
      case 18: asio::co_spawn(conn.get_executor(), echo(conn, alive), [alive](std::exception_ptr) {}); break;
      case 19:
        conn.SetSendMode(roll_.one_in(2) ? gtcp::SendMode::Direct : gtcp::SendMode::Buffered, error);
        conn.LocalAddr();
        conn.CloseReason();
        conn.SetNoDelay(true, error);
        conn.GetNativeHandle();
        break;
      case 20:
        if (roll_.one_in(4)) conn.CloseAndWait(roll_.microseconds(1000), error);
        if (roll_.one_in(4)) conn.AsyncClose(handler(alive));
        break;
      case 21:
        if (roll_.one_in(10)) meddle(roll_, conn, conn);
        if (roll_.one_in(20)) a_ = Conn();
        if (roll_.one_in(20)) b_ = Conn();
        break;
      case 22:
        if (conn && roll_.one_in(3)) conn.SetPkgHandler(handler(alive), handler(alive));
        conn.Stats();
        break;
    }
  }

  Conn a_;
  Conn b_;
  token of_a_;
  token of_b_;
  const bool with_timers_;
  dice roll_;
  const std::uint32_t number_;
  std::deque<asio::cancellation_signal> signals_;
};

/// Lets the io threads of the default Runtime come to the end of what they are doing: as any context, the own one may
/// be destroyed only when no other thread is about to post a completion to it.
inline void finish_default_runtime() {
  std::atomic<int> left{0};
  for (unsigned i = 0; i < 2 * std::max(1u, std::thread::hardware_concurrency()); ++i) {
    ++left;
    asio::post(gtcp::Runtime::Default().get_executor(), [&left] { --left; });
  }
  EXPECT_TRUE(poll_until([&] { return left == 0; }));
}

enum class where { default_runtime, own_context, stopped_context };

inline std::string name_of(where which) {
  return which == where::default_runtime ? "DefaultRuntime"
         : which == where::own_context   ? "OwnContext"
                                         : "StoppedContext";
}

/// Connects with `connect(option_of_a, option_of_b)`, a conn_pair, lets four threads loose on it, and looks whether all
/// that they began has come to an end.
template <class Connect>
void run_round(where which, std::uint32_t number, const Connect& connect) {
  dice roll(number);
  const token of_a = std::make_shared<int>(0);
  const token of_b = std::make_shared<int>(0);
  auto context = std::make_unique<asio::io_context>();
  auto work = std::make_unique<asio::executor_work_guard<asio::io_context::executor_type>>(context->get_executor());
  gtcp::ConnOption option;
  option.OutboxLimit = 1 + roll(20'000);
  option.Linger = std::chrono::milliseconds(roll(5));
  option.WhenFull = static_cast<gtcp::QueuePolicy>(roll.one_in(2) ? 0 : roll(4));
  if (roll.one_in(2)) option.SendBufferSize = 4096;
  gtcp::ConnOption option_of_a = option;
  if (which != where::default_runtime) option_of_a.Executor = context->get_executor();
  thread_group io;
  if (which != where::default_runtime) io.run([&] { context->run(); });
  auto [a, b] = connect(option_of_a, option);
  std::deque<actor> actors;  // their signals live as long as the operations
  thread_group threads;
  for (std::uint32_t id = 0; id < 4; ++id) {
    actor& one = actors.emplace_back(a, b, of_a, of_b, which != where::stopped_context, number * 8 + id);
    threads.run([&one, actions = 1 + roll(25)] { one.run(actions); });
  }
  for (std::size_t pause = roll(500); pause > 0; --pause) std::this_thread::yield();
  if (which == where::stopped_context) context->stop();
  if (roll.one_in(2)) meddle(roll, a, b);
  threads.join();
  a.Close();
  b.Close();
  std::error_code error;
  a.CloseAndWait(ceiling, error);
  EXPECT_FALSE(error) << error.message();
  b.CloseAndWait(ceiling, error);
  EXPECT_FALSE(error) << error.message();
  const auto all_gone = [](const token& alive) {
    constexpr long own = 5;  // this function's, and each actor's
    EXPECT_TRUE(poll_until([&] { return alive.use_count() == own; })) << alive.use_count() - own << " are left";
  };
  if (which != where::stopped_context) all_gone(of_a);
  all_gone(of_b);  // before the context is destroyed, which they may use
  work.reset();
  io.join();
  finish_default_runtime();
  context.reset();  // with what is left in it
  all_gone(of_a);
}

}  // namespace gtcp_test::chaos

#endif
