// SPDX-License-Identifier: MIT
//
// The first client of the README: one request, one reply.
//
//   hello_client                   asks the server on 127.0.0.1:8999
//   hello_client 127.0.0.1:9000    another one
//
// Prints "Hello, World!".

// README: client
#include <gtcp/gtcp.hpp>

#include <iostream>

int main(int argc, char** argv) {
  gtcp::Conn conn = gtcp::NewConn(argc > 1 ? argv[1] : "127.0.0.1:8999");
  std::cout << conn.SendRecvPkg("World") << std::endl;
}
// README: end
