// SPDX-License-Identifier: MIT
//
// Closing under load: everybody wakes, what was reported sent is delivered, and no descriptor is left behind.

#include <gtcp/conn.hpp>

#include "support/conn_pair.hpp"
#include "support/descriptors.hpp"
#include "support/poll_until.hpp"
#include "support/stress_support.hpp"

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <future>
#include <latch>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using gtcp::Conn;
using gtcp::Errc;
using gtcp_test::comes;
using gtcp_test::dice;
using gtcp_test::poll_until;
using gtcp_test::rounds;
namespace numbered = gtcp_test::numbered;
using namespace std::chrono_literals;

/// The results of operations, of which each must come exactly once.
class results {
 public:
  /// A completion handler.
  auto handler() {
    auto promise = std::make_shared<std::promise<std::error_code>>();
    all_.push_back(promise->get_future());
    return [promise](std::error_code error, auto&&...) { promise->set_value(error); };
  }

  template <class Operation>
  void blocking(gtcp_test::thread_group& threads, Operation operation) {
    threads.run([done = handler(), operation = std::move(operation)]() mutable {
      std::error_code error;
      operation(error);
      done(error);
    });
  }

  /// Waits for all and gives each to `check`.
  template <class Check>
  void check(const Check& check) {
    for (std::future<std::error_code>& one : all_) {
      ASSERT_TRUE(comes(one)) << "it was not woken";
      check(one.get());
    }
  }

 private:
  std::vector<std::future<std::error_code>> all_;
};

