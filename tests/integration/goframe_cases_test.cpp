// SPDX-License-Identifier: MIT

// What the tests of GoFrame's net/gtcp expect of that package, expected of ours: the same scenarios, but for TLS and
// pooled connections, in our words. Where ours differs on purpose docs/goframe.md says so.

#include <gtcp/gtcp.hpp>

#include "support/poll_until.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>
#include <system_error>

using namespace std::chrono_literals;
using gtcp_test::ceiling;

namespace {

constexpr const char* invalid_address = "127.0.0.1:99999";
constexpr const char* test_data = "hello";

void EchoBytes(const gtcp::Conn& conn) {
  for (;;) {
    std::error_code error;
    const std::string bytes = conn.Recv(-1, error);
    if (error) return;
    conn.Send(bytes);
  }
}

void EchoPkgs(const gtcp::Conn& conn) {
  for (;;) {
    std::error_code error;
    const std::string pkg = conn.RecvPkg(error);
    if (error) return;
    conn.SendPkg(pkg);
  }
}

auto EchoPkgsWith(gtcp::PkgOption option) {
  return [option](const gtcp::Conn& conn) {
    for (;;) conn.SendPkg(conn.RecvPkg(option), option);
  };
}

/// A server on a free port of this machine.
template <class Handler>
gtcp::Server StartServer(Handler handler) {
  const gtcp::Server server("127.0.0.1" + std::string(gtcp::FreePortAddress), handler);
  server.Start();
  return server;
}

template <class Operation>
bool Fails(Operation operation) {
  std::error_code error;
  operation(error);
  return static_cast<bool>(error);
}

/// A payload with marks in it.
std::string Marked(std::size_t size) {
  std::string payload(size, '\0');
  payload[100] = 65;
  payload[200] = 85;
  return payload;
}

// ---- Ports

TEST(GoFrameCases, FreePortsCanBeListenedOn) {
  const std::vector<int> ports = gtcp::GetFreePorts(2);
  EXPECT_GT(ports[0], 0);
  EXPECT_GT(ports[1], 0);
  const std::string address = "127.0.0.1:" + std::to_string(ports[0]);
  const gtcp::Server server(address, EchoBytes);
  server.Start();
  EXPECT_EQ(gtcp::NewConn(address).SendRecv(test_data, -1), test_data);
  // Nobody listens on the other one.
  EXPECT_TRUE(Fails([&](std::error_code& ec) { gtcp::NewConn("127.0.0.1:" + std::to_string(ports[1]), ec); }));
}

TEST(GoFrameCases, MustGetFreePortGivesOneToListenOn) {
  const std::string address = "127.0.0.1:" + std::to_string(gtcp::MustGetFreePort());
  const gtcp::Server server(address, EchoBytes);
  server.Start();
  EXPECT_EQ(gtcp::SendRecv(address, test_data, -1), test_data);
}

// ---- Conn

TEST(GoFrameCases, NewConnNeedsAPortThatSomebodyListensOn) {
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::NewConn(gtcp::FreePortAddress, 100ms, ec); }));
  const gtcp::Server server = StartServer(EchoBytes);
  const gtcp::Conn conn = gtcp::NewConn(server.GetListenedAddress(), ceiling);
  EXPECT_EQ(conn.SendRecv(test_data, -1), test_data);
}

class GoFrameConn : public testing::Test {
 protected:
  const gtcp::Server server_ = StartServer(EchoBytes);
  const gtcp::Conn conn_ = gtcp::NewConn(server_.GetListenedAddress());
};

TEST_F(GoFrameConn, Send) {
  conn_.Send(test_data, {.Count = 1});
  EXPECT_EQ(conn_.Recv(-1), test_data);
}

TEST_F(GoFrameConn, SendWithTimeout) {
  conn_.SendWithTimeout(test_data, ceiling, {.Count = 1});
  EXPECT_EQ(conn_.Recv(-1), test_data);
}

TEST_F(GoFrameConn, SendRecv) { EXPECT_EQ(conn_.SendRecv(test_data, -1, {.Count = 1}), test_data); }

TEST_F(GoFrameConn, SendRecvWithTimeout) {
  EXPECT_EQ(conn_.SendRecvWithTimeout(test_data, -1, ceiling, {.Count = 1}), test_data);
}

TEST_F(GoFrameConn, RecvWithTimeout) {
  conn_.Send(test_data);
  EXPECT_EQ(conn_.RecvWithTimeout(-1, ceiling, {.Count = 1}), test_data);
}

TEST_F(GoFrameConn, RecvLine) {
  conn_.Send("hello\n");
  EXPECT_EQ(conn_.RecvLine({.Count = 1}), "hello");
}

TEST_F(GoFrameConn, RecvTill) {
  conn_.Send(test_data);
  EXPECT_EQ(conn_.RecvTill("hello", {.Count = 1}), test_data);
}

TEST_F(GoFrameConn, SetDeadlineToNone) {
  conn_.SetDeadline({});
  conn_.Send(test_data, {.Count = 1});
  EXPECT_EQ(conn_.Recv(-1), test_data);
}

