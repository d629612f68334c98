// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_EXIT_DRAIN_HPP
#define GTCP_DETAIL_EXIT_DRAIN_HPP

// Lets the end of the process wait, within limits, for what io threads are still delivering.

#include <gtcp/detail/platform.hpp>
#include <gtcp/runtime.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace gtcp::detail {

/// Counts connections with something left to deliver. Thread safety: all members may be called by any thread.
class exit_drain {
 public:
  static exit_drain& instance() {
    static exit_drain& drain = *new exit_drain;  // never destroyed: io threads use it until the process is gone
    return drain;
  }

  void enter(clock::time_point until) {
    const std::lock_guard lock(mutex_);
    ++count_;
    until_ = std::max(until_, until);
  }

  void leave() noexcept {
    const std::lock_guard lock(mutex_);
    if (--count_ == 0) empty_.notify_all();
  }

 private:
  exit_drain() {
    std::atexit([] { instance().wait(); });
  }

  void wait() {
    if (on_runtime_thread() || generation_ != fork_generation()) return;  // nobody is left who could deliver
    std::unique_lock lock(mutex_);
    while (count_ != 0 && clock::now() < until_) empty_.wait_until(lock, until_);
  }

  const unsigned generation_ = fork_generation();
  std::mutex mutex_;
  std::condition_variable empty_;
  std::size_t count_ = 0;
  clock::time_point until_{};
};

/// Holds the process's end off while something is left to deliver.
class exit_hold {
 public:
  exit_hold() = default;
  ~exit_hold() { release(); }
  exit_hold(const exit_hold&) = delete;
  exit_hold& operator=(const exit_hold&) = delete;

  void acquire(clock::duration at_most) {
    if (!std::exchange(held_, true)) exit_drain::instance().enter(clock::now() + at_most);
  }

  void release() noexcept {
    if (std::exchange(held_, false)) exit_drain::instance().leave();
  }

 private:
  bool held_ = false;
};

}  // namespace gtcp::detail

#endif
