// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONN_STATE_HPP
#define GTCP_DETAIL_CONN_STATE_HPP

// The state of a connection, which handles and operations share: the lane in, the outbox out, waiting, and closing.
//
// Locks: mutex_ guards the queue of the lane, the list of receivers, the descriptor, the watch, the timers and the
// stages of closing; the outbox has its own. Neither is ever held over user code, over a wait, or while taking the
// other one.
//
// The descriptor is ours: reading and writing are plain non-blocking system calls. Asio is asked only to wait, through
// the watch, a second object for the same descriptor that exists from the first asynchronous wait on. So a connection
// that is used by blocking calls only is unknown to every reactor and wakes no io thread.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/address.hpp>
#include <gtcp/detail/asio_compat.hpp>
#include <gtcp/detail/byte_buffer.hpp>
#include <gtcp/detail/close_waiter.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/conn_lease.hpp>
#include <gtcp/detail/conn_ledger.hpp>
#include <gtcp/detail/context_end.hpp>
#include <gtcp/detail/copy_bytes.hpp>
#include <gtcp/detail/exit_drain.hpp>
#include <gtcp/detail/lane.hpp>
#include <gtcp/detail/outbox.hpp>
#include <gtcp/detail/peer_limits.hpp>
#include <gtcp/detail/platform_address.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_process.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/detail/rearm_gate.hpp>
#include <gtcp/detail/receiver.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/detail/thread_waiters.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/detail/transport.hpp>
#include <gtcp/detail/watch.hpp>
#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/stats.hpp>
#include <gtcp/timer.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/buffer.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <any>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp::detail {

class conn_state final : public std::enable_shared_from_this<conn_state>, private outbox_host, private ledger_entry {
 public:
  /// Takes the descriptor over, which is fit for a connection (prepare_socket). The option was checked. `peer`: where
  /// it comes from, if that is known.
  conn_state(native_socket descriptor, const ConnOption& option, transport_ptr layer = nullptr,
             const socket_address& peer = {});

  ~conn_state();

  /// Puts bytes in front of what comes. Before the connection is shared.
  void prime(std::string_view received) { input_.append(received.data(), received.size()); }

  /// Makes it a connection that a pool has lent. Before the connection is shared.
  void lend(std::unique_ptr<conn_lease> lease) noexcept {
    lease_ = std::move(lease);
    is_simple_ = false;
  }

  bool is_pooled() const noexcept { return lease_ != nullptr; }

  /// Makes it a connection that a server serves. Before the connection is shared. `limits` may be nullptr.
  void serve(std::shared_ptr<conn_ledger> ledger, std::unique_ptr<peer_limits> limits);

  /// Has a user's execution context tell when it ends. Before the connection is shared.
  void join_context();

  /// Its execution context is being destroyed: who waits in it is destroyed, and the connection goes on in the default
  /// Runtime.
  void on_context_end() noexcept;

  /// Closes the connection if its peer has reached a limit. Returns when to look again; no_deadline: never.
  clock::time_point look(clock::time_point now) noexcept;

  /// Receives nothing more than the package that has begun, or is there; then receives fail with Errc::Draining.
  void drain();

  GTCP_DECL ConnStats counted() const override;

  std::uint64_t id() const noexcept { return id_; }
  /// What there is to say of an error of a receive beyond its own text.
  std::string explain(const std::error_code& error, const pkg_format& format) const;

  const std::string& remote_address() const noexcept { return remote_address_; }
  bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  std::size_t max_line_size() const noexcept { return max_line_size_; }
  std::any& user_data() noexcept { return user_data_; }
  const pkg_format& format() const noexcept { return format_; }
  outbox& out() noexcept { return outbox_; }

  /// Calls `use` with the transport, while nobody takes it away; nullptr when a pool has it back.
  template <class Use>
  auto with_layer(const Use& use) const {
    const std::lock_guard lock(mutex_);
    return use(transport_.get());
  }

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
  void bind(const TimerEntry& entry);

  bool detached() const noexcept { return detached_.load(std::memory_order_relaxed); }
  void detach() noexcept { detached_.store(true, std::memory_order_relaxed); }

  std::string local_address() const;

  /// Why the connection ended: the first fatal error of the stream, or Errc::Closed; no error while it is open.
  std::error_code close_reason() const;

  /// Calls `use` with the descriptor, while nobody closes it; not_connected or Closed when there is none.
  template <class Use>
  std::error_code with_descriptor(const Use& use) const {
    const std::lock_guard lock(mutex_);
    if (descriptor_ == invalid_native_socket) return Errc::Closed;
    return use(descriptor_);
  }

