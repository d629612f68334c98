// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_OUTBOX_HPP
#define GTCP_DETAIL_OUTBOX_HPP

// Where packages go on their way to the transport. Whole packages enter in one order and leave in it:
//
//     drain (being written)  |  fill (accepted, copied)  |  queue (senders that wait; their memory is borrowed)
//
// Who must never wait, a package handler, leaves a copy in the queue when there is one.
//
// Exactly one writer at a time takes from the front. A package is straight out when nothing is before it; else its
// bytes are copied behind the others while there is room; else its sender waits in the queue, first come first served.
// Whoever writes also serves the queue, so a waiting sender costs one wake-up and no second attempt.
//
// A package of which a byte is out always goes out whole and before any other: when its sender gives up waiting, the
// rest is copied to the drain buffer first.
//
// Threads whose packages have to be with the system write them themselves, see wait_for_claim: to wake a thread for
// each of its packages costs more than writing it.
//
// There is one way to write what was accepted, flush_round. What differs is who calls it:
//
//  - the sender, when nothing is before its package: a request or a reply goes straight out
//  - who reads, before it waits for more input: what it sends while there is more to take is held back, see gathering
//  - who sends very often: at every 64 KiB, and an io thread after a moment

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/byte_buffer.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/copy_bytes.hpp>
#include <gtcp/detail/outbox_host.hpp>
#include <gtcp/detail/outbox_waiter.hpp>
#include <gtcp/detail/pkg_writer.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/detail/send_pace.hpp>
#include <gtcp/detail/short_mutex.hpp>
#include <gtcp/detail/transport.hpp>
#include <gtcp/error.hpp>

#include <asio/buffer.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <system_error>
#include <utility>

namespace gtcp::detail {

enum class send_outcome { done, waiting, refused };

/// Returns until when who waits does so; no_deadline is for ever.
using deadline_source = std::function<clock::time_point()>;

/// Thread safety: all members may be called by any thread.
class outbox {
 public:
  /// Payloads of this size are never copied while their sender waits.
  static constexpr std::size_t borrow_from = 16 * 1024;
  /// How much is held back before it is written all the same.
  static constexpr std::size_t cork_limit = 64 * 1024;

  outbox(transport& sink, native_socket descriptor, outbox_host& host, std::size_t limit,
         QueuePolicy when_full = QueuePolicy::Block)
      : host_(host), limit_(limit), when_full_(when_full), sink_(&sink), descriptor_(descriptor) {}

  ~outbox();
  outbox(const outbox&) = delete;
  outbox& operator=(const outbox&) = delete;

  /// Accepts a small package, if that is all there is to do: others are before it, and somebody will write them, or it
  /// is held back with others. False: nothing of it was taken, and send() does what there is to do.
  bool append(const pkg_header& header, asio::const_buffer payload, gathering how);

  /// Sends a record: done (its error says how), waiting (it is queued; finished() follows, and a thread, `self`, must
  /// call wait()), or refused: without `may_wait` when it would have to wait; nothing of it was taken then.
  send_outcome send(send_record& record, bool may_wait, thread_wait* self = nullptr, gathering how = gathering::none);

  /// Waits, in the calling thread, until what send() or flush() called waiting is done, or gives up at the deadline.
  /// `deadline` is asked again after every wake-up.
  void wait(outbox_waiter& waiter, thread_wait& self, const deadline_source& deadline);

  /// Ends the wait of an asynchronous operation: it is withdrawn whole, or, with a byte out, it goes out whole.
  void stop(std::uint64_t id, std::error_code reason);

  /// Lists an asynchronous send that failed and is tried again later, so that stop(), end() and drop() find it. False:
  /// there is no later. Throws what deadline_changed() does; the record is as it was then.
  bool pause(send_record& record);

  /// Gives back what pause() has listed; nullptr: it has ended meanwhile.
  outbox_waiter* resume(std::uint64_t id) noexcept;

  /// Waits for everything accepted so far to be with the system: done, or waiting (finished() follows).
  send_outcome flush(flush_record& record, thread_wait* self = nullptr);

  /// Whether no send ever waits for room.
  bool never_waits() const noexcept { return when_full_ != QueuePolicy::Block; }

