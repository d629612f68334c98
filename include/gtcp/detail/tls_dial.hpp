// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_DIAL_HPP
#define GTCP_DETAIL_TLS_DIAL_HPP

// Connecting with TLS: a connection as without, then the handshake as its first receive.

#include <gtcp/detail/connector.hpp>
#include <gtcp/detail/operation.hpp>
#include <gtcp/detail/pool_dial.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/tls_config.hpp>
#include <gtcp/detail/tls_transport.hpp>
#include <gtcp/tls_option.hpp>

#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

class tls_connector final : public connector {
 public:
  tls_connector(std::string address, tls_context context, std::chrono::nanoseconds timeout, const TLSOption& tls,
                const ConnOption& option)
      : connector(std::move(address), timeout, option), context_(std::move(context)), tls_(tls) {}

  std::error_code begin() override {
    std::error_code error = connector::begin();
    if (!error) error = check(tls_, why_);
    if (error || context_ != nullptr) return error;
    context_ = make_tls_context();
    context_->set_default_verify_paths(error);
    return error;
  }

  std::error_code run(const std::stop_token& stop, Conn& conn) override {
    std::error_code error = connector::run(stop, conn);
    if (error) return error;
    {
      const std::stop_callback on_stop(stop, [&conn] { conn.Abort(); });
      std::string nothing;
      error = conn_access::state(conn)->receive(recv_goal::handshake(), limit(), nothing);
    }
    if (error == Errc::Closed && stop.stop_requested()) error = asio::error::operation_aborted;
    return end(error, conn);
  }

  asio::awaitable<std::error_code> run(asio::any_io_executor strand, Conn& conn) override {
    auto connecting = connector::run(strand, conn);
    std::error_code error = co_await std::move(connecting);
    if (error) co_return error;
    // The caller has the connection, so it ends when this coroutine is cancelled or thrown away.
    auto waiting = async_receive(prepared{"handshake", conn_access::state(conn)}, recv_goal::handshake(), limit(),
                                 asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(waiting);
    co_return end(error, conn);
  }

  std::string describe(const char* name) const override {
    if (!why_.empty()) return std::string(name) + ": " + why_;
    return connector::describe(name) + (in_handshake_ ? ": TLS handshake" : "");
  }

 private:
  std::unique_ptr<transport> layer(native_socket descriptor) override {
    in_handshake_ = true;
    return std::make_unique<tls_transport>(descriptor, context_, client_settings(tls_, dial().host()));
  }

  time_limit limit() const {
    const bool unlimited = tls_.HandshakeTimeout.count() == 0;
    return time_limit::at(std::min(deadline(), unlimited ? no_deadline : deadline_after(tls_.HandshakeTimeout)));
  }

  static std::error_code end(std::error_code error, Conn& conn) {
    if (error == Errc::Timeout || error == asio::error::operation_aborted) conn.Abort();
    if (error) conn = {};  // the server still gets the alert that says why
    return error;
  }

  tls_context context_;
  TLSOption tls_;
  std::string why_;
  bool in_handshake_ = false;
};

/// What pooled connections with TLS have in common.
class tls_pool_layer final : public pool_layer {
 public:
  tls_pool_layer(tls_context context, const TLSOption& tls) : context_(std::move(context)), tls_(tls) {}

  /// The context counts by its address, which is no other context's as long as a connection, or this, holds it.
  std::string identity() const override {
    const tls_settings settings = client_settings(tls_, {});
    const auto sized = [](const std::string& text) { return std::to_string(text.size()) + ':' + text; };
    return "TLS " + std::to_string(reinterpret_cast<std::uintptr_t>(context_.get())) +
           (settings.verifies ? " verified " : " ") + sized(tls_.ServerName) + sized(settings.protocols);
  }

  std::shared_ptr<connector> connect(std::string address, std::chrono::nanoseconds timeout,
                                     const ConnOption& option) const override {
    return std::make_shared<tls_connector>(std::move(address), context_, timeout, tls_, option);
  }

 private:
  tls_context context_;
  TLSOption tls_;
};

}  // namespace gtcp::detail

#endif