  asio::any_io_executor executor();

  // ---- Receiving

  /// Receives in the calling thread. With `may_wait` false it fails with would_block instead of waiting.
  std::error_code receive(recv_goal&& goal, const time_limit& limit, std::string& into, bool may_wait = true);

  /// Takes what is buffered already, without a system call. False: it is not all there, or another one receives.
  bool take_buffered(recv_goal& goal, std::string& into);

  /// The same for a package of the standard format, without the cost of a goal: what most receives come down to. False,
  /// too, for a connection that is not simple.
  bool take_buffered_pkg(std::string& into, gathering how);

  /// Whether the last receive left something behind. Another one may take it meanwhile.
  bool has_more_input() const noexcept { return reader_.load(std::memory_order_relaxed) != nullptr; }

  /// Says whether the calling coroutine should let others run before its next operation that need not wait.
  bool should_yield() noexcept {
    const unsigned count = yield_counter_.load(std::memory_order_relaxed) + 1;
    yield_counter_.store(count, std::memory_order_relaxed);  // that others' steps get lost now and then is no harm
    return count % yield_every == 0;
  }

  /// Starts an asynchronous receive, which owns itself until it completes.
  void start(async_receiver& op);

  /// Ends a waiting asynchronous receive; bytes that came stay.
  void stop_receive(std::uint64_t id, std::error_code reason);

  void set_recv_deadline(clock::time_point at);
  void set_send_deadline(clock::time_point at);

  /// Has the calling thread pause between two tries of an operation. Fails when the connection closes, or with its
  /// time.
  std::error_code pause(clock::time_point until, const time_limit& limit, const shared_deadline& standard);

  const shared_deadline& recv_deadline() const noexcept { return recv_deadline_; }
  const shared_deadline& send_deadline() const noexcept { return send_deadline_; }
  std::uint64_t next_operation_id() noexcept { return next_operation_.fetch_add(1, std::memory_order_relaxed) + 1; }

  // ---- Sending

  /// Sends in the calling thread. With `may_wait` false it fails with would_block instead of waiting.
  std::error_code send(const pkg_header& header, asio::const_buffer payload, const time_limit& limit,
                       bool may_wait = true);

  /// Sends a small package of the standard format if others are before it that somebody will write: what is left to do
  /// for most packages when there are many. False: nothing of it was taken.
  bool append(asio::const_buffer payload);

  /// Sends a small package of the standard format if it need not wait, from any thread; `error` says how. False:
  /// nothing of it was taken.
  bool send_at_once(asio::const_buffer payload, std::error_code& error);

  /// Every send of a package, or of bytes, is noted once, before it, however often it is tried. Returns what
  /// take_back_send wants to know.
  bool note_send(const pkg_header& header) noexcept { return is_pooled() && lease_->note_send(header.size != 0); }

  void take_back_send(bool has_reply) noexcept {
    if (is_pooled()) lease_->take_back_send(has_reply);
  }

  /// Whether a send that failed with `error` is to be tried again on a fresh connection: its own was lent, had died
  /// while it was idle, and no byte has gone out. Says so once.
  bool should_renew(const std::error_code& error) noexcept;

  /// Connects anew, in the calling thread. Returns whether there is a fresh connection.
  bool renew(const time_limit& limit);

  /// The same, on the connection's executor; calls `done` when there is a fresh connection, or none to be had.
  void start_renewal(const time_limit& limit, std::function<void()> done);

  /// Takes `fresh` in place of the socket, which failed before a byte had moved, and gives that for it. False: the
  /// connection is used meanwhile, or was closed, and all is as it was.
  bool replace(raw_connection& fresh) noexcept;

  /// Whether what the calling thread sends now is held back, since it has more input to take.
  gathering gathers() const noexcept {
    const char* const reader = reader_.load(std::memory_order_relaxed);
    if (reader == nullptr) return gathering::none;
    const auto how = reinterpret_cast<std::uintptr_t>(reader) - reinterpret_cast<std::uintptr_t>(reader_mark({}));
    return how < reader_marks ? static_cast<gathering>(how) : gathering::none;
  }

  std::error_code flush(const time_limit& limit);

  /// Ends sending, behind everything that was accepted or waits.
  void close_write() { outbox_.end(asio::error::make_error_code(asio::error::shut_down), true); }

  // ---- Closing

  /// Closes; `hard`: throws away what is not delivered and resets the connection. Returns at once. `reason` is what
  /// close_reason() says, if nothing has failed before.
  void close(bool hard, std::error_code reason = Errc::Closed) noexcept;

