// SPDX-License-Identifier: MIT

// What a receive wants, without sockets: bytes come in chunks of any size, and the verdict says when it is there.

#include <gtcp/detail/pkg_writer.hpp>
#include <gtcp/detail/recv_goal.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using gtcp::Errc;
using gtcp::detail::pkg_format;
using gtcp::detail::recv_goal;
using gtcp::detail::recv_verdict;
using verdict_kind = gtcp::detail::recv_verdict::kind;

pkg_format format_of(int header_size, long long max = 0) {
  pkg_format format;
  std::string why;
  EXPECT_FALSE(gtcp::detail::check({.HeaderSize = header_size, .MaxDataSize = max}, format, why)) << why;
  return format;
}

std::string framed(const pkg_format& format, std::string_view payload) {
  const auto header = gtcp::detail::make_pkg_header(format, payload.size());
  std::string bytes(header.bytes.begin(), header.bytes.begin() + static_cast<std::ptrdiff_t>(header.size));
  return bytes.append(payload);
}

std::string payload_of(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

struct Outcome {
  recv_verdict verdict;
  std::string result;
  std::string rest;  ///< what stays for the next receive
};

/// Feeds `stream` to the goal in chunks of `chunk` bytes until it is decided, or all is fed, and then the end if
/// `then_end`. Everything it was asked for before it was decided must have been more than there was.
Outcome feed(recv_goal goal, std::string_view stream, std::size_t chunk, bool then_end = false) {
  std::string buffered;
  for (;;) {
    const bool ended = then_end && stream.empty();
    const recv_verdict verdict = goal.judge(buffered, ended);
    if (verdict.what == verdict_kind::take) {
      return {verdict, buffered.substr(verdict.skip, verdict.size),
              buffered.substr(verdict.skip + verdict.size + verdict.drop)};
    }
    if (verdict.what != verdict_kind::need_more) return {verdict, {}, buffered};
    EXPECT_GT(verdict.size, buffered.size()) << "asks for what is there already";
    if (stream.empty()) return {verdict, {}, buffered};
    const std::size_t part = std::min(chunk, stream.size());
    buffered.append(stream.substr(0, part));
    stream.remove_prefix(part);
  }
}

std::vector<std::size_t> chunks_for(std::size_t header_size, std::size_t total) {
  return {1, 2, header_size, header_size + 1, std::max<std::size_t>(total, 1)};
}

// ---- Packages

TEST(PkgGoal, TakesAPackageOfEveryHeaderSizeWhateverTheChunks) {
  for (int header_size = 1; header_size <= 4; ++header_size) {
    constexpr std::size_t max = 200;
    const pkg_format format = format_of(header_size, max);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, max - 1, max}) {
      const std::string payload = payload_of(size);
      const std::string stream = framed(format, payload) + "next";
      for (const std::size_t chunk : chunks_for(format.header_size, stream.size())) {
        const Outcome outcome = feed(recv_goal::package(format), stream, chunk);
        ASSERT_EQ(outcome.verdict.what, verdict_kind::take) << header_size << ", " << size << " in " << chunk;
        EXPECT_EQ(outcome.result, payload);
        EXPECT_EQ(outcome.rest, std::string("next").substr(0, outcome.rest.size()));
      }
    }
  }
}

TEST(PkgGoal, ReadsTheLengthMostSignificantByteFirst) {
  const std::array<std::string, 4> headers = {std::string("\x2c", 1), std::string("\x01\x2c", 2),
                                              std::string("\x00\x01\x2c", 3), std::string("\x00\x00\x01\x2c", 4)};
  const std::array<std::size_t, 4> sizes = {44, 300, 300, 300};
  for (std::size_t i = 0; i < headers.size(); ++i) {
    const recv_verdict verdict = recv_goal::package(format_of(static_cast<int>(i) + 1)).judge(headers[i], false);
    EXPECT_EQ(verdict.what, verdict_kind::need_more);
    EXPECT_EQ(verdict.size, headers[i].size() + sizes[i]);
  }
}

