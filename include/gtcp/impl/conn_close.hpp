// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_CLOSE_HPP
#define GTCP_IMPL_CONN_CLOSE_HPP

// The closing half of conn_state. The order is what keeps accepted packages from being lost:
//
//     1. no operation begins, everybody who waits fails, no byte is written for them
//     2. the outbox drains, then the sending direction ends
//     3. what the peer still sends is read and thrown away until its end: a socket that is closed with unread input, or
//        that gets more, is reset by the system, and the peer may lose what it has not read yet
//     4. the descriptor is closed when nobody uses it
//
// One linger time is over it all. What can be done at once is done by the thread that closes; for the rest an io thread
// of the default Runtime waits.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/platform_io.hpp>

#include <asio/socket_base.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp::detail {

GTCP_DECL void conn_state::close(bool hard, std::error_code reason) noexcept {
  if (process_.is_inherited()) {
    // The parent's connection: nothing of it is ours but the descriptor, and its mutexes may be locked for ever.
    if (descriptor_ != invalid_native_socket) close_socket(std::exchange(descriptor_, invalid_native_socket), false);
    closed_.store(true, std::memory_order_release);
    return;
  }
  const std::error_code failure = outbox_.failure();
  async_receiver* stopped = nullptr;
  std::vector<TimerEntry> timers;
  bool has_lane = false;
  {
    std::unique_lock lock(mutex_);
    if (closed()) {
      if (!hard || hard_ || descriptor_ == invalid_native_socket) return;
      hard_ = true;
      lock.unlock();
      outbox_.drop(Errc::Closed);
      close_if_possible();
      return;
    }
    timers = mark_closed(hard, failure ? failure : reason);

    receiver* next = nullptr;
    for (receiver* entry = receivers_; entry != nullptr; entry = next) {
      next = entry->next_;
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr) {
        entry->stop = Errc::Closed;
        entry->deadline_changed();
      } else if (stop(*op, Errc::Closed)) {
        op->next_ = std::exchange(stopped, op);
      }
    }
    for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) {
      // An operation may wait on a context that nobody runs, so it must not keep the lane. Only threads are left in the
      // queue; whichever gets the lane leaves it.
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr || op->stage_ != async_receiver::stage::waiting || !std::exchange(op->holds_lane_, false))
        continue;
      static_cast<void>(lane_.unlock_queued());
    }
    if (!on_default_runtime_) {
      // The next wait opens it anew, see waiting_executor().
      watch_.release();
      ++watch_number_;
      // A strand belongs to its context, which may go now; the connection may still be delivering then.
      if (executor_) try_twice([this] { executor_ = inner_executor(executor_); });
    }
    has_lane = lane_.lock_or_queue(closer_);
  }
  for (const TimerEntry& entry : timers) timer_access::close_without_waiting(entry);
  while (stopped != nullptr) {
    async_receiver* const op = stopped;
    stopped = static_cast<async_receiver*>(op->next_);
    op->complete(Errc::Closed, false);
  }
  go_on_closing(hard, has_lane);
}

GTCP_DECL std::vector<TimerEntry> conn_state::mark_closed(bool hard, std::error_code reason) noexcept {
  closed_.store(true, std::memory_order_release);
  closing_begins_ = true;
  hard_ = hard;
  if (!close_reason_) close_reason_ = reason;
  try_twice([this] { local_address_ = to_text(socket_address::of(descriptor_)); });
  linger_end_ = deadline_after(linger_);
  return std::move(timers_);
}

GTCP_DECL clock::time_point conn_state::look(clock::time_point now) noexcept {
  const clock::time_point stalled_since = outbox_.stalled_since();
  std::error_code over;
  clock::time_point next = no_deadline;
  {
    const std::lock_guard lock(mutex_);
    if (closed()) return no_deadline;
    next = limits_->look(now, stalled_since, over);
  }
  if (!over) return next;
  close(over != Errc::IdleTimeout, over);
  return no_deadline;
}

GTCP_DECL void conn_state::drain() {
  const std::lock_guard lock(mutex_);
  if (descriptor_ == invalid_native_socket || draining_.exchange(true, std::memory_order_release)) return;
  for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) {
    async_receiver* const op = entry->asynchronous();
    if (op == nullptr)
      entry->deadline_changed();
    else if (op->stage_ == async_receiver::stage::waiting && op->holds_lane_)
      interrupt(*op);
  }
}

