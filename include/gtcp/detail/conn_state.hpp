// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONN_STATE_HPP
#define GTCP_DETAIL_CONN_STATE_HPP

// The state of a connection, which handles and operations share: the lane in, the outbox out, waiting, and closing.
//
// Locks: mutex_ guards the queue of the lane, the list of receivers, the watch and the stages of closing; the outbox
// has its own. Neither is ever held over user code, over a wait, or while taking the other one.
//
// The descriptor is ours: reading and writing are plain non-blocking system calls. Asio is asked only to wait, through
// the watch, a second object for the same descriptor that exists from the first asynchronous wait on. So a connection
// that is used by blocking calls only is unknown to every reactor and wakes no io thread.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/address.hpp>
#include <gtcp/detail/asio_compat.hpp>
#include <gtcp/detail/byte_buffer.hpp>
#include <gtcp/detail/exit_drain.hpp>
#include <gtcp/detail/lane.hpp>
#include <gtcp/detail/outbox.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/detail/transport.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/timer.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/steady_timer.hpp>

#include <any>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp::detail {

class async_receiver;
class conn_state;

/// A receive that waits: for the lane, or as its holder for input. A blocked thread or an asynchronous operation.
class receiver : public lane_waiter {
 public:
  receiver(recv_goal wanted, time_limit give_up_at) : goal(std::move(wanted)), limit(give_up_at) {}

  recv_goal goal;
  time_limit limit;
  std::error_code stop{};  ///< why it is to give up; under the connection's mutex

  /// Under the connection's mutex: the default deadline changed, or `stop` was set; look at them again.
  virtual void deadline_changed() = 0;
  virtual async_receiver* asynchronous() noexcept { return nullptr; }

 protected:
  ~receiver() = default;

 private:
  friend class conn_state;
  receiver* next_ = nullptr;
  receiver* previous_ = nullptr;
  bool listed_ = false;
};

/// An asynchronous receive without its handler, which only the template on top of it knows.
class async_receiver : public receiver {
 public:
  async_receiver(std::shared_ptr<conn_state> conn, recv_goal wanted, time_limit give_up_at, std::string* target)
      : receiver(std::move(wanted), give_up_at), into(target != nullptr ? target : &result), conn_(std::move(conn)) {}

  std::uint64_t id = 0;
  Retry retry{};
  std::string result;
  std::string* into;

  /// Frees the operation and calls its handler: from an io thread's wait at once, else through its executor.
  virtual void complete(std::error_code error, bool may_dispatch) = 0;
  /// Frees the operation without calling its handler, whose execution context is gone.
  virtual void destroy() noexcept = 0;

  bool granted() override;
  lane_waiter* resume() override;
  void deadline_changed() override;
  async_receiver* asynchronous() noexcept override { return this; }

 protected:
  ~async_receiver() = default;
  const std::shared_ptr<conn_state>& conn() const noexcept { return conn_; }

 private:
  friend class conn_state;
  enum class stage : unsigned char { stepping, queued, waiting };

  std::shared_ptr<conn_state> conn_;
  stage stage_ = stage::stepping;
  bool holds_lane_ = false;
  bool last_try_ = false;
  bool may_end_quietly_ = false;
  asio::cancellation_signal wait_signal_;
  std::optional<asio::steady_timer> timer_;
  std::unique_ptr<asio::steady_timer> pause_;  ///< between tries
};

/// One that waits for the end of closing.
class close_waiter {
 public:
  /// Called under the connection's mutex when nothing can change any more. A thread wakes itself here and returns
  /// false; of what returns true complete() is called after the mutex was released.
  virtual bool finished(bool delivered) = 0;
  virtual void complete() = 0;

 protected:
  ~close_waiter() = default;

 private:
  friend class conn_state;
  close_waiter* next_ = nullptr;
};

class conn_state final : public std::enable_shared_from_this<conn_state>, private outbox_host {
 public:
  /// Takes the descriptor over, which is fit for a connection (prepare_socket). The option was checked.
  conn_state(native_socket descriptor, const ConnOption& option, std::unique_ptr<transport> layer = nullptr)
      : descriptor_(descriptor),
        transport_(layer != nullptr ? std::move(layer) : std::make_unique<plain_transport>(descriptor)),
        outbox_(*transport_, descriptor, *this, option.OutboxLimit),
        linger_(option.Linger),
        max_line_size_(option.MaxLineSize),
        mode_(option.Mode),
        executor_(option.Executor) {
    std::string ignored;
    check(option.Pkg, format_, ignored);
    remote_address_ = socket_address_text(descriptor, true);
    if (remote_address_.empty()) remote_address_ = socket_address_text(descriptor, false);  // an unnamed unix peer
  }

