// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_DIAL_HPP
#define GTCP_DETAIL_TLS_DIAL_HPP

// Connecting with TLS: a connection as without, then the handshake as its first receive.

#include <gtcp/detail/dialer.hpp>
#include <gtcp/detail/operation.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/tls_config.hpp>
#include <gtcp/detail/tls_transport.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/tls_option.hpp>

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/co_spawn.hpp>
#include <asio/redirect_error.hpp>
#include <asio/strand.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <new>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

class tls_dialer {
 public:
  tls_dialer(std::string address, tls_context context, std::chrono::nanoseconds timeout, const TLSOption& tls,
             const ConnOption& option)
      : dial_(std::move(address), option, timeout), context_(std::move(context)), tls_(tls), option_(option) {}

  /// Checks what can be checked without a system call; begins the time.
  std::error_code begin() {
    std::error_code error = dial_.begin();
    if (!error) error = check(tls_, why_);
    if (error || context_ != nullptr) return error;
    context_ = make_tls_context();
    context_->set_default_verify_paths(error);
    return error;
  }

  std::error_code run(const std::stop_token& stop, Conn& conn) {
    native_socket descriptor = invalid_native_socket;
    std::error_code error = dial_blocking(dial_, stop, descriptor);
    if (!error) error = make(descriptor, conn);
    if (error) return error;
    const std::stop_callback on_stop(stop, [&conn] { conn.Abort(); });
    std::string nothing;
    error = state()->receive(recv_goal::handshake(), limit(), nothing);
    if (error == Errc::Closed && stop.stop_requested()) error = asio::error::operation_aborted;
    return end(error, conn);
  }

  /// The same on a strand.
  static asio::awaitable<void> run(std::shared_ptr<tls_dialer> self, asio::any_io_executor strand,
                                   std::shared_ptr<std::pair<std::error_code, Conn>> result) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    native_socket descriptor = invalid_native_socket;
    auto dialing = dial_async(self->dial_, strand, descriptor);
    std::error_code error = co_await std::move(dialing);
    if (!error) error = self->make(descriptor, result->second);
    if (!error) {
      // The result has the connection, so it ends when this coroutine is cancelled or thrown away.
      auto waiting = async_receive(prepared{"handshake", self->state()}, recv_goal::handshake(), self->limit(),
                                   asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(waiting);
      error = self->end(error, result->second);
    }
    result->first = error;
  }

  const ConnOption& option() const noexcept { return option_; }
  void set_executor(const asio::any_io_executor& executor) { option_.Executor = executor; }

  std::string describe(const char* name) const {
    if (!why_.empty()) return std::string(name) + ": " + why_;
    return dial_.describe(name) + (in_handshake_ ? ": TLS handshake" : "");
  }

 private:
  std::error_code make(native_socket descriptor, Conn& conn) {
    descriptor_guard guard(descriptor);
    in_handshake_ = true;
    try {
      auto layer = std::make_unique<tls_transport>(descriptor, context_, client_settings(tls_, dial_.host()));
      conn = make_conn(guard.release(), option_, std::move(layer));
      state_ = state_of(conn_access::state(conn));
    } catch (const std::bad_alloc&) {
      return asio::error::no_memory;
    } catch (const std::system_error& failure) {
      return failure.code();
    }
    return {};
  }

  const conn_ptr& state() const noexcept { return state_; }

  time_limit limit() const {
    const bool unlimited = tls_.HandshakeTimeout.count() == 0;
    return time_limit::at(std::min(dial_.deadline(), unlimited ? no_deadline : deadline_after(tls_.HandshakeTimeout)));
  }

  std::error_code end(std::error_code error, Conn& conn) {
    state_ = nullptr;
    if (error == Errc::Timeout || error == asio::error::operation_aborted) conn.Abort();
    if (error) conn = {};  // the server still gets the alert that says why
    return error;
  }

  dialer dial_;
  tls_context context_;
  TLSOption tls_;
  ConnOption option_;
  std::string why_;
  bool in_handshake_ = false;
  conn_ptr state_;
};

/// Dials and completes with void(std::error_code, Conn). `described`, if there, learns how to describe an error.
template <class Token>
auto async_dial_tls(std::shared_ptr<tls_dialer> dial, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code, Conn)>(
      [](auto handler, std::shared_ptr<tls_dialer> job) {
        using handler_type = decltype(handler);
        if (!job->option().Executor) job->set_executor(Runtime::Default().get_executor());
        const asio::any_io_executor strand = asio::make_strand(inner_executor(job->option().Executor));
        const auto slot = asio::get_associated_cancellation_slot(handler);
        auto pending = std::make_shared<pending_handler<handler_type>>(std::move(handler), job->option().Executor);
        const auto result = std::make_shared<std::pair<std::error_code, Conn>>();
        result->first = job->begin();
        if (result->first) return std::move(*pending).complete(false, result->first, Conn());
        asio::co_spawn(strand, tls_dialer::run(job, strand, result),
                       asio::bind_cancellation_slot(slot, [pending, result](std::exception_ptr failure) {
                         if (failure) {
                           if (!result->first) result->first = asio::error::operation_aborted;
                           result->second.Abort();
                           result->second = {};
                         }
                         std::move(*pending).complete(false, result->first, std::move(result->second));
                       }));
      },
      token, std::move(dial));
}

inline asio::awaitable<Conn> await_dial_tls(std::shared_ptr<tls_dialer> dial, OnError on_error) {
  std::error_code error;
  if (!dial->option().Executor) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    dial->set_executor(executor);
  }
  auto dialing = async_dial_tls(dial, asio::redirect_error(asio::use_awaitable, error));
  Conn conn = co_await std::move(dialing);
  on_error.Report(error, [&] { return dial->describe("AsyncNewConnTLS"); });
  co_return conn;
}

}  // namespace gtcp::detail

#endif
