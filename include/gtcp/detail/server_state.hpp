// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_STATE_HPP
#define GTCP_DETAIL_SERVER_STATE_HPP

// The state of a server, which handles, the accept loop and the sessions share.
//
// Locks: mutex_ guards everything but the listener, which has its own; a listener's may be taken under it, never the
// other way round. No user's code runs under either.

#include <gtcp/conn.hpp>
#include <gtcp/detail/background_thread.hpp>
#include <gtcp/detail/conn_ledger.hpp>
#include <gtcp/detail/dialer.hpp>
#include <gtcp/detail/operation.hpp>
#include <gtcp/detail/peer_limits.hpp>
#include <gtcp/detail/server_gate.hpp>
#include <gtcp/detail/server_handler.hpp>
#include <gtcp/detail/server_listener.hpp>
#include <gtcp/detail/server_session.hpp>
#include <gtcp/detail/session_threads.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/detail/transport.hpp>
#include <gtcp/detail/watchdog.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server_option.hpp>
#include <gtcp/stats.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp::detail {

class server_state : public std::enable_shared_from_this<server_state> {
 public:
  server_state(std::string_view address, server_handler handler, const ServerOption& option)
      : address_(address), handler_(std::move(handler)), option_(std::make_shared<const ServerOption>(option)) {}

  // ---- Settings

  void set_address(std::string_view address) {
    const std::lock_guard lock(mutex_);
    address_ = address;
  }
  std::string address() const {
    const std::lock_guard lock(mutex_);
    return address_;
  }
  void set_handler(server_handler handler) {
    std::shared_ptr<const pkg_handlers> replaced;
    {
      const std::lock_guard lock(mutex_);
      std::swap(handler_, handler);
      if (handler_) replaced = change_pkg_handlers([](pkg_handlers& all) { all.on_pkg = nullptr; });
    }
    // The old one is destroyed here, outside of the mutex: it may hold the last handle of a server.
  }
  /// Changes what package handlers consist of, for connections that come from now on. One for packages takes the place
  /// of the handler.
  template <class Change>
  void set_pkg_handlers(const Change& change) {
    server_handler none;
    std::shared_ptr<const pkg_handlers> replaced;
    const std::lock_guard lock(mutex_);
    replaced = change_pkg_handlers(change);
    if (pkg_handlers_->on_pkg) std::swap(handler_, none);
  }
  /// Of connections that come from now on: what `changed(layer)` makes of the one before; nullptr is none.
  template <class Changed>
  void change_layer(const Changed& changed) {
    std::shared_ptr<const server_layer> before;  // ends outside of the lock
    const std::lock_guard lock(mutex_);
    before = std::exchange(layer_, changed(layer_));
  }
  void set_option(const ServerOption& option) {
    auto fresh = std::make_shared<const ServerOption>(option);
    const std::lock_guard lock(mutex_);
    std::swap(option_, fresh);
  }
  void set_error_callback(ServerErrorCallback callback) {
    std::shared_ptr<const ServerOption> replaced;
    const std::lock_guard lock(mutex_);
    auto fresh = std::make_shared<ServerOption>(*option_);
    fresh->ErrorCallback = std::move(callback);
    replaced = std::exchange(option_, std::move(fresh));
  }
  std::shared_ptr<const ServerOption> option() const {
    const std::lock_guard lock(mutex_);
    return option_;
  }

  int listened_port() const {
    const std::lock_guard lock(mutex_);
    return port_;
  }
  std::string listened_address() const {
    constexpr std::string_view free_port = ":0";
    const std::lock_guard lock(mutex_);
    const std::string& text = listened_.empty() ? address_ : listened_;
    if (port_ < 0 || !text.ends_with(free_port)) return text;
    return text.substr(0, text.size() - 1) + std::to_string(port_);
  }

  // ---- Listening

