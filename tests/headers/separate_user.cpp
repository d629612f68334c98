// SPDX-License-Identifier: MIT
//
// A program that is compiled with GTCP_SEPARATE_COMPILATION: three servers, one of each kind, and clients of each kind.
#include <gtcp/gtcp.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/use_future.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace {

constexpr std::chrono::seconds long_time{30};

void must(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

void answer_in_thread(gtcp::Conn conn) {
  for (;;) conn.SendPkg(conn.RecvPkg());
}

asio::awaitable<void> answer(gtcp::Conn conn) {
  std::string pkg;
  for (;;) {
    co_await conn.AsyncRecvPkg(pkg);
    co_await conn.AsyncSendPkg(pkg);
  }
}

asio::awaitable<std::string> ask(std::string address) {
  gtcp::Conn conn = co_await gtcp::AsyncNewConn(address, long_time);
  const gtcp::Msg question{"ask", "how"};
  co_await gtcp::AsyncSendMsg(conn, question);
  const gtcp::Msg reply = co_await gtcp::AsyncRecvMsg(conn);
  co_await conn.AsyncClose();
  co_return reply.Act;
}

void ask_in_all_ways(const std::string& address) {
  const gtcp::Conn conn = gtcp::NewConn(address, long_time);
  must(conn.SendRecvPkgWithTimeout("blocking", long_time) == "blocking", "SendRecvPkg");
  must(conn.CloseAndWait(long_time), "CloseAndWait");
  const gtcp::PoolConn pooled = gtcp::NewPoolConn(address, long_time);
  must(pooled.SendRecvPkg("pooled") == "pooled", "PoolConn");
  must(gtcp::SendRecvPkg(address, "one shot") == "one shot", "one shot");
  const asio::any_io_executor io = gtcp::Runtime::Default().get_executor();
  must(asio::co_spawn(io, ask(address), asio::use_future).get() == "ask", "coroutine");
  const gtcp::Conn with_tokens = gtcp::AsyncNewConn(address, long_time, asio::use_future).get();
  std::future<std::string> reply = with_tokens.AsyncSendRecvPkg("token", asio::use_future);
  must(reply.get() == "token", "tokens");
}

}  // namespace

int main() {
  try {
    for (const gtcp::Server::Handler& handler :
         {gtcp::Server::Handler(answer_in_thread), gtcp::Server::Handler(answer), gtcp::Server::Handler()}) {
      const gtcp::Server server("127.0.0.1:0", handler);
      if (!handler) server.SetPkgHandler([](gtcp::Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
      server.Listen();
      server.Start();
      ask_in_all_ways(server.GetListenedAddress());
      gtcp::CloseIdlePoolConns();
      must(server.Shutdown(long_time).Cut == 0, "Shutdown");
    }
    std::promise<void> fired;
    gtcp::SetTimeout(std::chrono::milliseconds(1), [&fired] { fired.set_value(); });
    fired.get_future().get();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