TEST(PkgGoal, TakesTheLargestPackageThatEachHeaderCanSay) {
  for (const auto& [header_size, max] : {std::pair{1, 0xFFu}, std::pair{2, 0xFFFFu}}) {
    const pkg_format format = format_of(header_size);
    const std::string payload = payload_of(max);
    const Outcome outcome = feed(recv_goal::package(format), framed(format, payload), 1000);
    ASSERT_EQ(outcome.verdict.what, verdict_kind::take);
    EXPECT_TRUE(outcome.result == payload);
  }
  EXPECT_EQ(recv_goal::package(format_of(3)).judge("\xff\xff\xff", false).size, 3u + 0xFFFFFF);
  EXPECT_EQ(recv_goal::package(format_of(4)).judge("\x7f\xff\xff\xff", false).size, 4u + 0x7FFFFFFF);
}

TEST(PkgGoal, FailsAtTheHeaderOfAPackageOverTheLimit) {
  for (int header_size = 1; header_size <= 4; ++header_size) {
    constexpr std::size_t max = 200;
    const pkg_format format = format_of(header_size, max);
    const std::string header = framed(format, payload_of(max + 1)).substr(0, format.header_size);
    for (const std::size_t chunk : chunks_for(format.header_size, header.size())) {
      const Outcome outcome = feed(recv_goal::package(format), header, chunk);
      ASSERT_EQ(outcome.verdict.what, verdict_kind::fail);
      EXPECT_EQ(outcome.verdict.error, Errc::PkgTooLarge);
      EXPECT_EQ(outcome.rest, header) << "nothing may be taken";
    }
    const recv_verdict incomplete =
        recv_goal::package(format).judge(std::string_view(header).substr(0, format.header_size - 1), false);
    EXPECT_EQ(incomplete.what, verdict_kind::need_more) << "the length is not known yet";
    EXPECT_EQ(incomplete.size, format.header_size) << "no more than the header may be asked for";
  }
}

TEST(PkgGoal, FailsAtALengthOfFourBytesThatNoPackageMayHave) {
  for (const std::string_view header :
       {std::string_view("\x80\x00\x00\x00", 4), std::string_view("\xff\xff\xff\xff")}) {
    EXPECT_EQ(recv_goal::package(format_of(4)).judge(header, false).error, Errc::PkgTooLarge);
  }
}

TEST(PkgGoal, TellsTheEndBetweenPackagesFromTheEndInsideOne) {
  for (int header_size = 1; header_size <= 4; ++header_size) {
    const pkg_format format = format_of(header_size);
    const std::string stream = framed(format, "payload");
    for (std::size_t came = 0; came < stream.size(); ++came) {
      for (const std::size_t chunk : chunks_for(format.header_size, came)) {
        const Outcome outcome = feed(recv_goal::package(format), stream.substr(0, came), chunk, true);
        ASSERT_EQ(outcome.verdict.what, came == 0 ? verdict_kind::ended : verdict_kind::fail) << came;
        if (came != 0) {
          EXPECT_EQ(outcome.verdict.error, Errc::PkgTruncated) << came << " bytes of header size " << header_size;
        }
        EXPECT_EQ(outcome.rest, stream.substr(0, came));
      }
    }
    EXPECT_EQ(feed(recv_goal::package(format), stream, stream.size(), true).result, "payload");
  }
}

TEST(PkgGoal, LeavesEveryByteForAGoalOfAnotherKind) {
  const pkg_format two = format_of(2);
  const std::string stream = framed(two, "hello");
  for (std::size_t came = 0; came < stream.size(); ++came) {
    const Outcome first = feed(recv_goal::package(two), stream.substr(0, came), 1);
    ASSERT_EQ(first.verdict.what, verdict_kind::need_more);
    EXPECT_EQ(feed(recv_goal::package(format_of(1)), stream, 1).result, "");
    EXPECT_EQ(feed(recv_goal::bytes(static_cast<int>(stream.size())), stream, 1).result, stream);
  }
}

