// SPDX-License-Identifier: MIT

// Signals that interrupt every system call again and again, and the one that a write to a peer that has gone would
// send: nothing of it reaches the user.

#include <gtcp/gtcp.hpp>

#include "support/child_process.hpp"
#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/running_server.hpp"
#include "support/signal_storm.hpp"

#include <asio/awaitable.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__)

#include <signal.h>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;

class SignalStorm : public testing::TestWithParam<kind> {
 protected:
  SignalStorm() : server_(GetParam(), echo, async_echo) {}
  running_server server_;
};

INSTANTIATE_TEST_SUITE_P(Handlers, SignalStorm, testing::Values(kind::thread, kind::coroutine, kind::user_executor),
                         [](const auto& one) { return name_of(one.param); });

TEST_P(SignalStorm, LeavesPingPongAlone) {
  const signal_storm storm;
  const Conn conn = server_.connect();
  for (int i = 0; i < 2'000; ++i) ASSERT_TRUE(answers(conn, std::to_string(i)));
  EXPECT_GT(storm.count(), 0u);
}

TEST_P(SignalStorm, LeavesPipelinedPackagesAlone) {
  const signal_storm storm;
  const Conn conn = server_.connect();
  constexpr int packages = 200'000;
  std::thread sender([&] {
    storm.aim_at_this_thread();
    for (int i = 0; i < packages; ++i) conn.SendPkg(std::to_string(i));
  });
  for (int i = 0; i < packages; ++i) ASSERT_EQ(conn.RecvPkgWithTimeout(ceiling), std::to_string(i));
  sender.join();
  EXPECT_GT(storm.count(), 0u);
}

TEST_P(SignalStorm, LeavesLargePackagesAlone) {
  const signal_storm storm;
  const Conn conn = server_.connect();
  const std::string large = pattern(65'000);
  std::thread sender([&] {
    storm.aim_at_this_thread();
    for (int i = 0; i < 300; ++i) conn.SendPkg(large);
  });
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(conn.RecvPkgWithTimeout(ceiling) == large);
  sender.join();
  EXPECT_GT(storm.count(), 0u);
}

TEST_P(SignalStorm, LeavesConnectingAcceptingAndClosingAlone) {
  const signal_storm storm;
  for (int i = 0; i < 200; ++i) {
    const Conn conn = server_.connect();
    ASSERT_TRUE(answers(conn));
    std::error_code error;
    EXPECT_TRUE(conn.CloseAndWait(ceiling, error)) << error.message();
  }
  EXPECT_GT(storm.count(), 0u);
}

TEST(SignalStorm, LeavesTimeoutsAndTimersAlone) {
  auto [conn, peer] = make_conn_and_peer();
  const signal_storm storm;
  for (int i = 0; i < 50; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    std::error_code error;
    conn.RecvPkgWithTimeout(2ms, error);
    EXPECT_EQ(error, gtcp::Errc::Timeout);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms) << "a signal ended the wait";
  }
  std::atomic<int> runs{0};
  const gtcp::TimerEntry entry = gtcp::SetInterval(100us, [&] {
    storm.aim_at_this_thread();
    ++runs;
  });
  EXPECT_TRUE(poll_until([&] { return runs >= 200; }));
  entry.Close();
}

TEST(SignalStorm, LeavesBlockedCallsAlone) {
  // All the ways in which a thread can wait.
  auto [conn, peer] = make_narrow();  // before the storm, which Asio's connect does not stand
  const signal_storm storm;
  std::vector<std::thread> threads;
  std::atomic<int> ended{0};
  const auto blocked = [&, &c = conn](const auto& call) {
    threads.emplace_back([&, call] {
      storm.aim_at_this_thread();
      std::error_code error;
      call(c, error);
      EXPECT_EQ(error, gtcp::Errc::Closed);
      ++ended;
    });
  };
  while (conn.TrySendPkg(pattern(60'000))) {
  }
  for (int i = 0; i < 2; ++i) {
    blocked([](const Conn& one, std::error_code& error) { one.RecvPkg(error); });
    blocked([](const Conn& one, std::error_code& error) { one.SendPkg(pattern(60'000), error); });
    blocked([](const Conn& one, std::error_code& error) { one.Flush(error); });
  }
  const unsigned before = storm.count();
  EXPECT_TRUE(poll_until([&] { return storm.count() > before + 500; }));
  EXPECT_EQ(ended, 0);
  conn.Abort();
  for (std::thread& thread : threads) thread.join();
}

// ---- SIGPIPE

[[noreturn]] void send_to_one_that_has_gone() {
  ::signal(SIGPIPE, SIG_DFL);
  for (const net type : {net::tcp, net::unix_socket}) {
    for (const bool awaits : {false, true}) {
      auto [conn, peer] = make_conn_and_peer({}, type);
      peer.close();
      std::error_code error;
      for (int i = 0; i < 1'000'000 && !error; ++i) {
        if (awaits)
          run([](const Conn& one, std::error_code& failure) -> asio::awaitable<void> {
            auto sending = one.AsyncSendPkg("hello", failure);
            co_await std::move(sending);
          }(conn, error));
        else
          conn.SendPkg("hello", error);
      }
      CHILD_CHECK(error);
      conn.Close();
    }
  }
  std::_Exit(0);
}

TEST(SigpipeDeathTest, SendsToAPeerThatHasGoneEndWithAnError) { expect_well_in_child(send_to_one_that_has_gone); }

}  // namespace

#endif
