// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_GIVE_BACK_HPP
#define GTCP_IMPL_CONN_GIVE_BACK_HPP

// How a connection that a pool has lent gives its socket back, and how it gets another one. Both need that nobody uses
// the socket: the lane is held, so nobody reads or waits for input; the outbox is idle, so nobody writes.

#include <gtcp/detail/conn_state.hpp>

#include <asio/buffer.hpp>

#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace gtcp::detail {

GTCP_DECL bool conn_state::give_back() noexcept {
  if (lease_ == nullptr || process_.is_inherited() || !lease_->may_go_back()) return false;
  if (closed() || !outbox_.is_idle() || !lane_.try_lock()) return false;
  std::vector<TimerEntry> timers;
  bool as_new = input_as_new();
  if (as_new) {
    const std::lock_guard lock(mutex_);
    // Looked at again: a send may have begun meanwhile. From here on none does, but for one that is in the outbox.
    as_new = replaceable() && receivers_ == nullptr;
    if (as_new) {
      timers = mark_closed(false, Errc::Closed);
      watch_.release();
      ++watch_number_;
    }
  }
  if (!as_new) {
    lane::run(lane_.unlock());
    return false;
  }
  for (const TimerEntry& entry : timers) timer_access::close_without_waiting(entry);
  // The lane stays with the connection that has ended, as it does after every closing.
  if (!outbox_.end_if_idle(Errc::Closed) || !lease_->may_go_back()) {
    go_on_closing(false, true);
    return true;
  }
  raw_connection connection;
  bool hard = false;
  {
    std::unique_lock lock(mutex_);
    hard = hard_;
    connection.swap(descriptor_, transport_);
    delivered_ = !hard;
    closing_begins_ = false;
    hold_.release();
    tell_close_waiters(lock);
  }
  if (hard) {
    close_socket(connection.release(), true);
    lease_->lose();
  } else {
    lease_->give_back(std::move(connection));
  }
  return true;
}

GTCP_DECL bool conn_state::input_as_new() noexcept {
  if (!input_.empty() || input_error_) return false;
  char byte = 0;
  const io_result got = transport_->read_some(asio::buffer(&byte, 1));
  drained_ = false;
  if (got.size != 0) {
    try {
      input_.append(&byte, got.size);
    } catch (const std::bad_alloc&) {
      input_error_ = no_memory_error();
    }
  }
  if (got.error && !is_transient(got.error)) input_error_ = got.error;
  return is_quiet(*transport_, got);
}

GTCP_DECL bool conn_state::replace(raw_connection& fresh) noexcept {
  if (!lane_.try_lock()) return false;
  const unlock_at_exit guard{*this};
  const auto swap_sockets = [&] {
    watch_.release();
    ++watch_number_;
    fresh.swap(descriptor_, transport_);
  };
  {
    const std::lock_guard lock(mutex_);
    if (!replaceable() || receivers_ != nullptr || !input_.empty() || input_error_) return false;
    swap_sockets();
    drained_ = true;
  }
  if (outbox_.restart(*transport_, descriptor_)) return true;
  const std::lock_guard lock(mutex_);
  swap_sockets();
  return false;
}

}  // namespace gtcp::detail

#endif
