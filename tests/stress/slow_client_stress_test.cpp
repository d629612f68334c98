// SPDX-License-Identifier: MIT
//
// Thousands of clients that say nothing, or a byte now and then: each is closed when its time is over, and whoever
// behaves notices nothing.

#if defined(__linux__)

#include <gtcp/server_option.hpp>

#include "support/conn_pair.hpp"
#include "support/crowd.hpp"
#include "support/poll_until.hpp"
#include "support/process_stats.hpp"
#include "support/running_server.hpp"
#include "support/stress_support.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>

namespace {

using namespace std::chrono_literals;
using gtcp_test::crowd;
using gtcp_test::framed;
using gtcp_test::serving;

class SlowClients : public testing::TestWithParam<serving> {};
INSTANTIATE_TEST_SUITE_P(Handlers, SlowClients, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

TEST_P(SlowClients, AreClosedInTimeWhileAGoodOneIsAnswered) {
  const std::chrono::milliseconds limit = gtcp_test::in_full() ? 10s : 500ms;
  const std::size_t descriptors = gtcp_test::process_stats::raise_descriptor_limit();
  const gtcp_test::echo_server server(GetParam(),
                                      {.FirstPkgTimeout = limit, .IdleTimeout = limit, .PkgTimeout = limit});
  gtcp_test::timed_client good(gtcp_test::ask_echo(server.port()));

  const std::string whole = framed("hello");
  const std::string drip = framed(std::string(60'000, 'x')).substr(0, 1000);
  const std::vector<crowd::habit> habits = {
      {},                                               // silent
      {.drip = drip},                                   // never comes to its first package's end
      {.hello = whole, .reply = whole},                 // silent after a package
      {.hello = whole, .reply = whole, .drip = drip}};  // never comes to its second package's end
  // A client takes a descriptor at either end, and a thread that serves it another one.
  const std::size_t at_a_time = (descriptors - 500) / 3 / 4 * 4;
  std::size_t came = 0;
  for (std::size_t left = 4 * static_cast<std::size_t>(gtcp_test::rounds(60, 2500)); left > 0;) {
    crowd clients(server.port());
    const std::size_t now = std::min(left, at_a_time);
    clients.come(now, habits);
    came += now;
    left -= now;
    ASSERT_TRUE(clients.wait_until_gone(limit + gtcp_test::ceiling));
    if (!gtcp_test::in_full()) continue;
    EXPECT_GE(clients.shortest_life(), limit - 20ms);
    EXPECT_LE(clients.longest_life(), limit + limit / 10);
    std::printf("%zu clients lived %lld to %lld ms\n", now, static_cast<long long>(clients.shortest_life() / 1ms),
                static_cast<long long>(clients.longest_life() / 1ms));
  }
  EXPECT_TRUE(gtcp_test::poll_until([&] { return server->Stats().Active == 1; }));
  EXPECT_EQ(server.closed("first_pkg_timeout"), came / 2);
  EXPECT_EQ(server.closed("idle_timeout"), came / 4);
  EXPECT_EQ(server.closed("pkg_timeout"), came / 4);
  ASSERT_TRUE(good.end());
  std::printf("a good client was answered %zu times, p99 %lld us, at most %lld us\n", good.count(),
              static_cast<long long>(good.p99().count()), static_cast<long long>(good.longest().count()));
  if (gtcp_test::in_full()) {
    EXPECT_LT(good.longest(), 100ms);
  }
}

}  // namespace

#endif
