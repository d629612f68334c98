// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_DESCRIPTORS_HPP
#define GTCP_TESTS_SUPPORT_DESCRIPTORS_HPP

// How many descriptors the process has open.

#include "support/poll_until.hpp"

#include <chrono>
#include <cstddef>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#endif

namespace gtcp_test {

inline std::size_t open_descriptors() {
  std::size_t count = 0;
#if defined(__unix__) || defined(__APPLE__)
  constexpr int most = 512;
  for (int descriptor = 0; descriptor < most; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) != -1) ++count;
  }
#endif
  return count;
}

/// The same, when what is being closed just now is closed.
inline std::size_t settled_descriptors() {
  std::size_t count = open_descriptors();
  auto since = std::chrono::steady_clock::now();
  poll_until([&] {
    const std::size_t now = open_descriptors();
    if (now != count) {
      count = now;
      since = std::chrono::steady_clock::now();
    }
    return std::chrono::steady_clock::now() - since > std::chrono::milliseconds(100);
  });
  return count;
}

}  // namespace gtcp_test

#endif
