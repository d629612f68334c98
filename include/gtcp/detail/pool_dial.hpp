// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_POOL_DIAL_HPP
#define GTCP_DETAIL_POOL_DIAL_HPP

// How one gets a connection out of the pool: wait for a turn, take the idle connection that came with it if it is
// alive, else open another one. All of it has one deadline, the dialer's.

#include <gtcp/conn.hpp>
#include <gtcp/detail/cancel_relay.hpp>
#include <gtcp/detail/conn_pool.hpp>
#include <gtcp/detail/dialer.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/pool_option.hpp>

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <asio/this_coro.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// What somebody wants of the pool.
struct pool_request {
  std::string address;
  std::chrono::nanoseconds timeout;
  PoolOption option;

  /// Connections with the same key are as good as each other.
  std::string key() const {
    const ConnOption& conn = option.Conn;
    std::string text = address + '\n' + conn.LocalAddress + '\n';
    const auto add = [&text](auto value) { text += std::to_string(value) + ' '; };
    add(static_cast<int>(conn.NoDelay));
    add(static_cast<int>(conn.KeepAlive));
    add(conn.KeepAliveIdle.count());
    add(conn.KeepAliveInterval.count());
    add(conn.KeepAliveCount);
    add(conn.RecvBufferSize);
    add(conn.SendBufferSize);
    return text;
  }

  std::error_code check(std::string& why) const { return detail::check(option, why); }

  std::string describe(const char* name, const std::error_code& error) const {
    std::string why;
    if (check(why)) return std::string(name) + ": " + why;
    dialer described(address, option.Conn, timeout);
    static_cast<void>(described.begin());
    return described.describe(name) + (error == Errc::Timeout ? limit_text() : "");
  }

  std::string limit_text() const {
    return option.MaxConns == 0 ? "" : " (at most " + std::to_string(option.MaxConns) + " connections)";
  }
};

/// A connection's tie to the pool that lent it.
class pool_lease final : public conn_lease {
 public:
  pool_lease(conn_pool& pool, conn_pool::group& of, pool_request request, bool reused)
      : conn_lease(reused, request.option.ReuseUnanswered), pool_(pool), group_(of), request_(std::move(request)) {}

  void give_back(raw_connection connection) noexcept override {
    pool_.give_back(group_, std::move(connection), request_.option.IdleTime, request_.option.Conn.Linger);
  }

  void lose() noexcept override {
    closing_.request_stop();
    pool_.lose(group_);
  }

  bool renew(conn_state& conn, clock::time_point until) override {
    dialer dial(request_.address, request_.option.Conn, time_for_dialing(until));
    native_socket descriptor = invalid_native_socket;
    if (dial.begin() || dial_blocking(dial, closing_.get_token(), descriptor)) return false;
    return replace(conn, descriptor);
  }

  void start_renewal(std::shared_ptr<conn_state> conn, clock::time_point until, std::function<void()> done) override {
    const asio::any_io_executor strand = asio::make_strand(inner_executor(conn->executor()));
    const auto job = std::make_shared<renewal>();
    // On the strand from the beginning: a signal must not be emitted while its slot is being filled.
    asio::post(strand, [this, job, strand, until, conn = std::move(conn), done = std::move(done)]() mutable {
      if (closing_.stop_requested()) return done();
      job->on_close.emplace(closing_.get_token(), renewal::canceller{strand, job});
      const auto slot = job->cancel.slot();
      asio::co_spawn(strand, await_renewal(*this, std::move(conn), time_for_dialing(until), strand),
                     asio::bind_cancellation_slot(slot, [job, done = std::move(done)](const std::exception_ptr&) {
                       job->on_close.reset();
                       done();
                     }));
    });
  }

 private:
  /// A renewal that goes on, and how closing ends it.
  struct renewal {
    struct canceller {
      asio::any_io_executor strand;
      std::weak_ptr<renewal> job;
      void operator()() const {
        asio::post(strand, [weak = job] {
          if (const auto self = weak.lock()) self->cancel.emit(asio::cancellation_type::terminal);
        });
      }
    };

    asio::cancellation_signal cancel;
    std::optional<std::stop_callback<canceller>> on_close;
  };

