// SPDX-License-Identifier: MIT

// Plain bytes on a connection: Send, Recv in its three meanings, lines, delimiters, request and reply.

#include <gtcp/conn.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/time_limit.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"

#include <gtest/gtest.h>

#include <asio/use_future.hpp>

#include <chrono>
#include <cstddef>
#include <future>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;
using gtcp::Errc;
using gtcp::Retry;

// ---- Each form as a plain call

void send(form which, const Conn& conn, const std::string& data, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.Send(data, ec);
    case form::callback: return call_back<void>(ec, [&](auto handler) { conn.AsyncSend(data, std::move(handler)); });
    case form::awaited: return run(conn.AsyncSend(data, ec));
  }
}

std::string recv(form which, const Conn& conn, int length, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.Recv(length, ec);
    case form::callback:
      return call_back<std::string>(ec, [&](auto handler) { conn.AsyncRecv(length, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecv(length, ec));
  }
  return {};
}

std::string recv_within(form which, const Conn& conn, int length, std::chrono::nanoseconds timeout,
                        std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvWithTimeout(length, timeout, ec);
    case form::callback:
      return call_back<std::string>(
          ec, [&](auto handler) { conn.AsyncRecvWithTimeout(length, timeout, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvWithTimeout(length, timeout, ec));
  }
  return {};
}

std::string recv_line(form which, const Conn& conn, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvLine(ec);
    case form::callback:
      return call_back<std::string>(ec, [&](auto handler) { conn.AsyncRecvLine(std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvLine(ec));
  }
  return {};
}

std::string recv_line_within(form which, const Conn& conn, std::chrono::nanoseconds timeout, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvLineWithTimeout(timeout, ec);
    case form::callback:
      return call_back<std::string>(ec,
                                    [&](auto handler) { conn.AsyncRecvLineWithTimeout(timeout, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvLineWithTimeout(timeout, ec));
  }
  return {};
}

std::string recv_till(form which, const Conn& conn, std::string_view til, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvTill(til, ec);
    case form::callback:
      return call_back<std::string>(ec, [&](auto handler) { conn.AsyncRecvTill(til, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvTill(til, ec));
  }
  return {};
}

std::string recv_till_within(form which, const Conn& conn, std::string_view til, std::chrono::nanoseconds timeout,
                             std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvTillWithTimeout(til, timeout, ec);
    case form::callback:
      return call_back<std::string>(
          ec, [&](auto handler) { conn.AsyncRecvTillWithTimeout(til, timeout, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvTillWithTimeout(til, timeout, ec));
  }
  return {};
}

// ---- Send

TEST(Send, SendsBytesAsTheyAre) {
  for (const net kind : {net::tcp, net::unix_socket}) {
    for (const form which : forms) {
      auto [conn, peer] = make_conn_and_peer({}, kind);
      std::error_code ec = Errc::Timeout;
      send(which, conn, std::string("a\0b", 3), ec);
      EXPECT_FALSE(ec) << which;
      send(which, conn, "", ec);
      EXPECT_FALSE(ec) << which << ": nothing to send is no error";
      send(which, conn, "c", ec);
      EXPECT_FALSE(ec) << which;
      conn.Close();
      EXPECT_EQ(peer.read_to_end(), std::string("a\0bc", 4)) << which;
    }
  }
}

TEST(Send, SendsWhatIsLargerThanEveryBuffer) {
  for (const form which : forms) {
    auto [conn, peer] = make_narrow();
    const std::string data = pattern(3 << 20);
    background sending([&, to = conn] {
      std::error_code ec = Errc::Timeout;
      send(which, to, data, ec);
      return ec;
    });
    EXPECT_TRUE(peer.read(data.size()) == data) << which;
    EXPECT_FALSE(sending.get());
  }
}

// ---- Recv

TEST(Recv, TakesExactlyAsManyBytesAsAsked) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec = Errc::Timeout;
    peer.write("abc");
    background rest([&to = peer] { to.write("defg"); });
    EXPECT_EQ(recv(which, conn, 5, ec), "abcde") << which;
    EXPECT_FALSE(ec);
    rest.get();
    EXPECT_EQ(recv(which, conn, 2, ec), "fg") << which;
    const std::string large = pattern(1 << 20);
    background writing([&to = peer, &large] { to.write(large); });
    EXPECT_TRUE(recv(which, conn, 1 << 20, ec) == large) << which;
    writing.get();
  }
}

TEST(Recv, TakesWhatIsThereForLengthZero) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec = Errc::Timeout;
    background later([&to = peer] { to.write("some"); });
    std::string all = recv(which, conn, 0, ec);
    EXPECT_FALSE(ec);
    EXPECT_GT(all.size(), 0u) << "it waits for the first byte";
    while (all.size() < 4) all += recv(which, conn, 0, ec);
    EXPECT_EQ(all, "some");
    later.get();
  }
}

TEST(Recv, TakesAllUntilItIsQuietForANegativeLength) {
  for (const form which : forms) {
    for (const int length : {-1, -5}) {
      auto [conn, peer] = make_conn_and_peer();
      conn.SetBufferWaitRecv(50ms);
      std::error_code ec = Errc::Timeout;
      const std::string large = pattern(300'000);
      background writing([&to = peer, &large] { to.write(large); });
      // Whatever the pauses were, nothing of it may be lost, and one call gets most of it.
      std::string all = recv(which, conn, length, ec);
      EXPECT_FALSE(ec) << which;
      while (all.size() < large.size()) all += recv(which, conn, length, ec);
      EXPECT_TRUE(all == large);
      writing.get();
    }
  }
}

TEST(Recv, ReturnsWhatCameBeforeTheEndForANegativeLengthAndSaysTheEndThen) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    conn.SetBufferWaitRecv(1h);
    peer.write("last");
    peer.end_sending();
    std::error_code ec = Errc::Timeout;
    EXPECT_EQ(recv(which, conn, -1, ec), "last") << which;
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv(which, conn, -1, ec), "");
    EXPECT_EQ(ec, asio::error::eof);
  }
}

