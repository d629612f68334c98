// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_COUNTING_COUNTERS_HPP
#define GTCP_TESTS_COUNTING_COUNTERS_HPP

// What this program asks for, counted: memory everywhere, waiting where the linker can put a function before the
// system's (Linux).

#include <cstddef>

namespace gtcp_test {

struct counts {
  std::size_t allocations = 0;   ///< operator new
  std::size_t polls = 0;         ///< poll(2)
  std::size_t epoll_waits = 0;   ///< epoll_wait(2) that may sleep
  std::size_t epoll_looks = 0;   ///< epoll_wait(2) that only looks, since there is more to run
  std::size_t epoll_orders = 0;  ///< epoll_ctl(2)

  std::size_t waits() const noexcept { return polls + epoll_waits; }
  friend counts operator-(const counts& to, const counts& from) noexcept {
    return {to.allocations - from.allocations, to.polls - from.polls, to.epoll_waits - from.epoll_waits,
            to.epoll_looks - from.epoll_looks, to.epoll_orders - from.epoll_orders};
  }
};

/// What the calling thread has asked for so far.
counts counts_of_this_thread() noexcept;

/// operator new of all threads so far.
std::size_t allocations_of_all_threads() noexcept;

}  // namespace gtcp_test

#endif
