// SPDX-License-Identifier: MIT
#ifndef GTCP_DIAL_HPP
#define GTCP_DIAL_HPP

// How a Conn comes to be on the client's side: by connecting to an address, or from a socket that exists already.

#include <gtcp/conn.hpp>
#include <gtcp/detail/cancel_relay.hpp>
#include <gtcp/detail/dialer.hpp>

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/co_spawn.hpp>
#include <asio/strand.hpp>
#include <asio/this_coro.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

/// How long NewConn tries unless told otherwise.
inline constexpr std::chrono::seconds DefaultConnTimeout{30};

namespace detail {

inline Conn make_conn(native_socket descriptor, const ConnOption& option, std::unique_ptr<transport> layer = nullptr) {
  descriptor_guard guard(descriptor);
  auto state = std::make_shared<conn_state>(descriptor, option, std::move(layer));
  guard.release();
  return conn_access::make(std::move(state));
}

inline asio::awaitable<void> await_dial(std::shared_ptr<dialer> dial, ConnOption option, asio::any_io_executor strand,
                                        std::shared_ptr<std::pair<std::error_code, Conn>> result) {
  co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  native_socket connected = invalid_native_socket;
  auto dialing = dial_async(*dial, strand, connected);
  result->first = co_await std::move(dialing);
  if (!result->first) result->second = make_conn(connected, option);
}

/// The error code of what left a coroutine: it was cancelled between two steps, or there was no memory.
inline std::error_code dial_error(const std::exception_ptr& failure) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    return error.code();
  } catch (...) {
    return std::make_error_code(std::errc::not_enough_memory);
  }
}

/// Dials and completes with void(std::error_code, Conn).
template <class Token>
auto async_dial(std::string address, std::chrono::nanoseconds timeout, const ConnOption& option, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code, Conn)>(
      [](auto handler, std::string text, std::chrono::nanoseconds limit, ConnOption settings) {
        using handler_type = decltype(handler);
        if (!settings.Executor) settings.Executor = Runtime::Default().get_executor();
        const asio::any_io_executor strand = asio::make_strand(inner_executor(settings.Executor));
        const auto relay = cancel_relay::make(asio::get_associated_cancellation_slot(handler), strand);
        auto pending = std::make_shared<pending_handler<handler_type>>(std::move(handler), settings.Executor);
        const auto dial = std::make_shared<dialer>(std::move(text), settings, limit);
        const auto result = std::make_shared<std::pair<std::error_code, Conn>>();
        result->first = dial->begin();
        if (result->first) return std::move(*pending).complete(false, result->first, Conn());
        asio::co_spawn(
            strand, await_dial(dial, settings, strand, result),
            asio::bind_cancellation_slot(relay->slot(), [pending, result, relay](std::exception_ptr failure) {
              if (failure && !result->first) result->first = dial_error(failure);
              std::move(*pending).complete(false, result->first, std::move(result->second));
            }));
      },
      token, std::move(address), timeout, option);
}

inline asio::awaitable<Conn> await_new_conn(std::string address, std::chrono::nanoseconds timeout, ConnOption option,
                                            OnError on_error) {
  std::error_code error;
  if (!option.Executor) option.Executor = co_await asio::this_coro::executor;
  auto dialing = async_dial(address, timeout, option, asio::redirect_error(asio::use_awaitable, error));
  Conn conn = co_await std::move(dialing);
  on_error.Report(error, [&] {
    dialer described(address, option, timeout);
    static_cast<void>(described.begin());
    return described.describe("AsyncNewConn");
  });
  co_return conn;
}

}  // namespace detail

