// SPDX-License-Identifier: MIT
#include <gtcp/detail/byte_buffer.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

using gtcp::detail::block_pool;
using gtcp::detail::block_shelf;
using gtcp::detail::byte_buffer;

void append(byte_buffer& buffer, std::string_view bytes) { buffer.append(bytes.data(), bytes.size()); }

TEST(ByteBuffer, HoldsNoMemoryUntilItIsUsed) {
  byte_buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.capacity(), 0u);
  EXPECT_EQ(buffer.view(), "");
  append(buffer, "");
  EXPECT_EQ(buffer.capacity(), 0u) << "nothing appended needs no memory";
}

TEST(ByteBuffer, FillsAtItsEndAndEmptiesAtItsFront) {
  byte_buffer buffer;
  append(buffer, "hello ");
  append(buffer, "world");
  EXPECT_EQ(buffer.view(), "hello world");
  buffer.consume(6);
  EXPECT_EQ(buffer.view(), "world");
  append(buffer, "!");
  EXPECT_EQ(buffer.view(), "world!");
  buffer.consume(6);
  EXPECT_TRUE(buffer.empty());
}

TEST(ByteBuffer, PreparesAtLeastWhatIsAskedAndCommitsWhatCame) {
  byte_buffer buffer;
  append(buffer, "ab");
  const asio::mutable_buffer room = buffer.prepare(100'000);
  ASSERT_GE(room.size(), 100'000u);
  std::memcpy(room.data(), "cd", 2);
  EXPECT_EQ(buffer.view(), "ab") << "prepared is not committed";
  buffer.commit(2);
  EXPECT_EQ(buffer.view(), "abcd");
}

TEST(ByteBuffer, KeepsItsBytesWhileItGrowsOrMoves) {
  byte_buffer buffer;
  std::string expected;
  std::size_t consumed = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::string part(static_cast<std::size_t>(round % 97) + 1, static_cast<char>('a' + round % 26));
    append(buffer, part);
    expected += part;
    if (round % 3 == 0) {
      const std::size_t some = buffer.size() / 4;
      buffer.consume(some);
      consumed += some;
    }
    ASSERT_EQ(buffer.view(), std::string_view(expected).substr(consumed));
  }
}

TEST(ByteBuffer, UsesItsFrontAgainBeforeItGrows) {
  byte_buffer buffer;
  append(buffer, std::string(4000, 'x'));
  const std::size_t capacity = buffer.capacity();
  for (int round = 0; round < 100; ++round) {
    buffer.consume(3000);
    append(buffer, std::string(3000, 'y'));
    ASSERT_EQ(buffer.size(), 4000u);
    ASSERT_EQ(buffer.capacity(), capacity);
  }
}

TEST(ByteBuffer, GivesItsMemoryBack) {
  byte_buffer buffer;
  append(buffer, std::string(100'000, 'x'));
  buffer.release();
  EXPECT_EQ(buffer.capacity(), 0u);
  EXPECT_TRUE(buffer.empty());
  append(buffer, "again");
  EXPECT_EQ(buffer.view(), "again");
}

TEST(ByteBuffer, ShrinksToWhatIsHeld) {
  byte_buffer buffer;
  static_cast<void>(buffer.prepare(128 * 1024));
  append(buffer, "half a package");
  buffer.shrink();
  EXPECT_LE(buffer.capacity(), block_pool::smallest);
  EXPECT_EQ(buffer.view(), "half a package");
  buffer.consume(buffer.size());
  buffer.shrink();
  EXPECT_EQ(buffer.capacity(), 0u);
}

TEST(ByteBuffer, MovesAndSwaps) {
  byte_buffer first;
  append(first, "first");
  byte_buffer second(std::move(first));
  EXPECT_EQ(second.view(), "first");
  byte_buffer third;
  append(third, "third");
  swap(second, third);
  EXPECT_EQ(second.view(), "third");
  EXPECT_EQ(third.view(), "first");
  second = std::move(third);
  EXPECT_EQ(second.view(), "first");
}

TEST(BlockPool, RoundsUpToPowersOfTwo) {
  EXPECT_EQ(block_pool::round_up(0), 4096u);
  EXPECT_EQ(block_pool::round_up(4096), 4096u);
  EXPECT_EQ(block_pool::round_up(4097), 8192u);
  EXPECT_EQ(block_pool::round_up((std::size_t{1} << 20) + 1), std::size_t{1} << 21);
}

TEST(BlockPool, NeverHandsABlockOutTwice) {
  block_pool& pool = gtcp::detail::per_process<block_pool>::instance();
  for (const std::size_t size : {block_pool::smallest, block_pool::largest_kept, 4 * block_pool::largest_kept}) {
    for (int round = 0; round < 2; ++round) {
      std::set<char*> blocks;
      for (int i = 0; i < 8; ++i) {
        char* const block = pool.take(size);
        std::memset(block, i, size);
        EXPECT_TRUE(blocks.insert(block).second);
      }
      for (char* const block : blocks) pool.give_back(block, size);
    }
  }
}

TEST(BlockShelf, KeepsABlockOfEachSizeForItsThread) {
  for (const std::size_t size : {block_pool::smallest, 32 * block_pool::smallest}) {
    char* own = nullptr;
    {
      const block_shelf shelf;
      own = block_shelf::take(size);
      block_shelf::give_back(own, size);
      std::thread([&] {
        char* const of_pool = block_shelf::take(size);
        EXPECT_NE(of_pool, own);
        block_shelf::give_back(of_pool, size);
      }).join();
      EXPECT_EQ(block_shelf::take(size), own);
      char* const second = block_shelf::take(size);
      EXPECT_NE(second, own);
      block_shelf::give_back(own, size);
      block_shelf::give_back(second, size);
    }
    char* const again = block_shelf::take(size);
    EXPECT_EQ(again, own) << "a shelf that ends gives its blocks to the pool";
    block_shelf::give_back(again, size);
  }
}

TEST(BlockShelf, LeavesLargeBlocksToThePool) {
  const std::size_t size = 64 * block_pool::smallest;
  const block_shelf shelf;
  char* const block = block_shelf::take(size);
  block_shelf::give_back(block, size);
  std::thread([&] {
    EXPECT_EQ(block_shelf::take(size), block);
    block_shelf::give_back(block, size);
  }).join();
}

TEST(BlockPool, ServesManyThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int round = 0; round < 2000; ++round) {
        byte_buffer buffer;
        const std::string bytes(static_cast<std::size_t>(round % 20) * 1000 + 1, static_cast<char>('a' + i));
        append(buffer, bytes);
        ASSERT_EQ(buffer.view(), bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
