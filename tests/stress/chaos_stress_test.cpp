// SPDX-License-Identifier: MIT
//
// Everything at once, in any state, from any thread, inside its own callbacks: see support/chaos.hpp.

#include "support/chaos.hpp"
#include "support/conn_pair.hpp"
#include "support/stress_support.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace {

namespace chaos = gtcp_test::chaos;

class Chaos : public testing::TestWithParam<chaos::where> {
  const gtcp_test::seed_report report_;
};

TEST_P(Chaos, EveryThreadReturnsAndEveryHandlerIsCalledOrDestroyed) {
  for (int round = gtcp_test::rounds(1000, 34'000); round > 0 && !HasFailure(); --round) {
    SCOPED_TRACE("round " + std::to_string(round));
    chaos::run_round(GetParam(), static_cast<std::uint32_t>(round), [](const auto& option_of_a, const auto& option) {
      return gtcp_test::make_conn_pair(option_of_a, option);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Executors, Chaos,
                         testing::Values(chaos::where::default_runtime, chaos::where::own_context,
                                         chaos::where::stopped_context),
                         [](const auto& kind) { return chaos::name_of(kind.param); });

}  // namespace
