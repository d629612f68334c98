// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PER_PROCESS_HPP
#define GTCP_DETAIL_PER_PROCESS_HPP

// What a process has one of.

#include <gtcp/detail/platform_process.hpp>

#include <atomic>

namespace gtcp::detail {

/// The one T of the process: made when it is first used, and never destroyed, since connections may outlive main. A
/// child process gets one of its own, for threads of the parent's, which it does not have, may have locked the other.
///
/// No local static variable: a thread that just makes one while another thread forks leaves the child its guard, on
/// which it waits for ever.
template <class T>
class per_process {
 public:
  /// Errors: what T's constructor throws, or std::bad_alloc.
  static T& instance() {
    owned* now = current_.load(std::memory_order_acquire);
    while (now == nullptr || now->generation != fork_generation()) {
      auto* const made = new owned;
      if (current_.compare_exchange_strong(now, made, std::memory_order_acq_rel, std::memory_order_acquire)) {
        if constexpr (requires { now->value.close_inherited(); }) {
          if (now != nullptr) now->value.close_inherited();
        }
        return made->value;
      }
      delete made;
    }
    return now->value;
  }

 private:
  struct owned {
    const unsigned generation = fork_generation();
    T value;
  };
  inline static constinit std::atomic<owned*> current_{nullptr};
};

}  // namespace gtcp::detail

#endif
