// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_NO_THREADS_HPP
#define GTCP_TESTS_SUPPORT_NO_THREADS_HPP

// Takes away what a further thread needs. For tests that run in a process of their own, without sanitizers: these need
// the memory, too.

#include "support/child_process.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>

#if defined(__linux__)
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

namespace gtcp_test {

/// While it lives there is memory for all but the stack of a further thread.
class no_threads {
 public:
  no_threads() {
    CHILD_CHECK(::getrlimit(RLIMIT_AS, &before_) == 0);
    rlimit tight = before_;
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    tight.rlim_cur = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + stack / 2;
    CHILD_CHECK(::setrlimit(RLIMIT_AS, &tight) == 0);
    set_stack_size(stack);
  }
  ~no_threads() {
    ::setrlimit(RLIMIT_AS, &before_);
    set_stack_size(stack / 1024);
  }
  no_threads(const no_threads&) = delete;
  no_threads& operator=(const no_threads&) = delete;

 private:
  static constexpr std::size_t stack = std::size_t{1} << 30;

  static void set_stack_size(std::size_t size) {
    pthread_attr_t attributes;
    CHILD_CHECK(::pthread_attr_init(&attributes) == 0 && ::pthread_attr_setstacksize(&attributes, size) == 0);
    CHILD_CHECK(::pthread_setattr_default_np(&attributes) == 0);
  }

  rlimit before_ = {};
};

/// expect_well_in_child() for a `body` that uses no_threads; the last thing that a test does.
template <class Body>
void expect_well_without_threads(const Body& body) {
#if GTCP_TESTS_SANITIZED
  GTEST_SKIP() << "a sanitizer needs the memory that this test takes away";
#endif
  expect_well_in_child(body);
}

}  // namespace gtcp_test

#endif
#endif
