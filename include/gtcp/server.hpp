// SPDX-License-Identifier: MIT
#ifndef GTCP_SERVER_HPP
#define GTCP_SERVER_HPP

// The server: listens, accepts, and gives every connection to a handler.

#include <gtcp/conn.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/server_async.hpp>
#include <gtcp/detail/server_handler.hpp>
#include <gtcp/error.hpp>
#include <gtcp/server_option.hpp>
#include <gtcp/stats.hpp>
#include <gtcp/tls_option.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

namespace detail {
/// What a server's TLS members do; in <gtcp/tls.hpp>, so that this header needs no OpenSSL.
template <class>
struct server_tls;
}  // namespace detail

/// The address of any free port on all interfaces; "127.0.0.1:0" is one for this machine only.
///
/// Source: GoFrame: gtcp.FreePortAddress.
inline constexpr std::string_view FreePortAddress = ":0";

/// Serves connections with a handler.
///
///     gtcp::Server server(":8999", [](gtcp::Conn conn) {
///       for (;;) conn.SendPkg(conn.RecvPkg());
///     });
///     server.Run();
///
/// The handler is anything that can be called with a Conn. `void(Conn)` gets a thread for each connection (threads
/// are used again, so thread_local variables keep the values that an earlier connection has left),
/// `asio::awaitable<void>(Conn)` is a coroutine for each connection, on one of the io threads or on the executor of
/// ServerOption::Conn. It is called for several connections at once. When it has returned or thrown the server closes
/// its Conn, unless that was Detach()ed. What it throws goes to the error callback, but for the end of its own
/// connection: asio::error::eof, Errc::TlsTruncated, a reset, Errc::Closed, Errc::Draining. SetPkgHandler is the third
/// kind: called for each package.
///
/// A Server is a handle: copies name the same server.
///
/// Thread safety: all members may be called at once from any thread, also in handlers. As with std::shared_ptr, one
/// handle object must not be assigned while another thread uses that same object.
/// Lifetimes: when the last handle is destroyed the server closes, and waits for its handlers, which may refer to what
/// is destroyed next; not where that would wait for itself: in a handler, on an io thread, and for coroutines on an
/// executor of the user's. A handler that owns a copy of its own Server keeps that alive until SetHandler(nullptr).
///
/// Source: GoFrame: gtcp.Server.
class Server {
 public:
  using Handler = detail::server_handler;
  using Timeout = std::chrono::nanoseconds;

  /// Without address and handler, which SetAddress and SetHandler give it.
  Server() : Server(std::string_view(), nullptr) {}

  /// Nothing happens before Listen, Start or Run; those report what is wrong with the arguments.
  explicit Server(std::string_view address, Handler handler = nullptr, const ServerOption& option = {});

  // No moves: a Server is never empty.
  Server(const Server&) = default;
  Server& operator=(const Server&) = default;
  ~Server() = default;

  friend bool operator==(const Server& a, const Server& b) noexcept { return a.state_ == b.state_; }

  // ---- Serving

  /// Binds the address and listens; connections wait until Run or Start. Does nothing if the server listens already.
  /// After Close it opens the server anew; a Run or Start that follows waits for the handlers of the Run or Start
  /// before, so it must not be called by one of them that is a coroutine on an executor of the user's.
  ///
  /// Errors: Errc::InvalidAddress, Errc::InvalidOption and Errc::NoHandler, whose texts say what is wrong;
  /// Errc::Closed when closed meanwhile; the system's (a port in use), whose text names the address.
  void Listen(OnError on_error = {}) const;

  /// Listens and serves until Close; returns when every handler has ended. Returns at once if the server was closed
  /// before; only Listen opens it again. The calling thread accepts connections, unless the handlers run on the io
  /// threads of Runtime::Default(): those accept them, too.
  ///
  /// Errors: those of Listen; asio::error::already_started when it runs; Errc::WouldDeadlock on an io thread and in its
  /// own handlers.
  /// Source: GoFrame: Server.Run.
  /// Differs: Close ends it without an error, and it waits for the handlers.
  void Run(OnError on_error = {}) const;

  /// Listens, serves in the background until Close, and returns at once.
  ///
  /// Errors: those of Run; Errc::Closed if the server was closed before and not opened by Listen; the system's when
  /// there is no thread to be had.
  void Start(OnError on_error = {}) const;

