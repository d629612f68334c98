// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_POOL_DIAL_HPP
#define GTCP_IMPL_POOL_DIAL_HPP

#include <gtcp/conn.hpp>
#include <gtcp/detail/conn_lease.hpp>
#include <gtcp/detail/conn_pool.hpp>
#include <gtcp/detail/context_end.hpp>
#include <gtcp/detail/guarded_wait.hpp>
#include <gtcp/detail/per_process.hpp>
#include <gtcp/detail/pool_dial.hpp>
#include <gtcp/detail/scarce_memory.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Gets a connection's socket with its transport out of it. Empty if there is already something that came.
class take_out final : public conn_lease {
 public:
  static raw_connection of(Conn& conn) {
    raw_connection taken;
    conn_access::state(conn)->lend(std::make_unique<take_out>(taken));
    conn.Close();  // gives it back at once, or not at all
    conn = {};
    return taken;
  }

  explicit take_out(raw_connection& taken) : conn_lease(false, true), taken_(taken) {}
  void give_back(raw_connection connection) noexcept override { taken_ = std::move(connection); }
  void lose() noexcept override {}
  bool renew(conn_state&, clock::time_point) override { return false; }
  void start_renewal(std::shared_ptr<conn_state>, clock::time_point, std::function<void()> done) override { done(); }

 private:
  raw_connection& taken_;
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
    const auto connecting = request_.connect(time_for_connecting(until));
    Conn fresh;
    return !connecting->begin() && !connecting->run(closing_.get_token(), fresh) && replace(conn, fresh);
  }

  void start_renewal(std::shared_ptr<conn_state> conn, clock::time_point until, std::function<void()> done) override {
    const asio::any_io_executor strand = serial_executor(inner_executor(conn->executor()));
    const auto job = std::make_shared<renewal>();
    job->done = std::move(done);
    // On the strand from the beginning: a signal must not be emitted while its slot is being filled.
    asio::post(strand, [this, job, strand, until, conn = std::move(conn)]() mutable {
      if (closing_.stop_requested()) return job->done();
      try {
        job->on_close.emplace(closing_.get_token(), renewal::canceller{strand, job});
        const auto slot = job->cancel.slot();
        asio::co_spawn(strand,
                       await_renewal(*this, std::move(conn), request_.connect(time_for_connecting(until)), strand),
                       asio::bind_cancellation_slot(slot, [job](const std::exception_ptr&) { job->end(); }));
      } catch (const std::exception&) {
        job->end();
      }
    });
  }

 private:
  /// A renewal that goes on, and how closing ends it.
  struct renewal {
    struct canceller {
      asio::any_io_executor strand;
      std::weak_ptr<renewal> job;
      void operator()() const {
        insist([this] {
          asio::post(strand, [weak = job] {
            if (const auto self = weak.lock()) self->cancel.emit(asio::cancellation_type::terminal);
          });
        });
      }
    };

    void end() {
      on_close.reset();
      const std::function<void()> call = std::move(done);
      call();
    }

    asio::cancellation_signal cancel;
    std::optional<std::stop_callback<canceller>> on_close;
    std::function<void()> done;
  };

  static asio::awaitable<void> await_renewal(pool_lease& self, std::shared_ptr<conn_state> conn,
                                             std::shared_ptr<connector> connecting, asio::any_io_executor strand) {
    if (connecting->begin()) co_return;
    Conn fresh;
    auto running = connecting->run(strand, fresh);
    const std::error_code error = co_await std::move(running);
    if (!error) static_cast<void>(self.replace(*conn, fresh));
  }

  static bool replace(conn_state& conn, Conn& fresh) {
    raw_connection taken = take_out::of(fresh);
    return taken && conn.replace(taken);  // owns the old one after it
  }

  /// Zero is no limit.
  std::chrono::nanoseconds time_for_connecting(clock::time_point until) const {
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
  pool_place(conn_pool& pool, conn_pool::permit& granted)
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
      const io_result got = idle_.layer().read_some(asio::buffer(&byte, 1));
      if (is_quiet(idle_.layer(), got)) {
        auto state = std::make_shared<conn_state>(idle_.descriptor(), request.option.Conn, idle_.take_layer());
        idle_.release();
        Conn reused = conn_access::make(std::move(state));
        lend(request, reused, true);
        lent = std::move(reused);
        return true;
      }
      close_gently(std::exchange(idle_, {}), request.option.Conn.Linger);
      pool_.take_idle_instead(*group_, idle_);
    }
    return false;
  }

  /// Lends a connection that was just made.
  void lend_fresh(const pool_request& request, const Conn& fresh) { lend(request, fresh, false); }

 private:
  void lend(const pool_request& request, const Conn& conn, bool reused) {
    auto lease = std::make_unique<pool_lease>(pool_, *group_, request, reused);
    conn_access::state(conn)->lend(std::move(lease));
    group_ = nullptr;  // the connection's now
  }

  conn_pool& pool_;
  conn_pool::group* group_;
  raw_connection idle_;
};

// ---- Blocking

inline std::error_code run(pool_job& job, const std::stop_token& stop) {
  if (const auto ec = job.begin()) return ec;
  if (on_runtime_thread()) return Errc::WouldDeadlock;
  const pool_request& request = job.request;
  conn_pool& pool = per_process<conn_pool>::instance();
  conn_pool::thread_permit permit(request.option.MaxConns);
  if (const auto ec = pool.ask_and_wait(request.key(), permit, job.connecting->deadline(), stop)) return ec;
  pool_place place(pool, permit);
  if (place.lend_idle(request, job.lent)) return {};
  Conn fresh;
  if (const auto ec = job.connecting->run(stop, fresh)) return ec;
  place.lend_fresh(request, fresh);
  job.lent = std::move(fresh);
  return {};
}

