// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_WATCHDOG_HPP
#define GTCP_DETAIL_WATCHDOG_HPP

// Looks at a server's connections when a limit of theirs may have been reached. Each is looked at when it says, so one
// that is busy costs a look in the time of its shortest limit.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/timer.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <queue>
#include <utility>
#include <vector>

namespace gtcp::detail {

class watchdog : public std::enable_shared_from_this<watchdog> {
 public:
  /// Looks at the connection from then on, until it is closed.
  void watch(const std::shared_ptr<conn_state>& conn, clock::time_point first_look) { add({{first_look, conn}}); }

 private:
  struct entry {
    clock::time_point at;
    std::weak_ptr<conn_state> conn;
    friend bool operator<(const entry& a, const entry& b) noexcept { return a.at > b.at; }
  };

  void add(std::vector<entry> entries) {
    clock::time_point next = no_deadline;
    {
      const std::lock_guard lock(mutex_);
      for (entry& one : entries) entries_.push(std::move(one));
      if (entries_.empty() || entries_.top().at >= planned_) return;
      next = planned_ = entries_.top().at;
    }
    plan(next);
  }

  void plan(clock::time_point at) {
    try {
      SetTimeout(std::max<clock::duration>(at - clock::now(), clock::duration(0)), [weak = weak_from_this(), at] {
        if (const auto self = weak.lock()) self->run(at);
      });
    } catch (const std::exception&) {
      // No thread for it: the next connection tries again.
      const std::lock_guard lock(mutex_);
      planned_ = no_deadline;
    }
  }

  void run(clock::time_point planned) {
    const clock::time_point now = clock::now();
    std::vector<entry> due;
    {
      const std::lock_guard lock(mutex_);
      if (planned_ == planned) planned_ = no_deadline;
      while (!entries_.empty() && entries_.top().at <= now) {
        due.push_back(entries_.top());
        entries_.pop();
      }
    }
    std::erase_if(due, [now](entry& one) {
      const auto conn = one.conn.lock();
      one.at = conn != nullptr ? conn->look(now) : no_deadline;
      return one.at == no_deadline;
    });
    add(std::move(due));
  }

  std::mutex mutex_;
  std::priority_queue<entry> entries_;
  clock::time_point planned_ = no_deadline;
};

}  // namespace gtcp::detail

#endif
