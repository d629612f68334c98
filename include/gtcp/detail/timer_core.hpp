// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TIMER_CORE_HPP
#define GTCP_DETAIL_TIMER_CORE_HPP

// When which timer entry runs: the rules of gtcp::Timer without threads, locks or a clock. The time is a parameter.

#include <gtcp/detail/timer_queue.hpp>

#include <cstdint>
#include <limits>

namespace gtcp::detail {

inline timer_ticks add_ticks(timer_ticks a, timer_ticks b) noexcept {
  return a > max_timer_ticks - b ? max_timer_ticks : a + b;
}

/// The schedule of one entry. It is open until it is closed by its owner, by its last run, or by its callback.
struct timer_plan : timer_node {
  static constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

  /// The next beat. Beats stay on one grid, however late a run begins, so that intervals do not drift.
  timer_ticks planned = 0;
  timer_ticks interval = 0;
  /// Runs that are left.
  std::int64_t left = no_limit;
  /// Runs that have begun and not ended.
  std::uint32_t running = 0;
  bool singleton = true;
  bool stopped = false;
  bool closed = false;
  /// A run out of turn was asked for.
  bool asked = false;
};

/// Decides which plans begin a run. An open plan is always linked: in the queue, or parked while there is no beat to
/// wait for.
class timer_core {
 public:
  /// Adds an open plan whose first beat is `plan.planned`.
  void add(timer_plan& plan) noexcept { link(plan); }

  /// Begins a run that is due at `now`; returns its plan, or nullptr if none is due. The caller runs it and calls
  /// end().
  timer_plan* begin(timer_ticks now) noexcept {
    timer_node* node = queue_.pop_due(now);
    if (node == nullptr) return nullptr;
    timer_plan& plan = static_cast<timer_plan&>(*node);
    if (plan.asked) {
      plan.asked = false;
    } else {
      // Beats that were missed are left out: what is late runs once, not in a burst.
      plan.planned = add_ticks(plan.planned, plan.interval);
      skip_missed(plan, now);
    }
    if (plan.left != timer_plan::no_limit) --plan.left;
    ++plan.running;
    link(plan);
    return &plan;
  }

  /// Says that a run of `plan` is over; `again` is false if the callback does not want to run again. Returns whether
  /// the plan is closed and this was its last run; then it still counts as running until ended().
  bool end(timer_plan& plan, timer_ticks now, bool again) noexcept {
    if (!again || (plan.left == 0 && plan.running == 1)) close(plan);
    if (plan.closed && plan.running == 1) return true;
    --plan.running;
    if (!plan.closed) plan_on(plan, now);
    return false;
  }

  void ended(timer_plan& plan) noexcept { --plan.running; }

  /// Closes: no run begins any more, and the plan is unlinked. False if it was closed before.
  bool close(timer_plan& plan) noexcept {
    if (plan.closed) return false;
    plan.closed = true;
    unlink(plan);
    return true;
  }

  void stop(timer_plan& plan) noexcept {
    plan.stopped = true;
    relink(plan);
  }

  void start(timer_plan& plan, timer_ticks now) noexcept {
    if (!plan.stopped) return;
    plan.stopped = false;
    plan_on(plan, now);
  }

  /// Begins a new grid of beats: the next one comes a whole interval after `now`.
  void reset(timer_plan& plan, timer_ticks now) noexcept {
    plan.planned = add_ticks(now, plan.interval);
    relink(plan);
  }

  /// Makes one run due now that leaves the beats as they are.
  void ask(timer_plan& plan, timer_ticks now) noexcept {
    if (plan.asked || plan.left == 0) return;
    plan.asked = true;
    asked_at_ = now;
    relink(plan);
  }

  /// Limits further runs to `times`, which is more than zero.
  void set_times(timer_plan& plan, std::int64_t times, timer_ticks now) noexcept {
    plan.left = times;
    plan_on(plan, now);
  }

  void set_singleton(timer_plan& plan, bool singleton, timer_ticks now) noexcept {
    plan.singleton = singleton;
    plan_on(plan, now);
  }

  /// Closes any open plan and returns it; nullptr if there is none.
  timer_plan* close_any() noexcept {
    timer_node* node = parked_.front();
    if (node != nullptr) {
      parked_.erase(*node);
      node->place = timer_node::nowhere;
    } else if ((node = queue_.pop_any()) == nullptr) {
      return nullptr;
    }
    timer_plan& plan = static_cast<timer_plan&>(*node);
    plan.closed = true;
    return &plan;
  }

  /// Returns when `plan`, which is open, is due; max_timer_ticks if it waits for no beat.
  timer_ticks due(const timer_plan& plan) const noexcept {
    return plan.place == parked ? max_timer_ticks : plan.deadline;
  }
  /// Says whether no beat is waited for.
  bool idle() const noexcept { return queue_.empty(); }
  /// Says whether begin() stopped half-way to give others the lock: call it again.
  bool unfinished() const noexcept { return queue_.moving(); }
  /// Returns the time to call begin() again. Not while idle().
  timer_ticks next() const noexcept { return queue_.next(); }

 private:
  static constexpr std::uint16_t parked = timer_node::nowhere - 1;

  static void skip_missed(timer_plan& plan, timer_ticks now) noexcept {
    if (plan.planned >= now) return;
    if (plan.interval == 0) {
      plan.planned = now;
    } else {
      plan.planned = add_ticks(plan.planned, (now - plan.planned + plan.interval - 1) / plan.interval * plan.interval);
    }
  }

  /// Links `plan`, which is not linked: to the queue if it has something to wait for.
  void link(timer_plan& plan) noexcept {
    const bool may_run = plan.left != 0 && (plan.running == 0 || !plan.singleton);
    if (may_run && (plan.asked || !plan.stopped)) {
      plan.deadline = plan.asked ? asked_at_ : plan.planned;
      queue_.insert(plan);
    } else {
      plan.place = parked;
      parked_.push_back(plan);
    }
  }

  void unlink(timer_plan& plan) noexcept {
    if (plan.place == parked) {
      parked_.erase(plan);
      plan.place = timer_node::nowhere;
    } else {
      queue_.erase(plan);
    }
  }

  void relink(timer_plan& plan) noexcept {
    unlink(plan);
    link(plan);
  }

  /// Goes on after a pause: a parked plan's missed beats are left out.
  void plan_on(timer_plan& plan, timer_ticks now) noexcept {
    if (plan.place == parked) skip_missed(plan, now);
    relink(plan);
  }

  timer_queue queue_;
  timer_list parked_;
  /// When the last run out of turn was asked for: all those still waiting are due since then or earlier.
  timer_ticks asked_at_ = 0;
};

}  // namespace gtcp::detail

#endif
