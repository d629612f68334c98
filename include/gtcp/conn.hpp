// SPDX-License-Identifier: MIT
#ifndef GTCP_CONN_HPP
#define GTCP_CONN_HPP

// The connection: a cheap handle with shared ownership. Its operations on bytes are in byte_operations.hpp, those on
// packages in pkg_operations.hpp; here is what belongs to the connection itself.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/pkg_pump.hpp>
#include <gtcp/detail/tcp_settings.hpp>
#include <gtcp/pkg_operations.hpp>
#include <gtcp/stats.hpp>
#include <gtcp/timer.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <algorithm>
#include <any>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

namespace detail {
struct conn_access;

struct no_close_handler {
  template <class Conn>
  void operator()(Conn&, std::error_code) const noexcept {}
};
}  // namespace detail

/// A connection over which two programs exchange packages, or bytes.
///
/// A Conn is a handle: copies name the same connection. It is made by NewConn, by a Server for its handler, or from an
/// existing socket by NewConnByNetConn. A default-constructed Conn is not connected: its operations fail with
/// asio::error::not_connected.
///
/// Thread safety: all operations may be called at once from any thread on the same connection, blocking and
/// asynchronous mixed. As with std::shared_ptr, one handle object must not be assigned while another thread uses that
/// same object.
/// Lifetimes: operations under way keep the connection's state, but not the connection: when the last handle is dropped
/// it closes as by Close(). When the execution context of ConnOption::Executor is destroyed, so is what waits in it,
/// without being called; the connection goes on in the default Runtime.
///
/// Source: GoFrame: gtcp.Conn.
class Conn : public PkgOperations {
 public:
  using executor_type = asio::any_io_executor;
  using NativeHandle = detail::native_socket;

  /// Not connected.
  Conn() = default;

  /// Whether it is connected, or was: false only for a default-constructed Conn.
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  friend bool operator==(const Conn& a, const Conn& b) noexcept { return a.handle_ == b.handle_; }

  // ---- Waiting for what was sent

  /// Waits until everything that was accepted for sending is with the system. What the process has not flushed is lost
  /// when it is killed.
  ///
  /// Errors: those of sends; Errc::WouldDeadlock on an io thread of gtcp, always. SetDeadlineSend is its deadline.
  void Flush(OnError on_error = {}) const { flush("Flush", {}, on_error); }
  /// Does what Flush does, within `timeout`.
  ///
  /// Errors: those of Flush; Errc::Timeout: sending goes on.
  void FlushWithTimeout(Timeout timeout, OnError on_error = {}) const {
    flush("FlushWithTimeout", within(timeout), on_error);
  }

  /// Does what Flush does, asynchronously. Completion: void(std::error_code). The handler is not called from within
  /// this function.
  ///
  /// Errors: those of sends.
  /// Cancellation: only the waiting ends; sending goes on.
  [[nodiscard]] asio::awaitable<void> AsyncFlush(OnError on_error = {}) const {
    return detail::await_flush(detail::prepare("AsyncFlush", handle_, Retry{}), {}, on_error);
  }
  template <detail::completion_token Token>
  auto AsyncFlush(Token&& token) const {
    return detail::async_flush(detail::prepare("AsyncFlush", handle_, Retry{}), {}, std::forward<Token>(token));
  }
  /// Does what AsyncFlush does, within `timeout`.
  ///
  /// Errors: those of sends; Errc::Timeout: sending goes on.
  [[nodiscard]] asio::awaitable<void> AsyncFlushWithTimeout(Timeout timeout, OnError on_error = {}) const {
    return detail::await_flush(detail::prepare("AsyncFlushWithTimeout", handle_, Retry{}), within(timeout), on_error);
  }
  template <detail::completion_token Token>
  auto AsyncFlushWithTimeout(Timeout timeout, Token&& token) const {
    return detail::async_flush(detail::prepare("AsyncFlushWithTimeout", handle_, Retry{}), within(timeout),
                               std::forward<Token>(token));
  }

  // ---- Deadlines

