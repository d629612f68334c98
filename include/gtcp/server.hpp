// SPDX-License-Identifier: MIT
#ifndef GTCP_SERVER_HPP
#define GTCP_SERVER_HPP

// The server: listens, accepts, and gives every connection to a handler.

#include <gtcp/conn.hpp>
#include <gtcp/detail/background_thread.hpp>
#include <gtcp/detail/server_accept.hpp>
#include <gtcp/detail/server_handler.hpp>
#include <gtcp/detail/server_shutdown.hpp>
#include <gtcp/detail/server_state.hpp>
#include <gtcp/error.hpp>
#include <gtcp/server_option.hpp>
#include <gtcp/stats.hpp>
#include <gtcp/tls_option.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
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
/// connection: asio::error::eof, a reset, Errc::Closed. SetPkgHandler is the third kind: called for each package.
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
  explicit Server(std::string_view address, Handler handler = nullptr, const ServerOption& option = {})
      : state_(make(std::make_shared<detail::server_state>(address, std::move(handler), option))) {}

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
  void Listen(OnError on_error = {}) const {
    std::string why;
    report("Listen", state()->listen(true, why), why, on_error);
  }

  /// Listens and serves until Close; returns when every handler has ended. Returns at once if the server was closed
  /// before; only Listen opens it again. The calling thread accepts connections, unless the handlers run on the io
  /// threads of Runtime::Default(): those accept them, too.
  ///
  /// Errors: those of Listen; asio::error::already_started when it runs; Errc::WouldDeadlock on an io thread and in its
  /// own handlers.
  /// Source: GoFrame: Server.Run.
  /// Differs: Close ends it without an error, and it waits for the handlers.
  void Run(OnError on_error = {}) const {
    const std::shared_ptr<detail::server_state> server = state();
    std::string why;
    std::error_code error;
    std::shared_ptr<detail::server_listener> listener;
    if (server->would_deadlock())
      error = Errc::WouldDeadlock;
    else
      error = server->begin_run(listener, true, why);
    if (listener != nullptr) detail::serve_until_closed(server, listener);
    report("Run", error, why, on_error);
  }

  /// Listens, serves in the background until Close, and returns at once.
  ///
  /// Errors: those of Run; Errc::Closed if the server was closed before and not opened by Listen; the system's when
  /// there is no thread to be had.
  void Start(OnError on_error = {}) const {
    const std::shared_ptr<detail::server_state> server = state();
    std::string why;
    std::shared_ptr<detail::server_listener> listener;
    std::error_code error = server->begin_run(listener, true, why);
    if (!error && listener == nullptr) error = Errc::Closed;
    if (!error) {
      error = detail::start_background_thread([server, listener] { detail::serve_until_closed(server, listener); });
      if (error) {
        server->end_accepting();
        server->end_run();
      }
    }
    report("Start", error, why, on_error);
  }

  /// Listens and serves without a thread of its own, on the executor of ServerOption::Conn, or on the io threads of
  /// Runtime::Default(); awaited, on the coroutine's executor. Coroutine handlers run there too. Completes as Run
  /// returns. Completion: void(std::error_code).
  ///
  /// Cancellation: total and partial alike close the server; completes with asio::error::operation_aborted when every
  /// handler has ended.
  [[nodiscard]] asio::awaitable<void> AsyncRun(OnError on_error = {}) const { return await_run(state(), on_error); }
  template <detail::completion_token Token>
  auto AsyncRun(Token&& token) const {
    asio::any_io_executor handlers_on = state()->option()->Conn.Executor;
    asio::any_io_executor executor = handlers_on ? handlers_on : Runtime::Default().get_executor();
    return detail::async_run(state(), std::move(executor), std::move(handlers_on), nullptr, std::forward<Token>(token));
  }

  /// Stops listening, and closes all connections as Conn::Close does, but for those that were Detach()ed. Returns at
  /// once, with the address free. Run returns when the handlers have ended. May be called any number of times, from any
  /// thread, also in handlers; closed before Run, Run returns at once.
  ///
  /// Source: GoFrame: Server.Close.
  /// Differs: in Go connections stay open.
  void Close() const noexcept { state_->close(); }

  /// Closes, and waits until every handler, and the thread that served, has ended and everything is delivered, at most
  /// `timeout`. Returns whether the peers' systems have all of it. Then Listen and Start open the server anew.
  ///
  /// Errors: Errc::Timeout when it is not done in time (it goes on in the background); Errc::WouldDeadlock on an io
  /// thread and in its own handlers, after closing. Coroutines on an executor of the user's are not known as handlers
  /// here, and wait for themselves.
  bool CloseAndWait(Timeout timeout, OnError on_error = {}) const {
    bool delivered = false;
    const std::error_code error = state()->close_and_wait(detail::deadline_after(timeout), delivered);
    report("CloseAndWait", error, {}, on_error);
    return delivered && !error;
  }

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
  ShutdownResult Shutdown(Timeout grace) const { return state()->shutdown(detail::deadline_after(grace)); }

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
  ServerStats Stats() const { return state_->stats(); }

  // ---- Settings

  /// Sets the address for the next Listen: "host:port", ":port" for all interfaces (IPv6 and IPv4), "[::1]:port",
  /// "unix:/path". Port 0 is a free one. A unix socket's file that nobody listens on any more is replaced.
  void SetAddress(std::string_view address) const { state_->set_address(address); }
  /// Returns the address as it was set.
  std::string GetAddress() const { return state_->address(); }

  /// Sets the handler of connections that come from now on; nullptr is none.
  void SetHandler(Handler handler) const { state_->set_handler(std::move(handler)); }

  /// Serves connections that come from now on by calling `handler` for each package, in the place of a handler that
  /// reads: the reader loop is inside. It is called on the connection's executor, one call at a time for a connection,
  /// in order, with a view into the receive buffer. Empty is none.
  ///
  /// A send to `conn` in it never blocks: what goes beyond ConnOption::OutboxLimit is accepted, and no further package
  /// of this connection is handed out until half of that is free. What it sends leaves together, once the packages that
  /// came together are through. A blocking receive from `conn` in it fails with Errc::WouldDeadlock, and so does, on an
  /// io thread of a Runtime, a SendPkg to another connection whose outbox is full: with TrySendPkg it is left out, and
  /// ConnOption::WhenFull may say that such a connection drops packages, or ends. What the handler throws goes to the
  /// error callback, and closes the connection.
  ///
  /// Lifetimes: `pkg` is valid during the call; a copy of `conn` may be kept.
  void SetPkgHandler(std::function<void(Conn& conn, std::string_view pkg)> handler) const {
    state_->set_pkg_handlers([&](detail::pkg_handlers& all) { all.on_pkg = std::move(handler); });
  }

  /// Sets what is called before the first package of a connection, after a TLS handshake; empty is nothing. Only where
  /// there is a package handler.
  void SetOnOpen(std::function<void(Conn& conn)> handler) const {
    state_->set_pkg_handlers([&](detail::pkg_handlers& all) { all.on_open = std::move(handler); });
  }

  /// Sets what is called after the last package of a connection, which then is closed, also where OnOpen has thrown;
  /// empty is nothing. Only where there is a package handler.
  ///
  /// `reason` is Conn::CloseReason: asio::error::eof when the peer has ended, Errc::Closed after Close. What the
  /// handler sends is still delivered to a peer that only ended its own sending.
  void SetOnClose(std::function<void(Conn& conn, std::error_code reason)> handler) const {
    state_->set_pkg_handlers([&](detail::pkg_handlers& all) { all.on_close = std::move(handler); });
  }

  /// Sets the options for the next Listen and for connections that come from now on, all of them: also ErrorCallback,
  /// which SetErrorCallback may have set.
  ///
  /// Errors: Errc::InvalidOption, whose text says what is wrong; the old options stay then.
  void SetOption(const ServerOption& option, OnError on_error = {}) const {
    std::string why;
    const std::error_code error = detail::check(option, why);
    if (!error) state_->set_option(option);
    report("SetOption", error, why, on_error);
  }

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
  void SetErrorCallback(ServerErrorCallback callback) const { state_->set_error_callback(std::move(callback)); }

  /// Returns the address that the server listens on: as it was set, but with the real port in place of port 0.
  std::string GetListenedAddress() const { return state_->listened_address(); }

  /// Returns the port that the server listens on, or listened on last; -1 before Listen and for a unix socket.
  int GetListenedPort() const { return state_->listened_port(); }

 private:
  static std::shared_ptr<detail::server_state> make(std::shared_ptr<detail::server_state> state) {
    detail::server_state* const raw = state.get();
    return {raw, [state = std::move(state)](detail::server_state*) noexcept { state->abandon(); }};
  }

  /// The state itself, not the handle: serving must not keep the server open.
  std::shared_ptr<detail::server_state> state() const { return state_->shared_from_this(); }

  static void report(const char* name, const std::error_code& error, const std::string& why, const OnError& on_error) {
    on_error.Report(error, [&] { return detail::with_reason(std::string("Server::") + name, why); });
  }

  static asio::awaitable<ShutdownResult> await_shutdown(std::shared_ptr<detail::server_state> server, Timeout grace,
                                                        OnError on_error) {
    const detail::awaited ending([](const std::error_code&) { return std::string("Server::AsyncShutdown"); }, on_error);
    return detail::async_shutdown(std::move(server), detail::deadline_after(grace), ending);
  }

  static asio::awaitable<void> await_run(std::shared_ptr<detail::server_state> server, OnError on_error) {
    asio::any_io_executor executor = server->option()->Conn.Executor;
    if (!executor) executor = co_await asio::this_coro::executor;
    std::error_code error;
    std::string why;
    auto running =
        detail::async_run(server, executor, executor, &why, asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(running);
    report("AsyncRun", error, why, on_error);
  }

  std::shared_ptr<detail::server_state> state_;
};