TEST(PkgGoal, NeverEndsBecauseItIsQuiet) {
  recv_goal goal = recv_goal::package(format_of(2));
  EXPECT_FALSE(goal.ends_when_quiet());
  EXPECT_EQ(goal.judge(std::string_view("\x00\x05he", 4), false, true).what, verdict_kind::need_more);
}

// ---- Numbers of bytes

TEST(BytesGoal, TakesExactlyAsManyAsAsked) {
  for (const std::size_t chunk : {1u, 2u, 3u, 100u}) {
    const Outcome outcome = feed(recv_goal::bytes(3), "abcdef", chunk);
    ASSERT_EQ(outcome.verdict.what, verdict_kind::take);
    EXPECT_EQ(outcome.result, "abc");
    EXPECT_EQ(outcome.rest, std::string("def").substr(0, outcome.rest.size()));
  }
  const Outcome outcome = feed(recv_goal::bytes(3), "ab", 1);
  EXPECT_EQ(outcome.verdict.what, verdict_kind::need_more);
  EXPECT_EQ(outcome.verdict.size, 3u);
  recv_goal largest = recv_goal::bytes(std::numeric_limits<int>::max());
  EXPECT_EQ(largest.judge("ab", false).size, static_cast<std::size_t>(std::numeric_limits<int>::max()));
}

TEST(BytesGoal, KeepsTooFewBytesWhenTheStreamEnds) {
  const Outcome outcome = feed(recv_goal::bytes(3), "ab", 1, true);
  EXPECT_EQ(outcome.verdict.what, verdict_kind::ended);
  EXPECT_EQ(outcome.rest, "ab");
  EXPECT_EQ(feed(recv_goal::bytes(3), "abc", 1, true).result, "abc");
}

TEST(BytesGoal, TakesWhatIsThereForLengthZero) {
  recv_goal goal = recv_goal::bytes(0);
  EXPECT_FALSE(goal.ends_when_quiet());
  EXPECT_EQ(goal.judge("", false).what, verdict_kind::need_more);
  EXPECT_EQ(goal.judge("", false).size, 1u);
  EXPECT_EQ(feed(goal, "abc", 2).result, "ab");
  EXPECT_EQ(feed(goal, "", 1, true).verdict.what, verdict_kind::ended);
}

TEST(BytesGoal, TakesAllUntilItIsQuietForANegativeLength) {
  for (const int length : {-1, -2, std::numeric_limits<int>::min()}) {
    recv_goal goal = recv_goal::bytes(length);
    EXPECT_TRUE(goal.ends_when_quiet());
    EXPECT_EQ(goal.judge("", false, true).what, verdict_kind::need_more)
        << "being quiet before the first byte ends nothing";
    EXPECT_EQ(goal.judge("abc", false).what, verdict_kind::need_more);
    EXPECT_EQ(goal.judge("abc", false).size, 4u);
    EXPECT_EQ(goal.judge("abc", false, true).what, verdict_kind::take);
    EXPECT_EQ(goal.judge("abc", false, true).size, 3u);
    EXPECT_EQ(goal.judge("abc", true).size, 3u) << "the end of the stream is the end of it all";
    EXPECT_EQ(goal.judge("", true).what, verdict_kind::ended);
  }
}

// ---- Delimiters

TEST(UntilGoal, TakesUpToTheDelimiterWhateverTheChunks) {
  for (const std::string_view delimiter : {"\n", "\r\n", "END", "aab"}) {
    const std::string text = delimiter == "aab" ? "aaaaaab" : "some text" + std::string(delimiter);
    for (const std::size_t chunk : {1u, 2u, 3u, 5u, 100u}) {
      const Outcome kept = feed(recv_goal::until(delimiter, true, 100), text + "rest", chunk);
      ASSERT_EQ(kept.verdict.what, verdict_kind::take) << delimiter << " in " << chunk;
      EXPECT_EQ(kept.result, text);
      EXPECT_EQ(kept.rest, std::string("rest").substr(0, kept.rest.size()));
      const Outcome dropped = feed(recv_goal::until(delimiter, false, 100), text + "rest", chunk);
      EXPECT_EQ(dropped.result, text.substr(0, text.size() - delimiter.size()));
      EXPECT_EQ(dropped.rest, kept.rest);
    }
  }
}

