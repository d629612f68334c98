// SPDX-License-Identifier: MIT

// Points in time and durations that the clock can't count to.

#include <gtcp/detail/time_limit.hpp>

#include <gtest/gtest.h>

#include <chrono>

namespace {

using namespace std::chrono_literals;
using gtcp::detail::clock;
using gtcp::detail::clock_duration;
using gtcp::detail::deadline_after;
using gtcp::detail::later;
using gtcp::detail::no_deadline;

constexpr clock::duration longest = clock::duration::max();

TEST(ClockDuration, IsTheLongestForWhatIsTooLong) {
  EXPECT_EQ(clock_duration(0ms), 0ns);
  EXPECT_EQ(clock_duration(1500ms), 1500ms);
  EXPECT_EQ(clock_duration(std::chrono::nanoseconds::max()), longest);
  EXPECT_EQ(clock_duration(std::chrono::microseconds::max()), longest);
  EXPECT_EQ(clock_duration(std::chrono::milliseconds::max()), longest);
  EXPECT_EQ(clock_duration(std::chrono::seconds::max()), longest);
  EXPECT_EQ(clock_duration(std::chrono::hours::max()), longest);
  const auto most = std::chrono::duration_cast<std::chrono::milliseconds>(longest);
  EXPECT_EQ(clock_duration(most), clock::duration(most));
  EXPECT_EQ(clock_duration(most + 1ms), longest);
}

TEST(Later, IsNoDeadlineForWhatIsTooFarAway) {
  const clock::time_point from{1000s};
  EXPECT_EQ(later(from, 5ms), from + 5ms);
  EXPECT_EQ(later(from, 0s), from);
  EXPECT_EQ(later(from, -5ms), from);
  EXPECT_EQ(later(from, std::chrono::hours::min()), from);
  EXPECT_EQ(later(from, no_deadline - from - 1ns), no_deadline - 1ns);
  EXPECT_EQ(later(from, no_deadline - from), no_deadline);
  EXPECT_EQ(later(from, longest), no_deadline);
  EXPECT_EQ(later(from, std::chrono::milliseconds::max()), no_deadline);
  EXPECT_EQ(later(no_deadline, 1ns), no_deadline);
}

TEST(DeadlineAfter, IsNowOrLaterOrNever) {
  const clock::time_point before = clock::now();
  EXPECT_GE(deadline_after(-1h), before);
  EXPECT_LT(deadline_after(std::chrono::milliseconds::min()), before + 1h);
  EXPECT_GE(deadline_after(1h), before + 1h);
  EXPECT_EQ(deadline_after(std::chrono::nanoseconds::max()), no_deadline);
  EXPECT_EQ(deadline_after(std::chrono::milliseconds::max()), no_deadline);
}

}  // namespace
