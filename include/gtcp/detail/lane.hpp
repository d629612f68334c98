// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_LANE_HPP
#define GTCP_DETAIL_LANE_HPP

// Admits one receive at a time to the input of a connection, first come first served. A waiter is a blocked thread,
// an asynchronous operation, or the connection's own closing; the lane does not know which.

#include <atomic>
#include <mutex>
#include <utility>

namespace gtcp::detail {

/// One that waits for the lane. Lives where its owner put it, until it was granted or withdrawn.
class lane_waiter {
 public:
  /// Called under the connection's mutex when the lane is handed over. A thread wakes itself here and returns false;
  /// what returns true is run by the one who handed over, by resume(), after the mutex was released.
  virtual bool granted() = 0;

  /// Goes on as the holder of the lane, without waiting. Returns the next waiter that it handed the lane to and that
  /// must be resumed, or nullptr; so that a long queue of short operations costs no stack.
  [[nodiscard]] virtual lane_waiter* resume() = 0;

 protected:
  ~lane_waiter() = default;

 private:
  friend class lane;
  lane_waiter* next_ = nullptr;
  lane_waiter* previous_ = nullptr;
  bool queued_ = false;
};

/// Thread safety: try_lock and unlock may be called by any thread; everything else under the mutex given to the
/// constructor.
class lane {
 public:
  explicit lane(std::mutex& mutex) : mutex_(mutex) {}

  /// Takes the lane if it is free. The only step that an uncontended receive pays for.
  bool try_lock() noexcept {
    state expected = state::free;
    return state_.compare_exchange_strong(expected, state::held, std::memory_order_acquire, std::memory_order_relaxed);
  }

  /// Takes the lane, or queues the waiter and returns false. Under the mutex.
  bool lock_or_queue(lane_waiter& waiter) noexcept {
    state expected = state::free;
    // Whoever holds the lane sees that somebody is queued before it can leave: both are changes of the same atomic.
    while (!state_.compare_exchange_weak(expected, expected == state::free ? state::held : state::held_and_queued,
                                         std::memory_order_acquire, std::memory_order_relaxed)) {
    }
    if (expected == state::free) return true;
    waiter.queued_ = true;
    waiter.next_ = nullptr;
    waiter.previous_ = std::exchange(last_, &waiter);
    (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = &waiter;
    return false;
  }

  /// Gives the lane to the first waiter, or frees it. Returns the waiter to be resumed by the caller, if any.
  [[nodiscard]] lane_waiter* unlock() {
    state expected = state::held;
    if (state_.compare_exchange_strong(expected, state::free, std::memory_order_release, std::memory_order_relaxed)) {
      return nullptr;
    }
    const std::lock_guard lock(mutex_);
    return unlock_queued();
  }

  /// The same, under the mutex.
  [[nodiscard]] lane_waiter* unlock_queued() {
    lane_waiter* const waiter = first_;
    if (waiter == nullptr) {
      state_.store(state::free, std::memory_order_release);
      return nullptr;
    }
    withdraw(*waiter);
    return waiter->granted() ? waiter : nullptr;
  }

  /// Takes a waiter out of the queue. False: it is not queued, it was granted the lane meanwhile. Under the mutex.
  bool withdraw(lane_waiter& waiter) noexcept {
    if (!waiter.queued_) return false;
    waiter.queued_ = false;
    (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
    (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
    if (first_ == nullptr) state_.store(state::held, std::memory_order_relaxed);
    return true;
  }

  /// Runs waiters that were handed the lane until none is left to run.
  static void run(lane_waiter* waiter) {
    while (waiter != nullptr) waiter = waiter->resume();
  }

 private:
  enum class state : unsigned char { free, held, held_and_queued };

  std::atomic<state> state_{state::free};
  std::mutex& mutex_;
  lane_waiter* first_ = nullptr;
  lane_waiter* last_ = nullptr;
};

}  // namespace gtcp::detail

#endif