TEST(UntilGoal, TakesAnEmptyLine) {
  const Outcome outcome = feed(recv_goal::until("\n", false, 100), "\nx", 100);
  ASSERT_EQ(outcome.verdict.what, verdict_kind::take);
  EXPECT_EQ(outcome.result, "");
  EXPECT_EQ(outcome.rest, "x");
}

TEST(UntilGoal, IsExact) {
  EXPECT_EQ(feed(recv_goal::until("END", true, 100), "the end, End, ENd", 1).verdict.what, verdict_kind::need_more);
  const std::string zero("a\0b\0c", 5);
  EXPECT_EQ(feed(recv_goal::until(std::string_view("\0c", 2), true, 100), zero, 1).result, zero);
}

TEST(UntilGoal, FailsOverTheLimitAndKeepsTheBytes) {
  // The limit counts the delimiter: exactly as many is still a line.
  for (const std::size_t chunk : {1u, 2u, 4u, 100u}) {
    EXPECT_EQ(feed(recv_goal::until("\n", false, 5), "abcd\n", chunk).result, "abcd");
    EXPECT_EQ(feed(recv_goal::until("\r\n", true, 5), "abc\r\n", chunk).result, "abc\r\n");
    const Outcome with_end = feed(recv_goal::until("\n", false, 5), "abcde\n", chunk);
    ASSERT_EQ(with_end.verdict.what, verdict_kind::fail) << chunk;
    EXPECT_EQ(with_end.verdict.error, Errc::LineTooLong);
    const Outcome without_end = feed(recv_goal::until("\n", false, 5), "abcdef", chunk);
    EXPECT_EQ(without_end.verdict.error, Errc::LineTooLong);
    EXPECT_EQ(without_end.rest, "abcdef");
  }
}

TEST(UntilGoal, SearchesFromTheBeginningWhenOthersHaveTakenBytes) {
  recv_goal goal = recv_goal::until("\n", false, 100);
  ASSERT_EQ(goal.judge("abcdef", false).what, verdict_kind::need_more);
  goal.restart();
  const gtcp::detail::recv_verdict verdict = goal.judge("g\nhijklmn", false);
  ASSERT_EQ(verdict.what, verdict_kind::take);
  EXPECT_EQ(verdict.size, 1u);
}

TEST(UntilGoal, KeepsAHalfLineWhenTheStreamEnds) {
  const Outcome outcome = feed(recv_goal::until("\n", false, 100), "half", 1, true);
  EXPECT_EQ(outcome.verdict.what, verdict_kind::ended);
  EXPECT_EQ(outcome.rest, "half");
}

// ---- The other direction

TEST(PkgHeader, IsTheLengthMostSignificantByteFirst) {
  const auto header = [](int size, std::size_t length) {
    const auto made = gtcp::detail::make_pkg_header(format_of(size), length);
    return std::string(made.bytes.begin(), made.bytes.begin() + static_cast<std::ptrdiff_t>(made.size));
  };
  EXPECT_EQ(header(1, 0xFE), std::string("\xfe"));
  EXPECT_EQ(header(2, 5), std::string("\x00\x05", 2));
  EXPECT_EQ(header(2, 0x1234), std::string("\x12\x34"));
  EXPECT_EQ(header(3, 0x123456), std::string("\x12\x34\x56"));
  EXPECT_EQ(header(4, 0x12345678), std::string("\x12\x34\x56\x78"));
  EXPECT_EQ(header(4, 0), std::string(4, '\0'));
}

TEST(PkgHeader, IsRefusedForAPayloadOverTheLimitWithItsNumbers) {
  std::string why;
  EXPECT_FALSE(gtcp::detail::check_payload(format_of(1), 255, why));
  EXPECT_EQ(why, "");
  EXPECT_EQ(gtcp::detail::check_payload(format_of(1, 1000), 300, why), Errc::DataTooLong);
  EXPECT_EQ(why, "data size 300 exceeds the allowed max data size 255");
}

}  // namespace
