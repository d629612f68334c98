// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_RECEIVE_HPP
#define GTCP_IMPL_CONN_RECEIVE_HPP

// The receiving half of conn_state. One step, try_receive, serves the blocking and the asynchronous form; they differ
// in how they wait: in poll with the thread's waker, or through Asio with a timer.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/impl/conn_wait.hpp>

#include <asio/socket_base.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp::detail {

GTCP_DECL std::error_code conn_state::receive(recv_goal&& goal, const time_limit& limit, std::string& into,
                                              bool may_wait) {
  if (may_wait && (on_runtime_thread() || gathers() == gathering::by_dispatch)) return Errc::WouldDeadlock;
  if (closed()) return Errc::Closed;
  thread_receiver self(std::move(goal), limit);
  if (!lane_.try_lock()) {
    if (!may_wait) return asio::error::would_block;
    if (const std::error_code error = queue_for_lane(self)) return error;
  }
  unlock_at_exit guard{*this};
  return receive_as_holder(self, into, may_wait);
}

GTCP_DECL bool conn_state::take_buffered(recv_goal& goal, std::string& into) {
  if (closed() || !lane_.try_lock()) return false;
  unlock_at_exit guard{*this};
  if (closed()) return false;
  const recv_verdict verdict = goal.judge(input_.view(), false);
  if (verdict.what != recv_verdict::kind::take) {
    goal.restart();  // others may receive before it does
    return false;
  }
  take(verdict, gathering::by_task, into);
  return true;
}

GTCP_DECL void conn_state::start(async_receiver& op) {
  if (!closed() && lane_.try_lock()) {
    op.holds_lane_ = true;
  } else {
    std::unique_lock lock(mutex_);
    if (closed() && !op.stop) op.stop = Errc::Closed;
    if (op.stop) {
      unlist(op);
      op.timer_.reset();
      lock.unlock();
      return op.complete(op.stop, false);
    }
    list(op);
    if (!lane_.lock_or_queue(op)) {
      op.stage_ = async_receiver::stage::queued;
      if (try_twice([&] { arm_timer(op, give_up_time(op)); })) return;
      lane_.withdraw(op);
      unlist(op);
      lock.unlock();
      return op.complete(no_memory_error(), false);
    }
    op.holds_lane_ = true;
  }
  lane::run(advance(op, {}, false));
}

GTCP_DECL void conn_state::stop_receive(std::uint64_t id, std::error_code reason) {
  std::unique_lock lock(mutex_);
  for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) {
    async_receiver* const op = entry->asynchronous();
    if (op == nullptr || op->id != id) continue;
    const bool deadline_was_moved = reason == Errc::Timeout && (!op->timer_ || clock::now() < op->timer_->expiry());
    if (deadline_was_moved) return;
    if (stop(*op, reason)) {
      lock.unlock();
      op->complete(reason, false);
    }
    return;
  }
}

GTCP_DECL void conn_state::set_recv_deadline(clock::time_point at) {
  recv_deadline_.set(at);
  const std::lock_guard lock(mutex_);
  for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) entry->deadline_changed();
}

GTCP_DECL std::error_code conn_state::pause(clock::time_point until, const time_limit& limit,
                                            const shared_deadline& standard) {
  thread_receiver self(recv_goal::handshake(), limit);  // listed, so that it is told of what changes; receives nothing
  std::unique_lock lock(mutex_);
  if (closed()) return Errc::Closed;
  list(self);
  while (!self.stop) {
    const clock::time_point give_up_at = limit.resolve(standard);
    const clock::time_point next = std::min(until, give_up_at);
    if (next == no_deadline) {
      self.woken.wait(lock);
    } else if (clock::now() >= next) {
      if (next == give_up_at) self.stop = Errc::Timeout;
      break;
    } else {
      self.woken.wait_until(lock, next);
    }
  }
  unlist(self);
  return self.stop;
}

