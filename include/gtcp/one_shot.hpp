// SPDX-License-Identifier: MIT
#ifndef GTCP_ONE_SHOT_HPP
#define GTCP_ONE_SHOT_HPP

// One-shot functions: connect to an address, send, receive a reply if one is wanted, close. For a program that talks to
// an address more than once a Conn is faster.
//
// Each comes as SendPkg(address, data, option), which throws std::system_error, with a std::error_code& at the end,
// which it fills instead, and as AsyncSendPkg, which ends with nothing for an awaitable that throws, with a
// std::error_code& for one that does not, or with any completion token.
//
// Errors of all of them: those of NewConn, of Conn's operation of the same name, and Errc::InvalidOption and
// Errc::DataTooLong before anything is connected. what() names the function, and quotes what is wrong.
// They are done when the system has all of the data (SendMode::Direct) and the reply is there. Closing goes on in the
// background: what was sent arrives at a peer that reads within the linger time of 5 s, also when the process ends
// meanwhile.
// A timeout covers all of it, connecting too; zero or less is one try. Without one connecting has DefaultConnTimeout,
// and the rest none.
// Thread safety: they may be called from any thread. The blocking ones are Errc::WouldDeadlock on an io thread.
// Cancellation: as for Conn's operations: a package of which a byte is out goes out whole.
//
// Differs from the Go package: there a timeout is for sending only, of SendRecv* for receiving only.

#include <gtcp/detail/one_shot_call.hpp>
#include <gtcp/error.hpp>
#include <gtcp/payload.hpp>
#include <gtcp/pkg_option.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

// ---- Bytes

/// Sends bytes to an address.
///
/// Source: GoFrame: gtcp.Send.
inline void Send(std::string_view address, Payload data, Retry retry = {}, OnError on_error = {}) {
  detail::run_one_shot(detail::one_shot_call::bytes("Send", address, retry), data, on_error);
}
inline void Send(std::string_view address, Payload data, std::error_code& ec) { Send(address, data, {}, ec); }

/// Does what Send does, within `timeout`, connecting included.
///
/// Source: GoFrame: gtcp.SendWithTimeout.
inline void SendWithTimeout(std::string_view address, Payload data, std::chrono::nanoseconds timeout, Retry retry = {},
                            OnError on_error = {}) {
  detail::run_one_shot(detail::one_shot_call::bytes("SendWithTimeout", address, retry).within(timeout), data, on_error);
}
inline void SendWithTimeout(std::string_view address, Payload data, std::chrono::nanoseconds timeout,
                            std::error_code& ec) {
  SendWithTimeout(address, data, timeout, {}, ec);
}

/// Sends bytes to an address and returns what comes back; `length` is Conn::Recv's.
///
/// Source: GoFrame: gtcp.SendRecv.
inline std::string SendRecv(std::string_view address, Payload data, int length, Retry retry = {},
                            OnError on_error = {}) {
  return detail::run_one_shot(detail::one_shot_call::bytes("SendRecv", address, retry).receiving(length), data,
                              on_error);
}
inline std::string SendRecv(std::string_view address, Payload data, int length, std::error_code& ec) {
  return SendRecv(address, data, length, {}, ec);
}

/// Does what SendRecv does, within `timeout`, connecting included.
///
/// Source: GoFrame: gtcp.SendRecvWithTimeout.
inline std::string SendRecvWithTimeout(std::string_view address, Payload data, int length,
                                       std::chrono::nanoseconds timeout, Retry retry = {}, OnError on_error = {}) {
  return detail::run_one_shot(
      detail::one_shot_call::bytes("SendRecvWithTimeout", address, retry).receiving(length).within(timeout), data,
      on_error);
}
inline std::string SendRecvWithTimeout(std::string_view address, Payload data, int length,
                                       std::chrono::nanoseconds timeout, std::error_code& ec) {
  return SendRecvWithTimeout(address, data, length, timeout, {}, ec);
}

