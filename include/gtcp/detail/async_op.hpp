// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ASYNC_OP_HPP
#define GTCP_DETAIL_ASYNC_OP_HPP

// Asynchronous operations with their handlers: what the completion token's handler wants (its executor, its
// allocator, its cancellation slot) around the operations of the connection, which know none of it.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/error.hpp>
#include <gtcp/payload.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/associated_allocator.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/execution/outstanding_work.hpp>
#include <asio/prefer.hpp>
#include <asio/recycling_allocator.hpp>
#include <asio/steady_timer.hpp>
#include <asio/system_executor.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

/// The state of a connection, which whoever works on it keeps.
using conn_ptr = std::shared_ptr<conn_state>;

/// What the copies of a Conn share. It points to the state, too, but with the last one of them the connection closes.
using conn_handle = std::shared_ptr<conn_state>;

/// The executor of operations on a connection, or on none.
inline asio::any_io_executor executor_of(conn_state* conn) {
  return conn != nullptr ? conn->executor() : asio::any_io_executor(asio::system_executor());
}

/// An operation that was checked and can begin: or the error that keeps it from it.
struct prepared {
  const char* name;
  conn_ptr conn;
  std::error_code error{};
  std::string why{};
  Retry retry{};
  pkg_format format{};

  std::string describe(const std::error_code& result) const {
    std::string reason = why;
    if (reason.empty() && conn != nullptr) reason = conn->explain(result, format);
    return with_reason(std::string(name) + (conn != nullptr ? " [" + conn->remote_address() + "]" : ""), reason);
  }

  void report(const OnError& on_error, const std::error_code& result) const {
    on_error.Report(result, [&] { return describe(result); });
  }

  asio::any_io_executor executor() const { return executor_of(conn.get()); }
};

/// A handler, and the work that keeps its executor and the connection's running until it was called.
template <class Handler>
class pending_handler {
  using executor = asio::associated_executor_t<Handler, asio::any_io_executor>;
  using work = tracked_executor_t<executor>;
  static constexpr bool can_be_own = std::is_same_v<executor, asio::any_io_executor>;

 public:
  /// If it throws, the handler is as it was.
  pending_handler(Handler&& handler, const asio::any_io_executor& io)
      : executor_(unless_own(asio::get_associated_executor(handler, io), io)),
        io_work_(asio::prefer(io, asio::execution::outstanding_work.tracked)),
        handler_(std::move(handler)) {}

  const Handler& handler() const noexcept { return handler_; }
  const asio::any_io_executor& io() const noexcept { return io_work_; }

  /// Calls the handler through its executor, at once if `may_dispatch` and already there. Throws only what the handler
  /// does.
  template <class... Results>
  void complete(bool may_dispatch, Results... results) && {
    using bound = completion<Handler, Results...>;
    if constexpr (can_be_own) {
      if (!executor_) {
        const asio::any_io_executor own = std::move(io_work_);
        if (may_dispatch && runs_here(own)) return std::move(handler_)(std::move(results)...);
        return bound::pass_on(own, own, bound(std::move(handler_), std::move(results)...), may_dispatch);
      }
    }
    const work through = std::move(executor_);
    bound::pass_on(through, io_work_, bound(std::move(handler_), std::move(results)...), may_dispatch);
  }

 private:
  static work unless_own(const executor& wanted, const asio::any_io_executor& io) {
    if constexpr (can_be_own) {
      if (wanted == io) return {};
    }
    return asio::prefer(wanted, asio::execution::outstanding_work.tracked);
  }

  work executor_;  ///< none if it is the connection's own
  asio::any_io_executor io_work_;
  Handler handler_;
};

/// Makes and frees operations with the allocator of their handler. One that has none, as a coroutine's, gets memory
/// that the io thread keeps for the next operation. If make() throws, the handler is as it was.
template <class Op, class Handler>
struct op_memory {
  using fallback = asio::recycling_allocator<void>;
  using allocator =
      typename std::allocator_traits<asio::associated_allocator_t<Handler, fallback>>::template rebind_alloc<Op>;

  template <class... Args>
  static Op* make(Handler&& handler, Args&&... args) {
    allocator memory(asio::get_associated_allocator(handler, fallback()));
    Op* const place = std::allocator_traits<allocator>::allocate(memory, 1);
    try {
      return ::new (static_cast<void*>(place)) Op(std::move(handler), std::forward<Args>(args)...);
    } catch (...) {
      std::allocator_traits<allocator>::deallocate(memory, place, 1);
      throw;
    }
  }

