// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SEND_PACE_HPP
#define GTCP_DETAIL_SEND_PACE_HPP

// Whether the senders of a connection send faster than they can write one package at a time. Then packages had better
// leave together.

#include <gtcp/detail/platform_base.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

namespace gtcp::detail {

/// Under the outbox's mutex.
class send_pace {
 public:
  /// Whether a sender, who finds nothing before its package at `now`, is hot: the second time in a row that one comes
  /// about as soon after the last write as a write takes, and neither takes nor awaits input in between.
  bool is_hot(clock::time_point written_at, clock::time_point now) noexcept {
    constexpr unsigned char often = 2;
    if (now - written_at > soon())
      quick_ = 0;
    else if (quick_ < often)
      ++quick_;
    const bool hot = quick_ == often;
    asked_at_ = hot ? clock::time_point() : now;
    return hot;
  }

  /// Input came since the last package: the next one is its answer, however soon it comes.
  void note_input() noexcept {
    quick_ = 0;
    asked_at_ = {};
  }

  /// When is_hot() said no, if what follows is the write of that package.
  clock::time_point take_question() noexcept { return std::exchange(asked_at_, {}); }

  /// A package of `size` bytes was written whole: measures what that costs here, from the question to its end.
  void note_write(clock::time_point asked_at, clock::time_point written_at, std::size_t size) noexcept {
    constexpr std::size_t largest = 4096;
    if (asked_at == clock::time_point() || size > largest) return;
    constexpr clock::duration longest = std::chrono::microseconds(100);  // more is the scheduler's
    write_cost_ += (std::min(written_at - asked_at, longest) - write_cost_) / 8;
  }

 private:
  /// A write and a half; whatever was measured, some microseconds.
  clock::duration soon() const noexcept {
    using std::chrono::microseconds;
    return std::clamp<clock::duration>(write_cost_ + write_cost_ / 2, microseconds(2), microseconds(50));
  }

  clock::time_point asked_at_{};
  clock::duration write_cost_ = std::chrono::microseconds(5);
  unsigned char quick_ = 0;
};

}  // namespace gtcp::detail

#endif
