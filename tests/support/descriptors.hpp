// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_DESCRIPTORS_HPP
#define GTCP_TESTS_SUPPORT_DESCRIPTORS_HPP

// How many descriptors the process has open.

#include "support/poll_until.hpp"

#include <chrono>
#include <cstddef>

#if defined(__linux__)
#include <filesystem>
#include <iterator>
#elif defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#endif

namespace gtcp_test {

inline std::size_t open_descriptors() {
#if defined(__linux__)
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all))) - 1;  // but for the one that counts them
#else
  std::size_t count = 0;
#if defined(__unix__) || defined(__APPLE__)
  constexpr int most = 512;
  for (int descriptor = 0; descriptor < most; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) != -1) ++count;
  }
#endif
  return count;
#endif
}

/// The same, when what is being closed just now is closed. What a thread keeps for a second after its last session may
/// be among them, or not: so a test compares by waiting until there are no more than before.
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
