// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_OUTBOX_HPP
#define GTCP_IMPL_OUTBOX_HPP

// The accepting half of the outbox: what senders, who waits, and who ends it call.

#include <gtcp/detail/outbox.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp::detail {

GTCP_DECL outbox::~outbox() {
  if (kept_total_ == unkept_total_) return;
  drop_now(Errc::Closed);  // of a connection that nobody has closed; whoever waits keeps it, so nobody else is left
  complete(completed_);
}

GTCP_DECL bool outbox::append(const pkg_header& header, asio::const_buffer payload, gathering how) {
  const std::lock_guard lock(mutex_);
  const std::size_t size = header.size + payload.size();
  const bool by_dispatch = how == gathering::by_dispatch;
  const bool is_let_go = how == gathering::none ? in_burst_ : gathers_ && (awaits_turn_ || by_dispatch);
  const bool begins = by_dispatch && !gathers_ && may_hold();
  const bool held = (is_let_go || begins) && fill_.size() + size < cork_limit;
  const bool somebody_writes = held || writing_ || (io_thread_writes_soon() && !is_enough(size));
  const bool fits = pending() < limit_ && size <= limit_ - pending();
  if (!somebody_writes || !fits || stop_ || !queue_.empty() || claimed_ != nullptr) return false;
  if (!make_room(fill_, std::max(size, header.bytes.size()))) return false;
  char* const to = static_cast<char*>(fill_.prepare(0).data());
  std::memcpy(to, header.bytes.data(), header.bytes.size());  // all of it; the payload goes over what is too much
  if (payload.size() != 0) copy_bytes(to + header.size, static_cast<const char*>(payload.data()), payload.size());
  fill_.commit(size);
  accepted_total_ += size;
  ++pkgs_;
  if (begins) hold(how);
  note_corked();
  return true;
}

GTCP_DECL send_outcome outbox::send(send_record& record, bool may_wait, thread_wait* self, gathering how) {
  const bool queues = may_wait && !never_waits();
  std::unique_lock lock(mutex_);
  // What is held back must not keep the room; others may hold more back meanwhile.
  for (int tries = 3; tries != 0 && !queues && !fill_.empty() && may_hold() && !fits(record); --tries) {
    flush_and_settle(lock, /*relock=*/true);
  }
  if (stop_) {
    record.error = stop_;
    record.done = true;
    return send_outcome::done;
  }
  const bool large = record.payload.size() >= borrow_from;
  const bool borrowed = queues && (record.direct || large);
  if (borrowed && self != nullptr && nothing_before()) {
    if (!writing_ && may_pass()) return send_straight(record, self, lock);
    if (record.direct) {
      record.claim_ = claim::asleep;
      record.thread_ = self;
      claims_.push_back(record);
      add(*self);
      return send_outcome::waiting;
    }
  }
  if (!borrowed && queue_.empty() && claimed_ == nullptr) {
    const bool first = !writing_ && nothing_before();
    if (first && how == gathering::none && is_hot()) how = gathering::by_burst;
    const bool together = (how != gathering::none || corks_ != 0) && record.size() < cork_limit;
    if (first && (large || !together)) return send_straight(record, nullptr, lock);
    if (fits(record) || (how == gathering::by_dispatch && !never_waits())) {
      record.done = true;
      if (accept(record, fill_)) {
        note_pkg(record);
        note_limit();
        go_on(together, how, lock);
      } else {
        record.error = no_memory_error();
      }
      return send_outcome::done;
    }
  }
  if (how == gathering::by_dispatch && !never_waits() && !record.direct) {
    record.done = true;
    if (!keep(record)) record.error = no_memory_error();
    flush_and_settle(lock);
    return send_outcome::done;
  }
  if (!queues) return turn_away(record, may_wait, lock);
  enqueue(queue_, record, self);
  flush_and_settle(lock);
  return send_outcome::waiting;
}

GTCP_DECL send_outcome outbox::turn_away(send_record& record, bool may_wait, std::unique_lock<short_mutex>& lock) {
  if (!may_wait) return send_outcome::refused;
  record.done = true;
  if (when_full_ == QueuePolicy::Drop)
    ++dropped_pkgs_;
  else
    record.error = Errc::QueueFull;
  lock.unlock();
  if (when_full_ == QueuePolicy::Close) host_.on_overflow();
  return send_outcome::done;
}

