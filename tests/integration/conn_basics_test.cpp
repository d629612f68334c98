// SPDX-License-Identifier: MIT

// What a connection is: a handle, addresses, an id, options of its socket, and how an existing socket becomes one. And
// what it costs: memory follows what is really there.

#include <gtcp/conn.hpp>
#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/udp.hpp>
#include <asio/ip/v6_only.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/strand.hpp>
#include <asio/use_future.hpp>
#include <asio/write.hpp>

#include <algorithm>
#include <any>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <functional>
#include <future>
#include <limits>
#include <string>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

#if !defined(ASIO_WINDOWS)
#include <fcntl.h>
#endif

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using asio::ip::tcp;
using gtcp::Conn;
using gtcp::ConnOption;
using gtcp::Errc;

// ---- The handle

TEST(ConnHandle, IsNotConnectedByDefault) {
  const Conn none;
  EXPECT_FALSE(none);
  EXPECT_TRUE(none.IsClosed());
  EXPECT_EQ(none.CloseReason(), asio::error::not_connected);
  EXPECT_EQ(none.RemoteAddr(), "");
  EXPECT_EQ(none.LocalAddr(), "");
  EXPECT_EQ(none.Id(), 0u);
  EXPECT_EQ(none.GetNativeHandle(), gtcp::detail::invalid_native_socket);
  EXPECT_EQ(none, Conn());
  none.Close();
  none.Abort();
  none.Detach();
  const std::string not_connected = ": " + make_error_code(asio::error::not_connected).message();
  const auto text = [](auto operation) { return text_of_error(asio::error::not_connected, operation); };
  EXPECT_EQ(text([&] { none.SendPkg("x"); }), "SendPkg" + not_connected);
  EXPECT_EQ(text([&] { none.RecvPkg(); }), "RecvPkg" + not_connected);
  EXPECT_EQ(text([&] { none.TrySendPkg("x"); }), "TrySendPkg" + not_connected);
  EXPECT_EQ(text([&] { none.SendPkgs(std::vector<std::string>{"x"}); }), "SendPkg" + not_connected);
  EXPECT_EQ(text([&] { none.Recv(1); }), "Recv" + not_connected);
  EXPECT_EQ(text([&] { none.RecvLine(); }), "RecvLine" + not_connected);
  EXPECT_EQ(text([&] { none.RecvTill("x"); }), "RecvTill" + not_connected);
  EXPECT_EQ(text([&] { none.SendRecvPkg("x"); }), "SendRecvPkg" + not_connected);
  EXPECT_EQ(text([&] { none.Flush(); }), "Flush" + not_connected);
  EXPECT_EQ(text([&] { none.CloseAndWait(1s); }), "CloseAndWait" + not_connected);
  EXPECT_EQ(text([&] { none.CloseWrite(); }), "CloseWrite" + not_connected);
  EXPECT_EQ(text([&] { none.SetDeadline({}); }), "SetDeadline" + not_connected);
  EXPECT_EQ(text([&] { none.SetBufferWaitRecv(1s); }), "SetBufferWaitRecv" + not_connected);
  EXPECT_EQ(text([&] { none.SetNoDelay(true); }), "SetNoDelay" + not_connected);
  EXPECT_EQ(text([&] { static_cast<void>(none.NoDelay()); }), "NoDelay" + not_connected);
  EXPECT_EQ(text([&] { none.SetLinger(1s); }), "SetLinger" + not_connected);
  EXPECT_EQ(text([&] { none.UserData(); }), "UserData" + not_connected);
  EXPECT_EQ(text([&] { run(none.AsyncSendPkg("x")); }), "AsyncSendPkg" + not_connected);
  EXPECT_EQ(text([&] { run(none.AsyncRecvPkg()); }), "AsyncRecvPkg" + not_connected);
  EXPECT_EQ(text([&] { run(none.AsyncSendRecvPkg("x")); }), "AsyncSendRecvPkg" + not_connected);
  EXPECT_EQ(text([&] { run(none.AsyncFlush()); }), "AsyncFlush" + not_connected);
  EXPECT_EQ(text([&] { run(none.AsyncClose()); }), "AsyncClose" + not_connected);
  EXPECT_THROW(none.SetTimeout(1s, [] {}), std::system_error);
  std::error_code ec;
  call_back<std::string>(ec, [&](auto handler) { none.AsyncRecvPkg(std::move(handler)); });
  EXPECT_EQ(ec, asio::error::not_connected);
}

