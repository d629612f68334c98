// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_COPY_BYTES_HPP
#define GTCP_DETAIL_COPY_BYTES_HPP

// Copying of payloads. From 2 KiB on memcpy may be `rep movsb` (glibc before 2.39 on AMD's Zen 3 and 4), which takes
// fifteen times as long where the target, within its page, is 1 to 15 bytes behind the source. That is no rare chance:
// a payload begins some bytes behind an aligned address, and goes to an aligned one. In small pieces it is a loop of
// vector registers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace gtcp::detail {

inline constexpr std::size_t copied_piece = 1024;

/// How much of so many bytes to copy at once.
inline std::size_t piece_to_copy(const void* to, const void* from, std::size_t size) noexcept {
  constexpr std::uintptr_t page = 4096;
  constexpr std::uintptr_t slow = 16;
  const std::uintptr_t behind = (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) % page;
  return behind == 0 || behind >= slow ? size : std::min(size, copied_piece);
}

[[gnu::noinline]] inline void copy_large(char* to, const char* from, std::size_t size) noexcept {
  const std::size_t piece = piece_to_copy(to, from, size);
  for (std::size_t done = 0; done < size; done += piece) {
    std::memmove(to + done, from + done, std::min(piece, size - done));
  }
}

/// Copies, also to where it overlaps the beginning of the source.
inline void copy_bytes(char* to, const char* from, std::size_t size) noexcept {
  if (size > copied_piece) return copy_large(to, from, size);
  std::memmove(to, from, size);
}

/// Sets the string to more bytes than it holds. When there is no memory it stays as it is.
[[gnu::noinline]] inline void assign_large(std::string& to, const char* from, std::size_t size) {
  to.reserve(size);
  to.clear();
  const std::size_t piece = piece_to_copy(to.data(), from, size);
  for (std::size_t done = 0; done < size; done += piece) to.append(from + done, std::min(piece, size - done));
}

/// Makes the string a copy. When there is no memory it stays as it is.
inline void assign_bytes(std::string& to, const char* from, std::size_t size) {
  if (size != 0 && size <= to.size()) {  // half of what assign() costs
    copy_bytes(to.data(), from, size);
    to.resize(size);
  } else if (size > copied_piece) {
    assign_large(to, from, size);
  } else {
    to.assign(from, size);
  }
}

}  // namespace gtcp::detail

#endif