  /// Closes. A lent connection that is as new, and that nobody waits on, goes back to its pool instead; for all its
  /// handles it is closed then too.
  void close_or_give_back() noexcept {
    if (!give_back()) close(false);
  }

  /// Somebody outside knows the descriptor, or changed the socket's settings: it is not lent again.
  void keep_from_pool() noexcept {
    if (lease_ != nullptr) lease_->keep_from_pool();
  }

  /// Waits for the end of closing, in the calling thread. Returns whether everything was delivered.
  bool wait_closed(clock::time_point until, std::error_code& error);

  /// Calls the waiter when closing has ended. False: it goes on; true: it has ended already.
  bool start_wait_closed(close_waiter& waiter);

  /// Whether closing has come to its end, with whatever result.
  bool has_ended() const {
    const std::lock_guard lock(mutex_);
    return descriptor_ == invalid_native_socket;
  }

  bool delivered() const {
    const std::lock_guard lock(mutex_);
    return delivered_;
  }

 private:
  friend class async_receiver;
  friend class pkg_pump;
  friend class room_waiter;

  static constexpr std::size_t read_block = 128 * 1024;
  static constexpr std::size_t max_discarded = std::size_t{64} << 20;  ///< what closing reads to get at the peer's end

  static constexpr std::chrono::microseconds reader_pause{1000};  ///< how long a reader's replies may be held back
  static constexpr std::chrono::microseconds burst_pause{100};

  /// must_yield: others are to run first; must_pause: the outbox is over its limit.
  enum class progress { done, must_wait, must_yield, must_pause };

  static constexpr unsigned yield_every = 256;  ///< packages: then a coroutine lets others run

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

  /// Whether a package need not take the way that serves all: a small one, on a connection without anything special.
  bool is_short(asio::const_buffer payload) const noexcept {
    return is_simple_ && payload.size() <= max_short_ && mode() != SendMode::Direct;
  }

  struct unlock_at_exit {
    conn_state& conn;
    ~unlock_at_exit() { lane::run(conn.lane_.unlock()); }
  };

  /// Owns an asynchronous receive while Asio waits for it.
  class wait_handler;

  /// What the calling thread hands to Asio just now. If that throws, it is not abandoned.
  static async_receiver*& entrusted() noexcept;

  /// Has `begin(handler)` hand the operation to Asio. When that throws it is the caller's again; with `throws` false
  /// that is returned, and what throws is what goes on with the operation.
  template <class Begin>
  static bool entrust(async_receiver& op, const Begin& begin, bool throws = true);

  /// Ends an operation that can't go on for want of memory. Returns the next waiter to resume.
  lane_waiter* give_up(async_receiver& op) { return finish(op, no_memory_error(), false); }

  // ---- Receiving

  /// Tries to reach the goal without waiting. Only for the holder of the lane. `try_once`: read even where nothing is
  /// expected.
  progress try_receive(receiver& self, bool quiet, bool try_once, std::string* into, std::error_code& error,
                       wait_direction& wait_for);

  /// The same for the goal of a handshake.
  progress try_handshake(std::error_code& error, wait_direction& wait_for);

  /// Input was read: the replies to it go out in a few parts, so that the peer has something to do while the others are
  /// made.
  void divide_replies() noexcept;

  /// Before a package is taken: lets go of the replies to a part of the input.
  void let_replies_go();

  void take(const recv_verdict& verdict, gathering how, std::string& into);

  /// Hands a package to who wants more than one. False: it wants one.
  bool pumps(async_receiver& op, const recv_verdict& verdict);

  /// The package is taken, or delivered.
  void consume(const recv_verdict& verdict) noexcept;

  static constexpr auto reader_marks = static_cast<std::size_t>(gathering::by_burst);

  /// What a thread leaves when it took input and there is more; tells it, and how it receives, from all others.
  static const char* reader_mark(gathering how) noexcept {
    static thread_local const char marks[reader_marks] = {};
    return &marks[static_cast<std::size_t>(how)];
  }

  /// Input was taken: `reader` is the mark of who took it, while there is more.
  void note_input(const char* reader) noexcept;

  /// What is held back goes out before anybody waits for input.
  void before_waiting();

  std::error_code queue_for_lane(thread_receiver& self);

  /// Whether a receive that would wait ends instead, since the server shuts down and nothing has begun.
  bool ends_here(const recv_goal& goal) const noexcept;

  /// Whether a receive is over when nothing more comes for a while.
  bool may_end_quietly(const recv_goal& goal) const noexcept { return goal.ends_when_quiet() && !input_.empty(); }

