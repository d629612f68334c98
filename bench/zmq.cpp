// SPDX-License-Identifier: MIT

// ZeroMQ with the sockets that its guide takes for each job, defaults but for what is said here. Its protocol is its
// own, so both ends are its own.

#include "bench.hpp"
#include "content.hpp"

#include <zmq.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

namespace bench {

namespace {

void must(bool good) {
  if (!good) fail(std::string("ZeroMQ: ") + ::zmq_strerror(::zmq_errno()));
}

/// A socket in a context of its own; neither is ever closed, for the process ends by itself.
void* make_socket(int type) {
  void* const socket = ::zmq_socket(::zmq_ctx_new(), type);
  must(socket != nullptr);
  return socket;
}

void* listen(int type, const ready& tell) {
  void* const socket = make_socket(type);
  std::array<char, 128> endpoint{};
  std::size_t size = endpoint.size();
  must(::zmq_bind(socket, "tcp://127.0.0.1:*") == 0);
  must(::zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint.data(), &size) == 0);
  const std::string text = endpoint.data();
  tell(static_cast<unsigned>(std::strtoul(text.c_str() + text.rfind(':') + 1, nullptr, 10)));
  return socket;
}

void* connect(int type, const peer& server) {
  void* const socket = make_socket(type);
  must(::zmq_connect(socket, ("tcp://127.0.0.1:" + std::to_string(server.port)).c_str()) == 0);
  return socket;
}

/// ROUTER: answers whoever asks, without turns.
void serve(const shape&, const ready& tell) {
  void* const socket = listen(ZMQ_ROUTER, tell);
  for (;;) {
    zmq_msg_t part;
    ::zmq_msg_init(&part);
    must(::zmq_msg_recv(&part, socket, 0) >= 0);
    must(::zmq_msg_send(&part, socket, ::zmq_msg_more(&part) != 0 ? ZMQ_SNDMORE : 0) >= 0);
  }
}

void send(void* socket, const std::string& package) {
  must(::zmq_send(socket, package.data(), package.size(), 0) == static_cast<int>(package.size()));
}

outcome ping(const shape& how, const peer& server) {
  void* const socket = connect(ZMQ_DEALER, server);
  std::string package(how.payload, '\0');
  std::string reply = package;
  fill(package.data(), package.size(), {});
  return measure_ping(how, server, [&](std::uint64_t number) {
    put_stamp(package.data(), package.size(), {number, 0});
    send(socket, package);
    const int size = ::zmq_recv(socket, reply.data(), reply.size(), 0);
    if (size != static_cast<int>(package.size()) || reply != package) fail("something else came back than was sent");
  });
}

outcome pipeline(const shape& how, const peer& server) {
  void* const socket = connect(ZMQ_DEALER, server);
  return measure_pipeline(
      how, server, [&](std::string& package) { send(socket, package); },
      [&](std::string& package) {
        const int size = ::zmq_recv(socket, package.data(), package.size(), 0);
        must(size >= 0);
        return static_cast<std::size_t>(size);
      });
}

void sink(const shape& how, const ready& tell) {
  void* const socket = listen(ZMQ_PULL, tell);
  counters& seen = sink_counters();
  checker check;
  std::string package(how.payload, '\0');
  for (;;) {
    const int size = ::zmq_recv(socket, package.data(), package.size(), 0);
    if (!check.take(package.data(), static_cast<std::size_t>(size), how.payload)) ++seen.wrong;
    seen.packages.fetch_add(1, std::memory_order_relaxed);
  }
}

/// Its sockets are for one thread at a time: several need a mutex.
outcome blast(const shape& how, const peer& server) {
  void* const socket = connect(ZMQ_PUSH, server);
  const auto sending = std::make_shared<std::mutex>();
  return measure_blast(how, [=](std::uint64_t sender) -> send_one {
    std::string package(how.payload, '\0');
    std::uint64_t number = 0;
    return [=]() mutable {
      fill(package.data(), package.size(), {number++, sender});
      std::unique_lock lock(*sending, std::defer_lock);
      if (how.threads > 1) lock.lock();
      send(socket, package);
    };
  });
}

}  // namespace

void add_zmq(std::vector<contestant>& to) {
  to.push_back({.name = "ZeroMQ", .echo = serve, .ping = ping, .pipeline = pipeline, .blast = blast, .sink = sink});
}

}  // namespace bench