GTCP_DECL conn_state::progress conn_state::try_receive(receiver& self, bool quiet, bool try_once, std::string* into,
                                                       std::error_code& error, wait_direction& wait_for) {
  if (self.goal.is_handshake()) return try_handshake(error, wait_for);
  async_receiver* const op = self.asynchronous();
  for (;;) {
    const recv_verdict verdict = self.goal.judge(input_.view(), static_cast<bool>(input_error_), quiet);
    if (verdict.what == recv_verdict::kind::take && op != nullptr && pumps(*op, verdict)) {
      if (closed()) {
        error = Errc::Closed;
        return progress::done;
      }
      if (outbox_.is_over_limit()) return progress::must_pause;
      if (should_yield()) return progress::must_yield;
      continue;
    }
    if (verdict.what == recv_verdict::kind::take) {
      take(verdict, op != nullptr ? gathering::by_task : gathering::by_thread, *into);
      return progress::done;
    }
    if (verdict.what == recv_verdict::kind::ended || verdict.what == recv_verdict::kind::fail) {
      error = verdict.what == recv_verdict::kind::ended ? input_error_ : make_error_code(verdict.error);
      const bool ended_by_peer = input_error_ == asio::error::eof || input_error_ == Errc::TlsTruncated;
      if (error == Errc::PkgTruncated && !ended_by_peer) error = input_error_;
      if (error == Errc::PkgTooLarge) refused_size_.store(verdict.size, std::memory_order_relaxed);
      if (IsFatal(error)) note_end(error);
      return progress::done;
    }
    if (limits_ != nullptr && !limits_->hold(input_.size())) {
      close(true, Errc::ReceiveMemoryFull);
      error = Errc::Closed;
      return progress::done;
    }
    if (drained_ && !try_once && !draining_.load(std::memory_order_relaxed)) {
      drained_ = false;
      wait_for = wait_direction::read;
      return progress::must_wait;
    }
    if (has_drained()) {
      error = Errc::Draining;
      note_end(error);
      return progress::done;
    }
    // Grows with what came, never by what was announced.
    const std::size_t missing = verdict.size - input_.size();
    const std::size_t room = input_.empty() ? read_block : std::min(missing, std::max(input_.size(), read_block));
    const io_result got = transport_->read_some(input_.prepare(room));
    input_.commit(got.size);
    drained_ = got.drained;
    divide_replies();
    if (got.size != 0) bytes_in_.store(bytes_in_.load(std::memory_order_relaxed) + got.size, std::memory_order_relaxed);
    if (is_transient(got.error)) {
      error = got.error;
      return progress::done;
    }
    if (got.error) input_error_ = got.error;
    // The system tells of a reset once. When a write was told, reading finds what looks like a regular end.
    if (got.error == asio::error::eof && outbox_.failure() == asio::error::connection_reset) {
      input_error_ = asio::error::connection_reset;
    }
    if (got.wait_for != wait_direction::none) {
      drained_ = false;
      if (input_.empty()) input_.release();
      if (ends_here(self.goal)) {
        error = Errc::Draining;
        note_end(error);
        return progress::done;
      }
      wait_for = got.wait_for;
      return progress::must_wait;
    }
  }
}

GTCP_DECL bool conn_state::has_drained() noexcept {
  constexpr std::size_t most_in_layer = 32 * 1024;  // what a layer may have read that it has not handed on
  if (!draining_.load(std::memory_order_acquire)) return false;
  const std::uint64_t came = bytes_in_.load(std::memory_order_relaxed);
  if (drain_until_ == 0) drain_until_ = came + unread_bytes(descriptor_) + most_in_layer;
  return came >= drain_until_ + input_.size();
}

GTCP_DECL bool conn_state::ends_here(const recv_goal& goal) const noexcept {
  return draining_.load(std::memory_order_acquire) && input_.empty() && !goal.is_handshake();
}

GTCP_DECL conn_state::progress conn_state::try_handshake(std::error_code& error, wait_direction& wait_for) {
  const io_result step = transport_->handshake();
  error = step.error;
  if (IsFatal(error)) note_end(error);
  drained_ = false;  // what came behind the handshake is in the layer already
  if (error || step.wait_for == wait_direction::none) return progress::done;
  wait_for = step.wait_for;
  return progress::must_wait;
}