TEST(ConnHandle, NamesOneConnectionHoweverOftenItIsCopied) {
  const auto [a, b] = make_conn_pair();
  const Conn copy = a;
  EXPECT_TRUE(a);
  EXPECT_EQ(copy, a);
  EXPECT_NE(a, b);
  EXPECT_NE(a, Conn());
  EXPECT_EQ(copy.Id(), a.Id());
  EXPECT_NE(a.Id(), b.Id());
  EXPECT_NE(a.Id(), 0u);
  EXPECT_EQ(std::hash<Conn>()(copy), std::hash<Conn>()(a));
  const std::unordered_set<Conn> conns = {a, b, copy};
  EXPECT_EQ(conns.size(), 2u);
  copy.Close();
  EXPECT_TRUE(a.IsClosed());
  EXPECT_TRUE(a) << "it was connected, and names a connection still";
}

TEST(ConnHandle, KeepsWhatTheUserWants) {
  const auto [a, b] = make_conn_pair();
  EXPECT_FALSE(a.UserData().has_value());
  a.UserData() = std::string("John");
  const Conn copy = a;
  EXPECT_EQ(std::any_cast<std::string>(copy.UserData()), "John");
  EXPECT_FALSE(b.UserData().has_value());
}

TEST(ConnHandle, GivesItsExecutor) {
  asio::io_context context;
  const asio::any_io_executor strand = asio::make_strand(context);
  const auto ends = make_conn_and_peer({.Executor = strand});
  EXPECT_EQ(ends.conn.get_executor(), strand);
  ends.conn.Close();
  EXPECT_EQ(ends.conn.get_executor(), asio::any_io_executor(context.get_executor()))
      << "handlers of later operations go to the same context; a strand of it may not outlive it";
}

// ---- Addresses

TEST(Addresses, AreThoseOfBothEndsAndStayAfterClose) {
  const auto [a, b] = make_conn_pair();
  const std::string local = a.LocalAddr();
  const std::string remote = a.RemoteAddr();
  EXPECT_EQ(local.substr(0, 10), "127.0.0.1:");
  EXPECT_EQ(remote.substr(0, 10), "127.0.0.1:");
  EXPECT_EQ(b.RemoteAddr(), local);
  EXPECT_EQ(b.LocalAddr(), remote);
  a.Abort();
  b.Abort();
  EXPECT_TRUE(poll_until([&, &on = a] { return on.GetNativeHandle() == gtcp::detail::invalid_native_socket; }));
  EXPECT_EQ(a.LocalAddr(), local);
  EXPECT_EQ(a.RemoteAddr(), remote);
  EXPECT_EQ(b.LocalAddr(), remote);
}