TEST(Recv, KeepsTooFewBytesAtTheEndForTheNextOne) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    peer.write("abc");
    peer.end_sending();
    std::error_code ec;
    EXPECT_EQ(recv(which, conn, 5, ec), "");
    EXPECT_EQ(ec, asio::error::eof) << which;
    EXPECT_EQ(recv(which, conn, -1, ec), "abc");
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv(which, conn, 0, ec), "");
    EXPECT_EQ(ec, asio::error::eof);
  }
}

TEST(Recv, ThatTimesOutLeavesTheBytes) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec;
    for (const int length : {0, -1, 3}) {
      EXPECT_EQ(recv_within(which, conn, length, 1ms, ec), "");
      EXPECT_EQ(ec, Errc::Timeout) << which << " " << length;
      EXPECT_FALSE(gtcp::IsFatal(ec));
    }
    peer.write("ab");
    EXPECT_EQ(recv_within(which, conn, 3, 5ms, ec), "");
    EXPECT_EQ(ec, Errc::Timeout) << which;
    EXPECT_EQ(recv_within(which, conn, 2, 30s, ec), "ab");
    EXPECT_FALSE(ec);
  }
}

TEST(Recv, WithATimeoutThatHasPassedTriesOnce) {
  for (const form which : forms) {
    for (const std::chrono::nanoseconds none : {0ns, -1ns, std::chrono::nanoseconds::min()}) {
      auto [conn, peer] = make_conn_and_peer();
      std::error_code ec;
      EXPECT_EQ(recv_within(which, conn, 1, none, ec), "");
      EXPECT_EQ(ec, Errc::Timeout);
      peer.write("ab");
      std::string got;
      // One try takes what is there; how soon that is, is the system's business.
      EXPECT_TRUE(poll_until([&] { return !(got = recv_within(which, conn, 1, none, ec)).empty(); }));
      EXPECT_EQ(got, "a");
      EXPECT_FALSE(ec);
      EXPECT_EQ(recv_within(which, conn, 1, none, ec), "b") << "what is buffered is there";
    }
  }
}

