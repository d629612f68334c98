// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_CROWD_HPP
#define GTCP_TESTS_SUPPORT_CROWD_HPP

// Thousands of clients that do as little as they can, all in one thread; and one good client, whose answers are timed.
// Linux only.

#include "support/conn_pair.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace gtcp_test {

/// Clients that the server has to get rid of.
class crowd {
 public:
  using clock = std::chrono::steady_clock;

  /// What one of them does: sends `hello`, reads `reply`, then sends the bytes of `drip`, over and over, one now and
  /// then. Its time begins when it is connected; or when it has the reply, and, if it drips then, with the first drip.
  struct habit {
    std::string hello = {};
    std::string reply = {};
    std::string drip = {};
  };

  explicit crowd(int port) : port_(port), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}
  ~crowd() {
    for (const member& one : members_) {
      if (one.descriptor != -1) ::close(one.descriptor);
    }
    ::close(epoll_);
  }
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;

  /// Connects `count` of them, one habit after the other; those that are there live on meanwhile.
  void come(std::size_t count, const std::vector<habit>& habits) {
    members_.reserve(members_.size() + count);
    for (std::size_t i = 0; i < count; ++i) {
      come(habits[i % habits.size()]);
      if (i % 16 == 0) live(clock::duration(0));
    }
  }

  /// Waits until all have been closed by the server; false: not within `longest`.
  bool wait_until_gone(clock::duration longest) {
    const clock::time_point end = clock::now() + longest;
    while (left_ != 0 && clock::now() < end) live(next_drip_ - clock::now());
    return left_ == 0;
  }

  clock::duration shortest_life() const { return std::min_element(lives_.begin(), lives_.end())[0]; }
  clock::duration longest_life() const { return std::max_element(lives_.begin(), lives_.end())[0]; }

 private:
  struct member {
    int descriptor = -1;
    clock::time_point since;
    std::string drip;
    std::size_t next = 0;
    bool begins_with_drip = false;
  };

  /// Notes who is closed, for a while at most, and drips when it is time for that.
  void live(clock::duration longest) {
    constexpr std::chrono::milliseconds between_drips{50};
    const auto pause = std::chrono::ceil<std::chrono::milliseconds>(longest).count();
    const int count = ::epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()),
                                   static_cast<int>(std::max<long long>(0, pause)));
    const clock::time_point now = clock::now();
    for (int i = 0; i < count; ++i) look(events_[static_cast<std::size_t>(i)].data.u64, now);
    if (now < next_drip_) return;
    next_drip_ = now + between_drips;
    for (member& one : members_) drip(one);
  }

  void come(const habit& what) {
    member one;
    one.descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<unsigned short>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool connected = one.descriptor != -1 &&
                           ::connect(one.descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    if (!connected) throw std::system_error(errno, std::generic_category(), "a client of the crowd");
    members_.push_back(one);
    member& here = members_.back();
    if (!what.hello.empty()) {
      if (::send(here.descriptor, what.hello.data(), what.hello.size(), MSG_NOSIGNAL) == -1)
        throw std::system_error(errno, std::generic_category(), "a client's first bytes");
      std::string reply(what.reply.size(), '\0');
      // (Even for no bytes recv would wait.)
      if (!reply.empty()) static_cast<void>(::recv(here.descriptor, reply.data(), reply.size(), MSG_WAITALL));
      if (reply != what.reply) throw std::runtime_error("a client of the crowd had no reply");
    }
    here.drip = what.drip;
    here.since = clock::now();
    here.begins_with_drip = !what.reply.empty();
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLRDHUP;
    event.data.u64 = members_.size() - 1;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, here.descriptor, &event);
    ++left_;
  }

  void look(std::size_t index, clock::time_point now) {
    member& one = members_[index];
    if (one.descriptor == -1) return;
    char bytes[64];
    const ssize_t got = ::recv(one.descriptor, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got > 0 || (got == -1 && errno == EAGAIN)) return;
    lives_.push_back(now - one.since);
    ::close(std::exchange(one.descriptor, -1));
    --left_;
  }

  static void drip(member& one) {
    if (one.descriptor == -1 || one.drip.empty()) return;
    if (std::exchange(one.begins_with_drip, false)) one.since = clock::now();
    static_cast<void>(::send(one.descriptor, &one.drip[one.next], 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    one.next = (one.next + 1) % one.drip.size();
  }

  const int port_;
  const int epoll_;
  std::vector<member> members_;
  std::vector<clock::duration> lives_;
  std::size_t left_ = 0;
  clock::time_point next_drip_ = clock::now();
  std::vector<epoll_event> events_ = std::vector<epoll_event>(1024);
};

/// Asks, in a thread of its own, again and again, and notes how long each answer takes.
class timed_client {
 public:
  using clock = std::chrono::steady_clock;

  /// `ask` returns whether it was answered.
  explicit timed_client(std::function<bool()> ask, clock::duration pause = std::chrono::milliseconds(1))
      : thread_([this, ask = std::move(ask), pause](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            const clock::time_point begin = clock::now();
            const bool answered = ask();
            if (answered) {
              times_.push_back(clock::now() - begin);
              ++count_;
            } else {
              failed_ = true;
            }
            ++turns_;
            turns_.notify_all();
            if (!answered) return;
            std::unique_lock lock(pausing_);
            pause_.wait_for(lock, stop, pause, [] { return false; });  // or until it is to end
          }
        }) {}

  std::size_t count() const noexcept { return count_; }

  /// Waits for the next answer; false: there is none.
  bool wait_for_answer() const noexcept {
    const std::size_t seen = turns_;
    if (!failed_) turns_.wait(seen);
    return !failed_;
  }

  /// Ends it; false: it was not answered at some time.
  bool end() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
    std::sort(times_.begin(), times_.end());
    return !failed_ && !times_.empty();
  }

  // After end().
  std::chrono::microseconds longest() const { return at(1); }
  std::chrono::microseconds p99() const { return at(0.99); }

 private:
  std::chrono::microseconds at(double share) const {
    const auto index = static_cast<std::size_t>(static_cast<double>(times_.size() - 1) * share);
    return std::chrono::duration_cast<std::chrono::microseconds>(times_[index]);
  }

  std::mutex pausing_;
  std::condition_variable_any pause_;
  std::vector<clock::duration> times_;
  std::atomic<std::size_t> count_{0};
  std::atomic<std::size_t> turns_{0};  ///< count_, and the failure
  std::atomic<bool> failed_{false};
  std::jthread thread_;
};

/// A question to a server that sends every package back.
inline std::function<bool()> ask_echo(int port, std::size_t header_size = 2) {
  const auto peer = std::make_shared<raw_peer>(connect_raw(port));
  return [peer, question = framed("are you there?", header_size)] {
    try {
      peer->write(question);
      return peer->read(question.size()) == question;
    } catch (const std::system_error&) {
      return false;
    }
  };
}

}  // namespace gtcp_test

#endif
