// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_WATCHDOG_HPP
#define GTCP_DETAIL_WATCHDOG_HPP

// Looks at a server's connections when a limit of theirs may have been reached. Each is looked at when it says, so one
// that is busy costs a look in the time of its shortest limit. One that has ended is not looked for: its entry, which
// keeps its memory, goes when its time comes, or when there are twice as many as there were connections last time.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/error.hpp>
#include <gtcp/timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace gtcp::detail {

class watchdog : public std::enable_shared_from_this<watchdog> {
 public:
  /// Looks at the connection from then on, until it is closed; no_deadline is never.
  void watch(const std::shared_ptr<conn_state>& conn, clock::time_point first_look) {
    if (first_look == no_deadline) return;
    {
      const std::lock_guard lock(mutex_);
      if (entries_.size() >= drops_ended_at_) drop_ended();
      add({first_look, conn});
    }
    plan_next();
  }

  /// How many connections it has not forgotten.
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
  }

 private:
  struct entry {
    clock::time_point at;
    std::weak_ptr<conn_state> conn;
    friend bool operator<(const entry& a, const entry& b) noexcept { return a.at > b.at; }
  };

  static constexpr std::size_t few = 256;

  void add(entry one) {
    entries_.push_back(std::move(one));
    std::push_heap(entries_.begin(), entries_.end());
  }

  void drop_ended() noexcept {
    std::erase_if(entries_, [](const entry& one) { return one.conn.expired(); });
    std::make_heap(entries_.begin(), entries_.end());
    drops_ended_at_ = std::max(few, 2 * entries_.size());
  }

  void plan_next() noexcept {
    clock::time_point at = no_deadline;
    {
      const std::lock_guard lock(mutex_);
      if (entries_.empty() || entries_.front().at >= planned_) return;
      at = planned_ = entries_.front().at;
    }
    const bool planned = insist([this, at] {
      SetTimeout(std::max<clock::duration>(at - clock::now(), clock::duration(0)), [weak = weak_from_this(), at] {
        if (const auto self = weak.lock()) self->run(at);
      });
    });
    if (planned) return;
    // No thread for it: the next connection tries again.
    const std::lock_guard lock(mutex_);
    planned_ = no_deadline;
  }

  void run(clock::time_point planned) {
    const clock::time_point now = clock::now();
    {
      const std::lock_guard lock(mutex_);
      if (planned_ == planned) planned_ = no_deadline;
    }
    for (entry one; take_due(now, one);) {
      const auto conn = one.conn.lock();
      // Later than now, so that each is looked at once.
      one.at = conn != nullptr ? conn->look(now) : no_deadline;
      if (one.at == no_deadline) continue;
      one.at = std::max(one.at, now + clock::duration(1));
      const bool kept = insist([this, &one] {
        const std::lock_guard lock(mutex_);
        add(one);
      });
      if (!kept) conn->close(true, no_memory_error());  // nobody would look after it any more
    }
    plan_next();
  }

  bool take_due(clock::time_point now, entry& one) {
    const std::lock_guard lock(mutex_);
    if (entries_.empty() || entries_.front().at > now) return false;
    std::pop_heap(entries_.begin(), entries_.end());
    one = std::move(entries_.back());
    entries_.pop_back();
    return true;
  }

  mutable std::mutex mutex_;
  std::vector<entry> entries_;  ///< a heap
  std::size_t drops_ended_at_ = few;
  clock::time_point planned_ = no_deadline;
};

}  // namespace gtcp::detail

#endif
