// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_FUZZ_RECV_SCRIPT_HPP
#define GTCP_TESTS_FUZZ_RECV_SCRIPT_HPP

// What an input of the receiving harnesses says: the options of a connection, what is received one after the other,
// in which pieces the stream comes and how it ends, and the stream. And what each receive must find, by a reader that
// has the whole stream from the beginning.

#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>

#include "fuzz_input.hpp"

#include <asio/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace gtcp_fuzz {

/// One receive.
struct wish {
  enum class kind { package, exactly, some, all, till };
  /// waits; gives up after one try, in two ways; waits asynchronously.
  enum class patience { waits, one_try, try_only, asynchronous };

  kind what = kind::package;
  patience how = patience::waits;
  gtcp::PkgOption option = {};  ///< package
  int length = 0;               ///< exactly
  std::string til;              ///< till
  bool is_line = false;         ///< till: RecvLine
};

struct recv_script {
  explicit recv_script(const std::uint8_t* data, std::size_t size) {
    input from(data, size);
    const std::uint8_t flags = from.byte();
    option = read_option(from, false);
    ends_with_reset = (flags & 1) != 0;
    is_pumped = (flags & 2) != 0;
    if ((flags & 4) != 0) max_line_size = 1 + from.up_to(100);
    wishes.resize(from.up_to(20));
    for (wish& each : wishes) each = read_wish(from);
    pieces.resize(from.up_to(60));
    for (std::uint8_t& piece : pieces) piece = from.byte();
    // These have come before anything is asked for.
    received = (flags & 8) != 0 ? from.up_to(30) : 0;
    stream = from.rest();
    received = std::min(received, stream.size());
  }

  /// An error of the system between pieces, or "nothing there yet"; else a number of bytes.
  static constexpr std::uint8_t nothing_yet = 0;
  static constexpr std::uint8_t no_memory = 255;

  gtcp::PkgOption option;
  std::size_t max_line_size = 1024 * 1024;
  bool ends_with_reset = false;
  bool is_pumped = false;  ///< the rest goes to a package handler
  std::vector<wish> wishes;
  std::vector<std::uint8_t> pieces;
  std::size_t received = 0;
  std::string_view stream;

  std::error_code end() const {
    return ends_with_reset ? make_error_code(asio::error::connection_reset) : make_error_code(asio::error::eof);
  }

 private:
  static gtcp::PkgOption read_option(input& from, bool may_be_wrong) {
    const std::uint8_t choice = from.byte();
    gtcp::PkgOption option;
    option.HeaderSize = choice % 8 <= 4 ? choice % 8 : 0;
    switch (choice / 8 % 4) {
      case 0: break;
      case 1: option.MaxDataSize = from.byte(); break;
      case 2: option.MaxDataSize = static_cast<long long>(from.up_to(5000)); break;
      default: option.MaxDataSize = 0x7FFF'FFFF; break;  // more than most headers can say
    }
    if (may_be_wrong && choice % 8 == 7) option.HeaderSize = 5;
    if (may_be_wrong && choice % 8 == 6) option.MaxDataSize = choice / 8 % 2 == 0 ? -1 : 0x8000'0000;
    return option;
  }

  static wish read_wish(input& from) {
    const std::uint8_t choice = from.byte();
    wish made;
    made.how = static_cast<wish::patience>(choice / 8 % 4);
    switch (choice % 8) {
      case 4:
        made.what = wish::kind::exactly;
        made.length = static_cast<int>(1 + from.up_to(254));
        if (choice / 32 == 7) made.length *= 8'421'504;  // up to the largest int
        break;
      case 5: made.what = wish::kind::some; break;
      case 6: made.what = wish::kind::all; break;
      case 7:
        made.what = wish::kind::till;
        made.is_line = choice / 32 % 2 == 0;
        made.til = "\n";
        if (!made.is_line) {
          made.til.resize(1 + from.up_to(3));
          for (char& each : made.til) each = static_cast<char>(from.byte());
        }
        break;
      default: made.option = read_option(from, true); break;
    }
    return made;
  }
};

/// What a receive finds.
struct outcome {
  std::error_code error = {};
  std::string_view bytes = {};  ///< of `some` and `all`: the most that it may be
  std::size_t taken = 0;        ///< from the stream
  bool may_be_a_part = false;   ///< it takes what is there, at least one byte
};

/// What `wanted` must find at the front of `rest`, to which nothing but `end` comes any more.
inline outcome expect(const wish& wanted, const recv_script& script, std::string_view rest) {
  switch (wanted.what) {
    case wish::kind::exactly: {
      const auto length = static_cast<std::size_t>(wanted.length);
      if (rest.size() < length) return {script.end()};
      return {{}, rest.substr(0, length), length};
    }
    case wish::kind::some:
    case wish::kind::all:
      if (rest.empty()) return {script.end()};
      return {{}, rest, rest.size(), true};
    case wish::kind::till: {
      const std::size_t found = rest.substr(0, script.max_line_size).find(wanted.til);
      if (found == std::string_view::npos)
        return {rest.size() > script.max_line_size ? make_error_code(gtcp::Errc::LineTooLong) : script.end()};
      const std::size_t end = found + wanted.til.size();
      return {{}, rest.substr(0, wanted.is_line ? found : end), end};
    }
    case wish::kind::package: break;
  }
  // Not given is what the connection has.
  gtcp::PkgOption option = wanted.option == gtcp::PkgOption() ? script.option : wanted.option;
  if (option.HeaderSize < 0 || option.HeaderSize > 4 || option.MaxDataSize < 0 || option.MaxDataSize > 0x7FFF'FFFF)
    return {make_error_code(gtcp::Errc::InvalidOption)};
  if (option.HeaderSize == 0) {
    option.HeaderSize = script.option.HeaderSize;
    if (option.MaxDataSize == 0) option.MaxDataSize = script.option.MaxDataSize;
  }
  const std::size_t header = option.HeaderSize == 0 ? 2 : static_cast<std::size_t>(option.HeaderSize);
  std::size_t most = header == 4 ? 0x7FFF'FFFF : (std::size_t{1} << (8 * header)) - 1;
  if (option.MaxDataSize != 0) most = std::min(most, static_cast<std::size_t>(option.MaxDataSize));
  const std::error_code inside = script.ends_with_reset ? script.end() : make_error_code(gtcp::Errc::PkgTruncated);
  if (rest.empty()) return {script.end()};
  if (rest.size() < header) return {inside};
  std::size_t size = 0;
  for (std::size_t i = 0; i < header; ++i) size = size << 8 | static_cast<unsigned char>(rest[i]);
  if (size > most) return {make_error_code(gtcp::Errc::PkgTooLarge)};
  if (rest.size() - header < size) return {inside};
  return {{}, rest.substr(header, size), header + size};
}

/// Whether `got` is what must be found; moves `rest` on.
inline void check(const outcome& expected, const std::error_code& error, std::string_view got, std::string_view& rest) {
  if (error != expected.error)
    std::fprintf(stderr, "%s instead of %s\n", error.message().c_str(), expected.error.message().c_str());
  FUZZ_CHECK(error == expected.error);
  if (error) return;
  if (expected.may_be_a_part) {
    FUZZ_CHECK(!got.empty());
    FUZZ_CHECK(rest.substr(0, got.size()) == got);
    rest.remove_prefix(got.size());
  } else {
    FUZZ_CHECK(got == expected.bytes);
    rest.remove_prefix(expected.taken);
  }
}

}  // namespace gtcp_fuzz

#endif
