// SPDX-License-Identifier: MIT

// Packages on a connection: what goes over the wire, in every form of every operation.

#include <gtcp/conn.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/scripted_transport.hpp"

#include <gtest/gtest.h>

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/use_future.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <future>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;
using gtcp::Errc;
using gtcp::PkgOption;

// ---- Each form as a plain call

void send_pkg(form which, const Conn& conn, const std::string& data, PkgOption option, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.SendPkg(data, option, ec);
    case form::callback:
      return call_back<void>(ec, [&](auto handler) { conn.AsyncSendPkg(data, option, std::move(handler)); });
    case form::awaited: return run(conn.AsyncSendPkg(data, option, ec));
  }
}

std::string recv_pkg(form which, const Conn& conn, PkgOption option, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvPkg(option, ec);
    case form::callback:
      return call_back<std::string>(ec, [&](auto handler) { conn.AsyncRecvPkg(option, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvPkg(option, ec));
  }
  return {};
}

void recv_pkg_into(form which, const Conn& conn, std::string& into, PkgOption option, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvPkg(into, option, ec);
    case form::callback:
      return call_back<void>(ec, [&](auto handler) { conn.AsyncRecvPkg(into, option, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvPkg(into, option, ec));
  }
}

// ---- The wire

TEST(SendPkg, PutsTheLengthInFront) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec = Errc::Timeout;
    send_pkg(which, conn, "hello", {}, ec);
    EXPECT_FALSE(ec) << which << ": " << ec.message();
    EXPECT_EQ(peer.read(7), std::string("\0\5hello", 7)) << which;
  }
}

TEST(Packages, GoThroughInEverySizeHeaderAndForm) {
  for (const net kind : {net::tcp, net::unix_socket}) {
    const auto [a, b] = make_conn_pair({}, {}, kind);
    for (int header_size = 1; header_size <= 4; ++header_size) {
      for (const std::size_t size : {0u, 1u, 255u, 256u, 65535u, 65536u, 1u << 20}) {
        if (header_size < 4 && size >= std::size_t{1} << (8 * header_size)) continue;
        const PkgOption option{.HeaderSize = header_size};
        const std::string payload = pattern(size, static_cast<unsigned>(header_size));
        for (const form which : forms) {
          std::error_code sent;
          // A large package does not fit into the system's buffers, so the other side must read meanwhile.
          background sending([&, from = a] { send_pkg(which, from, payload, option, sent); });
          std::error_code received = Errc::Timeout;
          const std::string got = recv_pkg(which, b, option, received);
          sending.get();
          ASSERT_FALSE(sent) << which << ": " << sent.message();
          ASSERT_FALSE(received) << which << ": " << received.message();
          ASSERT_TRUE(got == payload) << size << " bytes, header of " << header_size << ", " << which;
        }
      }
    }
  }
}

TEST(Packages, TakeTheOptionOfTheConnUnlessTheCallHasOne) {
  auto [conn, peer] = make_conn_and_peer({.Pkg = {.HeaderSize = 4, .MaxDataSize = 10}});
  conn.SendPkg("ab");
  EXPECT_EQ(peer.read(6), framed("ab", 4));
  conn.SendPkg("ab", {.HeaderSize = 1});
  EXPECT_EQ(peer.read(3), framed("ab", 1));
  // An option that leaves the header to the Conn changes the rest only.
  conn.SendPkg("0123456789ab", {.MaxDataSize = 12});
  EXPECT_EQ(peer.read(16), framed("0123456789ab", 4));
  EXPECT_THROW(conn.SendPkg("0123456789a"), std::system_error);
  conn.SendPkg("x", {.Retry = {.Count = 1}});
  EXPECT_EQ(peer.read(5), framed("x", 4));

  peer.write(framed("four", 4) + framed("three", 3));
  EXPECT_EQ(conn.RecvPkg(), "four");
  EXPECT_EQ(conn.RecvPkg({.HeaderSize = 3}), "three");
}

TEST(Packages, ThatAreEmptyArePackages) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::error_code ec = Errc::Timeout;
    send_pkg(which, conn, "", {}, ec);
    EXPECT_FALSE(ec);
    EXPECT_EQ(peer.read(2), std::string(2, '\0'));
    peer.write(framed("") + framed("") + framed("x"));
    EXPECT_EQ(recv_pkg(which, conn, {}, ec), "");
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_pkg(which, conn, {}, ec), "");
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_pkg(which, conn, {}, ec), "x");
  }
}

TEST(SendPkg, TakesWhateverIsARowOfBytes) {
  auto [conn, peer] = make_conn_and_peer();
  const std::vector<unsigned char> vector = {'v', 'e', 'c'};
  conn.SendPkg(vector);
  conn.SendPkg(std::as_bytes(std::span(vector)));
  conn.SendPkg(std::string_view("view"));
  conn.SendPkg(asio::buffer("buffer", 6));
  conn.SendPkg("li\0teral");
  EXPECT_EQ(peer.read_pkg(), "vec");
  EXPECT_EQ(peer.read_pkg(), "vec");
  EXPECT_EQ(peer.read_pkg(), "view");
  EXPECT_EQ(peer.read_pkg(), "buffer");
  EXPECT_EQ(peer.read_pkg(), "li") << "a string literal ends at its NUL";
}

