// SPDX-License-Identifier: MIT
#ifndef GTCP_DIAL_HPP
#define GTCP_DIAL_HPP

// How a Conn comes to be on the client's side: by connecting to an address, or from a socket that exists already.

#include <gtcp/conn.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/connector.hpp>

#include <asio/awaitable.hpp>
#include <asio/basic_stream_socket.hpp>

#include <chrono>
#include <concepts>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

/// How long NewConn tries unless told otherwise.
inline constexpr std::chrono::seconds DefaultConnTimeout{30};

/// Connects to "host:port", "[::1]:8999", ":8999" (this machine) or "unix:/path". A name is resolved, and every address
/// tried in turn; the timeout is over all of it, zero is no limit.
///
/// Errors: Errc::InvalidAddress and Errc::InvalidOption, whose text quotes what is wrong; Errc::Timeout;
/// asio::error::operation_aborted when `stop` was requested; Errc::WouldDeadlock on an io thread; the last address's.
/// Thread safety: may be called from any thread; `stop` ends it from another one.
/// Source: GoFrame: gtcp.NewConn.
GTCP_DECL Conn NewConn(std::string_view address, std::chrono::nanoseconds timeout = DefaultConnTimeout,
                       const ConnOption& option = {}, OnError on_error = {}, std::stop_token stop = {});
inline Conn NewConn(std::string_view address, const ConnOption& option, OnError on_error = {}) {
  return NewConn(address, DefaultConnTimeout, option, on_error);
}
inline Conn NewConn(std::string_view address, std::error_code& ec) {
  return NewConn(address, DefaultConnTimeout, {}, ec);
}
inline Conn NewConn(std::string_view address, std::chrono::nanoseconds timeout, std::error_code& ec) {
  return NewConn(address, timeout, {}, ec);
}

namespace detail {

template <class T>
concept dial_token = completion_token<T> && !std::convertible_to<T, std::chrono::nanoseconds> &&
                     !std::same_as<std::remove_cvref_t<T>, ConnOption>;

}  // namespace detail

/// Connects asynchronously. Completion: void(std::error_code, Conn). The handler is not called from within this
/// function. An awaited Conn goes on on the coroutine's executor unless the option names one.
///
/// Cancellation: total; no connection is left behind.
[[nodiscard]] GTCP_DECL asio::awaitable<Conn> AsyncNewConn(std::string address, std::chrono::nanoseconds timeout,
                                                           const ConnOption& option, OnError on_error = {});
// No default argument for the option: g++ before 13 destroys temporary aggregates inside of a co_await expression at
// the wrong address. Where you give an option with such a compiler, give it a name first.
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address,
                                                        std::chrono::nanoseconds timeout = DefaultConnTimeout) {
  return AsyncNewConn(std::move(address), timeout, ConnOption());
}
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address, const ConnOption& option,
                                                        OnError on_error = {}) {
  return AsyncNewConn(std::move(address), DefaultConnTimeout, option, on_error);
}
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address, std::error_code& ec) {
  return AsyncNewConn(std::move(address), DefaultConnTimeout, ConnOption(), ec);
}
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address, std::chrono::nanoseconds timeout,
                                                        std::error_code& ec) {
  return AsyncNewConn(std::move(address), timeout, ConnOption(), ec);
}
template <detail::dial_token Token>
auto AsyncNewConn(std::string address, std::chrono::nanoseconds timeout, const ConnOption& option, Token&& token) {
  return detail::async_connect(std::make_shared<detail::connector>(std::move(address), timeout, option),
                               std::forward<Token>(token));
}
template <detail::dial_token Token>
auto AsyncNewConn(std::string address, Token&& token) {
  return AsyncNewConn(std::move(address), DefaultConnTimeout, ConnOption(), std::forward<Token>(token));
}
template <detail::dial_token Token>
auto AsyncNewConn(std::string address, std::chrono::nanoseconds timeout, Token&& token) {
  return AsyncNewConn(std::move(address), timeout, ConnOption(), std::forward<Token>(token));
}

/// Makes a Conn of a connected stream socket's descriptor, which it owns from here on, also when this fails.
/// `received`: bytes that were read from it already; the first receives get them.
///
/// Errors: std::system_error with Errc::InvalidOption, std::errc::wrong_protocol_type for a socket of another kind,
/// asio::error::not_connected for a listener, or the system's. Whether the peer is still there shows at the first use.
/// Source: GoFrame: gtcp.NewConnByNetConn.
GTCP_DECL Conn NewConnByNetConn(Conn::NativeHandle descriptor, std::string_view received = {},
                                const ConnOption& option = {});

/// Makes a Conn of a connected Asio socket, TCP or unix, on which nothing is under way.
template <class Protocol, class Executor>
Conn NewConnByNetConn(asio::basic_stream_socket<Protocol, Executor>&& socket, std::string_view received = {},
                      ConnOption option = {}) {
  if (!option.Executor) option.Executor = socket.get_executor();
  return NewConnByNetConn(socket.release(), received, option);
}

}  // namespace gtcp

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/dial.hpp>
#endif

#endif
