// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_OUTBOX_WRITE_HPP
#define GTCP_IMPL_OUTBOX_WRITE_HPP

// The writing half of the outbox: how what was accepted, and what waits, gets to the transport, and how those who wait
// are told. All of it under the outbox's mutex, which is released for the write itself; there is one writer at a time.

#include <gtcp/detail/outbox.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <span>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL send_outcome outbox::send_straight(send_record& record, thread_wait* self,
                                             std::unique_lock<short_mutex>& lock) {
  const std::array<asio::const_buffer, 2> parts = {asio::const_buffer(record.header.bytes.data(), record.header.size),
                                                   record.payload};
  if (self != nullptr) claimed_ = &record;
  const clock::time_point asked_at = pace_.take_question();
  const io_result put = write(std::span(parts).subspan(record.header.size != 0 ? 0 : 1), lock);
  claimed_ = nullptr;
  if (asked_at != clock::time_point() || record.payload.size() >= borrow_from) written_at_ = host_.now();
  if (!put.error && put.size == record.size()) pace_.note_write(asked_at, written_at_, put.size);
  record.written_ = put.size;
  const bool is_whole = put.size == record.size() && !(record.direct && sink_holds_);
  if (self != nullptr && !is_whole && !put.error && !dropped_) {
    wait_for(put.wait_for == wait_direction::none ? wait_direction::write : put.wait_for);
    queue_.push_front(record);
    add(*self);
    if (closed_) give_up(record, stop_);
    settle(lock);
    return send_outcome::waiting;
  }
  record.done = true;
  if (!put.error) note_pkg(record);
  if (put.error) {
    // What may go better at the next try, and took nothing, is this sender's alone.
    if (put.size != 0 || !is_transient(put.error)) fail(put.error);
    record.error = put.error;
  } else if (dropped_) {
    if (!is_whole) record.error = stop_;
  } else if (put.size < record.size()) {
    wait_for(put.wait_for == wait_direction::none ? wait_direction::write : put.wait_for);
    if (!keep_rest(record)) record.error = write_error_;
  } else if (sink_holds_) {
    wait_for(put.wait_for);
  }
  if (has_work() || wants_drained_ || wants_left_ || dropped_ || !completed_.empty()) {
    // Others came meanwhile: served once by this thread, then by whoever waits or by an io thread; or told of an error.
    if (!put.error && put.size == record.size() && !sink_holds_) flush_round(lock);
    settle(lock);
  }
  return send_outcome::done;
}

GTCP_DECL io_result outbox::write(std::span<const asio::const_buffer> parts, std::unique_lock<short_mutex>& lock) {
  const bool more = !claims_.empty();
  writing_ = true;
  lock.unlock();
  const io_result put = more ? sink_->write_more(parts) : sink_->write_some(parts);
  lock.lock();
  if (more && claims_.empty()) {
    lock.unlock();
    sink_->push();
    lock.lock();
  }
  stop_writing();
  written_total_ += put.size;
  note_take(put);
  return put;
}

GTCP_DECL void outbox::stop_writing() {
  writing_ = false;
  if (claims_.empty()) return;
  send_record& next = static_cast<send_record&>(*claims_.first());
  if (next.claim_ != claim::asleep) return;
  next.claim_ = claim::called;
  next.thread_->wake();
}

GTCP_DECL void outbox::wait_for_claim(send_record& record, thread_wait& self, const deadline_source& deadline,
                                      std::unique_lock<short_mutex>& lock) {
  constexpr int looks = 100;  // who writes now is done in some microseconds
  while (record.claim_ != claim::none) {
    const clock::time_point until = deadline();
    wait_until(self, lock, until);
    if (record.claim_ == claim::none) return;
    record.claim_ = claim::awake;
    for (int look = 0; look < looks && writing_ && record.claim_ != claim::none; ++look) {
      lock.unlock();
      relax_processor();
      lock.lock();
    }
    if (record.claim_ == claim::none) return;
    if (!writing_ && nothing_before()) {
      withdraw_claim(record);
      remove(self);
      send_straight(record, &self, lock);  // which lists the thread again if it has to wait
      if (!lock.owns_lock()) lock.lock();
    } else if (!writing_) {
      queue_claims();
      flush_and_settle(lock, /*relock=*/true);
    } else if (until != no_deadline && clock::now() >= until) {
      withdraw_claim(record);
      finish(record, Errc::Timeout);
    } else {
      record.claim_ = claim::asleep;
    }
  }
}