  /// Sets when receives and sends give up that have no timeout of their own, those that wait now included. `{}` is
  /// never. When it has passed, each operation has one try: what is there is received, what there is room for is sent.
  ///
  /// Errors: asio::error::not_connected.
  /// Source: GoFrame: Conn.SetDeadline.
  /// Differs: there nothing is received or sent after it has passed.
  void SetDeadline(std::chrono::steady_clock::time_point at, OnError on_error = {}) const;
  /// Does what SetDeadline does, for receives only.
  ///
  /// Errors: asio::error::not_connected.
  /// Source: GoFrame: Conn.SetDeadlineRecv.
  /// Differs: RecvWithTimeout and its like do not change it.
  void SetDeadlineRecv(std::chrono::steady_clock::time_point at, OnError on_error = {}) const;
  /// Does what SetDeadline does, for sends only.
  ///
  /// Errors: asio::error::not_connected.
  /// Source: GoFrame: Conn.SetDeadlineSend.
  /// Differs: SendWithTimeout and its like do not change it.
  void SetDeadlineSend(std::chrono::steady_clock::time_point at, OnError on_error = {}) const;

  /// Sets how long nothing must have come before Recv with a negative length returns; 1 ms by default.
  ///
  /// Errors: asio::error::not_connected; Errc::InvalidOption for a negative time.
  /// Source: GoFrame: Conn.SetBufferWaitRecv.
  void SetBufferWaitRecv(std::chrono::nanoseconds wait, OnError on_error = {}) const;

  /// Sets what it means that a send is done, for sends from now on.
  ///
  /// Errors: asio::error::not_connected.
  void SetSendMode(SendMode mode, OnError on_error = {}) const;

  // ---- Closing

  /// Closes the connection and returns at once. Every waiting operation, and every later one, fails with Errc::Closed.
  /// What was accepted for sending is still delivered in the background, within ConnOption::Linger, to a peer that
  /// reads. May be called any number of times, from any thread, also inside callbacks.
  ///
  /// Source: GoFrame: Conn.Close.
  void Close() const noexcept {
    if (handle_ != nullptr) handle_->close_or_give_back();
  }

  /// Closes and waits until everything is delivered, at most `timeout`. Returns whether the peer's system has all of
  /// it.
  ///
  /// Errors: Errc::Timeout when it is not done in time (it goes on in the background); Errc::WouldDeadlock on an io
  /// thread of gtcp; asio::error::not_connected.
  bool CloseAndWait(Timeout timeout, OnError on_error = {}) const;

  /// Closes, and completes when everything is delivered or the linger time is over. Completion: void(std::error_code,
  /// bool), the bool saying whether the peer's system has all of it. The handler is not called from within this
  /// function.
  ///
  /// Errors: asio::error::not_connected; std::errc::not_enough_memory: it closes, without anybody waiting for it.
  /// Cancellation: none; the linger time is its limit.
  [[nodiscard]] asio::awaitable<bool> AsyncClose(OnError on_error = {}) const {
    return detail::await_close(detail::prepare("AsyncClose", handle_, Retry{}), on_error);
  }
  template <detail::completion_token Token>
  auto AsyncClose(Token&& token) const {
    return detail::async_close(detail::prepare("AsyncClose", handle_, Retry{}), std::forward<Token>(token));
  }

  /// Ends sending only, behind everything that was sent: the peer sees the end of the stream, and can go on sending.
  /// Later sends fail with asio::error::shut_down. Returns at once.
  ///
  /// Errors: asio::error::not_connected.
  void CloseWrite(OnError on_error = {}) const;

  /// Closes at once and throws away what is not delivered: the peer sees a reset.
  void Abort() const noexcept {
    if (handle_ != nullptr) handle_->close(true);
  }

  /// Keeps the Server from closing the connection when its handler has returned, so that a copy can be used elsewhere.
  void Detach() const noexcept {
    if (handle_ != nullptr) handle_->detach();
  }

  /// Whether this side has closed: by Close, Abort, the last handle, a limit or QueuePolicy::Close; true if not
  /// connected. The peer's end does not count, see CloseReason.
  bool IsClosed() const noexcept { return handle_ == nullptr || handle_->closed(); }

