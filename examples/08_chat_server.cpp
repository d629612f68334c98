// SPDX-License-Identifier: MIT
//
// A chat: what one client says, all get. One coroutine per connection.
//
//   chat_server [--host 127.0.0.1] [--port 8999] [--port-file FILE] [--clients N]
//
// A client's first package is its name, every further one a line. With --clients it ends when N clients have left.
// Prints, and tells all clients:
//
//   John joined
//   John: Hello, everybody!
//   John left
//
// A client that does not read as fast as the others talk must not hold them up: a package that it has no room for ends
// its connection. (Skipping the package would be another policy; SendPkgWithTimeout would hold up the others.)

#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <asio/awaitable.hpp>

#include <atomic>
#include <iostream>
#include <mutex>
#include <string>
#include <system_error>
#include <unordered_set>

namespace {

class Room {
 public:
  void Join(const gtcp::Conn& conn, const std::string& name) {
    const std::lock_guard lock(mutex_);
    members_.insert(conn);
    Broadcast(name + " joined");
  }

  void Say(const std::string& line) {
    const std::lock_guard lock(mutex_);
    Broadcast(line);
  }

  void Leave(const gtcp::Conn& conn, const std::string& name) {
    const std::lock_guard lock(mutex_);
    members_.erase(conn);
    Broadcast(name + " left");
  }

 private:
  /// Under the mutex, so that all get the same lines in the same order; nothing in here waits.
  void Broadcast(const std::string& line) {
    std::cout << line << std::endl;
    for (const gtcp::Conn& member : members_) {
      std::error_code ec;
      const bool sent = member.TrySendPkg(line, ec);
      if (!sent && !ec) member.Abort();  // no room; its receive fails, and its coroutine says goodbye
    }
  }

  std::mutex mutex_;
  std::unordered_set<gtcp::Conn> members_;
};

asio::awaitable<void> ServeClient(gtcp::Conn conn, Room& room) {
  std::error_code ec;
  const std::string name = co_await conn.AsyncRecvPkg({.MaxDataSize = 100}, ec);
  if (ec) co_return;
  room.Join(conn, name);
  for (;;) {
    const std::string line = co_await conn.AsyncRecvPkg({.MaxDataSize = 4000}, ec);  // a longer one ends it
    if (ec) break;
    room.Say(name + ": " + line);
  }
  room.Leave(conn, name);
}

}  // namespace

int main(int argc, char** argv) {
  return RunExample("chat_server", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::string port_file = options.Text("--port-file", "");
    std::atomic<int> clients = options.Number("--clients", 0, 0, 1'000'000);
    options.NoArguments();

    Room room;
    gtcp::Server server(address, [&](gtcp::Conn conn) -> asio::awaitable<void> {
      co_await ServeClient(conn, room);
      if (--clients == 0) server.Close();
    });
    server.Listen();
    WritePort(port_file, server.GetListenedPort());
    server.Run();
  });
}