  /// Frees an operation with its handler, which is not called.
  static void drop(Op* op, pending_handler<Handler>& own) noexcept {
    const pending_handler<Handler> pending(std::move(own));
    free(op, pending.handler());
  }

  /// `handler` is the operation's own, or has been moved out of it.
  static void free(Op* op, const Handler& handler) noexcept {
    allocator memory(asio::get_associated_allocator(handler, fallback()));
    op->~Op();
    std::allocator_traits<allocator>::deallocate(memory, op, 1);
  }
};

/// A receive; `WithResult`: the handler takes the bytes, else they are in the caller's string.
template <class Handler, bool WithResult>
class async_receive_op final : public async_receiver {
 public:
  async_receive_op(Handler&& handler, const conn_ptr& state, recv_goal&& wanted, time_limit give_up_at,
                   std::string* target)
      : async_receiver(state, std::move(wanted), give_up_at, place_for_result(result_, target)),
        pending_(std::move(handler), state->executor()) {}

  /// If it throws, the handler is as it was.
  static void start(Handler&& handler, const conn_ptr& conn, recv_goal&& goal, time_limit limit, const Retry& retry,
                    std::string* into) {
    const std::uint64_t id = conn->next_operation_id();
    auto slot = asio::get_associated_cancellation_slot(handler);
    if (slot.is_connected()) {
      slot.assign([weak = std::weak_ptr(conn), id](asio::cancellation_type) {
        if (const auto state = weak.lock()) state->stop_receive(id, asio::error::operation_aborted);
      });
    }
    start_as(id, std::move(handler), conn, std::move(goal), limit, retry, into);
  }

  /// The same, without looking at the handler's cancellation slot.
  static void start_as(std::uint64_t id, Handler&& handler, const conn_ptr& conn, recv_goal&& goal, time_limit limit,
                       const Retry& retry, std::string* into) {
    auto* const op = op_memory<async_receive_op, Handler>::make(std::move(handler), conn, std::move(goal), limit, into);
    op->id = id;
    op->retry = retry;
    const conn_ptr keep = conn;
    keep->start(*op);
  }

  void complete(std::error_code error, bool may_dispatch) override {
    const conn_ptr state = conn();
    pending_handler<Handler> pending(std::move(pending_));
    if constexpr (WithResult) {
      std::string bytes = std::move(result_);
      op_memory<async_receive_op, Handler>::free(this, pending.handler());
      std::move(pending).complete(may_dispatch, error, std::move(bytes));
    } else {
      op_memory<async_receive_op, Handler>::free(this, pending.handler());
      std::move(pending).complete(may_dispatch, error);
    }
  }

  void destroy() noexcept override { op_memory<async_receive_op, Handler>::drop(this, pending_); }

 private:
  struct no_result {};
  using own_result = std::conditional_t<WithResult, std::string, no_result>;

  /// Static: the operation is not there yet.
  static std::string* place_for_result(own_result& own, std::string* target) noexcept {
    if constexpr (WithResult)
      return &own;
    else
      return target;
  }

  [[no_unique_address]] own_result result_;
  pending_handler<Handler> pending_;
};

/// That an operation was cancelled, for the moments in which it is on its way from one place to another and stop()
/// finds it in neither: it looks here when it has arrived. Empty: nobody can cancel it, or it has no such moments.
using cancel_mark = std::shared_ptr<std::atomic<bool>>;

inline bool is_marked(const cancel_mark& mark) noexcept { return mark != nullptr && mark->load(); }

/// A send or a flush: `Record` is send_record or flush_record.
template <class Handler, class Record>
class async_send_op final : public Record {
 public:
  async_send_op(Handler&& handler, conn_ptr conn, AsyncPayload data)
      : conn_(std::move(conn)), pending_(std::move(handler), conn_->executor()), data_(std::move(data)) {}

  /// `submit(outbox, op)` hands the operation to the outbox and returns its send_outcome. If it throws, the handler is
  /// as it was.
  template <class Submit>
  static void start(Handler&& handler, const conn_ptr& conn, AsyncPayload data, time_limit limit, const Retry& retry,
                    const Submit& submit) {
    const std::uint64_t id = conn->next_operation_id();
    auto slot = asio::get_associated_cancellation_slot(handler);
    cancel_mark cancelled;
    if (slot.is_connected()) {
      if (retry.Count > 0 || conn->is_pooled()) cancelled = std::make_shared<std::atomic<bool>>(false);
      slot.assign([weak = std::weak_ptr(conn), id, cancelled](asio::cancellation_type) {
        if (cancelled != nullptr) cancelled->store(true);  // first: an operation that arrives meanwhile sees it
        if (const auto state = weak.lock()) state->out().stop(id, asio::error::operation_aborted);
      });
    }
    start_as(id, std::move(handler), conn, std::move(data), limit, retry, std::move(cancelled), submit);
  }

