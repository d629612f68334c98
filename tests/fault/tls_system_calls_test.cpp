// SPDX-License-Identifier: MIT

// With TLS: a client that shakes hands with a server of each kind, and talks to it, while each system call fails once;
// see system_calls_test.cpp.

#if defined(__linux__)

#include <gtcp/gtcp.hpp>
#include <gtcp/tls.hpp>

#include "support/system_call_sweep.hpp"
#include "support/tls_certificates.hpp"

#include <gtest/gtest.h>

#include <string>
#include <system_error>
#include <utility>

namespace {

using namespace gtcp_test;
using gtcp::Conn;

class TlsSystemCalls : public SystemCallSweep {};

INSTANTIATE_TEST_SUITE_P(Forms, TlsSystemCalls, SystemCallSweep::all_forms(), SystemCallSweep::name);

TEST_P(TlsSystemCalls, EachFailsOnce) {
  const gtcp::TLSConfig config = client_context();
  // Not on the context of the coroutine that connects, which is gone before the connection.
  const gtcp::ConnOption option{.Executor = gtcp::Runtime::Default().get_executor()};
  each_fails_once(
      [](const gtcp::Server& server) { server.SetTLSConfig(server_context()); },
      dial(
          [&](const std::string& address, std::error_code& error) { return gtcp::NewConnTLS(address, config, error); },
          [&](const std::string& address, auto handler) { gtcp::AsyncNewConnTLS(address, config, std::move(handler)); },
          [&](const std::string& address, std::error_code& error) {
            return gtcp::AsyncNewConnTLS(address, config, gtcp::DefaultConnTimeout, gtcp::TLSOption(), option, error);
          }));
}

}  // namespace

#endif
