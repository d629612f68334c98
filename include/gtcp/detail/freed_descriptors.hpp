// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_FREED_DESCRIPTORS_HPP
#define GTCP_DETAIL_FREED_DESCRIPTORS_HPP

// Tells those who have run out of descriptors when one was closed by the library, whoever had it.

#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_process.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

namespace gtcp::detail {

/// Thread safety: all members may be called by any thread, and under any lock of the library.
class freed_descriptors {
 public:
  /// One that waits asynchronously.
  class waiter {
   public:
    /// Called under the lock; what it does must not wait.
    virtual void descriptor_freed() noexcept = 0;

   protected:
    ~waiter() = default;

   private:
    friend class freed_descriptors;
    waiter* next_ = nullptr;
  };

  static freed_descriptors& of_this_process() noexcept {
    // As per_process, but the first one is there before anything runs: descriptors are closed without memory, too.
    freed_descriptors* all = current_.load(std::memory_order_acquire);
    while (all->generation_ != fork_generation()) {
      auto* const made = new (std::nothrow) freed_descriptors;
      if (made == nullptr) break;
      if (current_.compare_exchange_strong(all, made)) return *made;
      delete made;
    }
    return *all;
  }

  /// How many there were so far. To be looked at before the try that may fail for a lack of them.
  std::uint64_t count() const noexcept { return count_; }

  /// One was closed.
  void note() noexcept {
    ++count_;
    if (waiting_ == 0) return;
    wake();
  }

  /// Makes all who wait look again.
  void wake() noexcept {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    for (waiter* one = waiters_; one != nullptr; one = one->next_) one->descriptor_freed();
  }

  /// Waits in the calling thread until there were more than `seen`, or `until`, or, after wake(), for `stop()`.
  template <class Stop>
  void wait(std::uint64_t seen, clock::time_point until, const Stop& stop) {
    ++waiting_;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, until, [&] { return count_ != seen || stop(); });
    }
    --waiting_;
  }

  /// Tells `one` once there were more than `seen`, until it is removed.
  void add(waiter& one, std::uint64_t seen) {
    ++waiting_;
    const std::lock_guard lock(mutex_);
    one.next_ = std::exchange(waiters_, &one);
    if (count_ != seen) one.descriptor_freed();
  }

  void remove(waiter& one) noexcept {
    --waiting_;
    const std::lock_guard lock(mutex_);
    waiter** link = &waiters_;
    while (*link != &one) link = &(*link)->next_;
    *link = one.next_;
  }

 private:
  const unsigned generation_ = fork_generation();
  // Sequentially consistent: either who closes sees that somebody waits, or who begins to wait sees what was closed.
  std::atomic<std::uint64_t> count_{0};
  std::atomic<unsigned> waiting_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  waiter* waiters_ = nullptr;

  union never_destroyed;
  static never_destroyed first_;
  static constinit std::atomic<freed_descriptors*> current_;
};

union freed_descriptors::never_destroyed {
  never_destroyed() : value() {}
  ~never_destroyed() {}
  freed_descriptors value;
};
inline freed_descriptors::never_destroyed freed_descriptors::first_;
constinit inline std::atomic<freed_descriptors*> freed_descriptors::current_{&first_.value};

}  // namespace gtcp::detail

#endif