  /// The same, without looking at the handler's cancellation slot: who does so marks `cancelled`, and calls stop().
  template <class Submit>
  static void start_as(std::uint64_t id, Handler&& handler, const conn_ptr& conn, AsyncPayload data, time_limit limit,
                       const Retry& retry, cancel_mark cancelled, const Submit& submit) {
    auto* const op = op_memory<async_send_op, Handler>::make(std::move(handler), conn, std::move(data));
    op->id = id;
    op->limit_ = limit;
    op->retry_ = retry;
    op->cancelled_ = std::move(cancelled);
    op->begin(submit);
  }

  bool finished() override { return true; }
  bool is_asynchronous() const noexcept override { return true; }

  void destroy() noexcept override {
    const conn_ptr keep = conn_;
    op_memory<async_send_op, Handler>::drop(this, pending_);
  }

  void complete() override {
    const conn_ptr keep = conn_;
    if constexpr (std::is_same_v<Record, send_record>) {
      if (is_transient(this->error) && retry_.Count-- > 0 && pauses_until(deadline_after(retry_pause(retry_)))) return;
      if (keep->should_renew(this->error) && pauses_for_renewal(*keep)) return;
    }
    const std::error_code result = this->error;
    pending_handler<Handler> pending(std::move(pending_));
    op_memory<async_send_op, Handler>::free(this, pending.handler());
    std::move(pending).complete(false, result);
  }

  void deadline_changed() override {
    const clock::time_point give_up_at = limit_.resolve(conn_->send_deadline());
    const clock::time_point until = std::min(give_up_at, resume_at_);
    if (until == no_deadline) {
      timer_.reset();
      return;
    }
    if (!timer_) timer_.emplace(inner_executor(pending_.io()));
    timer_->expires_at(until);
    timer_->async_wait(
        [weak = std::weak_ptr(conn_), id = this->id, resumes = until < give_up_at](std::error_code aborted) {
          if (aborted) return;
          const auto state = weak.lock();
          if (state == nullptr) return;
          if (resumes)
            resume(*state, id);
          else
            insist([&state, id] { state->out().stop(id, Errc::Timeout); });
        });
  }

 private:
  /// Ends the pause of the operation, if it is still there. One that has ended may be gone.
  static void resume(conn_state& conn, std::uint64_t id) {
    if constexpr (std::is_same_v<Record, send_record>) {
      if (auto* const op = static_cast<async_send_op*>(conn.out().resume(id))) op->try_again();
    }
  }

  template <class Submit>
  void begin(const Submit& submit) {
    const conn_ptr keep = conn_;
    const cancel_mark cancelled = cancelled_;
    const std::uint64_t own_id = this->id;
    send_outcome outcome = send_outcome::done;
    try {
      outcome = submit(keep->out(), *this, data_.Buffer());
    } catch (const std::exception&) {  // no timer for it: the outbox has not taken it
      this->error = no_memory_error();
    }
    if (outcome == send_outcome::done)
      complete();
    else if (is_marked(cancelled))
      keep->out().stop(own_id, asio::error::operation_aborted);
  }

  void try_again() {
    resume_at_ = no_deadline;
    if (conn_->closed()) {  // the outbox may not know yet
      this->error = Errc::Closed;
      return complete();
    }
    const clock::time_point until = limit_.resolve(conn_->send_deadline());
    if (until != no_deadline && clock::now() >= until) {
      this->error = Errc::Timeout;
      return complete();
    }
    begin([](outbox& out, async_send_op& op, asio::const_buffer) { return out.send(op, true); });
  }

  /// True: it pauses, or has ended meanwhile and may be gone.
  bool pauses_until(clock::time_point until) {
    const conn_ptr keep = conn_;
    const cancel_mark cancelled = cancelled_;
    const std::uint64_t own_id = this->id;
    resume_at_ = until;
    try {
      if (!keep->out().pause(*this)) {
        if (keep->closed()) this->error = Errc::Closed;
        return false;
      }
    } catch (const std::exception&) {
      return false;
    }
    if (is_marked(cancelled)) keep->out().stop(own_id, asio::error::operation_aborted);
    return true;
  }