TEST(AsyncSendPkg, KeepsATemporaryUntilItIsSent) {
  auto [conn, peer] = make_narrow({.OutboxLimit = 1});
  // The first fills everything, so that the others must wait with their bytes.
  std::vector<std::future<void>> sends;
  for (const std::size_t size : {60'000u, 20'000u, 5u}) {
    sends.push_back(conn.AsyncSendPkg(pattern(size, static_cast<unsigned>(size)), asio::use_future));
  }
  sends.push_back(conn.AsyncSendPkg(std::vector<char>{'x', 'y'}, asio::use_future));
  for (const std::size_t size : {60'000u, 20'000u, 5u}) {
    EXPECT_TRUE(peer.read_pkg() == pattern(size, static_cast<unsigned>(size)));
  }
  EXPECT_EQ(peer.read_pkg(), "xy");
  for (auto& send : sends) {
    ASSERT_TRUE(comes(send));
    EXPECT_NO_THROW(send.get());
  }
}

// ---- Limits

TEST(SendPkg, RefusesDataOverTheLimitWithItsNumbersAndSendsNothing) {
  auto [conn, peer] = make_conn_and_peer();
  const std::string who = " [" + conn.RemoteAddr() + "]: ";
  EXPECT_EQ(
      text_of_error(Errc::DataTooLong, [&] { conn.SendPkg(pattern(300), {.HeaderSize = 1, .MaxDataSize = 1000}); }),
      "SendPkg" + who +
          "data size 300 exceeds the allowed max data size 255: " + make_error_code(Errc::DataTooLong).message());
  EXPECT_EQ(text_of_error(Errc::DataTooLong, [&] { conn.SendPkg(pattern(65536)); }),
            "SendPkg" + who + "data size 65536 exceeds the allowed max data size 65535: " +
                make_error_code(Errc::DataTooLong).message());
  for (const form which : forms) {
    std::error_code ec;
    send_pkg(which, conn, pattern(11), {.MaxDataSize = 10}, ec);
    EXPECT_EQ(ec, Errc::DataTooLong) << which;
    EXPECT_FALSE(gtcp::IsFatal(ec));
    send_pkg(which, conn, pattern(10), {.MaxDataSize = 10}, ec);
    EXPECT_FALSE(ec) << which;
    EXPECT_EQ(peer.read_pkg(), pattern(10));
  }
}

TEST(RecvPkg, FailsForAPackageOverTheLimit) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    peer.write(framed("1234567890") + framed("12345678901"));
    std::error_code ec;
    EXPECT_EQ(recv_pkg(which, conn, {.MaxDataSize = 10}, ec), "1234567890");
    EXPECT_FALSE(ec);
    EXPECT_EQ(recv_pkg(which, conn, {.MaxDataSize = 10}, ec), "");
    EXPECT_EQ(ec, Errc::PkgTooLarge) << which;
    EXPECT_TRUE(gtcp::IsFatal(ec));
    EXPECT_EQ(conn.CloseReason(), Errc::PkgTooLarge);
  }
}

TEST(RecvPkg, QuotesTheLengthOfAPackageOverTheLimit) {
  for (const bool awaited : {false, true}) {
    auto [conn, peer] = make_conn_and_peer({.Pkg = {.MaxDataSize = 10}});
    peer.write(framed("12345678901"));
    const std::string text = text_of_error(Errc::PkgTooLarge, [&, &on = conn] {
      if (awaited)
        run(on.AsyncRecvPkg());
      else
        on.RecvPkg();
    });
    EXPECT_EQ(text,
              std::string(awaited ? "AsyncRecvPkg" : "RecvPkg") + " [" + conn.RemoteAddr() +
                  "]: the package has 11 bytes, allowed are 0 to 10: " + make_error_code(Errc::PkgTooLarge).message());
  }
  auto [conn, peer] = make_conn_and_peer({.MaxLineSize = 3});
  peer.write("1234");
  EXPECT_EQ(
      text_of_error(Errc::LineTooLong, [&, &on = conn] { on.RecvLine(); }),
      "RecvLine [" + conn.RemoteAddr() + "]: allowed are 3 bytes: " + make_error_code(Errc::LineTooLong).message());
}

