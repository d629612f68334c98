// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SESSION_THREADS_HPP
#define GTCP_DETAIL_SESSION_THREADS_HPP

// The threads in which a server's blocking handlers run, one for each connection. One that is done waits a moment for
// the next connection, since a new thread costs as much as a short connection does.

#include <gtcp/detail/platform_process.hpp>
#include <gtcp/detail/server_session.hpp>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace gtcp::detail {

/// Thread safety: all members may be called from any thread.
class session_threads : public std::enable_shared_from_this<session_threads> {
 public:
  /// Runs the session in a thread. Throws when there is none.
  void run(std::unique_ptr<server_session> session) {
    if (!inherited()) {
      const std::lock_guard lock(mutex_);
      closed_ = false;
      if (waiting_ > handed_) {
        next_[handed_++] = std::move(session);
        came_.notify_one();
        return;
      }
    }
    start(std::move(session));
  }

  /// Lets threads go that wait, until the next session comes.
  void close() noexcept {
    if (inherited()) return;
    const std::lock_guard lock(mutex_);
    closed_ = true;
    came_.notify_all();
  }

 private:
  static constexpr std::size_t most_waiting = 8;
  static constexpr std::chrono::seconds longest_wait{1};

  void start(std::unique_ptr<server_session> session) {
    std::thread([self = shared_from_this(), first = std::move(session)]() mutable {
      const std::shared_ptr<session_threads> threads = std::move(self);
      for (std::unique_ptr<server_session> one = std::move(first); one != nullptr; one = threads->next()) {
        block_signals();
        one->run();
        one.reset();
      }
    }).detach();
  }

  /// Waits for a session; none is the thread's end.
  std::unique_ptr<server_session> next() {
    if (inherited()) return nullptr;
    std::unique_lock lock(mutex_);
    if (handed_ == 0 && waiting_ != most_waiting) {
      ++waiting_;
      try {
        came_.wait_for(lock, longest_wait, [this] { return handed_ != 0 || closed_; });
      } catch (...) {  // the thread is cancelled
        --waiting_;
        pass_on(lock);
        throw;
      }
      --waiting_;
    }
    return handed_ != 0 ? std::move(next_[--handed_]) : nullptr;
  }

  /// A session that was handed to a thread that is gone goes to a new one; if there is none, its connection ends.
  void pass_on(std::unique_lock<std::mutex>& lock) noexcept {
    if (handed_ <= waiting_) return;
    std::unique_ptr<server_session> left = std::move(next_[--handed_]);
    lock.unlock();
    try {
      start(std::move(left));
    } catch (const std::exception&) {
    }
  }

  /// Whether this is a child's copy of what its parent uses: the threads are not there, and the mutex may be locked.
  bool inherited() const noexcept { return process_.is_inherited(); }

  const process_mark process_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::array<std::unique_ptr<server_session>, most_waiting> next_;  ///< for those who wait
  std::size_t handed_ = 0;                                          ///< how many of next_
  std::size_t waiting_ = 0;
  bool closed_ = false;
};

}  // namespace gtcp::detail

#endif