GTCP_DECL void outbox::wait(outbox_waiter& waiter, thread_wait& self, const deadline_source& deadline) {
  std::unique_lock lock(mutex_);
  if (!waiter.is_flush_) wait_for_claim(static_cast<send_record&>(waiter), self, deadline, lock);
  while (!waiter.done) {
    const clock::time_point until = deadline();
    if (until != no_deadline && clock::now() >= until) {
      if (waiter.is_flush_)
        finish_from(flushes_, waiter, Errc::Timeout);
      else
        give_up(static_cast<send_record&>(waiter), Errc::Timeout);
      settle(lock);
      lock.lock();
      // A write of it may be under way; then its writer, who never waits, says how it ended.
      while (!waiter.done) wait_until(self, lock, no_deadline);
      break;
    }
    if (drainer_ == drainer::none && !writing_) take_over(self);
    if (self.drains) {
      self.waker = &waker::of_this_thread();
      const wait_direction direction = begin_wait();
      lock.unlock();
      const bool looks_again = direction == wait_direction::moment;
      wait_descriptor(descriptor_, direction, *self.waker,
                      looks_again ? std::min(until, clock::now() + moment_length) : until);
      lock.lock();
      self.waker = nullptr;
      if (!waiter.done) flush_and_settle(lock, /*relock=*/true);
    } else if (drainer_ == drainer::thread) {
      wait_until(self, lock, until);
    } else {
      // An io thread drains; unless it belongs to a context that nobody runs.
      const std::uint64_t before = written_total_;
      const clock::time_point slice = clock::now() + std::chrono::milliseconds(10);
      wait_until(self, lock, std::min(until, slice));
      if (!waiter.done && drainer_ == drainer::io && before == written_total_ && clock::now() >= slice) take_over(self);
    }
  }
  remove(self);
  if (self.drains) drainer_ = drainer::none;
  settle(lock);
}

GTCP_DECL void outbox::stop(std::uint64_t id, std::error_code reason) {
  std::unique_lock lock(mutex_);
  if (outbox_waiter* const pausing = find(pauses_, id)) {
    finish_from(pauses_, *pausing, reason);
  } else if (outbox_waiter* const flush = find(flushes_, id)) {
    finish_from(flushes_, *flush, reason);
  } else if (outbox_waiter* const record = find(queue_, id)) {
    give_up(static_cast<send_record&>(*record), reason);
  } else {
    return;
  }
  flush_and_settle(lock);
}

GTCP_DECL bool outbox::pause(send_record& record) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  enqueue(pauses_, record, nullptr);
  record.done = false;
  record.error.clear();
  return true;
}

GTCP_DECL outbox_waiter* outbox::resume(std::uint64_t id) noexcept {
  const std::lock_guard lock(mutex_);
  outbox_waiter* const waiter = find(pauses_, id);
  if (waiter != nullptr) pauses_.remove(*waiter);
  return waiter;
}

GTCP_DECL send_outcome outbox::flush(flush_record& record, thread_wait* self) {
  std::unique_lock lock(mutex_);
  return flush(record, self, 0, lock);
}

GTCP_DECL send_outcome outbox::await_room(flush_record& record) {
  std::unique_lock lock(mutex_);
  over_limit_.store(false, std::memory_order_relaxed);
  return flush(record, nullptr, limit_ / 2, lock);
}

GTCP_DECL void outbox::uncork() {
  std::unique_lock lock(mutex_);
  if (corks_ > 0 && --corks_ == 0) flush_and_settle(lock);
}

GTCP_DECL bool outbox::on_turn(gathering how) {
  std::unique_lock lock(mutex_);
  const bool goes_on = std::exchange(turn_total_, accepted_total_) != accepted_total_;
  // A context's turn is over when the reader did nothing in it. Threads are looked after as long as they are busy.
  const bool is_task = how == gathering::by_task;
  const bool again = goes_on && (gathers_ || !is_task);
  if (!again) awaits_turn_ = false;
  if (gathers_ && corks_ == 0 && !(is_task && goes_on)) flush_and_settle(lock);
  return again;
}

GTCP_DECL void outbox::on_writable() {
  std::unique_lock lock(mutex_);
  awaiting_ = false;
  if (drainer_ == drainer::io) drainer_ = drainer::none;
  flush_and_settle(lock);
}

GTCP_DECL void outbox::forget_await_writable() {
  std::unique_lock lock(mutex_);
  forget_wait();
  settle(lock);
}