  /// Whether more was accepted than the limit, as gathering::by_dispatch allows.
  bool is_over_limit() const noexcept { return over_limit_.load(std::memory_order_relaxed); }

  /// After is_over_limit(): waits until half of the limit is free.
  send_outcome await_room(flush_record& record);

  /// Holds small packages back until uncork(), a full outbox, or flush_held().
  void cork() {
    const std::lock_guard lock(mutex_);
    if (!stop_) ++corks_;
  }

  void uncork();

  /// Sends what is held back. Whoever is about to wait for input calls it; costs nothing when nothing is.
  void flush_held() {
    if (!has_held_.load(std::memory_order_relaxed)) return;
    std::unique_lock lock(mutex_);
    let_go_ = writing_;
    flush_and_settle(lock);
  }

  /// The same, but not of what a Cork holds.
  void flush_replies() {
    if (!has_held_.load(std::memory_order_relaxed)) return;
    std::unique_lock lock(mutex_);
    if (corks_ == 0) flush_and_settle(lock);
  }

  /// The turn of outbox_host::await_turn is over. Returns whether another one is to be awaited.
  bool on_turn(gathering how);

  /// The transport takes bytes again. Called for outbox_host::await_writable.
  void on_writable();

  /// Forgets a wait for room that will not come back, since its context ended.
  void forget_await_writable();

  /// The context ends in which asynchronous operations wait: they end without their handlers being called. What was
  /// accepted still goes out.
  void abandon();

  /// No further sends; they fail with `reason`. What was accepted, and with `waiting_too` what waits, still goes out,
  /// then outbox_host::on_outbox_drained follows. With `waiting_too` false the waiting ones fail with `reason`.
  void end(std::error_code reason, bool waiting_too);

  /// Drops everything that is not with the system. Returns how many bytes of accepted packages that were. Any reason
  /// but Errc::Closed is a failure of the connection's.
  std::size_t drop(std::error_code reason);

  /// outbox_host::on_descriptor_left follows when no thread uses the descriptor any more. Only after drop() or when
  /// drained.
  void leave_descriptor();

  /// Whether nothing is in it and nobody uses it. One who is just writing may finish first: the peer can have answered
  /// a write that has not returned yet.
  bool is_idle() const;

  /// No further sends, if it is idle: they fail with `reason`, and nothing follows. False: it goes on as it was.
  bool end_if_idle(std::error_code reason);

  /// Whether it can begin anew: its transport failed before it took a byte, and nobody uses it.
  bool can_restart() const;

  /// Begins anew with another transport, if it can.
  bool restart(transport& sink, native_socket descriptor);

  void deadline_changed();

  /// Bytes that were accepted and are not with the system yet.
  std::size_t pending_bytes() const {
    const std::lock_guard lock(mutex_);
    return pending_and_kept() + (sink_holds_ ? 1 : 0);
  }

  struct counts {
    std::uint64_t pkgs = 0;  ///< accepted
    std::uint64_t dropped_pkgs = 0;
    std::uint64_t bytes = 0;  ///< with the system
    std::size_t pending = 0;
  };
  counts counted() const {
    const std::lock_guard lock(mutex_);
    return {pkgs_, dropped_pkgs_, written_total_, pending_and_kept()};
  }

  /// Since when the system takes not a byte of what waits; no_deadline: it does, or nothing waits.
  clock::time_point stalled_since() const {
    const std::lock_guard lock(mutex_);
    return has_work() && is_stalled_ ? stalled_at_ : no_deadline;
  }

  /// What the transport failed with, if it did.
  std::error_code failure() const {
    const std::lock_guard lock(mutex_);
    return write_error_;
  }

  /// False: accepted bytes were dropped, or could not be written. Takes no lock.
  bool all_sent() const noexcept { return !lost_.load(std::memory_order_relaxed); }

 private:
  enum class drainer : unsigned char { none, io, thread };

  std::size_t pending() const noexcept { return drain_.size() + fill_.size(); }
  std::size_t pending_and_kept() const noexcept {
    return pending() + static_cast<std::size_t>(kept_total_ - unkept_total_);
  }

  void note_limit() noexcept {
    if (pending_and_kept() > limit_) over_limit_.store(true, std::memory_order_relaxed);
  }