GTCP_DECL void conn_state::go_on_closing(bool hard, bool has_lane) noexcept {
  if (lease_ != nullptr) lease_->lose();
  if (hard) {
    outbox_.drop(Errc::Closed);
  } else {
    outbox_.end(Errc::Closed, false);
    outbox_.forget_await_writable();
  }
  if (has_lane) discard_input();
  {
    const std::lock_guard lock(mutex_);
    closing_begins_ = false;
  }
  close_if_possible();
}

GTCP_DECL bool conn_state::wait_closed(clock::time_point until, std::error_code& error) {
  if (on_runtime_thread()) {
    error = Errc::WouldDeadlock;
    return false;
  }
  thread_close_waiter self;
  std::unique_lock lock(mutex_);
  bool is_over = false;
  if (!await_closed(self, is_over)) {
    if (is_over) {
      lock.unlock();
      close_if_possible();
      lock.lock();
    }
    const auto is_done = [&] { return self.done; };
    if (until == no_deadline)
      self.woken.wait(lock, is_done);
    else if (!self.woken.wait_until(lock, until, is_done)) {
      forget(self);
      error = Errc::Timeout;
      return false;
    }
  }
  error.clear();
  return delivered_;
}

GTCP_DECL void conn_state::on_outbox_drained() {
  {
    const std::lock_guard lock(mutex_);
    if (descriptor_ == invalid_native_socket) return;
    // Behind what was dropped there is no orderly end: the peer must not take what it got for all.
    if (!std::exchange(sending_ended_, true) && !hard_ && outbox_.all_sent()) transport_->end_of_sending();
    if (!closed()) return;
    outbox_ended_ = true;
  }
  close_if_possible();
}

GTCP_DECL void conn_state::discard_input() {
  bool ended = false;
  bool waits = false;
  bool dead = false;  // after a reset nothing is acknowledged any more: there is nothing to wait for
  byte_buffer scratch;
  // Not after a layer's errors: the peer is to get what the layer says about them.
  const auto is_dead = [](const std::error_code& error) {
    return error && error.category() == asio::error::get_system_category();
  };
  {
    const std::lock_guard lock(mutex_);
    // What woke the closer may have been overtaken by the end of the linger time, on another io thread.
    if (finishing_ || descriptor_ == invalid_native_socket) return;
    closer_idle_ = false;
    input_.release();
    if (limits_ != nullptr) limits_->hold(0);
    ended = hard_;  // not at the stream's end either: behind that of a layer the socket may have more
    dead = is_dead(input_error_);
  }
  const bool done = insist([&] {
    for (int reads = 1; !ended; ++reads) {
      const io_result got = transport_->discard_some(scratch.prepare(read_block));
      discarded_ += got.size;
      if (got.error || discarded_ > max_discarded) ended = true;
      dead = dead || is_dead(got.error);
      // The thread that closes must not be kept by a peer that sends as fast as it reads.
      constexpr int max_reads = 16;
      if (ended || (got.wait_for == wait_direction::none && reads < max_reads)) continue;
      const std::lock_guard lock(mutex_);
      if (hard_ || linger_.count() == 0) break;
      hold_.acquire(linger_end_);
      open_watch().async_wait(asio::socket_base::wait_read,
                              [self = shared_from_this()](std::error_code) { self->discard_input(); });
      // Under this lock: the wait may be over, and reading go on elsewhere, right after it.
      waits = closer_idle_ = true;
      break;
    }
  });
  if (!done) ended = true;
  if (!waits) {
    const std::lock_guard lock(mutex_);
    closer_idle_ = true;
    input_ended_ = ended;
    if (dead) hard_ = true;
  }
  close_if_possible();
}

