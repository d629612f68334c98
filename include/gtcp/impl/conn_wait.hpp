// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_WAIT_HPP
#define GTCP_IMPL_CONN_WAIT_HPP

// How conn_state waits through Asio: for its receivers, and for its outbox.

#include <gtcp/detail/conn_state.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/dispatch.hpp>
#include <asio/socket_base.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL async_receiver*& conn_state::entrusted() noexcept {
  static thread_local async_receiver* op = nullptr;
  return op;
}

class conn_state::wait_handler {
 public:
  explicit wait_handler(async_receiver& op) : op_(&op) {}
  wait_handler(wait_handler&& other) noexcept : op_(std::exchange(other.op_, nullptr)) {}
  wait_handler& operator=(wait_handler&&) = delete;
  ~wait_handler() {
    if (op_ != nullptr && op_ != entrusted()) abandon(*op_);
  }
  void operator()(const std::error_code& = {}) {
    const asio::any_io_executor* const strand = op_->strand();
    if (strand == nullptr) return go_on();
    async_receiver& op = *std::exchange(op_, nullptr);
    const std::shared_ptr<conn_state> conn = op.conn_;
    const bool goes_on = entrust(
        op,
        [strand](wait_handler&& handler) {
          asio::dispatch(*strand, [self = std::move(handler)]() mutable { self.go_on(); });
        },
        /*throws=*/false);
    if (!goes_on) lane::run(conn->give_up(op));
  }
  void go_on() {
    entrusted() = nullptr;
    async_receiver& op = *std::exchange(op_, nullptr);
    const std::shared_ptr<conn_state> conn = op.conn_;
    conn->on_wait_over(op);
  }

 private:
  async_receiver* op_;
};

template <class Begin>
bool conn_state::entrust(async_receiver& op, const Begin& begin, bool throws) {
  struct scope {
    explicit scope(async_receiver* now) noexcept : outer(std::exchange(entrusted(), now)) {}
    ~scope() { entrusted() = outer; }
    async_receiver* const outer;
  };
  const scope during(&op);
  try {
    begin(wait_handler(op));
    return true;
  } catch (const std::exception&) {
    if (throws || entrusted() != &op) throw;
    return false;
  }
}

GTCP_DECL void conn_state::on_context_end() noexcept {
  async_receiver* queued = nullptr;
  close_waiter* unheard = nullptr;
  bool was_watched = false;
  {
    const std::lock_guard lock(mutex_);
    if (!closed()) {  // else what waits is the closing, elsewhere
      was_watched = true;
      watch_.release();  // the next wait opens it anew
      ++watch_number_;
      writable_awaited_ = false;
    }
    executor_ = asio::any_io_executor();
    receiver* next = nullptr;
    for (receiver* entry = receivers_; entry != nullptr; entry = next) {
      next = entry->next_;
      async_receiver* const op = entry->asynchronous();
      if (op == nullptr) continue;
      op->is_abandoned_ = true;  // if it waits through Asio, its handler is destroyed there, see wait_handler
      if (op->stage_ != async_receiver::stage::queued || !lane_.withdraw(*op)) continue;
      unlist(*op);
      op->next_ = std::exchange(queued, op);
    }
    unheard = take_asynchronous_close_waiters();
  }
  while (queued != nullptr) {
    async_receiver* const op = queued;
    queued = static_cast<async_receiver*>(op->next_);
    op->destroy();
  }
  while (unheard != nullptr) {
    close_waiter* const waiter = unheard;
    unheard = waiter->next_;
    waiter->destroy();
  }
  outbox_.abandon();
  if (was_watched) outbox_.forget_await_writable();
}

GTCP_DECL void conn_state::await_writable(wait_direction direction) {
  const bool awaited = insist([&] {
    const std::lock_guard lock(mutex_);
    if (descriptor_ == invalid_native_socket) return;
    hold_exit();
    auto go_on = [self = shared_from_this(), watch = watch_number_](std::error_code) {
      {
        const std::lock_guard relock(self->mutex_);
        if (watch != self->watch_number_) return;  // moved to another context, which waits anew
      }
      self->outbox_.on_writable();
      self->release_hold_if_drained();
    };
    if (direction == wait_direction::moment) {
      const auto timer = std::make_shared<asio::steady_timer>(waiting_executor(), moment_length);
      return timer->async_wait([timer, go_on](std::error_code error) { go_on(error); });
    }
    const auto what = direction == wait_direction::read ? asio::socket_base::wait_read : asio::socket_base::wait_write;
    open_watch().async_wait(what, std::move(go_on));
  });
  if (!awaited) outbox_.drop(no_memory_error());
}

struct conn_state::turn_handler {
  std::shared_ptr<conn_state> self;
  gathering how;
  void operator()(std::error_code = {}) const {
    if (self->outbox_.on_turn(how)) return self->await_turn(how, true);
    self->release_hold_if_drained();
  }
};

GTCP_DECL void conn_state::await_turn(gathering how, bool again) {
  try {
    const std::lock_guard lock(mutex_);
    if (closed()) return;  // closing lets go
    turn_handler handler{shared_from_this(), how};
    // Who reads in a context that ends lets go when the connection closes; the process's end need not wait for that.
    if (how == gathering::by_task) return post_to(waiting_executor(), std::move(handler));
    hold_exit();
    // Threads may send while nobody runs the connection's context.
    if (turn_timer_ == nullptr) {
      turn_timer_ = std::make_unique<asio::steady_timer>(Runtime::Default().get_executor());
    }
    if (how == gathering::by_burst && !again) return post_to(turn_timer_->get_executor(), std::move(handler));
    turn_timer_->expires_after(how == gathering::by_burst ? burst_pause : reader_pause);
    turn_timer_->async_wait(std::move(handler));
  } catch (const std::exception&) {
    while (outbox_.on_turn(how)) {  // nobody comes by later, so nothing is held back
    }
  }
}

}  // namespace gtcp::detail

#endif
