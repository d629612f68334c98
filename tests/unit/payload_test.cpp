// SPDX-License-Identifier: MIT
#include <gtcp/payload.hpp>

#include <gtest/gtest.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using gtcp::AsyncPayload;
using gtcp::Payload;

std::string text(const Payload& payload) {
  return std::string(static_cast<const char*>(payload.Data()), payload.Size());
}
std::string text(const AsyncPayload& payload) {
  return std::string(static_cast<const char*>(payload.Buffer().data()), payload.Buffer().size());
}

const std::string some_bytes("ab\0cd", 5);

TEST(Payload, PointsToWhateverIsARowOfBytes) {
  EXPECT_EQ(text(Payload(some_bytes)), some_bytes);
  EXPECT_EQ(text(Payload(std::string_view(some_bytes))), some_bytes);
  EXPECT_EQ(text(Payload(asio::const_buffer(some_bytes.data(), some_bytes.size()))), some_bytes);
  std::string changeable = some_bytes;
  EXPECT_EQ(text(Payload(asio::buffer(changeable))), some_bytes);
  EXPECT_EQ(text(Payload(std::span<const char>(some_bytes))), some_bytes);
  EXPECT_EQ(text(Payload(std::vector<char>(some_bytes.begin(), some_bytes.end()))), some_bytes);
  const std::vector<unsigned char> unsigned_bytes(some_bytes.begin(), some_bytes.end());
  EXPECT_EQ(text(Payload(unsigned_bytes)), some_bytes);
  EXPECT_EQ(text(Payload(std::as_bytes(std::span(some_bytes)))), some_bytes);
  const std::array<std::byte, 2> two = {std::byte{'x'}, std::byte{'y'}};
  EXPECT_EQ(text(Payload(two)), "xy");
  EXPECT_EQ(text(Payload(std::u8string(u8"\u00fc"))), "\xc3\xbc");
}

TEST(Payload, DoesNotCopy) {
  EXPECT_EQ(Payload(some_bytes).Data(), some_bytes.data());
  EXPECT_EQ(Payload(std::string_view(some_bytes).substr(1)).Data(), some_bytes.data() + 1);
}

TEST(Payload, EndsACStringAtItsNul) {
  EXPECT_EQ(text(Payload("hello")), "hello");
  EXPECT_EQ(text(Payload("he\0llo")), "he");
  const char* const none = nullptr;
  EXPECT_EQ(Payload(none).Size(), 0u);
}

TEST(Payload, IsEmptyByDefault) {
  EXPECT_EQ(Payload().Size(), 0u);
  EXPECT_EQ(Payload("").Size(), 0u);
  EXPECT_EQ(Payload(std::string()).Size(), 0u);
  EXPECT_EQ(Payload(std::vector<char>()).Size(), 0u);
}

TEST(Payload, TakesNoRowOfOtherThings) {
  static_assert(!std::convertible_to<std::vector<int>, Payload>);
  static_assert(!std::convertible_to<std::u32string, Payload>);
  static_assert(!std::convertible_to<int, Payload>);
  static_assert(!std::convertible_to<std::vector<std::string>, Payload>);
}

TEST(AsyncPayload, TakesATemporaryStringOver) {
  std::string large(1000, 'x');
  const char* const memory = large.data();
  const AsyncPayload payload(std::move(large));
  EXPECT_EQ(payload.Buffer().data(), memory) << "a large string moves, it is not copied";
  EXPECT_EQ(payload.Size(), 1000u);
}

TEST(AsyncPayload, OwnsATemporaryVector) {
  AsyncPayload payload(std::vector<unsigned char>(some_bytes.begin(), some_bytes.end()));
  EXPECT_EQ(text(payload), some_bytes);
}

TEST(AsyncPayload, BorrowsEverythingElse) {
  std::string own = "own";
  EXPECT_EQ(AsyncPayload(own).Buffer().data(), own.data());
  EXPECT_EQ(AsyncPayload(std::string_view(own)).Buffer().data(), own.data());
  EXPECT_EQ(AsyncPayload(asio::buffer(own)).Buffer().data(), own.data());
  const std::vector<char> vector = {'a'};
  EXPECT_EQ(AsyncPayload(vector).Buffer().data(), vector.data());
  EXPECT_EQ(text(AsyncPayload("literal")), "literal");
}

TEST(AsyncPayload, KeepsItsBytesWhenMoved) {
  // A short string lives inside the object, so what was asked before the move points nowhere.
  AsyncPayload first(std::string("short"));
  const AsyncPayload second(std::move(first));
  EXPECT_EQ(text(second), "short");
  AsyncPayload third(std::string_view("borrowed"));
  const AsyncPayload fourth(std::move(third));
  EXPECT_EQ(text(fourth), "borrowed");
  EXPECT_EQ(AsyncPayload().Size(), 0u);
}

}  // namespace
