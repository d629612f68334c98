// SPDX-License-Identifier: MIT
#ifndef GTCP_PKG_OPERATIONS_HPP
#define GTCP_PKG_OPERATIONS_HPP

// The operations of a connection on packages: SendPkg, RecvPkg, SendRecvPkg, each in the forms that byte_operations.hpp
// lists, with a PkgOption where those have a Retry; and TrySendPkg, TryRecvPkg, SendPkgs.

#include <gtcp/byte_operations.hpp>
#include <gtcp/detail/operation.hpp>

#include <asio/awaitable.hpp>

#include <algorithm>
#include <concepts>
#include <ranges>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

/// The operations on packages of a Conn; for the errors of all of them, thread safety and cancellation see
/// ByteOperations.
///
/// An option that is not given is the Conn's (ConnOption::Pkg). Packages never interleave, whoever sends at once.
class PkgOperations : public ByteOperations {
 public:
  // ---- SendPkg

  /// Sends one package: the length, then the payload. Done when it is with the system or in the outbox; with
  /// SendMode::Direct when it is with the system. Waits while the outbox is full. A payload of 16 KiB or more is not
  /// copied to the outbox: its sender waits until the system has it.
  ///
  /// Units and limits: at most PkgOption::MaxDataSize bytes; more is Errc::DataTooLong, and nothing was sent.
  /// Errors: Errc::QueueFull where ConnOption::WhenFull says not to wait; asio::error::shut_down after CloseWrite.
  /// Source: GoFrame: Conn.SendPkg.
  void SendPkg(Payload data, PkgOption option = {}, OnError on_error = {}) const {
    send_pkg("SendPkg", data, option, {}, on_error);
  }
  void SendPkg(Payload data, std::error_code& ec) const { SendPkg(data, {}, ec); }

  /// Does what SendPkg does, within `timeout`.
  ///
  /// Errors: those of SendPkg; Errc::Timeout when it was withdrawn; with SendMode::Direct Errc::TimeoutPartlySent when
  /// its first byte is out: the rest follows by itself.
  /// Source: GoFrame: Conn.SendPkgWithTimeout.
  /// Differs: in Go a part may have gone out.
  void SendPkgWithTimeout(Payload data, Timeout timeout, PkgOption option = {}, OnError on_error = {}) const {
    send_pkg("SendPkgWithTimeout", data, option, within(timeout), on_error);
  }
  void SendPkgWithTimeout(Payload data, Timeout timeout, std::error_code& ec) const {
    SendPkgWithTimeout(data, timeout, {}, ec);
  }

  /// Sends one package if it need not wait. Returns whether it was sent, or accepted, whole.
  ///
  /// Errors: those of SendPkg but Errc::QueueFull and Errc::WouldDeadlock: without room it returns false and changes
  /// nothing, whatever ConnOption::WhenFull says.
  bool TrySendPkg(Payload data, PkgOption option = {}, OnError on_error = {}) const;
  bool TrySendPkg(Payload data, std::error_code& ec) const { return TrySendPkg(data, {}, ec); }

  /// Sends several packages together, so that small ones share a write. `payloads` is a range of what SendPkg takes.
  /// After an error those before the one that failed are sent.
  template <std::ranges::input_range Payloads>
  void SendPkgs(const Payloads& payloads, PkgOption option = {}, OnError on_error = {}) const {
    std::error_code error;
    const bool throws = on_error.Throws();
    const detail::cork_guard together(handle_);
    for (const auto& payload : payloads) {
      SendPkg(payload, option, throws ? OnError() : OnError(error));
      if (error) break;
    }
    if (!throws) on_error.Report(error, [] { return std::string(); });
  }
  template <std::ranges::input_range Payloads>
  void SendPkgs(const Payloads& payloads, std::error_code& ec) const {
    SendPkgs(payloads, {}, ec);
  }