  /// Only for the holder of the lane, between two reads: whether all is handed out that had come when it saw for the
  /// first time that the connection drains.
  bool has_drained() noexcept;

  /// Under the mutex: the lane's holder waits for input, and does not any more.
  void begin_wait(const recv_goal& goal) noexcept;
  void end_wait() noexcept;

  std::error_code receive_as_holder(thread_receiver& self, std::string& into, bool may_wait);

  /// Looks for input again and again, for a while. Returns whether it came to an end, with what or with `error`.
  bool receive_busily(thread_receiver& self, std::string& into, std::error_code& error, wait_direction& wait_for);

  /// Goes on with an asynchronous receive that holds the lane. Returns the next waiter to resume.
  lane_waiter* advance(async_receiver& op, std::error_code stop, bool may_dispatch);

  /// Does what advance() does but for the end. Returns whether the receive waits; else it is over, with `error`.
  bool go_on(async_receiver& op, std::error_code stop, std::error_code& error);

  /// Leaves the lane and completes, or pauses before the next try. Returns the next waiter to resume.
  lane_waiter* finish(async_receiver& op, std::error_code error, bool may_dispatch);

  void await_readable(async_receiver& op, wait_direction wait_for);

  /// Under the mutex: whether it is worth to look once more, after all others, instead of waiting for input at once.
  bool tries_again(async_receiver& op, wait_direction wait_for);

  /// Under the mutex: goes on after all others that are to run.
  void await_others(async_receiver& op);

  /// Goes on when half of the outbox is free.
  void await_room(async_receiver& op);

  /// Under the mutex: ends the wait of a receiver that wants it when the transport takes bytes.
  void await_writable_for_receivers();

  void on_wait_over(async_receiver& op);

  static void abandon(async_receiver& op) noexcept;

  /// Under the mutex: ends the wait of a receiver through Asio. Whoever else waits so for the descriptor begins anew.
  void interrupt(async_receiver& op) noexcept;

  /// Under the mutex. Returns whether the caller must complete it.
  bool stop(async_receiver& op, std::error_code reason);

  clock::time_point give_up_time(const async_receiver& op) const noexcept;

  /// Under the mutex.
  void arm_timer(async_receiver& op, clock::time_point until);

  void list(receiver& entry) noexcept;
  void unlist(receiver& entry) noexcept;

  std::chrono::nanoseconds buffer_wait() const noexcept {
    return std::chrono::nanoseconds(buffer_wait_.load(std::memory_order_relaxed));
  }

  // ---- Waiting

  const asio::any_io_executor& executor_locked();

  /// Where the connection itself waits. Once it closes that must not depend on a user's context.
  asio::any_io_executor waiting_executor();

  asio::generic::stream_protocol::socket& open_watch();

  // What overrides is inline here already, if it is at all: with a key function every file that includes this would get
  // all of it.
  GTCP_DECL void await_writable(wait_direction direction) override;
  GTCP_DECL void await_turn(gathering how, bool again) override;
  struct turn_handler;

  void on_overflow() noexcept override { close(true, Errc::QueueFull); }

  bool input_came() noexcept override { return input_came_.exchange(false, std::memory_order_relaxed); }

  /// Under the mutex: the process's end waits for what is sent from now on, within the linger time.
  void hold_exit() { hold_.acquire(deadline_after(std::max(linger_, std::chrono::milliseconds(1)))); }
  void release_hold_if_drained();

  // ---- Closing

  /// In a child process, instead of destroying what a thread of the parent's may have locked.
  void abandon_inherited() noexcept;

  void note_end(std::error_code reason);

  /// The steps of close() that are taken under no lock.
  void go_on_closing(bool hard, bool has_lane) noexcept;

  /// Under the mutex: no operation begins any more. `reason`: what ended the stream. Returns the timers to close.
  std::vector<TimerEntry> mark_closed(bool hard, std::error_code reason) noexcept;

  bool give_back() noexcept;

  /// Under the mutex: nothing keeps the socket from being replaced but who uses it just now.
  bool replaceable() const noexcept { return !closed() && !sending_ended_ && !close_reason_; }

  /// Only for the holder of the lane. Whether there is nothing to be read, and the peer is there.
  bool input_as_new() noexcept;

  GTCP_DECL void on_outbox_drained() override;

  /// Reads what the peer still sends, so that the system need not answer it with a reset, until the peer's end.
  void discard_input();

  bool all_acknowledged() const noexcept;

  /// Looks whether closing has come to its end, or to the end of its time.
  void close_if_possible() noexcept;

  GTCP_DECL void on_descriptor_left() override;

  /// Under the mutex: takes those out that wait in an execution context.
  close_waiter* take_asynchronous_close_waiters() noexcept;