  static asio::awaitable<void> await_renewal(pool_lease& self, std::shared_ptr<conn_state> conn,
                                             std::chrono::nanoseconds timeout, asio::any_io_executor strand) {
    dialer dial(self.request_.address, self.request_.option.Conn, timeout);
    if (dial.begin()) co_return;
    native_socket descriptor = invalid_native_socket;
    auto dialing = dial_async(dial, strand, descriptor);
    const std::error_code error = co_await std::move(dialing);
    if (!error) static_cast<void>(self.replace(*conn, descriptor));
  }

  /// Owns the descriptor, and the old one after it.
  bool replace(conn_state& conn, native_socket descriptor) {
    descriptor_guard guard(descriptor);
    raw_connection fresh(descriptor, std::make_unique<plain_transport>(descriptor));
    guard.release();
    return conn.replace(fresh);
  }

  /// Zero is no limit.
  std::chrono::nanoseconds time_for_dialing(clock::time_point until) const {
    if (until == no_deadline) return request_.timeout;
    const auto left = std::max<std::chrono::nanoseconds>(until - clock::now(), std::chrono::nanoseconds(1));
    return request_.timeout.count() == 0 ? left : std::min(left, request_.timeout);
  }

  conn_pool& pool_;
  conn_pool::group& group_;
  const pool_request request_;
  std::stop_source closing_;
};

/// Holds the right to one connection, until that is lent.
class pool_place {
 public:
  pool_place(conn_pool& pool, conn_pool::turn& granted)
      : pool_(pool), group_(granted.group), idle_(std::move(granted.connection)) {}
  ~pool_place() {
    if (group_ == nullptr) return;
    if (idle_) close_gently(std::move(idle_), ConnOption().Linger);
    pool_.lose(*group_);
  }
  pool_place(const pool_place&) = delete;
  pool_place& operator=(const pool_place&) = delete;

  /// Lends the idle connection, or another idle one, if there is one that is alive.
  bool lend_idle(const pool_request& request, Conn& lent) {
    while (idle_) {
      char byte = 0;
      if (is_quiet(idle_.layer().read_some(asio::buffer(&byte, 1)))) {
        lent = lend(request, idle_, true);
        return true;
      }
      close_gently(std::exchange(idle_, {}), request.option.Conn.Linger);
      pool_.take_idle_instead(*group_, idle_);
    }
    return false;
  }

  /// Lends a connection that was just made; owns the descriptor.
  Conn lend_fresh(const pool_request& request, native_socket descriptor) {
    descriptor_guard guard(descriptor);
    raw_connection fresh(descriptor, std::make_unique<plain_transport>(descriptor));
    guard.release();
    return lend(request, fresh, false);
  }

 private:
  Conn lend(const pool_request& request, raw_connection& connection, bool reused) {
    auto lease = std::make_unique<pool_lease>(pool_, *group_, request, reused);
    auto state = std::make_shared<conn_state>(connection.descriptor(), request.option.Conn, connection.take_layer());
    connection.release();
    state->lend(std::move(lease));
    group_ = nullptr;  // the state's now
    return conn_access::make(std::move(state));
  }

  conn_pool& pool_;
  conn_pool::group* group_;
  raw_connection idle_;
};

// ---- Blocking

inline std::error_code take_from_pool(const pool_request& request, const std::stop_token& stop, Conn& lent) {
  std::string ignored;
  if (const auto ec = request.check(ignored)) return ec;
  dialer dial(request.address, request.option.Conn, request.timeout);
  if (const auto ec = dial.begin()) return ec;
  if (on_runtime_thread()) return Errc::WouldDeadlock;
  conn_pool& pool = conn_pool::instance();
  conn_pool::thread_turn turn(request.option.MaxConns);
  if (const auto ec = pool.ask_and_wait(request.key(), turn, dial.deadline(), stop)) return ec;
  pool_place place(pool, turn);
  if (place.lend_idle(request, lent)) return {};
  native_socket descriptor = invalid_native_socket;
  if (const auto ec = dial_blocking(dial, stop, descriptor)) return ec;
  lent = place.lend_fresh(request, descriptor);
  return {};
}

// ---- Asynchronous