  /// Listens unless it does already. With `reopen` also after close().
  std::error_code listen(bool reopen, std::string& why) {
    const std::lock_guard one_at_a_time(opening_mutex_);
    std::string address;
    std::shared_ptr<const ServerOption> option;
    {
      const std::lock_guard lock(mutex_);
      if (!has_handler()) return Errc::NoHandler;
      if (reopen) closed_ = false;
      if (closed_) return Errc::Closed;
      if (listener_ != nullptr) return {};
      address = address_;
      option = option_;
    }
    if (const auto ec = check(*option, why)) return ec;
    auto fresh = std::make_shared<server_listener>();
    if (const auto ec = fresh->open(address, *option, why)) return ec;
    const std::lock_guard lock(mutex_);
    if (closed_) return Errc::Closed;
    listened_ = address;
    port_ = fresh->port();
    listener_ = std::move(fresh);
    return {};
  }

  // ---- Running

  /// Begins to serve; `by_thread`: in a thread that the destructor can wait for. No error and no listener: it was
  /// closed before, so there is nothing to do.
  std::error_code begin_run(std::shared_ptr<server_listener>& listener, bool by_thread, std::string& why) {
    if (inherited()) return Errc::Closed;
    {
      std::unique_lock lock(mutex_);
      if (!has_handler()) return Errc::NoHandler;
      if (by_thread && !closed_ && !would_deadlock()) ended_.wait(lock, [this] { return !run_ends_; });
      if (closed_) return {};
      if (running_) {
        why = "the server is running already";
        return asio::error::already_started;
      }
      if (process_.is_inherited()) adopt();
      running_ = true;
      runs_in_thread_ = by_thread;
      if (by_thread) ++waited_for_;
    }
    std::error_code error;
    try {
      error = listen(false, why);
    } catch (const std::bad_alloc&) {
      error = no_memory_error();
    }
    if (!error) {
      const std::lock_guard lock(mutex_);
      listener = listener_;
    }
    if (listener == nullptr) {
      if (by_thread) end_accepting();
      end_run();
    }
    return error == Errc::Closed ? std::error_code() : error;
  }

  /// The thread of begin_run() has ended accepting.
  void end_accepting() noexcept {
    const std::lock_guard lock(mutex_);
    --waited_for_;
    ended_.notify_all();
  }

  void end_run() noexcept {
    const std::lock_guard lock(mutex_);
    running_ = runs_in_thread_ = run_ends_ = false;
    ended_.notify_all();
  }

  /// Where a blocking call would wait for itself.
  bool would_deadlock() const noexcept { return on_runtime_thread() || server_of_this_thread() == this; }

  /// Whether the handlers run on the io threads of the default Runtime, and not in threads of their own.
  bool serves_on_runtime() const {
    const std::lock_guard lock(mutex_);
    return !option_->Conn.Executor && (handler_ ? handler_.is_coroutine() : pkg_handlers_ != nullptr);
  }