  ~conn_state() {
    watch_.release(descriptor_);
    if (descriptor_ != invalid_native_socket) close_socket(descriptor_, false);
  }

  /// Puts bytes in front of what comes. Before the connection is shared.
  void prime(std::string_view received) { input_.append(received.data(), received.size()); }

  std::uint64_t id() const noexcept { return id_; }
  const std::string& remote_address() const noexcept { return remote_address_; }
  bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  std::size_t max_line_size() const noexcept { return max_line_size_; }
  std::any& user_data() noexcept { return user_data_; }
  const pkg_format& format() const noexcept { return format_; }
  outbox& out() noexcept { return outbox_; }

  SendMode mode() const noexcept { return mode_.load(std::memory_order_relaxed); }
  void set_mode(SendMode mode) noexcept { mode_.store(mode, std::memory_order_relaxed); }
  void set_buffer_wait(std::chrono::nanoseconds wait) noexcept {
    buffer_wait_.store(wait.count(), std::memory_order_relaxed);
  }

  void set_linger(std::chrono::milliseconds linger) {
    const std::lock_guard lock(mutex_);
    linger_ = linger;
  }

  /// Ends the timer's entry when the connection closes.
  void bind(const TimerEntry& entry) {
    {
      const std::lock_guard lock(mutex_);
      if (!closed()) {
        if (timers_.size() == timers_.capacity()) {
          std::erase_if(timers_, [](const TimerEntry& bound) { return bound.Status() == StatusClosed; });
        }
        timers_.push_back(entry);
        return;
      }
    }
    timer_access::close_without_waiting(entry);
  }

  bool detached() const noexcept { return detached_.load(std::memory_order_relaxed); }
  void detach() noexcept { detached_.store(true, std::memory_order_relaxed); }

  std::string local_address() const {
    const std::lock_guard lock(mutex_);
    return descriptor_ == invalid_native_socket ? local_address_ : socket_address_text(descriptor_, false);
  }

  /// Why the connection ended: the first fatal error of the stream, or Errc::Closed; no error while it is open.
  std::error_code close_reason() const {
    const std::lock_guard lock(mutex_);
    return close_reason_;
  }

  /// Calls `use` with the descriptor, while nobody closes it; not_connected or Closed when there is none.
  template <class Use>
  std::error_code with_descriptor(const Use& use) const {
    const std::lock_guard lock(mutex_);
    if (descriptor_ == invalid_native_socket) return Errc::Closed;
    return use(descriptor_);
  }

  asio::any_io_executor executor() {
    const std::lock_guard lock(mutex_);
    return executor_locked();
  }

  // ---- Receiving

  /// Receives in the calling thread. With `may_wait` false it fails with would_block instead of waiting.
  std::error_code receive(recv_goal goal, const time_limit& limit, std::string& into, bool may_wait = true) {
    if (may_wait && on_runtime_thread()) return Errc::WouldDeadlock;
    if (closed()) return Errc::Closed;
    thread_receiver self(std::move(goal), limit);
    if (!lane_.try_lock()) {
      if (!may_wait) return asio::error::would_block;
      if (const std::error_code error = queue_for_lane(self)) return error;
    }
    unlock_at_exit guard{*this};
    return receive_as_holder(self, into, may_wait);
  }

  /// Takes what is buffered already, without a system call. False: it is not all there, or another one receives.
  bool receive_buffered(recv_goal& goal, std::string& into, std::error_code& error) {
    if (closed() || !lane_.try_lock()) return false;
    unlock_at_exit guard{*this};
    if (closed()) return false;
    const recv_verdict verdict = goal.judge(input_.view(), false);
    return verdict.what == recv_verdict::kind::take && take(verdict, into, error);
  }

  /// Says whether the calling coroutine should let others run before the next buffered package.
  bool should_yield() noexcept {
    constexpr unsigned packages_between = 256;
    return (yield_counter_.fetch_add(1, std::memory_order_relaxed) + 1) % packages_between == 0;
  }

  /// Starts an asynchronous receive, which owns itself until it completes.
  void start(async_receiver& op) {
    if (closed()) return op.complete(Errc::Closed, false);
    if (lane_.try_lock()) {
      op.holds_lane_ = true;
    } else {
      std::unique_lock lock(mutex_);
      if (closed()) {
        lock.unlock();
        return op.complete(Errc::Closed, false);
      }
      list(op);
      if (!lane_.lock_or_queue(op)) {
        op.stage_ = async_receiver::stage::queued;
        arm_timer(op, give_up_time(op));
        return;
      }
      op.holds_lane_ = true;
    }
    lane::run(advance(op, {}, false));
  }

