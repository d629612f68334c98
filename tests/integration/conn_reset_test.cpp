// SPDX-License-Identifier: MIT

#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <system_error>

using namespace std::chrono_literals;

namespace {

// Nothing is acknowledged any more after a reset, so waiting for that until the linger time is over would hold the
// descriptor, and the end of the process, for nothing.

TEST(Close, EndsAtOnceWhenThePeerResetsAfterwards) {
  auto [conn, peer] = gtcp_test::make_conn_and_peer({.Linger = 1h});
  conn.SendPkg("hello");
  conn.Close();
  peer.reset();
  std::error_code error;
  static_cast<void>(conn.CloseAndWait(gtcp_test::ceiling, error));
  EXPECT_FALSE(error) << error.message();
}

TEST(Close, EndsAtOnceWhenThePeerHasReset) {
  auto [conn, peer] = gtcp_test::make_conn_and_peer({.Linger = 1h});
  conn.SendPkg("hello");
  peer.reset();
  std::error_code error;
  static_cast<void>(conn.RecvPkg(error));
  EXPECT_EQ(error, asio::error::connection_reset);
  static_cast<void>(conn.CloseAndWait(gtcp_test::ceiling, error));
  EXPECT_FALSE(error) << error.message();
}

TEST(Close, EndsAtOnceWhenThePeerHadClosedBeforeTheLastPackage) {
  auto [conn, peer] = gtcp_test::make_conn_and_peer({.Linger = 1h});
  peer.close();
  std::error_code error;
  conn.RecvPkg(error);
  EXPECT_EQ(error, asio::error::eof);
  conn.SendPkg("too late", error);
  EXPECT_FALSE(error) << error.message();
  EXPECT_FALSE(conn.CloseAndWait(gtcp_test::ceiling, error));
  EXPECT_FALSE(error) << error.message();
}

TEST(Close, EndsAtOnceWhenThePeerResetsWhileThereIsMoreToSend) {
  auto [conn, peer] = gtcp_test::make_narrow({.Linger = 1h, .Mode = gtcp::SendMode::Direct});
  std::error_code error;
  conn.SendPkgWithTimeout(gtcp_test::pattern(1 << 20), 1ms, {.HeaderSize = 4}, error);
  EXPECT_EQ(error, gtcp::Errc::TimeoutPartlySent);
  conn.Close();
  peer.reset();
  EXPECT_FALSE(conn.CloseAndWait(gtcp_test::ceiling, error));
  EXPECT_FALSE(error) << error.message();
}

// The peer must not take what it got for all. It reads all the time, so that an end behind the last byte that the
// system has taken would get there before the reset.
TEST(Close, ResetsWhatItCannotDeliver) {
  for (int i = 0; i < 20; ++i) {
    const auto [conn, peer] =
        gtcp_test::make_conn_pair({.SendBufferSize = 4096, .Linger = i % 2 == 0 ? 1ms : 0ms, .OutboxLimit = 64 << 20});
    const std::string package = gtcp_test::pattern(8000);
    for (int sent = 0; sent < 4000; ++sent) ASSERT_TRUE(conn.TrySendPkg(package));
    conn.Close();
    std::error_code error;
    std::size_t got = 0;
    while (!error) {
      got += peer.Recv(0, error).size();
      std::error_code ignored;
      // Not all of it, should the linger time take long to end.
      if (got > 16 << 20) static_cast<void>(conn.CloseAndWait(gtcp_test::ceiling, ignored));
    }
    EXPECT_EQ(error, asio::error::connection_reset) << error.message() << " after " << got << " bytes";
  }
}

}  // namespace
