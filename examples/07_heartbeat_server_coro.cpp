// SPDX-License-Identifier: MIT
//
// heartbeat_server with one coroutine per connection in the place of one thread: the same options, the same output.
//
//   heartbeat_server_coro [--host 127.0.0.1] [--port 8999] [--port-file FILE] [--exit-ms 10000] [--clients N]
//
//   2019-05-03 14:59:13.732 heartbeat from [127.0.0.1:51220]
//   2019-05-03 14:59:15.733 hello message from [127.0.0.1:51220]: My name's John!
//   2019-05-03 14:59:22.698 client closed
//
// Nothing in here waits in a thread: what would is awaited, and the timer's message is sent with a callback.

#include "log.hpp"
#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <asio/awaitable.hpp>
#include <asio/detached.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <system_error>

using namespace std::chrono_literals;

namespace {

void OnHeartbeat(const gtcp::Conn& conn) { Log("heartbeat from [" + conn.RemoteAddr() + "]"); }

asio::awaitable<void> OnHello(gtcp::Conn conn, gtcp::Msg msg) {
  Log("hello message from [" + conn.RemoteAddr() + "]: " + msg.Data);
  std::error_code ignored;  // if the connection is over, the next receive says so
  co_await gtcp::AsyncSendMsg(conn, {.Act = msg.Act, .Data = "Nice to meet you!"}, ignored);
}

asio::awaitable<void> ServeClient(gtcp::Conn conn, std::chrono::milliseconds exit_after) {
  conn.SetTimeout(exit_after, [](gtcp::Conn client) { gtcp::AsyncSendMsg(client, {.Act = "doexit"}, asio::detached); });

  for (;;) {
    std::error_code ec;
    const gtcp::Msg msg = co_await gtcp::AsyncRecvMsg(conn, ec);
    if (gtcp::IsFatal(ec)) break;
    if (ec)
      Log("invalid message: " + ec.message());  // a package that is no message: the next one may be
    else if (msg.Act == "heartbeat")
      OnHeartbeat(conn);
    else if (msg.Act == "hello")
      co_await OnHello(conn, msg);
    else
      Log("invalid message: " + gtcp::MarshalMsg(msg));
  }
  Log("client closed");
}

}  // namespace

int main(int argc, char** argv) {
  return RunExample("heartbeat_server_coro", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::string port_file = options.Text("--port-file", "");
    const auto exit_after = options.Milliseconds("--exit-ms", 10s);
    std::atomic<int> clients = options.Number("--clients", 0, 0, 1'000'000);
    options.NoArguments();

    gtcp::Server server(address, [&](gtcp::Conn conn) -> asio::awaitable<void> {
      co_await ServeClient(conn, exit_after);
      if (--clients == 0) server.Close();
    });
    server.Listen();
    WritePort(port_file, server.GetListenedPort());
    server.Run();
  });
}