  /// Ends a waiting asynchronous receive; bytes that came stay.
  void stop_receive(std::uint64_t id, std::error_code reason) {
    std::unique_lock lock(mutex_);
    for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) {
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr || op->id != id) continue;
      const bool deadline_was_moved = reason == Errc::Timeout && (!op->timer_ || clock::now() < op->timer_->expiry());
      if (deadline_was_moved) return;
      if (stop(*op, reason)) {
        lock.unlock();
        op->complete(reason, false);
      }
      return;
    }
  }

  void set_recv_deadline(clock::time_point at) {
    recv_deadline_.set(at);
    const std::lock_guard lock(mutex_);
    for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) entry->deadline_changed();
  }

  void set_send_deadline(clock::time_point at) {
    send_deadline_.set(at);
    outbox_.deadline_changed();
  }

  const shared_deadline& send_deadline() const noexcept { return send_deadline_; }
  std::uint64_t next_operation_id() noexcept { return next_operation_.fetch_add(1, std::memory_order_relaxed) + 1; }

  // ---- Sending

  /// Sends in the calling thread. With `may_wait` false it fails with would_block instead of waiting.
  std::error_code send(const pkg_header& header, asio::const_buffer payload, const time_limit& limit,
                       bool may_wait = true) {
    thread_record<send_record> record;
    record.header = header;
    record.payload = payload;
    record.direct = mode() == SendMode::Direct;
    const bool can_wait = may_wait && !on_runtime_thread();
    switch (outbox_.send(record, can_wait, &record.self)) {
      case send_outcome::refused: return may_wait ? make_error_code(Errc::WouldDeadlock) : asio::error::would_block;
      case send_outcome::waiting:
        outbox_.wait(record, record.self, [&] { return limit.resolve(send_deadline_); });
        break;
      case send_outcome::done: break;
    }
    return record.error;
  }

  std::error_code flush(const time_limit& limit) {
    if (on_runtime_thread()) return Errc::WouldDeadlock;
    thread_record<flush_record> record;
    if (outbox_.flush(record, &record.self) == send_outcome::waiting) {
      outbox_.wait(record, record.self, [&] { return limit.resolve(send_deadline_); });
    }
    return record.error;
  }

  /// Ends sending, behind everything that was accepted or waits.
  void close_write() { outbox_.end(asio::error::make_error_code(asio::error::shut_down), true); }

  // ---- Closing

  /// Closes; `hard`: throws away what is not delivered and resets the connection. Returns at once.
  void close(bool hard) noexcept;

  /// Waits for the end of closing, in the calling thread. Returns whether everything was delivered.
  bool wait_closed(const time_limit& limit, std::error_code& error) {
    if (on_runtime_thread()) {
      error = Errc::WouldDeadlock;
      return false;
    }
    thread_close_waiter self;
    std::unique_lock lock(mutex_);
    if (!await_closed(self)) {
      const clock::time_point until = limit.resolve(recv_deadline_);
      const auto is_done = [&] { return self.done; };
      if (until == no_deadline)
        self.woken.wait(lock, is_done);
      else if (!self.woken.wait_until(lock, until, is_done)) {
        forget(self);
        error = Errc::Timeout;
        return false;
      }
    }
    error.clear();
    return delivered_;
  }

  /// Calls the waiter when closing has ended. False: it goes on; true: it has ended already.
  bool start_wait_closed(close_waiter& waiter) {
    const std::lock_guard lock(mutex_);
    return await_closed(waiter);
  }

  bool delivered() const {
    const std::lock_guard lock(mutex_);
    return delivered_;
  }

 private:
  friend class async_receiver;

  static constexpr std::size_t read_block = 128 * 1024;
  static constexpr std::size_t max_discarded = std::size_t{64} << 20;  ///< what closing reads to get at the peer's end

  enum class progress { done, must_wait };

  struct thread_receiver final : receiver {
    using receiver::receiver;
    std::condition_variable woken;
    detail::waker* waker = nullptr;
    bool has_lane = false;

    void wake() {
      if (waker != nullptr) waker->signal();
      woken.notify_one();
    }
    bool granted() override {
      has_lane = true;
      wake();
      return false;
    }
    lane_waiter* resume() override { return nullptr; }
    void deadline_changed() override { wake(); }
  };

  template <class Record>
  struct thread_record final : Record {
    thread_wait self;
    bool finished() override {
      self.wake();
      return false;
    }
    void complete() override {}
    void deadline_changed() override { self.wake(); }
  };

  struct thread_close_waiter final : close_waiter {
    std::condition_variable woken;
    bool done = false;
    bool finished(bool) override {
      done = true;
      woken.notify_one();
      return false;
    }
    void complete() override {}
  };

  /// The connection's own place in the lane, when it closes: the last one.
  struct closer final : lane_waiter {
    explicit closer(conn_state& owner) : conn(owner) {}
    conn_state& conn;
    bool granted() override { return true; }
    lane_waiter* resume() override {
      conn.discard_input();
      return nullptr;
    }
  };

  struct unlock_at_exit {
    conn_state& conn;
    ~unlock_at_exit() { lane::run(conn.lane_.unlock()); }
  };

  /// A second object for the descriptor, through which Asio waits.
  class watch {
   public:
    bool active() const noexcept { return socket_.has_value(); }

    asio::generic::stream_protocol::socket& open(const asio::any_io_executor& executor, native_socket descriptor) {
      if (!socket_) {
        socket_.emplace(executor);
        std::error_code error;
        socket_->assign(asio::generic::stream_protocol(socket_family(descriptor), 0), descriptor, error);
        if (error) {
          socket_.reset();
          throw std::system_error(error);
        }
      }
      return *socket_;
    }

    /// Ends all waits, and leaves the descriptor open.
    void release([[maybe_unused]] native_socket descriptor) noexcept {
      if (!socket_) return;
      std::error_code ignored;
      socket_->release(ignored);
      socket_.reset();
    }

   private:
    std::optional<asio::generic::stream_protocol::socket> socket_;
  };

  /// Owns an asynchronous receive while Asio waits for it.
  class wait_handler {
   public:
    explicit wait_handler(async_receiver& op) : op_(&op) {}
    wait_handler(wait_handler&& other) noexcept : op_(std::exchange(other.op_, nullptr)) {}
    wait_handler& operator=(wait_handler&&) = delete;
    ~wait_handler() {
      if (op_ != nullptr) abandon(*op_);
    }
    void operator()(const std::error_code&) {
      async_receiver& op = *std::exchange(op_, nullptr);
      const std::shared_ptr<conn_state> conn = op.conn_;
      conn->on_wait_over(op);
    }

   private:
    async_receiver* op_;
  };

  // ---- Receiving

  /// Tries to reach the goal without waiting. Only for the holder of the lane. `try_once`: read even where nothing is
  /// expected.
  progress try_receive(receiver& self, bool quiet, bool try_once, std::string& into, std::error_code& error,
                       wait_direction& wait_for) {
    for (;;) {
      const recv_verdict verdict = self.goal.judge(input_.view(), static_cast<bool>(input_error_), quiet);
      if (verdict.what == recv_verdict::kind::take) {
        take(verdict, into, error);
        return progress::done;
      }
      if (verdict.what == recv_verdict::kind::fail) {
        error = verdict.error == asio::error::eof && input_error_ ? input_error_ : verdict.error;
        if (verdict.error == Errc::PkgTruncated && input_error_ != asio::error::eof) error = input_error_;
        if (IsFatal(error)) note_end(error);
        return progress::done;
      }
      if (drained_ && !try_once) {
        drained_ = false;
        wait_for = wait_direction::read;
        return progress::must_wait;
      }
      // Grows with what came, never by what was announced.
      const std::size_t missing = verdict.size - input_.size();
      const std::size_t room = input_.empty() ? read_block : std::min(missing, std::max(input_.size(), read_block));
      const io_result got = transport_->read_some(input_.prepare(room));
      input_.commit(got.size);
      drained_ = got.drained;
      if (is_transient(got.error)) {
        error = got.error;
        return progress::done;
      }
      if (got.error) input_error_ = got.error;
      if (got.wait_for != wait_direction::none) {
        drained_ = false;
        if (input_.empty()) input_.release();
        wait_for = got.wait_for;
        return progress::must_wait;
      }
    }
  }

  bool take(const recv_verdict& verdict, std::string& into, std::error_code& error) {
    into.assign(input_.data() + verdict.skip, verdict.size);
    input_.consume(verdict.skip + verdict.size + verdict.drop);
    if (input_.empty() && drained_) input_.release();
    error.clear();
    return true;
  }

  std::error_code queue_for_lane(thread_receiver& self) {
    std::unique_lock lock(mutex_);
    if (closed()) return Errc::Closed;
    if (lane_.lock_or_queue(self)) return {};
    list(self);
    while (!self.has_lane && !self.stop) {
      const clock::time_point until = self.limit.resolve(recv_deadline_);
      if (until == no_deadline)
        self.woken.wait(lock);
      else if (clock::now() >= until)
        self.stop = Errc::Timeout;
      else
        self.woken.wait_until(lock, until);
    }
    unlist(self);
    if (self.has_lane || !lane_.withdraw(self)) {
      // The lane is ours. Being asked to stop meanwhile is looked at by the holder's loop.
      self.has_lane = true;
      if (self.stop == Errc::Timeout) self.stop.clear();
      return {};
    }
    return self.stop;
  }

  std::error_code receive_as_holder(thread_receiver& self, std::string& into, bool may_wait) {
    bool quiet = false;
    bool last_try = !may_wait;
    for (;;) {
      if (closed()) return Errc::Closed;
      std::error_code error;
      wait_direction wait_for = wait_direction::none;
      if (try_receive(self, quiet, last_try, into, error, wait_for) == progress::done) return error;
      if (!may_wait) return asio::error::would_block;
      if (last_try) return Errc::Timeout;
      outbox_.flush_corked();
      input_.shrink();

      clock::time_point until = self.limit.resolve(recv_deadline_);
      const bool may_end_quietly = self.goal.ends_when_quiet() && !input_.empty();
      if (may_end_quietly) until = std::min(until, clock::now() + buffer_wait());
      {
        const std::lock_guard lock(mutex_);
        if (self.stop) return self.stop;
        if (closed()) return Errc::Closed;
        self.waker = &waker::of_this_thread();
        list(self);
      }
      wait_descriptor(descriptor_, wait_for, *self.waker, until);
      {
        const std::lock_guard lock(mutex_);
        unlist(self);
        self.waker = nullptr;
        until = may_end_quietly ? until : self.limit.resolve(recv_deadline_);
      }
      if (until != no_deadline && clock::now() >= until) (may_end_quietly ? quiet : last_try) = true;
    }
  }

  /// Goes on with an asynchronous receive that holds the lane. Returns the next waiter to resume.
  lane_waiter* advance(async_receiver& op, std::error_code stop, bool may_dispatch) {
    for (;;) {
      std::error_code error;
      try {
        const bool quiet = stop == Errc::Timeout && op.goal.ends_when_quiet();
        wait_direction wait_for = wait_direction::none;
        if (try_receive(op, quiet, op.last_try_, *op.into, error, wait_for) == progress::done) {
          return finish(op, error, may_dispatch);
        }
        outbox_.flush_corked();
        input_.shrink();
        std::unique_lock lock(mutex_);
        if (closed() && !op.stop) op.stop = Errc::Closed;
        op.may_end_quietly_ = op.goal.ends_when_quiet() && !input_.empty();
        const clock::time_point until = give_up_time(op);
        if (!op.stop && until != no_deadline && clock::now() >= until) op.stop = Errc::Timeout;
        if (op.stop) {
          stop = op.stop;
          lock.unlock();
          if (stop == Errc::Timeout && !std::exchange(op.last_try_, true)) continue;
          return finish(op, stop, may_dispatch);
        }
        list(op);
        arm_timer(op, until);
        await_readable(op, wait_for);
        return nullptr;
      } catch (const std::bad_alloc&) {
        error = std::make_error_code(std::errc::not_enough_memory);
      } catch (const std::system_error& failure) {
        error = failure.code();
      }
      return finish(op, error, may_dispatch);
    }
  }

  /// Leaves the lane and completes, or pauses before the next try. Returns the next waiter to resume.
  lane_waiter* finish(async_receiver& op, std::error_code error, bool may_dispatch) {
    lane_waiter* next = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(op.holds_lane_, false)) next = lane_.unlock_queued();
      if (is_transient(error) && !op.stop && op.retry.Count-- > 0) {
        list(op);
        arm_timer(op, give_up_time(op));
        op.stage_ = async_receiver::stage::waiting;
        op.pause_ = std::make_unique<asio::steady_timer>(inner_executor(executor_locked()), retry_pause(op.retry));
        op.pause_->async_wait(asio::bind_cancellation_slot(op.wait_signal_.slot(), wait_handler(op)));
        return next;
      }
      unlist(op);
      op.timer_.reset();
    }
    op.complete(error, may_dispatch && next == nullptr);
    return next;
  }

  void await_readable(async_receiver& op, wait_direction wait_for) {
    const auto what = wait_for == wait_direction::write ? asio::socket_base::wait_write : asio::socket_base::wait_read;
    auto& socket = open_watch();
    op.stage_ = async_receiver::stage::waiting;
    socket.async_wait(what, asio::bind_cancellation_slot(op.wait_signal_.slot(), wait_handler(op)));
  }

  void on_wait_over(async_receiver& op) {
    std::error_code stop;
    {
      std::unique_lock lock(mutex_);
      op.stage_ = async_receiver::stage::stepping;
      stop = op.stop;
      if (!op.holds_lane_) {
        // Close took the lane from it, or it has paused before its next try.
        unlist(op);
        op.timer_.reset();
        lock.unlock();
        return stop ? op.complete(stop, true) : start(op);
      }
    }
    lane::run(advance(op, stop, true));
  }

  static void abandon(async_receiver& op) noexcept {
    const std::shared_ptr<conn_state> conn = op.conn_;
    lane_waiter* next = nullptr;
    {
      const std::lock_guard lock(conn->mutex_);
      conn->unlist(op);
      if (std::exchange(op.holds_lane_, false)) next = conn->lane_.unlock_queued();
    }
    op.destroy();
    lane::run(next);
  }

  /// Under the mutex. Returns whether the caller must complete it.
  bool stop(async_receiver& op, std::error_code reason) {
    if (op.stop) return false;
    op.stop = reason;
    if (op.stage_ == async_receiver::stage::queued && lane_.withdraw(op)) {
      unlist(op);
      op.timer_.reset();
      return true;
    }
    if (op.stage_ == async_receiver::stage::waiting) op.wait_signal_.emit(asio::cancellation_type::all);
    return false;
  }

  clock::time_point give_up_time(const async_receiver& op) const noexcept {
    const clock::time_point until = op.limit.resolve(recv_deadline_);
    return op.may_end_quietly_ ? std::min(until, clock::now() + buffer_wait()) : until;
  }

  /// Under the mutex.
  void arm_timer(async_receiver& op, clock::time_point until) {
    if (until == no_deadline) {
      op.timer_.reset();
      return;
    }
    if (op.timer_ && op.timer_->expiry() == until) return;
    if (!op.timer_) op.timer_.emplace(inner_executor(executor_locked()));
    op.timer_->expires_at(until);
    op.timer_->async_wait([weak = weak_from_this(), id = op.id](std::error_code error) {
      if (error) return;
      if (const auto self = weak.lock()) self->stop_receive(id, Errc::Timeout);
    });
  }

  void list(receiver& entry) noexcept {
    if (std::exchange(entry.listed_, true)) return;
    entry.previous_ = nullptr;
    entry.next_ = receivers_;
    if (receivers_ != nullptr) receivers_->previous_ = &entry;
    receivers_ = &entry;
  }

  void unlist(receiver& entry) noexcept {
    if (!std::exchange(entry.listed_, false)) return;
    (entry.previous_ != nullptr ? entry.previous_->next_ : receivers_) = entry.next_;
    if (entry.next_ != nullptr) entry.next_->previous_ = entry.previous_;
  }

  std::chrono::nanoseconds buffer_wait() const noexcept {
    return std::chrono::nanoseconds(buffer_wait_.load(std::memory_order_relaxed));
  }

  // ---- Waiting

  const asio::any_io_executor& executor_locked() {
    if (!executor_) {
      executor_ = Runtime::Default().get_executor();
      on_default_runtime_ = true;
    }
    return executor_;
  }

  asio::generic::stream_protocol::socket& open_watch() {
    return watch_.open(inner_executor(executor_locked()), descriptor_);
  }

  void await_writable(wait_direction direction) override {
    try {
      const std::lock_guard lock(mutex_);
      if (descriptor_ == invalid_native_socket) return;
      const auto what =
          direction == wait_direction::read ? asio::socket_base::wait_read : asio::socket_base::wait_write;
      hold_.acquire(std::max<clock::duration>(linger_, std::chrono::milliseconds(1)));
      open_watch().async_wait(what, [self = shared_from_this(), watch = watch_number_](std::error_code) {
        {
          const std::lock_guard relock(self->mutex_);
          if (watch != self->watch_number_) return;  // moved to another context, which waits anew
        }
        self->outbox_.on_writable();
        self->release_hold_if_drained();
      });
    } catch (const std::exception&) {
      outbox_.drop(std::make_error_code(std::errc::not_enough_memory));
    }
  }

  void release_hold_if_drained() {
    if (outbox_.pending_bytes() != 0) return;
    const std::lock_guard lock(mutex_);
    if (!closed()) hold_.release();
  }

  // ---- Closing

  void note_end(std::error_code reason) {
    const std::lock_guard lock(mutex_);
    if (!close_reason_) close_reason_ = reason;
  }

  void on_outbox_drained() override {
    {
      const std::lock_guard lock(mutex_);
      if (descriptor_ == invalid_native_socket) return;
      if (!std::exchange(sending_ended_, true)) transport_->end_of_sending();
      if (!closed()) return;
      outbox_ended_ = true;
    }
    close_if_possible();
  }

  /// Reads what the peer still sends, so that the system need not answer it with a reset, until the peer's end.
  void discard_input() {
    bool ended = false;
    try {
      byte_buffer scratch;
      {
        const std::lock_guard lock(mutex_);
        closer_has_lane_ = true;
        input_.release();
        ended = static_cast<bool>(input_error_) || hard_;
      }
      while (!ended) {
        const io_result got = transport_->read_some(scratch.prepare(read_block));
        discarded_ += got.size;
        if (got.error || discarded_ > max_discarded) ended = true;
        if (got.wait_for == wait_direction::none) continue;
        const std::lock_guard lock(mutex_);
        if (hard_ || linger_.count() == 0) break;
        hold_.acquire(linger_);
        open_watch().async_wait(asio::socket_base::wait_read, [self = shared_from_this()](std::error_code error) {
          if (!error) self->discard_input();
        });
        break;
      }
    } catch (const std::exception&) {
      ended = true;
    }
    if (ended) {
      const std::lock_guard lock(mutex_);
      input_ended_ = true;
      if (discarded_ > max_discarded) hard_ = true;
    }
    close_if_possible();
  }

  bool all_acknowledged() const noexcept {
    const std::optional<std::size_t> unacknowledged = unacknowledged_bytes(descriptor_);
    return !unacknowledged || *unacknowledged == 0;
  }

  /// Looks whether closing has come to its end, or to the end of its time.
  void close_if_possible() noexcept {
    bool drop = false;
    {
      std::unique_lock lock(mutex_);
      if (!closed() || closing_begins_ || finishing_ || descriptor_ == invalid_native_socket) return;
      const bool delivered = outbox_ended_ && all_acknowledged();
      if (delivered && !hard_) {
        delivered_ = true;
        tell_close_waiters(lock);
        if (finishing_ || descriptor_ == invalid_native_socket) return;
      }
      const bool expired = clock::now() >= linger_end_;
      const bool complete = delivered && input_ended_;
      if (!complete && !expired && !hard_) {
        arm_close_timer();
        return;
      }
      if (!complete && !delivered && linger_.count() != 0) hard_ = true;
      drop = !outbox_ended_;
      if (!closer_has_lane_) {
        linger_end_ = clock::time_point::min();
        lock.unlock();
        if (drop) outbox_.drop(Errc::Closed);
        return;  // the closer comes back when it has the lane
      }
      finishing_ = true;
    }
    if (drop) outbox_.drop(Errc::Closed);
    outbox_.leave_descriptor();
  }

  void on_descriptor_left() override {
    std::unique_lock lock(mutex_);
    watch_.release(descriptor_);
    close_timer_.reset();
    close_socket(std::exchange(descriptor_, invalid_native_socket), hard_);
    tell_close_waiters(lock);
    hold_.release();
  }

  /// Under the mutex; releases it for completions and takes it again.
  void tell_close_waiters(std::unique_lock<std::mutex>& lock) {
    close_waiter* pending = nullptr;
    while (close_waiters_ != nullptr) {
      close_waiter* const waiter = close_waiters_;
      close_waiters_ = waiter->next_;
      if (waiter->finished(delivered_)) waiter->next_ = std::exchange(pending, waiter);
    }
    if (pending == nullptr) return;
    lock.unlock();
    while (pending != nullptr) {
      close_waiter* const waiter = pending;
      pending = waiter->next_;
      waiter->complete();
    }
    lock.lock();
  }

  /// Under the mutex. Returns whether there is nothing to wait for.
  bool await_closed(close_waiter& waiter) {
    if (delivered_ || descriptor_ == invalid_native_socket) return true;
    waiter.next_ = std::exchange(close_waiters_, &waiter);
    if (close_timer_) arm_close_timer();
    return false;
  }

  void forget(close_waiter& waiter) noexcept {
    for (close_waiter** link = &close_waiters_; *link != nullptr; link = &(*link)->next_) {
      if (*link != &waiter) continue;
      *link = waiter.next_;
      return;
    }
  }

  /// Under the mutex: looks again at the end of the linger time, and before that while acknowledgements are waited for.
  void arm_close_timer() noexcept {
    try {
      hold_.acquire(linger_);
      if (!close_timer_) close_timer_.emplace(executor_locked());
      const bool looks_at_acknowledgements = outbox_ended_ && (input_ended_ || close_waiters_ != nullptr);
      clock::time_point at = linger_end_;
      if (looks_at_acknowledgements) {
        at = std::min(at, clock::now() + acknowledgement_pause_);
        acknowledgement_pause_ = std::min<clock::duration>(acknowledgement_pause_ * 2, std::chrono::milliseconds(64));
      }
      close_timer_->expires_at(at);
      close_timer_->async_wait([self = shared_from_this()](std::error_code error) {
        if (!error) self->close_if_possible();
      });
    } catch (const std::exception&) {
      linger_end_ = clock::time_point::min();  // no timer: whatever happens next ends it
    }
  }

  inline static std::atomic<std::uint64_t> last_id_{0};

  const std::uint64_t id_ = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  const unsigned born_ = fork_generation();
  native_socket descriptor_;
  std::unique_ptr<transport> transport_;
  mutable std::mutex mutex_;

  // The way in. The lane's holder alone touches input_, input_error_ and drained_.
  lane lane_{mutex_};
  byte_buffer input_;
  std::error_code input_error_{};
  bool drained_ = true;
  receiver* receivers_ = nullptr;
  std::atomic<unsigned> yield_counter_{0};

  // The way out.
  outbox outbox_;

  // Settings.
  pkg_format format_{};
  std::chrono::milliseconds linger_;
  std::size_t max_line_size_;
  std::atomic<SendMode> mode_;
  std::atomic<std::chrono::nanoseconds::rep> buffer_wait_{1'000'000};
  shared_deadline recv_deadline_;
  shared_deadline send_deadline_;
  std::atomic<std::uint64_t> next_operation_{0};
  std::atomic<bool> detached_{false};
  std::any user_data_;
  std::vector<TimerEntry> timers_;
  std::string remote_address_;
  std::string local_address_;

  // Waiting.
  asio::any_io_executor executor_;
  bool on_default_runtime_ = false;
  watch watch_;
  unsigned watch_number_ = 0;

  // Closing.
  std::atomic<bool> closed_{false};
  bool closing_begins_ = false;  ///< close() has not taken its first steps yet
  bool hard_ = false;
  bool sending_ended_ = false;
  bool outbox_ended_ = false;
  bool input_ended_ = false;
  bool closer_has_lane_ = false;
  bool finishing_ = false;
  bool delivered_ = false;
  std::size_t discarded_ = 0;
  std::error_code close_reason_{};
  clock::time_point linger_end_{};
  clock::duration acknowledgement_pause_ = std::chrono::milliseconds(1);
  std::optional<asio::steady_timer> close_timer_;
  close_waiter* close_waiters_ = nullptr;
  exit_hold hold_;
  closer closer_{*this};
};

