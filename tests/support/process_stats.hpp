// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_PROCESS_STATS_HPP
#define GTCP_TESTS_SUPPORT_PROCESS_STATS_HPP

// What the system says that this process uses. Linux only.

#include <chrono>
#include <cstddef>
#include <fstream>

#include <sys/resource.h>
#include <unistd.h>

namespace gtcp_test::process_stats {

/// Memory that is resident, in bytes.
inline std::size_t resident() {
  std::size_t total = 0;
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> total >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Processor time that all threads have used, in user and system mode.
inline std::chrono::microseconds processor_time() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

/// Allows as many descriptors as the system lets this process have; returns how many.
inline std::size_t raise_descriptor_limit() {
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<std::size_t>(limit.rlim_cur);
}

}  // namespace gtcp_test::process_stats

#endif