TEST(Closing, WakesEverybodyFromAnyThread) {
  const gtcp_test::seed_report report;
  const std::string large(30'000, 'x');
  for (int round = rounds(300); round > 0; --round) {
    dice roll(static_cast<std::uint32_t>(round));
    gtcp::ConnOption option;
    option.OutboxLimit = 1000;
    option.Linger = 1ms;
    option.Mode = roll.one_in(3) ? gtcp::SendMode::Direct : gtcp::SendMode::Buffered;
    asio::io_context context;
    auto work = asio::make_work_guard(context);
    gtcp_test::thread_group io;
    io.run([&] { context.run(); });
    if (roll.one_in(2)) option.Executor = context.get_executor();
    const auto [conn, peer] = gtcp_test::make_narrow(option);
    while (conn.TrySendPkg(std::string(400, 'x'))) {
    }

    results receives;
    results sends;
    gtcp_test::thread_group threads;
    for (int i = 0; i < 3; ++i) {
      receives.blocking(threads, [c = conn](std::error_code& error) { c.RecvPkg(error); });
      conn.AsyncRecvPkg(receives.handler());
    }
    for (int i = 0; i < 2; ++i) {
      sends.blocking(threads, [&, c = conn](std::error_code& error) { c.SendPkg(large, error); });
      conn.AsyncSendPkg(large, sends.handler());
    }
    sends.blocking(threads, [c = conn](std::error_code& error) { c.Flush(error); });
    conn.AsyncFlush(sends.handler());

    gtcp_test::thread_group closers;
    std::latch together(3);
    for (std::uint32_t id = 0; id < 3; ++id) {
      closers.run([&, c = conn, id] {
        dice way(static_cast<std::uint32_t>(round) * 7 + id);
        together.arrive_and_wait();
        for (std::size_t pause = way(300); pause > 0; --pause) std::this_thread::yield();
        switch (way(4)) {
          case 0: c.Abort(); break;
          case 1: c.CloseWrite(); [[fallthrough]];
          default: c.Close(); break;
        }
      });
    }
    receives.check([](std::error_code error) { EXPECT_EQ(error, Errc::Closed); });
    // A send of which a byte is out is done when its sender goes; one that comes behind CloseWrite is told that.
    sends.check([](std::error_code error) {
      EXPECT_TRUE(!error || error == Errc::Closed || error == asio::error::shut_down ||
                  error == Errc::TimeoutPartlySent)
          << error.message();
    });
    closers.join();
    threads.join();
    std::error_code late;
    conn.SendPkg("late", late);
    EXPECT_EQ(late, Errc::Closed);
    conn.RecvPkg(late);
    EXPECT_EQ(late, Errc::Closed);
    conn.Flush(late);
    EXPECT_EQ(late, Errc::Closed);
    conn.CloseAndWait(gtcp_test::ceiling, late);
    EXPECT_FALSE(late) << "closing did not end";
    work.reset();
    io.join();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Closing, DeliversWhatWasReportedSentToAPeerThatGoesOnSending) {
  const gtcp_test::seed_report report;
  for (int round = rounds(60); round > 0; --round) {
    dice roll(static_cast<std::uint32_t>(round));
    gtcp::ConnOption option = gtcp_test::wide();
    option.Linger = gtcp_test::ceiling;
    if (roll.one_in(2)) option.OutboxLimit = 4000 + roll(60'000);
    if (roll.one_in(2)) option.SendBufferSize = 4096;
    const auto [a, b] = gtcp_test::make_conn_pair(option, gtcp_test::wide());

    std::atomic<bool> read_all{false};
    gtcp_test::thread_group peer;
    std::map<std::uint32_t, std::uint32_t> came;
    std::error_code read_error;
    peer.run([&, c = b] {
      std::string package;
      for (;;) {
        c.RecvPkgWithTimeout(package, gtcp_test::ceiling, read_error);
        if (read_error) break;
        const numbered::origin from = numbered::of(package);
        EXPECT_TRUE(from.whole) << "torn";
        EXPECT_EQ(came[from.sender], from.number) << "lost, doubled or out of order";
        came[from.sender] = from.number + 1;
      }
      read_all = true;
      c.Close();
    });
    peer.run([&, c = b] {
      const std::string package(1000, 'y');
      std::error_code error;
      while (!error && !read_all) c.SendPkg(package, error);
    });

    // Senders until Close stops them; what they count was reported done.
    constexpr std::uint32_t senders = 4;
    std::array<std::atomic<std::uint32_t>, senders> reported{};
    gtcp_test::thread_group threads;
    for (std::uint32_t sender = 0; sender < senders; ++sender) {
      threads.run([&, c = a, sender] {
        dice way(static_cast<std::uint32_t>(round) * 31 + sender);
        for (std::uint32_t number = 0;; ++number) {
          const std::string package =
              numbered::make(sender, number, numbered::head + way(way.one_in(8) ? 60'000 : 500));
          std::error_code error;
          if (sender % 2 == 0) {
            c.SendPkg(package, error);
          } else {
            std::promise<std::error_code> promise;
            std::future<std::error_code> done = promise.get_future();
            c.AsyncSendPkg(package, [&promise](std::error_code why) { promise.set_value(why); });
            if (!comes(done)) std::abort();  // the package is on this stack
            error = done.get();
          }
          if (error) {
            EXPECT_EQ(error, Errc::Closed);
            return;
          }
          ++reported[sender];
        }
      });
    }
    if (roll.one_in(2))
      threads.run([c = a] {
        std::error_code error;
        std::string package;
        while (!error) c.RecvPkg(package, error);
        EXPECT_EQ(error, Errc::Closed);
      });
    const auto enough = static_cast<std::uint32_t>(roll(400));
    ASSERT_TRUE(poll_until([&] { return reported[0] + reported[1] > enough; }));
    a.Close();
    std::error_code error;
    EXPECT_TRUE(a.CloseAndWait(gtcp_test::ceiling, error)) << "not all was delivered";
    EXPECT_FALSE(error) << error.message();
    threads.join();
    peer.join();
    EXPECT_EQ(read_error, asio::error::eof);
    for (std::uint32_t sender = 0; sender < senders; ++sender) {
      EXPECT_EQ(came[sender], reported[sender]) << "of sender " << sender;
    }
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Closing, DeliversToAPeerThatSendsMoreThanClosingReads) {
  gtcp::ConnOption option = gtcp_test::wide();
  option.Linger = gtcp_test::ceiling;
  option.OutboxLimit = 1 << 20;
  auto [conn, peer] = gtcp_test::make_conn_and_peer(option, gtcp_test::net::tcp, {.peer_recv = 4096});
  std::uint32_t sent = 0;
  std::error_code error;
  while (conn.TrySendPkg(numbered::make(0, sent, 10'000), error)) ++sent;
  ASSERT_FALSE(error);
  conn.Close();
  std::atomic<std::size_t> written{0};
  gtcp_test::thread_group threads;
  threads.run([&] {
    const std::string bytes(64 * 1024, 'y');
    std::error_code failed;
    while (!failed) written += peer.get().write_some(asio::buffer(bytes), failed);
  });
  EXPECT_TRUE(poll_until([&] { return written > std::size_t{64} << 20; }));
  for (std::uint32_t number = 0; number < sent; ++number) {
    const numbered::origin from = numbered::of(peer.read_pkg(3));
    ASSERT_TRUE(from.whole);
    ASSERT_EQ(from.number, number);
  }
  EXPECT_TRUE(conn.CloseAndWait(gtcp_test::ceiling, error));
}

TEST(Receiving, TellsOfAResetAlsoWhenASendWasToldFirst) {
  auto [conn, peer] = gtcp_test::make_conn_and_peer();
  peer.reset();
  std::error_code error;
  ASSERT_TRUE(poll_until([&, c = conn] {
    c.SendPkg("anybody there?", error);
    return static_cast<bool>(error);
  }));
  ASSERT_EQ(error, asio::error::connection_reset);
  conn.RecvPkg(error);
  EXPECT_EQ(error, asio::error::connection_reset) << "not the regular end of the stream";
}

#if defined(__linux__)

/// Connections that come and go, one after another; each is left in another state.
void make_and_leave(int count) {
  std::optional<asio::ip::tcp::acceptor> acceptor;
  for (int i = 0; i < count; ++i) {
    // Another port from time to time: the system keeps those of closed connections for a while.
    if (i % 1000 == 0)
      acceptor.emplace(gtcp_test::raw_context(), asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    asio::ip::tcp::socket socket(gtcp_test::raw_context());
    socket.connect(acceptor->local_endpoint());
    const Conn client = gtcp::NewConnByNetConn(std::move(socket).release());
    const Conn server = gtcp::NewConnByNetConn(acceptor->accept().release());
    std::error_code error;
    client.SendPkg("hello", error);
    ASSERT_FALSE(error) << error.message();
    switch (i % 8) {
      case 0: break;  // dropped with unread input
      case 1: client.Close(); break;
      case 2: server.Abort(); break;
      case 3:
        EXPECT_EQ(server.RecvPkg(error), "hello");
        server.SendPkg("answer", error);
        EXPECT_EQ(client.RecvPkg(error), "answer");
        break;
      case 4: server.AsyncRecvPkg([](std::error_code, std::string) {}); break;
      case 5: client.AsyncRecvPkg([keep = client](std::error_code, std::string) {}); break;
      case 6:
        client.CloseWrite();
        EXPECT_EQ(server.RecvPkg(error), "hello");
        server.RecvPkg(error);
        EXPECT_EQ(error, asio::error::eof);
        break;
      case 7: server.SetInterval(1h, [](Conn) {}); break;
    }
  }
}

TEST(Closing, LeavesNoDescriptorOfTenThousandConnectionsOneAfterAnother) {
  make_and_leave(64);  // what threads and io contexts keep is there after these
  const std::size_t before = gtcp_test::settled_descriptors();
  make_and_leave(rounds(10'000));
  EXPECT_TRUE(poll_until([&] { return gtcp_test::open_descriptors() <= before; }))
      << gtcp_test::open_descriptors() << " descriptors, before " << before;
}

#endif

}  // namespace
