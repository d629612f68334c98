// SPDX-License-Identifier: MIT
//
// A server that is closed, shut down, opened again and destroyed while it serves: see support/server_chaos.hpp.

#include "support/running_server.hpp"
#include "support/server_chaos.hpp"
#include "support/stress_support.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace {

namespace chaos = gtcp_test::chaos;
using gtcp_test::serving;

class ServerChaos : public testing::TestWithParam<serving> {
  const gtcp_test::seed_report report_;
};

TEST_P(ServerChaos, EveryThreadReturnsAndEveryHandlerIsCalledOrDestroyed) {
  const chaos::access how = chaos::plain_access();
  for (int round = gtcp_test::rounds(300, 10'000); round > 0 && !HasFailure(); --round) {
    SCOPED_TRACE("round " + std::to_string(round));
    chaos::run_server_round(GetParam(), static_cast<std::uint32_t>(round), how);
  }
}

INSTANTIATE_TEST_SUITE_P(Handlers, ServerChaos, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

}  // namespace
