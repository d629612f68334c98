// SPDX-License-Identifier: MIT
//
// The client of chat_server: says the lines of its standard input, and prints what all say.
//
//   chat_client [--host 127.0.0.1] [--port 8999] [--name John]
//
// It leaves at the end of its input:
//
//   John joined
//   John: Hello, everybody!

#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <string>
#include <system_error>
#include <thread>

namespace {

void PrintWhatComes(const gtcp::Conn& conn) {
  for (;;) {
    std::error_code ec;
    const std::string line = conn.RecvPkg(ec);
    if (ec) break;
    std::cout << line << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  return RunExample("chat_client", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::string name = options.Text("--name", "John");
    options.NoArguments();

    const gtcp::Conn conn = gtcp::NewConn(address);
    conn.SendPkg(name);
    std::atomic<bool> leaving = false;
    std::thread printer([&] {
      PrintWhatComes(conn);
      if (!leaving) {
        std::cerr << "chat_client: the server has closed the connection" << std::endl;
        std::_Exit(EXIT_FAILURE);  // the main thread waits for the keyboard, which nothing portable interrupts
      }
    });

    std::error_code ec;
    for (std::string line; !ec && std::getline(std::cin, line);) conn.SendPkg(line, ec);
    leaving = true;
    conn.CloseWrite(ec);  // the server gets all lines, then sees the end, sends what is left and closes
    printer.join();
  });
}
