// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_PROCESS_HPP
#define GTCP_DETAIL_PLATFORM_PROCESS_HPP

// Signals, and what becomes of a process that forks.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/detail/config.hpp>

#include <atomic>

#if !defined(ASIO_WINDOWS)
#include <pthread.h>
#include <signal.h>
#endif

namespace gtcp::detail {

/// Blocks all signals in the calling thread, so that the user's handlers run in the user's threads.
inline void block_signals() noexcept {
#if !defined(ASIO_WINDOWS)
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
#endif
}

#if !defined(ASIO_WINDOWS)
inline constinit std::atomic<unsigned> forks{0};
inline const int forks_are_counted =
    ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
#endif

/// Has `before` called before every fork from now on, and `after` after it, in both processes. Returns 0 if it can be.
inline int at_fork([[maybe_unused]] void (*before)(), [[maybe_unused]] void (*after)()) noexcept {
#if defined(ASIO_WINDOWS)
  return 0;
#else
  return ::pthread_atfork(before, after, after);
#endif
}

/// Counts the forks that led to this process: what was made under another number belongs to the parent.
inline unsigned fork_generation() noexcept {
#if defined(ASIO_WINDOWS)
  return 0;
#else
  return forks.load(std::memory_order_relaxed);
#endif
}

/// Tells the copy of an object that a child process has inherited from the object itself.
class process_mark {
 public:
  bool is_inherited() const noexcept { return process_.load(std::memory_order_relaxed) != fork_generation(); }

  /// Makes the copy the child's own.
  void adopt() noexcept { process_.store(fork_generation(), std::memory_order_relaxed); }

 private:
  std::atomic<unsigned> process_{fork_generation()};
};

}  // namespace gtcp::detail

#endif
