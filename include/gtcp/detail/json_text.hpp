// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_JSON_TEXT_HPP
#define GTCP_DETAIL_JSON_TEXT_HPP

// What reading and writing JSON text share: UTF-8, runs of plain characters, and quoting for error messages.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gtcp::detail {

/// How deep arrays and objects may be nested, the outermost counted.
inline constexpr int max_json_depth = 64;

/// U+FFFD, which takes the place of every byte that is not UTF-8 and of every lone surrogate.
inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

/// Returns the length of the well-formed UTF-8 sequence at `first`, or 0 if there is none.
///
/// Overlong forms, surrogates and what is over U+10FFFF are not well-formed; the caller then takes a single byte as
/// bad, as Go does.
inline std::size_t utf8_length(const char* first, const char* last) noexcept {
  const auto byte = [first](std::size_t i) { return static_cast<unsigned char>(first[i]); };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const auto left = static_cast<std::size_t>(last - first);
  if (left == 0) return 0;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (lead < 0xE0) return left >= 2 && tail(1) ? 2 : 0;
  if (lead < 0xF0) {
    if (left < 3 || !tail(1) || !tail(2)) return 0;
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;
    if (lead == 0xED && byte(1) > 0x9F) return 0;
    return 3;
  }
  if (left < 4 || !tail(1) || !tail(2) || !tail(3)) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;
  return 4;
}

/// Appends a code point, which is at most U+10FFFF and no surrogate.
inline void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | (code >> 6));
    out += tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | (code >> 12));
    out += tail(6);
    out += tail(0);
  } else {
    out += static_cast<char>(0xF0 | (code >> 18));
    out += tail(12);
    out += tail(6);
    out += tail(0);
  }
}

inline constexpr std::uint64_t every_byte(unsigned char byte) noexcept { return 0x0101010101010101ULL * byte; }

/// Sets the high bit of bytes of `word` that are `byte`. Above such a byte others may be set by mistake, below never.
inline constexpr std::uint64_t bytes_equal(std::uint64_t word, unsigned char byte) noexcept {
  const std::uint64_t zero_where_equal = word ^ every_byte(byte);
  return zero_where_equal - every_byte(1);
}

/// Skips the bytes that stand for themselves in a JSON string: from the blank to 0x7F, without the quote, the
/// backslash and the bytes in `Others`. Eight at a time: most text is made of nothing else.
template <unsigned char... Others>
const char* skip_plain(const char* first, const char* last) noexcept {
  while (last - first >= 8) {
    std::uint64_t word;
    std::memcpy(&word, first, sizeof word);
    // A high bit set in `word` itself marks a byte that is not ASCII; the subtractions mark the rest. A mark may be
    // false beside a true one, so whatever is marked is looked at again byte by byte.
    std::uint64_t marks = word | (word - every_byte(0x20)) | bytes_equal(word, '"') | bytes_equal(word, '\\');
    ((marks |= bytes_equal(word, Others)), ...);
    if ((marks & every_byte(0x80)) != 0) break;
    first += 8;
  }
  for (; first != last; ++first) {
    const auto byte = static_cast<unsigned char>(*first);
    if (byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\' || ((byte == Others) || ...)) break;
  }
  return first;
}

/// Appends the first 64 bytes of `text` for people to read: printable ASCII as it is, all else as \xNN.
inline void append_quote(std::string& out, std::string_view text) {
  constexpr std::size_t limit = 64;
  constexpr char hex[] = "0123456789abcdef";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      out += c;
    } else {
      out += "\\x";
      out += hex[byte >> 4];
      out += hex[byte & 0xF];
    }
  }
  if (text.size() > limit) out += "...";
}

}  // namespace gtcp::detail

#endif
