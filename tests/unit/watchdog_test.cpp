// SPDX-License-Identifier: MIT

#include <gtcp/detail/watchdog.hpp>

#include "support/conn_pair.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gtcp::Conn;
using gtcp::detail::clock;
using gtcp::detail::watchdog;

TEST(Watchdog, ForgetsConnectionsThatHaveEndedLongBeforeTheirTime) {
  const auto dog = std::make_shared<watchdog>();
  const auto watch = [&dog](const Conn& conn) {
    dog->watch(gtcp::detail::conn_access::state(conn), clock::now() + 24h);
  };
  std::vector<gtcp_test::conn_pair> stay;
  for (int i = 0; i < 100; ++i) watch(stay.emplace_back(gtcp_test::make_conn_pair()).a);
  for (int i = 0; i < 2000; ++i) {
    const gtcp_test::conn_pair goes = gtcp_test::make_conn_pair();
    watch(goes.a);
    goes.a.Abort();
  }
  EXPECT_GE(dog->size(), stay.size());
  EXPECT_LE(dog->size(), 600u);
}

}  // namespace