  /// Waits until every handler has ended.
  void wait_sessions() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return sessions_ == 0; });
  }

  /// Waits until every handler has ended, and the thread that served, so that the server can be started anew. (The end
  /// of an AsyncRun is told by its completion.) False: not in time.
  bool wait_end(clock::time_point until) {
    std::unique_lock lock(mutex_);
    const auto is_over = [this] { return sessions_ == 0 && !runs_in_thread_; };
    if (until != no_deadline) return ended_.wait_until(lock, until, is_over);
    ended_.wait(lock, is_over);
    return true;
  }

  bool has_sessions() const {
    const std::lock_guard lock(mutex_);
    return sessions_ != 0;
  }

  void set_runner(server_runner* runner) {
    const std::lock_guard lock(mutex_);
    runner_ = runner;
  }

  /// Serves a connection that `listener` has accepted: in a thread of its own, or as a coroutine on `executor` (empty:
  /// on the default Runtime).
  void serve(server_listener& listener, const accepted_socket& accepted, const asio::any_io_executor& executor) {
    descriptor_guard guard(accepted.descriptor);
    Conn conn;
    place entered(*this);
    try {
      server_handler handler;
      std::shared_ptr<const pkg_handlers> pkg_handlers;
      std::shared_ptr<const ServerOption> option;
      std::shared_ptr<const server_layer> layer;
      std::shared_ptr<receive_memory> memory;
      {
        const std::lock_guard lock(mutex_);
        handler = handler_;
        pkg_handlers = handler_ ? nullptr : pkg_handlers_;
        option = option_;
        layer = layer_;
        memory = shared_memory();
      }
      const bool pumps = pkg_handlers != nullptr && pkg_handlers->on_pkg;
      if (!handler && !pumps) return;
      if (const char* const refused = entered.take(*option, accepted.peer)) {
        close_socket(guard.release(), true);
        log(LogLevel::Warning, [refused] { return std::string("connection refused: ") + refused; });
        return;
      }
      ConnOption settings = option->Conn;
      if (!settings.Executor) settings.Executor = executor;
      const bool own_threads = !settings.Executor;
      const bool by_thread = !pumps && !handler.is_coroutine();
      if (const std::error_code error = listener.apply(settings, accepted)) {
        log(LogLevel::Warning, [&error] { return "connection refused, its options can't be set: " + error.message(); });
        return;
      }
      auto wrapped = layer != nullptr ? layer->wrap(accepted.descriptor) : nullptr;
      conn = make_conn(guard.release(), settings, std::move(wrapped), accepted.peer);
      const bool waited_for = own_threads || by_thread;
      watch(conn, *option, std::move(memory));
      auto session = std::make_unique<server_session>(shared_from_this(), std::move(handler), std::move(pkg_handlers),
                                                      conn, std::move(layer), entered.source(), waited_for);
      if (!enter(*session)) return;
      entered.release();
      log(
          LogLevel::Debug, [&conn] { return "connection from [" + conn.RemoteAddr() + "]"; }, conn.Id());
      if (pumps) {
        server_session::pump(std::move(session));
      } else if (!by_thread) {
        const asio::any_io_executor io = conn.get_executor();
        asio::co_spawn(io, server_session::serve(std::move(session)), asio::detached);
      } else {
        threads_->run(std::move(session));
      }
    } catch (...) {
      report(conn, caught_exception());
    }
  }

  // ---- Observing

  ServerStats stats() const {
    ServerStats all;
    if (process_.is_inherited()) return all;  // the parent's, and what it counts may be locked for ever
    std::shared_ptr<const conn_ledger> ledger;
    {
      const std::lock_guard lock(mutex_);
      all = gate_.stats();
      ledger = ledger_;
    }
    all.Conns = ledger->sum();
    return all;
  }

  /// Calls the log, if there is one, with what `text` makes.
  template <class Text>
  void log(LogLevel level, const Text& text, std::uint64_t conn_id = 0) const noexcept {
    try {
      const std::shared_ptr<const ServerOption> settings = option();
      if (settings->Log) settings->Log(level, text(), conn_id);
    } catch (...) {  // a log must not cost a connection
    }
  }

  void note_accept_error(const std::error_code& error) {
    {
      const std::lock_guard lock(mutex_);
      gate_.note_accept_error();
    }
    log(LogLevel::Warning, [&error] { return "cannot accept: " + error.message(); });
  }

  // ---- Closing

  /// Stops listening and lets connections come to an end: what waits between packages is woken with Errc::Draining.
  /// What is not done at `until` is cut off.
  ShutdownResult shutdown(clock::time_point until) {
    ShutdownResult result;
    if (inherited()) return result;
    std::vector<std::shared_ptr<conn_state>> conns = refuse_and_list();
    std::erase_if(conns, [](const auto& conn) { return conn->detached() || (conn->closed() && conn->delivered()); });
    stop_listening();
    log(LogLevel::Info, [&conns] { return "shutting down with " + std::to_string(conns.size()) + " connections"; });
    for (const std::shared_ptr<conn_state>& conn : conns) conn->drain();
    if (would_deadlock()) {
      // The handlers that are waited for may need this very thread.
      const std::error_code error = start_background_thread(
          [self = shared_from_this(), conns, until] { static_cast<void>(self->end_draining(conns, until)); });
      if (error) throw std::system_error(error, "Server::Shutdown");
      return result;
    }
    return end_draining(conns, until);
  }

  /// Stops listening and closes every connection that is being served, but for detached ones. Any number of times, from
  /// any thread.
  void close() noexcept {
    if (inherited()) return abandon_inherited();
    stop_listening();
    std::unique_lock lock(mutex_);
    while (first_ != nullptr && !first_->closed_by_server_) {
      server_session& session = *first_;
      const std::shared_ptr<conn_state> conn = session.state_;
      session.closed_by_server_ = true;
      unlink(session);
      link_last(session);
      if (conn->detached()) continue;
      lock.unlock();
      conn->close(false);
      lock.lock();
    }
  }

  /// Closes and waits until every handler has ended and everything is delivered: of the connections that are being
  /// served, and of those that still deliver what their handlers have left.
  std::error_code close_and_wait(clock::time_point until, bool& delivered) {
    delivered = false;
    std::vector<std::shared_ptr<conn_state>> conns;
    if (!inherited()) conns = refuse_and_list();
    close();
    if (would_deadlock()) return Errc::WouldDeadlock;
    if (inherited()) return Errc::Closed;
    if (!wait_end(until)) return Errc::Timeout;
    delivered = true;
    for (const std::shared_ptr<conn_state>& conn : conns) {
      if (!conn->closed()) continue;  // detached
      std::error_code error;
      if (!conn->wait_closed(until, error)) delivered = false;
      if (error) return error;
    }
    return {};
  }

  /// The last handle is gone. Handlers may refer to what is destroyed next, so waits for them where that can be done.
  void abandon() noexcept {
    if (process_.is_inherited()) return abandon_inherited();
    close();
    if (would_deadlock()) return;
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return waited_for_ == 0; });
  }

  /// Tells the error callback; `conn` may be none.
  void report(const Conn& conn, std::exception_ptr failure) {
    std::shared_ptr<const ServerOption> settings;
    {
      const std::lock_guard lock(mutex_);
      settings = option_;
      if (conn) gate_.note_exception();
    }
    const char* const failed = conn ? "a handler failed: " : "the server failed: ";
    log(
        LogLevel::Error, [&] { return failed + what(failure); }, conn ? conn.Id() : 0);
    try {
      if (settings->ErrorCallback) return settings->ErrorCallback(conn, failure);
    } catch (...) {
      print(conn, "the error callback of a server failed: ", caught_exception());
    }
    print(conn, conn ? "a server's handler failed: " : "a server failed: ", failure);
  }

 private:
  friend class server_session;

  static std::string what(const std::exception_ptr& failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      return error.what();
    } catch (...) {
      return "exception of unknown type";
    }
  }

  static void print(const Conn& conn, const char* failed, const std::exception_ptr& failure) noexcept {
    try {
      const std::string peer = conn ? "[" + conn.RemoteAddr() + "] " : std::string();
      std::fprintf(stderr, "gtcp: %s%s%s\n", peer.c_str(), failed, what(failure).c_str());
    } catch (const std::exception&) {  // no memory for the line
    }
  }

  /// A connection's place at the gate, until a session has it.
  class place {
   public:
    explicit place(server_state& server) : server_(server) {}
    ~place() {
      if (!taken_) return;
      const std::lock_guard lock(server_.mutex_);
      try {
        server_.gate_.turn_away(source_, "error");
      } catch (const std::bad_alloc&) {  // for the name of the reason; all else is done before
      }
    }
    place(const place&) = delete;
    place& operator=(const place&) = delete;

    const char* take(const ServerOption& option, const socket_address& peer) {
      if (option.MaxConnsPerAddress != 0) source_ = source_address::of(peer);
      const std::lock_guard lock(server_.mutex_);
      const char* const refused = server_.gate_.enter(option, source_);
      taken_ = refused == nullptr;
      return refused;
    }
    const source_address& source() const noexcept { return source_; }
    void release() noexcept { taken_ = false; }

   private:
    server_state& server_;
    source_address source_;
    bool taken_ = false;
  };

  /// Under the mutex: the memory that connections share from now on, if it has a limit.
  std::shared_ptr<receive_memory> shared_memory() {
    const std::size_t max = option_->MaxReceiveMemory;
    if (max == 0)
      memory_ = nullptr;
    else if (memory_ == nullptr || memory_->max != max)
      memory_ = std::make_shared<receive_memory>(max);
    return memory_;
  }

  /// Counts the connection, and has its limits looked after. Before it is shared.
  void watch(const Conn& conn, const ServerOption& option, std::shared_ptr<receive_memory> memory) {
    const std::shared_ptr<conn_state> state = conn_access::state(conn);
    const peer_limits::times times{clock_duration(option.FirstPkgTimeout), clock_duration(option.IdleTimeout),
                                   clock_duration(option.PkgTimeout), clock_duration(option.SendStallTimeout)};
    std::unique_ptr<peer_limits> limits;
    if (times.any() || memory != nullptr) limits = std::make_unique<peer_limits>(times, std::move(memory));
    state->serve(ledger_, std::move(limits));
    if (times.any()) watchdog_->watch(state, times.first_look());
  }

  void stop_listening() noexcept {
    std::shared_ptr<server_listener> listener;
    std::shared_ptr<session_threads> threads;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      run_ends_ = running_ && runs_in_thread_;
      listener = std::move(listener_);
      threads = threads_;
    }
    if (listener != nullptr) listener->close();
    threads->close();
  }

  /// Waits for the connections that drain, and cuts off those that are not done in time.
  ShutdownResult end_draining(const std::vector<std::shared_ptr<conn_state>>& conns, clock::time_point until) {
    ShutdownResult result;
    result.Complete = true;
    wait_end(until);
    for (const std::shared_ptr<conn_state>& conn : conns) {
      if (conn->detached()) continue;  // meanwhile
      std::error_code error;
      if (conn->closed() && conn->wait_closed(until, error) && !error) {
        ++result.Drained;
      } else {
        conn->close(true, Errc::Draining);
        ++result.Cut;
      }
    }
    log(LogLevel::Info, [&result] {
      return "shut down: " + std::to_string(result.Drained) + " connections drained, " + std::to_string(result.Cut) +
             " cut off";
    });
    return result;
  }

  /// A child's copy of a server of its parent's: nothing of it is ours but the descriptor.
  void abandon_inherited() noexcept {
    if (listener_ != nullptr) listener_->abandon();
  }

  /// Under the mutex: makes a child's copy its own. What other threads lock is made anew; connections of the parent's
  /// stay with the old ledger.
  void adopt() {
    auto ledger = std::make_shared<conn_ledger>();
    auto threads = std::make_shared<session_threads>();
    auto dog = std::make_shared<watchdog>();
    ledger_ = std::move(ledger);
    threads_ = std::move(threads);
    watchdog_ = std::move(dog);
    leaving_.clear();
    look_at_leaving_ = 0;
    process_.adopt();
  }

  /// Whether this is a child's copy of a server that its parent runs.
  bool inherited() const noexcept { return process_.is_inherited() && (running_ || sessions_ != 0); }

  /// Lets no connection come any more, and returns those that have not ended yet.
  std::vector<std::shared_ptr<conn_state>> refuse_and_list() {
    std::vector<std::shared_ptr<conn_state>> conns;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      for (const server_session* session = first_; session != nullptr; session = session->next_) {
        conns.push_back(session->state_);
      }
      for (const std::weak_ptr<conn_state>& weak : leaving_) {
        if (auto conn = weak.lock()) conns.push_back(std::move(conn));
      }
    }
    // Of which the program may have kept a handle.
    std::erase_if(conns, [](const std::shared_ptr<conn_state>& conn) { return conn->has_ended(); });
    return conns;
  }

  /// False: the server was closed meanwhile.
  bool enter(server_session& session) {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    session.entered_ = true;
    ++sessions_;
    if (session.waited_for_) ++waited_for_;
    link_first(session);
    return true;
  }

  /// From here on nobody finds it any more.
  void leave(server_session& session, bool is_leaving) noexcept {
    const std::error_code reason = session.state_->close_reason();
    log(
        LogLevel::Debug,
        [&] { return "connection from [" + session.state_->remote_address() + "] ended: " + reason_name(reason); },
        session.state_->id());
    const std::lock_guard lock(mutex_);
    try {
      gate_.leave(session.source_, reason);
    } catch (const std::bad_alloc&) {  // for the name of the reason; all else is done before
    }
    unlink(session);
    if (!is_leaving) return;
    if (leaving_.size() >= look_at_leaving_) {  // what has expired keeps the memory of its connection
      std::erase_if(leaving_, [](const std::weak_ptr<conn_state>& weak) { return weak.expired(); });
      look_at_leaving_ = 2 * leaving_.size() + 16;
    }
    try {
      leaving_.push_back(session.state_);
    } catch (const std::bad_alloc&) {  // close_and_wait() will not wait for this one
    }
  }

  void left(bool waited_for) noexcept {
    const std::lock_guard lock(mutex_);
    if (waited_for) --waited_for_;
    if (--sessions_ == 0 && runner_ != nullptr) runner_->sessions_ended();
    if (sessions_ == 0 || waited_for_ == 0) ended_.notify_all();
  }

  // Those whose connection the server has closed stand behind the others.
  void link_first(server_session& session) noexcept {
    session.next_ = first_;
    session.previous_ = nullptr;
    (first_ != nullptr ? first_->previous_ : last_) = &session;
    first_ = &session;
  }
  void link_last(server_session& session) noexcept {
    session.next_ = nullptr;
    session.previous_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = &session;
    last_ = &session;
  }
  void unlink(server_session& session) noexcept {
    (session.previous_ != nullptr ? session.previous_->next_ : first_) = session.next_;
    (session.next_ != nullptr ? session.next_->previous_ : last_) = session.previous_;
  }

  /// Under the mutex.
  bool has_handler() const noexcept { return handler_ || pkg_handlers_->on_pkg; }

  /// Under the mutex; returns the old ones, which are to be destroyed outside of it.
  template <class Change>
  std::shared_ptr<const pkg_handlers> change_pkg_handlers(const Change& change) {
    auto fresh = std::make_shared<pkg_handlers>(*pkg_handlers_);
    change(*fresh);
    return std::exchange(pkg_handlers_, std::move(fresh));
  }

  process_mark process_;  ///< of who runs it, or has run it last
  mutable std::mutex mutex_;
  std::mutex opening_mutex_;

  std::string address_;
  server_handler handler_;
  std::shared_ptr<const pkg_handlers> pkg_handlers_ = std::make_shared<pkg_handlers>();  ///< where there is no handler_
  std::shared_ptr<const ServerOption> option_;
  std::shared_ptr<const server_layer> layer_;

  std::shared_ptr<server_listener> listener_;
  std::string listened_;  ///< the address as it was when listening began
  int port_ = -1;
  bool closed_ = false;
  bool running_ = false;
  bool runs_in_thread_ = false;
  bool run_ends_ = false;  ///< the thread that runs was closed, and waits for its handlers
  server_runner* runner_ = nullptr;

  server_session* first_ = nullptr;
  server_session* last_ = nullptr;
  std::size_t sessions_ = 0;
  std::size_t waited_for_ = 0;
  std::condition_variable ended_;
  std::vector<std::weak_ptr<conn_state>> leaving_;  ///< connections whose handler has ended, which may still deliver
  std::size_t look_at_leaving_ = 0;                 ///< when there are so many of them

  server_gate gate_;
  std::shared_ptr<receive_memory> memory_;
  // Changed by a child process alone, before it serves.
  std::shared_ptr<conn_ledger> ledger_ = std::make_shared<conn_ledger>();
  std::shared_ptr<session_threads> threads_ = std::make_shared<session_threads>();
  std::shared_ptr<watchdog> watchdog_ = std::make_shared<watchdog>();
};

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/server_serve.hpp>
#endif

#endif