TEST(Packages, RefuseBadOptionsBeforeAnythingMoves) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write(framed("stays"));
  const std::string who = " [" + conn.RemoteAddr() + "]: ";
  const std::string invalid = ": " + make_error_code(Errc::InvalidOption).message();
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { conn.SendPkg("x", {.HeaderSize = 5}); }),
            "SendPkg" + who + "package header size is 5, allowed are 1 to 4, and 0 for the default of 2" + invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { conn.RecvPkg({.HeaderSize = -1}); }),
            "RecvPkg" + who + "package header size is -1, allowed are 1 to 4, and 0 for the default of 2" + invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { conn.RecvPkgWithTimeout(1s, {.MaxDataSize = -1}); }),
            "RecvPkgWithTimeout" + who +
                "package max data size is -1, allowed are 1 to 2147483647, and 0 for what the " + "header can say" +
                invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { conn.SendRecvPkg("x", {.Retry = {.Count = -1}}); }),
            "SendRecvPkg" + who + "Retry.Count is -1, allowed are 0 and more" + invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { run(conn.AsyncRecvPkg({.Retry = {.Interval = -1ms}})); }),
            "AsyncRecvPkg" + who + "Retry.Interval is -1 ms, allowed are 0 and more" + invalid);
  EXPECT_EQ(
      text_of_error(Errc::InvalidOption, [&] { run(conn.AsyncSendPkg("x", {.HeaderSize = 5})); }),
      "AsyncSendPkg" + who + "package header size is 5, allowed are 1 to 4, and 0 for the default of 2" + invalid);
  std::string into = "as it was";
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { conn.TryRecvPkg(into, {.HeaderSize = 9}); }),
            "TryRecvPkg" + who + "package header size is 9, allowed are 1 to 4, and 0 for the default of 2" + invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { conn.TrySendPkg("x", {.HeaderSize = 9}); }),
            "TrySendPkg" + who + "package header size is 9, allowed are 1 to 4, and 0 for the default of 2" + invalid);
  for (const form which : forms) {
    std::error_code ec;
    send_pkg(which, conn, "x", {.HeaderSize = 5}, ec);
    EXPECT_EQ(ec, Errc::InvalidOption) << which;
    EXPECT_EQ(recv_pkg(which, conn, {.HeaderSize = 5}, ec), "");
    EXPECT_EQ(ec, Errc::InvalidOption) << which;
  }
  EXPECT_EQ(conn.RecvPkg(), "stays");
  conn.SendPkg("only this");
  conn.Close();
  EXPECT_EQ(peer.read_to_end(), framed("only this"));
}

// ---- The end of the stream

TEST(RecvPkg, TellsTheEndBetweenPackagesFromTheEndInsideOne) {
  for (const form which : forms) {
    for (std::size_t came = 0; came <= 7; ++came) {
      auto [conn, peer] = make_conn_and_peer();
      peer.write(framed("first") + framed("hello").substr(0, came));
      peer.end_sending();
      std::error_code ec;
      EXPECT_EQ(recv_pkg(which, conn, {}, ec), "first");
      EXPECT_FALSE(ec);
      const std::string got = recv_pkg(which, conn, {}, ec);
      if (came == 7) {
        EXPECT_EQ(got, "hello");
        EXPECT_FALSE(ec);
        continue;
      }
      const std::error_code expected =
          came == 0 ? make_error_code(asio::error::eof) : make_error_code(Errc::PkgTruncated);
      EXPECT_EQ(ec, expected) << which << " with " << came;
      EXPECT_EQ(got, "");
      EXPECT_EQ(conn.CloseReason(), expected);
      EXPECT_EQ(recv_pkg(which, conn, {}, ec), "");
      EXPECT_EQ(ec, expected) << "the stream stays ended";
    }
  }
}

TEST(RecvPkg, HandsOutWhatCameBeforeAReset) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write(framed("one") + framed("two") + "x");
  EXPECT_EQ(conn.RecvPkg(), "one");
  conn.SendPkg("unread, so that closing resets");
  peer.reset();
  EXPECT_EQ(conn.RecvPkg(), "two");
  std::error_code ec;
  conn.RecvPkg(ec);
  EXPECT_EQ(ec, asio::error::connection_reset) << ec.message();
  EXPECT_TRUE(gtcp::IsFatal(ec));
}

TEST(SendPkg, StillWorksAfterThePeerEndedSending) {
  auto [conn, peer] = make_conn_and_peer();
  peer.end_sending();
  std::error_code ec;
  conn.RecvPkg(ec);
  EXPECT_EQ(ec, asio::error::eof);
  conn.SendPkg("answer");
  EXPECT_EQ(peer.read_pkg(), "answer");
}

TEST(SendPkg, FailsWhenThePeerHasReset) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    peer.reset();
    std::error_code ec;
    EXPECT_TRUE(poll_until([&] {
      send_pkg(which, conn, "x", {}, ec);
      return static_cast<bool>(ec);
    }));
    EXPECT_TRUE(gtcp::IsFatal(ec)) << ec.message();
    const std::error_code first = ec;
    send_pkg(which, conn, "x", {}, ec);
    EXPECT_TRUE(ec) << first.message();
  }
}

// ---- Trying

TEST(TryRecvPkg, TakesOnlyAWholePackage) {
  auto [conn, peer] = make_conn_and_peer();
  std::string into = "as it was";
  EXPECT_FALSE(conn.TryRecvPkg(into));
  const std::string stream = framed("hello");
  for (std::size_t i = 0; i + 1 < stream.size(); ++i) {
    peer.write(stream.substr(i, 1));
    EXPECT_FALSE(conn.TryRecvPkg(into));
    EXPECT_EQ(into, "as it was");
  }
  peer.write(stream.substr(stream.size() - 1) + framed("again"));
  EXPECT_TRUE(poll_until([&] { return conn.TryRecvPkg(into); }));
  EXPECT_EQ(into, "hello");
  EXPECT_TRUE(poll_until([&] { return conn.TryRecvPkg(into); }));
  EXPECT_EQ(into, "again");
}