GTCP_DECL void outbox::queue_claims() {
  while (!claims_.empty()) {
    send_record& record = static_cast<send_record&>(*claims_.first());
    withdraw_claim(record);
    queue_.push_back(record);
  }
}

GTCP_DECL send_outcome outbox::flush(flush_record& record, thread_wait* self, std::size_t left,
                                     std::unique_lock<short_mutex>& lock) {
  if (closed_ || pending_and_kept() <= left) {
    if (closed_ || !sink_holds_) {
      record.error = closed_ ? stop_ : write_error_;
      record.done = true;
      return send_outcome::done;
    }
  }
  // Kept packages go out after what was accepted, so what may be left is of them first.
  const std::size_t kept_left = std::min<std::uint64_t>(left, kept_total_ - unkept_total_);
  record.kept_target_ = kept_total_ - kept_left;
  record.target_ = accepted_total_ - std::min(left - kept_left, pending());
  enqueue(flushes_, record, self);
  flush_and_settle(lock);
  return send_outcome::waiting;
}

GTCP_DECL void outbox::go_on(bool together, gathering how, std::unique_lock<short_mutex>& lock) {
  note_corked();
  if (writing_) return;  // the writer looks again
  if (together && may_hold() && fill_.size() < cork_limit) {
    if (how == gathering::none) return;
    hold(how);
    if (how == gathering::by_dispatch || std::exchange(awaits_turn_, true)) return;
    turn_total_ = accepted_total_;
    lock.unlock();
    host_.await_turn(how, false);
    return;
  }
  if (!io_thread_writes_soon() || is_enough(0)) flush_and_settle(lock);
}

GTCP_DECL void outbox::flush_and_settle(std::unique_lock<short_mutex>& lock, bool relock) {
  constexpr int max_rounds = 16;  // nobody serves others forever
  for (int round = 1; flush_round(lock) && round < max_rounds; ++round) {
    if (round > 1 && hold_burst()) break;
  }
  settle(lock);
  if (relock) lock.lock();
}

GTCP_DECL bool outbox::hold_burst() {
  const bool somebody_waits = !drain_.empty() || !queue_.empty() || !flushes_.empty() || sink_holds_ || wants_drained_;
  if (somebody_waits || let_go_ || fill_.size() >= cork_limit) return false;
  hold(gathering::by_burst);
  wants_turn_ = !std::exchange(awaits_turn_, true);
  turn_total_ = accepted_total_;
  return true;
}

[[gnu::noinline]] inline bool outbox::grow(byte_buffer& target, std::size_t size) noexcept {
  // A burst that is larger than its first block gets all that it may need: by doubling each byte would be copied twice.
  const std::size_t whole = std::min(cork_limit + borrow_from, limit_);
  const bool is_burst = in_burst_ && target.capacity() != 0 && target.size() < whole;
  for (const std::size_t room : {is_burst ? std::max(size, whole - target.size()) : size, size}) {
    try {
      target.prepare(room);
      return true;
    } catch (const std::bad_alloc&) {
    }
  }
  return false;
}

