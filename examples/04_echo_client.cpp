// SPDX-License-Identifier: MIT
//
// Sends its arguments, or without any the lines of its standard input, each as a package, and prints the replies.
//
//   echo_client [--host 127.0.0.1] [--port 8999] [text...]
//
// "echo_client one two" prints "one" and "two", each on a line.

#include "options.hpp"

#include <gtcp/gtcp.hpp>

#include <chrono>
#include <iostream>
#include <string>
#include <vector>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  return RunExample("echo_client", argc, argv, [](Options& options) {
    const std::string address = options.Address();
    const std::vector<std::string> texts = options.Arguments();

    const gtcp::Conn conn = gtcp::NewConn(address);
    const auto ask = [&](const std::string& text) { std::cout << conn.SendRecvPkgWithTimeout(text, 10s) << std::endl; };
    for (const std::string& text : texts) ask(text);
    if (texts.empty()) {
      for (std::string line; std::getline(std::cin, line);) ask(line);
    }
  });
}
