// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TIME_LIMIT_HPP
#define GTCP_DETAIL_TIME_LIMIT_HPP

// When an operation gives up: at a time of its own, or at the connection's default, which may change meanwhile.

#include <gtcp/detail/platform_base.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ratio>

namespace gtcp::detail {

/// Returns a duration of zero or more in the clock's unit; one that is too long for it is the longest there is.
template <class Rep, class Period>
constexpr clock::duration clock_duration(std::chrono::duration<Rep, Period> duration) noexcept {
  static_assert(std::ratio_less_equal_v<clock::period, Period>, "else the longest one must not be converted");
  constexpr auto longest = std::chrono::duration_cast<std::chrono::duration<Rep, Period>>(clock::duration::max());
  if (duration > longest) return clock::duration::max();
  return std::chrono::duration_cast<clock::duration>(duration);
}

/// Returns the point `wait` after `from`, which is not before the clock's epoch; what is too far away for the clock is
/// no deadline, zero or less is `from`.
template <class Rep, class Period>
constexpr clock::time_point later(clock::time_point from, std::chrono::duration<Rep, Period> wait) noexcept {
  const clock::duration step = clock_duration(std::max(wait, wait.zero()));
  return step < no_deadline - from ? from + step : no_deadline;
}

/// Returns the point `timeout` from now; a huge timeout is no deadline, zero or less is now.
template <class Rep, class Period>
clock::time_point deadline_after(std::chrono::duration<Rep, Period> timeout) noexcept {
  return later(clock::now(), timeout);
}

/// A default deadline of a connection. Thread safety: may be set and read by any thread.
class shared_deadline {
 public:
  /// `{}`, the epoch, means none. What is before that is past as well, and can be subtracted from.
  void set(clock::time_point at) noexcept {
    const clock::time_point epoch;
    at_.store((at == epoch ? no_deadline : std::max(at, epoch)).time_since_epoch().count(), std::memory_order_relaxed);
  }
  clock::time_point get() const noexcept {
    return clock::time_point(clock::duration(at_.load(std::memory_order_relaxed)));
  }

 private:
  std::atomic<clock::rep> at_{no_deadline.time_since_epoch().count()};
};

class time_limit {
 public:
  /// The connection's default.
  time_limit() = default;
  static time_limit within(std::chrono::nanoseconds timeout) { return at(deadline_after(timeout)); }
  static time_limit at(clock::time_point point) {
    time_limit limit;
    limit.own_ = true;
    limit.at_ = point;
    return limit;
  }

  clock::time_point resolve(const shared_deadline& standard) const noexcept { return own_ ? at_ : standard.get(); }

 private:
  bool own_ = false;
  clock::time_point at_ = no_deadline;
};

}  // namespace gtcp::detail

#endif