GTCP_DECL void outbox::abandon() {
  std::unique_lock lock(mutex_);
  const std::error_code reason = asio::error::operation_aborted;
  for (outbox_list* const list : {&flushes_, &pauses_, &queue_}) {
    for (outbox_waiter* waiter = list->first(); waiter != nullptr;) {
      outbox_waiter* const next = outbox_list::next(*waiter);
      if (waiter->is_asynchronous()) {
        waiter->is_abandoned_ = true;
        if (list == &queue_)
          give_up(static_cast<send_record&>(*waiter), reason);
        else
          finish_from(*list, *waiter, reason);
      }
      waiter = list->empty() ? nullptr : next;  // with no memory for the rest of a package all lists are emptied
    }
  }
  gathers_ = awaits_turn_ = in_burst_ = false;  // nor does the context's turn come
  flush_and_settle(lock);
}

GTCP_DECL void outbox::end(std::error_code reason, bool waiting_too) {
  std::unique_lock lock(mutex_);
  if (closed_ && waiting_too) return;  // it ends already, or has given its transport back
  if (!stop_ || !waiting_too) stop_ = reason;
  corks_ = 0;
  gathers_ = in_burst_ = false;
  queue_claims();
  if (!waiting_too) {
    closed_ = true;
    for (outbox_waiter* waiter = queue_.first(); waiter != nullptr;) {
      outbox_waiter* const next = outbox_list::next(*waiter);
      give_up(static_cast<send_record&>(*waiter), stop_);
      waiter = write_error_ ? nullptr : next;
    }
    finish_all(flushes_, stop_);
    finish_all(pauses_, stop_);
    wake_threads();
  }
  wants_drained_ = true;
  flush_and_settle(lock);
}

GTCP_DECL std::size_t outbox::drop(std::error_code reason) {
  std::unique_lock lock(mutex_);
  if (!stop_ || reason == Errc::Closed) stop_ = reason;
  if (reason != Errc::Closed && !write_error_) write_error_ = reason;
  dropped_ = closed_ = true;
  const std::size_t dropped = pending_and_kept();
  wake_threads();
  settle(lock);
  return dropped;
}

GTCP_DECL void outbox::leave_descriptor() {
  std::unique_lock lock(mutex_);
  wants_left_ = true;
  wake_threads();
  settle(lock);
}

GTCP_DECL bool outbox::is_idle() const {
  std::unique_lock lock(mutex_);
  for (int patience = 100; writing_ && patience != 0; --patience) {
    lock.unlock();
    std::this_thread::yield();
    lock.lock();
  }
  return idle() && pauses_.empty() && !stop_;
}

GTCP_DECL bool outbox::end_if_idle(std::error_code reason) {
  const std::lock_guard lock(mutex_);
  if (!idle() || !pauses_.empty() || stop_) return false;
  stop_ = reason;
  closed_ = true;
  return true;
}

GTCP_DECL bool outbox::can_restart() const {
  const std::lock_guard lock(mutex_);
  return restartable();
}

GTCP_DECL bool outbox::restart(transport& sink, native_socket descriptor) {
  const std::lock_guard lock(mutex_);
  if (!restartable()) return false;
  sink_ = &sink;
  descriptor_ = descriptor;
  stop_.clear();
  write_error_.clear();
  return true;
}

GTCP_DECL void outbox::deadline_changed() {
  const std::lock_guard lock(mutex_);
  for (const outbox_list* list : {&queue_, &flushes_, &pauses_}) {
    for (outbox_waiter* waiter = list->first(); waiter != nullptr; waiter = outbox_list::next(*waiter)) {
      waiter->deadline_changed();
    }
  }
  wake_threads();
}

GTCP_DECL bool outbox::keep(const send_record& record) noexcept {
  send_record* const kept = kept_package::make(record);
  if (kept == nullptr) return false;
  kept->is_kept_ = true;
  kept_total_ += kept->size();
  queue_.push_back(*kept);
  note_limit();
  return true;
}

GTCP_DECL bool outbox::accept(send_record& record, byte_buffer& target) {
  const std::size_t left = record.size() - record.written_;
  if (!make_room(target, left)) return false;
  if (record.written_ < record.header.size) {
    target.append(record.header.bytes.data() + record.written_, record.header.size - record.written_);
    target.append(record.payload.data(), record.payload.size());
  } else {
    const asio::const_buffer rest = record.payload + (record.written_ - record.header.size);
    target.append(rest.data(), rest.size());
  }
  // A flush waits for the bytes that are before it, so what is put before them does not count.
  if (&target == &fill_) accepted_total_ += left;
  return true;
}

GTCP_DECL void outbox::enqueue(outbox_list& list, outbox_waiter& waiter, thread_wait* self) {
  // Not before this lock: a timer that is over before its operation is queued would find nothing to stop.
  if (self == nullptr) waiter.deadline_changed();
  list.push_back(waiter);
  if (self != nullptr) add(*self);
}

}  // namespace gtcp::detail

#endif
