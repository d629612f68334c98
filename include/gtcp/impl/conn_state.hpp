// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_STATE_HPP
#define GTCP_IMPL_CONN_STATE_HPP

// How a connection begins and ends to exist, and what others ask it.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/platform_io.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/generic/stream_protocol.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL conn_state::conn_state(native_socket descriptor, const ConnOption& option, transport_ptr layer,
                                 const socket_address& peer)
    : descriptor_(descriptor),
      transport_(layer != nullptr ? std::move(layer) : transport_ptr(new plain_transport(descriptor))),
      outbox_(*transport_, descriptor, *this, option.OutboxLimit, option.WhenFull),
      max_line_size_(option.MaxLineSize),
      busy_wait_(option.BusyWait),
      mode_(option.Mode),
      executor_(option.Executor),
      linger_(option.Linger) {
  std::string ignored;
  check(option.Pkg, format_, ignored);
  max_short_ = std::min(format_.max_data_size, outbox::borrow_from - 1);
  is_simple_ = format_.retry.Count == 0;
  remote_address_ = to_text(peer.empty() ? socket_address::of_peer(descriptor) : peer);
  if (remote_address_.empty()) remote_address_ = to_text(socket_address::of(descriptor));  // an unnamed unix peer
}

GTCP_DECL conn_state::~conn_state() {
  if (process_.is_inherited()) {
    abandon_inherited();
    return;
  }
  if (ledger_ != nullptr) ledger_->remove(*this);
  watch_.release();
  if (descriptor_ != invalid_native_socket) close_socket(descriptor_, false);
}

GTCP_DECL void conn_state::abandon_inherited() noexcept {
  if (descriptor_ != invalid_native_socket) close_socket(descriptor_, false);
  watch_.abandon();
  static_cast<void>(close_timer_.release());
  static_cast<void>(turn_timer_.release());
  static_cast<void>(transport_.release());  // TLS has locks of its own
  static_cast<void>(lease_.release());
  union never_destroyed {  // the last copy of a strand locks what its context has
    explicit never_destroyed(asio::any_io_executor&& taken) noexcept : executor(std::move(taken)) {}
    ~never_destroyed() {}
    asio::any_io_executor executor;
  };
  const never_destroyed kept(std::move(executor_));
}

GTCP_DECL void conn_state::serve(std::shared_ptr<conn_ledger> ledger, std::unique_ptr<peer_limits> limits) {
  ledger_ = std::move(ledger);
  ledger_->add(*this);
  limits_ = std::move(limits);
  drained_ = false;  // who connects usually has something to say at once
}

GTCP_DECL void conn_state::join_context() {
  if (executor_) membership_ = std::make_unique<context_membership>(executor_, shared_from_this());
}

GTCP_DECL ConnStats conn_state::counted() const {
  const outbox::counts out = outbox_.counted();
  ConnStats stats;
  stats.PkgsIn = pkgs_in_.load(std::memory_order_relaxed);
  stats.PkgsOut = out.pkgs;
  stats.PkgsDropped = out.dropped_pkgs;
  stats.BytesIn = bytes_in_.load(std::memory_order_relaxed);
  stats.BytesOut = out.bytes;
  stats.OutboxBytes = out.pending;
  return stats;
}

GTCP_DECL std::string conn_state::explain(const std::error_code& error, const pkg_format& format) const {
  if (error == Errc::PkgTooLarge) {
    return "the package has " + std::to_string(refused_size_.load(std::memory_order_relaxed)) +
           " bytes, allowed are 0 to " + std::to_string(format.max_data_size);
  }
  if (error == Errc::LineTooLong) return "allowed are " + std::to_string(max_line_size_) + " bytes";
  return {};
}

GTCP_DECL void conn_state::bind(const TimerEntry& entry) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed()) {
      if (timers_.size() == timers_.capacity()) {
        std::erase_if(timers_, [](const TimerEntry& bound) { return bound.Status() == StatusClosed; });
      }
      timers_.push_back(entry);
      return;
    }
  }
  timer_access::close_without_waiting(entry);
}

GTCP_DECL std::string conn_state::local_address() const {
  const std::lock_guard lock(mutex_);
  return descriptor_ == invalid_native_socket ? local_address_ : to_text(socket_address::of(descriptor_));
}

GTCP_DECL std::error_code conn_state::close_reason() const {
  {
    const std::lock_guard lock(mutex_);
    if (close_reason_) return close_reason_;
  }
  return outbox_.failure();
}

GTCP_DECL asio::any_io_executor conn_state::executor() {
  const std::lock_guard lock(mutex_);
  return executor_locked();
}

GTCP_DECL const asio::any_io_executor& conn_state::executor_locked() {
  if (!executor_) {
    executor_ = Runtime::Default().get_executor();
    on_default_runtime_ = true;
  }
  return executor_;
}

GTCP_DECL asio::any_io_executor conn_state::waiting_executor() {
  if (closed() && !on_default_runtime_) return Runtime::Default().get_executor();
  return inner_executor(executor_locked());
}

GTCP_DECL asio::generic::stream_protocol::socket& conn_state::open_watch() {
  return watch_.open([this] { return waiting_executor(); }, descriptor_);
}

GTCP_DECL void conn_state::note_end(std::error_code reason) {
  const std::lock_guard lock(mutex_);
  if (!close_reason_) close_reason_ = reason;
}

GTCP_DECL bool conn_state::all_acknowledged() const noexcept {
  const std::optional<std::size_t> unacknowledged = unacknowledged_bytes(descriptor_);
  return !unacknowledged || *unacknowledged == 0;
}

GTCP_DECL void conn_state::release_hold_if_drained() {
  if (outbox_.pending_bytes() != 0) return;
  const std::lock_guard lock(mutex_);
  if (!closed()) hold_.release();
}

GTCP_DECL bool conn_state::start_wait_closed(close_waiter& waiter) {
  bool is_over = false;
  {
    const std::lock_guard lock(mutex_);
    if (await_closed(waiter, is_over)) return true;
  }
  if (is_over) close_if_possible();
  return false;
}

}  // namespace gtcp::detail

#endif
