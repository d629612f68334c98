// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SHORT_MUTEX_HPP
#define GTCP_DETAIL_SHORT_MUTEX_HPP

// A mutex for sections that usually take some nanoseconds, and which many threads enter all the time. Releasing it is a
// plain store: it wakes nobody, so who finds it taken looks again, for a moment at once, then after a short sleep. With
// a std::mutex threads that send all the time put each other to sleep and wake each other, at a hundred times the
// section's price.

#include <atomic>
#include <chrono>
#include <thread>

namespace gtcp::detail {

/// Tells the processor that a loop waits for another one.
inline void relax_processor() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class short_mutex {
 public:
  bool try_lock() noexcept {
    return !taken_.load(std::memory_order_relaxed) && !taken_.exchange(true, std::memory_order_acquire);
  }

  void lock() noexcept {
    if (!try_lock()) lock_slowly();
  }

  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  [[gnu::noinline]] void lock_slowly() noexcept {
    constexpr int looks = 16;
    constexpr auto pause = std::chrono::microseconds(20);  // the holder was interrupted, or others hold it in turns
    for (;;) {
      for (int look = 0; look < looks; ++look) {
        relax_processor();
        if (try_lock()) return;
      }
      std::this_thread::sleep_for(pause);
    }
  }

  std::atomic<bool> taken_{false};
};

}  // namespace gtcp::detail

#endif
