// SPDX-License-Identifier: MIT
#include <gtcp/pkg_option.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <limits>
#include <string>
#include <system_error>

namespace {

using gtcp::Errc;
using gtcp::PkgOption;
using namespace std::chrono_literals;

struct Checked {
  std::error_code ec;
  gtcp::detail::pkg_format format;
  std::string why;
};

Checked Check(const PkgOption& option) {
  Checked result;
  result.ec = gtcp::detail::check(option, result.format, result.why);
  return result;
}

TEST(PkgOption, DefaultsToATwoByteHeaderAndAllThatItCanSay) {
  const Checked checked = Check({});
  EXPECT_FALSE(checked.ec) << checked.why;
  EXPECT_EQ(checked.format.header_size, 2u);
  EXPECT_EQ(checked.format.max_data_size, 0xFFFFu);
  EXPECT_EQ(checked.format.retry, gtcp::Retry{});
  EXPECT_EQ(checked.why, "");
}

TEST(PkgOption, TakesEachHeaderSizeWithWhatItCanSay) {
  const std::size_t sayable[] = {0xFFFF, 0xFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF};
  for (int size = 0; size <= 4; ++size) {
    const Checked checked = Check({.HeaderSize = size});
    EXPECT_FALSE(checked.ec) << checked.why;
    EXPECT_EQ(checked.format.header_size, size == 0 ? 2u : static_cast<std::size_t>(size));
    EXPECT_EQ(checked.format.max_data_size, sayable[size]);
  }
}

TEST(PkgOption, RefusesAndQuotesAHeaderSizeOutOfBounds) {
  for (const int size : {-1, 5, 8, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    const Checked checked = Check({.HeaderSize = size});
    EXPECT_EQ(checked.ec, Errc::InvalidOption) << size;
    EXPECT_EQ(checked.why,
              "package header size is " + std::to_string(size) + ", allowed are 1 to 4, and 0 for the default of 2");
  }
}

TEST(PkgOption, TakesAMaxDataSizeFromOneToWhatTheHeaderCanSay) {
  const long long sayable[] = {0xFFFF, 0xFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF};
  for (int size = 0; size <= 4; ++size) {
    for (const long long max : {1LL, 2LL, sayable[size] - 1, sayable[size]}) {
      const Checked checked = Check({.HeaderSize = size, .MaxDataSize = max});
      EXPECT_FALSE(checked.ec) << checked.why;
      EXPECT_EQ(checked.format.max_data_size, static_cast<std::size_t>(max)) << "header size " << size;
    }
  }
}

TEST(PkgOption, ClipsAMaxDataSizeToWhatTheHeaderCanSay) {
  const long long sayable[] = {0xFFFF, 0xFF, 0xFFFF, 0xFFFFFF};
  for (int size = 0; size <= 3; ++size) {
    for (const long long max : {sayable[size] + 1, 0x7FFFFFFFLL}) {
      const Checked checked = Check({.HeaderSize = size, .MaxDataSize = max});
      EXPECT_FALSE(checked.ec) << checked.why;
      EXPECT_EQ(checked.format.max_data_size, static_cast<std::size_t>(sayable[size])) << "header size " << size;
    }
  }
}

TEST(PkgOption, RefusesAndQuotesAMaxDataSizeOutOfBounds) {
  for (const long long max :
       {-1LL, 0x80000000LL, std::numeric_limits<long long>::min(), std::numeric_limits<long long>::max()}) {
    for (int size = 0; size <= 4; ++size) {
      const Checked checked = Check({.HeaderSize = size, .MaxDataSize = max});
      EXPECT_EQ(checked.ec, Errc::InvalidOption) << max;
      EXPECT_EQ(checked.why, "package max data size is " + std::to_string(max) +
                                 ", allowed are 1 to 2147483647, and 0 for what the header can say");
    }
  }
}

TEST(PkgOption, HandsTheRetryOn) {
  const Checked checked = Check({.Retry = {.Count = 3, .Interval = 20ms}});
  EXPECT_FALSE(checked.ec) << checked.why;
  EXPECT_EQ(checked.format.retry.Count, 3);
  EXPECT_EQ(checked.format.retry.Interval, 20ms);
}

TEST(PkgOption, RefusesAndQuotesANegativeRetryCount) {
  for (const int count : {-1, std::numeric_limits<int>::min()}) {
    const Checked checked = Check({.Retry = {.Count = count}});
    EXPECT_EQ(checked.ec, Errc::InvalidOption);
    EXPECT_EQ(checked.why, "Retry.Count is " + std::to_string(count) + ", allowed are 0 and more");
  }
}

TEST(PkgOption, RefusesAndQuotesANegativeRetryInterval) {
  const Checked checked = Check({.Retry = {.Count = 1, .Interval = -1ms}});
  EXPECT_EQ(checked.ec, Errc::InvalidOption);
  EXPECT_EQ(checked.why, "Retry.Interval is -1 ms, allowed are 0 and more");
}

TEST(PkgOption, ComparesByAllItsFields) {
  const PkgOption option{.HeaderSize = 4, .MaxDataSize = 100, .Retry = {.Count = 1, .Interval = 5ms}};
  EXPECT_EQ(option, option);
  EXPECT_EQ(PkgOption{}, PkgOption{});
  PkgOption other = option;
  other.HeaderSize = 3;
  EXPECT_NE(option, other);
  other = option;
  other.MaxDataSize = 101;
  EXPECT_NE(option, other);
  other = option;
  other.Retry.Count = 2;
  EXPECT_NE(option, other);
  other = option;
  other.Retry.Interval = 6ms;
  EXPECT_NE(option, other);
}

}  // namespace