GTCP_DECL bool outbox::flush_round(std::unique_lock<short_mutex>& lock) {
  if (writing_ || dropped_ || write_error_) return false;
  if (!nothing_before()) queue_claims();
  serve_queue();
  if (drain_.empty()) {
    swap(drain_, fill_);
    let_go_ = false;
  }
  gather_list parts;
  if (!drain_.empty()) parts.push_back(asio::buffer(drain_.data(), drain_.size()));
  if (fill_.empty()) {
    for (outbox_waiter* waiter = queue_.first(); waiter != nullptr && parts.size() + 2 <= max_gather;
         waiter = outbox_list::next(*waiter)) {
      send_record& record = static_cast<send_record&>(*waiter);
      record.in_flight_ = true;
      if (record.written_ < record.header.size) {
        parts.push_back(
            asio::buffer(record.header.bytes.data() + record.written_, record.header.size - record.written_));
      }
      const std::size_t out = record.written_ - std::min(record.written_, record.header.size);
      parts.push_back(record.payload + out);
    }
  }
  if (parts.size() == 0 && !sink_holds_) return finish_stream(lock);
  const bool replies = gathers_ && !in_burst_;
  gathers_ = in_burst_ = false;
  tried_size_ = fill_.size();
  has_held_.store(!fill_.empty(), std::memory_order_relaxed);

  const io_result put = write(parts.view(), lock);
  if (!replies) written_at_ = host_.now();
  if (put.size != 0 && drainer_ == drainer::io) drained_at_ = coarse_now();

  const bool took_drain = !drain_.empty();
  std::size_t left = put.size;
  if (took_drain) {
    const std::size_t drained = std::min(left, drain_.size());
    drain_.consume(drained);
    left -= drained;
  }
  for (outbox_waiter* waiter = queue_.first(); waiter != nullptr;) {
    send_record& record = static_cast<send_record&>(*waiter);
    if (!record.in_flight_) break;
    waiter = outbox_list::next(*waiter);
    record.in_flight_ = false;
    const std::size_t part = std::min(left, record.size() - record.written_);
    record.written_ += part;
    left -= part;
    if (record.written_ == record.size() && !(record.direct && sink_holds_)) {
      if (record.is_kept_) unkept_total_ += record.size();
      queue_.remove(record);
      note_pkg(record);
      finish(record, {});
    } else if (record.stop_) {
      resolve(record);
      if (write_error_) return false;
    }
  }
  if (put.error && (put.size != 0 || !is_transient(put.error))) {
    fail(put.error);
    return false;
  }
  if (dropped_) return false;
  if (put.error) return pass_over(put.error);
  finish_flushes();
  if (put.wait_for != wait_direction::none) {
    wait_for(put.wait_for);
    return false;
  }
  return has_work();
}

GTCP_DECL bool outbox::finish_stream(std::unique_lock<short_mutex>& lock) {
  if (!must_finish()) return false;
  writing_ = true;
  lock.unlock();
  const io_result put = sink_->finish_stream();
  lock.lock();
  stop_writing();
  if (put.moved_held) is_stalled_ = false;
  finished_stream_ = put.error || put.wait_for == wait_direction::none;
  if (!finished_stream_) wait_for(put.wait_for);
  return false;
}

GTCP_DECL bool outbox::pass_over(std::error_code error) {
  if (drain_.empty() && !queue_.empty()) {
    send_record& record = static_cast<send_record&>(*queue_.first());
    if (record.written_ == 0 && !record.is_kept_) {
      queue_.remove(record);
      finish(record, error);
      return has_work();
    }
  }
  wait_for(wait_direction::moment);
  return false;
}

GTCP_DECL void outbox::wait_for(wait_direction direction) {
  if (!std::exchange(is_stalled_, true)) stalled_at_ = host_.now();
  if (std::exchange(blocked_for_, direction) == direction) return;
  if (drainer_ == drainer::thread) {
    wake_threads();
  } else {
    awaiting_ = false;
    drainer_ = drainer::none;
  }
}

