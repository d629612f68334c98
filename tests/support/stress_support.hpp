// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_STRESS_SUPPORT_HPP
#define GTCP_TESTS_SUPPORT_STRESS_SUPPORT_HPP

// What stress tests share: how much of it, from which seed, packages that say who sent them, and a ledger of what has
// become of them.
//
// GTCP_STRESS=10 does ten times as much, GTCP_STRESS=0.1 a tenth, GTCP_STRESS=full as much as docs/reliability.md says,
// which is what the preset `stress` does; only there bounds on times and on shares of the processor are asserted.
// GTCP_SEED=n repeats the choices of a run; the interleaving of threads is the system's.

#include "support/conn_pair.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace gtcp_test {

inline constexpr double stress_share = GTCP_TESTS_SANITIZED ? 0.2 : 1;

/// Whether everything is to be done in full, and times are to be asserted.
inline bool in_full() {
  const char* const given = std::getenv("GTCP_STRESS");
  return given != nullptr && std::string_view(given) == "full";
}

/// How often to do what is done `count` times without sanitizers.
inline int rounds(int count) {
  const char* const factor = std::getenv("GTCP_STRESS");
  const double share = in_full() ? 1 : factor != nullptr ? std::strtod(factor, nullptr) : stress_share;
  return std::max(1, static_cast<int>(count * share));
}

/// The same, with the number for a run in full.
inline int rounds(int count, int full) { return in_full() ? full : rounds(count); }

/// The seed of this run, shown when the test fails.
inline std::uint32_t seed() {
  static const std::uint32_t value = [] {
    const char* const given = std::getenv("GTCP_SEED");
    return given != nullptr ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10)) : std::random_device()();
  }();
  return value;
}

/// Prints how to repeat the choices, if the test has failed.
struct seed_report {
  ~seed_report() {
    if (testing::Test::HasFailure()) std::fprintf(stderr, "repeat with GTCP_SEED=%u\n", static_cast<unsigned>(seed()));
  }
};

/// Random numbers of one thread, or of one coroutine.
class dice {
 public:
  explicit dice(std::uint32_t number) : dice(seed(), number) {}
  dice(std::uint32_t seed, std::uint32_t number) : engine_(mix(seed, number)) {}

  /// 0 to `below` - 1.
  std::size_t operator()(std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(engine_);
  }
  bool one_in(std::size_t number) { return (*this)(number) == 0; }
  std::chrono::microseconds microseconds(std::size_t below) { return std::chrono::microseconds((*this)(below)); }

 private:
  /// The first numbers of neighbours must have nothing to do with each other, which the engine alone does not see to.
  static std::uint32_t mix(std::uint32_t seed, std::uint32_t number) {
    std::uint64_t value = (std::uint64_t{seed} << 32 | number) + 0x9E3779B97F4A7C15u;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return static_cast<std::uint32_t>(value ^ value >> 31);
  }

  std::minstd_rand engine_;
};

/// A package that says who sent it as which: sender, number, then bytes that follow from both.
namespace numbered {

inline constexpr std::size_t head = 8;

inline std::string_view tail(std::uint32_t sender, std::uint32_t number, std::size_t size) {
  static const std::string noise = pattern(512 * 1024);
  const std::size_t begin = (sender * 40'503u + number * 9'973u) % (256 * 1024);
  return std::string_view(noise).substr(begin, size);
}

/// At least `head` bytes long.
inline std::string make(std::uint32_t sender, std::uint32_t number, std::size_t size) {
  std::string bytes;
  bytes.reserve(std::max(size, head));
  for (const std::uint32_t value : {sender, number}) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xFF);
  }
  if (size > head) bytes += tail(sender, number, size - head);
  return bytes;
}

struct origin {
  std::uint32_t sender = 0;
  std::uint32_t number = 0;
  bool whole = false;
};

inline origin of(std::string_view bytes) {
  if (bytes.size() < head) return {};
  const auto number_at = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
  };
  origin from{number_at(0), number_at(4), false};
  from.whole = bytes.substr(head) == tail(from.sender, from.number, bytes.size() - head);
  return from;
}

}  // namespace numbered

/// Joins its threads, also when a test ends early.
class thread_group {
 public:
  ~thread_group() { join(); }
  void run(std::function<void()> body) { threads_.emplace_back(std::move(body)); }
  void join() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

/// Framing for packages of up to 16 MiB.
inline gtcp::ConnOption wide(gtcp::ConnOption option = {}) {
  option.Pkg = {.HeaderSize = 3};
  return option;
}

}  // namespace gtcp_test

#endif