  /// Why the connection ended: the first fatal error of the stream, Errc::Closed, or no error while it is open;
  /// asio::error::not_connected for a default-constructed Conn.
  std::error_code CloseReason() const {
    return handle_ != nullptr ? handle_->close_reason() : make_error_code(asio::error::not_connected);
  }

  /// Returns what went over the connection so far; also after Close.
  ///
  /// Thread safety: may be called from any thread.
  ConnStats Stats() const { return handle_ != nullptr ? handle_->counted() : ConnStats(); }

  // ---- Packages by callback

  /// Receives from now on by calling `handler` with each package: on the executor of the connection, one call at a
  /// time, in order, until the connection ends; then `on_close` is called once, and the connection closed. `handler`
  /// takes (Conn&, std::string_view), `on_close` (Conn&, std::error_code), its reason being that of CloseReason. Other
  /// receives wait until then. Returns at once; no call is made from within it. Packages have the Conn's
  /// ConnOption::Pkg.
  ///
  /// Sends to the connection itself never block in the handler, see Server::SetPkgHandler. What a handler throws closes
  /// the connection and goes to the executor after `on_close`; so does what `on_close` throws, if `handler` has not.
  ///
  /// Errors: std::system_error with asio::error::not_connected, or with Errc::InvalidOption for an empty handler.
  /// Lifetimes: the view is valid during the call. The handler does not keep the connection: dropped with all handles
  /// it closes, and `on_close` gets a Conn that is not connected.
  template <class Handler, class OnClose = detail::no_close_handler>
    requires(std::invocable<std::decay_t<Handler>&, Conn&, std::string_view> &&
             std::invocable<std::decay_t<OnClose>&, Conn&, std::error_code>)
  void SetPkgHandler(Handler&& handler, OnClose&& on_close = {}) const;

  // ---- Timers that end with the connection

  /// Runs `job` once, `delay` from now, on a thread of the default Timer; not if the connection was closed before.
  /// `job` takes the Conn, or nothing. A delay of zero or less is at once, but never from within this function.
  ///
  /// Errors: std::system_error with asio::error::not_connected, or with Errc::InvalidOption for an empty job.
  /// Lifetimes: the entry does not keep the connection; a job that captures a Conn does, so take it as the parameter.
  template <class Job>
    requires(std::invocable<std::decay_t<Job>&, Conn> || std::invocable<std::decay_t<Job>&>)
  TimerEntry SetTimeout(std::chrono::nanoseconds delay, Job&& job) const {
    const auto wait = std::max(delay, std::chrono::nanoseconds(0));
    return bind_timer({.name = "Conn::SetTimeout", .first = wait, .interval = wait, .times = 1},
                      std::forward<Job>(job));
  }

  /// Runs `job` every `interval`, the first time an interval from now, until the connection is closed.
  ///
  /// Errors: those of SetTimeout, and Errc::InvalidOption for an interval of zero or less.
  /// Lifetimes: as SetTimeout.
  template <class Job>
    requires(std::invocable<std::decay_t<Job>&, Conn> || std::invocable<std::decay_t<Job>&>)
  TimerEntry SetInterval(std::chrono::nanoseconds interval, Job&& job) const {
    if (interval.count() <= 0) {
      detail::throw_invalid_timer("Conn::SetInterval",
                                  "interval is " + std::to_string(interval.count()) + " ns, allowed are 1 ns and more");
    }
    return bind_timer({.name = "Conn::SetInterval", .first = interval, .interval = interval}, std::forward<Job>(job));
  }

  // ---- About the connection

  /// The address of the peer, "127.0.0.1:51220", or the path of a unix socket. Valid after Close too.
  std::string RemoteAddr() const { return handle_ != nullptr ? handle_->remote_address() : std::string(); }
  /// The own address. Valid after Close too.
  std::string LocalAddr() const { return handle_ != nullptr ? handle_->local_address() : std::string(); }

  /// A number that no other connection of this process has; 0 if not connected.
  std::uint64_t Id() const noexcept { return handle_ != nullptr ? handle_->id() : 0; }

  /// A place for whatever the user wants to keep with the connection.
  ///
  /// Errors: std::system_error with asio::error::not_connected.
  /// Thread safety: none; it is the user's.
  std::any& UserData() const;

