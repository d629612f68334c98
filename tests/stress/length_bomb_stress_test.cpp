// SPDX-License-Identifier: MIT
//
// Clients that announce far more than they send: memory follows what came.

#if defined(__linux__)

#include <gtcp/server_option.hpp>

#include "support/conn_pair.hpp"
#include "support/crowd.hpp"
#include "support/poll_until.hpp"
#include "support/process_stats.hpp"
#include "support/running_server.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using gtcp_test::poll_until;
using gtcp_test::raw_peer;
using gtcp_test::serving;
namespace process_stats = gtcp_test::process_stats;

constexpr std::size_t bombers = 100;
[[maybe_unused]] constexpr std::size_t allowed = bombers * 64 * 1024;

class LengthBomb : public testing::TestWithParam<serving> {
 protected:
  LengthBomb() : server_(GetParam(), option()) {
    // What the first connections cost once: threads, their stacks, what they share.
    for (int i = 0; i < 2; ++i) {
      const std::uint64_t bytes = server_->Stats().Conns.BytesIn;
      const std::vector<raw_peer> first = bomb(std::string("\0\0\0\2", 4));
      EXPECT_TRUE(poll_until([&] { return server_->Stats().Conns.BytesIn == bytes + bombers * 4; }));
    }
    EXPECT_TRUE(poll_until([&] { return server_->Stats().Active == 0; }));
    before_ = process_stats::resident();
  }

  static gtcp::ServerOption option() {
    gtcp::ServerOption option;
    option.Conn.Pkg = {.HeaderSize = 4, .MaxDataSize = max_size};
    option.ErrorCallback = [](const gtcp::Conn&, const std::exception_ptr&) {};
    return option;
  }

  std::vector<raw_peer> bomb(const std::string& header) const {
    std::vector<raw_peer> all;
    for (std::size_t i = 0; i < bombers; ++i) {
      all.push_back(server_.connect_raw());
      all.back().write(header);
    }
    return all;
  }

  void expect_flat() const {
    const std::size_t now = process_stats::resident();
    std::printf("%zu KiB before, %zu KiB with them\n", before_ / 1024, now / 1024);
#if !GTCP_TESTS_SANITIZED  // whose memory is about other things
    EXPECT_LT(now, before_ + allowed);
#endif
  }

  static constexpr std::size_t max_size = (std::size_t{1} << 30) + 1;
  gtcp_test::echo_server server_;
  std::size_t before_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Handlers, LengthBomb, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

TEST_P(LengthBomb, OfMoreThanIsAllowedEndsItsConnection) {
  std::vector<raw_peer> all = bomb("\xFF\xFF\xFF\xFF");
  for (raw_peer& peer : all) EXPECT_TRUE(gtcp_test::is_over(peer));
  EXPECT_TRUE(poll_until([&] { return server_.closed("pkg_too_large") == bombers; }));
  expect_flat();
  EXPECT_TRUE(gtcp_test::ask_echo(server_.port(), 4)());
}

TEST_P(LengthBomb, OfWhatIsAllowedCostsNothing) {
  const std::uint64_t bytes = server_->Stats().Conns.BytesIn;
  std::vector<raw_peer> all = bomb(std::string("\x40\0\0\0", 4));
  EXPECT_TRUE(poll_until([&] { return server_->Stats().Conns.BytesIn == bytes + bombers * 4; }));
  expect_flat();
  // Nor do some bytes of it.
  for (raw_peer& peer : all) peer.write(std::string(100, 'x'));
  EXPECT_TRUE(poll_until([&] { return server_->Stats().Conns.BytesIn == bytes + bombers * 104; }));
  expect_flat();
  EXPECT_EQ(server_->Stats().Active, bombers);
  EXPECT_TRUE(gtcp_test::ask_echo(server_.port(), 4)());
}

}  // namespace

#endif
