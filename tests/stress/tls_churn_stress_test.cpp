// SPDX-License-Identifier: MIT
//
// The same as churn_stress_test.cpp, with TLS.

#if defined(__linux__)

#include <gtcp/tls.hpp>

#include "support/churn.hpp"
#include "support/tls_certificates.hpp"

#include <gtest/gtest.h>

namespace {

class TlsChurn : public testing::TestWithParam<gtcp_test::serving> {};
INSTANTIATE_TEST_SUITE_P(Handlers, TlsChurn, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

TEST_P(TlsChurn, LeavesNothingBehind) {
  const gtcp_test::echo_server server(
      GetParam(), {}, [](const gtcp::Server& prepared) { prepared.SetTLSConfig(gtcp_test::server_context()); });
  const auto context = gtcp_test::client_context();
  gtcp_test::churn(gtcp_test::rounds(1000, 20'000), server, [&](const gtcp::ConnOption& option) {
    return gtcp::NewConnTLS(server->GetListenedAddress(), context, gtcp::DefaultConnTimeout, {}, option);
  });
}

}  // namespace

#endif