TEST(TryRecvPkg, SaysTheEndOfTheStream) {
  auto [conn, peer] = make_conn_and_peer();
  peer.write(framed("last"));
  peer.close();
  std::string into;
  EXPECT_TRUE(poll_until([&] { return conn.TryRecvPkg(into); }));
  EXPECT_EQ(into, "last");
  std::error_code ec;
  EXPECT_TRUE(poll_until([&] { return conn.TryRecvPkg(into, ec) || ec; }));
  EXPECT_EQ(ec, asio::error::eof);
  EXPECT_EQ(into, "last");
  EXPECT_THROW(conn.TryRecvPkg(into), std::system_error);
}

TEST(TryRecvPkg, LeavesThePackageToOneThatWaitsForIt) {
  auto [conn, peer] = make_conn_and_peer();
  std::future<std::string> waiting = conn.AsyncRecvPkg(asio::use_future);
  std::string into;
  std::error_code ec = Errc::Timeout;
  EXPECT_FALSE(conn.TryRecvPkg(into, ec));
  EXPECT_FALSE(ec) << ec.message();
  peer.write(framed("hello"));
  ASSERT_TRUE(comes(waiting));
  EXPECT_EQ(waiting.get(), "hello");
}

TEST(TrySendPkg, NeverWaitsAndSendsWholePackagesOnly) {
  for (const std::size_t size : {10u, 1000u, 20'000u}) {
    auto [conn, peer] = make_narrow({.OutboxLimit = 8192});
    int sent = 0;
    std::error_code ec = Errc::Timeout;
    while (sent < 100'000 && conn.TrySendPkg(pattern(size, static_cast<unsigned>(sent)), ec)) ++sent;
    ASSERT_LT(sent, 100'000) << "the outbox has a limit";
    EXPECT_GT(sent, 0);
    EXPECT_FALSE(ec) << "that it would have to wait is no error: " << ec.message();
    for (int i = 0; i < sent; ++i) ASSERT_TRUE(peer.read_pkg() == pattern(size, static_cast<unsigned>(i)));
    EXPECT_TRUE(poll_until([&] { return conn.TrySendPkg("more"); }));
    EXPECT_EQ(peer.read_pkg(), "more");
  }
}

// ---- A buffer that is used again

TEST(RecvPkg, UsesTheMemoryOfTheBufferAgain) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    std::string into;
    into.reserve(5000);
    const char* const memory = into.data();
    std::error_code ec;
    for (const std::size_t size : {5000u, 1u, 4000u, 0u, 5000u}) {
      peer.write(framed(pattern(size)));
      recv_pkg_into(which, conn, into, {}, ec);
      EXPECT_FALSE(ec);
      EXPECT_EQ(into, pattern(size));
      EXPECT_EQ(static_cast<const void*>(into.data()), memory) << which;
    }
  }
}

TEST(RecvPkg, HasItsTimeoutWithABufferToo) {
  auto [conn, peer] = make_conn_and_peer();
  std::string into = "as it was";
  std::error_code ec;
  conn.RecvPkgWithTimeout(into, 1ms, ec);
  EXPECT_EQ(ec, Errc::Timeout);
  EXPECT_EQ(into, "as it was");
  run(conn.AsyncRecvPkgWithTimeout(into, 1ms, ec));
  EXPECT_EQ(ec, Errc::Timeout);
  call_back<void>(ec, [&, &from = conn](auto handler) { from.AsyncRecvPkgWithTimeout(into, 1ms, handler); });
  EXPECT_EQ(ec, Errc::Timeout);
  peer.write(framed("hello"));
  conn.RecvPkgWithTimeout(into, 30s);
  EXPECT_EQ(into, "hello");
}

// ---- Many buffered packages

TEST(AsyncRecvPkg, HandsOutManyBufferedPackagesInOrder) {
  auto [conn, peer] = make_conn_and_peer();
  constexpr int count = 3000;
  background writing([&to = peer] {
    std::string stream;
    for (int i = 0; i < count; ++i) stream += framed(std::to_string(i));
    to.write(stream);
  });
  run([](Conn from) -> asio::awaitable<void> {
    for (int i = 0; i < count; ++i) {
      const std::string got = co_await from.AsyncRecvPkg();
      EXPECT_EQ(got, std::to_string(i));
    }
  }(conn));
  writing.get();
}

TEST(AsyncRecvPkg, LetsOthersRunBetweenBufferedPackages) {
  auto [conn, peer] = make_conn_and_peer();
  constexpr int count = 2000;
  std::string stream;
  for (int i = 0; i < count; ++i) stream += framed("x");
  peer.write(stream);
  conn.SendPkg("all is there");
  EXPECT_EQ(peer.read_pkg(), "all is there");

  asio::io_context context;
  bool other_ran = false;
  int received_before_other = 0;
  auto done = asio::co_spawn(
      context,
      [&, from = conn]() -> asio::awaitable<void> {
        std::string first = co_await from.AsyncRecvPkg();
        asio::post(context, [&] { other_ran = true; });
        for (int i = 1; i < count; ++i) {
          std::string got = co_await from.AsyncRecvPkg();
          if (!other_ran) ++received_before_other;
        }
      },
      asio::use_future);
  context.run_for(ceiling);
  ASSERT_TRUE(comes(done));
  done.get();
  EXPECT_TRUE(other_ran);
  EXPECT_LE(received_before_other, 300) << "a busy peer must not starve the others on the thread";
  EXPECT_GE(received_before_other, 100) << "what is there is taken without the scheduler";
}

// ---- Together

TEST(SendPkgs, SendsARangeInOneWrite) {
  auto [conn, peer, rules] = make_scripted();
  conn.SendPkgs(std::vector<std::string>{"one", "", "three"});
  EXPECT_EQ(rules->writes, 1);
  conn.SendPkgs(std::list<std::string_view>{"a", "b"}, {.HeaderSize = 4});
  EXPECT_EQ(rules->writes, 2);
  EXPECT_EQ(peer.read_pkg(), "one");
  EXPECT_EQ(peer.read_pkg(), "");
  EXPECT_EQ(peer.read_pkg(), "three");
  EXPECT_EQ(peer.read_pkg(4), "a");
  EXPECT_EQ(peer.read_pkg(4), "b");
  std::error_code ec = Errc::Timeout;
  conn.SendPkgs(std::vector<std::string>{}, ec);
  EXPECT_FALSE(ec);
  EXPECT_EQ(rules->writes, 2);
}

TEST(SendPkgs, SendsWhatIsBeforeTheOneThatFails) {
  auto [conn, peer] = make_conn_and_peer();
  const std::vector<std::string> payloads = {"one", pattern(300), "three"};
  std::error_code ec;
  conn.SendPkgs(payloads, {.HeaderSize = 1}, ec);
  EXPECT_EQ(ec, Errc::DataTooLong);
  EXPECT_NE(text_of_error(Errc::DataTooLong, [&, &to = conn] { to.SendPkgs(payloads, {.HeaderSize = 1}); })
                .find("data size 300 exceeds the allowed max data size 255"),
            std::string::npos);
  conn.Close();
  EXPECT_EQ(peer.read_to_end(), framed("one", 1) + framed("one", 1));
}

TEST(Cork, CombinesPackagesIntoOneWrite) {
  auto [conn, peer, rules] = make_scripted();
  {
    const gtcp::Cork cork(conn);
    for (int i = 0; i < 100; ++i) conn.SendPkg("x");
    {
      const gtcp::Cork inner(conn);
      conn.SendPkg("inner");
    }
    EXPECT_EQ(rules->writes, 0) << "the outer one holds them back";
    EXPECT_EQ(peer.available(), 0u);
  }
  EXPECT_EQ(rules->writes, 1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(peer.read_pkg(), "x");
  EXPECT_EQ(peer.read_pkg(), "inner");
  conn.SendPkg("straight out");
  EXPECT_EQ(rules->writes, 2);
}

TEST(Cork, EndsWhenSomebodyWaitsForInput) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    const gtcp::Cork cork(conn);
    conn.SendPkg("question");
    background answering([&to = peer] {
      EXPECT_EQ(to.read_pkg(), "question");
      to.write(framed("answer"));
    });
    std::error_code ec;
    EXPECT_EQ(recv_pkg(which, conn, {}, ec), "answer") << which;
    answering.get();
  }
}