// ---- Packages

/// Sends one package to an address.
///
/// Example:
///     gtcp::SendPkg("127.0.0.1:8999", "hello", {.HeaderSize = 4});
/// Source: GoFrame: gtcp.SendPkg.
inline void SendPkg(std::string_view address, Payload data, PkgOption option = {}, OnError on_error = {}) {
  detail::run_one_shot(detail::one_shot_call::package("SendPkg", address, option, data.Size()), data, on_error);
}
inline void SendPkg(std::string_view address, Payload data, std::error_code& ec) { SendPkg(address, data, {}, ec); }

/// Does what SendPkg does, within `timeout`, connecting included.
///
/// Source: GoFrame: gtcp.SendPkgWithTimeout.
inline void SendPkgWithTimeout(std::string_view address, Payload data, std::chrono::nanoseconds timeout,
                               PkgOption option = {}, OnError on_error = {}) {
  detail::run_one_shot(
      detail::one_shot_call::package("SendPkgWithTimeout", address, option, data.Size()).within(timeout), data,
      on_error);
}
inline void SendPkgWithTimeout(std::string_view address, Payload data, std::chrono::nanoseconds timeout,
                               std::error_code& ec) {
  SendPkgWithTimeout(address, data, timeout, {}, ec);
}

/// Sends one package to an address and returns the package that comes back.
///
/// Example:
///     const std::string reply = gtcp::SendRecvPkg("127.0.0.1:8999", "hello");
/// Source: GoFrame: gtcp.SendRecvPkg.
inline std::string SendRecvPkg(std::string_view address, Payload data, PkgOption option = {}, OnError on_error = {}) {
  return detail::run_one_shot(
      detail::one_shot_call::package("SendRecvPkg", address, option, data.Size()).receiving_pkg(), data, on_error);
}
inline std::string SendRecvPkg(std::string_view address, Payload data, std::error_code& ec) {
  return SendRecvPkg(address, data, {}, ec);
}

/// Does what SendRecvPkg does, within `timeout`, connecting included.
///
/// Source: GoFrame: gtcp.SendRecvPkgWithTimeout.
inline std::string SendRecvPkgWithTimeout(std::string_view address, Payload data, std::chrono::nanoseconds timeout,
                                          PkgOption option = {}, OnError on_error = {}) {
  return detail::run_one_shot(detail::one_shot_call::package("SendRecvPkgWithTimeout", address, option, data.Size())
                                  .receiving_pkg()
                                  .within(timeout),
                              data, on_error);
}
inline std::string SendRecvPkgWithTimeout(std::string_view address, Payload data, std::chrono::nanoseconds timeout,
                                          std::error_code& ec) {
  return SendRecvPkgWithTimeout(address, data, timeout, {}, ec);
}

// ---- The asynchronous twins
//
// Completion: void(std::error_code), or void(std::error_code, std::string) with what came back. The handler is not
// called from within these functions. Awaited ones go on on the coroutine's executor, others on Runtime::Default().
// Cancellation: total. Lifetimes: the address is copied; a temporary std::string moves into the operation, a
// temporary std::vector is copied into it; all else is borrowed until completion.

/// Does what Send does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSend(std::string_view address, AsyncPayload data, Retry retry, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_sent>(detail::one_shot_call::bytes("AsyncSend", address, retry),
                                                       std::move(data), std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSend(std::string_view address, AsyncPayload data, Ending&&... ending) {
  return AsyncSend(address, std::move(data), Retry{}, std::forward<Ending>(ending)...);
}