TEST_F(GoFrameConn, SetBufferWaitRecv) {
  conn_.SetBufferWaitRecv(100ms);
  conn_.Send(test_data, {.Count = 1});
  EXPECT_EQ(conn_.Recv(-1), test_data);
}

// ---- One-shot functions

TEST(GoFrameCases, SendToAnAddress) {
  const gtcp::Server server = StartServer(EchoBytes);
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::Send(invalid_address, test_data, {.Count = 1}, ec); }));
  gtcp::Send(server.GetListenedAddress(), test_data, {.Count = 1});
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::SendWithTimeout(invalid_address, test_data, 500ms, ec); }));
  gtcp::SendWithTimeout(server.GetListenedAddress(), test_data, ceiling);
}

TEST(GoFrameCases, SendRecvWithAnAddress) {
  const gtcp::Server server = StartServer(EchoBytes);
  std::error_code error;
  EXPECT_EQ(gtcp::SendRecv(invalid_address, test_data, -1, error), "");
  EXPECT_TRUE(error);
  EXPECT_EQ(gtcp::SendRecv(server.GetListenedAddress(), test_data, -1), test_data);
  EXPECT_EQ(gtcp::SendRecvWithTimeout(invalid_address, test_data, -1, 500ms, error), "");
  EXPECT_TRUE(error);
  EXPECT_EQ(gtcp::SendRecvWithTimeout(server.GetListenedAddress(), test_data, -1, ceiling), test_data);
}

TEST(GoFrameCases, SendPkgToAnAddress) {
  const gtcp::Server server = StartServer(EchoPkgs);
  gtcp::SendPkg(server.GetListenedAddress(), test_data);
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::SendPkg(invalid_address, test_data, ec); }));
  gtcp::SendPkg(server.GetListenedAddress(), test_data, {.Retry = {.Count = 3}});
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::SendPkgWithTimeout(invalid_address, test_data, 1s, ec); }));
  gtcp::SendPkgWithTimeout(server.GetListenedAddress(), test_data, ceiling);
}

TEST(GoFrameCases, SendRecvPkgWithAnAddress) {
  const gtcp::Server server = StartServer(EchoPkgs);
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::SendRecvPkg(invalid_address, test_data, ec); }));
  EXPECT_EQ(gtcp::SendRecvPkg(server.GetListenedAddress(), test_data), test_data);
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::SendRecvPkgWithTimeout(invalid_address, test_data, 1s, ec); }));
  EXPECT_EQ(gtcp::SendRecvPkgWithTimeout(server.GetListenedAddress(), test_data, ceiling), test_data);
}

// ---- Server

TEST(GoFrameCases, NewServerCanHaveAName) {
  const gtcp::Server server = gtcp::NewServer(gtcp::FreePortAddress, EchoBytes, "GoFrameCases.NewServer");
  server.Start();
  EXPECT_EQ(gtcp::SendRecv(server.GetListenedAddress(), test_data, -1), test_data);
  server.Close();
}

TEST(GoFrameCases, GetServerFindsOrMakesTheServerOfAName) {
  EXPECT_EQ(gtcp::GetServer("GoFrameCases.Missing").GetAddress(), "");
  gtcp::NewServer(gtcp::FreePortAddress, EchoBytes, "GoFrameCases.GetServer");
  const gtcp::Server server = gtcp::GetServer("GoFrameCases.GetServer");
  server.Start();
  EXPECT_EQ(gtcp::SendRecv(server.GetListenedAddress(), test_data, -1), test_data);
  server.Close();
}

TEST(GoFrameCases, AServerGetsItsAddressLater) {
  const gtcp::Server server = gtcp::NewServer("", EchoBytes);
  EXPECT_EQ(server.GetAddress(), "");
  server.SetAddress(gtcp::FreePortAddress);
  server.Start();
  EXPECT_EQ(gtcp::SendRecv(server.GetListenedAddress(), test_data, -1), test_data);
}

TEST(GoFrameCases, AServerGetsItsHandlerLater) {
  const gtcp::Server server = gtcp::NewServer(gtcp::FreePortAddress, nullptr);
  server.SetHandler(EchoBytes);
  server.Start();
  EXPECT_EQ(gtcp::SendRecv(server.GetListenedAddress(), test_data, -1), test_data);
}

TEST(GoFrameCases, RunServesUntilClose) {
  const gtcp::Server server = gtcp::NewServer(gtcp::FreePortAddress, EchoBytes);
  server.Listen();
  std::future<void> running = std::async(std::launch::async, [&] { server.Run(); });
  EXPECT_EQ(gtcp::SendRecv(server.GetListenedAddress(), test_data, -1), test_data);
  server.Close();
  EXPECT_TRUE(gtcp_test::comes(running));
}

TEST(GoFrameCases, RunNeedsAHandler) {
  EXPECT_TRUE(Fails([](std::error_code& ec) { gtcp::NewServer(gtcp::FreePortAddress, nullptr).Run(ec); }));
}

// ---- Packages