TEST(Cork, EndsAtClose) {
  auto [conn, peer] = make_conn_and_peer();
  const gtcp::Cork cork(conn);
  conn.SendPkg("last words");
  conn.Close();
  EXPECT_EQ(peer.read_to_end(), framed("last words"));
}

TEST(Cork, EndsAtCloseWrite) {
  auto [conn, peer] = make_conn_and_peer();
  const gtcp::Cork cork(conn);
  conn.SendPkg("last words");
  conn.CloseWrite();
  EXPECT_EQ(peer.read_to_end(), framed("last words"));
}

TEST(Cork, EndsWithFlush) {
  auto [conn, peer] = make_conn_and_peer();
  const gtcp::Cork cork(conn);
  conn.SendPkg("now");
  conn.Flush();
  EXPECT_EQ(peer.read_pkg(), "now");
}

TEST(Cork, NeverHoldsMoreThanALimit) {
  auto [conn, peer, rules] = make_scripted({.OutboxLimit = 10'000});
  const gtcp::Cork cork(conn);
  background reading([&from = peer] {
    for (int i = 0; i < 200; ++i) EXPECT_EQ(from.read_pkg().size(), 1000u);
  });
  for (int i = 0; i < 200; ++i) conn.SendPkg(pattern(1000));
  conn.Flush();
  reading.get();
  EXPECT_LT(rules->writes, 100) << "but combined they are";
}

TEST(Cork, MayOutliveEveryHandle) {
  auto [conn, peer] = make_conn_and_peer();
  {
    const gtcp::Cork cork(conn);
    conn.SendPkg("hello");
    conn = Conn();
  }
  EXPECT_EQ(peer.read_to_end(), framed("hello"));
  const gtcp::Cork of_none{Conn()};
}

// ---- Request and reply

TEST(SendRecvPkg, SendsAndThenReceives) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    background answering([&to = peer] { to.write(framed(to.read_pkg() + "!")); });
    std::error_code ec = Errc::Timeout;
    std::string reply;
    switch (which) {
      case form::blocking: reply = conn.SendRecvPkg("hello", ec); break;
      case form::callback:
        reply = call_back<std::string>(
            ec, [&, &on = conn](auto handler) { on.AsyncSendRecvPkg(std::string("hello"), std::move(handler)); });
        break;
      case form::awaited: reply = run(conn.AsyncSendRecvPkg("hello", ec)); break;
    }
    EXPECT_FALSE(ec) << ec.message();
    EXPECT_EQ(reply, "hello!");
    answering.get();
  }
}

