// SPDX-License-Identifier: MIT
//
// Thousands of clients whose TLS handshake stalls: see slow_client_stress_test.cpp.

#if defined(__linux__)

#include <gtcp/server_option.hpp>
#include <gtcp/tls.hpp>

#include "support/crowd.hpp"
#include "support/poll_until.hpp"
#include "support/process_stats.hpp"
#include "support/running_server.hpp"
#include "support/stress_support.hpp"
#include "support/tls_certificates.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using gtcp_test::crowd;
using gtcp_test::serving;

class StalledHandshakes : public testing::TestWithParam<serving> {};
INSTANTIATE_TEST_SUITE_P(Handlers, StalledHandshakes, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

TEST_P(StalledHandshakes, AreEndedInTimeWhileAGoodClientIsAnswered) {
  const std::chrono::milliseconds limit = gtcp_test::in_full() ? 10s : 500ms;
  const std::size_t descriptors = gtcp_test::process_stats::raise_descriptor_limit();
  gtcp::ServerOption option;
  option.ErrorCallback = [](const gtcp::Conn&, const std::exception_ptr&) {};
  const gtcp_test::echo_server server(GetParam(), option, [&](const gtcp::Server& prepared) {
    prepared.SetTLSConfig(gtcp_test::server_context(), {.HandshakeTimeout = limit});
  });
  const gtcp::Conn conn = gtcp::NewConnTLS(server->GetListenedAddress(), gtcp_test::client_context());
  gtcp_test::timed_client good([conn] { return gtcp_test::answers(conn); });

  // The beginning of a ClientHello of 512 bytes, of which the rest is a long time in coming.
  const std::string hello = "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"s;
  const std::vector<crowd::habit> habits = {{}, {.hello = hello}, {.drip = hello + std::string(400, '\0')}};
  const std::size_t at_a_time = (descriptors - 500) / 3 / 3 * 3;
  std::size_t came = 0;
  for (std::size_t left = 3 * static_cast<std::size_t>(gtcp_test::rounds(60, 3334)); left > 0;) {
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
  EXPECT_EQ(server.closed("handshake_timeout"), came);
  ASSERT_TRUE(good.end());
  std::printf("a good client was answered %zu times, p99 %lld us, at most %lld us\n", good.count(),
              static_cast<long long>(good.p99().count()), static_cast<long long>(good.longest().count()));
  if (gtcp_test::in_full()) {
    EXPECT_LT(good.longest(), 100ms);
  }
}

}  // namespace

#endif