GTCP_DECL void conn_state::divide_replies() noexcept {
  std::size_t parts = reply_parts_.load(std::memory_order_relaxed);
  if (parts == 0) {
    // A peer that shares the only processor would but interrupt.
    parts = std::thread::hardware_concurrency() == 1 ? 1 : 4;
    reply_parts_.store(parts, std::memory_order_relaxed);
  }
  constexpr std::size_t smallest = 2048;  // of less each write costs more than the peer gains
  reply_part_ = std::max(input_.size() / parts, smallest);
  reply_at_ = input_.size() - std::min(input_.size(), reply_part_);
}

GTCP_DECL void conn_state::let_replies_go() {
  if (input_.size() > reply_at_) return;
  reply_at_ -= std::min(reply_at_, reply_part_);
  outbox_.flush_replies();
}

GTCP_DECL void conn_state::take(const recv_verdict& verdict, gathering how, std::string& into) {
  let_replies_go();
  assign_bytes(into, input_.data() + verdict.skip, verdict.size);
  consume(verdict);
  note_input(input_.empty() ? nullptr : reader_mark(how));
}

GTCP_DECL bool conn_state::pumps(async_receiver& op, const recv_verdict& verdict) {
  if (!op.is_pump_) return false;
  if (std::exchange(op.tried_again_, false)) rearm_gate::of_this_thread().note(true);
  let_replies_go();
  note_input(reader_mark(gathering::by_dispatch));
  op.deliver(input_.view().substr(verdict.skip, verdict.size));
  consume(verdict);
  return true;
}