  /// The same, until there is a fresh connection. Without one it fails again, with the same error.
  bool pauses_for_renewal(conn_state& conn) {
    const std::uint64_t own_id = this->id;
    const std::error_code failure = this->error;
    const time_limit limit = limit_;
    if (!pauses_until(no_deadline)) return false;
    try {
      conn.start_renewal(limit, [keep = conn.shared_from_this(), own_id] { resume(*keep, own_id); });
      return true;
    } catch (const std::exception&) {
      if (conn.out().resume(own_id) == nullptr) return true;
      this->error = failure;
      return false;
    }
  }

  conn_ptr conn_;
  pending_handler<Handler> pending_;
  AsyncPayload data_;
  time_limit limit_;
  Retry retry_;
  cancel_mark cancelled_;
  clock::time_point resume_at_ = no_deadline;  ///< the end of a pause
  std::optional<asio::steady_timer> timer_;
};

/// Waits for the end of closing.
template <class Handler>
class async_close_op final : public close_waiter {
 public:
  async_close_op(Handler&& handler, conn_ptr conn)
      : conn_(std::move(conn)), pending_(std::move(handler), conn_->executor()) {}

  static void start(Handler&& handler, const conn_ptr& conn) {
    const conn_ptr keep = conn;
    keep->close(false);  // whether or not there is memory to wait for its end
    auto* const op = op_memory<async_close_op, Handler>::make(std::move(handler), conn);
    if (!keep->start_wait_closed(*op)) return;
    op->delivered_ = keep->delivered();
    op->complete();
  }

  bool finished(bool delivered) override {
    delivered_ = delivered;
    return true;
  }

  void destroy() noexcept override {
    const conn_ptr keep = conn_;
    op_memory<async_close_op, Handler>::drop(this, pending_);
  }

  void complete() override {
    const conn_ptr keep = conn_;
    const bool delivered = delivered_;
    pending_handler<Handler> pending(std::move(pending_));
    op_memory<async_close_op, Handler>::free(this, pending.handler());
    std::move(pending).complete(false, std::error_code(), delivered);
  }

 private:
  conn_ptr conn_;
  pending_handler<Handler> pending_;
  bool delivered_ = false;
};

// ---- Initiating with any completion token

/// What begins an operation, and its executor, which some of Asio's token adapters ask for: that of what it is on.
template <class Begin, class Where>
class initiation : public Begin {
 public:
  using executor_type = asio::any_io_executor;

  initiation(Begin begin, Where where) : Begin(std::move(begin)), where_(std::move(where)) {}

  executor_type get_executor() const { return where_(); }

 private:
  [[no_unique_address]] Where where_;
};

/// Of an operation on a connection, which what is given to it keeps.
template <class Begin>
auto initiation_on(const prepared& op, Begin begin) {
  return initiation(std::move(begin), [conn = op.conn.get()] { return executor_of(conn); });
}

/// Whether a handler names an executor of its own.
template <class Handler>
bool has_own_executor(const Handler& handler) {
  const auto own = asio::get_associated_executor(handler, asio::any_io_executor());
  if constexpr (std::is_same_v<std::decay_t<decltype(own)>, asio::any_io_executor>)
    return static_cast<bool>(own);
  else
    return true;
}

/// Completes with an error that was found before the operation began. `executor()` says where; a handler with an
/// executor of its own is called there also when there is no thread for any other one.
template <class Handler, class Executor, class... Results>
void refuse(Handler& handler, const Executor& executor, const std::error_code& error,
            const Results&... results) noexcept {
  const auto io = [&]() -> asio::any_io_executor {
    try {
      return executor();
    } catch (const std::exception&) {
      if (!has_own_executor(handler)) throw;
      return asio::system_executor();
    }
  };
  insist([&] {
    pending_handler<Handler> pending(std::move(handler), io());
    std::move(pending).complete(false, error, results...);
  });
}

/// Begins an operation by `begin()`, which leaves the handler as it was when it throws; then, and when there was an
/// error before, completes with that. So initiating functions do not throw once they have the handler: what a coroutine
/// is suspended for must not.
template <class Handler, class Executor, class Begin, class... Results>
void begin_or_refuse(Handler& handler, const Executor& executor, std::error_code error, const Begin& begin,
                     const Results&... results) noexcept {
  if (!error) {
    try {
      return begin();
    } catch (const std::system_error& failure) {
      error = failure.code();
    } catch (const std::exception&) {
      error = no_memory_error();
    }
  }
  refuse(handler, executor, error, results...);
}

