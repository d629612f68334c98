// SPDX-License-Identifier: MIT
//
// Connections that come and go, by the ten thousand: nothing is left behind.

#if defined(__linux__)

#include <gtcp/dial.hpp>

#include "support/churn.hpp"

#include <gtest/gtest.h>

#include <string>
#include <system_error>

namespace {

class Churn : public testing::TestWithParam<gtcp_test::serving> {};
INSTANTIATE_TEST_SUITE_P(Handlers, Churn, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

TEST_P(Churn, LeavesNothingBehind) {
  const gtcp_test::echo_server server(GetParam());
  gtcp_test::churn(gtcp_test::rounds(4000, 200'000), server,
                   [&](const gtcp::ConnOption& option) { return gtcp::NewConn(server->GetListenedAddress(), option); });
}

}  // namespace

#endif