GTCP_DECL void outbox::serve_queue() {
  if (pending() > limit_ / 2) return;
  while (!queue_.empty()) {
    send_record& record = static_cast<send_record&>(*queue_.first());
    if (record.direct || record.is_kept_ || record.payload.size() >= borrow_from || record.written_ != 0) return;
    if (!fits(record)) return;
    if (!accept(record, fill_)) return;  // it waits on, and goes out from its sender's memory
    note_pkg(record);
    finish_from(queue_, record, {});
  }
}

GTCP_DECL void outbox::give_up(send_record& record, std::error_code reason) {
  if (record.is_kept_) return;
  record.stop_ = reason;
  if (!record.in_flight_) resolve(record);
}

GTCP_DECL bool outbox::keep_rest(send_record& record) {
  if (accept(record, drain_)) return true;
  lost_.store(true, std::memory_order_relaxed);
  fail(no_memory_error());
  return false;
}

GTCP_DECL void outbox::resolve(send_record& record) {
  std::error_code result = record.stop_;
  if (record.written_ != 0) {
    // Only the front is partly out, and then nothing accepted is before it.
    if (!keep_rest(record)) return;
    note_pkg(record);
    if (!record.direct)
      result.clear();
    else if (result != Errc::Closed)
      result = Errc::TimeoutPartlySent;
  }
  finish_from(queue_, record, result);
}

GTCP_DECL void outbox::finish_flushes() {
  while (!flushes_.empty()) {
    flush_record& flush = static_cast<flush_record&>(*flushes_.first());
    const std::uint64_t came_later = accepted_total_ - flush.target_;
    if (pending() > came_later || unkept_total_ < flush.kept_target_) return;
    if (flush.take_ == 0) flush.take_ = takes_;
    if (flush.take_ > settled_takes_) return;
    finish_from(flushes_, flush, {});
  }
}

GTCP_DECL void outbox::fail(std::error_code error) {
  write_error_ = error;
  if (!stop_) stop_ = error;
  drop_now(error);
}

GTCP_DECL void outbox::drop_now(std::error_code error) {
  queue_claims();
  const bool is_torn = !queue_.empty() && static_cast<const send_record&>(*queue_.first()).written_ != 0;
  if (pending_and_kept() != 0 || sink_holds_ || is_torn) lost_.store(true, std::memory_order_relaxed);
  unkept_total_ = kept_total_;
  sink_holds_ = false;
  drain_.release();
  fill_.release();
  finish_all(queue_, error);
  finish_all(flushes_, error);
  finish_all(pauses_, error);
}

GTCP_DECL void outbox::settle(std::unique_lock<short_mutex>& lock) {
  if (dropped_ && !writing_) drop_now(stop_);
  const bool work = has_work();
  if (!work) {
    drain_.release();
    fill_.release();
    let_go_ = false;
  }
  bool await = false;
  const bool may_be_held = queue_.empty() && drain_.empty() && flushes_.empty() && !sink_holds_ && !let_go_;
  const bool held = (corks_ != 0 || gathers_) && may_be_held;
  if (work && drainer_ == drainer::none && !writing_ && !held) {
    if (threads_ != nullptr) {
      threads_->wake();  // finds no drainer and takes over
    } else {
      drainer_ = drainer::io;
      drained_at_ = coarse_now();
      await = !std::exchange(awaiting_, true);
    }
  }
  const bool wants_turn = std::exchange(wants_turn_, false);
  const bool drained = wants_drained_ && !work && !writing_;
  if (drained) wants_drained_ = false;
  const bool left = wants_left_ && !writing_ && drainer_ != drainer::thread;
  if (left) wants_left_ = false;
  outbox_list completed = std::exchange(completed_, {});
  const wait_direction direction = await ? begin_wait() : wait_direction::none;
  lock.unlock();

  complete(completed);
  if (await) host_.await_writable(direction);
  if (wants_turn) host_.await_turn(gathering::by_burst, true);
  if (drained) host_.on_outbox_drained();
  if (left) host_.on_descriptor_left();
}

}  // namespace gtcp::detail

#endif
