// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_BLOCK_POOL_HPP
#define GTCP_DETAIL_BLOCK_POOL_HPP

// Where buffers have their memory from.

#include <gtcp/detail/per_process.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>

namespace gtcp::detail {

/// Keeps blocks whose sizes are powers of two for reuse: a fresh large block is page faults at every use.
class block_pool {
 public:
  static constexpr std::size_t smallest = std::size_t{1} << 12;
  static constexpr std::size_t largest_kept = std::size_t{1} << 20;

  static constexpr std::size_t round_up(std::size_t size) noexcept { return std::bit_ceil(std::max(size, smallest)); }

  /// Returns a block of round_up(size) bytes.
  char* take(std::size_t size) {
    size = round_up(size);
    if (size <= largest_kept) {
      shelf& blocks = shelf_of(size);
      const std::lock_guard lock(mutex_);
      if (blocks.first != nullptr) {
        --blocks.count;
        return reinterpret_cast<char*>(std::exchange(blocks.first, blocks.first->next));
      }
    }
    return static_cast<char*>(::operator new(size));
  }

  void give_back(char* block, std::size_t size) noexcept {
    if (size <= largest_kept) {
      shelf& blocks = shelf_of(size);
      const std::lock_guard lock(mutex_);
      if (blocks.count * size < max_kept_per_size) {
        blocks.first = new (block) free_block{blocks.first};
        ++blocks.count;
        return;
      }
    }
    ::operator delete(block);
  }

 private:
  struct free_block {
    free_block* next;
  };
  struct shelf {
    free_block* first = nullptr;
    std::size_t count = 0;
  };
  static constexpr std::size_t max_kept_per_size = std::size_t{4} << 20;

  shelf& shelf_of(std::size_t size) noexcept {
    return shelves_[static_cast<std::size_t>(std::countr_zero(size) - std::countr_zero(smallest))];
  }

  std::mutex mutex_;
  std::array<shelf, std::countr_zero(largest_kept) - std::countr_zero(smallest) + 1> shelves_;
};

/// The blocks that an io thread has by itself, one of each size up to 128 KiB, so that it need not lock the pool for
/// each package. (A thread that waits in a blocking call keeps none: there may be thousands.) While it exists the
/// calling thread uses it.
class block_shelf {
 public:
  block_shelf() noexcept : outer_(std::exchange(of_this_thread(), this)) {}
  ~block_shelf() {
    of_this_thread() = outer_;
    for (std::size_t i = 0; i < own_.size(); ++i) {
      if (own_[i] != nullptr) give_back(own_[i], block_pool::smallest << i);
    }
  }
  block_shelf(const block_shelf&) = delete;
  block_shelf& operator=(const block_shelf&) = delete;

  /// Returns a block of block_pool::round_up(size) bytes, from the thread's own or from the pool.
  static char* take(std::size_t size) {
    if (char** const own = place_for(block_pool::round_up(size)); own != nullptr && *own != nullptr) {
      return std::exchange(*own, nullptr);
    }
    return per_process<block_pool>::instance().take(size);
  }

  /// The other way round; `size` is the block's.
  static void give_back(char* block, std::size_t size) noexcept {
    if (char** const own = place_for(size); own != nullptr && *own == nullptr) {
      *own = block;
      return;
    }
    try {
      per_process<block_pool>::instance().give_back(block, size);
    } catch (const std::bad_alloc&) {  // there is no pool yet: a child's, whose parent had made the block
      ::operator delete(block);
    }
  }

 private:
  static constexpr std::size_t largest = std::size_t{128} << 10;

  static block_shelf*& of_this_thread() noexcept {
    static thread_local block_shelf* shelf = nullptr;
    return shelf;
  }

  static char** place_for(std::size_t size) noexcept {
    block_shelf* const shelf = of_this_thread();
    if (shelf == nullptr || size > largest) return nullptr;
    return &shelf->own_[static_cast<std::size_t>(std::countr_zero(size) - std::countr_zero(block_pool::smallest))];
  }

  block_shelf* const outer_;
  std::array<char*, std::countr_zero(largest) - std::countr_zero(block_pool::smallest) + 1> own_{};
};

}  // namespace gtcp::detail

#endif
