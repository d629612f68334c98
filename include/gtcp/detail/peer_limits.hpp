// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PEER_LIMITS_HPP
#define GTCP_DETAIL_PEER_LIMITS_HPP

// What a server demands of its peers: how long they may keep a connection waiting, and how much memory they may hold.
//
// Times are measured by a clock of the connection's own, which stands still unless the connection waits for input: so
// what the handler does meanwhile never counts. Nothing is noted on the way of a package; a connection that waits notes
// the time, and a watchdog looks at it when a limit might have been reached.

#include <gtcp/detail/time_limit.hpp>
#include <gtcp/error.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// How many bytes that came, and are not handed out, all connections of a server hold.
struct receive_memory {
  explicit receive_memory(std::size_t allowed) : max(allowed) {}
  const std::size_t max;
  std::atomic<std::size_t> held{0};
};

class peer_limits {
 public:
  /// 0 is no limit.
  struct times {
    clock::duration first_pkg{};
    clock::duration idle{};
    clock::duration pkg{};
    clock::duration send_stall{};

    bool any() const noexcept { return std::max({first_pkg, idle, pkg, send_stall}).count() != 0; }
    /// When the first of them could be over.
    clock::time_point first_look() const noexcept {
      clock::duration least = clock::duration::max();
      for (const clock::duration limit : {first_pkg, idle, pkg, send_stall}) {
        if (limit.count() != 0) least = std::min(least, limit);
      }
      return deadline_after(least);
    }
  };

  /// `memory` may be nullptr.
  peer_limits(const times& limits, std::shared_ptr<receive_memory> memory)
      : limits_(limits), memory_(std::move(memory)) {}
  ~peer_limits() {
    if (memory_ != nullptr) memory_->held.fetch_sub(held_, std::memory_order_relaxed);
  }
  peer_limits(const peer_limits&) = delete;
  peer_limits& operator=(const peer_limits&) = delete;

  // ---- Only for the holder of the lane

  /// A receive had its result.
  void note_take() noexcept { ++takes_; }

  /// The connection holds that many bytes now. False: it must not.
  bool hold(std::size_t size) noexcept {
    if (memory_ == nullptr || size == held_) return true;
    if (size < held_) {
      memory_->held.fetch_sub(held_ - size, std::memory_order_relaxed);
    } else {
      const std::size_t more = size - held_;
      if (memory_->held.fetch_add(more, std::memory_order_relaxed) + more > memory_->max) {
        memory_->held.fetch_sub(more, std::memory_order_relaxed);
        return false;
      }
    }
    held_ = size;
    return true;
  }

  /// The same, after a package was handed out: counted up at once and down in steps, so that small packages that came
  /// together do not cost a counter that all connections share each.
  bool hold_rest(std::size_t size) noexcept {
    constexpr std::size_t step = 16 * 1024;
    return size != 0 && size <= held_ && held_ - size < step ? true : hold(size);
  }

  // ---- Under the connection's mutex

  /// The connection begins to wait for input. `bytes_in`: how many came so far; `in_pkg`: a package has begun.
  void begin_wait(clock::time_point now, std::uint64_t bytes_in, bool in_pkg) noexcept {
    end_wait(now);
    if (std::exchange(bytes_seen_, bytes_in) != bytes_in) last_input_ = waited_;
    const bool another_pkg = std::exchange(takes_seen_, takes_) != takes_;
    if (in_pkg && (!in_pkg_ || another_pkg)) pkg_began_ = waited_;
    in_pkg_ = in_pkg;
    waits_ = true;
    wait_began_ = now;
  }

  void end_wait(clock::time_point now) noexcept {
    if (std::exchange(waits_, false)) waited_ += now - wait_began_;
  }

  /// Returns when to look again. `over`: the limit that has been reached, if any. `stalled_since`: no_deadline if the
  /// peer takes what is sent.
  clock::time_point look(clock::time_point now, clock::time_point stalled_since, std::error_code& over) const noexcept {
    constexpr clock::duration soon = std::chrono::milliseconds(1);  // it is not waiting just now
    const clock::duration waited = waited_ + (waits_ ? now - wait_began_ : clock::duration(0));
    clock::time_point next = no_deadline;
    const auto demand = [&](clock::duration limit, clock::duration since, Errc reason) {
      if (limit.count() == 0) return;
      const clock::duration left = limit - (waited - since);
      if (left.count() <= 0 && waits_ && !over) over = reason;
      next = std::min(next, later(now, std::max(left, soon)));
    };
    if (takes_seen_ == 0) demand(limits_.first_pkg, {}, Errc::FirstPkgTimeout);
    if (in_pkg_) demand(limits_.pkg, pkg_began_, Errc::PkgTimeout);
    if (!in_pkg_ && limits_.pkg.count() != 0) next = std::min(next, later(now, limits_.pkg));
    demand(limits_.idle, last_input_, Errc::IdleTimeout);
    if (limits_.send_stall.count() != 0) {
      const clock::time_point since = std::min(now, stalled_since);
      if (now - since >= limits_.send_stall && !over) over = Errc::SendStalled;
      next = std::min(next, later(since, limits_.send_stall));
    }
    return next;
  }

 private:
  const times limits_;
  const std::shared_ptr<receive_memory> memory_;
  std::size_t held_ = 0;
  std::uint64_t takes_ = 0;

  // The connection's clock, and what it showed when.
  clock::duration waited_{};
  clock::time_point wait_began_{};
  bool waits_ = false;
  bool in_pkg_ = false;
  clock::duration last_input_{};
  clock::duration pkg_began_{};
  std::uint64_t bytes_seen_ = 0;
  std::uint64_t takes_seen_ = 0;
};

}  // namespace gtcp::detail

#endif