/// Connects to "host:port", "[::1]:8999", ":8999" (this machine) or "unix:/path". A name is resolved, and every address
/// tried in turn; the timeout is over all of it, zero is no limit.
///
/// Errors: Errc::InvalidAddress and Errc::InvalidOption, whose text quotes what is wrong; Errc::Timeout;
/// asio::error::operation_aborted when `stop` was requested; Errc::WouldDeadlock on an io thread; the last address's.
/// Thread safety: may be called from any thread; `stop` ends it from another one.
/// Source: GoFrame: gtcp.NewConn.
inline Conn NewConn(std::string_view address, std::chrono::nanoseconds timeout = DefaultConnTimeout,
                    const ConnOption& option = {}, OnError on_error = {}, std::stop_token stop = {}) {
  detail::dialer dial(std::string(address), option, timeout);
  detail::native_socket descriptor = detail::invalid_native_socket;
  std::error_code error = dial.begin();
  if (!error) error = detail::dial_blocking(dial, stop, descriptor);
  on_error.Report(error, [&] { return dial.describe("NewConn"); });
  return error ? Conn() : detail::make_conn(descriptor, option);
}
inline Conn NewConn(std::string_view address, const ConnOption& option, OnError on_error = {}) {
  return NewConn(address, DefaultConnTimeout, option, on_error);
}
inline Conn NewConn(std::string_view address, std::error_code& ec) {
  return NewConn(address, DefaultConnTimeout, {}, ec);
}
inline Conn NewConn(std::string_view address, std::chrono::nanoseconds timeout, std::error_code& ec) {
  return NewConn(address, timeout, {}, ec);
}

/// Connects asynchronously. Completion: void(std::error_code, Conn). The handler is not called from within this
/// function. An awaited Conn goes on on the coroutine's executor unless the option names one.
///
/// Cancellation: total; no connection is left behind.
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address, std::chrono::nanoseconds timeout,
                                                        ConnOption option, OnError on_error = {}) {
  return detail::await_new_conn(std::move(address), timeout, std::move(option), on_error);
}
// No default argument for the option: before version 13 g++ copies a ConnOption that is made by braces inside of a
// co_await expression byte by byte. Where you give one with such a compiler, give it a name first.
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address,
                                                        std::chrono::nanoseconds timeout = DefaultConnTimeout) {
  return AsyncNewConn(std::move(address), timeout, ConnOption());
}
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConn(std::string address, std::error_code& ec) {
  return AsyncNewConn(std::move(address), DefaultConnTimeout, ConnOption(), ec);
}
template <detail::completion_token Token>
  requires(!std::convertible_to<Token, std::chrono::nanoseconds> &&
           !std::same_as<std::remove_cvref_t<Token>, ConnOption>)
auto AsyncNewConn(std::string address, Token&& token) {
  return detail::async_dial(std::move(address), DefaultConnTimeout, ConnOption(), std::forward<Token>(token));
}
template <detail::completion_token Token>
  requires(!std::same_as<std::remove_cvref_t<Token>, ConnOption>)
auto AsyncNewConn(std::string address, std::chrono::nanoseconds timeout, Token&& token) {
  return detail::async_dial(std::move(address), timeout, ConnOption(), std::forward<Token>(token));
}
template <detail::completion_token Token>
auto AsyncNewConn(std::string address, std::chrono::nanoseconds timeout, const ConnOption& option, Token&& token) {
  return detail::async_dial(std::move(address), timeout, option, std::forward<Token>(token));
}

/// Makes a Conn of a connected stream socket's descriptor, which it owns from here on, also when this fails.
/// `received`: bytes that were read from it already; the first receives get them.
///
/// Errors: std::system_error with Errc::InvalidOption, or the system's.
/// Source: GoFrame: gtcp.NewConnByNetConn.
inline Conn NewConnByNetConn(Conn::NativeHandle descriptor, std::string_view received = {},
                             const ConnOption& option = {}) {
  detail::descriptor_guard guard(descriptor);
  std::string why;
  std::error_code error = detail::check(option, why);
  if (!error) error = detail::prepare_socket(descriptor);
  if (!error) error = detail::apply(option, descriptor, detail::is_unix_socket(descriptor));
  if (error) throw std::system_error(error, "NewConnByNetConn: " + why);
  auto state = std::make_shared<detail::conn_state>(descriptor, option);
  guard.release();
  state->prime(received);
  return detail::conn_access::make(std::move(state));
}

/// Makes a Conn of a connected Asio socket, TCP or unix, on which nothing is under way.
template <class Protocol, class Executor>
Conn NewConnByNetConn(asio::basic_stream_socket<Protocol, Executor>&& socket, std::string_view received = {},
                      ConnOption option = {}) {
  if (!option.Executor) option.Executor = socket.get_executor();
  return NewConnByNetConn(socket.release(), received, option);
}

}  // namespace gtcp

#endif
