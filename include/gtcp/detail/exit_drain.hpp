// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_EXIT_DRAIN_HPP
#define GTCP_DETAIL_EXIT_DRAIN_HPP

// Lets the end of the process wait, within limits, for what io threads are still delivering.

#include <gtcp/detail/per_process.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_process.hpp>
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
  /// For per_process. What the parent's io threads deliver is not a child's to wait for.
  exit_drain() {
    std::atexit([] { per_process<exit_drain>::instance().wait(); });
  }
  exit_drain(const exit_drain&) = delete;
  exit_drain& operator=(const exit_drain&) = delete;

  bool inherited() const noexcept { return process_.is_inherited(); }

  void enter(clock::time_point until) {
    const std::lock_guard lock(mutex_);
    ++count_;
    put_off(until);
  }

  /// One that has entered needs more time.
  void extend(clock::time_point until) {
    const std::lock_guard lock(mutex_);
    put_off(until);
  }

  void leave() noexcept {
    const std::lock_guard lock(mutex_);
    if (--count_ == 0) empty_.notify_all();
  }

 private:
  void put_off(clock::time_point until) noexcept {
    if (!ending_) until_ = std::max(until_, until);
  }

  void wait() {
    if (on_runtime_thread()) return;  // nobody is left who could deliver
    std::unique_lock lock(mutex_);
    ending_ = true;
    while (count_ != 0 && clock::now() < until_) {
      if (until_ == no_deadline)
        empty_.wait(lock);
      else
        empty_.wait_until(lock, until_);
    }
  }

  const process_mark process_;
  std::mutex mutex_;
  std::condition_variable empty_;
  std::size_t count_ = 0;
  clock::time_point until_{};
  bool ending_ = false;  ///< what is sent from now on does not put the end off
};

/// Holds the process's end off while something is left to deliver.
class exit_hold {
 public:
  exit_hold() = default;
  ~exit_hold() { release(); }
  exit_hold(const exit_hold&) = delete;
  exit_hold& operator=(const exit_hold&) = delete;

  /// Any number of times before release(): until the latest of their ends.
  void acquire(clock::time_point until) {
    if (drain_ == nullptr) {
      drain_ = &per_process<exit_drain>::instance();
      drain_->enter(until);
    } else if (!drain_->inherited()) {
      drain_->extend(until);
    }
  }

  void release() noexcept {
    exit_drain* const drain = std::exchange(drain_, nullptr);
    if (drain != nullptr && !drain->inherited()) drain->leave();
  }

 private:
  exit_drain* drain_ = nullptr;
};

}  // namespace gtcp::detail

#endif