TEST(SendRecvPkg, HasOneTimeoutForBothHalvesAndLosesNothing) {
  auto [conn, peer] = make_conn_and_peer();
  std::error_code ec;
  EXPECT_EQ(conn.SendRecvPkgWithTimeout("1", 1ms, ec), "");
  EXPECT_EQ(ec, Errc::Timeout);
  EXPECT_EQ(run(conn.AsyncSendRecvPkgWithTimeout("2", 1ms, ec)), "");
  EXPECT_EQ(ec, Errc::Timeout);
  EXPECT_EQ(call_back<std::string>(
                ec, [&, &on = conn](auto handler) { on.AsyncSendRecvPkgWithTimeout("3", 1ms, std::move(handler)); }),
            "");
  EXPECT_EQ(ec, Errc::Timeout);
  for (const char* const request : {"1", "2", "3"}) EXPECT_EQ(peer.read_pkg(), request);
  peer.write(framed("late reply"));
  EXPECT_EQ(conn.RecvPkg(), "late reply");
  EXPECT_EQ(text_of_error(Errc::Timeout, [&, &on = conn] { on.SendRecvPkgWithTimeout("4", 0ms); }),
            "SendRecvPkgWithTimeout [" + conn.RemoteAddr() + "]: " + make_error_code(Errc::Timeout).message());
}

// ---- A system that is short of memory for a moment

TEST(Retry, TriesAgainAfterAShortageAndSendsOnce) {
  const PkgOption option{.Retry = {.Count = 3, .Interval = 1ms}};
  for (const form which : forms) {
    auto [conn, peer, rules] = make_scripted();
    std::error_code ec = Errc::Timeout;
    rules->writes_to_fail = 3;
    send_pkg(which, conn, "hello", option, ec);
    EXPECT_FALSE(ec) << which << ": " << ec.message();
    EXPECT_EQ(rules->writes, 4);
    rules->writes_to_fail = 4;
    send_pkg(which, conn, "never", option, ec);
    EXPECT_EQ(ec, asio::error::no_buffer_space) << which << ": " << ec.message();
    EXPECT_FALSE(gtcp::IsFatal(ec));
    rules->writes_to_fail = 1;
    send_pkg(which, conn, "never", {}, ec);
    EXPECT_EQ(ec, asio::error::no_buffer_space) << "without Retry the first failure is the last: " << which;
    send_pkg(which, conn, "after", option, ec);
    EXPECT_FALSE(ec);
    EXPECT_EQ(peer.read_pkg(), "hello");
    EXPECT_EQ(peer.read_pkg(), "after");
  }
}

TEST(Retry, TriesAgainToReceive) {
  const PkgOption option{.Retry = {.Count = 2, .Interval = 1ms}};
  for (const form which : forms) {
    auto [conn, peer, rules] = make_scripted();
    std::error_code ec = Errc::Timeout;
    peer.write(framed("hello") + framed("again"));
    rules->reads_to_fail = 2;
    EXPECT_EQ(recv_pkg(which, conn, option, ec), "hello") << which;
    EXPECT_FALSE(ec) << which << ": " << ec.message();
    EXPECT_EQ(recv_pkg(which, conn, option, ec), "again");
    peer.write(framed("stays"));
    rules->reads_to_fail = 3;
    EXPECT_EQ(recv_pkg(which, conn, option, ec), "");
    EXPECT_EQ(ec, asio::error::no_buffer_space) << which << ": " << ec.message();
    EXPECT_EQ(recv_pkg(which, conn, option, ec), "stays");
  }
}

TEST(Retry, IsCancelledInTheMomentOfATry) {
  for (const int tries_before : {0, 3}) {
    for (const bool is_exchange : {false, true}) {
      auto [conn, peer, rules] = make_scripted();
      asio::cancellation_signal signal;
      rules->when_write_fails = [&, tries = tries_before]() mutable {
        if (tries-- == 0) signal.emit(asio::cancellation_type::total);
      };
      rules->writes_to_fail = 1000;
      std::promise<std::error_code> result;
      const PkgOption option{.Retry = {.Count = 900, .Interval = 1ms}};
      const auto ends = [&](std::error_code ec, const auto&...) { result.set_value(ec); };
      if (is_exchange)
        conn.AsyncSendRecvPkg("x", option, asio::bind_cancellation_slot(signal.slot(), ends));
      else
        conn.AsyncSendPkg("x", option, asio::bind_cancellation_slot(signal.slot(), ends));
      EXPECT_EQ(result.get_future().get(), asio::error::operation_aborted);
      EXPECT_EQ(rules->writes, tries_before + 1) << "tried again after it was cancelled";
    }
  }
}

