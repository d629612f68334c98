// SPDX-License-Identifier: MIT
#ifndef GTCP_POOL_CONN_HPP
#define GTCP_POOL_CONN_HPP

// Connections that are used again: NewPoolConn takes one that is idle or opens another one, Close gives it back.

#include <gtcp/conn.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/pool_dial.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/pool_option.hpp>

#include <asio/awaitable.hpp>

#include <chrono>
#include <concepts>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

/// A Conn that was taken out of a pool and goes back there: by Close, or when the last handle is dropped.
///
/// It is a Conn in all else, and can be used, copied and passed on wherever a Conn can; Close does the same on such a
/// copy. After Close it is closed for all its handles, as every Conn: whoever gets the connection next has a Conn of
/// their own, with settings, deadlines, user data and timers as new.
///
/// A connection goes back only if it is as new. It is closed for good when
///  - it has failed, or its sending was ended (CloseWrite), or the peer has ended it;
///  - something was received that nobody took, or a part of a package;
///  - a reply may still come: fewer receives than packages sent (or, for plain bytes, none after the last Send), see
///    PoolOption::ReuseUnanswered; so a request that timed out costs the connection;
///  - something waits to be sent, or an operation waits on it;
///  - its socket's options were changed, or GetNativeHandle was called;
///  - Abort, CloseAndWait or AsyncClose ended it.
/// Before it is lent again it is looked at without waiting: one that has ended meanwhile, or on which something came,
/// is closed. One can still die unnoticed between that look and its use. If then the first thing that is done with it
/// is a send (not TrySendPkg, nor under a Cork), and that fails before a byte has gone out, it is done again on a fresh
/// connection, once, in the time that the send has left, at most that of NewPoolConn; the old one is closed. Nothing
/// else is ever done twice.
///
/// Source: GoFrame: gtcp.PoolConn.
/// Differs: in Go an unread reply, or the rest of one, is there for the next one who gets the connection; a send may be
/// repeated after bytes of it went out; the replaced connection stays open; and there is no limit of their number.
class PoolConn : public Conn {
 public:
  /// Not connected.
  PoolConn() = default;

 private:
  friend struct detail::pool_conn_access;

  explicit PoolConn(Conn lent) : Conn(std::move(lent)) {}
};

/// Takes an idle connection to the address, or opens another one. Addresses are those of NewConn, and their texts are
/// compared as they are.
///
/// Units and limits: `timeout` is for all of it, waiting for one that comes back (PoolOption::MaxConns) and connecting;
/// zero is no limit.
/// Errors: those of NewConn; Errc::Timeout also when none came back in time; asio::error::operation_aborted when `stop`
/// was requested; Errc::WouldDeadlock on an io thread.
/// Thread safety: may be called from any thread. Connections are not shared with a child process after fork.
/// Source: GoFrame: gtcp.NewPoolConn.
GTCP_DECL PoolConn NewPoolConn(std::string_view address, std::chrono::nanoseconds timeout = DefaultConnTimeout,
                               const PoolOption& option = {}, OnError on_error = {}, std::stop_token stop = {});
inline PoolConn NewPoolConn(std::string_view address, const PoolOption& option, OnError on_error = {}) {
  return NewPoolConn(address, DefaultConnTimeout, option, on_error);
}
inline PoolConn NewPoolConn(std::string_view address, std::error_code& ec) {
  return NewPoolConn(address, DefaultConnTimeout, PoolOption(), ec);
}
inline PoolConn NewPoolConn(std::string_view address, std::chrono::nanoseconds timeout, std::error_code& ec) {
  return NewPoolConn(address, timeout, PoolOption(), ec);
}

namespace detail {

template <class T>
concept pool_token = completion_token<T> && !std::convertible_to<T, std::chrono::nanoseconds> &&
                     !std::same_as<std::remove_cvref_t<T>, PoolOption>;

}  // namespace detail

/// Does what NewPoolConn does, asynchronously. Completion: void(std::error_code, PoolConn). The handler is not called
/// from within this function. An awaited connection goes on on the coroutine's executor unless the option names one.
///
/// Cancellation: total; no connection is left behind.
[[nodiscard]] GTCP_DECL asio::awaitable<PoolConn> AsyncNewPoolConn(std::string address,
                                                                   std::chrono::nanoseconds timeout,
                                                                   const PoolOption& option, OnError on_error = {});
[[nodiscard]] inline asio::awaitable<PoolConn> AsyncNewPoolConn(std::string address,
                                                                std::chrono::nanoseconds timeout = DefaultConnTimeout) {
  // No default argument for the option above, see AsyncNewConn.
  return AsyncNewPoolConn(std::move(address), timeout, PoolOption());
}
[[nodiscard]] inline asio::awaitable<PoolConn> AsyncNewPoolConn(std::string address, const PoolOption& option,
                                                                OnError on_error = {}) {
  return AsyncNewPoolConn(std::move(address), DefaultConnTimeout, option, on_error);
}
[[nodiscard]] inline asio::awaitable<PoolConn> AsyncNewPoolConn(std::string address, std::error_code& ec) {
  return AsyncNewPoolConn(std::move(address), DefaultConnTimeout, PoolOption(), ec);
}
[[nodiscard]] inline asio::awaitable<PoolConn> AsyncNewPoolConn(std::string address, std::chrono::nanoseconds timeout,
                                                                std::error_code& ec) {
  return AsyncNewPoolConn(std::move(address), timeout, PoolOption(), ec);
}
template <detail::pool_token Token>
auto AsyncNewPoolConn(std::string address, std::chrono::nanoseconds timeout, const PoolOption& option, Token&& token) {
  const detail::pool_request request{std::move(address), timeout, option};
  return detail::async_from_pool<PoolConn>(std::make_shared<detail::pool_job>(request), std::forward<Token>(token));
}
template <detail::pool_token Token>
auto AsyncNewPoolConn(std::string address, std::chrono::nanoseconds timeout, Token&& token) {
  return AsyncNewPoolConn(std::move(address), timeout, PoolOption(), std::forward<Token>(token));
}
template <detail::pool_token Token>
auto AsyncNewPoolConn(std::string address, Token&& token) {
  return AsyncNewPoolConn(std::move(address), DefaultConnTimeout, PoolOption(), std::forward<Token>(token));
}

/// Closes all connections that are idle in the pool. Those that are lent go back there as before.
GTCP_DECL void CloseIdlePoolConns() noexcept;

}  // namespace gtcp

template <>
struct std::hash<gtcp::PoolConn> : std::hash<gtcp::Conn> {};

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/pool_conn.hpp>
#endif

#endif
