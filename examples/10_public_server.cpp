// SPDX-License-Identifier: MIT
//
// Sends every package back, as echo_server does, but to strangers: with limits, and with an end that loses nothing.
//
//   public_server [--host 127.0.0.1] [--port 8999] [--port-file FILE] [--grace 5000]
//
// Serves until SIGINT or SIGTERM, then lets its connections finish for at most --grace milliseconds. Prints what became
// of them, and its statistics as Prometheus reads them.

#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <chrono>
#include <csignal>
#include <iostream>
#include <string>
#include <system_error>
#include <utility>

int main(int argc, char** argv) {
  using namespace std::chrono_literals;
  return RunExample("public_server", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::string port_file = options.Text("--port-file", "");
    const std::chrono::milliseconds grace = options.Milliseconds("--grace", 5s);
    options.NoArguments();

    gtcp::ServerOption limits;
    limits.MaxConns = 10'000;
    limits.MaxConnsPerAddress = 100;
    limits.FirstPkgTimeout = 5s;
    limits.IdleTimeout = 60s;
    limits.PkgTimeout = 10s;
    limits.SendStallTimeout = 10s;
    limits.MaxReceiveMemory = 64 << 20;
    gtcp::Server server(
        address,
        [](gtcp::Conn conn) -> asio::awaitable<void> {
          // The connection's end, and the server's (Errc::Draining), end the handler.
          for (;;) {
            std::string pkg = co_await conn.AsyncRecvPkg();
            co_await conn.AsyncSendPkg(std::move(pkg));
          }
        },
        limits);
    // Before there is anybody else to get them.
    asio::io_context context;
    asio::signal_set signals(context, SIGINT, SIGTERM);
    server.Listen();
    server.Start();
    WritePort(port_file, server.GetListenedPort());

    signals.async_wait([](std::error_code, int) {});
    context.run();
    const gtcp::ShutdownResult result = server.Shutdown(grace);
    std::cout << "drained " << result.Drained << ", cut off " << result.Cut << '\n'
              << gtcp::FormatPrometheus(server.Stats());
  });
}