GTCP_DECL void conn_state::consume(const recv_verdict& verdict) noexcept {
  input_.consume(verdict.skip + verdict.size + verdict.drop);
  // Only a package has something before its payload.
  if (verdict.skip != 0) pkgs_in_.store(pkgs_in_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (limits_ != nullptr) {
    limits_->note_take();
    // What is behind it waits for a handler that may take its time.
    if (!limits_->hold_rest(input_.size())) close(true, Errc::ReceiveMemoryFull);
  }
  if (input_.empty() && drained_) input_.release();
  if (lease_ != nullptr) lease_->note_receive();
}

GTCP_DECL void conn_state::note_input(const char* reader) noexcept {
  // Written only when they change, since senders look at them.
  if (!input_came_.load(std::memory_order_relaxed)) input_came_.store(true, std::memory_order_relaxed);
  if (reader_.load(std::memory_order_relaxed) != reader) reader_.store(reader, std::memory_order_relaxed);
}

GTCP_DECL void conn_state::before_waiting() {
  note_input(nullptr);
  outbox_.flush_held();
}

GTCP_DECL std::error_code conn_state::queue_for_lane(thread_receiver& self) {
  std::unique_lock lock(mutex_);
  if (closed()) return Errc::Closed;
  if (lane_.lock_or_queue(self)) return {};
  list(self);
  while (!self.has_lane && !self.stop) {
    const clock::time_point until = self.limit.resolve(recv_deadline_);
    if (until == no_deadline)
      self.woken.wait(lock);
    else if (clock::now() >= until)
      self.stop = Errc::Timeout;
    else
      self.woken.wait_until(lock, until);
  }
  unlist(self);
  if (self.has_lane || !lane_.withdraw(self)) {
    // The lane is ours. Being asked to stop meanwhile is looked at by the holder's loop.
    self.has_lane = true;
    if (self.stop == Errc::Timeout) self.stop.clear();
    return {};
  }
  return self.stop;
}

GTCP_DECL std::error_code conn_state::receive_as_holder(thread_receiver& self, std::string& into, bool may_wait) {
  bool quiet = false;
  bool last_try = !may_wait;
  for (;;) {
    if (closed()) return Errc::Closed;
    std::error_code error;
    wait_direction wait_for = wait_direction::none;
    if (try_receive(self, quiet, last_try, &into, error, wait_for) == progress::done) return error;
    input_.shrink();
    before_waiting();
    if (!may_wait) return asio::error::would_block;
    if (last_try) return Errc::Timeout;

    const bool looks_again = busy_wait_.count() != 0 && !may_end_quietly(self.goal);
    if (looks_again && receive_busily(self, into, error, wait_for)) return error;
    const bool ends_when_quiet = may_end_quietly(self.goal);
    clock::time_point until = ends_when_quiet ? deadline_after(buffer_wait()) : no_deadline;
    {
      const std::lock_guard lock(mutex_);
      if (self.stop) return self.stop;
      if (closed()) return Errc::Closed;
      if (ends_here(self.goal)) continue;
      self.waker = &waker::of_this_thread();
      list(self);
      begin_wait(self.goal);
      until = std::min(until, self.limit.resolve(recv_deadline_));  // listed: it is told when that changes
    }
    wait_descriptor(descriptor_, wait_for, *self.waker, until);
    {
      const std::lock_guard lock(mutex_);
      unlist(self);
      end_wait();
      self.waker = nullptr;
      until = ends_when_quiet ? until : self.limit.resolve(recv_deadline_);
    }
    if (until != no_deadline && clock::now() >= until) {
      quiet = true;
      last_try = !ends_when_quiet;
    }
  }
}

GTCP_DECL void conn_state::begin_wait(const recv_goal& goal) noexcept {
  if (limits_ == nullptr) return;
  // Of a layer's record every byte counts, too: as life, and as the beginning of a package.
  const input_below below = transport_->below();
  const bool in_pkg = goal.is_package() && (!input_.empty() || below.has_begun);
  limits_->begin_wait(clock::now(), bytes_in_.load(std::memory_order_relaxed) + below.bytes, in_pkg);
}

GTCP_DECL void conn_state::end_wait() noexcept {
  if (limits_ != nullptr) limits_->end_wait(clock::now());
}

GTCP_DECL bool conn_state::receive_busily(thread_receiver& self, std::string& into, std::error_code& error,
                                          wait_direction& wait_for) {
  const clock::time_point sleeps_at = deadline_after(busy_wait_);
  do {
    if (try_receive(self, false, false, &into, error, wait_for) == progress::done) return true;
    // The deadline may be set anew meanwhile.
  } while (!closed() && !may_end_quietly(self.goal) &&
           clock::now() < std::min(sleeps_at, self.limit.resolve(recv_deadline_)));
  return false;
}

GTCP_DECL lane_waiter* conn_state::advance(async_receiver& op, std::error_code stop, bool may_dispatch) {
  std::error_code error;
  try {
    if (go_on(op, stop, error)) return nullptr;
  } catch (const std::bad_alloc&) {
    error = no_memory_error();
  } catch (const std::system_error& failure) {
    error = failure.code();
  }
  return finish(op, error, may_dispatch);  // may call the handler, whose exceptions are its own
}

GTCP_DECL bool conn_state::go_on(async_receiver& op, std::error_code stop, std::error_code& error) {
  for (;;) {
    const bool quiet = stop == Errc::Timeout && op.goal.ends_when_quiet();
    wait_direction wait_for = wait_direction::none;
    const progress step = try_receive(op, quiet, op.last_try_, op.into_, error, wait_for);
    if (step == progress::done) {
      if (op.tried_again_) rearm_gate::of_this_thread().note(true);
      if (op.is_pump_) before_waiting();  // its last package was not the last one that it sent
      return false;
    }
    input_.shrink();
    before_waiting();
    std::unique_lock lock(mutex_);
    if (closed() && !op.stop) op.stop = Errc::Closed;
    op.may_end_quietly_ = may_end_quietly(op.goal);
    const clock::time_point until = give_up_time(op);
    if (!op.stop && until != no_deadline && clock::now() >= until) op.stop = Errc::Timeout;
    if (op.stop) {
      stop = op.stop;
      if (stop == Errc::Timeout && !std::exchange(op.last_try_, true)) continue;
      error = stop;
      return false;
    }
    if (step == progress::must_wait && ends_here(op.goal)) continue;
    list(op);
    arm_timer(op, until);
    if (step == progress::must_pause) {
      op.stage_ = async_receiver::stage::waiting;
      lock.unlock();
      await_room(op);
    } else if (step == progress::must_yield || tries_again(op, wait_for)) {
      await_others(op);
    } else {
      begin_wait(op.goal);
      await_readable(op, wait_for);
    }
    return true;
  }
}

GTCP_DECL lane_waiter* conn_state::finish(async_receiver& op, std::error_code error, bool may_dispatch) {
  lane_waiter* next = nullptr;
  bool is_abandoned = false;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(op.holds_lane_, false)) next = lane_.unlock_queued();
    is_abandoned = op.is_abandoned_;
    const bool retries = is_transient(error) && !is_abandoned && op.retry.Count-- > 0;
    if (retries && op.stop) error = op.stop;
    if (retries && !op.stop) {
      op.may_end_quietly_ = false;
      const auto pause = [&] {
        list(op);
        arm_timer(op, give_up_time(op));
        op.stage_ = async_receiver::stage::waiting;
        op.pause_ = std::make_unique<asio::steady_timer>(waiting_executor(), deadline_after(retry_pause(op.retry)));
        entrust(op, [&](wait_handler&& handler) { op.pause_->async_wait(std::move(handler)); });
      };
      if (try_twice(pause)) return next;
    }
    unlist(op);
    op.timer_.reset();
  }
  if (is_abandoned)
    op.destroy();
  else
    op.complete(error, may_dispatch && next == nullptr);
  return next;
}