  /// Sends one package asynchronously; sends that wait for room keep their order. Completion: void(std::error_code).
  /// The handler is not called from within this function.
  ///
  /// Lifetimes: a temporary std::string moves into the operation, a temporary std::vector is copied into it; all else
  /// is borrowed until completion.
  [[nodiscard]] asio::awaitable<void> AsyncSendPkg(AsyncPayload data) const {
    return await_send_pkg("AsyncSendPkg", std::move(data), {}, {});
  }
  [[nodiscard]] asio::awaitable<void> AsyncSendPkg(AsyncPayload data, std::error_code& ec) const {
    return await_send_pkg("AsyncSendPkg", std::move(data), {}, ec);
  }
  [[nodiscard]] asio::awaitable<void> AsyncSendPkg(AsyncPayload data, PkgOption option, OnError on_error = {}) const {
    return await_send_pkg("AsyncSendPkg", std::move(data), option, {}, on_error);
  }
  template <detail::completion_token Token>
  auto AsyncSendPkg(AsyncPayload data, Token&& token) const {
    return AsyncSendPkg(std::move(data), PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendPkg(AsyncPayload data, PkgOption option, Token&& token) const {
    return async_send_pkg("AsyncSendPkg", std::move(data), option, {}, std::forward<Token>(token));
  }

  /// Does what AsyncSendPkg does, within `timeout`.
  ///
  /// Errors: those of SendPkgWithTimeout.
  /// Lifetimes: as AsyncSendPkg.
  [[nodiscard]] asio::awaitable<void> AsyncSendPkgWithTimeout(AsyncPayload data, Timeout timeout) const {
    return await_send_pkg("AsyncSendPkgWithTimeout", std::move(data), within(timeout), {});
  }
  [[nodiscard]] asio::awaitable<void> AsyncSendPkgWithTimeout(AsyncPayload data, Timeout timeout,
                                                              std::error_code& ec) const {
    return await_send_pkg("AsyncSendPkgWithTimeout", std::move(data), within(timeout), ec);
  }
  [[nodiscard]] asio::awaitable<void> AsyncSendPkgWithTimeout(AsyncPayload data, Timeout timeout, PkgOption option,
                                                              OnError on_error = {}) const {
    return await_send_pkg("AsyncSendPkgWithTimeout", std::move(data), option, within(timeout), on_error);
  }
  template <detail::completion_token Token>
  auto AsyncSendPkgWithTimeout(AsyncPayload data, Timeout timeout, Token&& token) const {
    return AsyncSendPkgWithTimeout(std::move(data), timeout, PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendPkgWithTimeout(AsyncPayload data, Timeout timeout, PkgOption option, Token&& token) const {
    return async_send_pkg("AsyncSendPkgWithTimeout", std::move(data), option, within(timeout),
                          std::forward<Token>(token));
  }

  // ---- RecvPkg

  /// Receives one whole package and returns its payload; concurrent calls each get a distinct one, first come first
  /// served.
  ///
  /// Errors: asio::error::eof at the end of the stream between packages, Errc::PkgTruncated inside one,
  /// Errc::PkgTooLarge for a length over PkgOption::MaxDataSize (each fatal).
  /// Source: GoFrame: Conn.RecvPkg.
  /// Differs: after a timeout the next call goes on where this one stopped; a half-read package is never lost.
  std::string RecvPkg(PkgOption option = {}, OnError on_error = {}) const {
    return receive("RecvPkg", option, {}, on_error);
  }
  std::string RecvPkg(std::error_code& ec) const { return RecvPkg(PkgOption{}, ec); }

  /// Receives into a string whose memory is used again.
  void RecvPkg(std::string& into, PkgOption option = {}, OnError on_error = {}) const {
    receive_into("RecvPkg", option, {}, into, on_error);
  }
  void RecvPkg(std::string& into, std::error_code& ec) const { RecvPkg(into, PkgOption{}, ec); }

  /// Does what RecvPkg does, within `timeout`.
  ///
  /// Errors: those of RecvPkg; Errc::Timeout: what came of a package stays, and the next receive goes on with it.
  /// Source: GoFrame: Conn.RecvPkgWithTimeout.
  std::string RecvPkgWithTimeout(Timeout timeout, PkgOption option = {}, OnError on_error = {}) const {
    return receive("RecvPkgWithTimeout", option, within(timeout), on_error);
  }
  std::string RecvPkgWithTimeout(Timeout timeout, std::error_code& ec) const {
    return RecvPkgWithTimeout(timeout, PkgOption{}, ec);
  }
  void RecvPkgWithTimeout(std::string& into, Timeout timeout, PkgOption option = {}, OnError on_error = {}) const {
    receive_into("RecvPkgWithTimeout", option, within(timeout), into, on_error);
  }
  void RecvPkgWithTimeout(std::string& into, Timeout timeout, std::error_code& ec) const {
    RecvPkgWithTimeout(into, timeout, PkgOption{}, ec);
  }

  /// Receives one package if it is there whole. Returns whether it was; `into` is as it was if not, and what came of a
  /// package stays.
  ///
  /// Errors: those of RecvPkg; that nothing is there, or that another receive waits for it, is none.
  bool TryRecvPkg(std::string& into, PkgOption option = {}, OnError on_error = {}) const;
  bool TryRecvPkg(std::string& into, std::error_code& ec) const { return TryRecvPkg(into, PkgOption{}, ec); }

  /// Receives one package asynchronously. Completion: void(std::error_code, std::string), or void(std::error_code) when
  /// it goes into the caller's string. The handler is not called from within this function.
  ///
  /// Without a token it is to be awaited, and a package that is buffered already does not go through the scheduler, but
  /// for every 256th.
  /// Lifetimes: `into` must stay until completion.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvPkg() const { return await_receive("AsyncRecvPkg", {}, {}); }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvPkg(std::error_code& ec) const {
    return await_receive("AsyncRecvPkg", {}, ec);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvPkg(PkgOption option, OnError on_error = {}) const {
    return await_receive("AsyncRecvPkg", option, {}, on_error);
  }
  template <detail::completion_token Token>
    requires(!std::same_as<std::remove_cvref_t<Token>, std::string>)
  auto AsyncRecvPkg(Token&& token) const {
    return AsyncRecvPkg(PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkg(PkgOption option, Token&& token) const {
    return async_receive(prepare("AsyncRecvPkg", option), {}, std::forward<Token>(token));
  }
  [[nodiscard]] asio::awaitable<void> AsyncRecvPkg(std::string& into) const {
    return await_receive_into("AsyncRecvPkg", {}, into, {});
  }
  [[nodiscard]] asio::awaitable<void> AsyncRecvPkg(std::string& into, std::error_code& ec) const {
    return await_receive_into("AsyncRecvPkg", {}, into, ec);
  }
  [[nodiscard]] asio::awaitable<void> AsyncRecvPkg(std::string& into, PkgOption option, OnError on_error = {}) const {
    return await_receive_into("AsyncRecvPkg", option, {}, into, on_error);
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkg(std::string& into, Token&& token) const {
    return AsyncRecvPkg(into, PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkg(std::string& into, PkgOption option, Token&& token) const {
    return async_receive_into(prepare("AsyncRecvPkg", option), {}, into, std::forward<Token>(token));
  }

  /// Does what AsyncRecvPkg does, within `timeout`.
  ///
  /// Errors: those of RecvPkgWithTimeout.
  /// Lifetimes: as AsyncRecvPkg.
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvPkgWithTimeout(Timeout timeout) const {
    return await_receive("AsyncRecvPkgWithTimeout", within(timeout), {});
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvPkgWithTimeout(Timeout timeout, std::error_code& ec) const {
    return await_receive("AsyncRecvPkgWithTimeout", within(timeout), ec);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncRecvPkgWithTimeout(Timeout timeout, PkgOption option,
                                                                     OnError on_error = {}) const {
    return await_receive("AsyncRecvPkgWithTimeout", option, within(timeout), on_error);
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkgWithTimeout(Timeout timeout, Token&& token) const {
    return AsyncRecvPkgWithTimeout(timeout, PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkgWithTimeout(Timeout timeout, PkgOption option, Token&& token) const {
    return async_receive(prepare("AsyncRecvPkgWithTimeout", option), within(timeout), std::forward<Token>(token));
  }
  [[nodiscard]] asio::awaitable<void> AsyncRecvPkgWithTimeout(std::string& into, Timeout timeout) const {
    return await_receive_into("AsyncRecvPkgWithTimeout", within(timeout), into, {});
  }
  [[nodiscard]] asio::awaitable<void> AsyncRecvPkgWithTimeout(std::string& into, Timeout timeout,
                                                              std::error_code& ec) const {
    return await_receive_into("AsyncRecvPkgWithTimeout", within(timeout), into, ec);
  }
  [[nodiscard]] asio::awaitable<void> AsyncRecvPkgWithTimeout(std::string& into, Timeout timeout, PkgOption option,
                                                              OnError on_error = {}) const {
    return await_receive_into("AsyncRecvPkgWithTimeout", option, within(timeout), into, on_error);
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkgWithTimeout(std::string& into, Timeout timeout, Token&& token) const {
    return AsyncRecvPkgWithTimeout(into, timeout, PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncRecvPkgWithTimeout(std::string& into, Timeout timeout, PkgOption option, Token&& token) const {
    return async_receive_into(prepare("AsyncRecvPkgWithTimeout", option), within(timeout), into,
                              std::forward<Token>(token));
  }

  // ---- SendRecvPkg

  /// Sends a package, then receives one. Two threads that do it at once on one Conn may get each other's replies: the
  /// reply is the next package that comes, whoever it answers.
  ///
  /// Errors: those of SendPkg and RecvPkg.
  /// Source: GoFrame: Conn.SendRecvPkg.
  std::string SendRecvPkg(Payload data, PkgOption option = {}, OnError on_error = {}) const {
    return send_receive_pkg("SendRecvPkg", data, option, {}, on_error);
  }
  std::string SendRecvPkg(Payload data, std::error_code& ec) const { return SendRecvPkg(data, {}, ec); }

  /// Does what SendRecvPkg does, within `timeout`, which covers both halves.
  ///
  /// Errors: those of SendPkgWithTimeout and RecvPkgWithTimeout.
  /// Source: GoFrame: Conn.SendRecvPkgWithTimeout.
  /// Differs: there the timeout is for the receive only.
  std::string SendRecvPkgWithTimeout(Payload data, Timeout timeout, PkgOption option = {},
                                     OnError on_error = {}) const {
    return send_receive_pkg("SendRecvPkgWithTimeout", data, option, within(timeout), on_error);
  }
  std::string SendRecvPkgWithTimeout(Payload data, Timeout timeout, std::error_code& ec) const {
    return SendRecvPkgWithTimeout(data, timeout, {}, ec);
  }

  /// Does what SendRecvPkg does, asynchronously. Completion: void(std::error_code, std::string). The handler is not
  /// called from within this function.
  ///
  /// Lifetimes: as AsyncSendPkg.
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecvPkg(AsyncPayload data, PkgOption option = {},
                                                              OnError on_error = {}) const {
    return await_send_receive_pkg("AsyncSendRecvPkg", std::move(data), option, {}, on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecvPkg(AsyncPayload data, std::error_code& ec) const {
    return AsyncSendRecvPkg(std::move(data), PkgOption{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncSendRecvPkg(AsyncPayload data, Token&& token) const {
    return AsyncSendRecvPkg(std::move(data), PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendRecvPkg(AsyncPayload data, PkgOption option, Token&& token) const {
    return async_send_receive_pkg("AsyncSendRecvPkg", std::move(data), option, {}, std::forward<Token>(token));
  }

  /// Does what AsyncSendRecvPkg does, within `timeout`, which covers both halves.
  ///
  /// Errors: those of SendRecvPkgWithTimeout.
  /// Lifetimes: as AsyncSendPkg.
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecvPkgWithTimeout(AsyncPayload data, Timeout timeout,
                                                                         PkgOption option = {},
                                                                         OnError on_error = {}) const {
    return await_send_receive_pkg("AsyncSendRecvPkgWithTimeout", std::move(data), option, within(timeout), on_error);
  }
  [[nodiscard]] asio::awaitable<std::string> AsyncSendRecvPkgWithTimeout(AsyncPayload data, Timeout timeout,
                                                                         std::error_code& ec) const {
    return AsyncSendRecvPkgWithTimeout(std::move(data), timeout, PkgOption{}, ec);
  }
  template <detail::completion_token Token>
  auto AsyncSendRecvPkgWithTimeout(AsyncPayload data, Timeout timeout, Token&& token) const {
    return AsyncSendRecvPkgWithTimeout(std::move(data), timeout, PkgOption{}, std::forward<Token>(token));
  }
  template <detail::completion_token Token>
  auto AsyncSendRecvPkgWithTimeout(AsyncPayload data, Timeout timeout, PkgOption option, Token&& token) const {
    return async_send_receive_pkg("AsyncSendRecvPkgWithTimeout", std::move(data), option, within(timeout),
                                  std::forward<Token>(token));
  }

 protected:
  using ByteOperations::ByteOperations;

 private:
  using limit = detail::time_limit;

  /// Whether there is a connection, and the package has its format.
  bool is_standard(const PkgOption& option) const noexcept { return handle_ != nullptr && option == PkgOption{}; }

  detail::prepared prepare(const char* name, const PkgOption& option) const;

  void send_pkg(const char* name, Payload data, const PkgOption& option, const limit& until,
                const OnError& on_error) const;

  asio::awaitable<void> await_send_pkg(const char* name, AsyncPayload data, const PkgOption& option, limit until,
                                       OnError on_error) const;

  asio::awaitable<void> await_send_pkg(const char* name, AsyncPayload data, limit until, OnError on_error) const;

  template <class Token>
  auto async_send_pkg(const char* name, AsyncPayload data, const PkgOption& option, limit until, Token&& token) const {
    detail::prepared op = prepare(name, option);
    const detail::pkg_header header = detail::frame(op, data.Size());
    return detail::async_send(std::move(op), header, std::move(data), until, std::forward<Token>(token));
  }

  std::string receive(const char* name, const PkgOption& option, const limit& until, const OnError& on_error) const;

  void receive_into(const char* name, const PkgOption& option, const limit& until, std::string& into,
                    const OnError& on_error) const;

  asio::awaitable<std::string> await_receive(const char* name, const PkgOption& option, limit until,
                                             OnError on_error) const;

  asio::awaitable<std::string> await_receive(const char* name, limit until, OnError on_error) const;

  asio::awaitable<void> await_receive_into(const char* name, const PkgOption& option, limit until, std::string& into,
                                           OnError on_error) const;

  asio::awaitable<void> await_receive_into(const char* name, limit until, std::string& into, OnError on_error) const;

  template <class Token>
  static auto async_receive(detail::prepared op, limit until, Token&& token) {
    const detail::recv_goal goal = detail::recv_goal::package(op.format);
    return detail::async_receive(std::move(op), goal, until, std::forward<Token>(token));
  }

  template <class Token>
  static auto async_receive_into(detail::prepared op, limit until, std::string& into, Token&& token) {
    const detail::recv_goal goal = detail::recv_goal::package(op.format);
    return detail::async_receive_into(std::move(op), goal, until, into, std::forward<Token>(token));
  }

  std::string send_receive_pkg(const char* name, Payload data, const PkgOption& option, const limit& until,
                               const OnError& on_error) const;

  asio::awaitable<std::string> await_send_receive_pkg(const char* name, AsyncPayload data, const PkgOption& option,
                                                      limit until, OnError on_error) const;

  template <class Token>
  auto async_send_receive_pkg(const char* name, AsyncPayload data, const PkgOption& option, limit until,
                              Token&& token) const {
    detail::prepared op = prepare(name, option);
    const detail::pkg_header header = detail::frame(op, data.Size());
    const detail::recv_goal goal = detail::recv_goal::package(op.format);
    return detail::async_send_receive(std::move(op), header, std::move(data), goal, until, std::forward<Token>(token));
  }
};

}  // namespace gtcp

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/pkg_operations.hpp>
#endif

#endif
