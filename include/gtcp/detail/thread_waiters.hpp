// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_THREAD_WAITERS_HPP
#define GTCP_DETAIL_THREAD_WAITERS_HPP

// How a thread waits for the outbox of a connection, and for the end of closing.

#include <gtcp/detail/close_waiter.hpp>
#include <gtcp/detail/outbox_waiter.hpp>

#include <condition_variable>

namespace gtcp::detail {

/// A send or a flush of a thread: `Record` is send_record or flush_record.
template <class Record>
struct thread_record final : Record {
  thread_wait self;
  bool finished() override {
    self.wake();
    return false;
  }
  void complete() override {}
  void deadline_changed() override { self.wake(); }
};

/// A send that never waits.
struct immediate_record final : send_record {
  bool finished() override { return false; }
  void complete() override {}
  void deadline_changed() override {}
};

/// Waits for the end of closing.
struct thread_close_waiter final : close_waiter {
  std::condition_variable woken;
  bool done = false;
  bool finished(bool) override {
    done = true;
    woken.notify_one();
    return false;
  }
  void complete() override {}
  bool is_thread() const noexcept override { return true; }
};

}  // namespace gtcp::detail

#endif
