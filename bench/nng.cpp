// SPDX-License-Identifier: MIT

// nng, with a pair of sockets for what goes both ways and a pipeline for what goes one way. Its protocol is its own, so
// both ends are its own.

#include "bench.hpp"
#include "content.hpp"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

#include <algorithm>
#include <string>
#include <vector>

namespace bench {

namespace {

void must(int result) {
  if (result != 0) fail(std::string("nng: ") + ::nng_strerror(result));
}

/// nng's queues hold nothing unless told to.
void make_room(nng_socket socket, const char* option, std::size_t packages) {
  must(::nng_socket_set_int(socket, option, static_cast<int>(packages)));
}

void listen(nng_socket socket, const ready& tell) {
  nng_listener listener;
  must(::nng_listener_create(&listener, socket, "tcp://127.0.0.1:0"));
  must(::nng_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true));
  must(::nng_listener_start(listener, 0));
  int port = 0;
  must(::nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port));
  tell(static_cast<unsigned>(port));
}

void connect(nng_socket socket, const peer& server) {
  nng_dialer dialer;
  must(::nng_dialer_create(&dialer, socket, ("tcp://127.0.0.1:" + std::to_string(server.port)).c_str()));
  must(::nng_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true));
  must(::nng_dialer_start(dialer, 0));
}

nng_socket make_pair(const shape& how) {
  nng_socket socket;
  must(::nng_pair0_open(&socket));
  make_room(socket, NNG_OPT_SENDBUF, how.in_flight);
  make_room(socket, NNG_OPT_RECVBUF, how.in_flight);
  return socket;
}

void serve(const shape& how, const ready& tell) {
  const nng_socket socket = make_pair(how);
  listen(socket, tell);
  for (;;) {
    nng_msg* message = nullptr;
    must(::nng_recvmsg(socket, &message, 0));
    must(::nng_sendmsg(socket, message, 0));
  }
}

void send(nng_socket socket, std::string& package) { must(::nng_send(socket, package.data(), package.size(), 0)); }

std::size_t receive(nng_socket socket, std::string& package) {
  std::size_t size = package.size();
  must(::nng_recv(socket, package.data(), &size, 0));
  return size;
}

outcome ping(const shape& how, const peer& server) {
  const nng_socket socket = make_pair(how);
  connect(socket, server);
  std::string package(how.payload, '\0');
  std::string reply = package;
  fill(package.data(), package.size(), {});
  return measure_ping(how, server, [&](std::uint64_t number) {
    put_stamp(package.data(), package.size(), {number, 0});
    send(socket, package);
    if (receive(socket, reply) != package.size() || reply != package) fail("something else came back than was sent");
  });
}

outcome pipeline(const shape& how, const peer& server) {
  const nng_socket socket = make_pair(how);
  connect(socket, server);
  return measure_pipeline(
      how, server, [&](std::string& package) { send(socket, package); },
      [&](std::string& package) { return receive(socket, package); });
}

void sink(const shape& how, const ready& tell) {
  nng_socket socket;
  must(::nng_pull0_open(&socket));
  listen(socket, tell);
  counters& seen = sink_counters();
  checker check;
  std::string package(how.payload, '\0');
  for (;;) {
    const std::size_t size = receive(socket, package);
    if (!check.take(package.data(), size, how.payload)) ++seen.wrong;
    seen.packages.fetch_add(1, std::memory_order_relaxed);
  }
}

outcome blast(const shape& how, const peer& server) {
  nng_socket socket;
  must(::nng_push0_open(&socket));
  connect(socket, server);
  return measure_blast(how, [=](std::uint64_t sender) -> send_one {
    std::string package(how.payload, '\0');
    std::uint64_t number = 0;
    return [=]() mutable {
      fill(package.data(), package.size(), {number++, sender});
      send(socket, package);
    };
  });
}

}  // namespace

void add_nng(std::vector<contestant>& to) {
  to.push_back({.name = "nng", .echo = serve, .ping = ping, .pipeline = pipeline, .blast = blast, .sink = sink});
}

}  // namespace bench
