// SPDX-License-Identifier: MIT
#include <gtcp/detail/copy_bytes.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace {

using gtcp::detail::assign_bytes;
using gtcp::detail::copied_piece;
using gtcp::detail::copy_bytes;
using gtcp::detail::piece_to_copy;

constexpr std::size_t sizes[] = {0, 1, copied_piece - 1, copied_piece, copied_piece + 1, 3 * copied_piece, 10'000};

std::string different_bytes(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

TEST(CopyBytes, CopiesToAnyPlaceWithinAPage) {
  std::vector<char> target(3 * 4096 + 10'000);
  for (const std::size_t size : sizes) {
    const std::string source = different_bytes(size);
    for (std::size_t at = 0; at < 4096 + 20; at += at < 40 ? 1 : 509) {
      char* const to = target.data() + at;
      to[size] = '!';
      copy_bytes(to, source.data(), size);
      ASSERT_EQ(std::string_view(to, size), source) << size << " bytes to " << at;
      ASSERT_EQ(to[size], '!');
    }
  }
}

TEST(CopyBytes, MovesToTheFrontOverTheBeginningOfTheSource) {
  const std::string bytes = different_bytes(20'000);
  for (const std::size_t distance : {1u, 2u, 15u, 16u, 1023u, 1024u, 1025u, 4081u, 4090u, 4095u, 4096u, 8190u}) {
    std::string moved = bytes;
    copy_bytes(moved.data(), moved.data() + distance, moved.size() - distance);
    EXPECT_EQ(moved.substr(0, moved.size() - distance), bytes.substr(distance)) << distance;
  }
}

TEST(CopyBytes, TakesSmallPiecesWhereMemcpyWouldBeSlow) {
  std::vector<char> memory(3 * 4096);
  const char* const from = memory.data();
  for (std::size_t behind = 0; behind < 4096; ++behind) {
    const bool is_slow = behind != 0 && behind < 16;
    EXPECT_EQ(piece_to_copy(from + behind, from, 10'000), is_slow ? copied_piece : 10'000) << behind;
    EXPECT_EQ(piece_to_copy(from + 4096 + behind, from, 10'000), is_slow ? copied_piece : 10'000) << behind;
  }
}

TEST(AssignBytes, MakesACopyOfAnySizeOutOfAnyString) {
  for (const std::size_t before : sizes) {
    for (const std::size_t size : sizes) {
      const std::string source = different_bytes(size + 16);
      for (std::size_t at = 0; at < 16; ++at) {
        std::string to(before, 'x');
        assign_bytes(to, source.data() + at, size);
        ASSERT_EQ(to, source.substr(at, size)) << before << " bytes before";
      }
    }
  }
}

TEST(AssignBytes, UsesTheMemoryThatIsThere) {
  std::string to;
  to.reserve(10'000);
  const char* const memory = to.data();
  assign_bytes(to, different_bytes(10'000).data(), 10'000);
  EXPECT_EQ(to.data(), memory);
}

}  // namespace
