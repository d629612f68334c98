// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_POLL_UNTIL_HPP
#define GTCP_TESTS_SUPPORT_POLL_UNTIL_HPP

// Waiting in tests. Nothing waits for a time to pass: either for something to happen, or, when a test has failed, for
// the ceiling.

#include <chrono>
#include <future>
#include <thread>

namespace gtcp_test {

/// How long something may take that only a failure keeps from happening.
inline constexpr std::chrono::seconds ceiling{30};

/// Returns whether `predicate` became true; false only when something is broken.
template <class Predicate>
bool poll_until(Predicate predicate) {
  const auto end = std::chrono::steady_clock::now() + ceiling;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

/// Returns whether the future became ready; false only when something is broken.
template <class Future>
bool comes(const Future& future) {
  return future.wait_for(ceiling) == std::future_status::ready;
}

}  // namespace gtcp_test

#endif
