// SPDX-License-Identifier: MIT

#include "net.hpp"

#include "content.hpp"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace bench {

namespace {

constexpr std::size_t read_size = 256 * 1024;

void must(bool good, const char* what) {
  if (!good) fail(std::string(what) + ": " + std::strerror(errno));
}

sockaddr_in loopback(unsigned port, std::uint32_t host = 1) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x7F000000u + host);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

void send_at_once(int fd) {
  const int on = 1;
  must(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "TCP_NODELAY");
}

}  // namespace

int listen_on_loopback(unsigned& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(fd >= 0, "socket");
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  must(::bind(fd, generic, size) == 0 && ::listen(fd, 4096) == 0 && ::getsockname(fd, generic, &size) == 0, "listen");
  port = ntohs(address.sin_port);
  return fd;
}

int accept_one(int listener) {
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  must(fd >= 0, "accept");
  send_at_once(fd);
  return fd;
}

int dial(unsigned port) {
  // From many addresses in turn: the ports of one would soon all wait for the end of TIME_WAIT.
  static std::uint32_t next = static_cast<std::uint32_t>(::getpid());
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(fd >= 0, "socket");
  const int on = 1;
  ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const sockaddr_in from = loopback(0, 2 + next++ % 200);
  const sockaddr_in to = loopback(port);
  must(::bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) == 0, "bind");
  must(::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0, "connect");
  send_at_once(fd);
  return fd;
}

void set_blocking(int fd, bool blocking) {
  const int flags = ::fcntl(fd, F_GETFL);
  must(::fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0, "fcntl");
}

std::size_t read_some(int fd, char* data, std::size_t size) {
  const ssize_t n = ::recv(fd, data, size, 0);
  if (n == 0) fail("the connection ended");
  must(n > 0, "recv");
  return static_cast<std::size_t>(n);
}

void read_all(int fd, char* data, std::size_t size) {
  for (std::size_t got = 0; got < size;) got += read_some(fd, data + got, size - got);
}

void write_all(int fd, const char* data, std::size_t size) {
  for (std::size_t put = 0; put < size;) {
    const ssize_t n = ::send(fd, data + put, size - put, MSG_NOSIGNAL);
    must(n > 0, "send");
    put += static_cast<std::size_t>(n);
  }
}

void serve_sink(const shape& how, const ready& tell) {
  unsigned port = 0;
  const int listener = listen_on_loopback(port);
  tell(port);
  const int fd = accept_one(listener);
  counters& seen = sink_counters();
  checker check;
  std::vector<char> bytes(read_size);
  std::size_t held = 0;
  for (;;) {
    const ssize_t n = ::recv(fd, bytes.data() + held, bytes.size() - held, 0);
    if (n <= 0) break;
    held += static_cast<std::size_t>(n);
    std::size_t at = 0;
    std::uint64_t count = 0;
    for (; held - at >= how.frame(); at += how.frame(), ++count) {
      const std::size_t length = length_of(bytes.data() + at, how.header);
      if (!check.take(bytes.data() + at + how.header, length, how.payload)) ++seen.wrong;
    }
    std::memmove(bytes.data(), bytes.data() + at, held - at);
    held -= at;
    seen.packages.fetch_add(count, std::memory_order_relaxed);
  }
  for (;;) ::pause();
}

load::load(const shape& how, unsigned port) : how_(how), epoll_(::epoll_create1(EPOLL_CLOEXEC)), bytes_(read_size) {
  must(epoll_ >= 0, "epoll_create1");
  connections_.resize(how.connections);
  for (connection& one : connections_) {
    one.fd = dial(port);
    set_blocking(one.fd, false);
    make_ring(one);
    epoll_event event{EPOLLIN, {.ptr = &one}};
    must(::epoll_ctl(epoll_, EPOLL_CTL_ADD, one.fd, &event) == 0, "epoll_ctl");
  }
}

load::~load() {
  for (const connection& one : connections_) ::close(one.fd);
  ::close(epoll_);
}

void load::make_ring(connection& one) const {
  one.ring.resize(how_.frame() * how_.in_flight);
  for (std::size_t slot = 0; slot < how_.in_flight; ++slot) {
    char* const frame = one.ring.data() + slot * how_.frame();
    put_length(frame, how_.header, how_.payload);
    fill(frame + how_.header, how_.payload, {});
  }
}