TEST(Addresses, ShowAnIpv4PeerOfAnIpv6SocketAsIpv4) {
  std::error_code ec;
  tcp::acceptor acceptor(raw_context());
  acceptor.open(tcp::v6(), ec);
  if (!ec) acceptor.set_option(asio::ip::v6_only(false), ec);
  if (!ec) acceptor.bind({asio::ip::address_v6::any(), 0}, ec);
  if (ec) GTEST_SKIP() << "no IPv6 here";
  acceptor.listen();
  tcp::socket client(raw_context());
  client.connect({asio::ip::address_v4::loopback(), acceptor.local_endpoint().port()});
  const Conn conn = gtcp::NewConnByNetConn(acceptor.accept());
  EXPECT_EQ(conn.RemoteAddr(), "127.0.0.1:" + std::to_string(client.local_endpoint().port()));
  EXPECT_EQ(conn.LocalAddr(), "127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()));
}

TEST(Addresses, OfAUnixSocketAreItsPath) {
  const socket_path path;
  asio::local::stream_protocol::acceptor acceptor(raw_context(), asio::local::stream_protocol::endpoint(path.str()));
  const Conn client = gtcp::NewConn("unix:" + path.str());
  const Conn server = gtcp::NewConnByNetConn(acceptor.accept());
  EXPECT_EQ(client.RemoteAddr(), path.str());
  EXPECT_EQ(server.RemoteAddr(), path.str()) << "a peer without a name has that of the socket";
  EXPECT_EQ(server.LocalAddr(), path.str());
  server.SendPkg("hello");
  EXPECT_EQ(client.RecvPkg(), "hello");
}

// ---- Options of the socket

TEST(SocketOptions, AreSetAndRead) {
  const auto [conn, peer] = make_conn_pair();
  for (const bool on : {false, true}) {
    conn.SetNoDelay(on);
    EXPECT_EQ(conn.NoDelay(), on);
    conn.SetKeepAlive(on);
    EXPECT_EQ(conn.KeepAlive(), on);
  }
  conn.SetRecvBufferSize(20'000);
  EXPECT_GE(conn.RecvBufferSize(), 20'000u);
  EXPECT_LT(conn.RecvBufferSize(), 100'000u);
  conn.SetSendBufferSize(20'000);
  EXPECT_GE(conn.SendBufferSize(), 20'000u);
  EXPECT_LT(conn.SendBufferSize(), 100'000u);
  conn.SetKeepAliveTimes(10s, 5s, 3);
  conn.SetKeepAliveTimes(100h, 100h, 100'000);
  const auto much = make_conn_pair({.KeepAliveIdle = 100h, .KeepAliveInterval = 100h, .KeepAliveCount = 100'000});
  EXPECT_TRUE(much.a);
  std::error_code ec = Errc::Timeout;
  conn.SetKeepAliveTimes(0s, 0s, 0, ec);
  EXPECT_FALSE(ec);
  conn.SetLinger(1s, ec);
  EXPECT_FALSE(ec);
}

TEST(SocketOptions, RefuseBadValuesAndQuoteThem) {
  const auto [conn, peer] = make_conn_pair();
  const Conn& on = conn;
  const std::string invalid = ": " + make_error_code(Errc::InvalidOption).message();
  const auto text = [](auto operation) { return text_of_error(Errc::InvalidOption, operation); };
  EXPECT_EQ(text([&] { on.SetLinger(-1ms); }), "SetLinger: Linger is -1, allowed are 0 ms and more" + invalid);
  EXPECT_EQ(text([&] { on.SetKeepAliveTimes(-1s, 1s, 1); }),
            "SetKeepAliveTimes: KeepAliveIdle is -1, allowed are 0 s and more" + invalid);
  EXPECT_EQ(text([&] { on.SetKeepAliveTimes(1s, -1s, 1); }),
            "SetKeepAliveTimes: KeepAliveInterval is -1, allowed are 0 s and more" + invalid);
  EXPECT_EQ(text([&] { on.SetKeepAliveTimes(1s, 1s, -1); }),
            "SetKeepAliveTimes: KeepAliveCount is -1, allowed are 0 and more" + invalid);
  EXPECT_EQ(text([&] { on.SetRecvBufferSize(std::size_t{1} << 31); }), "SetRecvBufferSize(2147483648)" + invalid);
  EXPECT_EQ(text([&] { on.SetSendBufferSize(std::numeric_limits<std::size_t>::max()); }),
            "SetSendBufferSize(" + std::to_string(std::numeric_limits<std::size_t>::max()) + ")" + invalid);
}

TEST(SocketOptions, FailOnceTheDescriptorIsClosed) {
  const auto [conn, peer] = make_conn_pair();
  conn.Abort();
  std::error_code ec;
  conn.SetNoDelay(true, ec);
  EXPECT_EQ(ec, Errc::Closed);
  static_cast<void>(conn.RecvBufferSize(ec));
  EXPECT_EQ(ec, Errc::Closed);
}

// ---- Adopting

TEST(NewConnByNetConn, AdoptsATcpSocketWithItsExecutor) {
  asio::io_context context;
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  tcp::socket socket(context);
  socket.connect(acceptor.local_endpoint());
  tcp::socket other = acceptor.accept();
  const auto descriptor = socket.native_handle();
  const Conn conn = gtcp::NewConnByNetConn(std::move(socket));
  EXPECT_EQ(conn.GetNativeHandle(), descriptor);
  EXPECT_EQ(conn.get_executor(), asio::any_io_executor(context.get_executor()));
  EXPECT_TRUE(conn.NoDelay());
  EXPECT_TRUE(conn.KeepAlive());
  asio::write(other, asio::buffer(framed("hello")));
  bool called = false;
  conn.AsyncRecvPkg([&](std::error_code ec, const std::string& pkg) {
    EXPECT_FALSE(ec);
    EXPECT_EQ(pkg, "hello");
    called = true;
  });
  context.run_for(ceiling);
  EXPECT_TRUE(called);
}

TEST(NewConnByNetConn, AdoptsLocalSocketsAndPairs) {
  asio::local::stream_protocol::socket first(raw_context());
  asio::local::stream_protocol::socket second(raw_context());
  asio::local::connect_pair(first, second);
  const Conn a = gtcp::NewConnByNetConn(std::move(first));
  const Conn b = gtcp::NewConnByNetConn(second.release());
  a.SendPkg("hello");
  EXPECT_EQ(b.RecvPkg(), "hello");
  b.Close();
  std::error_code ec;
  a.RecvPkg(ec);
  EXPECT_EQ(ec, asio::error::eof);
}

TEST(NewConnByNetConn, HandsOutTheBytesThatWereReadAlreadyFirst) {
  const std::string stream = framed("first") + framed("second");
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    for (const form which : forms) {
      auto [own, other] = connected_sockets(net::tcp);
      raw_peer peer(std::move(other));
      const Conn conn = gtcp::NewConnByNetConn(own.release(), stream.substr(0, cut));
      peer.write(stream.substr(cut));
      for (const char* const expected : {"first", "second"}) {
        std::string got;
        std::error_code ec;
        switch (which) {
          case form::blocking: got = conn.RecvPkg(); break;
          case form::callback:
            got = call_back<std::string>(ec, [&](auto handler) { conn.AsyncRecvPkg(std::move(handler)); });
            break;
          case form::awaited: got = run(conn.AsyncRecvPkg()); break;
        }
        EXPECT_EQ(got, expected) << cut;
      }
    }
  }
}

TEST(NewConnByNetConn, RefusesBadOptionsAndClosesTheDescriptor) {
  auto [own, other] = connected_sockets(net::tcp);
  raw_peer peer(std::move(other));
  EXPECT_EQ(
      text_of_error(Errc::InvalidOption,
                    [&, &socket = own] { gtcp::NewConnByNetConn(socket.release(), {}, {.Linger = -1ms}); }),
      "NewConnByNetConn: Linger is -1, allowed are 0 ms and more: " + make_error_code(Errc::InvalidOption).message());
  EXPECT_EQ(peer.read_to_end(), "") << "it is owned from the call on, also when that fails";
}

TEST(NewConnByNetConn, RefusesWhatIsNoStreamSocket) {
  asio::io_context context;
  asio::ip::udp::socket datagrams(context, {asio::ip::address_v4::loopback(), 0});
  EXPECT_EQ(text_of_error(std::make_error_code(std::errc::wrong_protocol_type),
                          [&] { gtcp::NewConnByNetConn(datagrams.release()); }),
            "NewConnByNetConn: " + std::make_error_code(std::errc::wrong_protocol_type).message());
  tcp::acceptor listener(context, {asio::ip::address_v4::loopback(), 0});
  EXPECT_THROW(gtcp::NewConnByNetConn(listener.release()), std::system_error);
#if !defined(ASIO_WINDOWS)
  EXPECT_THROW(gtcp::NewConnByNetConn(::open("/dev/null", O_RDWR)), std::system_error);
  EXPECT_THROW(gtcp::NewConnByNetConn(-1), std::system_error);
#endif
}

TEST(NewConnByNetConn, MakesTheDescriptorNonBlocking) {
  auto [own, other] = connected_sockets(net::tcp);
  own.native_non_blocking(false);
  const Conn conn = gtcp::NewConnByNetConn(own.release());
  std::string into;
  EXPECT_FALSE(conn.TryRecvPkg(into)) << "a blocking descriptor would wait here for ever";
}

// ---- Memory

#if defined(__linux__)

struct memory_use {
  std::size_t reserved = 0;
  std::size_t resident = 0;
};

memory_use memory_now() {
  std::ifstream file("/proc/self/statm");
  memory_use pages;
  file >> pages.reserved >> pages.resident;
  return {pages.reserved * 4096, pages.resident * 4096};
}

TEST(Memory, IsNotTakenForALengthThatIsOnlyAnnounced) {
  constexpr std::size_t announced = 0x7FFFFFFF;
  const memory_use before = memory_now();
  auto [conn, peer] = make_conn_and_peer();
  peer.write(std::string("\x7f\xff\xff\xff", 4) + pattern(1000));
  std::error_code ec;
  for (const form which : forms) {
    switch (which) {
      case form::blocking: conn.RecvPkgWithTimeout(5ms, {.HeaderSize = 4}, ec); break;
      case form::callback:
        call_back<std::string>(ec, [&, &on = conn](auto handler) {
          on.AsyncRecvPkgWithTimeout(5ms, {.HeaderSize = 4}, std::move(handler));
        });
        break;
      case form::awaited: run(conn.AsyncRecvPkgWithTimeout(5ms, {.HeaderSize = 4}, ec)); break;
    }
    EXPECT_EQ(ec, Errc::Timeout);
    EXPECT_LT(memory_now().reserved - std::min(memory_now().reserved, before.reserved), announced / 4) << which;
  }
  conn.Close();
}

TEST(Memory, OfAnIdleConnectionHoldsNoReadBuffer) {
#if GTCP_TESTS_SANITIZED
  GTEST_SKIP() << "a sanitizer keeps freed memory";
#endif
  constexpr int count = 300;
  std::vector<conn_and_peer> connections;
  const std::string large = pattern(60'000);
  const auto use_all = [&] {
    for (conn_and_peer& ends : connections) {
      ends.peer.write(framed(large) + framed("x"));
      ASSERT_TRUE(ends.conn.RecvPkg() == large);
      ASSERT_EQ(ends.conn.RecvPkg(), "x");
      ends.conn.SendPkg(large);
      ASSERT_TRUE(ends.peer.read_pkg() == large);
      ends.peer.write("\x01");  // a half package: one byte of a header
      std::error_code ec;
      ends.conn.RecvPkgWithTimeout(0ms, ec);
      ASSERT_EQ(ec, Errc::Timeout);
    }
  };
  connections.push_back(make_conn_and_peer());
  use_all();  // what the first use costs once: threads, pools
  connections.clear();
  while (connections.size() < count) connections.push_back(make_conn_and_peer());
  const memory_use before = memory_now();
  use_all();
  std::vector<std::future<std::string>> waiting;
  for (const conn_and_peer& ends : connections) waiting.push_back(ends.conn.AsyncRecvPkg(asio::use_future));
  const memory_use after = memory_now();
  // A read buffer of 128 KiB each would be 38 MB, one that fits the package 18 MB.
  EXPECT_LT(after.resident - std::min(after.resident, before.resident), 14u << 20);
  for (conn_and_peer& ends : connections) ends.peer.write(std::string("\x00", 1) + std::string(256, 'x'));
  for (auto& one : waiting) {
    ASSERT_TRUE(comes(one));
    EXPECT_EQ(one.get().size(), 256u);
  }
}

#endif

}  // namespace