GTCP_DECL void conn_state::close_if_possible() noexcept {
  bool drop = false;
  {
    std::unique_lock lock(mutex_);
    if (!closed() || closing_begins_ || finishing_ || descriptor_ == invalid_native_socket) return;
    // What could not be sent never will be, and what was sent need not be acknowledged any more.
    const bool lost = outbox_ended_ && !outbox_.all_sent();
    if (lost) hard_ = true;
    bool delivered = outbox_ended_ && !lost && all_acknowledged();
    // What came for a peer that had closed is answered by a reset, of which nobody is told who does not read any more.
    // A connection that has just ended in order looks the same, but all of it is acknowledged then.
    if (outbox_ended_ && !delivered && is_reset(descriptor_)) {
      delivered = !lost && all_acknowledged();
      if (!delivered) hard_ = true;
    }
    if (delivered && !hard_) {
      delivered_ = true;
      tell_close_waiters(lock);
      if (finishing_ || descriptor_ == invalid_native_socket) return;
    }
    const bool expired = clock::now() >= linger_end_;
    const bool complete = delivered && input_ended_;
    if (!complete && !expired && !hard_ && arm_close_timer()) return;
    if (!complete && !delivered && linger_.count() != 0) hard_ = true;
    drop = !outbox_ended_;
    if (!closer_idle_) {
      linger_end_ = clock::time_point::min();
      lock.unlock();
      if (drop) outbox_.drop(Errc::Closed);
      return;  // the closer comes back when it has the lane
    }
    finishing_ = true;
  }
  if (drop) outbox_.drop(Errc::Closed);
  outbox_.leave_descriptor();
}

GTCP_DECL void conn_state::on_descriptor_left() {
  std::unique_lock lock(mutex_);
  watch_.release();
  close_timer_.reset();
  close_socket(std::exchange(descriptor_, invalid_native_socket), hard_ || !outbox_.all_sent());
  tell_close_waiters(lock);
  hold_.release();
}

GTCP_DECL close_waiter* conn_state::take_asynchronous_close_waiters() noexcept {
  close_waiter* taken = nullptr;
  for (close_waiter** link = &close_waiters_; *link != nullptr;) {
    close_waiter* const waiter = *link;
    if (waiter->is_thread()) {
      link = &waiter->next_;
    } else {
      *link = waiter->next_;
      waiter->next_ = std::exchange(taken, waiter);
    }
  }
  return taken;
}

GTCP_DECL void conn_state::tell_close_waiters(std::unique_lock<std::mutex>& lock) {
  close_waiter* pending = take_asynchronous_close_waiters();
  for (close_waiter* waiter = pending; waiter != nullptr; waiter = waiter->next_) waiter->finished(delivered_);
  if (pending != nullptr) {
    lock.unlock();
    while (pending != nullptr) {
      close_waiter* const waiter = pending;
      pending = waiter->next_;
      waiter->complete();
    }
    lock.lock();
  }
  // Threads last: one that goes on may destroy what the others' handlers run on.
  while (close_waiters_ != nullptr) {
    close_waiter* const waiter = close_waiters_;
    close_waiters_ = waiter->next_;
    waiter->finished(delivered_);
  }
}

GTCP_DECL bool conn_state::await_closed(close_waiter& waiter, bool& is_over) {
  if (delivered_ || descriptor_ == invalid_native_socket) return true;
  waiter.next_ = std::exchange(close_waiters_, &waiter);
  is_over = close_timer_ && !arm_close_timer();
  return false;
}

GTCP_DECL void conn_state::forget(close_waiter& waiter) noexcept {
  for (close_waiter** link = &close_waiters_; *link != nullptr; link = &(*link)->next_) {
    if (*link != &waiter) continue;
    *link = waiter.next_;
    return;
  }
}

GTCP_DECL bool conn_state::arm_close_timer() noexcept {
  const bool armed = try_twice([&] {
    hold_.acquire(linger_end_);
    if (!close_timer_) close_timer_ = std::make_unique<asio::steady_timer>(waiting_executor());
    const bool looks_at_acknowledgements = outbox_ended_ && (input_ended_ || close_waiters_ != nullptr);
    clock::time_point at = linger_end_;
    if (looks_at_acknowledgements) {
      at = std::min(at, clock::now() + acknowledgement_pause_);
      acknowledgement_pause_ = std::min<clock::duration>(acknowledgement_pause_ * 2, std::chrono::milliseconds(64));
    }
    close_timer_->expires_at(at);
    close_timer_->async_wait([self = shared_from_this()](std::error_code error) {
      if (!error) self->close_if_possible();
    });
  });
  if (!armed) linger_end_ = clock::time_point::min();
  return armed;
}

}  // namespace gtcp::detail

#endif
