// SPDX-License-Identifier: MIT
//
// The same as chaos_stress_test.cpp and server_chaos_stress_test.cpp, with TLS.

#include <gtcp/tls.hpp>

#include "support/chaos.hpp"
#include "support/conn_pair.hpp"
#include "support/running_server.hpp"
#include "support/server_chaos.hpp"
#include "support/stress_support.hpp"
#include "support/tls_certificates.hpp"
#include "support/tls_pair.hpp"

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/ssl/context.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace {

namespace chaos = gtcp_test::chaos;
using gtcp_test::serving;

/// One context for all: making one costs more than a handshake.
const std::shared_ptr<asio::ssl::context>& own_context(bool is_server) {
  static const auto server = gtcp_test::server_context();
  static const auto client = gtcp_test::client_context();
  return is_server ? server : client;
}

gtcp_test::conn_pair connect(const gtcp::ConnOption& option_of_a, const gtcp::ConnOption& option) {
  auto [first, second] = gtcp_test::connected_sockets(gtcp_test::net::tcp);
  gtcp_test::conn_pair pair{gtcp_test::make_tls_conn(std::move(first), true, option_of_a, own_context(true)),
                            gtcp_test::make_tls_conn(std::move(second), false, option, own_context(false))};
  gtcp_test::shake_hands(pair);
  return pair;
}

class TlsChaos : public testing::TestWithParam<chaos::where> {
  const gtcp_test::seed_report report_;
};

TEST_P(TlsChaos, EveryThreadReturnsAndEveryHandlerIsCalledOrDestroyed) {
  for (int round = gtcp_test::rounds(300, 34'000); round > 0 && !HasFailure(); --round) {
    SCOPED_TRACE("round " + std::to_string(round));
    chaos::run_round(GetParam(), static_cast<std::uint32_t>(round), connect);
  }
}

INSTANTIATE_TEST_SUITE_P(Executors, TlsChaos,
                         testing::Values(chaos::where::default_runtime, chaos::where::own_context,
                                         chaos::where::stopped_context),
                         [](const auto& kind) { return chaos::name_of(kind.param); });

chaos::access tls_access() {
  return {[](const gtcp::Server& server) { server.SetTLSConfig(own_context(true)); },
          [](const std::string& address, const gtcp::ConnOption& option, std::error_code& error) {
            return gtcp::NewConnTLS(address, own_context(false), chaos::client_patience, {}, option, error);
          },
          [](const std::string& address, std::function<void(std::error_code, gtcp::Conn)> done,
             asio::cancellation_slot slot) {
            gtcp::AsyncNewConnTLS(address, own_context(false), chaos::client_patience, gtcp::TLSOption(),
                                  gtcp::ConnOption(), asio::bind_cancellation_slot(slot, std::move(done)));
          },
          [](const std::string& address, std::error_code& error) {
            return gtcp::NewPoolConnTLS(address, own_context(false), chaos::client_patience, {}, {}, error);
          }};
}

class TlsServerChaos : public testing::TestWithParam<serving> {
  const gtcp_test::seed_report report_;
};

TEST_P(TlsServerChaos, EveryThreadReturnsAndEveryHandlerIsCalledOrDestroyed) {
  const chaos::access how = tls_access();
  for (int round = gtcp_test::rounds(150, 10'000); round > 0 && !HasFailure(); --round) {
    SCOPED_TRACE("round " + std::to_string(round));
    chaos::run_server_round(GetParam(), static_cast<std::uint32_t>(round), how);
  }
}

INSTANTIATE_TEST_SUITE_P(Handlers, TlsServerChaos, testing::ValuesIn(gtcp_test::all_kinds),
                         [](const auto& kind) { return gtcp_test::name_of(kind.param); });

}  // namespace