/// A coroutine's turn, which it may leave at any time. Used on one strand.
class async_turn final : public conn_pool::turn {
 public:
  async_turn(conn_pool& pool, std::size_t max_conns, const asio::any_io_executor& strand)
      : turn(max_conns), pool_(pool), bell_(std::make_shared<bell>(strand)) {}
  ~async_turn() {
    if (!asked_) return;
    if (!waits_ || !pool_.withdraw(*this)) {
      const pool_place unused(pool_, *this);  // it was granted, and nobody wants it any more
    }
  }
  async_turn(const async_turn&) = delete;
  async_turn& operator=(const async_turn&) = delete;

  /// Returns whether it was granted at once.
  bool ask(const std::string& key) {
    waits_ = !pool_.ask(key, *this);
    asked_ = true;
    return !waits_;
  }

  asio::steady_timer& gate() noexcept { return bell_->gate; }

  /// Whether it was granted; if not it is not asked for any longer.
  bool end_waiting() {
    if (!waits_) return true;
    asked_ = !pool_.withdraw(*this);
    waits_ = false;
    return asked_;
  }

  /// The place is its taker's now.
  void taken() noexcept { asked_ = false; }

  std::shared_ptr<conn_pool::waker> granted() noexcept override { return bell_; }

 private:
  struct bell final : conn_pool::waker, std::enable_shared_from_this<bell> {
    explicit bell(const asio::any_io_executor& executor) : strand(executor), gate(executor) {}
    void wake() noexcept override {
      asio::post(strand, [self = shared_from_this()] { self->gate.cancel(); });
    }
    asio::any_io_executor strand;
    asio::steady_timer gate;
  };

  conn_pool& pool_;
  std::shared_ptr<bell> bell_;
  bool asked_ = false;
  bool waits_ = false;
};

/// What an asynchronous request works on, until its handler is called.
struct pool_job {
  explicit pool_job(pool_request wanted)
      : request(std::move(wanted)), dial(request.address, request.option.Conn, request.timeout) {}

  std::error_code begin() {
    std::string ignored;
    error = request.check(ignored);
    if (!error) error = dial.begin();
    return error;
  }

  pool_request request;
  dialer dial;
  std::error_code error;
  Conn lent;
};

inline asio::awaitable<void> await_from_pool(std::shared_ptr<pool_job> job, asio::any_io_executor strand) {
  auto enabling = asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  co_await std::move(enabling);
  conn_pool& pool = conn_pool::instance();
  async_turn turn(pool, job->request.option.MaxConns, strand);
  if (!turn.ask(job->request.key())) {
    std::error_code ended;
    turn.gate().expires_at(job->dial.deadline());
    auto waiting = turn.gate().async_wait(asio::redirect_error(asio::use_awaitable, ended));
    co_await std::move(waiting);
    if (!turn.end_waiting()) {
      job->error = ended ? make_error_code(asio::error::operation_aborted) : make_error_code(Errc::Timeout);
      co_return;
    }
  }
  pool_place place(pool, turn);
  turn.taken();
  if (place.lend_idle(job->request, job->lent)) co_return;
  native_socket descriptor = invalid_native_socket;
  auto dialing = dial_async(job->dial, strand, descriptor);
  job->error = co_await std::move(dialing);
  if (!job->error) job->lent = place.lend_fresh(job->request, descriptor);
}

/// Completes with void(std::error_code, Result), where Result is made of a Conn.
template <class Result>
struct initiate_from_pool {
  template <class Handler>
  void operator()(Handler&& handler, pool_request request) const {
    using handler_type = std::decay_t<Handler>;
    asio::any_io_executor& io = request.option.Conn.Executor;
    if (!io) io = Runtime::Default().get_executor();
    const asio::any_io_executor strand = asio::make_strand(inner_executor(io));
    const auto relay = cancel_relay::make(asio::get_associated_cancellation_slot(handler), strand);
    const auto pending = std::make_shared<pending_handler<handler_type>>(handler_type(std::move(handler)), io);
    const auto job = std::make_shared<pool_job>(std::move(request));
    if (job->begin()) return std::move(*pending).complete(false, job->error, Result());
    asio::co_spawn(
        strand, await_from_pool(job, strand),
        asio::bind_cancellation_slot(relay->slot(), [pending, job, relay](const std::exception_ptr& failure) {
          if (failure && !job->lent) job->error = dial_error(failure);
          Result lent(std::exchange(job->lent, {}));
          std::move(*pending).complete(false, job->error, std::move(lent));
        }));
  }
};

}  // namespace gtcp::detail

#endif
