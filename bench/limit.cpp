// SPDX-License-Identifier: MIT

// What is possible without any library: the system's calls, as few as can be, and nothing around them.

#include "bench.hpp"
#include "content.hpp"
#include "net.hpp"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace bench {

namespace {

constexpr std::size_t read_size = 256 * 1024;
constexpr std::size_t batch_size = 64 * 1024;
constexpr std::size_t copied_at_most = 16 * 1024;

/// Memory to read into; a connection has some only while it holds a part of a package.
class buffers {
 public:
  explicit buffers(std::size_t size) : size_(size) {}

  std::size_t size() const { return size_; }
  std::unique_ptr<char[]> take() {
    if (free_.empty()) return std::make_unique_for_overwrite<char[]>(size_);
    std::unique_ptr<char[]> one = std::move(free_.back());
    free_.pop_back();
    return one;
  }
  void give_back(std::unique_ptr<char[]> one) { free_.push_back(std::move(one)); }

 private:
  std::size_t size_;
  std::vector<std::unique_ptr<char[]>> free_;
};

/// Takes whole packages out of the bytes that came, and makes the reply: small ones are copied together, as they would
/// be if the reply were another one; large ones are sent from where they are.
class echo_connection {
 public:
  explicit echo_connection(int fd) : fd_(fd) {}
  ~echo_connection() { ::close(fd_); }
  echo_connection(const echo_connection&) = delete;
  echo_connection& operator=(const echo_connection&) = delete;

  int fd() const { return fd_; }
  bool sending() const { return sent_ != out_.size(); }

  /// False at the end.
  bool serve(buffers& spare, std::size_t header) {
    if (bytes_ == nullptr) bytes_ = spare.take();
    const ssize_t n = ::recv(fd_, bytes_.get() + held_, spare.size() - held_, MSG_DONTWAIT);
    if (n > 0) answer(held_ + static_cast<std::size_t>(n), header);
    if (held_ == 0) spare.give_back(std::move(bytes_));
    return n > 0 || (n < 0 && errno == EAGAIN);
  }

  void flush() {
    if (!sending()) return;
    sent_ += write(out_.data() + sent_, out_.size() - sent_);
    if (sending()) return;
    sent_ = 0;
    out_.clear();
    if (out_.capacity() > copied_at_most) std::vector<char>().swap(out_);
  }

 private:
  void answer(std::size_t size, std::size_t header) {
    std::size_t at = 0;
    while (size - at >= header) {
      const std::size_t length = length_of(bytes_.get() + at, header);
      if (size - at < header + length) break;
      append(bytes_.get() + at, header + length);
      at += header + length;
    }
    flush();
    held_ = size - at;
    std::memmove(bytes_.get(), bytes_.get() + at, held_);
  }

  void append(const char* frame, std::size_t size) {
    std::size_t done = 0;
    if (size >= copied_at_most) {
      flush();
      if (!sending()) done = write(frame, size);
    }
    out_.insert(out_.end(), frame + done, frame + size);
  }

  std::size_t write(const char* data, std::size_t size) const {
    const ssize_t n = ::send(fd_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

  int fd_;
  std::size_t held_ = 0;
  std::size_t sent_ = 0;
  std::unique_ptr<char[]> bytes_;
  std::vector<char> out_;
};

void serve_epoll(const shape& how, const ready& tell) {
  unsigned port = 0;
  const int listener = listen_on_loopback(port);
  set_blocking(listener, false);
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {.ptr = nullptr}};
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  tell(port);
  buffers spare(read_size + how.frame());
  epoll_event events[512];
  for (;;) {
    const int n = ::epoll_wait(epoll, events, 512, -1);
    for (int i = 0; i < n; ++i) {
      auto* const one = static_cast<echo_connection*>(events[i].data.ptr);
      if (one == nullptr) {
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) continue;
        event = {EPOLLIN, {.ptr = new echo_connection(fd)}};
        ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        continue;
      }
      const bool was_sending = one->sending();
      if (was_sending) {
        one->flush();
      } else if (!one->serve(spare, how.header)) {
        delete one;
        continue;
      }
      if (one->sending() != was_sending) {
        event = {one->sending() ? EPOLLOUT : EPOLLIN, {.ptr = one}};
        ::epoll_ctl(epoll, EPOLL_CTL_MOD, one->fd(), &event);
      }
    }
  }
}

void serve_blocking(const shape& how, const ready& tell) {
  unsigned port = 0;
  const int listener = listen_on_loopback(port);
  tell(port);
  const int fd = accept_one(listener);
  std::vector<char> bytes(std::max(read_size, 2 * how.frame()));
  std::size_t held = 0;
  for (;;) {
    const ssize_t n = ::recv(fd, bytes.data() + held, bytes.size() - held, 0);
    if (n <= 0) break;
    held += static_cast<std::size_t>(n);
    const std::size_t whole = held / how.frame() * how.frame();
    write_all(fd, bytes.data(), whole);
    std::memmove(bytes.data(), bytes.data() + whole, held - whole);
    held -= whole;
  }
  for (;;) ::pause();
}

outcome ping(const shape& how, const peer& server) {
  const int fd = dial(server.port);
  std::string frame(how.frame(), '\0');
  std::string reply = frame;
  put_length(frame.data(), how.header, how.payload);
  fill(frame.data() + how.header, how.payload, {});
  return measure_ping(how, server, [&](std::uint64_t number) {
    put_stamp(frame.data() + how.header, how.payload, {number, 0});
    write_all(fd, frame.data(), frame.size());
    read_all(fd, reply.data(), reply.size());
    if (reply != frame) fail("something else came back than was sent");
  });
}

/// Sends so many packages with each call of the system.
client_role blast_in(std::size_t bytes_each) {
  return [bytes_each](const shape& how, const peer& server) {
    const int fd = dial(server.port);
    const auto writing = std::make_shared<std::mutex>();
    return measure_blast(how, [=](std::uint64_t sender) -> send_one {
      const std::size_t count = std::max<std::size_t>(1, bytes_each / how.frame());
      std::vector<char> bytes(count * how.frame());
      std::uint64_t number = 0;
      return [=]() mutable {
        for (std::size_t i = 0; i < count; ++i) {
          char* const frame = bytes.data() + i * how.frame();
          put_length(frame, how.header, how.payload);
          fill(frame + how.header, how.payload, {number++, sender});
        }
        std::unique_lock<std::mutex> lock(*writing, std::defer_lock);
        if (how.threads > 1) lock.lock();
        write_all(fd, bytes.data(), bytes.size());
      };
    });
  };
}

}  // namespace

void add_limit(std::vector<contestant>& to) {
  to.push_back({.name = "limit (epoll; batches of 64 KiB)",
                .echo = serve_epoll,
                .ping = ping,
                .blast = blast_in(batch_size),
                .max_connections = 10'000});
  to.push_back({.name = "limit, blocking; one send each",
                .echo = serve_blocking,
                .ping = ping,
                .blast = blast_in(1),
                .max_connections = 1});
}

}  // namespace bench
