// SPDX-License-Identifier: MIT
#ifndef GTCP_BYTE_OPERATIONS_HPP
#define GTCP_BYTE_OPERATIONS_HPP

// The operations of a connection on plain bytes: Send, Recv, RecvLine, RecvTill, SendRecv. Every one comes as
//
//     Recv(..., option)            throws std::system_error
//     Recv(..., option, ec)        fills a std::error_code; Recv(..., ec) with the default option
//     co_await AsyncRecv(...)      the same two, awaited; options and error_code as above
//     AsyncRecv(..., option, token)  any completion token; AsyncRecv(..., token) with the default option
//
// and again with "WithTimeout" at the end of the name, which takes the longest time that all of it may last.

#include <gtcp/detail/operation.hpp>

#include <asio/awaitable.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

/// The operations on bytes of a Conn.
///
/// Errors of all of them: asio::error::not_connected for a default-constructed Conn; Errc::Closed after Close (fatal);
/// Errc::Timeout when the deadline passed; asio::error::operation_aborted when cancelled; Errc::InvalidOption;
/// Errc::WouldDeadlock for a blocking one that would have to wait on an io thread of gtcp; the system's (fatal).
/// Thread safety: all of them may be called at once, from any thread, also on the same Conn.
/// Cancellation: a receive that is cancelled or times out loses nothing: what came stays for the next one. A send is
/// withdrawn whole while no byte of it is out; after that it goes out whole and is done.
/// A timeout of zero or less is one try.
class ByteOperations {
 public:
  using Timeout = std::chrono::nanoseconds;

  // ---- Send

  /// Sends bytes as they are, without a length in front. Done when they are with the system or in the outbox; with
  /// SendMode::Direct when they are with the system. Waits while the outbox is full. 16 KiB or more are not
  /// copied to the outbox: their sender waits until the system has them.
  ///
  /// Errors: Errc::QueueFull where ConnOption::WhenFull says not to wait; asio::error::shut_down after CloseWrite.
  /// Source: GoFrame: Conn.Send.
  void Send(Payload data, gtcp::Retry retry = {}, OnError on_error = {}) const {
    detail::send(prepare("Send", retry), {}, data, {}, on_error);
  }
  void Send(Payload data, std::error_code& ec) const { Send(data, {}, ec); }

  /// Does what Send does, within `timeout`.
  ///
  /// Errors: Errc::Timeout when it was withdrawn; with SendMode::Direct Errc::TimeoutPartlySent when its first byte is
  /// out: the rest follows by itself.
  /// Source: GoFrame: Conn.SendWithTimeout.
  /// Differs: in Go a part may have gone out.
  void SendWithTimeout(Payload data, Timeout timeout, gtcp::Retry retry = {}, OnError on_error = {}) const {
    detail::send(prepare("SendWithTimeout", retry), {}, data, within(timeout), on_error);
  }
  void SendWithTimeout(Payload data, Timeout timeout, std::error_code& ec) const {
    SendWithTimeout(data, timeout, {}, ec);
  }

