// SPDX-License-Identifier: MIT

// An echo server of packages on gtcp, for the cost of compiling it.

#include <gtcp/server.hpp>

#include <cstdio>
#include <exception>
#include <string>

static asio::awaitable<void> answer(gtcp::Conn conn) {
  std::string package;
  for (;;) {
    co_await conn.AsyncRecvPkg(package);
    co_await conn.AsyncSendPkg(package);
  }
}

int main() {
  try {
    gtcp::Server(":8999", answer).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
