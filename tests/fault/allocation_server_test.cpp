// SPDX-License-Identifier: MIT

// A server of each kind, with each allocation of whatever thread failing once while it begins, accepts, serves and
// ends: what comes of it is an error where it begins, else at most the connection that it happened on. The next client
// is served.

#include <gtcp/gtcp.hpp>

#include "support/allocation_sweep.hpp"
#include "support/running_server.hpp"

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <system_error>

namespace {

using namespace gtcp_test;
using gtcp::Conn;
using gtcp::Server;

enum class served_by { thread, coroutine, packages };

class ServerAllocations : public testing::TestWithParam<served_by> {
 protected:
  static Server make(bool limited = false) {
    gtcp::ServerOption option;
    option.ErrorCallback = [](const Conn&, const std::exception_ptr&) {};
    if (limited) {
      option.MaxConnsPerAddress = 100;
      option.IdleTimeout = std::chrono::hours(1);
      option.PkgTimeout = std::chrono::hours(1);
      option.MaxReceiveMemory = 1 << 20;
    }
    switch (GetParam()) {
      case served_by::thread: return Server(any_port, echo, option);
      case served_by::coroutine: return Server(any_port, async_echo, option);
      case served_by::packages: break;
    }
    Server server(any_port, nullptr, option);
    server.SetPkgHandler([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
    return server;
  }

  /// A client that is not to blame: it gets its answer, or the end of its connection.
  static void visit(const std::string& address) {
    const exempt_thread exempted;
    const Conn conn = gtcp::NewConn(address);
    std::error_code error;
    conn.SendPkg("hello", error);
    std::string reply;
    if (!error) reply = conn.RecvPkgWithTimeout(ceiling, error);
    const bool is_end = error == asio::error::eof || error == asio::error::connection_reset ||
                        error == asio::error::broken_pipe || error == gtcp::Errc::PkgTruncated;
    EXPECT_TRUE(is_end || reply == "hello") << error.message() << reply;
  }

  static void expect_to_serve(const std::string& address) {
    const Conn conn = gtcp::NewConn(address);
    EXPECT_TRUE(answers(conn)) << "the next client is not served";
  }
};

INSTANTIATE_TEST_SUITE_P(Handlers, ServerAllocations,
                         testing::Values(served_by::thread, served_by::coroutine, served_by::packages),
                         [](const auto& one) {
                           switch (one.param) {
                             case served_by::thread: return "Thread";
                             case served_by::coroutine: return "Coroutine";
                             case served_by::packages: return "Packages";
                           }
                           return "";
                         });

TEST_P(ServerAllocations, ListenAndStart) {
  sweep_allocations(whose::this_thread, what_fails::operator_new, how_long::once, [](const injection& arm) {
    Server server = make();
    failing_allocation failing = arm();
    const std::error_code listens = outcome_of([&](std::error_code& ec) { server.Listen(ec); });
    const std::error_code starts = outcome_of([&](std::error_code& ec) { server.Start(ec); });
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(listens);
    EXPECT_DONE_OR_SHORT_OF_MEMORY(starts);
    if (starts) {
      server.Listen();
      server.Start();
    }
    expect_to_serve(server.GetListenedAddress());
    return fired;
  });
}

TEST_P(ServerAllocations, Make) {
  sweep_allocations(whose::this_thread, what_fails::operator_new, how_long::once, [](const injection& arm) {
    failing_allocation failing = arm();
    const std::error_code made = outcome_of([&](std::error_code& ec) {
      Server server = make();
      server.Start(ec);
      if (!ec) expect_to_serve(server.GetListenedAddress());
    });
    EXPECT_DONE_OR_SHORT_OF_MEMORY(made);
    return failing.end();
  });
}

TEST_P(ServerAllocations, AcceptServeAndClose) {
  for (const bool limited : {false, true}) {
    sweep_allocations(whose::all_threads, what_fails::operator_new, how_long::once, [&](const injection& arm) {
      Server server = make(limited);
      server.Start();
      const std::string address = server.GetListenedAddress();
      failing_allocation failing = arm();
      visit(address);
      visit(address);
      const bool fired = failing.end();
      expect_to_serve(address);
      failing_allocation again = arm();
      server.Close();
      const bool fired_again = again.end();
      EXPECT_TRUE(server.CloseAndWait(ceiling));
      return fired || fired_again;
    });
    if (HasFailure()) return;
  }
}

TEST_P(ServerAllocations, AsyncRun) {
  sweep_allocations(whose::all_threads, what_fails::operator_new, how_long::once, [](const injection& arm) {
    Server server = make();
    server.Listen();
    const std::string address = server.GetListenedAddress();
    completion_note<int> ended;
    failing_allocation failing = arm();
    ended.run([&](auto handler) { server.AsyncRun(std::move(handler)); });
    // Where it could not begin, nobody answers.
    const auto ask = [&] {
      const exempt_thread exempted;
      std::error_code error;
      const Conn conn = gtcp::NewConn(address, error);
      if (!error) conn.SendPkg("hello", error);
      std::string reply;
      poll_until([&] { return error || ended->calls != 0 || conn.TryRecvPkg(reply, error); });
      return reply == "hello";
    };
    ask();
    const bool fired = failing.end();
    EXPECT_TRUE(ask() || poll_until([&] { return ended->calls != 0; })) << "the next client is not served";
    server.Close();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(ended.wait());
    return fired;
  });
}

TEST_P(ServerAllocations, Shutdown) {
  sweep_allocations(whose::all_threads, what_fails::operator_new, how_long::once, [](const injection& arm) {
    Server server = make();
    server.Start();
    const Conn conn = gtcp::NewConn(server.GetListenedAddress());
    EXPECT_TRUE(answers(conn));
    gtcp::ShutdownResult result;
    failing_allocation failing = arm();
    const std::error_code error = outcome_of([&](std::error_code&) { result = server.Shutdown(ceiling); });
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    if (!error) {
      EXPECT_EQ(result.Drained + result.Cut, 1u);
    } else {
      server.Close();
    }
    EXPECT_TRUE(has_ended(conn));
    return fired;
  });
}

}  // namespace