TEST(Recv, WithATimeoutThatHasPassedTakesWhatIsThereForANegativeLength) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec;
    peer.write("ab");
    EXPECT_TRUE(poll_until([&, &on = conn] { return !has_read_all(on); }));
    EXPECT_EQ(recv_within(which, conn, -1, 0ns, ec), "ab") << which;
    EXPECT_FALSE(ec) << which << ": " << ec.message();
    EXPECT_EQ(recv_within(which, conn, -1, 0ns, ec), "");
    EXPECT_EQ(ec, Errc::Timeout) << which;
  }
}

TEST(Recv, WithAHugeTimeoutWaits) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    background waiting([&, from = conn] {
      std::error_code ec;
      return recv_within(which, from, 1, std::chrono::nanoseconds::max(), ec);
    });
    waiting.wait_until_waiting();
    peer.write("x");
    EXPECT_EQ(waiting.get(), "x");
  }
}

TEST(Recv, EndsANegativeLengthAtItsTimeoutWithWhatCame) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    conn.SetBufferWaitRecv(1h);
    peer.write("ab");
    std::error_code ec = Errc::Timeout;
    std::string got;
    EXPECT_TRUE(poll_until([&] { return !(got += recv_within(which, conn, -1, 20ms, ec)).empty(); }));
    EXPECT_EQ(got, "ab") << which;
    EXPECT_FALSE(ec) << which << ": " << ec.message();
  }
}

TEST(RecvTill, SearchesAnewWhenAnotherReceiveHasTakenBytes) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write("xabcdef");
  EXPECT_EQ(conn.Recv(1), "x");
  const auto state = gtcp::detail::conn_access::state(conn);
  gtcp::detail::recv_goal goal = gtcp::detail::recv_goal::until("\n", false, 100);
  std::string line;
  EXPECT_FALSE(state->take_buffered(goal, line));
  EXPECT_EQ(conn.Recv(6), "abcdef");
  peer.write("g\nhijklmnop");
  EXPECT_FALSE(state->receive(std::move(goal), gtcp::detail::time_limit::within(ceiling), line));
  EXPECT_EQ(line, "g");
}

TEST(Recv, RefusesABadRetry) {
  auto [conn, peer] = make_conn_and_peer();
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.Recv(1, Retry{.Count = -1}); }),
            "Recv [" + conn.RemoteAddr() +
                "]: Retry.Count is -1, allowed are 0 and more: " + make_error_code(Errc::InvalidOption).message());
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.Send("x", Retry{.Interval = -1ms}); }),
            "Send [" + conn.RemoteAddr() + "]: Retry.Interval is -1 ms, allowed are 0 and more: " +
                make_error_code(Errc::InvalidOption).message());
  std::error_code ec;
  conn.RecvLine(Retry{.Count = -1}, ec);
  EXPECT_EQ(ec, Errc::InvalidOption);
  run(conn.AsyncRecv(1, Retry{.Count = -1}, ec));
  EXPECT_EQ(ec, Errc::InvalidOption);
}

TEST(SetBufferWaitRecv, RefusesANegativeTimeAndQuotesIt) {
  auto [conn, peer] = make_conn_and_peer();
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.SetBufferWaitRecv(-1ms); }),
            "SetBufferWaitRecv: the wait is -1000000 ns, allowed are 0 and more: " +
                make_error_code(Errc::InvalidOption).message());
  conn.SetBufferWaitRecv(0ms);
  peer.write("x");
  EXPECT_EQ(conn.Recv(-1), "x");
}

TEST(SetBufferWaitRecv, TakesTheLongestTime) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    conn.SetBufferWaitRecv(std::chrono::nanoseconds::max());
    peer.write("a");
    background receiving([&, from = conn] {
      std::error_code ec;
      return recv(which, from, -1, ec);
    });
    EXPECT_TRUE(poll_until([&, &on = conn] { return on.Stats().BytesIn == 1; }));
    receiving.wait_until_waiting();
    peer.write("b");
    peer.end_sending();
    EXPECT_EQ(receiving.get(), "ab") << which;
  }
}