template <class Token>
auto async_receive(prepared op, recv_goal goal, time_limit limit, Token&& token) {
  const auto initiate = [](auto handler, const prepared& checked, recv_goal wanted, time_limit until) {
    const auto begin = [&] {
      async_receive_op<decltype(handler), true>::start(std::move(handler), checked.conn, std::move(wanted), until,
                                                       checked.retry, nullptr);
    };
    begin_or_refuse(
        handler, [&] { return checked.executor(); }, checked.error, begin, std::string());
  };
  return asio::async_initiate<Token, void(std::error_code, std::string)>(initiation_on(op, initiate), token,
                                                                         std::move(op), std::move(goal), limit);
}

// One package of the standard format. What begins them holds no more than it must, since a coroutine that waits keeps
// it; the token keeps the connection.

template <class Token>
auto async_receive_pkg(conn_state& conn, time_limit limit, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code, std::string)>(
      [](auto handler, conn_state* state, time_limit until) {
        const auto begin = [&] {
          async_receive_op<decltype(handler), true>::start(std::move(handler), state->shared_from_this(),
                                                           recv_goal::package(state->format()), until,
                                                           state->format().retry, nullptr);
        };
        begin_or_refuse(
            handler, [&] { return state->executor(); }, std::error_code(), begin, std::string());
      },
      token, &conn, limit);
}

template <class Token>
auto async_receive_pkg_into(conn_state& conn, time_limit limit, std::string& into, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code)>(
      [](auto handler, conn_state* state, time_limit until, std::string* target) {
        const auto begin = [&] {
          async_receive_op<decltype(handler), false>::start(std::move(handler), state->shared_from_this(),
                                                            recv_goal::package(state->format()), until,
                                                            state->format().retry, target);
        };
        begin_or_refuse(
            handler, [&] { return state->executor(); }, std::error_code(), begin);
      },
      token, &conn, limit, &into);
}

template <class Token>
auto async_receive_into(prepared op, recv_goal goal, time_limit limit, std::string& into, Token&& token) {
  const auto initiate = [](auto handler, const prepared& checked, recv_goal wanted, time_limit until,
                           std::string* target) {
    const auto begin = [&] {
      async_receive_op<decltype(handler), false>::start(std::move(handler), checked.conn, std::move(wanted), until,
                                                        checked.retry, target);
    };
    begin_or_refuse(
        handler, [&] { return checked.executor(); }, checked.error, begin);
  };
  return asio::async_initiate<Token, void(std::error_code)>(initiation_on(op, initiate), token, std::move(op),
                                                            std::move(goal), limit, &into);
}

/// Hands a send to the outbox of `conn`.
inline auto submits(conn_state& conn, const pkg_header& header) {
  return [&conn, &header](outbox& out, send_record& record, asio::const_buffer payload) {
    conn.note_send(header);
    record.header = header;
    record.payload = payload;
    record.direct = conn.mode() == SendMode::Direct;
    return out.send(record, true, nullptr, conn.gathers());
  };
}

template <class Token>
auto async_send(prepared op, pkg_header header, AsyncPayload data, time_limit limit, Token&& token) {
  const auto initiate = [](auto handler, const prepared& checked, pkg_header head, AsyncPayload bytes,
                           time_limit until) {
    const auto begin = [&] {
      async_send_op<decltype(handler), send_record>::start(std::move(handler), checked.conn, std::move(bytes), until,
                                                           checked.retry, submits(*checked.conn, head));
    };
    begin_or_refuse(
        handler, [&] { return checked.executor(); }, checked.error, begin);
  };
  return asio::async_initiate<Token, void(std::error_code)>(initiation_on(op, initiate), token, std::move(op), header,
                                                            std::move(data), limit);
}

template <class Token>
auto async_flush(prepared op, time_limit limit, Token&& token) {
  const auto initiate = [](auto handler, const prepared& checked, time_limit until) {
    const auto submit = [](outbox& out, flush_record& record, asio::const_buffer) { return out.flush(record); };
    const auto begin = [&] {
      async_send_op<decltype(handler), flush_record>::start(std::move(handler), checked.conn, {}, until, {}, submit);
    };
    begin_or_refuse(
        handler, [&] { return checked.executor(); }, checked.error, begin);
  };
  return asio::async_initiate<Token, void(std::error_code)>(initiation_on(op, initiate), token, std::move(op), limit);
}

template <class Token>
auto async_close(prepared op, Token&& token) {
  const auto initiate = [](auto handler, const prepared& checked) {
    const auto begin = [&] { async_close_op<decltype(handler)>::start(std::move(handler), checked.conn); };
    begin_or_refuse(
        handler, [&] { return checked.executor(); }, checked.error, begin, false);
  };
  return asio::async_initiate<Token, void(std::error_code, bool)>(initiation_on(op, initiate), token, std::move(op));
}

}  // namespace gtcp::detail

#endif
