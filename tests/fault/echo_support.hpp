// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_FAULT_ECHO_SUPPORT_HPP
#define GTCP_TESTS_FAULT_ECHO_SUPPORT_HPP

// What the tests with a fault proxy share: servers of every kind that send numbered packages back, and the check of
// what comes.

#include <gtcp/server.hpp>

#include "support/running_server.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/error.hpp>

#include <gtest/gtest.h>

#include <any>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp_test {

/// What must come over one connection: the packages of one sender, from 0 on, without a gap.
class sequence {
 public:
  /// The first package says who the sender is.
  sequence() = default;
  explicit sequence(std::uint32_t sender) : sender_(sender) {}

  void check(std::string_view pkg) {
    const numbered::origin from = numbered::of(pkg);
    EXPECT_TRUE(from.whole) << "torn: " << pkg.size() << " bytes";
    if (!sender_) sender_ = from.sender;
    EXPECT_EQ(from.sender, *sender_) << "foreign";
    EXPECT_EQ(from.number, next_) << "lost or doubled";
    ++next_;
  }
  /// How many have come.
  std::uint32_t count() const noexcept { return next_; }

 private:
  std::optional<std::uint32_t> sender_;
  std::uint32_t next_ = 0;
};

/// Whether a connection that a fault has hit may end with this.
inline bool may_end_with(const std::error_code& error) {
  return error == asio::error::eof || error == asio::error::connection_reset || error == asio::error::broken_pipe ||
         error == asio::error::connection_aborted || error == asio::error::shut_down ||
         error == gtcp::Errc::PkgTruncated || error == gtcp::Errc::Closed;
}

/// Lets the server send every package back that it has checked.
inline void echo_checked(gtcp::Server& server, serving which) {
  switch (which) {
    case serving::thread:
      server.SetHandler([](gtcp::Conn conn) {
        sequence came;
        std::string pkg;
        for (;;) {
          conn.RecvPkg(pkg);
          came.check(pkg);
          conn.SendPkg(pkg);
        }
      });
      break;
    case serving::coroutine:
      server.SetHandler([](gtcp::Conn conn) -> asio::awaitable<void> {
        sequence came;
        for (;;) {
          auto receiving = conn.AsyncRecvPkg();
          std::string pkg = co_await std::move(receiving);
          came.check(pkg);
          auto sending = conn.AsyncSendPkg(std::move(pkg));
          co_await std::move(sending);
        }
      });
      break;
    case serving::pkg_handler:
      server.SetOnOpen([](gtcp::Conn& conn) { conn.UserData() = sequence(); });
      server.SetPkgHandler([](gtcp::Conn& conn, std::string_view pkg) {
        std::any_cast<sequence&>(conn.UserData()).check(pkg);
        conn.SendPkg(pkg);
      });
      break;
  }
}

/// Mostly small ones, now and then one that does not fit into anything.
inline std::size_t package_size(dice& roll) { return roll.one_in(200) ? roll(60'000) : numbered::head + roll(200); }

/// Says how to repeat the run, also of one that ends in a way in which nothing can be said any more.
inline void print_seed() {
  std::printf("GTCP_SEED=%u\n", static_cast<unsigned>(seed()));
  std::fflush(stdout);
}

}  // namespace gtcp_test

#endif