// ---- Lines

TEST(RecvLine, TakesOneLineWithoutItsEnd) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec = Errc::Timeout;
    peer.write("first\n\nthird\r\nfo");
    EXPECT_EQ(recv_line(which, conn, ec), "first") << which;
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_line(which, conn, ec), "");
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_line(which, conn, ec), "third\r");
    EXPECT_EQ(recv_line_within(which, conn, 5ms, ec), "");
    EXPECT_EQ(ec, Errc::Timeout);
    peer.write("urth\n");
    EXPECT_EQ(recv_line_within(which, conn, 30s, ec), "fourth");
    EXPECT_FALSE(ec);
    peer.write("half");
    peer.end_sending();
    EXPECT_EQ(recv_line(which, conn, ec), "");
    EXPECT_EQ(ec, asio::error::eof);
    EXPECT_EQ(recv(which, conn, -1, ec), "half") << "bytes of an unfinished line stay";
  }
}

TEST(RecvLine, HasALimit) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer({.MaxLineSize = 10});
    std::error_code ec = Errc::Timeout;
    peer.write("123456789\n1234567890\n");
    EXPECT_EQ(recv_line(which, conn, ec), "123456789");
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_line(which, conn, ec), "");
    EXPECT_EQ(ec, Errc::LineTooLong) << which;
    EXPECT_FALSE(gtcp::IsFatal(ec));
    EXPECT_EQ(recv(which, conn, 11, ec), "1234567890\n") << "the bytes stay";
  }
}

TEST(RecvTill, TakesUpToAndWithTheBytes) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec = Errc::Timeout;
    peer.write("head\r\n\r\nbody");
    EXPECT_EQ(recv_till(which, conn, "\r\n\r\n", ec), "head\r\n\r\n") << which;
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_till_within(which, conn, "END", 5ms, ec), "");
    EXPECT_EQ(ec, Errc::Timeout);
    peer.write("endEND");
    EXPECT_EQ(recv_till_within(which, conn, "END", 30s, ec), "bodyendEND") << "the comparison is exact";
    EXPECT_FALSE(ec);
  }
}

TEST(RecvTill, FindsADelimiterThatComesByteByByte) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    background waiting([&, from = conn] {
      std::error_code ec;
      return recv_till(which, from, "aab", ec);
    });
    for (const char byte : std::string("xaaaab")) {
      peer.write(std::string(1, byte));
      EXPECT_TRUE(poll_until([&] { return waiting.ended() || has_read_all(conn); }));
    }
    EXPECT_EQ(waiting.get(), "xaaaab");
  }
}

TEST(RecvTill, RefusesNothing) {
  auto [conn, peer] = make_conn_and_peer();
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.RecvTill(""); }),
            "RecvTill [" + conn.RemoteAddr() +
                "]: `til` is empty, it needs at least 1 byte: " + make_error_code(Errc::InvalidOption).message());
  for (const form which : forms) {
    std::error_code ec;
    recv_till(which, conn, "", ec);
    EXPECT_EQ(ec, Errc::InvalidOption) << which;
    recv_till_within(which, conn, "", 1s, ec);
    EXPECT_EQ(ec, Errc::InvalidOption) << which;
  }
}

TEST(RecvTill, HasALimit) {
  auto [conn, peer] = make_conn_and_peer({.MaxLineSize = 5});
  peer.write("abcEND");
  EXPECT_THROW(conn.RecvTill("END"), std::system_error);
  EXPECT_EQ(conn.Recv(1), "a");
  EXPECT_EQ(conn.RecvTill("END"), "bcEND");
}

// ---- Request and reply