/// Stamps the next packages in the slots of those that have come back.
void load::allow(connection& one, std::size_t packages) {
  if (limit_each_ != 0) packages = std::min(packages, limit_each_ - std::min(limit_each_, one.allowed));
  const auto sender = static_cast<std::uint64_t>(&one - connections_.data());
  for (std::size_t i = 0; i < packages; ++i, ++one.allowed) {
    char* const frame = one.ring.data() + one.allowed % how_.in_flight * how_.frame();
    put_stamp(frame + how_.header, how_.payload, {one.allowed, sender});
  }
}

void load::send(connection& one) {
  std::size_t left = one.allowed * how_.frame() - one.sent;
  while (left != 0) {
    const std::size_t at = one.sent % one.ring.size();
    const std::size_t first = std::min(left, one.ring.size() - at);
    iovec parts[2] = {{one.ring.data() + at, first}, {one.ring.data(), left - first}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = left > first ? 2 : 1;
    const ssize_t n = ::sendmsg(one.fd, &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    must(n > 0, "sendmsg");
    one.sent += static_cast<std::size_t>(n);
    left -= static_cast<std::size_t>(n);
  }
  if (one.wants_write != (left != 0)) {
    one.wants_write = left != 0;
    epoll_event event{one.wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN, {.ptr = &one}};
    must(::epoll_ctl(epoll_, EPOLL_CTL_MOD, one.fd, &event) == 0, "epoll_ctl");
  }
}

void load::receive(connection& one) {
  const ssize_t n = ::recv(one.fd, bytes_.data(), bytes_.size(), 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n == 0) fail("the server closed the connection");
  must(n > 0, "recv");
  const auto size = static_cast<std::size_t>(n);
  if (one.received + size > one.sent) fail("more came back than was sent");
  const std::size_t at = one.received % one.ring.size();
  const std::size_t first = std::min(size, one.ring.size() - at);
  if (std::memcmp(bytes_.data(), one.ring.data() + at, first) != 0 ||
      std::memcmp(bytes_.data() + first, one.ring.data(), size - first) != 0) {
    fail("something else came back than was sent");
  }
  const std::size_t before = one.received / how_.frame();
  one.received += size;
  const std::size_t packages = one.received / how_.frame() - before;
  if (packages == 0) return;
  done_ += packages;
  if (keeps_times_) {
    const double now = seconds_now();
    if (one.sent_at != 0) times_.push_back((now - one.sent_at) * 1e6);
    one.sent_at = now;
  }
  allow(one, packages);
  send(one);
}

void load::serve_ready(int wait_ms) {
  epoll_event events[512];
  const int n = ::epoll_wait(epoll_, events, 512, wait_ms);
  for (int i = 0; i < n; ++i) {
    connection& one = *static_cast<connection*>(events[i].data.ptr);
    if ((events[i].events & EPOLLOUT) != 0) send(one);
    if ((events[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive(one);
  }
}

double load::run(double seconds) {
  limit_each_ = 0;
  for (connection& one : connections_) {
    allow(one, how_.in_flight - (one.allowed - one.received / how_.frame()));
    send(one);
  }
  done_ = 0;
  for (const double end = seconds_now() + seconds; seconds_now() < end;) serve_ready(100);
  return static_cast<double>(done_);
}

void load::exchange(std::size_t packages_each) {
  limit_each_ = connections_.front().allowed + packages_each;
  done_ = 0;
  for (connection& one : connections_) {
    allow(one, std::min(packages_each, how_.in_flight));
    send(one);
  }
  const std::size_t all = packages_each * connections_.size();
  for (const double end = seconds_now() + 60; done_ < all;) {
    if (seconds_now() > end) fail("replies are missing");
    serve_ready(100);
  }
}

void load::exchange_one_by_one(std::size_t payload) {
  how_.payload = payload;
  how_.in_flight = 1;
  limit_each_ = 1;
  for (connection& one : connections_) {
    one.allowed = one.sent = one.received = 0;
    make_ring(one);
    allow(one, 1);
    send(one);
    for (const double end = seconds_now() + 60; one.received < how_.frame();) {
      if (seconds_now() > end) fail("a reply is missing");
      serve_ready(100);
    }
    std::vector<char>().swap(one.ring);
  }
}

outcome measure_load(const shape& how, const peer& server) {
  load all(how, server.port);
  all.run(how.warm_up);
  const double begin = seconds_now();
  const double processor = processor_seconds(server.pid);
  const double packages = all.run(how.seconds);
  const double took = seconds_now() - begin;
  if (packages == 0) fail("nothing came back");
  return {{packages / took}, (processor_seconds(server.pid) - processor) * 1e6 / packages};
}

}  // namespace bench
