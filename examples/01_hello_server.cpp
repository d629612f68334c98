// SPDX-License-Identifier: MIT
//
// The first server of the README: answers every package, one thread per connection.
//
//   hello_server                   listens on 127.0.0.1:8999
//   hello_server 127.0.0.1:0       on a free port
//
// Prints "listening on 127.0.0.1:8999".

// README: server
#include <gtcp/gtcp.hpp>

#include <iostream>

int main(int argc, char** argv) {
  gtcp::Server server(argc > 1 ? argv[1] : "127.0.0.1:8999", [](gtcp::Conn conn) {
    for (;;) conn.SendPkg("Hello, " + conn.RecvPkg() + "!");  // the connection's end ends the handler
  });
  server.Listen();
  std::cout << "listening on " << server.GetListenedAddress() << std::endl;
  server.Run();
}
// README: end
