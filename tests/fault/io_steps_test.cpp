// SPDX-License-Identifier: MIT

// Every call to the transport of a connection fails once: with an error for good, with one for now, by saying that one
// must wait, by moving a single byte.

#include <gtcp/gtcp.hpp>

#include "support/conn_pair.hpp"
#include "support/io_steps.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

namespace {

using namespace gtcp_test;

class IoSteps : public testing::TestWithParam<form> {};

INSTANTIATE_TEST_SUITE_P(Forms, IoSteps, testing::ValuesIn(forms), testing::PrintToStringParamName());

TEST_P(IoSteps, EachFailsOnce) {
  for (const step_fault how : all_step_faults) {
    SCOPED_TRACE("fault " + std::to_string(static_cast<int>(how)));
    sweep_steps([&](long n) {
      const auto plan = std::make_shared<step_plan>(n, how);
      auto [own, other] = connected_sockets(net::tcp);
      const gtcp::detail::native_socket descriptor = own.release();
      EXPECT_FALSE(gtcp::detail::prepare_socket(descriptor));
      answering_peer peer(gtcp::NewConnByNetConn(other.release()));
      conversation talk(GetParam());
      std::size_t answers = 0;
      {
        auto plain = std::make_unique<gtcp::detail::plain_transport>(descriptor);
        const gtcp::Conn conn =
            gtcp::detail::make_conn(descriptor, {}, std::make_unique<failing_transport>(std::move(plain), plan, false));
        answers = talk.run(conn);
      }
      expect_whole_packages(peer.packages(), talk.packages(), answers);
      if (how != step_fault::reset) {
        EXPECT_EQ(answers, talk.packages().size());
      }
      return plan->fired();
    });
    if (HasFailure()) return;
  }
}

}  // namespace