  /// There is no room for a record whose sender does not wait: without `may_wait` it is refused, else `when_full_` says
  /// what becomes of it.
  send_outcome turn_away(send_record& record, bool may_wait, std::unique_lock<short_mutex>& lock);

  /// Accepts a package behind those that wait. False: there is no memory for it.
  bool keep(const send_record& record) noexcept;

  bool fits(const send_record& record) const noexcept {
    return pending() == 0 || (pending() < limit_ && record.size() <= limit_ - pending());
  }

  /// Copies what is left of a record: behind the accepted bytes, to fill_, or before them, to the empty drain_. False:
  /// there is no memory, and nothing was copied.
  bool accept(send_record& record, byte_buffer& target);

  /// Makes room behind what is held. False: there is no memory.
  bool make_room(byte_buffer& target, std::size_t size) noexcept { return target.has_room(size) || grow(target, size); }
  bool grow(byte_buffer& target, std::size_t size) noexcept;

  void enqueue(outbox_list& list, outbox_waiter& waiter, thread_wait* self);

  void forget_wait() noexcept {
    if (std::exchange(awaiting_, false) && drainer_ == drainer::io) drainer_ = drainer::none;
  }

  bool nothing_before() const noexcept { return drain_.empty() && fill_.empty() && queue_.empty() && !sink_holds_; }

  /// Writes a record that nothing is before. The thread `self` waits for what the system does not take, and others come
  /// behind it meanwhile; without one the rest is copied.
  send_outcome send_straight(send_record& record, thread_wait* self, std::unique_lock<short_mutex>& lock);

  /// Writes once, as the only one, without the mutex.
  io_result write(std::span<const asio::const_buffer> parts, std::unique_lock<short_mutex>& lock);

  void stop_writing();

  // Threads whose packages have to be with the system claim to write them. Who writes may go on doing so until the next
  // one is awake, which takes some microseconds and is asked for once: else every package would cost that. Meanwhile
  // each write tells the system that another one follows; if none does, since who waited has given up, the writer says
  // so.

  using claim = send_record::claim;

  /// Whether nobody is awake who would be passed.
  bool may_pass() const noexcept {
    return claims_.empty() || static_cast<const send_record&>(*claims_.first()).claim_ != claim::awake;
  }

  /// Waits until nobody else writes, and writes. Afterwards the record is done, or in the queue.
  void wait_for_claim(send_record& record, thread_wait& self, const deadline_source& deadline,
                      std::unique_lock<short_mutex>& lock);

  void withdraw_claim(send_record& record) noexcept {
    claims_.remove(record);
    record.claim_ = claim::none;
  }

  /// Those who claim to write go behind what came meanwhile.
  void queue_claims();

  /// `left`: how many bytes may be left.
  send_outcome flush(flush_record& record, thread_wait* self, std::size_t left, std::unique_lock<short_mutex>& lock);

  /// Whether what was accepted may be held back: nobody writes, and nothing waits to be written at once.
  bool may_hold() const noexcept {
    return !writing_ && drainer_ != drainer::io && drain_.empty() && !sink_holds_ && flushes_.empty();
  }

  void hold(gathering how) noexcept {
    has_held_.store(true, std::memory_order_relaxed);
    gathers_ = true;
    in_burst_ = how == gathering::by_burst;
  }

  /// Behind an accepted package, which a Cork may hold back now, or when the writer is done with what is before it.
  void note_corked() noexcept {
    if (corks_ != 0) has_held_.store(true, std::memory_order_relaxed);
  }

  /// Behind an accepted package: it is held back, or somebody writes it, or the caller does.
  void go_on(bool together, gathering how, std::unique_lock<short_mutex>& lock);

  /// Whether the sender, who finds nothing before its package, is hot, see send_pace.
  bool is_hot() {
    if (!host_.input_came()) return pace_.is_hot(written_at_, host_.now());
    pace_.note_input();
    return false;
  }

  /// Whether an io thread waits to write, and has written not long ago.
  bool io_thread_writes_soon() noexcept {
    constexpr auto long_time = std::chrono::milliseconds(10);
    if (drainer_ != drainer::io) return false;
    const clock::time_point now = coarse_now();
    if (now - drained_at_ < long_time) return true;
    drained_at_ = now;
    return false;
  }

