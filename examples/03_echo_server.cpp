// SPDX-License-Identifier: MIT
//
// Sends every package back. One coroutine per connection: thousands of clients need no more than a few threads.
//
//   echo_server [--host 127.0.0.1] [--port 8999] [--port-file FILE] [--clients N]
//
// --port 0 takes a free port, and --port-file says which. With --clients it ends when N clients have left.
// Prints nothing but errors.

#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <asio/awaitable.hpp>

#include <atomic>
#include <string>
#include <system_error>
#include <utility>

int main(int argc, char** argv) {
  return RunExample("echo_server", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::string port_file = options.Text("--port-file", "");
    std::atomic<int> clients = options.Number("--clients", 0, 0, 1'000'000);
    options.NoArguments();

    gtcp::Server server(address, [&](gtcp::Conn conn) -> asio::awaitable<void> {
      std::error_code ec;
      while (!ec) {
        std::string pkg = co_await conn.AsyncRecvPkg(ec);
        if (!ec) co_await conn.AsyncSendPkg(std::move(pkg), ec);
      }
      if (--clients == 0) server.Close();
    });
    server.Listen();
    WritePort(port_file, server.GetListenedPort());
    server.Run();
  });
}
