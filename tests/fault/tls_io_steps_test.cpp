// SPDX-License-Identifier: MIT

// With TLS: every call to the layer, from the handshake on, fails once; signals that interrupt everything; SIGPIPE.

#include <gtcp/gtcp.hpp>
#include <gtcp/tls.hpp>

#include "support/child_process.hpp"
#include "support/io_steps.hpp"
#include "support/running_server.hpp"
#include "support/signal_storm.hpp"
#include "support/tls_pair.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace {

using namespace gtcp_test;
using gtcp::Conn;

class TlsIoSteps : public testing::TestWithParam<form> {
 protected:
  static std::error_code shake(form which, const Conn& conn) {
    const auto state = gtcp::detail::conn_access::state(conn);
    const auto limit = gtcp::detail::time_limit::within(ceiling);
    if (which == form::blocking) {
      std::string nothing;
      return state->receive(gtcp::detail::recv_goal::handshake(), limit, nothing);
    }
    completion_note<std::string> note;
    note.run([&](auto handler) {
      gtcp::detail::async_receive(gtcp::detail::prepared{"handshake", state}, gtcp::detail::recv_goal::handshake(),
                                  limit, std::move(handler));
    });
    return note.wait();
  }
};

INSTANTIATE_TEST_SUITE_P(Forms, TlsIoSteps, testing::ValuesIn(forms), testing::PrintToStringParamName());

TEST_P(TlsIoSteps, EachFailsOnce) {
  for (const step_fault how : all_step_faults) {
    SCOPED_TRACE("fault " + std::to_string(static_cast<int>(how)));
    sweep_steps([&](long n) {
      const auto plan = std::make_shared<step_plan>(n, how);
      auto [own, other] = connected_sockets(net::tcp);
      const gtcp::detail::native_socket descriptor = own.release();
      EXPECT_FALSE(gtcp::detail::prepare_socket(descriptor));
      answering_peer peer(make_tls_conn(std::move(other), true, {}), [](const Conn& conn) { shake_hands(conn); });
      conversation talk(GetParam());
      std::size_t answers = 0;
      bool shaken = false;
      {
        gtcp::detail::tls_settings settings;
        settings.server_name = "localhost";
        auto tls = std::make_unique<gtcp::detail::tls_transport>(descriptor, client_context(), settings);
        const Conn conn =
            gtcp::detail::make_conn(descriptor, {}, std::make_unique<failing_transport>(std::move(tls), plan, true));
        shaken = !shake(GetParam(), conn);
        if (shaken)
          answers = talk.run(conn);
        else
          conn.Abort();
      }
      expect_whole_packages(peer.packages(), talk.packages(), answers);
      // A handshake that is short of memory is not done again.
      if (how != step_fault::reset && (shaken || how != step_fault::no_memory)) {
        EXPECT_EQ(answers, talk.packages().size());
      }
      return plan->fired();
    });
    if (HasFailure()) return;
  }
}

#if defined(__unix__)

TEST(TlsSignalStorm, LeavesEverythingAlone) {
  for (const kind which : {kind::thread, kind::coroutine, kind::user_executor}) {
    running_server server(which, echo, async_echo);
    server->SetTLSConfig(server_context());
    const gtcp::TLSConfig config = client_context();
    const signal_storm storm;
    for (int i = 0; i < 30; ++i) {
      const Conn conn = gtcp::NewConnTLS(server->GetListenedAddress(), config);
      const std::string large = pattern(60'000);
      for (int k = 0; k < 20; ++k) {
        ASSERT_TRUE(answers(conn));
        ASSERT_TRUE(answers(conn, large));
      }
      std::error_code error;
      EXPECT_TRUE(conn.CloseAndWait(ceiling, error)) << error.message();
    }
    EXPECT_GT(storm.count(), 0u);
  }
}

[[noreturn]] void send_with_tls_to_one_that_has_gone() {
  ::signal(SIGPIPE, SIG_DFL);
  auto [conn, peer] = make_conn_and_tls_end();
  peer.close();
  std::error_code error;
  for (int i = 0; i < 1'000'000 && !error; ++i) conn.SendPkg("hello", error);
  if (!error) std::_Exit(1);
  conn.Close();
  conn.CloseAndWait(ceiling, error);
  std::_Exit(error ? 2 : 0);
}

TEST(TlsSigpipeDeathTest, SendsToAPeerThatHasGoneEndWithAnError) {
  expect_well_in_child(send_with_tls_to_one_that_has_gone);
}

#endif

}  // namespace