  /// Whether it is worth trying to write, although the last one was told to wait: each time so much has come.
  bool is_enough(std::size_t more) const noexcept { return fill_.size() + more >= tried_size_ + cork_limit; }

  bool restartable() const noexcept {
    const bool untouched = takes_ == 0 && accepted_total_ == 0;
    return write_error_ && stop_ == write_error_ && untouched && !closed_ && idle() && drainer_ == drainer::none;
  }

  bool idle() const noexcept { return !has_work() && !writing_ && flushes_.empty() && threads_ == nullptr; }

  bool has_work() const noexcept {
    return !drain_.empty() || !fill_.empty() || !queue_.empty() || sink_holds_ || must_finish();
  }

  /// Whether what the transport itself says at the end is not with the system yet.
  bool must_finish() const noexcept { return wants_drained_ && !finished_stream_ && !write_error_ && !dropped_; }

  /// Notes which writes are with the system: all but the last one that took something, when the transport holds a part.
  void note_take(const io_result& put) noexcept {
    if (put.size != 0 || put.moved_held) is_stalled_ = false;
    if (put.size != 0) ++takes_;
    sink_holds_ = put.holds && !put.error;
    if (!sink_holds_)
      settled_takes_ = takes_;
    else if (put.size != 0)
      settled_takes_ = takes_ - 1;
  }

  void flush_and_settle(std::unique_lock<short_mutex>& lock, bool relock = false);

  /// While it was written, again and again, more came: holds that back, so that whoever sends writes 64 KiB at a time,
  /// instead of little after little here. False: somebody waits for it, or it is enough for a write.
  bool hold_burst();

  /// Writes once what is at the front. Returns whether another round makes sense now.
  bool flush_round(std::unique_lock<short_mutex>& lock);

  /// Behind the last byte: lets the transport say what it says at the end. Returns whether another round makes sense.
  bool finish_stream(std::unique_lock<short_mutex>& lock);

  /// After an error that may not come again, which took nothing: a package that has not begun is its sender's to send
  /// again; what was accepted is tried again.
  bool pass_over(std::error_code error);

  /// Who waits for the transport in another direction has to begin anew.
  void wait_for(wait_direction direction);

  /// What to wait for now. A moment is over once it was waited for.
  wait_direction begin_wait() noexcept {
    const wait_direction direction = blocked_for_;
    if (direction == wait_direction::moment) blocked_for_ = wait_direction::write;
    return direction;
  }

  /// Takes waiting packages in while there is room; from half empty on, so that senders are woken together.
  void serve_queue();

  /// The sender of a record in the queue waits no longer. (Nobody waits for a kept package.)
  void give_up(send_record& record, std::error_code reason);

  /// Copies the rest of a partly written record to the front. Without memory for it the stream would be torn, so it
  /// ends.
  bool keep_rest(send_record& record);

  void resolve(send_record& record);

  void note_pkg(const send_record& record) noexcept {
    if (record.header.size != 0) ++pkgs_;
  }

  void finish(outbox_waiter& waiter, std::error_code result) {
    waiter.error = result;
    waiter.done = true;
    if (waiter.finished()) completed_.push_back(waiter);
  }

  void finish_from(outbox_list& list, outbox_waiter& waiter, std::error_code result) {
    list.remove(waiter);
    finish(waiter, result);
  }

  void finish_all(outbox_list& list, std::error_code result) {
    while (!list.empty()) finish_from(list, *list.first(), result);
  }

  static outbox_waiter* find(const outbox_list& list, std::uint64_t id) noexcept {
    outbox_waiter* waiter = list.first();
    while (waiter != nullptr && waiter->id != id) waiter = outbox_list::next(*waiter);
    return waiter;
  }

  static void complete(outbox_list& completed) {
    while (!completed.empty()) {
      outbox_waiter& waiter = *completed.first();
      completed.remove(waiter);
      if (waiter.is_abandoned_)
        waiter.destroy();
      else
        waiter.complete();
    }
  }

  void finish_flushes();

  void fail(std::error_code error);

  void drop_now(std::error_code error);

  // Blocked threads, and who of them drains.

  void add(thread_wait& self) noexcept { self.next = std::exchange(threads_, &self); }

  void remove(thread_wait& self) noexcept {
    for (thread_wait** link = &threads_; *link != nullptr; link = &(*link)->next) {
      if (*link != &self) continue;
      *link = self.next;
      return;
    }
  }