GTCP_DECL void conn_state::await_readable(async_receiver& op, wait_direction wait_for) {
  const auto what = wait_for == wait_direction::write ? asio::socket_base::wait_write : asio::socket_base::wait_read;
  auto& socket = open_watch();
  op.stage_ = async_receiver::stage::waiting;
  op.wants_write_ = wait_for == wait_direction::both;
  if (op.wants_write_) await_writable_for_receivers();
  entrust(op, [&](wait_handler&& handler) { socket.async_wait(what, std::move(handler)); });
}

GTCP_DECL bool conn_state::tries_again(async_receiver& op, wait_direction wait_for) {
  rearm_gate& gate = rearm_gate::of_this_thread();
  if (std::exchange(op.tried_again_, false)) {
    gate.note(false);
    return false;
  }
  if (wait_for != wait_direction::read || !gate.is_open()) return false;
  return op.tried_again_ = true;
}

GTCP_DECL void conn_state::await_others(async_receiver& op) {
  op.stage_ = async_receiver::stage::waiting;
  entrust(op, [&](wait_handler&& handler) { post_to(waiting_executor(), std::move(handler)); });
}

GTCP_DECL void conn_state::await_room(async_receiver& op) {
  op.room_ = std::make_unique<room_waiter>(op);
  if (outbox_.await_room(*op.room_) == send_outcome::done) lane::run(op.resume());
}

GTCP_DECL void conn_state::await_writable_for_receivers() {
  // One wait serves all of them: it may outlive the receiver that began it.
  if (writable_awaited_) return;
  open_watch().async_wait(asio::socket_base::wait_write, [weak = weak_from_this()](std::error_code) {
    const auto self = weak.lock();
    if (self == nullptr) return;
    const std::lock_guard lock(self->mutex_);
    self->writable_awaited_ = false;
    for (receiver* entry = self->receivers_; entry != nullptr; entry = entry->next_) {
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr || op->stop) continue;  // its wait has been ended, and closing may wait in its place
      if (op->stage_ == async_receiver::stage::waiting && op->wants_write_) self->interrupt(*op);
    }
  });
  writable_awaited_ = true;
}

GTCP_DECL void conn_state::on_wait_over(async_receiver& op) {
  std::error_code stop;
  {
    std::unique_lock lock(mutex_);
    op.stage_ = async_receiver::stage::stepping;
    if (op.holds_lane_) end_wait();
    stop = op.stop;
    if (!op.holds_lane_) {
      // Close took the lane from it, or it has paused before its next try, with others receiving meanwhile.
      if (stop) {
        unlist(op);
        op.timer_.reset();
        lock.unlock();
        return op.complete(stop, true);
      }
      op.goal.restart();
      lock.unlock();
      return start(op);
    }
  }
  lane::run(advance(op, stop, true));
}