  /// Listens and serves without a thread of its own, on the executor of ServerOption::Conn, or on the io threads of
  /// Runtime::Default(); awaited, on the coroutine's executor. Coroutine handlers run there too. Completes as Run
  /// returns. Completion: void(std::error_code).
  ///
  /// Cancellation: total and partial alike close the server; completes with asio::error::operation_aborted when every
  /// handler has ended.
  [[nodiscard]] asio::awaitable<void> AsyncRun(OnError on_error = {}) const { return await_run(state(), on_error); }
  template <detail::completion_token Token>
  auto AsyncRun(Token&& token) const {
    asio::any_io_executor handlers_on = handlers_executor();
    asio::any_io_executor executor = handlers_on ? handlers_on : Runtime::Default().get_executor();
    return detail::async_run(state(), std::move(executor), std::move(handlers_on), nullptr, std::forward<Token>(token));
  }

  /// Stops listening, and closes all connections as Conn::Close does, but for those that were Detach()ed. Returns at
  /// once, with the address free. Run returns when the handlers have ended. May be called any number of times, from any
  /// thread, also in handlers; closed before Run, Run returns at once.
  ///
  /// Source: GoFrame: Server.Close.
  /// Differs: in Go connections stay open.
  void Close() const noexcept;

  /// Closes, and waits until every handler, and the thread that served, has ended and everything is delivered, at most
  /// `timeout`. Returns whether the peers' systems have all of it. Then Listen and Start open the server anew.
  ///
  /// Errors: Errc::Timeout when it is not done in time (it goes on in the background); Errc::WouldDeadlock on an io
  /// thread and in its own handlers, after closing. Coroutines on an executor of the user's are not known as handlers
  /// here, and wait for themselves.
  bool CloseAndWait(Timeout timeout, OnError on_error = {}) const;

  /// Ends serving without losing what is under way: stops listening, and wakes receives that wait between packages with
  /// Errc::Draining, at once; what has come by then is still received, and the rest of a package that has begun. Sends
  /// go on, and what handlers sent is delivered when they return. What is not done after `grace` is reset, and so is
  /// what waits to be accepted. Returns when all is done, and says how many connections were drained and how many cut
  /// off. May be called any number of times, from any thread.
  ///
  /// On an io thread, and in the server's own handlers, where waiting could not end, it returns at once and goes on in
  /// the background. Coroutines on an executor of the user's are not known as handlers here: call AsyncShutdown there.
  ///
  /// Errors: the system's when there is no thread to go on in the background.
  /// Source: ours.
  ShutdownResult Shutdown(Timeout grace) const;

  /// Does what Shutdown does, without blocking. Completion: void(std::error_code, ShutdownResult).
  ///
  /// Cancellation: none; `grace` is its limit.
  /// Source: ours.
  [[nodiscard]] asio::awaitable<ShutdownResult> AsyncShutdown(Timeout grace, OnError on_error = {}) const {
    return await_shutdown(state(), grace, on_error);
  }
  template <detail::completion_token Token>
  auto AsyncShutdown(Timeout grace, Token&& token) const {
    return detail::async_shutdown(state(), detail::deadline_after(grace), std::forward<Token>(token));
  }

  // ---- Observing

  /// Returns what the server and its connections have done so far. FormatPrometheus writes it as text.
  ServerStats Stats() const;

  // ---- Settings

  /// Sets the address for the next Listen: "host:port", ":port" for all interfaces (IPv6 and IPv4), "[::1]:port",
  /// "unix:/path". Port 0 is a free one. A unix socket's file that nobody listens on any more is replaced.
  void SetAddress(std::string_view address) const;
  /// Returns the address as it was set.
  std::string GetAddress() const;

  /// Sets the handler of connections that come from now on; nullptr is none.
  void SetHandler(Handler handler) const;

  /// Serves connections that come from now on by calling `handler` for each package, in the place of a handler that
  /// reads: the reader loop is inside. It is called on the connection's executor, one call at a time for a connection,
  /// in order, with a view into the receive buffer. Empty is none.
  ///
  /// A send to `conn` in it never blocks: what goes beyond ConnOption::OutboxLimit is accepted, and no further package
  /// of this connection is handed out until half of that is free. What it sends leaves together, once the packages that
  /// came together are through. A blocking receive from `conn` in it fails with Errc::WouldDeadlock, and so does, on an
  /// io thread of a Runtime, a SendPkg to another connection whose outbox is full: with TrySendPkg it is left out, and
  /// ConnOption::WhenFull may say that such a connection drops packages, or ends; then it says so for sends to `conn`,
  /// too. What the handler throws goes to the error callback, and closes the connection. What ends a connection
  /// besides, also a package that is too large or cut off, is told to SetOnClose alone.
  ///
  /// Lifetimes: `pkg` is valid during the call; a copy of `conn` may be kept.
  void SetPkgHandler(std::function<void(Conn& conn, std::string_view pkg)> handler) const;