  void wake_threads() {
    for (thread_wait* thread = threads_; thread != nullptr; thread = thread->next) thread->wake();
  }

  void take_over(thread_wait& self) noexcept {
    drainer_ = drainer::thread;
    self.drains = true;
  }

  static void wait_until(thread_wait& self, std::unique_lock<short_mutex>& lock, clock::time_point until) {
    lock.unlock();
    self.wait_until(until);
    lock.lock();
  }

  /// Finds one who goes on with what is left, and tells everybody what has happened. Releases the mutex.
  void settle(std::unique_lock<short_mutex>& lock);

  outbox_host& host_;
  const std::size_t limit_;
  const QueuePolicy when_full_;
  mutable short_mutex mutex_;

  // What is here.
  byte_buffer drain_;
  byte_buffer fill_;
  outbox_list queue_;               ///< of send_record
  outbox_list claims_;              ///< of send_record: direct ones of threads, while nothing else is here
  send_record* claimed_ = nullptr;  ///< the one that its thread writes, before the queue
  outbox_list flushes_;             ///< of flush_record
  outbox_list pauses_;              ///< of send_record: asynchronous ones that are tried again later
  outbox_list completed_;           ///< finished asynchronous ones, on their way to complete()

  // How much.
  std::uint64_t accepted_total_ = 0;  ///< bytes that were appended to fill_
  std::uint64_t written_total_ = 0;
  std::uint64_t kept_total_ = 0;    ///< bytes of kept packages that came to the queue
  std::uint64_t unkept_total_ = 0;  ///< of those that have left it
  std::uint64_t pkgs_ = 0;          ///< that were accepted; bytes without a header are none
  std::uint64_t dropped_pkgs_ = 0;  ///< by QueuePolicy::Drop
  std::atomic<bool> over_limit_{false};

  // Holding back.
  std::size_t corks_ = 0;
  std::atomic<bool> has_held_{false};  ///< something is held back, by a Cork or by gathering
  bool gathers_ = false;               ///< fill_ is held back until flush_held() or on_turn()
  bool in_burst_ = false;              ///< it is held back because so many are sent
  bool let_go_ = false;                ///< flush_held() found a writer, who is not to hold fill_ back
  bool awaits_turn_ = false;           ///< outbox_host::await_turn was called and on_turn goes on
  bool wants_turn_ = false;            ///< settle() is to call it
  std::uint64_t turn_total_ = 0;       ///< accepted_total_ when await_turn was called, or on_turn
  send_pace pace_;

  // Writing, and waiting for the transport.
  transport* sink_;
  native_socket descriptor_;
  drainer drainer_ = drainer::none;
  bool writing_ = false;     ///< somebody is inside sink_->write_some
  bool awaiting_ = false;    ///< outbox_host::await_writable was called and on_writable is to come
  bool sink_holds_ = false;  ///< the transport holds a part of what it took
  wait_direction blocked_for_ = wait_direction::write;
  thread_wait* threads_ = nullptr;   ///< those that are blocked here
  std::uint64_t takes_ = 0;          ///< writes that took something
  std::uint64_t settled_takes_ = 0;  ///< of those, how many are with the system
  std::size_t tried_size_ = 0;       ///< fill_.size() when a write was tried last
  clock::time_point written_at_{};   ///< end of the last write
  clock::time_point drained_at_{};   ///< when the io thread that drains was asked, or has written
  bool is_stalled_ = false;          ///< the system took no more, and not a byte since
  clock::time_point stalled_at_{};   ///< when it took no more

  // The end.
  std::error_code stop_{};         ///< what further sends fail with
  std::error_code write_error_{};  ///< what the transport failed with
  std::atomic<bool> lost_{false};
  bool closed_ = false;           ///< nothing waits any more
  bool dropped_ = false;          ///< and nothing goes out any more
  bool wants_drained_ = false;    ///< settle() is to call outbox_host::on_outbox_drained
  bool finished_stream_ = false;  ///< before that, the transport has said what it says at the end
  bool wants_left_ = false;       ///< settle() is to call outbox_host::on_descriptor_left
};

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/outbox.hpp>
#include <gtcp/impl/outbox_write.hpp>
#endif

#endif
