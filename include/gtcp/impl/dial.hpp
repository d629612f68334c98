// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_DIAL_HPP
#define GTCP_IMPL_DIAL_HPP

// How a Conn comes to be on the client's side.

#include <gtcp/detail/platform_socket.hpp>
#include <gtcp/dial.hpp>

#include <asio/awaitable.hpp>

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {
GTCP_DECL Conn NewConn(std::string_view address, std::chrono::nanoseconds timeout, const ConnOption& option,
                       OnError on_error, std::stop_token stop) {
  detail::connector connecting(std::string(address), timeout, option);
  Conn conn;
  std::error_code error = connecting.begin();
  if (!error) error = connecting.run(stop, conn);
  on_error.Report(error, [&] { return connecting.describe("NewConn"); });
  return conn;
}

GTCP_DECL asio::awaitable<Conn> AsyncNewConn(std::string address, std::chrono::nanoseconds timeout,
                                             const ConnOption& option, OnError on_error) {
  return detail::await_connect(std::make_shared<detail::connector>(std::move(address), timeout, option), "AsyncNewConn",
                               on_error);
}

GTCP_DECL Conn NewConnByNetConn(Conn::NativeHandle descriptor, std::string_view received, const ConnOption& option) {
  detail::descriptor_guard guard(descriptor);
  std::string why;
  std::error_code error = detail::check(option, why);
  if (!error) error = detail::check_stream_socket(descriptor);
  if (!error) error = detail::prepare_socket(descriptor);
  if (!error) error = detail::apply(option, descriptor, detail::socket_address::of(descriptor).is_unix());
  if (error) throw std::system_error(error, detail::with_reason("NewConnByNetConn", why));
  auto state = std::make_shared<detail::conn_state>(descriptor, option);
  guard.release();
  state->prime(received);
  return detail::conn_access::make(std::move(state));
}

}  // namespace gtcp

#endif
