// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_RECV_GOAL_HPP
#define GTCP_DETAIL_RECV_GOAL_HPP

// What a receive wants, and whether the bytes that came are it: a package, a number of bytes, a line, whatever is
// there. No socket, no clock, no thread. Nothing is taken before all of it is there, so an operation that gives up
// leaves every byte for the next one, whatever that one wants.

#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace gtcp::detail {

struct recv_verdict {
  enum class kind : unsigned char { need_more, take, ended, fail };

  kind what = kind::need_more;  ///< ended: no more will come, and nothing has begun
  Errc error{};                 ///< fail
  std::size_t skip = 0;         ///< take: bytes to drop before the result
  std::size_t size = 0;         ///< take: bytes of the result; need_more: how many must be buffered in all; fail: the
                                ///< length that is too large
  std::size_t drop = 0;         ///< take: bytes to drop after the result

  static recv_verdict need(std::size_t total) { return {.size = total}; }
  static recv_verdict take(std::size_t skip, std::size_t size, std::size_t drop = 0) {
    return {.what = kind::take, .skip = skip, .size = size, .drop = drop};
  }
  static recv_verdict end() { return {.what = kind::ended}; }
  static recv_verdict fail(Errc error, std::size_t size = 0) {
    return {.what = kind::fail, .error = error, .size = size};
  }
};

/// Looks for a package at the front of what came.
inline recv_verdict judge_package(std::size_t header_size, std::size_t max_data_size, std::string_view buffered) {
  if (buffered.size() < header_size) return recv_verdict::need(header_size);
  std::size_t size = 0;
  for (std::size_t i = 0; i < header_size; ++i) size = size << 8 | static_cast<unsigned char>(buffered[i]);
  if (size > max_data_size) return recv_verdict::fail(Errc::PkgTooLarge, size);
  const std::size_t total = header_size + size;
  return buffered.size() < total ? recv_verdict::need(total) : recv_verdict::take(header_size, size);
}

class recv_goal {
 public:
  /// No bytes at all, only the transport's handshake.
  static recv_goal handshake() { return recv_goal(kind::handshake); }

  /// One package.
  static recv_goal package(const pkg_format& format) {
    recv_goal goal(kind::package);
    goal.header_size_ = static_cast<unsigned char>(format.header_size);
    goal.length_ = format.max_data_size;
    return goal;
  }

  /// GoFrame's Recv: exactly `length` bytes; 0: what is there, at least one byte; negative: all that comes until it
  /// is quiet for a while.
  static recv_goal bytes(int length) {
    recv_goal goal(length > 0 ? kind::exactly : length == 0 ? kind::some : kind::all);
    goal.length_ = length > 0 ? static_cast<std::size_t>(length) : 0;
    return goal;
  }

  /// All bytes up to `delimiter`, at most `limit` of them, with or without the delimiter in the result.
  static recv_goal until(std::string_view delimiter, bool keep_delimiter, std::size_t limit) {
    recv_goal goal(kind::until);
    goal.delimiter_ = delimiter;
    goal.keep_delimiter_ = keep_delimiter;
    goal.length_ = limit;
    return goal;
  }

  bool is_handshake() const noexcept { return kind_ == kind::handshake; }
  bool is_package() const noexcept { return kind_ == kind::package; }

  /// Whether the receive ends when nothing more came for a while.
  bool ends_when_quiet() const noexcept { return kind_ == kind::all; }

  /// Others may have taken bytes since it judged.
  void restart() noexcept { searched_ = 0; }

  /// Says what to do with `buffered`, the bytes that came and were not taken yet. `ended`: no more will come. `quiet`:
  /// nothing more came for the time that ends_when_quiet() asks for.
  recv_verdict judge(std::string_view buffered, bool ended, bool quiet = false) {
    if (kind_ != kind::package) return judge_bytes(buffered, ended, quiet);
    const recv_verdict verdict = judge_package(header_size_, length_, buffered);
    if (!ended || verdict.what != recv_verdict::kind::need_more) return verdict;
    return buffered.empty() ? recv_verdict::end() : recv_verdict::fail(Errc::PkgTruncated);
  }

 private:
  enum class kind : unsigned char { package, handshake, exactly, some, all, until };

  explicit recv_goal(kind what) : kind_(what) {}

  recv_verdict judge_bytes(std::string_view buffered, bool ended, bool quiet) {
    const auto missing = [ended](std::size_t total) { return ended ? recv_verdict::end() : recv_verdict::need(total); };
    switch (kind_) {
      case kind::handshake: return missing(1);
      case kind::exactly: return buffered.size() < length_ ? missing(length_) : recv_verdict::take(0, length_);
      case kind::some: return buffered.empty() ? missing(1) : recv_verdict::take(0, buffered.size());
      case kind::all:
        if (buffered.empty()) return missing(1);
        return ended || quiet ? recv_verdict::take(0, buffered.size()) : recv_verdict::need(buffered.size() + 1);
      case kind::until: {
        const std::size_t found = buffered.find(delimiter_, searched_);
        const std::size_t end = found == std::string_view::npos ? buffered.size() : found + delimiter_.size();
        if (end > length_) return recv_verdict::fail(Errc::LineTooLong);
        if (found != std::string_view::npos) {
          const std::size_t dropped = keep_delimiter_ ? 0 : delimiter_.size();
          return recv_verdict::take(0, end - dropped, dropped);
        }
        searched_ = buffered.size() - std::min(buffered.size(), delimiter_.size() - 1);
        return missing(buffered.size() + 1);
      }
      case kind::package: break;
    }
    return recv_verdict::fail(Errc::InvalidOption);
  }

  kind kind_;
  bool keep_delimiter_ = false;
  unsigned char header_size_ = 0;  ///< package
  std::size_t length_ = 0;         ///< exactly: how many bytes; until, package: the limit
  std::size_t searched_ = 0;       ///< until: where the next search starts
  std::string delimiter_;
};

}  // namespace gtcp::detail

#endif
