// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_ALLOCATION_FAULTS_HPP
#define GTCP_TESTS_SUPPORT_ALLOCATION_FAULTS_HPP

// Lets the n-th allocation of the program fail. The operators themselves are in fault/allocation_operators_test.cpp.

#include <atomic>
#include <limits>

namespace gtcp_test {

/// Whose allocations count: those of the thread that asks, or those of all threads that are not exempt.
enum class whose { this_thread, all_threads };

/// What counts: operator new, or what Asio takes its small blocks from (std::aligned_alloc) too.
enum class what_fails { operator_new, asio_too };

/// Whether one allocation fails, or all from the n-th on.
enum class how_long { once, for_good };

namespace allocation {

inline constexpr long never = std::numeric_limits<long>::max();

struct plan {
  std::atomic<long> left{never};  ///< allocations until one fails
  std::atomic<bool> fired{false};
  std::atomic<how_long> lasting{how_long::once};
  std::atomic<bool> asio_too{false};

  bool fails(bool is_asio) noexcept {
    if (left.load(std::memory_order_relaxed) == never) return false;
    if (is_asio && !asio_too.load(std::memory_order_relaxed)) return false;
    const long before = left.fetch_sub(1, std::memory_order_relaxed);
    if (before > 0 || (before < 0 && lasting.load(std::memory_order_relaxed) == how_long::once)) return false;
    fired.store(true, std::memory_order_relaxed);
    return true;
  }
};

inline constinit plan of_all;
inline constinit thread_local plan of_this_thread;
inline constinit thread_local int exempt = 0;

/// Asked by every allocation.
inline bool fails(bool is_asio) noexcept {
  return exempt == 0 && (of_this_thread.fails(is_asio) || of_all.fails(is_asio));
}

/// Whether the operators are there: the linker takes them only where this is asked.
bool is_replaced() noexcept;

}  // namespace allocation

/// While it lives the allocation number `n`, counted from 0, throws std::bad_alloc.
class failing_allocation {
 public:
  failing_allocation(long n, whose threads, what_fails what = what_fails::operator_new,
                     how_long lasting = how_long::once) noexcept
      : plan_(threads == whose::this_thread ? allocation::of_this_thread : allocation::of_all) {
    plan_.fired = false;
    plan_.lasting = lasting;
    plan_.asio_too = what == what_fails::asio_too;
    plan_.left = n;
  }
  ~failing_allocation() { end(); }
  failing_allocation(const failing_allocation&) = delete;
  failing_allocation& operator=(const failing_allocation&) = delete;

  /// No further allocation fails. Returns whether one has.
  bool end() noexcept {
    plan_.left = allocation::never;
    return plan_.fired;
  }

 private:
  allocation::plan& plan_;
};

/// While it lives no allocation of the calling thread fails: for the part of a test that only looks.
class exempt_thread {
 public:
  exempt_thread() noexcept { ++allocation::exempt; }
  ~exempt_thread() { --allocation::exempt; }
  exempt_thread(const exempt_thread&) = delete;
  exempt_thread& operator=(const exempt_thread&) = delete;
};

}  // namespace gtcp_test

#endif
