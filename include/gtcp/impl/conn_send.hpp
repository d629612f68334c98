// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_SEND_HPP
#define GTCP_IMPL_CONN_SEND_HPP

// The sending half of conn_state: what to do with a send, besides leaving it to the outbox.

#include <gtcp/detail/conn_state.hpp>

#include <asio/buffer.hpp>

#include <chrono>
#include <functional>
#include <mutex>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL std::error_code conn_state::send(const pkg_header& header, asio::const_buffer payload,
                                           const time_limit& limit, bool may_wait) {
  thread_record<send_record> record;
  record.header = header;
  record.payload = payload;
  const gathering how = gathers();
  record.direct = mode() == SendMode::Direct && how != gathering::by_dispatch;
  const bool must_not_wait = how == gathering::by_dispatch || on_runtime_thread();
  const bool can_wait = may_wait && (outbox_.never_waits() || !must_not_wait);
  switch (outbox_.send(record, can_wait, &record.self, how)) {
    case send_outcome::refused: return may_wait ? make_error_code(Errc::WouldDeadlock) : asio::error::would_block;
    case send_outcome::waiting: outbox_.wait(record, record.self, [&] { return limit.resolve(send_deadline_); }); break;
    case send_outcome::done: break;
  }
  return record.error;
}

GTCP_DECL bool conn_state::append(asio::const_buffer payload) {
  if (!is_short(payload)) return false;
  return outbox_.append(make_pkg_header(format_, payload.size()), payload, gathers());
}

GTCP_DECL bool conn_state::send_at_once(asio::const_buffer payload, std::error_code& error) {
  if (!is_short(payload)) return false;
  immediate_record record;
  record.header = make_pkg_header(format_, payload.size());
  record.payload = payload;
  if (outbox_.send(record, false, nullptr, gathers()) == send_outcome::refused) return false;
  error = record.error;
  return true;
}

GTCP_DECL bool conn_state::should_renew(const std::error_code& error) noexcept {
  if (lease_ == nullptr || !IsFatal(error) || process_.is_inherited() || !outbox_.can_restart()) return false;
  {
    const std::lock_guard lock(mutex_);
    if (!replaceable()) return false;
  }
  return lease_->should_renew();
}

GTCP_DECL bool conn_state::renew(const time_limit& limit) {
  return lease_->renew(*this, limit.resolve(send_deadline_));
}

GTCP_DECL void conn_state::start_renewal(const time_limit& limit, std::function<void()> done) {
  lease_->start_renewal(shared_from_this(), limit.resolve(send_deadline_), std::move(done));
}

GTCP_DECL std::error_code conn_state::flush(const time_limit& limit) {
  if (on_runtime_thread()) return Errc::WouldDeadlock;
  thread_record<flush_record> record;
  if (outbox_.flush(record, &record.self) == send_outcome::waiting) {
    outbox_.wait(record, record.self, [&] { return limit.resolve(send_deadline_); });
  }
  return record.error;
}

GTCP_DECL void conn_state::set_send_deadline(clock::time_point at) {
  send_deadline_.set(at);
  outbox_.deadline_changed();
  const std::lock_guard lock(mutex_);  // a thread pauses there, see pause()
  for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) {
    if (entry->asynchronous() == nullptr) entry->deadline_changed();
  }
}

}  // namespace gtcp::detail

#endif
