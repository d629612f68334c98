// SPDX-License-Identifier: MIT
#ifndef GTCP_BENCH_CONTENT_HPP
#define GTCP_BENCH_CONTENT_HPP

// What the packages hold, so that a lost, doubled, reordered, torn or mixed one shows: its number and its sender in
// front, its number once more at the end, and between them bytes that depend on their place.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace bench {

inline constexpr std::size_t stamp_size = 24;  ///< no payload is smaller
inline constexpr std::size_t max_payload = std::size_t{1} << 20;

/// Which package of which sender.
struct stamp {
  std::uint64_t number = 0;
  std::uint64_t sender = 0;
};

inline const std::string& filler() {
  static const std::string bytes = [] {
    std::string made(max_payload, '\0');
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<char>((i * 7 + (i >> 8)) % 251);
    return made;
  }();
  return bytes;
}

/// Stamps a payload whose middle is in place.
inline void put_stamp(char* payload, std::size_t size, const stamp& by) {
  const std::uint64_t last = ~by.number;
  std::memcpy(payload, &by.number, 8);
  std::memcpy(payload + 8, &by.sender, 8);
  std::memcpy(payload + size - 8, &last, 8);
}

inline void fill(char* payload, std::size_t size, const stamp& by) {
  std::memcpy(payload, filler().data(), size);
  put_stamp(payload, size, by);
}

inline stamp stamp_of(const char* payload) {
  stamp read;
  std::memcpy(&read.number, payload, 8);
  std::memcpy(&read.sender, payload + 8, 8);
  return read;
}

/// Whether all but the stamp in front is as `fill` writes it for that stamp.
inline bool rest_is_right(const char* payload, std::size_t size) {
  std::uint64_t last = 0;
  std::memcpy(&last, payload + size - 8, 8);
  return last == ~stamp_of(payload).number && std::memcmp(payload + 16, filler().data() + 16, size - stamp_size) == 0;
}

inline bool is_right(const char* payload, std::size_t size, const stamp& by) {
  const stamp read = stamp_of(payload);
  return read.number == by.number && read.sender == by.sender && rest_is_right(payload, size);
}

inline void put_length(char* header, std::size_t header_size, std::size_t length) {
  for (std::size_t i = header_size; i-- > 0; length >>= 8) header[i] = static_cast<char>(length & 0xFF);
}

inline std::size_t length_of(const char* header, std::size_t header_size) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < header_size; ++i) length = length << 8 | static_cast<unsigned char>(header[i]);
  return length;
}

/// Checks the packages of several senders: each sender's must come whole, all of them, and in order.
class checker {
 public:
  bool take(const char* payload, std::size_t size, std::size_t expected_size) {
    if (size != expected_size) return false;
    const stamp by = stamp_of(payload);
    return by.sender < next_.size() && by.number == next_[by.sender]++ && rest_is_right(payload, size);
  }

 private:
  std::array<std::uint64_t, 64> next_{};
};

}  // namespace bench

#endif
