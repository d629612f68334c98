// SPDX-License-Identifier: MIT
#ifndef GTCP_EXAMPLES_LOG_HPP
#define GTCP_EXAMPLES_LOG_HPP

// Lines with the time in front. Nothing of gtcp is in here.

#include <chrono>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <string>

/// Prints "2019-05-03 14:59:13.732 <text>" at once; lines of several threads do not mix.
inline void Log(const std::string& text) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto fraction = std::chrono::floor<std::chrono::milliseconds>(now.time_since_epoch()) % std::chrono::seconds(1);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", std::localtime(&seconds));
  std::printf("%s.%03d %s\n", date, static_cast<int>(fraction.count()), text.c_str());
  std::fflush(stdout);
}

#endif