TEST(Retry, IsNotEndedByTheQuietThatEndsTheReceive) {
  auto [conn, peer, rules] = make_scripted();
  conn.SetBufferWaitRecv(100ms);
  peer.write("abc");
  std::promise<std::pair<std::error_code, std::string>> result;
  conn.AsyncRecv(-1, gtcp::Retry{.Count = 1, .Interval = 200ms}, [&](std::error_code ec, std::string bytes) {
    result.set_value({ec, std::move(bytes)});
  });
  ASSERT_TRUE(poll_until([&, &on = conn] { return gtcp_test::has_read_all(on); }));
  rules->reads_to_fail = 1;
  peer.write("d");
  auto ends = result.get_future();
  ASSERT_TRUE(gtcp_test::comes(ends));
  const auto [ec, bytes] = ends.get();
  EXPECT_FALSE(ec) << ec.message();
  EXPECT_TRUE(bytes == "abcd" || bytes == "abc") << bytes;  // the latter if it was quiet before "d" came
}

const PkgOption tries_for_ever{.Retry = {.Count = 1'000'000, .Interval = std::chrono::milliseconds::max()}};

/// Sends, or receives, with tries that all fail, and gives its error.
std::error_code try_for_ever(form which, bool sends, const Conn& conn) {
  std::error_code ec;
  if (sends)
    send_pkg(which, conn, "x", tries_for_ever, ec);
  else
    recv_pkg(which, conn, tries_for_ever, ec);
  return ec;
}

TEST(Retry, EndsWithTheConnection) {
  for (const form which : forms) {
    for (const bool sends : {true, false}) {
      // What closing itself waits for: the peer neither reads nor closes.
      gtcp::ConnOption option;
      option.Linger = 1h;
      auto [conn, peer, rules] = make_scripted(option);
      peer.write(framed("never"));
      (sends ? rules->writes_to_fail : rules->reads_to_fail) = 1'000'000;
      background trying([&, sends, on = conn] { return try_for_ever(which, sends, on); });
      trying.wait_until_waiting();
      conn.Close();
      EXPECT_EQ(trying.get(), Errc::Closed) << which << (sends ? ", sending" : ", receiving");
    }
  }
}

TEST(Retry, EndsWhenTheDeadlineChanges) {
  for (const form which : forms) {
    for (const bool sends : {true, false}) {
      auto [conn, peer, rules] = make_scripted();
      peer.write(framed("later"));
      rules->writes_to_fail = rules->reads_to_fail = 1'000'000;
      background trying([&, sends, on = conn] { return try_for_ever(which, sends, on); });
      trying.wait_until_waiting();
      const auto past = std::chrono::steady_clock::now() - 1s;
      sends ? conn.SetDeadlineSend(past) : conn.SetDeadlineRecv(past);
      EXPECT_EQ(trying.get(), Errc::Timeout) << which << (sends ? ", sending" : ", receiving");
    }
  }
}

TEST(Retry, EndsWithTheTimeout) {
  for (const form which : forms) {
    auto [conn, peer, rules] = make_scripted();
    std::error_code ec;
    rules->writes_to_fail = 1'000'000;
    conn.SetDeadlineSend(std::chrono::steady_clock::now() + 10ms);
    send_pkg(which, conn, "x", tries_for_ever, ec);
    EXPECT_EQ(ec, Errc::Timeout) << which << ": " << ec.message();
    rules->writes_to_fail = 0;
    conn.SetDeadlineSend({});

    peer.write(framed("hello"));
    rules->reads_to_fail = 1'000'000;
    conn.SetDeadlineRecv(std::chrono::steady_clock::now() + 10ms);
    EXPECT_EQ(recv_pkg(which, conn, tries_for_ever, ec), "");
    EXPECT_EQ(ec, Errc::Timeout) << which << ": " << ec.message();
    rules->reads_to_fail = 0;
    conn.SetDeadlineRecv({});
    EXPECT_EQ(recv_pkg(which, conn, {}, ec), "hello") << which << ": " << ec.message();
  }
}

TEST(Retry, EndsWhenItIsCancelledOrTheDeadlineChanges) {
  auto [conn, peer, rules] = make_scripted();
  rules->writes_to_fail = 2;
  for (const bool cancelled : {true, false}) {
    asio::cancellation_signal signal;
    std::promise<std::error_code> result;
    conn.AsyncSendPkg("x", tries_for_ever,
                      asio::bind_cancellation_slot(signal.slot(), [&](std::error_code ec) { result.set_value(ec); }));
    auto ends = result.get_future();
    ASSERT_EQ(ends.wait_for(0s), std::future_status::timeout);
    if (cancelled)
      signal.emit(asio::cancellation_type::terminal);
    else
      conn.SetDeadlineSend(std::chrono::steady_clock::now() - 1s);
    ASSERT_TRUE(gtcp_test::comes(ends));
    EXPECT_EQ(ends.get(), cancelled ? make_error_code(asio::error::operation_aborted) : make_error_code(Errc::Timeout));
  }
  conn.SetDeadlineSend({});
  conn.SendPkg("whole");
  EXPECT_EQ(peer.read_pkg(), "whole") << "nothing of what has ended";
}

