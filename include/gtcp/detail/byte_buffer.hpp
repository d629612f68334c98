// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_BYTE_BUFFER_HPP
#define GTCP_DETAIL_BYTE_BUFFER_HPP

// A flat buffer that fills at its end and empties at its front. One that is empty gives its memory back, so that an
// idle connection holds none.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <gtcp/detail/block_pool.hpp>
#include <gtcp/detail/copy_bytes.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <new>
#include <string_view>
#include <utility>

namespace gtcp::detail {

class byte_buffer {
 public:
  byte_buffer() = default;
  byte_buffer(byte_buffer&& other) noexcept { swap(*this, other); }
  byte_buffer& operator=(byte_buffer&& other) noexcept {
    byte_buffer moved(std::move(other));
    swap(*this, moved);
    return *this;
  }
  ~byte_buffer() { release(); }

  friend void swap(byte_buffer& a, byte_buffer& b) noexcept {
    std::swap(a.block_, b.block_);
    std::swap(a.capacity_, b.capacity_);
    std::swap(a.begin_, b.begin_);
    std::swap(a.end_, b.end_);
  }

  bool empty() const noexcept { return begin_ == end_; }
  std::size_t size() const noexcept { return end_ - begin_; }
  std::size_t capacity() const noexcept { return capacity_; }
  const char* data() const noexcept { return block_ + begin_; }
  std::string_view view() const noexcept { return {data(), size()}; }

  bool has_room(std::size_t size) const noexcept { return capacity_ - end_ >= size; }

  /// Returns the free space at the end, at least `size` bytes; moves or copies what is held to make it.
  asio::mutable_buffer prepare(std::size_t size) {
    if (!has_room(size)) make_room(size);
    return {block_ + end_, capacity_ - end_};
  }

  /// Makes the first `size` bytes of the prepared space part of what is held.
  void commit(std::size_t size) noexcept { end_ += size; }

  void append(const void* bytes, std::size_t size) {
    if (size == 0) return;
    copy_bytes(static_cast<char*>(prepare(size).data()), static_cast<const char*>(bytes), size);
    commit(size);
  }

  /// Drops `size` bytes from the front.
  void consume(std::size_t size) noexcept {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  /// Drops everything and gives the memory back.
  void release() noexcept {
    if (block_ != nullptr) block_shelf::give_back(block_, capacity_);
    block_ = nullptr;
    capacity_ = begin_ = end_ = 0;
  }

  /// Gives back memory that what is held does not need, when that is most of it.
  void shrink() noexcept {
    if (empty()) {
      release();
    } else if (block_pool::round_up(size()) <= capacity_ / 8) {
      try {
        reallocate(size());
      } catch (const std::bad_alloc&) {  // it stays as it is
      }
    }
  }

 private:
  [[gnu::noinline]] void make_room(std::size_t size) {
    const std::size_t needed = this->size() + size;
    if (needed <= capacity_) {
      copy_bytes(block_, block_ + begin_, this->size());
      end_ -= begin_;
      begin_ = 0;
    } else {
      reallocate(needed);
    }
  }

  void reallocate(std::size_t capacity) {
    byte_buffer larger;
    larger.block_ = block_shelf::take(capacity);
    larger.capacity_ = block_pool::round_up(capacity);
    if (!empty()) copy_bytes(larger.block_, data(), size());
    larger.end_ = size();
    swap(*this, larger);
  }

  char* block_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace gtcp::detail

#endif