  /// The executor on which asynchronous operations go on whose handlers have none of their own.
  executor_type get_executor() const;

  /// The system's descriptor, which stays the Conn's; invalid after closing. Reading or writing through it would break
  /// the framing. A pooled connection does not go back to its pool after that. Another thread's Close may end the
  /// descriptor at any time.
  NativeHandle GetNativeHandle() const;

  // ---- Options of the socket. Errors of all of them: the system's; asio::error::not_connected; Errc::Closed once the
  // descriptor is gone; Errc::InvalidOption for a value that is negative or too large.

  /// Sets whether small packages are sent at once (TCP_NODELAY) instead of waiting for an acknowledgement first. Not
  /// for unix sockets.
  void SetNoDelay(bool on, OnError on_error = {}) const {
    set_option("SetNoDelay", detail::socket_option::no_delay, on ? 1 : 0, on_error);
  }
  /// Returns what SetNoDelay sets.
  bool NoDelay(OnError on_error = {}) const {
    return get_option("NoDelay", detail::socket_option::no_delay, on_error) != 0;
  }
  /// Sets whether the system probes the connection when nothing happens on it (SO_KEEPALIVE).
  void SetKeepAlive(bool on, OnError on_error = {}) const {
    set_option("SetKeepAlive", detail::socket_option::keep_alive, on ? 1 : 0, on_error);
  }
  /// Returns what SetKeepAlive sets.
  bool KeepAlive(OnError on_error = {}) const {
    return get_option("KeepAlive", detail::socket_option::keep_alive, on_error) != 0;
  }
  /// Sets when the first keep-alive probe is sent, the pause between probes, and how many unanswered ones end the
  /// connection; 0 leaves a value as it is.
  void SetKeepAliveTimes(std::chrono::seconds idle, std::chrono::seconds interval, int count,
                         OnError on_error = {}) const;
  /// Sets the size of the system's receive buffer in bytes (SO_RCVBUF). Linux takes twice of it, for its own use.
  void SetRecvBufferSize(std::size_t bytes, OnError on_error = {}) const {
    set_option("SetRecvBufferSize", detail::socket_option::recv_buffer, bytes, on_error);
  }
  /// Returns the size of the system's receive buffer in bytes.
  std::size_t RecvBufferSize(OnError on_error = {}) const {
    return static_cast<std::size_t>(get_option("RecvBufferSize", detail::socket_option::recv_buffer, on_error));
  }
  /// Sets the size of the system's send buffer in bytes (SO_SNDBUF). Linux takes twice of it, for its own use.
  void SetSendBufferSize(std::size_t bytes, OnError on_error = {}) const {
    set_option("SetSendBufferSize", detail::socket_option::send_buffer, bytes, on_error);
  }
  /// Returns the size of the system's send buffer in bytes.
  std::size_t SendBufferSize(OnError on_error = {}) const {
    return static_cast<std::size_t>(get_option("SendBufferSize", detail::socket_option::send_buffer, on_error));
  }
  /// Sets how long Close goes on delivering in the background; 0 is not at all, negative is Errc::InvalidOption.
  void SetLinger(std::chrono::milliseconds linger, OnError on_error = {}) const;

 private:
  friend class Cork;
  friend struct detail::conn_access;
  friend struct std::hash<Conn>;

  explicit Conn(detail::conn_handle handle) : PkgOperations(std::move(handle)) {}

  bool connected(const char* name, const OnError& on_error) const;

  void flush(const char* name, const detail::time_limit& until, const OnError& on_error) const;

  void set_option(const char* name, detail::socket_option option, std::size_t value, const OnError& on_error) const;

  int get_option(const char* name, detail::socket_option option, const OnError& on_error) const;

