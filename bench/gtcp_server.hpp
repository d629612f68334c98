// SPDX-License-Identifier: MIT
#ifndef GTCP_BENCH_GTCP_SERVER_HPP
#define GTCP_BENCH_GTCP_SERVER_HPP

// Echo servers on gtcp.

#include <gtcp/server.hpp>

#include "bench.hpp"

#include <asio/awaitable.hpp>

#include <chrono>
#include <exception>
#include <string>
#include <system_error>

namespace bench {

inline gtcp::ConnOption option_for(const shape& how) { return {.Pkg = {.HeaderSize = static_cast<int>(how.header)}}; }

/// One io thread, as the limit has one thread.
template <class SetUp>
server_role serve(SetUp set_up, std::chrono::microseconds busy_wait = {}) {
  return [=](const shape& how, const ready& tell) {
    gtcp::Runtime::Default().SetThreads(1);
    gtcp::ServerOption option{.Conn = option_for(how)};
    option.Conn.BusyWait = busy_wait;
    option.ErrorCallback = [](const gtcp::Conn&, std::exception_ptr) {};  // clients that reset are no news
    gtcp::Server server("127.0.0.1:0", nullptr, option);
    set_up(server);
    server.Listen();
    tell(static_cast<unsigned>(server.GetListenedPort()));
    server.Run();
  };
}

// With error codes, as raw Asio's server: what ends a connection is not thrown.

inline void answer(gtcp::Conn conn) {
  std::string package;
  for (std::error_code error; !error;) {
    conn.RecvPkg(package, error);
    if (!error) conn.SendPkg(package, error);
  }
}

inline asio::awaitable<void> answer_in_coroutine(gtcp::Conn conn) {
  std::string package;
  for (std::error_code error; !error;) {
    co_await conn.AsyncRecvPkg(package, error);
    if (!error) co_await conn.AsyncSendPkg(package, error);
  }
}

}  // namespace bench

#endif