TEST(Packages, WaitForASystemThatIsShortOfMemoryWithoutAskingItAllTheTime) {
  auto [conn, peer, rules] = make_scripted();
  rules->bytes_a_write = 10;
  rules->at_end_of_partial_write = [&on = *rules, first = true]() mutable {
    if (std::exchange(first, false)) on.writes_to_fail = 1'000'000;
  };
  ASSERT_TRUE(conn.TrySendPkg("the rest is left to an io thread"));
  std::this_thread::sleep_for(50ms);
  EXPECT_LT(rules->writes, 50);
  rules->writes_to_fail = 0;
  EXPECT_EQ(peer.read_pkg(), "the rest is left to an io thread");
}

TEST(Packages, SurviveATransportThatMovesOneByteAtATime) {
  for (const form which : forms) {
    auto [conn, peer, rules] = make_scripted();
    rules->bytes_a_read = 1;
    rules->bytes_a_write = 1;
    std::error_code ec;
    for (const std::size_t size : {0u, 1u, 300u}) {
      send_pkg(which, conn, pattern(size), {}, ec);
      ASSERT_FALSE(ec) << which << ": " << ec.message();
      ASSERT_EQ(peer.read_pkg(), pattern(size)) << which;
      peer.write(framed(pattern(size)));
      ASSERT_EQ(recv_pkg(which, conn, {}, ec), pattern(size)) << which;
      ASSERT_FALSE(ec);
    }
  }
}

TEST(RecvPkg, GivesAllThatHasComeThoughDrainingBeginsDuringARead) {
  const std::string pkg = pattern(20'000);
  const std::size_t all = 3 * framed(pkg).size();
  for (const form which : forms) {
    auto [conn, peer, rules] = make_scripted();
    const auto state = gtcp::detail::conn_access::state(conn);
    rules->bytes_a_read = all - 5000;  // two packages, and most of the third
    rules->at_end_of_read = [&] { state->drain(); };
    peer.write(framed(pkg) + framed(pkg) + framed(pkg));
    ASSERT_TRUE(poll_until([&, &on = conn] { return gtcp::detail::unread_bytes(on.GetNativeHandle()) == all; }));
    std::error_code ec;
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(recv_pkg(which, conn, {}, ec) == pkg) << which << ", package " << i << ": " << ec.message();
    }
    EXPECT_EQ(recv_pkg(which, conn, {}, ec), "") << which;
    EXPECT_EQ(ec, Errc::Draining) << which << ": " << ec.message();
  }
}

// ---- Receivers at once

TEST(RecvPkg, GivesEachOfManyReceiversOneDistinctPackage) {
  auto [conn, peer] = make_conn_and_peer();
  constexpr int count = 2000;
  std::vector<std::unique_ptr<background<std::vector<std::string>>>> receivers;
  std::vector<std::future<std::vector<std::string>>> coroutines;
  for (int i = 0; i < 3; ++i) {
    receivers.push_back(std::make_unique<background<std::vector<std::string>>>([from = conn] {
      std::vector<std::string> got;
      std::error_code ec;
      for (std::string pkg = from.RecvPkg(ec); !ec; pkg = from.RecvPkg(ec)) got.push_back(std::move(pkg));
      EXPECT_EQ(ec, asio::error::eof);
      return got;
    }));
    coroutines.push_back(asio::co_spawn(
        conn.get_executor(),
        [](Conn from) -> asio::awaitable<std::vector<std::string>> {
          std::vector<std::string> got;
          for (;;) {
            std::error_code ec;
            std::string pkg = co_await from.AsyncRecvPkg(ec);
            if (ec) break;
            got.push_back(std::move(pkg));
          }
          co_return got;
        }(conn),
        asio::use_future));
  }
  std::string stream;
  for (int i = 0; i < count; ++i) stream += framed(std::to_string(i) + pattern(static_cast<std::size_t>(i) % 100));
  peer.write(stream);
  peer.end_sending();
  std::vector<std::string> all;
  for (auto& receiver : receivers) {
    for (std::string& pkg : receiver->get()) all.push_back(std::move(pkg));
  }
  for (auto& coroutine : coroutines) {
    ASSERT_TRUE(comes(coroutine));
    for (std::string& pkg : coroutine.get()) all.push_back(std::move(pkg));
  }
  std::vector<std::string> expected;
  for (int i = 0; i < count; ++i) expected.push_back(std::to_string(i) + pattern(static_cast<std::size_t>(i) % 100));
  std::sort(all.begin(), all.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_TRUE(all == expected) << all.size() << " of " << count;
}

TEST(RecvPkg, ServesWaitingReceiversFirstComeFirstServed) {
  auto [conn, peer] = make_conn_and_peer();
  std::vector<std::future<std::string>> waiting;
  for (int i = 0; i < 10; ++i) waiting.push_back(conn.AsyncRecvPkg(asio::use_future));
  background last([from = conn] { return from.RecvPkg(); });
  last.wait_until_waiting();
  for (int i = 0; i < 11; ++i) peer.write(framed(std::to_string(i)));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(comes(waiting[static_cast<std::size_t>(i)]));
    EXPECT_EQ(waiting[static_cast<std::size_t>(i)].get(), std::to_string(i));
  }
  EXPECT_EQ(last.get(), "10");
}

}  // namespace
