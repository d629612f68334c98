// SPDX-License-Identifier: MIT

// Closing, in every state: who waits is told, what was accepted is delivered, and nothing stays behind.

#include <gtcp/detail/connector.hpp>
#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"

#include <gtest/gtest.h>

#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/use_future.hpp>

#if defined(__linux__)
#include <sys/socket.h>
#include <unistd.h>
#endif

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;
using gtcp::ConnOption;
using gtcp::Errc;

/// An operation with a callback, whose error code comes to a future.
class outcome {
 public:
  template <class Start>
  explicit outcome(Start start) {
    start([promise = promise_](std::error_code ec, auto...) { promise->set_value(ec); });
  }
  bool ended() const { return future_.wait_for(0s) == std::future_status::ready; }
  std::error_code get() {
    if (!comes(future_)) throw std::runtime_error("the handler was not called");
    return future_.get();
  }

 private:
  std::shared_ptr<std::promise<std::error_code>> promise_ = std::make_shared<std::promise<std::error_code>>();
  std::future<std::error_code> future_ = promise_->get_future();
};

outcome async_recv(const Conn& conn) {
  return outcome([&](auto handler) { conn.AsyncRecvPkg(std::move(handler)); });
}

using blocked = std::unique_ptr<background<std::error_code>>;

/// A thread that is blocked in `call`, which fills an error code.
template <class Call>
blocked block_in(Call call) {
  auto thread = std::make_unique<background<std::error_code>>([call = std::move(call)] {
    std::error_code ec;
    call(ec);
    return ec;
  });
  thread->wait_until_waiting();
  return thread;
}

blocked blocked_recv(const Conn& conn) {
  return block_in([conn](std::error_code& ec) { conn.RecvPkg(ec); });
}

enum class end { close, abort };

void make_end(const Conn& conn, end how) { how == end::close ? conn.Close() : conn.Abort(); }

/// Returns how many bytes came before the stream ended or was reset.
std::size_t read_until_reset(raw_peer& peer) {
  std::size_t size = 0;
  try {
    while (!peer.read(1).empty()) ++size;
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), asio::error::connection_reset) << error.what();
  }
  return size;
}

// ---- Everybody who waits is told

TEST(Close, EndsAllReceivesBehindABlockedThread) {
  for (const end how : {end::close, end::abort}) {
    for (int round = 0; round < 20; ++round) {
      auto [conn, peer] = make_conn_and_peer();
      const blocked holder = blocked_recv(conn);
      const blocked queued = blocked_recv(conn);
      outcome async_queued = async_recv(conn);
      const blocked line = block_in([on = conn](std::error_code& ec) { on.RecvLine(ec); });
      outcome last = async_recv(conn);
      background closing([on = conn, how] { make_end(on, how); });
      EXPECT_EQ(holder->get(), Errc::Closed);
      EXPECT_EQ(queued->get(), Errc::Closed);
      EXPECT_EQ(async_queued.get(), Errc::Closed);
      EXPECT_EQ(line->get(), Errc::Closed);
      EXPECT_EQ(last.get(), Errc::Closed);
      closing.get();
    }
  }
}

TEST(Close, EndsAllReceivesBehindAnAsynchronousOne) {
  for (const end how : {end::close, end::abort}) {
    for (int round = 0; round < 20; ++round) {
      auto [conn, peer] = make_conn_and_peer();
      outcome holder = async_recv(conn);
      const blocked queued = blocked_recv(conn);
      outcome async_queued = async_recv(conn);
      auto awaited = asio::co_spawn(
          conn.get_executor(),
          [](Conn on) -> asio::awaitable<std::error_code> {
            std::error_code ec;
            std::string ignored = co_await on.AsyncRecvPkg(ec);
            co_return ec;
          }(conn),
          asio::use_future);
      peer.write("h");
      make_end(conn, how);
      EXPECT_EQ(holder.get(), Errc::Closed);
      EXPECT_EQ(queued->get(), Errc::Closed);
      EXPECT_EQ(async_queued.get(), Errc::Closed);
      ASSERT_TRUE(comes(awaited));
      EXPECT_EQ(awaited.get(), Errc::Closed);
    }
  }
}