namespace detail {

/// The servers that have a name. They stay until the process ends.
class server_registry {
 public:
  static server_registry& instance() {
    static server_registry& registry = *new server_registry;  // never destroyed: nothing must wait for it at exit
    return registry;
  }

  Server get(std::string_view name) {
    const std::lock_guard lock(mutex_);
    return servers_[std::string(name)];
  }

  void set(std::string_view name, const Server& server) {
    Server replaced = server;
    const std::lock_guard lock(mutex_);
    std::swap(servers_[std::string(name)], replaced);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Server> servers_;
};

}  // namespace detail

/// Makes a server; with a name GetServer returns it, and it lives until the process ends or the name goes to another.
///
/// Source: GoFrame: gtcp.NewServer.
inline Server NewServer(std::string_view address, Server::Handler handler, std::string_view name = {},
                        const ServerOption& option = {}) {
  const Server server(address, std::move(handler), option);
  if (!name.empty()) detail::server_registry::instance().set(name, server);
  return server;
}

/// Returns the server of that name; makes one, without address and handler, if there is none.
///
/// Source: GoFrame: gtcp.GetServer.
inline Server GetServer(std::string_view name = {}) {
  constexpr std::string_view default_name = "default";
  return detail::server_registry::instance().get(name.empty() ? default_name : name);
}

}  // namespace gtcp

#endif
