// SPDX-License-Identifier: MIT

// gtcp as its documentation says to use it, in each kind of handler.

#include <gtcp/dial.hpp>

#include "bench.hpp"
#include "content.hpp"
#include "gtcp_server.hpp"

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include <chrono>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace bench {

namespace {

constexpr std::size_t packages_each_call = 64;  // so that the loop around them costs nothing

std::string address_of(const peer& server) { return "127.0.0.1:" + std::to_string(server.port); }

asio::awaitable<void> answer_with_owned_strings(gtcp::Conn conn) {
  for (;;) {
    std::string package = co_await conn.AsyncRecvPkg();
    co_await conn.AsyncSendPkg(std::move(package));
  }
}

template <class Handler>
server_role handle(Handler handler, std::chrono::microseconds busy_wait = {}) {
  return serve([handler](gtcp::Server& server) { server.SetHandler(handler); }, busy_wait);
}

client_role ping(std::chrono::microseconds busy_wait = {}) {
  return [busy_wait](const shape& how, const peer& server) {
    gtcp::ConnOption option = option_for(how);
    option.BusyWait = busy_wait;
    const gtcp::Conn conn = gtcp::NewConn(address_of(server), option);
    std::string package(how.payload, '\0');
    std::string reply;
    fill(package.data(), package.size(), {});
    return measure_ping(how, server, [&](std::uint64_t number) {
      put_stamp(package.data(), package.size(), {number, 0});
      conn.SendPkg(package);
      conn.RecvPkg(reply);
      if (reply != package) fail("something else came back than was sent");
    });
  };
}

/// The client is a coroutine, too: its round trips are timed inside of it.
asio::awaitable<void> ping_in_coroutine(gtcp::Conn conn, const shape& how, pid_t server, outcome& result) {
  std::string package(how.payload, '\0');
  std::string reply;
  fill(package.data(), package.size(), {});
  std::vector<double> samples;
  const double begin = seconds_now();
  const double measured_from = begin + how.warm_up;
  double processor = 0;
  double last = begin;
  for (std::uint64_t number = 0; last < measured_from + how.seconds; ++number) {
    put_stamp(package.data(), package.size(), {number, 0});
    co_await conn.AsyncSendPkg(package);
    co_await conn.AsyncRecvPkg(reply);
    if (reply != package) fail("something else came back than was sent");
    const double now = seconds_now();
    if (last >= measured_from) {
      if (samples.empty()) processor = processor_seconds(server);
      samples.push_back((now - last) * 1e6);
    }
    last = now;
  }
  const double spent = processor_seconds(server) - processor;
  result.processor = spent * 1e6 / static_cast<double>(samples.size());
  result.values = {quantile(samples, 0.5), quantile(samples, 0.99)};
}

outcome ping_coroutine(const shape& how, const peer& server) {
  asio::io_context context(1);
  gtcp::ConnOption option = option_for(how);
  option.Executor = context.get_executor();
  gtcp::Conn conn = gtcp::NewConn(address_of(server), option);
  outcome result;
  asio::co_spawn(context, ping_in_coroutine(conn, how, server.pid, result), [&context](std::exception_ptr failure) {
    if (failure) fail("the coroutine threw");
    context.stop();
  });
  context.run();
  return result;
}

client_role blast(gtcp::SendMode mode) {
  return [mode](const shape& how, const peer& server) {
    gtcp::ConnOption option = option_for(how);
    option.Mode = mode;
    const gtcp::Conn conn = gtcp::NewConn(address_of(server), option);
    return measure_blast(how, [conn, how](std::uint64_t sender) -> send_one {
      std::string package(how.payload, '\0');
      std::uint64_t number = 0;
      return [=]() mutable {
        for (std::size_t i = 0; i < packages_each_call; ++i) {
          fill(package.data(), package.size(), {number++, sender});
          conn.SendPkg(package);
        }
      };
    });
  };
}

}  // namespace

void add_gtcp(std::vector<contestant>& to) {
  to.push_back({.name = "gtcp, blocking handler",
                .echo = handle(answer),
                .ping = ping(),
                .blast = blast(gtcp::SendMode::Buffered),
                .max_connections = 1000});
  to.push_back({.name = "gtcp, coroutine handler",
                .echo = handle(answer_in_coroutine),
                .ping = ping_coroutine,
                .max_connections = 10'000});
  to.push_back({.name = "gtcp, coroutine handler with owned strings",
                .echo = handle(answer_with_owned_strings),
                .max_connections = 10'000});
  to.push_back({.name = "gtcp, package handler",
                .echo = serve([](gtcp::Server& server) {
                  server.SetPkgHandler([](gtcp::Conn& conn, std::string_view package) { conn.SendPkg(package); });
                }),
                .ping = ping(),
                .max_connections = 10'000});
  constexpr std::chrono::microseconds busy_wait(50);
  to.push_back({.name = "gtcp, blocking handler, busy-wait of 50 us",
                .echo = handle(answer, busy_wait),
                .ping = ping(busy_wait)});
  to.push_back({.name = "gtcp, SendMode::Direct", .blast = blast(gtcp::SendMode::Direct)});
}

}  // namespace bench