class GoFramePackages : public testing::Test {
 protected:
  const gtcp::Server server_ = StartServer(EchoPkgs);
  const gtcp::Conn conn_ = gtcp::NewConn(server_.GetListenedAddress());
};

TEST_F(GoFramePackages, ManyAreSentInARow) {
  for (int i = 0; i < 100; ++i) conn_.SendPkg(std::to_string(i));
  for (int i = 0; i < 100; ++i) conn_.SendPkgWithTimeout(std::to_string(i), ceiling);
}

TEST_F(GoFramePackages, ManyAreSentAndAnswered) {
  for (int i = 100; i < 200; ++i) EXPECT_EQ(conn_.SendRecvPkg(std::to_string(i)), std::to_string(i));
  for (int i = 100; i < 200; ++i) {
    EXPECT_EQ(conn_.SendRecvPkgWithTimeout(std::to_string(i), ceiling), std::to_string(i));
  }
}

TEST_F(GoFramePackages, HaveALimit) {
  EXPECT_TRUE(Fails([&](std::error_code& ec) { conn_.SendPkg(std::string(65536, '\0'), ec); }));
  EXPECT_TRUE(Fails([&](std::error_code& ec) { conn_.SendRecvPkg(std::string(65536, '\0'), ec); }));
  std::string large = Marked(65500);
  large[65400] = 85;
  EXPECT_EQ(conn_.SendRecvPkg(large), large);
}

TEST(GoFrameCases, APackageMayBeEmpty) {
  // The server reads headers of one byte: the client's empty package is two of them.
  const gtcp::Server server = StartServer([](const gtcp::Conn& conn) {
    for (;;) conn.SendPkg(conn.RecvPkg({.HeaderSize = 1}));
  });
  EXPECT_EQ(gtcp::NewConn(server.GetListenedAddress()).SendRecvPkg(""), "");
}

TEST(GoFrameCases, AReplyThatTakesTooLongIsATimeout) {
  std::promise<void> open;
  const std::shared_future<void> gate = open.get_future().share();
  const gtcp::Server server = StartServer([gate](const gtcp::Conn& conn) {
    for (;;) {
      const std::string pkg = conn.RecvPkg();
      gate.wait();
      conn.SendPkg(pkg);
    }
  });
  const gtcp::Conn conn = gtcp::NewConn(server.GetListenedAddress());
  std::error_code error;
  EXPECT_EQ(conn.SendRecvPkgWithTimeout("10000", 1ms, error), "");
  EXPECT_EQ(error, gtcp::Errc::Timeout);
  open.set_value();
  const gtcp::Conn other = gtcp::NewConn(server.GetListenedAddress());
  EXPECT_EQ(other.SendRecvPkgWithTimeout("10000", ceiling), "10000");
  EXPECT_TRUE(
      Fails([&](std::error_code& ec) { other.SendRecvPkgWithTimeout("10000", ceiling, {.HeaderSize = 5}, ec); }));
}

TEST(GoFrameCases, AHeaderOfOneByteSaysUpTo255) {
  const gtcp::PkgOption option{.HeaderSize = 1};
  const gtcp::Server server = StartServer(EchoPkgsWith(option));
  const gtcp::Conn conn = gtcp::NewConn(server.GetListenedAddress());
  EXPECT_TRUE(Fails([&](std::error_code& ec) { conn.SendRecvPkg(std::string(256, '\0'), option, ec); }));
  EXPECT_EQ(conn.SendRecvPkg(Marked(255), option), Marked(255));
}

TEST(GoFrameCases, AHeaderMayHaveThreeBytes) {
  const gtcp::PkgOption option{.HeaderSize = 3};
  const gtcp::Server server = StartServer(EchoPkgsWith(option));
  EXPECT_EQ(gtcp::NewConn(server.GetListenedAddress()).SendRecvPkg(Marked(255), option), Marked(255));
}

TEST(GoFrameCases, AHeaderMayHaveFourBytesAndNotFive) {
  const gtcp::PkgOption option{.HeaderSize = 4};
  const gtcp::Server server = StartServer(EchoPkgsWith(option));
  const gtcp::Conn conn = gtcp::NewConn(server.GetListenedAddress());
  EXPECT_EQ(conn.SendRecvPkg(Marked(65536), option), Marked(65536));
  EXPECT_EQ(conn.SendRecvPkg(Marked(255), option), Marked(255));
  EXPECT_TRUE(Fails([&](std::error_code& ec) { conn.SendRecvPkg(Marked(255), {.HeaderSize = 5}, ec); }));
}

TEST(GoFrameCases, AServerWithABadOptionEndsTheConnection) {
  const gtcp::Server server = StartServer([](const gtcp::Conn& conn) {
    std::error_code error;
    do {
      conn.RecvPkg({.HeaderSize = 5}, error);
    } while (!error);
  });
  const gtcp::Conn conn = gtcp::NewConn(server.GetListenedAddress());
  EXPECT_TRUE(Fails([&](std::error_code& ec) { conn.SendRecvPkg(std::string(65535, '\0'), ec); }));
}

}  // namespace
