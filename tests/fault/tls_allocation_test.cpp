// SPDX-License-Identifier: MIT

// With TLS: each allocation by operator new failing once while one connects, is served, and closes.

#include <gtcp/gtcp.hpp>
#include <gtcp/tls.hpp>

#include "support/allocation_sweep.hpp"
#include "support/running_server.hpp"
#include "support/tls_certificates.hpp"

#include <asio/awaitable.hpp>

#include <gtest/gtest.h>

#include <string>
#include <system_error>

namespace {

using namespace gtcp_test;
using gtcp::Conn;

class TlsAllocations : public testing::TestWithParam<whose> {
 protected:
  TlsAllocations() {
    gtcp::ServerOption option;
    option.ErrorCallback = [](const Conn&, const std::exception_ptr&) {};
    server_ = gtcp::Server(any_port, echo, option);
    server_.SetTLSConfig(server_context());
    server_.Start();
  }

  /// Whether an error may come of the want of memory here, or at the other end.
  static bool is_allowed(const std::error_code& error) {
    const bool of_the_other_end =
        GetParam() == whose::all_threads &&
        (error == asio::error::eof || error == asio::error::connection_reset || error == asio::error::broken_pipe ||
         error == gtcp::Errc::TlsTruncated || error == asio::error::connection_aborted);
    return !error || is_short_of_memory(error) || of_the_other_end;
  }

  void expect_to_serve() const {
    const Conn conn = gtcp::NewConnTLS(server_.GetListenedAddress(), context_);
    EXPECT_TRUE(answers(conn));
  }

  gtcp::Server server_;
  const gtcp::TLSConfig context_ = client_context();
};

INSTANTIATE_TEST_SUITE_P(Allocations, TlsAllocations, testing::Values(whose::this_thread, whose::all_threads),
                         [](const auto& one) {
                           return one.param == whose::this_thread ? "InTheCallingThread" : "InAnyThread";
                         });

TEST_P(TlsAllocations, NewConnTLS) {
  const std::string address = server_.GetListenedAddress();
  const std::string large = pattern(60'000);
  sweep_allocations(GetParam(), what_fails::operator_new, how_long::once, [&](const injection& arm) {
    Conn conn;
    std::string reply;
    failing_allocation failing = arm();
    std::error_code error = outcome_of([&](std::error_code& ec) { conn = gtcp::NewConnTLS(address, context_, ec); });
    EXPECT_TRUE(is_allowed(error)) << error.message();
    if (!error) error = outcome_of([&](std::error_code& ec) { conn.SendPkg(large, ec); });
    if (!error) error = outcome_of([&](std::error_code& ec) { reply = conn.RecvPkgWithTimeout(ceiling, ec); });
    EXPECT_TRUE(is_allowed(error)) << error.message();
    if (!error) {
      EXPECT_TRUE(reply == large);
    }
    if (conn) error = outcome_of([&](std::error_code& ec) { conn.CloseAndWait(ceiling, ec); });
    EXPECT_TRUE(is_allowed(error)) << error.message();
    const bool fired = failing.end();
    conn = Conn();
    expect_to_serve();
    return fired;
  });
}

TEST_P(TlsAllocations, AsyncNewConnTLS) {
  const std::string address = server_.GetListenedAddress();
  sweep_allocations(GetParam(), what_fails::operator_new, how_long::once, [&](const injection& arm) {
    completion_note<Conn> note;
    failing_allocation failing = arm();
    note.run([&](auto handler) { gtcp::AsyncNewConnTLS(address, context_, std::move(handler)); });
    const std::error_code error = note.wait();
    const bool fired = failing.end();
    EXPECT_TRUE(is_allowed(error)) << error.message();
    note->value = Conn();
    expect_to_serve();
    return fired;
  });
}

}  // namespace
