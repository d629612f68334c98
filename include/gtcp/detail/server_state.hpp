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
#include <gtcp/detail/server_config.hpp>
#include <gtcp/detail/server_gate.hpp>
#include <gtcp/detail/server_handler.hpp>
#include <gtcp/detail/server_listener.hpp>
#include <gtcp/detail/server_report.hpp>
#include <gtcp/detail/server_session.hpp>
#include <gtcp/detail/session_list.hpp>
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
      : config_(mutex_, address, std::move(handler), option) {}

  server_config& config() noexcept { return config_; }

  int listened_port() const {
    const std::lock_guard lock(mutex_);
    return port_;
  }
  std::string listened_address() const {
    constexpr std::string_view free_port = ":0";
    const std::string address = config_.address();
    const std::lock_guard lock(mutex_);
    const std::string& text = listened_.empty() ? address : listened_;
    if (port_ < 0 || !text.ends_with(free_port)) return text;
    return text.substr(0, text.size() - 1) + std::to_string(port_);
  }

  // ---- Listening

  /// Listens unless it does already. With `reopen` also after close().
  std::error_code listen(bool reopen, std::string& why) {
    const std::lock_guard one_at_a_time(opening_mutex_);
    if (!config_.has_handler()) return Errc::NoHandler;
    {
      const std::lock_guard lock(mutex_);
      if (reopen) closed_ = false;
      if (closed_) return Errc::Closed;
      if (listener_ != nullptr) return {};
    }
    const std::string address = config_.address();
    const std::shared_ptr<const ServerOption> option = config_.option();
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
    if (!config_.has_handler()) return Errc::NoHandler;
    {
      std::unique_lock lock(mutex_);
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
    gate_place entered(mutex_, gate_);
    try {
      service by = config_.now();
      const bool pumps = by.pumps();
      if (!by.handler && !pumps) return;
      if (const char* const refused = entered.take(*by.option, accepted.peer)) {
        close_socket(guard.release(), true);
        log(LogLevel::Warning, [refused] { return std::string("connection refused: ") + refused; });
        return;
      }
      ConnOption option = by.option->Conn;
      if (!option.Executor) option.Executor = executor;
      const bool own_threads = !option.Executor;
      const bool by_thread = !pumps && !by.handler.is_coroutine();
      if (const std::error_code error = listener.apply(option, accepted)) {
        log(LogLevel::Warning, [&error] { return "connection refused, its options can't be set: " + error.message(); });
        return;
      }
      auto wrapped = by.layer != nullptr ? by.layer->wrap(accepted.descriptor) : nullptr;
      conn = make_conn(guard.release(), option, std::move(wrapped), accepted.peer);
      const bool waited_for = own_threads || by_thread;
      watch(conn, *by.option, std::move(by.memory));
      auto session = std::make_unique<server_session>(shared_from_this(), std::move(by.handler), std::move(by.packages),
                                                      conn, std::move(by.layer), entered.source(), waited_for);
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
      const std::shared_ptr<const ServerOption> option = config_.option();
      if (option->Log) option->Log(level, text(), conn_id);
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
    while (const std::shared_ptr<conn_state> conn = conns_.next_to_close()) {
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
    if (conn) {
      const std::lock_guard lock(mutex_);
      gate_.note_exception();
    }
    const std::shared_ptr<const ServerOption> option = config_.option();
    const char* const failed = conn ? "a handler failed: " : "the server failed: ";
    log(
        LogLevel::Error, [&] { return failed + text_of(failure); }, conn ? conn.Id() : 0);
    try {
      if (option->ErrorCallback) return option->ErrorCallback(conn, failure);
    } catch (...) {
      print_failure(conn, "the error callback of a server failed: ", caught_exception());
    }
    print_failure(conn, conn ? "a server's handler failed: " : "a server failed: ", failure);
  }

 private:
  friend class server_session;

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
    conns_.forget_leaving();
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
      conns = conns_.all();
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
    conns_.add(session);
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
    conns_.remove(session);
    if (is_leaving) conns_.add_leaving(session.state_);
  }

  void left(bool waited_for) noexcept {
    const std::lock_guard lock(mutex_);
    if (waited_for) --waited_for_;
    if (--sessions_ == 0 && runner_ != nullptr) runner_->sessions_ended();
    if (sessions_ == 0 || waited_for_ == 0) ended_.notify_all();
  }

  process_mark process_;  ///< of who runs it, or has run it last
  mutable std::mutex mutex_;
  std::mutex opening_mutex_;
  server_config config_;

  std::shared_ptr<server_listener> listener_;
  std::string listened_;  ///< the address as it was when listening began
  int port_ = -1;
  bool closed_ = false;
  bool running_ = false;
  bool runs_in_thread_ = false;
  bool run_ends_ = false;  ///< the thread that runs was closed, and waits for its handlers
  server_runner* runner_ = nullptr;

  session_list conns_;
  std::size_t sessions_ = 0;
  std::size_t waited_for_ = 0;
  std::condition_variable ended_;

  server_gate gate_;
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