  /// Sends bytes asynchronously. Completion: void(std::error_code). The handler is not called from within this
  /// function.
  ///
  /// Lifetimes: a temporary std::string moves into the operation, a temporary std::vector is copied into it; all else
  /// is borrowed until completion.
  [[nodiscard]] asio::awaitable<void> AsyncSend(AsyncPayload data, gtcp::Retry retry = {},
                                                OnError on_error = {}) const {
    return detail::await_send(prepare("AsyncSend", retry), {}, std::move(data), {}, on_error);
  }
  [[nodiscard]] asio::awaitable<void> AsyncSend(AsyncPayload data, std::error_code& ec) const {
    return AsyncSend(std::move(data), {}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncSend(AsyncPayload data, Token&& token) const {
    return AsyncSend(std::move(data), gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSend(AsyncPayload data, gtcp::Retry retry, Token&& token) const {
    return detail::async_send(prepare("AsyncSend", retry), {}, std::move(data), {}, std::forward<Token>(token));
  }

  /// Does what AsyncSend does, within `timeout`.
  ///
  /// Errors: those of SendWithTimeout.
  [[nodiscard]] asio::awaitable<void> AsyncSendWithTimeout(AsyncPayload data, Timeout timeout, gtcp::Retry retry = {},
                                                           OnError on_error = {}) const {
    return detail::await_send(prepare("AsyncSendWithTimeout", retry), {}, std::move(data), within(timeout), on_error);
  }
  [[nodiscard]] asio::awaitable<void> AsyncSendWithTimeout(AsyncPayload data, Timeout timeout,
                                                           std::error_code& ec) const {
    return AsyncSendWithTimeout(std::move(data), timeout, {}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncSendWithTimeout(AsyncPayload data, Timeout timeout, Token&& token) const {
    return AsyncSendWithTimeout(std::move(data), timeout, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendWithTimeout(AsyncPayload data, Timeout timeout, gtcp::Retry retry, Token&& token) const {
    return detail::async_send(prepare("AsyncSendWithTimeout", retry), {}, std::move(data), within(timeout),
                              std::forward<Token>(token));
  }

  // ---- Recv

  /// Receives bytes. `length` > 0: exactly that many; 0: what is there, waiting for the first byte; negative: all that
  /// comes until nothing more has come for a while (SetBufferWaitRecv), or the stream has ended.
  ///
  /// Errors: asio::error::eof at the end of the stream; bytes of an unfinished receive stay for a later Recv(-1).
  /// Source: GoFrame: Conn.Recv.
  /// Differs: a negative length always waits until it is quiet; in Go a first read of less than 128 bytes ends it.
  std::string Recv(int length, gtcp::Retry retry = {}, OnError on_error = {}) const {
    return receive(prepare("Recv", retry), detail::recv_goal::bytes(length), {}, on_error);
  }
  std::string Recv(int length, std::error_code& ec) const { return Recv(length, {}, ec); }

  /// Does what Recv does, within `timeout`; with a negative length what came until then is the result.
  ///
  /// Errors: those of Recv; Errc::Timeout: what came stays for the next receive.
  /// Source: GoFrame: Conn.RecvWithTimeout.
  std::string RecvWithTimeout(int length, Timeout timeout, gtcp::Retry retry = {}, OnError on_error = {}) const {
    return receive(prepare("RecvWithTimeout", retry), detail::recv_goal::bytes(length), within(timeout), on_error);
  }
  std::string RecvWithTimeout(int length, Timeout timeout, std::error_code& ec) const {
    return RecvWithTimeout(length, timeout, {}, ec);
  }

  /// Does what Recv does, asynchronously. Completion: void(std::error_code, std::string). The handler is not called
  /// from within this function.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecv(int length, gtcp::Retry retry = {},
                                                       OnError on_error = {}) const {
    return detail::await_receive(prepare("AsyncRecv", retry), detail::recv_goal::bytes(length), {}, on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecv(int length, std::error_code& ec) const {
    return AsyncRecv(length, gtcp::Retry{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncRecv(int length, Token&& token) const {
    return AsyncRecv(length, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecv(int length, gtcp::Retry retry, Token&& token) const {
    return detail::async_receive(prepare("AsyncRecv", retry), detail::recv_goal::bytes(length), {},
                                 std::forward<Token>(token));
  }

  /// Does what AsyncRecv does, within `timeout`.
  ///
  /// Errors: those of RecvWithTimeout.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvWithTimeout(int length, Timeout timeout, gtcp::Retry retry = {},
                                                                  OnError on_error = {}) const {
    return detail::await_receive(prepare("AsyncRecvWithTimeout", retry), detail::recv_goal::bytes(length),
                                 within(timeout), on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvWithTimeout(int length, Timeout timeout,
                                                                  std::error_code& ec) const {
    return AsyncRecvWithTimeout(length, timeout, gtcp::Retry{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncRecvWithTimeout(int length, Timeout timeout, Token&& token) const {
    return AsyncRecvWithTimeout(length, timeout, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvWithTimeout(int length, Timeout timeout, gtcp::Retry retry, Token&& token) const {
    return detail::async_receive(prepare("AsyncRecvWithTimeout", retry), detail::recv_goal::bytes(length),
                                 within(timeout), std::forward<Token>(token));
  }

  // ---- RecvLine

  /// Receives a line, without the '\n' that ends it.
  ///
  /// Units and limits: at most ConnOption::MaxLineSize bytes with its end; a longer one is Errc::LineTooLong, and its
  /// bytes stay.
  /// Errors: asio::error::eof at the end of the stream; what came of a line stays for a later Recv(-1).
  /// Source: GoFrame: Conn.RecvLine.
  /// Differs: it has a limit.
  std::string RecvLine(gtcp::Retry retry = {}, OnError on_error = {}) const {
    return receive(prepare("RecvLine", retry), till("\n", false), {}, on_error);
  }
  std::string RecvLine(std::error_code& ec) const { return RecvLine(gtcp::Retry{}, ec); }

  /// Does what RecvLine does, within `timeout`.
  ///
  /// Errors: those of RecvLine; Errc::Timeout: what came stays for the next receive.
  std::string RecvLineWithTimeout(Timeout timeout, gtcp::Retry retry = {}, OnError on_error = {}) const {
    return receive(prepare("RecvLineWithTimeout", retry), till("\n", false), within(timeout), on_error);
  }
  std::string RecvLineWithTimeout(Timeout timeout, std::error_code& ec) const {
    return RecvLineWithTimeout(timeout, {}, ec);
  }

  /// Does what RecvLine does, asynchronously. Completion: void(std::error_code, std::string). The handler is not called
  /// from within this function.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvLine(gtcp::Retry retry = {}, OnError on_error = {}) const {
    return detail::await_receive(prepare("AsyncRecvLine", retry), till("\n", false), {}, on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvLine(std::error_code& ec) const {
    return AsyncRecvLine(gtcp::Retry{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncRecvLine(Token&& token) const {
    return AsyncRecvLine(gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvLine(gtcp::Retry retry, Token&& token) const {
    return detail::async_receive(prepare("AsyncRecvLine", retry), till("\n", false), {}, std::forward<Token>(token));
  }

  /// Does what AsyncRecvLine does, within `timeout`.
  ///
  /// Errors: those of RecvLineWithTimeout.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvLineWithTimeout(Timeout timeout, gtcp::Retry retry = {},
                                                                      OnError on_error = {}) const {
    return detail::await_receive(prepare("AsyncRecvLineWithTimeout", retry), till("\n", false), within(timeout),
                                 on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvLineWithTimeout(Timeout timeout, std::error_code& ec) const {
    return AsyncRecvLineWithTimeout(timeout, gtcp::Retry{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncRecvLineWithTimeout(Timeout timeout, Token&& token) const {
    return AsyncRecvLineWithTimeout(timeout, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvLineWithTimeout(Timeout timeout, gtcp::Retry retry, Token&& token) const {
    return detail::async_receive(prepare("AsyncRecvLineWithTimeout", retry), till("\n", false), within(timeout),
                                 std::forward<Token>(token));
  }

  // ---- RecvTill

  /// Receives up to and including the bytes `til`.
  ///
  /// Units and limits: as RecvLine.
  /// Errors: as RecvLine; Errc::InvalidOption for an empty `til`.
  /// Source: GoFrame: Conn.RecvTill.
  /// Differs: the comparison is exact; the Go package ignores the case of all bytes but the last.
  std::string RecvTill(std::string_view til, gtcp::Retry retry = {}, OnError on_error = {}) const {
    return receive(prepare_till("RecvTill", til, retry), till(til, true), {}, on_error);
  }
  std::string RecvTill(std::string_view til, std::error_code& ec) const { return RecvTill(til, {}, ec); }

  /// Does what RecvTill does, within `timeout`.
  ///
  /// Errors: those of RecvTill; Errc::Timeout: what came stays for the next receive.
  std::string RecvTillWithTimeout(std::string_view til, Timeout timeout, gtcp::Retry retry = {},
                                  OnError on_error = {}) const {
    return receive(prepare_till("RecvTillWithTimeout", til, retry), till(til, true), within(timeout), on_error);
  }
  std::string RecvTillWithTimeout(std::string_view til, Timeout timeout, std::error_code& ec) const {
    return RecvTillWithTimeout(til, timeout, {}, ec);
  }

  /// Does what RecvTill does, asynchronously. Completion: void(std::error_code, std::string). The handler is not called
  /// from within this function.
  ///
  /// Lifetimes: `til` is copied.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvTill(std::string_view til, gtcp::Retry retry = {},
                                                           OnError on_error = {}) const {
    return detail::await_receive(prepare_till("AsyncRecvTill", til, retry), till(til, true), {}, on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvTill(std::string_view til, std::error_code& ec) const {
    return AsyncRecvTill(til, gtcp::Retry{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncRecvTill(std::string_view til, Token&& token) const {
    return AsyncRecvTill(til, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvTill(std::string_view til, gtcp::Retry retry, Token&& token) const {
    return detail::async_receive(prepare_till("AsyncRecvTill", til, retry), till(til, true), {},
                                 std::forward<Token>(token));
  }

  /// Does what AsyncRecvTill does, within `timeout`.
  ///
  /// Errors: those of RecvTillWithTimeout.
  /// Lifetimes: as AsyncRecvTill.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvTillWithTimeout(std::string_view til, Timeout timeout,
                                                                      gtcp::Retry retry = {},
                                                                      OnError on_error = {}) const {
    return detail::await_receive(prepare_till("AsyncRecvTillWithTimeout", til, retry), till(til, true), within(timeout),
                                 on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvTillWithTimeout(std::string_view til, Timeout timeout,
                                                                      std::error_code& ec) const {
    return AsyncRecvTillWithTimeout(til, timeout, gtcp::Retry{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncRecvTillWithTimeout(std::string_view til, Timeout timeout, Token&& token) const {
    return AsyncRecvTillWithTimeout(til, timeout, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvTillWithTimeout(std::string_view til, Timeout timeout, gtcp::Retry retry, Token&& token) const {
    return detail::async_receive(prepare_till("AsyncRecvTillWithTimeout", til, retry), till(til, true), within(timeout),
                                 std::forward<Token>(token));
  }

  // ---- SendRecv

  /// Sends bytes, then receives as Recv does. Two threads that do it at once on one Conn may get each other's replies.
  ///
  /// Errors: those of Send and Recv.
  /// Source: GoFrame: Conn.SendRecv.
  std::string SendRecv(Payload data, int length, gtcp::Retry retry = {}, OnError on_error = {}) const {
    return send_receive(prepare("SendRecv", retry), {}, data, detail::recv_goal::bytes(length), {}, on_error);
  }
  std::string SendRecv(Payload data, int length, std::error_code& ec) const { return SendRecv(data, length, {}, ec); }

  /// Does what SendRecv does, within `timeout`, which covers both halves.
  ///
  /// Errors: those of SendWithTimeout and RecvWithTimeout.
  /// Source: GoFrame: Conn.SendRecvWithTimeout.
  /// Differs: there the timeout is for the receive only.
  std::string SendRecvWithTimeout(Payload data, int length, Timeout timeout, gtcp::Retry retry = {},
                                  OnError on_error = {}) const {
    return send_receive(prepare("SendRecvWithTimeout", retry), {}, data, detail::recv_goal::bytes(length),
                        within(timeout), on_error);
  }
  std::string SendRecvWithTimeout(Payload data, int length, Timeout timeout, std::error_code& ec) const {
    return SendRecvWithTimeout(data, length, timeout, {}, ec);
  }

  /// Does what SendRecv does, asynchronously. Completion: void(std::error_code, std::string). The handler is not called
  /// from within this function.
  ///
  /// Lifetimes: as AsyncSend.
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecv(AsyncPayload data, int length, gtcp::Retry retry = {},
                                                           OnError on_error = {}) const {
    return detail::await_send_receive(prepare("AsyncSendRecv", retry), {}, std::move(data),
                                      detail::recv_goal::bytes(length), {}, on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecv(AsyncPayload data, int length, std::error_code& ec) const {
    return AsyncSendRecv(std::move(data), length, {}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncSendRecv(AsyncPayload data, int length, Token&& token) const {
    return AsyncSendRecv(std::move(data), length, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendRecv(AsyncPayload data, int length, gtcp::Retry retry, Token&& token) const {
    return detail::async_send_receive(prepare("AsyncSendRecv", retry), {}, std::move(data),
                                      detail::recv_goal::bytes(length), {}, std::forward<Token>(token));
  }

  /// Does what AsyncSendRecv does, within `timeout`, which covers both halves.
  ///
  /// Errors: those of SendRecvWithTimeout.
  /// Lifetimes: as AsyncSend.
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecvWithTimeout(AsyncPayload data, int length, Timeout timeout,
                                                                      gtcp::Retry retry = {},
                                                                      OnError on_error = {}) const {
    return detail::await_send_receive(prepare("AsyncSendRecvWithTimeout", retry), {}, std::move(data),
                                      detail::recv_goal::bytes(length), within(timeout), on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecvWithTimeout(AsyncPayload data, int length, Timeout timeout,
                                                                      std::error_code& ec) const {
    return AsyncSendRecvWithTimeout(std::move(data), length, timeout, {}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncSendRecvWithTimeout(AsyncPayload data, int length, Timeout timeout, Token&& token) const {
    return AsyncSendRecvWithTimeout(std::move(data), length, timeout, gtcp::Retry{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendRecvWithTimeout(AsyncPayload data, int length, Timeout timeout, gtcp::Retry retry,
                                Token&& token) const {
    return detail::async_send_receive(prepare("AsyncSendRecvWithTimeout", retry), {}, std::move(data),
                                      detail::recv_goal::bytes(length), within(timeout), std::forward<Token>(token));
  }

 protected:
  ByteOperations() = default;
  explicit ByteOperations(detail::conn_handle handle) : handle_(std::move(handle)) {}
  ~ByteOperations() = default;
  ByteOperations(const ByteOperations&) = default;
  ByteOperations(ByteOperations&&) = default;
  ByteOperations& operator=(const ByteOperations&) = default;
  ByteOperations& operator=(ByteOperations&&) = default;

  static detail::time_limit within(Timeout timeout) { return detail::time_limit::within(timeout); }

  static std::string receive(const detail::prepared& op, detail::recv_goal goal, const detail::time_limit& limit,
                             const OnError& on_error);

  static std::string send_receive(const detail::prepared& op, const detail::pkg_header& header, Payload data,
                                  detail::recv_goal goal, const detail::time_limit& limit, const OnError& on_error);

  detail::conn_handle handle_;

 private:
  detail::prepared prepare(const char* name, const gtcp::Retry& retry) const;

  detail::prepared prepare_till(const char* name, std::string_view til, const gtcp::Retry& retry) const;

  detail::recv_goal till(std::string_view til, bool keep) const;
};

}  // namespace gtcp

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/byte_operations.hpp>
#endif

#endif