GTCP_DECL void conn_state::abandon(async_receiver& op) noexcept {
  const std::shared_ptr<conn_state> conn = op.conn_;
  lane_waiter* next = nullptr;
  {
    const std::lock_guard lock(conn->mutex_);
    conn->unlist(op);
    if (std::exchange(op.holds_lane_, false)) next = conn->lane_.unlock_queued();
  }
  op.destroy();
  lane::run(next);
}

GTCP_DECL bool conn_state::stop(async_receiver& op, std::error_code reason) {
  if (op.stop) return false;
  op.stop = reason;
  if (op.stage_ == async_receiver::stage::queued && lane_.withdraw(op)) {
    unlist(op);
    op.timer_.reset();
    return true;
  }
  if (op.stage_ == async_receiver::stage::waiting) interrupt(op);
  return false;
}

GTCP_DECL void conn_state::interrupt(async_receiver& op) noexcept {
  watch_.cancel();
  if (op.pause_ != nullptr) op.pause_->cancel();
}

GTCP_DECL clock::time_point conn_state::give_up_time(const async_receiver& op) const noexcept {
  const clock::time_point until = op.limit.resolve(recv_deadline_);
  return op.may_end_quietly_ ? std::min(until, deadline_after(buffer_wait())) : until;
}

GTCP_DECL void conn_state::arm_timer(async_receiver& op, clock::time_point until) {
  if (until == no_deadline) {
    op.timer_.reset();
    return;
  }
  if (op.timer_ && op.timer_->expiry() == until) return;
  if (!op.timer_) op.timer_ = std::make_unique<asio::steady_timer>(waiting_executor());
  op.timer_->expires_at(until);
  try {
    op.timer_->async_wait([weak = weak_from_this(), id = op.id](std::error_code error) {
      if (error) return;
      if (const auto self = weak.lock()) self->stop_receive(id, Errc::Timeout);
    });
  } catch (...) {
    op.timer_.reset();  // so that nobody takes it for armed
    throw;
  }
}

GTCP_DECL void conn_state::list(receiver& entry) noexcept {
  if (std::exchange(entry.listed_, true)) return;
  entry.previous_ = nullptr;
  entry.next_ = receivers_;
  if (receivers_ != nullptr) receivers_->previous_ = &entry;
  receivers_ = &entry;
}

GTCP_DECL void conn_state::unlist(receiver& entry) noexcept {
  if (!std::exchange(entry.listed_, false)) return;
  (entry.previous_ != nullptr ? entry.previous_->next_ : receivers_) = entry.next_;
  if (entry.next_ != nullptr) entry.next_->previous_ = entry.previous_;
}

GTCP_DECL void room_waiter::destroy() noexcept { conn_state::abandon(op_); }

GTCP_DECL bool async_receiver::granted() {
  holds_lane_ = true;
  stage_ = is_pump_ ? stage::waiting : stage::stepping;  // a pump goes on in its own context
  return true;
}

GTCP_DECL lane_waiter* async_receiver::resume() {
  const std::shared_ptr<conn_state> conn = conn_;
  return conn->advance(*this, {}, false);
}

GTCP_DECL void async_receiver::deadline_changed() { conn_->arm_timer(*this, conn_->give_up_time(*this)); }

GTCP_DECL bool conn_state::take_buffered_pkg(std::string& into, gathering how) {
  if (!is_simple_ || closed() || !lane_.try_lock()) return false;
  unlock_at_exit guard{*this};
  if (closed()) return false;
  const recv_verdict verdict = judge_package(format_.header_size, format_.max_data_size, input_.view());
  if (verdict.what != recv_verdict::kind::take) return false;
  take(verdict, how, into);
  return true;
}

}  // namespace gtcp::detail

#endif