GTCP_DECL Conn take_from_pool(pool_request request, const char* name, const OnError& on_error,
                              const std::stop_token& stop) {
  pool_job job(std::move(request));
  job.error = run(job, stop);
  on_error.Report(job.error, [&] { return job.describe(name); });
  return std::move(job.lent);
}

// ---- Asynchronous

/// A coroutine's permit, which it may leave at any time. Used on one strand.
class async_permit final : public conn_pool::permit {
 public:
  async_permit(conn_pool& pool, std::size_t max_conns, const asio::any_io_executor& strand)
      : permit(max_conns), pool_(pool), bell_(std::make_shared<strand_bell>(strand)) {
    bell_->join_context();
  }
  ~async_permit() {
    if (asked_ && (!waits_ || !pool_.withdraw(*this))) {
      const pool_place unused(pool_, *this);  // it was granted, and nobody wants it any more
    }
    bell_->end();
  }
  async_permit(const async_permit&) = delete;
  async_permit& operator=(const async_permit&) = delete;

  /// Returns whether it was granted at once.
  bool ask(const std::string& key) {
    waits_ = !pool_.ask(key, *this);
    asked_ = true;
    return !waits_;
  }

  asio::steady_timer& timer() noexcept { return bell_->timer(); }

  /// Whether it was granted; if not it is not asked for any longer.
  bool end_waiting() {
    if (!waits_) return true;
    asked_ = !pool_.withdraw(*this);
    waits_ = false;
    return asked_;
  }

  /// The place is its taker's now.
  void taken() noexcept { asked_ = false; }

  std::shared_ptr<conn_pool::bell> granted() noexcept override { return bell_; }

 private:
  /// Ends the wait for the permit. The pool may still have it when the permit, and its context, are gone: then it must
  /// not touch what belongs to that.
  class strand_bell final : public conn_pool::bell, public std::enable_shared_from_this<strand_bell> {
   public:
    explicit strand_bell(const asio::any_io_executor& strand) : strand_(strand), timer_(std::in_place, strand) {}

    void join_context() { membership_.emplace(strand_, shared_from_this()); }
    asio::steady_timer& timer() noexcept { return *timer_; }

    void ring() noexcept override {
      insist([this] {
        const std::lock_guard lock(mutex_);
        if (!rings_) return;
        asio::post(strand_, [self = shared_from_this()] {
          if (self->timer_) self->timer_->cancel();
        });
      });
    }

    /// The context runs nothing any more. Posting to it while it destroys what it has would be a race.
    void on_context_end() noexcept {
      const std::lock_guard lock(mutex_);
      rings_ = false;
    }

    /// On the strand, or when that is being destroyed.
    void end() noexcept {
      const std::lock_guard lock(mutex_);
      rings_ = false;
      timer_.reset();
      strand_ = {};
    }

   private:
    std::mutex mutex_;
    bool rings_ = true;
    asio::any_io_executor strand_;
    std::optional<asio::steady_timer> timer_;  ///< used on the strand
    std::optional<context_membership> membership_;
  };

  conn_pool& pool_;
  std::shared_ptr<strand_bell> bell_;
  bool asked_ = false;
  bool waits_ = false;
};

GTCP_DECL asio::awaitable<void> pool_job::run(std::shared_ptr<pool_job> self, asio::any_io_executor strand) {
  auto enabling = asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  co_await std::move(enabling);
  conn_pool& pool = per_process<conn_pool>::instance();
  async_permit permit(pool, self->request.option.MaxConns, strand);
  if (!permit.ask(self->request.key())) {
    std::error_code ended;
    permit.timer().expires_at(self->connecting->deadline());
    const auto begin = [&permit](auto&& handler) { permit.timer().async_wait(std::move(handler)); };
    auto waiting = async_guarded(strand, begin, asio::redirect_error(asio::use_awaitable, ended));
    co_await std::move(waiting);
    if (!permit.end_waiting()) {
      self->error = !ended                                    ? make_error_code(Errc::Timeout)
                    : ended == asio::error::operation_aborted ? make_error_code(asio::error::operation_aborted)
                                                              : ended;
      co_return;
    }
  }
  pool_place place(pool, permit);
  permit.taken();
  if (place.lend_idle(self->request, self->lent)) co_return;
  Conn fresh;
  auto running = self->connecting->run(strand, fresh);
  self->error = co_await std::move(running);
  if (self->error) co_return;
  place.lend_fresh(self->request, fresh);
  self->lent = std::move(fresh);
}

GTCP_DECL std::string pool_request::key() const {
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
  if (layer != nullptr) text += layer->identity();
  return text;
}

GTCP_DECL std::shared_ptr<connector> pool_request::connect(std::chrono::nanoseconds within) const {
  if (layer != nullptr) return layer->connect(address, within, option.Conn);
  return std::make_shared<connector>(address, within, option.Conn);
}

GTCP_DECL pool_job::pool_job(pool_request wanted)
    : request(std::move(wanted)), connecting(request.connect(request.timeout)) {}

GTCP_DECL std::error_code pool_job::begin() {
  error = check(request.option, why);
  if (!error) error = connecting->begin();
  return error;
}

GTCP_DECL std::string pool_job::describe(const char* name) const {
  if (!why.empty()) return with_reason(name, why);
  const bool limited = error == Errc::Timeout && request.option.MaxConns != 0;
  return connecting->describe(name) +
         (limited ? " (at most " + std::to_string(request.option.MaxConns) + " connections)" : "");
}

}  // namespace gtcp::detail

#endif