  /// Sets what is called before the first package of a connection, after a TLS handshake; empty is nothing. Only where
  /// there is a package handler.
  void SetOnOpen(std::function<void(Conn& conn)> handler) const;

  /// Sets what is called after the last package of a connection, which then is closed, also where OnOpen has thrown;
  /// empty is nothing. Only where there is a package handler.
  ///
  /// `reason` is Conn::CloseReason: asio::error::eof when the peer has ended, Errc::Closed after Close. What the
  /// handler sends is still delivered to a peer that only ended its own sending.
  void SetOnClose(std::function<void(Conn& conn, std::error_code reason)> handler) const;

  /// Sets the options for the next Listen and for connections that come from now on, all of them: also ErrorCallback,
  /// which SetErrorCallback may have set.
  ///
  /// Errors: Errc::InvalidOption, whose text says what is wrong; the old options stay then.
  void SetOption(const ServerOption& option, OnError on_error = {}) const;

  /// Speaks TLS on connections that come from now on, as `config` says, a std::shared_ptr<asio::ssl::context>; nullptr
  /// is plain again. Needs <gtcp/tls.hpp>. The handshake runs in the connection's thread or coroutine, before the
  /// handler; a failed one goes to the error callback.
  ///
  /// Errors: std::system_error with Errc::InvalidOption.
  /// Source: GoFrame: Server.SetTLSConfig.
  template <class Config>
  void SetTLSConfig(const Config& config, const TLSOption& option = {}) const {
    detail::server_tls<Config>::set_config(*state_, config, option);
  }

  /// Speaks TLS on connections that come from now on, with a certificate and its key from two PEM files; what
  /// SetTLSConfig set else stays. May be called while the server runs: connections in place go on. Needs
  /// <gtcp/tls.hpp>.
  ///
  /// Errors: those of LoadKeyCrt; CertificateErrorCategory's for a certificate that has expired or is not valid yet.
  /// The old pair stays then.
  /// Source: GoFrame: Server.SetTLSKeyCrt.
  template <class Tls = void>
  void SetTLSKeyCrt(const std::string& crt_file, const std::string& key_file, OnError on_error = {}) const {
    detail::server_tls<Tls>::set_pair(*state_, crt_file, key_file, on_error);
  }

  /// Sets who is told what left a handler; empty is one line on stderr.
  void SetErrorCallback(ServerErrorCallback callback) const;

  /// Returns the address that the server listens on: as it was set, but with the real port in place of port 0.
  std::string GetListenedAddress() const;

  /// Returns the port that the server listens on, or listened on last; -1 before Listen and for a unix socket.
  int GetListenedPort() const;

 private:
  static std::shared_ptr<detail::server_state> make(std::shared_ptr<detail::server_state> state);

  /// The state itself, not the handle: serving must not keep the server open.
  std::shared_ptr<detail::server_state> state() const;

  /// That of ServerOption::Conn.
  asio::any_io_executor handlers_executor() const;

  static void report(const char* name, const std::error_code& error, const std::string& why, const OnError& on_error);

  static asio::awaitable<ShutdownResult> await_shutdown(std::shared_ptr<detail::server_state> server, Timeout grace,
                                                        OnError on_error);

  static asio::awaitable<void> await_run(std::shared_ptr<detail::server_state> server, OnError on_error);

  std::shared_ptr<detail::server_state> state_;
};

namespace detail {
/// GetServer(name) returns it from now on.
GTCP_DECL void name_server(std::string_view name, const Server& server);
}  // namespace detail

/// Makes a server; with a name GetServer returns it, and it lives until the process ends or the name goes to another.
///
/// Source: GoFrame: gtcp.NewServer.
GTCP_DECL Server NewServer(std::string_view address, Server::Handler handler, std::string_view name = {},
                           const ServerOption& option = {});

/// Returns the server of that name; makes one, without address and handler, if there is none.
///
/// Source: GoFrame: gtcp.GetServer.
GTCP_DECL Server GetServer(std::string_view name = {});

}  // namespace gtcp

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/server.hpp>
#endif

#endif