/// Does what SendWithTimeout does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSendWithTimeout(std::string_view address, AsyncPayload data, std::chrono::nanoseconds timeout,
                                        Retry retry, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_sent>(
      detail::one_shot_call::bytes("AsyncSendWithTimeout", address, retry).within(timeout), std::move(data),
      std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSendWithTimeout(std::string_view address, AsyncPayload data, std::chrono::nanoseconds timeout,
                                        Ending&&... ending) {
  return AsyncSendWithTimeout(address, std::move(data), timeout, Retry{}, std::forward<Ending>(ending)...);
}

/// Does what SendRecv does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecv(std::string_view address, AsyncPayload data, int length, Retry retry,
                                 Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_replied>(
      detail::one_shot_call::bytes("AsyncSendRecv", address, retry).receiving(length), std::move(data),
      std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecv(std::string_view address, AsyncPayload data, int length, Ending&&... ending) {
  return AsyncSendRecv(address, std::move(data), length, Retry{}, std::forward<Ending>(ending)...);
}

/// Does what SendRecvWithTimeout does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecvWithTimeout(std::string_view address, AsyncPayload data, int length,
                                            std::chrono::nanoseconds timeout, Retry retry, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_replied>(
      detail::one_shot_call::bytes("AsyncSendRecvWithTimeout", address, retry).receiving(length).within(timeout),
      std::move(data), std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecvWithTimeout(std::string_view address, AsyncPayload data, int length,
                                            std::chrono::nanoseconds timeout, Ending&&... ending) {
  return AsyncSendRecvWithTimeout(address, std::move(data), length, timeout, Retry{}, std::forward<Ending>(ending)...);
}

/// Does what SendPkg does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSendPkg(std::string_view address, AsyncPayload data, PkgOption option, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_sent>(
      detail::one_shot_call::package("AsyncSendPkg", address, option, data.Size()), std::move(data),
      std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSendPkg(std::string_view address, AsyncPayload data, Ending&&... ending) {
  return AsyncSendPkg(address, std::move(data), PkgOption{}, std::forward<Ending>(ending)...);
}

/// Does what SendPkgWithTimeout does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSendPkgWithTimeout(std::string_view address, AsyncPayload data,
                                           std::chrono::nanoseconds timeout, PkgOption option, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_sent>(
      detail::one_shot_call::package("AsyncSendPkgWithTimeout", address, option, data.Size()).within(timeout),
      std::move(data), std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_sent, Ending...>
[[nodiscard]] auto AsyncSendPkgWithTimeout(std::string_view address, AsyncPayload data,
                                           std::chrono::nanoseconds timeout, Ending&&... ending) {
  return AsyncSendPkgWithTimeout(address, std::move(data), timeout, PkgOption{}, std::forward<Ending>(ending)...);
}

/// Does what SendRecvPkg does, asynchronously.
///
/// Example:
///     const std::string reply = co_await gtcp::AsyncSendRecvPkg("127.0.0.1:8999", "hello");
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecvPkg(std::string_view address, AsyncPayload data, PkgOption option, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_replied>(
      detail::one_shot_call::package("AsyncSendRecvPkg", address, option, data.Size()).receiving_pkg(), std::move(data),
      std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecvPkg(std::string_view address, AsyncPayload data, Ending&&... ending) {
  return AsyncSendRecvPkg(address, std::move(data), PkgOption{}, std::forward<Ending>(ending)...);
}

/// Does what SendRecvPkgWithTimeout does, asynchronously.
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecvPkgWithTimeout(std::string_view address, AsyncPayload data,
                                               std::chrono::nanoseconds timeout, PkgOption option, Ending&&... ending) {
  return detail::async_one_shot<detail::one_shot_replied>(
      detail::one_shot_call::package("AsyncSendRecvPkgWithTimeout", address, option, data.Size())
          .receiving_pkg()
          .within(timeout),
      std::move(data), std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<detail::one_shot_replied, Ending...>
[[nodiscard]] auto AsyncSendRecvPkgWithTimeout(std::string_view address, AsyncPayload data,
                                               std::chrono::nanoseconds timeout, Ending&&... ending) {
  return AsyncSendRecvPkgWithTimeout(address, std::move(data), timeout, PkgOption{}, std::forward<Ending>(ending)...);
}

}  // namespace gtcp

#endif
