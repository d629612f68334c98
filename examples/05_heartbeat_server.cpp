// SPDX-License-Identifier: MIT
//
// A server that talks with each client in both directions: one loop receives and dispatches on Act, everything else
// happens in timers. One thread per connection. Run it, then heartbeat_client:
//
//   heartbeat_server [--host 127.0.0.1] [--port 8999] [--port-file FILE] [--exit-ms 10000] [--clients N]
//
// It logs heartbeats, answers "hello", and 10 s after a client has connected tells it to exit:
//
//   2019-05-03 14:59:13.732 heartbeat from [127.0.0.1:51220]
//   2019-05-03 14:59:14.732 heartbeat from [127.0.0.1:51220]
//   2019-05-03 14:59:15.733 heartbeat from [127.0.0.1:51220]
//   2019-05-03 14:59:15.733 hello message from [127.0.0.1:51220]: My name's John!
//   ...
//   2019-05-03 14:59:22.698 client closed
//
// --port 0 takes a free port, and --port-file says which. With --clients it ends when N clients have left.

#include "log.hpp"
#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <system_error>

using namespace std::chrono_literals;

namespace {

void OnHeartbeat(const gtcp::Conn& conn) { Log("heartbeat from [" + conn.RemoteAddr() + "]"); }

void OnHello(const gtcp::Conn& conn, const gtcp::Msg& msg) {
  Log("hello message from [" + conn.RemoteAddr() + "]: " + msg.Data);
  std::error_code ignored;  // if the connection is over, the next receive says so
  gtcp::SendMsg(conn, {.Act = msg.Act, .Data = "Nice to meet you!"}, ignored);
}

void ServeClient(const gtcp::Conn& conn, std::chrono::milliseconds exit_after) {
  // The timer ends with the connection and does not keep it: the job gets the Conn, it does not capture one.
  conn.SetTimeout(exit_after, [](gtcp::Conn client) {
    std::error_code ignored;  // the client may have left by itself in this moment
    gtcp::SendMsg(client, {.Act = "doexit"}, ignored);
  });

  for (;;) {
    std::error_code ec;
    const gtcp::Msg msg = gtcp::RecvMsg(conn, ec);
    if (gtcp::IsFatal(ec)) break;
    if (ec)
      Log("invalid message: " + ec.message());  // a package that is no message: the next one may be
    else if (msg.Act == "heartbeat")
      OnHeartbeat(conn);
    else if (msg.Act == "hello")
      OnHello(conn, msg);
    else
      Log("invalid message: " + gtcp::MarshalMsg(msg));
  }
  Log("client closed");
}

}  // namespace

int main(int argc, char** argv) {
  return RunExample("heartbeat_server", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::string port_file = options.Text("--port-file", "");
    const auto exit_after = options.Milliseconds("--exit-ms", 10s);
    std::atomic<int> clients = options.Number("--clients", 0, 0, 1'000'000);
    options.NoArguments();

    gtcp::Server server(address, [&](gtcp::Conn conn) {
      ServeClient(conn, exit_after);
      if (--clients == 0) server.Close();
    });
    server.Listen();
    WritePort(port_file, server.GetListenedPort());
    server.Run();
  });
}
