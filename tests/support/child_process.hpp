// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_CHILD_PROCESS_HPP
#define GTCP_TESTS_SUPPORT_CHILD_PROCESS_HPP

// For tests that take something away from their process, and so run in one of their own: a death test of gtest.

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

extern "C" void __ubsan_handle_dynamic_type_cache_miss() __attribute__((weak));  // there in a build with UBSan

namespace gtcp_test {

/// UBSan's check of dynamic types opens a pipe, and takes it for a wrong type when it can't.
inline bool sanitizer_needs_descriptors() { return __ubsan_handle_dynamic_type_cache_miss != nullptr; }

/// Runs `body`, which ends its process with 0 if all is well, in a process of its own that is made anew: it has one
/// thread, whatever the parent has begun.
template <class Body>
void expect_well_in_child(const Body& body) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(body(), testing::ExitedWithCode(0), "");
}

}  // namespace gtcp_test

/// Ends the child process with what a test has found: 0 if all is well.
#define CHILD_CHECK(condition)                                          \
  do {                                                                  \
    if (!(condition)) {                                                 \
      std::cerr << __FILE__ << ':' << __LINE__ << ": " #condition "\n"; \
      std::_Exit(1);                                                    \
    }                                                                   \
  } while (false)

#endif