inline bool async_receiver::granted() {
  holds_lane_ = true;
  stage_ = stage::stepping;
  return true;
}

inline lane_waiter* async_receiver::resume() {
  const std::shared_ptr<conn_state> conn = conn_;
  return conn->advance(*this, {}, false);
}

inline void async_receiver::deadline_changed() { conn_->arm_timer(*this, conn_->give_up_time(*this)); }

inline void conn_state::close(bool hard) noexcept {
  if (born_ != fork_generation()) {
    // The parent's connection: nothing of it is ours but the descriptor, and its mutexes may be locked for ever.
    if (descriptor_ != invalid_native_socket) close_socket(std::exchange(descriptor_, invalid_native_socket), false);
    closed_.store(true, std::memory_order_release);
    return;
  }
  async_receiver* stopped = nullptr;
  std::vector<TimerEntry> timers;
  bool has_lane = false;
  {
    std::unique_lock lock(mutex_);
    if (closed()) {
      if (!hard || hard_ || descriptor_ == invalid_native_socket) return;
      hard_ = true;
      lock.unlock();
      outbox_.drop(Errc::Closed);
      close_if_possible();
      return;
    }
    closed_.store(true, std::memory_order_release);
    closing_begins_ = true;
    hard_ = hard;
    if (!close_reason_) close_reason_ = Errc::Closed;
    local_address_ = socket_address_text(descriptor_, false);
    linger_end_ = deadline_after(linger_);
    timers = std::move(timers_);

    receiver* next = nullptr;
    for (receiver* entry = receivers_; entry != nullptr; entry = next) {
      next = entry->next_;
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr) {
        entry->stop = Errc::Closed;
        entry->deadline_changed();
      } else if (stop(*op, Errc::Closed)) {
        op->next_ = std::exchange(stopped, op);
      }
    }
    for (receiver* entry = receivers_; entry != nullptr; entry = entry->next_) {
      // An operation may wait on a context that nobody runs, so it must not keep the lane. Only threads are left in the
      // queue; whichever gets the lane leaves it.
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr || op->stage_ != async_receiver::stage::waiting || !std::exchange(op->holds_lane_, false))
        continue;
      static_cast<void>(lane_.unlock_queued());
    }
    if (!on_default_runtime_) {
      // What goes on from here must not depend on a user's context.
      watch_.release(descriptor_);
      ++watch_number_;
      executor_ = {};
    }
    has_lane = lane_.lock_or_queue(closer_);
  }
  for (const TimerEntry& entry : timers) timer_access::close_without_waiting(entry);
  while (stopped != nullptr) {
    async_receiver* const op = stopped;
    stopped = static_cast<async_receiver*>(op->next_);
    op->complete(Errc::Closed, false);
  }
  if (hard) {
    outbox_.drop(Errc::Closed);
  } else {
    outbox_.end(Errc::Closed, false);
    outbox_.forget_await_writable();
  }
  if (has_lane) discard_input();
  {
    const std::lock_guard lock(mutex_);
    closing_begins_ = false;
  }
  close_if_possible();
}

}  // namespace gtcp::detail

#endif
