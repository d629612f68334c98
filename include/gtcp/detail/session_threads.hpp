// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SESSION_THREADS_HPP
#define GTCP_DETAIL_SESSION_THREADS_HPP

// The threads in which a server's blocking handlers run, one for each connection. One that is done waits a moment for
// the next connection, since a new thread costs as much as a short connection does.

#include <gtcp/detail/platform.hpp>
#include <gtcp/detail/server_session.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
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
      if (waiting_ != 0 && next_ == nullptr) {
        next_ = std::move(session);
        came_.notify_one();
        return;
      }
    }
    std::thread([self = shared_from_this(), first = std::move(session)]() mutable {
      const std::shared_ptr<session_threads> threads = std::move(self);
      for (std::unique_ptr<server_session> one = std::move(first); one != nullptr; one = threads->next()) {
        block_signals();
        one->run();
        one.reset();
      }
    }).detach();
  }

  /// Lets threads go that wait, until the next session comes.
  void close() noexcept {
    if (inherited()) return;
    const std::lock_guard lock(mutex_);
    closed_ = true;
    came_.notify_all();
  }

 private:
  /// Waits for a session; none is the thread's end.
  std::unique_ptr<server_session> next() {
    constexpr std::size_t most = 8;
    constexpr std::chrono::seconds longest{1};
    if (inherited()) return nullptr;
    std::unique_lock lock(mutex_);
    if (waiting_ == most) return nullptr;
    struct counted {
      std::size_t& waiting;
      explicit counted(std::size_t& count) : waiting(count) { ++waiting; }
      ~counted() { --waiting; }
    };
    const counted during(waiting_);  // also when the thread is cancelled
    came_.wait_for(lock, longest, [this] { return next_ != nullptr || closed_; });
    return std::exchange(next_, nullptr);
  }

  /// Whether this is a child's copy of what its parent uses: the threads are not there, and the mutex may be locked.
  bool inherited() const noexcept { return born_ != fork_generation(); }

  const unsigned born_ = fork_generation();
  std::mutex mutex_;
  std::condition_variable came_;
  std::unique_ptr<server_session> next_;
  std::size_t waiting_ = 0;
  bool closed_ = false;
};

}  // namespace gtcp::detail

#endif