  template <class Job>
  TimerEntry bind_timer(const detail::timer_spec& spec, Job&& job) const {
    if (handle_ == nullptr) throw std::system_error(make_error_code(asio::error::not_connected), spec.name);
    if (detail::is_empty_callable(job)) detail::throw_invalid_timer(spec.name, "the job is empty");
    const TimerEntry entry = detail::timer_access::add(
        DefaultTimer(), spec,
        [weak = std::weak_ptr(handle_), job = std::decay_t<Job>(std::forward<Job>(job))]() mutable {
          const Conn conn(weak.lock());
          if (conn.IsClosed()) return false;
          if constexpr (std::invocable<std::decay_t<Job>&, Conn>)
            job(conn);
          else
            job();
          return !conn.IsClosed();
        });
    try {
      handle_->bind(entry);
    } catch (const std::bad_alloc&) {
      detail::timer_access::close_without_waiting(entry);
      throw;
    }
    return entry;
  }
};

/// Holds small packages back while it lives, so that they leave together: in one write when the last Cork of a Conn is
/// destroyed, and before that when 64 KiB are gathered, the outbox is full, or somebody waits for input on the Conn.
///
/// Thread safety: one Cork belongs to one thread; any number of them may be on one Conn. Its destructor neither throws
/// nor blocks.
class Cork {
 public:
  explicit Cork(const Conn& conn) : guard_(conn.handle_) {}

 private:
  detail::cork_guard guard_;
};

namespace detail {

/// How the rest of the library makes a Conn, and gets at what is behind it.
struct conn_access {
  /// Makes the first handle: dropped with all its copies, the connection closes.
  static Conn make(std::shared_ptr<conn_state> state);

  static const conn_handle& handle(const Conn& conn) noexcept { return conn.handle_; }

  static conn_ptr state(const Conn& conn) { return state_of(conn.handle_); }

  static Conn lock(const std::weak_ptr<conn_state>& handle) { return Conn(handle.lock()); }
};

/// Hands packages to a user's callables.
template <class Handler, class OnClose>
class callback_sink final : public pkg_sink {
 public:
  template <class FromHandler, class FromOnClose>
  callback_sink(const conn_handle& handle, FromHandler&& handler, FromOnClose&& on_close)
      : handle_(handle),
        state_(state_of(handle)),
        handler_(std::forward<FromHandler>(handler)),
        on_close_(std::forward<FromOnClose>(on_close)) {}

  void on_pkg(std::string_view pkg) noexcept override {
    Conn conn = conn_access::lock(handle_);
    if (!conn) return;  // it closes
    try {
      handler_(conn, pkg);
    } catch (...) {
      failure_ = std::current_exception();
      conn.Close();
    }
  }

  void on_end(std::error_code reason) override {
    Conn conn = conn_access::lock(handle_);
    const std::error_code first = state_->close_reason();
    try {
      on_close_(conn, first ? first : reason);
    } catch (...) {
      conn.Close();
      // A thread that is being ended has no exception, and must not be held up.
      if (!failure_ || !std::current_exception()) throw;
    }
    conn.Close();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const std::weak_ptr<conn_state> handle_;
  const std::shared_ptr<conn_state> state_;
  Handler handler_;
  OnClose on_close_;
  std::exception_ptr failure_;
};

}  // namespace detail

template <class Handler, class OnClose>
  requires(std::invocable<std::decay_t<Handler>&, Conn&, std::string_view> &&
           std::invocable<std::decay_t<OnClose>&, Conn&, std::error_code>)
void Conn::SetPkgHandler(Handler&& handler, OnClose&& on_close) const {
  if (handle_ == nullptr) throw std::system_error(make_error_code(asio::error::not_connected), "SetPkgHandler");
  if (detail::is_empty_callable(handler))
    throw std::system_error(make_error_code(Errc::InvalidOption), "SetPkgHandler: the handler is empty");
  using sink = detail::callback_sink<std::decay_t<Handler>, std::decay_t<OnClose>>;
  detail::start_pump(detail::state_of(handle_),
                     std::make_unique<sink>(handle_, std::forward<Handler>(handler), std::forward<OnClose>(on_close)));
}

}  // namespace gtcp

template <>
struct std::hash<gtcp::Conn> {
  std::size_t operator()(const gtcp::Conn& conn) const noexcept {
    return std::hash<gtcp::detail::conn_handle>()(conn.handle_);
  }
};

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/conn.hpp>
#endif

#endif
