// SPDX-License-Identifier: MIT

// What a million pending timers cost: memory each, and the time to add, cancel and fire one.
//
//   timer_bench [number of timers, default 1000000]
//
// Prints one line a measurement: nanoseconds of wall time and of processor time for each timer.

#include <gtcp/timer.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <future>
#include <random>
#include <string>
#include <vector>

namespace {

using std::chrono::nanoseconds;

/// Returns the resident memory in bytes; 0 where /proc is missing.
std::size_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::strtoul(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

class stopwatch {
 public:
  void print(const char* what, std::size_t count) const {
    const std::chrono::duration<double, std::nano> wall = std::chrono::steady_clock::now() - wall_;
    const double processor = static_cast<double>(std::clock() - processor_) * 1e9 / CLOCKS_PER_SEC;
    const auto n = static_cast<double>(count);
    std::printf("%-44s %8.0f ns wall %8.0f ns processor\n", what, wall.count() / n, processor / n);
  }

 private:
  std::chrono::steady_clock::time_point wall_ = std::chrono::steady_clock::now();
  std::clock_t processor_ = std::clock();
};

/// Adds `count` timers over `spread`, with the timer halted, then lets it go and waits for all.
void add_and_fire(std::size_t count, nanoseconds spread, const std::string& label) {
  gtcp::Timer timer;
  timer.Stop();
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::int64_t> delay(1, spread.count());
  std::vector<nanoseconds> delays(count);
  for (auto& one : delays) one = nanoseconds(delay(random));

  std::atomic<std::size_t> fired{0};
  std::promise<void> all;
  const auto job = [&fired, &all, count] {
    if (fired.fetch_add(1, std::memory_order_relaxed) + 1 == count) all.set_value();
  };
  const std::size_t before = resident_bytes();
  {
    const stopwatch watch;
    for (const auto one : delays) timer.SetTimeout(one, job);
    watch.print(("add, " + label).c_str(), count);
  }
  // Later rounds reuse the memory of the first.
  if (const std::size_t more = resident_bytes() - before; more > count * sizeof(gtcp::detail::timer_entry)) {
    std::printf("%-44s %8zu bytes\n", "memory, with a callback of 24 bytes", more / count);
  }
  const stopwatch watch;
  timer.Start();
  all.get_future().wait();
  watch.print(("fire, " + label).c_str(), count);
}

void add_and_cancel(std::size_t count) {
  gtcp::Timer timer;
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::int64_t> delay(1, nanoseconds(std::chrono::hours(1)).count());
  std::vector<gtcp::TimerEntry> entries(count);
  for (auto& entry : entries) entry = timer.SetTimeout(std::chrono::minutes(1) + nanoseconds(delay(random)), [] {});
  {
    const stopwatch watch;
    for (const auto& entry : entries) entry.Reset();
    watch.print("reset", count);
  }
  const stopwatch watch;
  for (const auto& entry : entries) entry.Close();
  watch.print("close", count);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t count = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  if (count == 0) {
    std::fprintf(stderr, "usage: timer_bench [number of timers]\n");
    return 2;
  }
  add_and_fire(count, std::chrono::milliseconds(1), "spread over 1 ms");
  add_and_fire(count, std::chrono::seconds(2), "spread over 2 s");
  add_and_cancel(count);
}
