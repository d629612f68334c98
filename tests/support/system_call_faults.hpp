// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SYSTEM_CALL_FAULTS_HPP
#define GTCP_TESTS_SUPPORT_SYSTEM_CALL_FAULTS_HPP

// Lets the n-th system call of the program fail. The calls themselves are in fault/system_calls_test.cpp.

#include "support/allocation_faults.hpp"

#include <atomic>
#include <limits>

namespace gtcp_test {

/// What becomes of the system call whose turn it is: an error that this call may have, EINTR or EAGAIN where it may
/// have those, or a single byte.
enum class call_fault { fails, interrupted, blocks, little };

namespace system_calls {

inline constinit std::atomic<long> left{std::numeric_limits<long>::max()};
inline constinit std::atomic<bool> fired{false};
inline constinit std::atomic<call_fault> how{call_fault::fails};

/// Asked by every call; `can` are the faults that it knows.
inline bool is_now(bool can) noexcept {
  if (!can || allocation::exempt != 0 || left.load(std::memory_order_relaxed) == std::numeric_limits<long>::max()) {
    return false;
  }
  if (left.fetch_sub(1, std::memory_order_relaxed) != 0) return false;
  fired.store(true, std::memory_order_relaxed);
  return true;
}

}  // namespace system_calls

/// While it lives the system call number `n` of all threads that are not exempt fails.
class failing_call {
 public:
  failing_call(long n, call_fault how) noexcept {
    system_calls::fired = false;
    system_calls::how = how;
    system_calls::left = n;
  }
  ~failing_call() { end(); }
  failing_call(const failing_call&) = delete;
  failing_call& operator=(const failing_call&) = delete;

  bool end() noexcept {
    system_calls::left = std::numeric_limits<long>::max();
    return system_calls::fired;
  }
};

}  // namespace gtcp_test

#endif