  /// Under the mutex; releases it for completions and takes it again.
  void tell_close_waiters(std::unique_lock<std::mutex>& lock);

  /// Under the mutex. Returns whether there is nothing to wait for. `is_over`: close_if_possible() must be called.
  bool await_closed(close_waiter& waiter, bool& is_over);

  void forget(close_waiter& waiter) noexcept;

  /// Under the mutex: looks again at the end of the linger time, and before that while acknowledgements are waited for.
  /// False: it can't, for want of memory, so the linger time is over.
  bool arm_close_timer() noexcept;

  inline static std::atomic<std::uint64_t> last_id_{0};
  inline static constinit std::atomic<std::size_t> reply_parts_{0};  ///< into how many; 0: nobody has counted yet

  const std::uint64_t id_ = last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
  const process_mark process_;
  native_socket descriptor_;
  transport_ptr transport_;  ///< changed under mutex_, while nobody reads or writes; none: a pool has it back
  mutable std::mutex mutex_;

  // The way in. The lane's holder alone touches what is not atomic, but for the list of receivers.
  lane lane_{mutex_};
  byte_buffer input_;
  std::error_code input_error_{};
  bool drained_ = true;
  std::size_t reply_part_ = 0;
  std::size_t reply_at_ = 0;
  std::uint64_t drain_until_ =
      0;  ///< while draining_: what begins behind so much of bytes_in_ is not received; 0: not said
  std::atomic<std::size_t> refused_size_{0};  ///< of Errc::PkgTooLarge
  receiver* receivers_ = nullptr;
  std::atomic<unsigned> yield_counter_{0};
  std::atomic<const char*> reader_{nullptr};  ///< the mark of who took input, while there is more
  std::atomic<bool> input_came_{false};
  std::atomic<bool> draining_{false};
  std::atomic<std::uint64_t> pkgs_in_{0};
  std::atomic<std::uint64_t> bytes_in_{0};

  // The way out.
  outbox outbox_;

  // Settings that stay as they are once it is shared.
  pkg_format format_{};
  std::size_t max_short_ = 0;  ///< the largest payload that takes a short way
  bool is_simple_ = true;      ///< nothing counts packages, or sends them again
  const std::size_t max_line_size_;
  const std::chrono::microseconds busy_wait_;
  std::string remote_address_;
  std::unique_ptr<conn_lease> lease_;
  std::unique_ptr<peer_limits> limits_;
  std::shared_ptr<conn_ledger> ledger_;

  // Settings that any thread may change.
  std::atomic<SendMode> mode_;
  std::atomic<std::chrono::nanoseconds::rep> buffer_wait_{1'000'000};
  shared_deadline recv_deadline_;
  shared_deadline send_deadline_;
  std::atomic<std::uint64_t> next_operation_{0};
  std::atomic<bool> detached_{false};
  std::any user_data_;  ///< whose users see to it

  // Waiting, under mutex_.
  asio::any_io_executor executor_;  ///< none: the default Runtime's, once it is needed
  std::unique_ptr<context_membership> membership_;
  bool on_default_runtime_ = false;
  watch watch_;
  unsigned watch_number_ = 0;
  bool writable_awaited_ = false;  ///< for receivers

  // Closing, under mutex_.
  std::atomic<bool> closed_{false};
  std::chrono::milliseconds linger_;
  std::vector<TimerEntry> timers_;
  std::string local_address_;    ///< as it was when the descriptor was closed
  bool closing_begins_ = false;  ///< close() has not taken its first steps yet
  bool hard_ = false;
  bool sending_ended_ = false;
  bool outbox_ended_ = false;
  bool input_ended_ = false;
  bool closer_idle_ = false;  ///< the closer has the lane, and is not reading now
  bool finishing_ = false;
  bool delivered_ = false;
  std::size_t discarded_ = 0;
  std::error_code close_reason_{};
  clock::time_point linger_end_{};
  clock::duration acknowledgement_pause_ = std::chrono::milliseconds(1);
  std::unique_ptr<asio::steady_timer> close_timer_;
  std::unique_ptr<asio::steady_timer> turn_timer_;
  close_waiter* close_waiters_ = nullptr;
  exit_hold hold_;
  closer closer_{*this};
};

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/conn_close.hpp>
#include <gtcp/impl/conn_give_back.hpp>
#include <gtcp/impl/conn_receive.hpp>
#include <gtcp/impl/conn_send.hpp>
#include <gtcp/impl/conn_state.hpp>
#include <gtcp/impl/conn_wait.hpp>
#endif

#endif
