// SPDX-License-Identifier: MIT
//
// The client of heartbeat_server and of heartbeat_server_coro: one loop receives and dispatches on Act, everything else
// happens in timers.
//
//   heartbeat_client [--host 127.0.0.1] [--port 8999] [--heartbeat-ms 1000] [--hello-ms 3000]
//
// It sends a heartbeat every second, "hello" after 3 s, and leaves when the server says so:
//
//   2019-05-03 14:59:15.733 hello response message from [127.0.0.1:8999]: Nice to meet you!
//   2019-05-03 14:59:22.698 exit command from [127.0.0.1:8999]

#include "log.hpp"
#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <chrono>
#include <string>
#include <system_error>

using namespace std::chrono_literals;

namespace {

void OnHello(const gtcp::Conn& conn, const gtcp::Msg& msg) {
  Log("hello response message from [" + conn.RemoteAddr() + "]: " + msg.Data);
}

void OnExit(const gtcp::Conn& conn) {
  Log("exit command from [" + conn.RemoteAddr() + "]");
  conn.Close();  // ends the loop and the timers
}

void OnHeartbeat(const gtcp::Conn& conn) { Log("heartbeat from [" + conn.RemoteAddr() + "]"); }

}  // namespace

int main(int argc, char** argv) {
  return RunExample("heartbeat_client", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const auto heartbeat_every = options.Milliseconds("--heartbeat-ms", 1s);
    const auto hello_after = options.Milliseconds("--hello-ms", 3s);
    options.NoArguments();

    const gtcp::Conn conn = gtcp::NewConn(address);

    // Timers run on threads of their own, so a send that waits is fine in there. If the connection is over the receive
    // below says so.
    conn.SetInterval(heartbeat_every, [](gtcp::Conn server) {
      std::error_code ignored;
      gtcp::SendMsg(server, {.Act = "heartbeat"}, ignored);
    });
    conn.SetTimeout(hello_after, [](gtcp::Conn server) {
      std::error_code ignored;
      gtcp::SendMsg(server, {.Act = "hello", .Data = "My name's John!"}, ignored);
    });

    for (;;) {
      std::error_code ec;
      const gtcp::Msg msg = gtcp::RecvMsg(conn, ec);
      if (ec == gtcp::Errc::Closed) break;  // we left
      if (gtcp::IsFatal(ec)) {
        Log("server closed");
        break;
      }
      if (ec)
        Log("invalid message: " + ec.message());
      else if (msg.Act == "hello")
        OnHello(conn, msg);
      else if (msg.Act == "doexit")
        OnExit(conn);
      else if (msg.Act == "heartbeat")
        OnHeartbeat(conn);
      else
        Log("invalid message: " + gtcp::MarshalMsg(msg));
    }
  });
}