TEST(Close, EndsAllSendsAndFlushes) {
  for (const end how : {end::close, end::abort}) {
    for (int round = 0; round < 10; ++round) {
      auto [conn, peer] = make_narrow({.OutboxLimit = 1});
      ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
      const blocked small = block_in([on = conn](std::error_code& ec) { on.SendPkg("small", ec); });
      const blocked large = block_in([on = conn](std::error_code& ec) { on.SendPkg(pattern(30'000), ec); });
      outcome async_small([&on = conn](auto handler) { on.AsyncSendPkg(std::string("a"), std::move(handler)); });
      outcome async_large([&on = conn](auto handler) { on.AsyncSendPkg(pattern(30'000), std::move(handler)); });
      const blocked flushing = block_in([on = conn](std::error_code& ec) { on.Flush(ec); });
      outcome async_flushing([&on = conn](auto handler) { on.AsyncFlush(std::move(handler)); });
      outcome both([&on = conn](auto handler) { on.AsyncSendRecvPkg(std::string("x"), std::move(handler)); });
      EXPECT_FALSE(async_small.ended() || async_large.ended() || async_flushing.ended() || both.ended());
      background closing([on = conn, how] { make_end(on, how); });
      EXPECT_EQ(small->get(), Errc::Closed);
      EXPECT_EQ(large->get(), Errc::Closed);
      EXPECT_EQ(async_small.get(), Errc::Closed);
      EXPECT_EQ(async_large.get(), Errc::Closed);
      EXPECT_EQ(flushing->get(), Errc::Closed);
      EXPECT_EQ(async_flushing.get(), Errc::Closed);
      EXPECT_EQ(both.get(), Errc::Closed);
      closing.get();
      if (how == end::close) {
        EXPECT_TRUE(peer.read_to_end() == framed(pattern(60'000))) << "what was accepted, and nothing else";
      }
    }
  }
}

TEST(Close, LetsAPackageThatIsPartlyOutGoOutWhole) {
  auto [conn, peer] = make_narrow();
  const std::string large = pattern(1 << 20);
  const blocked sending =
      block_in([on = conn, &large](std::error_code& ec) { on.SendPkg(large, {.HeaderSize = 4}, ec); });
  conn.Close();
  EXPECT_FALSE(sending->get());
  EXPECT_TRUE(peer.read_to_end() == framed(large, 4));
}

TEST(Close, FailsEverythingThatBeginsLater) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write(framed("too late"));
  conn.Close();
  const std::string who = " [" + conn.RemoteAddr() + "]: ";
  const std::string closed = make_error_code(Errc::Closed).message();
  const Conn& on = conn;
  const auto text = [](auto operation) { return text_of_error(Errc::Closed, operation); };
  EXPECT_EQ(text([&] { on.RecvPkg(); }), "RecvPkg" + who + closed);
  EXPECT_EQ(text([&] { on.SendPkg("x"); }), "SendPkg" + who + closed);
  EXPECT_EQ(text([&] { on.Recv(-1); }), "Recv" + who + closed);
  EXPECT_EQ(text([&] { on.Send("x"); }), "Send" + who + closed);
  EXPECT_EQ(text([&] { on.TrySendPkg("x"); }), "TrySendPkg" + who + closed);
  std::string into;
  EXPECT_EQ(text([&] { on.TryRecvPkg(into); }), "TryRecvPkg" + who + closed);
  EXPECT_EQ(text([&] { on.Flush(); }), "Flush" + who + closed);
  EXPECT_EQ(text([&] { run(on.AsyncRecvPkg()); }), "AsyncRecvPkg" + who + closed);
  EXPECT_EQ(text([&] { run(on.AsyncSendPkg("x")); }), "AsyncSendPkg" + who + closed);
  EXPECT_EQ(text([&] { run(on.AsyncSendRecvPkg("x")); }), "AsyncSendRecvPkg" + who + closed);
  EXPECT_EQ(text([&] { run(on.AsyncFlush()); }), "AsyncFlush" + who + closed);
  EXPECT_EQ(async_recv(conn).get(), Errc::Closed);
  EXPECT_TRUE(gtcp::IsFatal(Errc::Closed));
  EXPECT_EQ(make_error_code(Errc::Closed), std::errc::operation_canceled);
  EXPECT_TRUE(conn.IsClosed());
  EXPECT_EQ(conn.CloseReason(), Errc::Closed);
}

TEST(Close, MayBeCalledByManyAtOnceWhileManyAreAtWork) {
  for (int round = 0; round < 50; ++round) {
    auto [a, b] = make_conn_pair();
    std::vector<std::unique_ptr<background<void>>> threads;
    const auto expect_ended = [](const std::error_code& ec) { EXPECT_TRUE(gtcp::IsFatal(ec)) << ec.message(); };
    for (int i = 0; i < 2; ++i) {
      threads.push_back(std::make_unique<background<void>>([=, on = a] {
        std::error_code ec;
        while (!ec) on.SendPkg("hello", ec);
        expect_ended(ec);
      }));
      threads.push_back(std::make_unique<background<void>>([=, on = b] {
        std::error_code ec;
        while (!ec) on.RecvPkg(ec);
        expect_ended(ec);
      }));
      threads.push_back(std::make_unique<background<void>>([=, on = b] {
        std::error_code ec;
        while (!ec) run(on.AsyncRecvPkg(ec));
        expect_ended(ec);
      }));
    }
    for (int i = 0; i < 3; ++i) {
      threads.push_back(
          std::make_unique<background<void>>([on = i == 0 ? b : a, i] { i == 2 ? on.Abort() : on.Close(); }));
    }
    for (auto& thread : threads) thread->get();
  }
}

// ---- What was accepted is delivered

TEST(Close, DeliversEverythingToAPeerThatGoesOnSending) {
  for (const net kind : {net::tcp, net::unix_socket}) {
    for (int round = 0; round < 20; ++round) {
      // With little room at the peer much of it is still here, with the system, when closing begins.
      auto [conn, peer] = make_conn_and_peer({.Linger = ceiling, .OutboxLimit = 1 << 20}, kind,
                                             {.peer_recv = round % 2 == 0 ? 0 : 4096});
      std::atomic<bool> stop{false};
      background talking([&, &to = peer] {
        // Bytes that nobody takes: a descriptor that is closed with them unread is reset by the system. Not endless,
        // for closing takes no endless noise either.
        std::error_code ec;
        const std::string noise = pattern(1000);
        for (int i = 0; i < 20'000 && !stop && !ec; ++i) to.get().write_some(asio::buffer(noise), ec);
      });
      constexpr int count = 300;
      for (int i = 0; i < count; ++i) conn.SendPkg(pattern(1000, static_cast<unsigned>(i)));
      conn.Close();
      for (int i = 0; i < count; ++i) ASSERT_TRUE(peer.read_pkg() == pattern(1000, static_cast<unsigned>(i)));
      EXPECT_EQ(peer.read(1), "");
      stop = true;
      talking.get();
    }
  }
}

TEST(Close, DeliversWhatAsynchronousSendsReported) {
  for (int round = 0; round < 20; ++round) {
    auto [conn, peer] = make_narrow({.OutboxLimit = 10'000});
    std::vector<outcome> sends;
    for (unsigned i = 0; i < 40; ++i) {
      sends.emplace_back([&, &on = conn](auto handler) { on.AsyncSendPkg(pattern(1000, i), std::move(handler)); });
    }
    conn.Close();
    std::vector<unsigned> sent;
    for (unsigned i = 0; i < 40; ++i) {
      const std::error_code ec = sends[i].get();
      if (!ec) sent.push_back(i);
      if (ec) {
        EXPECT_EQ(ec, Errc::Closed);
      }
    }
    EXPECT_FALSE(sent.empty());
    std::string expected;
    for (const unsigned i : sent) expected += framed(pattern(1000, i));
    EXPECT_TRUE(peer.read_to_end() == expected);
  }
}

#if defined(__linux__)
/// Opens and closes sockets of its own all the time, and looks whether anybody else touches them.
class bystander {
 public:
  ~bystander() { done(); }

  /// How many of them were touched.
  int done() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
    return touched_;
  }

 private:
  class pair {
   public:
    pair() { open_ = ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends_.data()) == 0; }
    pair(pair&& other) noexcept : open_(std::exchange(other.open_, false)), ends_(other.ends_) {}
    pair& operator=(pair&&) = delete;
    ~pair() {
      for (const int end : ends_) {
        if (open_) ::close(end);
      }
    }
    /// Whether what goes in at one end comes out of the other, and nothing else does.
    bool is_whole() const {
      if (!open_) return true;
      const char sent = static_cast<char>(ends_[0]);
      char got = 0;
      return ::send(ends_[0], &sent, 1, MSG_NOSIGNAL) == 1 && ::recv(ends_[1], &got, 1, 0) == 1 && got == sent &&
             ::recv(ends_[0], &got, 1, 0) == -1 && errno == EAGAIN && ::recv(ends_[1], &got, 1, 0) == -1 &&
             errno == EAGAIN;
    }

   private:
    bool open_ = false;
    std::array<int, 2> ends_{};
  };

  void run(const std::stop_token& stop) {
    constexpr std::size_t kept = 8;
    std::deque<pair> pairs;
    while (!stop.stop_requested()) {
      pairs.emplace_back();
      for (const pair& one : pairs) {
        if (!one.is_whole()) ++touched_;
      }
      if (pairs.size() == kept) pairs.pop_front();
    }
  }

  std::atomic<int> touched_{0};
  std::jthread thread_{[this](const std::stop_token& stop) { run(stop); }};
};

TEST(Close, TouchesNoDescriptorThatTheSystemHasGivenToOthers) {
  bystander others;
  const std::string large = pattern(60'000);
  for (int round = 0; round < 300; ++round) {
    ConnOption option;
    option.SendBufferSize = 4096;
    option.Linger = 1ms;
    auto [conn, peer] = make_conn_and_peer(option);
    const auto ignore = [](std::error_code, auto&&...) {};
    conn.AsyncRecvPkg(ignore);
    conn.AsyncSendPkg(large, ignore);
    conn.AsyncSendPkgWithTimeout(large, 1ms, ignore);
    background sending([c = conn, &large] {
      std::error_code error;
      while (!gtcp::IsFatal(error)) c.SendPkgWithTimeout(large, 1ms, error);
      return error;
    });
    std::error_code error;
    switch (round % 4) {
      case 0: conn.Close(); break;
      case 1: conn.Abort(); break;
      case 2:
        peer.reset();
        conn.Close();
        break;
      default: conn.CloseAndWait(ceiling, error); break;
    }
    EXPECT_TRUE(gtcp::IsFatal(sending.get()));
  }
  EXPECT_EQ(others.done(), 0);
}
#endif

TEST(Close, HappensWhenTheLastHandleIsDropped) {
  auto [conn, peer] = make_conn_and_peer();
  conn.SendPkg("hello");
  {
    const Conn copy = conn;
    conn = Conn();
    copy.SendPkg("still open");
  }
  EXPECT_EQ(peer.read_to_end(), framed("hello") + framed("still open"));
}

TEST(Close, HappensWhenTheLastHandleIsDroppedThoughOperationsAreUnderWay) {
  std::optional<outcome> receiving;
  {
    auto [conn, peer] = make_conn_and_peer();
    receiving.emplace(async_recv(conn));
    conn = Conn();
    EXPECT_EQ(receiving->get(), Errc::Closed);
    EXPECT_EQ(peer.read_to_end(), "");
  }
}

TEST(Close, MayComeFromACallbackThatHoldsTheLastHandle) {
  auto [conn, peer] = make_conn_and_peer();
  std::promise<void> dropped;
  auto held = std::make_shared<Conn>(std::move(conn));
  const Conn& on = *held;
  on.AsyncRecvPkg([held = std::move(held), &dropped](std::error_code ec, const std::string& got) mutable {
    EXPECT_FALSE(ec);
    EXPECT_EQ(got, "hello");
    held->SendPkg("bye");
    held.reset();
    dropped.set_value();
  });
  peer.write(framed("hello"));
  auto future = dropped.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(peer.read_to_end(), framed("bye"));
}

TEST(Close, EndsWithinAShortLingerThoughThePeerNeverReads) {
  for (const auto linger : {0ms, 30ms}) {
    auto [conn, peer] = make_narrow();
    conn.SetLinger(linger);
    ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
    std::error_code ec;
    EXPECT_FALSE(conn.CloseAndWait(ceiling, ec)) << "it cannot have been delivered";
    EXPECT_FALSE(ec) << ec.message();
    EXPECT_EQ(conn.GetNativeHandle(), gtcp::detail::invalid_native_socket);
    EXPECT_LT(conn.RemoteAddr().size(), 30u);
    EXPECT_LT(read_until_reset(peer), 60'002u) << "dropped";
  }
}

TEST(Close, FreesTheDescriptorOnceThePeerHasEndedToo) {
  for (const net kind : {net::tcp, net::unix_socket}) {
    auto [a, b] = make_conn_pair({}, {}, kind);
    a.SendPkg("hello");
    a.Close();
    EXPECT_EQ(b.RecvPkg(), "hello");
    b.Close();
    EXPECT_TRUE(poll_until([&, &on = a] { return on.GetNativeHandle() == gtcp::detail::invalid_native_socket; }));
    EXPECT_TRUE(poll_until([&, &on = b] { return on.GetNativeHandle() == gtcp::detail::invalid_native_socket; }));
  }
}

// ---- Waiting for the end

TEST(CloseAndWait, SaysThatAllIsDelivered) {
  for (const net kind : {net::tcp, net::unix_socket}) {
    auto [conn, peer] = make_conn_and_peer({}, kind);
    const std::string all = framed(pattern(60'000));
    background sending([&, on = conn] {
      on.SendPkg(pattern(60'000));
      return on.CloseAndWait(ceiling);
    });
    EXPECT_TRUE(peer.read_to_end() == all);
    EXPECT_TRUE(sending.get());
    EXPECT_TRUE(conn.CloseAndWait(0ms)) << "once it is known, it stays known";
    EXPECT_TRUE(run(conn.AsyncClose()));
  }
}

TEST(CloseAndWait, DeliversHoweverLongTheLingerTime) {
  auto [conn, peer] = make_narrow({.Linger = std::chrono::milliseconds::max()});
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  background closing([on = conn] { return on.CloseAndWait(ceiling); });
  closing.wait_until_waiting();
  EXPECT_TRUE(peer.read_to_end() == framed(pattern(60'000)));
  EXPECT_TRUE(closing.get());
}

TEST(CloseAndWait, GivesUpAtItsTimeoutAndClosingGoesOn) {
  auto [conn, peer] = make_narrow();
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  EXPECT_EQ(text_of_error(Errc::Timeout, [&, &on = conn] { on.CloseAndWait(1ms); }),
            "CloseAndWait [" + conn.RemoteAddr() + "]: " + make_error_code(Errc::Timeout).message());
  EXPECT_TRUE(conn.IsClosed());
  background waiting([on = conn] { return on.CloseAndWait(ceiling); });
  outcome async_waiting([&on = conn](auto handler) { on.AsyncClose(std::move(handler)); });
  EXPECT_TRUE(peer.read_to_end() == framed(pattern(60'000)));
  EXPECT_TRUE(waiting.get());
  EXPECT_FALSE(async_waiting.get());
}

TEST(AsyncClose, SaysWhatWasDelivered) {
  auto [conn, peer] = make_narrow({.Linger = 30ms});
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  EXPECT_FALSE(run(conn.AsyncClose())) << "a peer that does not read got nothing";

  auto [other, reader] = make_conn_and_peer();
  other.SendPkg("hello");
  EXPECT_TRUE(run(other.AsyncClose()));
  EXPECT_EQ(reader.read_to_end(), framed("hello"));
}

TEST(CloseAndWait, DoesNotCallDeliveredWhatAResetThrewAway) {
  auto [conn, peer] = make_narrow();
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  peer.reset();
  std::error_code ec;
  EXPECT_FALSE(conn.CloseAndWait(ceiling, ec));
  EXPECT_FALSE(ec) << ec.message();
}

TEST(Abort, ResetsAndDropsWhatIsPending) {
  auto [conn, peer] = make_narrow();
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  conn.Abort();
  std::error_code ec;
  EXPECT_FALSE(conn.CloseAndWait(ceiling, ec));
  EXPECT_FALSE(ec);
  EXPECT_EQ(conn.GetNativeHandle(), gtcp::detail::invalid_native_socket);
  EXPECT_LT(read_until_reset(peer), 60'002u);
}

TEST(Abort, IsAResetForThePeer) {
  auto [conn, peer] = make_conn_and_peer();
  conn.Abort();
  std::error_code ec;
  char byte = 0;
  peer.get().read_some(asio::buffer(&byte, 1), ec);
  EXPECT_EQ(ec, asio::error::connection_reset);
}

TEST(Abort, EndsAClosingThatLingers) {
  auto [conn, peer] = make_narrow({.Linger = 1h});
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  conn.Close();
  outcome waiting([&on = conn](auto handler) { on.AsyncClose(std::move(handler)); });
  EXPECT_FALSE(waiting.ended());
  conn.Abort();
  EXPECT_FALSE(waiting.get());
  EXPECT_EQ(conn.GetNativeHandle(), gtcp::detail::invalid_native_socket);
}

// ---- Half close

TEST(CloseWrite, EndsTheStreamBehindWhatWasSentAndKeepsReceiving) {
  for (const net kind : {net::tcp, net::unix_socket}) {
    auto [conn, peer] = make_conn_and_peer({}, kind);
    conn.SendPkg("request");
    conn.CloseWrite();
    conn.CloseWrite();
    EXPECT_EQ(peer.read_to_end(), framed("request"));
    std::error_code ec;
    conn.SendPkg("x", ec);
    EXPECT_EQ(ec, asio::error::shut_down) << ec.message();
    peer.write(framed("reply"));
    EXPECT_EQ(conn.RecvPkg(), "reply");
    EXPECT_FALSE(conn.IsClosed());
    conn.Close();
    conn.SendPkg("x", ec);
    EXPECT_EQ(ec, Errc::Closed) << ec.message();
  }
}

TEST(CloseWrite, IsOrderedBehindSendsThatWait) {
  auto [conn, peer] = make_narrow({.OutboxLimit = 1});
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  outcome waiting([&on = conn](auto handler) { on.AsyncSendPkg(std::string("waits"), std::move(handler)); });
  const blocked thread = block_in([on = conn](std::error_code& ec) { on.SendPkg("waits too", ec); });
  conn.CloseWrite();
  EXPECT_TRUE(peer.read_pkg() == pattern(60'000));
  EXPECT_EQ(peer.read_pkg(), "waits");
  EXPECT_EQ(peer.read_pkg(), "waits too");
  EXPECT_EQ(peer.read_to_end(), "");
  EXPECT_FALSE(waiting.get());
  EXPECT_FALSE(thread->get());
}

// ---- Executors and contexts

TEST(IoThreads, RefuseCallsThatWouldBlockThem) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write(framed("hello"));
  std::promise<void> done;
  asio::post(conn.get_executor(), [&, &on = conn] {
    std::error_code ec;
    on.RecvPkg(ec);
    EXPECT_EQ(ec, Errc::WouldDeadlock);
    EXPECT_FALSE(gtcp::IsFatal(ec));
    on.Recv(0, ec);
    EXPECT_EQ(ec, Errc::WouldDeadlock);
    on.RecvLine(ec);
    EXPECT_EQ(ec, Errc::WouldDeadlock);
    on.SendRecvPkg("sent", ec);
    EXPECT_EQ(ec, Errc::WouldDeadlock);
    on.Flush(ec);
    EXPECT_EQ(ec, Errc::WouldDeadlock);
    std::string into;
    EXPECT_TRUE(poll_until([&] { return on.TryRecvPkg(into); }));
    EXPECT_EQ(into, "hello");
    on.SendPkg("small", ec);
    EXPECT_FALSE(ec) << "there is room, so it need not block";
    EXPECT_EQ(text_of_error(Errc::WouldDeadlock, [&] { on.RecvPkg(); }),
              "RecvPkg [" + on.RemoteAddr() + "]: " + make_error_code(Errc::WouldDeadlock).message());
    EXPECT_FALSE(on.CloseAndWait(1s, ec));
    EXPECT_EQ(ec, Errc::WouldDeadlock);
    done.set_value();
  });
  auto future = done.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(peer.read_pkg(), "sent");
  EXPECT_EQ(peer.read_pkg(), "small");
}

TEST(IoThreads, RefuseASendOnlyWhenTheOutboxIsFullAndBeforeAnyByte) {
  auto [conn, peer] = make_narrow({.OutboxLimit = 20'000});
  std::promise<int> count;
  asio::post(conn.get_executor(), [&, &on = conn] {
    std::error_code ec;
    int sent = 0;
    for (; !ec && sent < 10'000; ++sent) on.SendPkg(pattern(1000, static_cast<unsigned>(sent)), ec);
    EXPECT_EQ(ec, Errc::WouldDeadlock) << ec.message();
    count.set_value(sent - 1);
  });
  auto future = count.get_future();
  ASSERT_TRUE(comes(future));
  const int sent = future.get();
  EXPECT_GT(sent, 20);
  conn.CloseWrite();
  std::string expected;
  for (int i = 0; i < sent; ++i) expected += framed(pattern(1000, static_cast<unsigned>(i)));
  EXPECT_TRUE(peer.read_to_end() == expected);
}

/// A layer that has something to write itself, whenever there is nothing to read.
class eager_layer final : public gtcp::detail::transport {
 public:
  explicit eager_layer(gtcp::detail::native_socket descriptor) : plain_(descriptor) {}
  gtcp::detail::io_result read_some(asio::mutable_buffer buffer) override {
    gtcp::detail::io_result got = plain_.read_some(buffer);
    if (got.wait_for == gtcp::detail::wait_direction::read) got.wait_for = gtcp::detail::wait_direction::both;
    return got;
  }
  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    return plain_.write_some(buffers);
  }
  void end_of_sending() override { plain_.end_of_sending(); }
  gtcp::detail::io_result discard_some(asio::mutable_buffer buffer) override { return plain_.discard_some(buffer); }

 private:
  gtcp::detail::plain_transport plain_;
};

// Its wait for room may be over when the connection is closed, and find the closing waiting in its place.
TEST(UsersContext, ThatRunsLateDoesNotDisturbTheClosing) {
  asio::io_context context{1};
  auto [own, other] = connected_sockets(net::tcp);
  const gtcp::detail::native_socket descriptor = own.release();
  ASSERT_FALSE(gtcp::detail::prepare_socket(descriptor));
  raw_peer peer(std::move(other));
  const ConnOption option{.OutboxLimit = 32 << 20, .Executor = context.get_executor()};
  const Conn conn = gtcp::detail::make_conn(descriptor, option, std::make_unique<eager_layer>(descriptor));
  const std::string pkg = pattern(10'000);
  std::string all;
  while (conn.Stats().OutboxBytes < (8 << 20)) {
    conn.SendPkg(pkg);
    all += framed(pkg);
  }
  conn.AsyncRecvPkg([](std::error_code, const std::string&) {});
  context.poll();  // now two wait for room, and one for input
  std::string begin;
  while (!gtcp::detail::is_ready(descriptor, gtcp::detail::wait_direction::write)) begin += peer.read(64 * 1024);
  context.poll_one();  // the first of the two; the other one is on its way
  conn.Close();
  context.poll();
  peer.write(std::string(24 << 20, 'x'));
  EXPECT_TRUE(begin + peer.read_to_end() == all);
}

TEST(UsersContext, ThatNobodyRunsHangsNoBlockingCall) {
  asio::io_context context;
  auto [conn, peer] = make_narrow({.OutboxLimit = 10'000, .Executor = context.get_executor()});
  const std::string large = pattern(60'000);
  ASSERT_TRUE(conn.TrySendPkg(large));  // from here on the context is to drain the outbox, and never does
  background sending([&, on = conn] {
    for (unsigned i = 0; i < 100; ++i) on.SendPkg(pattern(1000, i));
    on.SendPkg(large);
    on.Flush();
  });
  EXPECT_TRUE(peer.read_pkg() == large);
  for (unsigned i = 0; i < 100; ++i) EXPECT_TRUE(peer.read_pkg() == pattern(1000, i));
  EXPECT_TRUE(peer.read_pkg() == large);
  sending.get();
  peer.write(framed("hello"));
  EXPECT_EQ(conn.RecvPkg(), "hello");
  ASSERT_TRUE(conn.TrySendPkg(large));
  background closing([on = conn] { return on.CloseAndWait(ceiling); });
  EXPECT_TRUE(peer.read_to_end() == framed(large)) << "closing does not need the context either";
  EXPECT_TRUE(closing.get());
}

TEST(UsersContext, ThatNobodyRunsDoesNotKeepAReceiverFromBlockedOnes) {
  asio::io_context context;
  auto [conn, peer] = make_conn_and_peer({.Executor = context.get_executor()});
  bool called = false;
  conn.AsyncRecvPkg([&](std::error_code ec, const std::string&) {
    EXPECT_EQ(ec, Errc::Closed);
    called = true;
  });
  const blocked queued = blocked_recv(conn);
  conn.Close();
  EXPECT_EQ(queued->get(), Errc::Closed);
  EXPECT_FALSE(called);
  context.run_for(ceiling);
  EXPECT_TRUE(called);
  EXPECT_EQ(peer.read_to_end(), "");
}

TEST(UsersContext, MayBeDestroyedAfterCloseWithOperationsPending) {
  for (const end how : {end::close, end::abort}) {
    auto context = std::make_unique<asio::io_context>();
    auto alive = std::make_shared<int>();
    auto [conn, peer] = make_narrow({.OutboxLimit = 1, .Executor = context->get_executor()});
    const auto handler = [alive](std::error_code, auto...) { ADD_FAILURE() << "its context never ran"; };
    ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
    conn.AsyncRecvPkg(handler);
    conn.AsyncRecvPkgWithTimeout(1h, handler);
    conn.AsyncSendPkg(std::string("waits"), handler);
    conn.AsyncSendPkgWithTimeout(pattern(20'000), 1h, handler);
    conn.AsyncFlush(handler);
    asio::co_spawn(
        *context,
        [](Conn on, std::shared_ptr<int>) -> asio::awaitable<void> {
          const std::string ignored = co_await on.AsyncRecvPkg();
        }(conn, alive),
        asio::detached);
    make_end(conn, how);
    context.reset();
    EXPECT_EQ(alive.use_count(), 2) << "the handlers went with their context, but for this test's own two";
    if (how == end::close) {
      EXPECT_TRUE(peer.read_to_end() == framed(pattern(60'000)));
    }
  }
}

TEST(UsersContext, RunsHandlersAndIsNotNeededForDelivering) {
  for (int round = 0; round < 20; ++round) {
    asio::io_context context;
    auto work = asio::make_work_guard(context);
    std::thread thread([&] { context.run(); });
    auto [conn, peer] = make_narrow({.Executor = context.get_executor()});
    outcome receiving([&on = conn, &context](auto handler) {
      on.AsyncRecvPkg([handler = std::move(handler), &context](std::error_code ec, auto... results) mutable {
        EXPECT_TRUE(context.get_executor().running_in_this_thread());
        handler(ec, results...);
      });
    });
    ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
    peer.write(framed("hello"));
    EXPECT_FALSE(receiving.get());
    conn.Close();
    context.stop();
    work.reset();
    thread.join();
    EXPECT_TRUE(peer.read_to_end() == framed(pattern(60'000)));
  }
}

// ---- Timers of a connection

TEST(TimersOfAConn, EndWithIt) {
  auto [conn, peer] = make_conn_and_peer();
  std::atomic<int> runs{0};
  const gtcp::TimerEntry interval = conn.SetInterval(1ms, [&](const Conn& on) {
    EXPECT_FALSE(on.IsClosed());
    ++runs;
  });
  const gtcp::TimerEntry later = conn.SetTimeout(1h, [] { ADD_FAILURE() << "never"; });
  EXPECT_TRUE(poll_until([&] { return runs > 2; }));
  conn.Close();
  EXPECT_TRUE(poll_until([&] { return interval.Status() == gtcp::StatusClosed; }));
  EXPECT_TRUE(poll_until([&] { return later.Status() == gtcp::StatusClosed; }));
  const gtcp::TimerEntry too_late = conn.SetInterval(1ms, [] { ADD_FAILURE() << "never"; });
  EXPECT_TRUE(poll_until([&] { return too_late.Status() == gtcp::StatusClosed; }));
}

TEST(TimersOfAConn, RefuseAJobThatIsNone) {
  auto [conn, peer] = make_conn_and_peer();
  const std::function<void()> empty;
  void (*const null)(gtcp::Conn) = nullptr;
  const std::string invalid = make_error_code(Errc::InvalidOption).message();
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.SetTimeout(1h, empty); }),
            "Conn::SetTimeout: the job is empty: " + invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.SetInterval(1h, null); }),
            "Conn::SetInterval: the job is empty: " + invalid);
}

TEST(TimersOfAConn, KeepNoConnectionAlive) {
  auto [conn, peer] = make_conn_and_peer();
  std::atomic<int> runs{0};
  const gtcp::TimerEntry entry = conn.SetInterval(1ms, [&] { ++runs; });
  EXPECT_TRUE(poll_until([&] { return runs > 0; }));
  conn = Conn();
  EXPECT_EQ(peer.read_to_end(), "");
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
}

TEST(TimersOfAConn, MayBlockInTheirCallback) {
  auto [conn, peer] = make_conn_and_peer();
  std::promise<std::string> reply;
  conn.SetTimeout(1ms, [&](const Conn& on) { reply.set_value(on.SendRecvPkg("question")); });
  EXPECT_EQ(peer.read_pkg(), "question");
  peer.write(framed("answer"));
  auto future = reply.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), "answer");
}

TEST(TimersOfAConn, MayCloseIt) {
  auto [conn, peer] = make_conn_and_peer();
  const gtcp::TimerEntry entry = conn.SetInterval(1ms, [](const Conn& on) { on.Close(); });
  EXPECT_EQ(peer.read_to_end(), "");
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
}

}  // namespace