TEST(SendRecv, SendsAndThenReceives) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    background answering([&to = peer] { to.write("<" + to.read(5) + ">"); });
    std::error_code ec = Errc::Timeout;
    std::string reply;
    switch (which) {
      case form::blocking: reply = conn.SendRecv("hello", 7, ec); break;
      case form::callback:
        reply = call_back<std::string>(
            ec, [&, &on = conn](auto handler) { on.AsyncSendRecv("hello", 7, std::move(handler)); });
        break;
      case form::awaited: reply = run(conn.AsyncSendRecv("hello", 7, ec)); break;
    }
    EXPECT_FALSE(ec) << ec.message();
    EXPECT_EQ(reply, "<hello>") << which;
    answering.get();
  }
}

TEST(SendRecv, HasOneTimeoutForBothHalves) {
  auto [conn, peer] = make_conn_and_peer();
  std::error_code ec;
  conn.SendRecvWithTimeout("1", 1, 1ms, ec);
  EXPECT_EQ(ec, Errc::Timeout);
  run(conn.AsyncSendRecvWithTimeout("2", 1, 1ms, ec));
  EXPECT_EQ(ec, Errc::Timeout);
  call_back<std::string>(
      ec, [&, &on = conn](auto handler) { on.AsyncSendRecvWithTimeout("3", 1, 1ms, std::move(handler)); });
  EXPECT_EQ(ec, Errc::Timeout);
  EXPECT_EQ(peer.read(3), "123") << "it was sent all the same";
}

// ---- Throwing forms

TEST(Errors, NameTheOperationAndThePeer) {
  auto [conn, peer] = make_conn_and_peer();
  const std::string who = " [" + conn.RemoteAddr() + "]: ";
  const std::string timeout = make_error_code(Errc::Timeout).message();
  const Conn& on = conn;
  const auto text = [](auto operation) { return text_of_error(Errc::Timeout, operation); };
  EXPECT_EQ(text([&] { on.RecvWithTimeout(1, 0ms); }), "RecvWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { on.RecvLineWithTimeout(0ms); }), "RecvLineWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { on.RecvTillWithTimeout("x", 0ms); }), "RecvTillWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { on.RecvPkgWithTimeout(0ms); }), "RecvPkgWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { on.SendRecvWithTimeout("x", 1, 0ms); }), "SendRecvWithTimeout" + who + timeout);
}

TEST(Errors, NameTheAwaitedOperationToo) {
  auto [conn, peer] = make_conn_and_peer();
  const std::string who = " [" + conn.RemoteAddr() + "]: ";
  const std::string timeout = make_error_code(Errc::Timeout).message();
  const Conn& on = conn;
  const auto text = [](auto operation) { return text_of_error(Errc::Timeout, operation); };
  EXPECT_EQ(text([&] { run(on.AsyncRecvWithTimeout(1, 1ms)); }), "AsyncRecvWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { run(on.AsyncRecvLineWithTimeout(1ms)); }), "AsyncRecvLineWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { run(on.AsyncRecvTillWithTimeout("x", 1ms)); }), "AsyncRecvTillWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { run(on.AsyncRecvPkgWithTimeout(1ms)); }), "AsyncRecvPkgWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { run(on.AsyncSendRecvWithTimeout("x", 1, 1ms)); }), "AsyncSendRecvWithTimeout" + who + timeout);
  EXPECT_EQ(text([&] { run(on.AsyncSendRecvPkgWithTimeout("x", 1ms)); }),
            "AsyncSendRecvPkgWithTimeout" + who + timeout);
}

TEST(Errors, AreClearedFromTheErrorCodeOnSuccess) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write("ab\n" + framed("pkg"));
  std::error_code ec = Errc::Timeout;
  conn.Recv(1, ec);
  EXPECT_FALSE(ec);
  ec = Errc::Timeout;
  conn.RecvLine(ec);
  EXPECT_FALSE(ec);
  ec = Errc::Timeout;
  conn.RecvPkg(ec);
  EXPECT_FALSE(ec);
  ec = Errc::Timeout;
  conn.SendPkg("x", ec);
  EXPECT_FALSE(ec);
  ec = Errc::Timeout;
  conn.Flush(ec);
  EXPECT_FALSE(ec);
}

}  // namespace
