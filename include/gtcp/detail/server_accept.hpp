// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_ACCEPT_HPP
#define GTCP_DETAIL_SERVER_ACCEPT_HPP

// The accept loop of a server, in a thread and as a coroutine. Only closing the listener ends it.

#include <gtcp/detail/asio_compat.hpp>
#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/freed_descriptors.hpp>
#include <gtcp/detail/guarded_wait.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/detail/server_listener.hpp>
#include <gtcp/detail/server_state.hpp>
#include <gtcp/detail/watch.hpp>
#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/socket_base.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp::detail {

/// Says how long to pause after an accept that failed.
class accept_pacer {
 public:
  struct verdict {
    clock::duration pause{};
    bool is_news = false;  ///< worth a report: the trouble has just begun
  };

  verdict failed(const std::error_code& error) noexcept {
    // A connection that was gone before it was accepted is not worth a word; a listener that only fails is.
    constexpr int failures_in_a_row = 16;
    if (!is_shortage(error) && ++failures_ < failures_in_a_row) return {};
    const bool is_news = next_ == first_pause;
    return {std::exchange(next_, std::min(next_ * 2, longest_pause)), is_news};
  }

  void accepted() noexcept {
    failures_ = 0;
    next_ = first_pause;
  }

 private:
  static constexpr clock::duration first_pause = std::chrono::milliseconds(10);
  static constexpr clock::duration longest_pause = std::chrono::seconds(1);
  clock::duration next_ = first_pause;
  int failures_ = 0;
};

inline void report_accept(server_state& server, const std::error_code& error) {
  try {
    server.report(Conn(), std::make_exception_ptr(std::system_error(
                              error, "cannot accept connections on \"" + server.listened_address() + "\"")));
  } catch (const std::bad_alloc&) {  // no memory for the text; accepting goes on
  }
}

/// Accepts and serves in the calling thread until the listener is closed.
inline void accept_in_thread(server_state& server, server_listener& listener) {
  accept_pacer pacer;
  for (;;) {
    accepted_socket accepted;
    std::error_code error;
    const std::uint64_t freed = freed_descriptors::of_this_process().count();
    switch (listener.accept(accepted, error)) {
      case server_listener::outcome::closed: return;
      case server_listener::outcome::none_waits: listener.wait(); break;
      case server_listener::outcome::accepted:
        pacer.accepted();
        server.serve(listener, accepted, {});
        break;
      case server_listener::outcome::failed:
        server.note_accept_error(error);
        const accept_pacer::verdict verdict = pacer.failed(error);
        if (verdict.is_news) report_accept(server, error);
        if (verdict.pause.count() != 0) listener.pause(clock::now() + verdict.pause, freed);
        break;
    }
  }
}

/// While it exists the calling thread serves.
struct end_accepting_at_exit {
  server_state& server;
  const server_state* outer = std::exchange(server_of_this_thread(), &server);
  ~end_accepting_at_exit() {
    server_of_this_thread() = outer;
    server.end_accepting();
  }
};

/// Accepts and serves in the calling thread until the listener is closed and every handler has ended.
inline void run_in_thread(server_state& server, server_listener& listener) {
  struct end_run_at_exit {
    server_state& server;
    ~end_run_at_exit() { server.end_run(); }
  };
  const end_run_at_exit run{server};
  {
    const end_accepting_at_exit accepting{server};
    accept_in_thread(server, listener);
  }
  server.wait_sessions();
}

/// What the asynchronous accept loop waits with. Everything but what it overrides is used on its strand.
class async_accept final : public std::enable_shared_from_this<async_accept>,
                           public listener_watcher,
                           public server_runner,
                           public freed_descriptors::waiter {
 public:
  async_accept(std::shared_ptr<server_state> server, std::shared_ptr<server_listener> listener,
               asio::any_io_executor strand, std::shared_ptr<std::atomic<bool>> has_run)
      : server_(std::move(server)),
        listener_(std::move(listener)),
        strand_(std::move(strand)),
        event_(strand_),
        has_run_(std::move(has_run)) {}

  /// Also when the context under the strand is destroyed: nobody serves any more then.
  ~async_accept() {
    listener_->set_watcher(nullptr);
    watch_.release();
    server_->set_runner(nullptr);
    if (!*has_run_) return;
    server_->close();
    server_->end_run();
  }

  /// From now on the run is its.
  void take_run() {
    *has_run_ = true;
    listener_->set_watcher(this);
  }

  async_accept(const async_accept&) = delete;
  async_accept& operator=(const async_accept&) = delete;

  /// Makes it possible to wait for connections.
  void open() {
    listener_->with_descriptor([this](native_socket descriptor) { watch(descriptor); });
  }

  /// Waits for a connection, or whatever else may let the loop go on; may end early. Without memory it throws, or
  /// completes with an error that says so. Follows open().
  asio::awaitable<void> wait_for_connection(std::error_code& error) {
    const auto begin = [this](auto&& handler) {
      const bool is_open = listener_->with_descriptor([&](native_socket descriptor) {
        watch(descriptor).async_wait(asio::socket_base::wait_read, std::move(handler));
      });
      if (!is_open) asio::post(strand_, [own = std::move(handler)]() mutable { own(std::error_code()); });
    };
    return async_guarded(strand_, begin, asio::redirect_error(asio::use_awaitable, error));
  }

  /// The same until a point in time, not for a connection.
  asio::awaitable<void> wait(clock::time_point until, std::error_code& error) {
    event_.expires_at(until);
    const auto begin = [this](auto&& handler) { event_.async_wait(std::move(handler)); };
    return async_guarded(strand_, begin, asio::redirect_error(asio::use_awaitable, error));
  }

  /// From now on sessions_ended() is called.
  void expect_end_of_sessions() { server_->set_runner(this); }

  void leave_descriptor() noexcept override { watch_.release(); }

  void wake() noexcept override {
    // Without memory it is the end of a pause that wakes it.
    try_twice([this] {
      asio::post(strand_, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->event_.cancel();
      });
    });
  }

  void sessions_ended() noexcept override { wake(); }
  void descriptor_freed() noexcept override { wake(); }

  /// While it exists a freed descriptor, after `seen` of them, wakes the loop.
  class pause {
   public:
    pause(async_accept& loop, std::uint64_t seen) : loop_(loop) { freed_.add(loop, seen); }
    ~pause() { freed_.remove(loop_); }
    pause(const pause&) = delete;
    pause& operator=(const pause&) = delete;

   private:
    async_accept& loop_;
    freed_descriptors& freed_ = freed_descriptors::of_this_process();
  };

 private:
  /// Under the listener's mutex.
  asio::generic::stream_protocol::socket& watch(native_socket descriptor) {
    return watch_.open([this] { return inner_executor(strand_); }, descriptor);
  }

  std::shared_ptr<server_state> server_;
  std::shared_ptr<server_listener> listener_;
  asio::any_io_executor strand_;
  asio::steady_timer event_;
  detail::watch watch_;
  const std::shared_ptr<std::atomic<bool>> has_run_;
};

/// Accepts and serves until the listener is closed and every handler has ended. Runs on the loop's strand; coroutine
/// handlers run on `executor`. A lack of memory does not end it.
inline asio::awaitable<void> accept_on_strand(std::shared_ptr<server_state> server,
                                              std::shared_ptr<server_listener> listener,
                                              std::shared_ptr<async_accept> accepting, asio::any_io_executor executor) {
  constexpr int connections_at_once = 64;
  constexpr auto without_watch = std::chrono::milliseconds(10);
  constexpr auto without_wake = std::chrono::seconds(1);
  const std::shared_ptr<async_accept> loop = std::move(accepting);
  loop->take_run();
  const auto pause_without_memory = [] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  accept_pacer pacer;
  int taken = 0;
  for (;;) {
    accepted_socket accepted;
    std::error_code error;
    const std::uint64_t freed = freed_descriptors::of_this_process().count();
    const server_listener::outcome outcome = listener->accept(accepted, error);
    if (outcome == server_listener::outcome::closed) break;
    if (outcome == server_listener::outcome::accepted) {
      pacer.accepted();
      server->serve(*listener, accepted, executor);
      if (++taken % connections_at_once != 0) continue;
      try {
        auto others = await_others();
        co_await std::move(others);
      } catch (const std::bad_alloc&) {  // the others wait a little longer
      }
      continue;
    }
    std::optional<clock::duration> pause;
    std::optional<async_accept::pause> pausing;
    if (outcome == server_listener::outcome::none_waits) {
      if (!try_twice([&loop] { loop->open(); })) pause = without_watch;
    } else {
      server->note_accept_error(error);
      const accept_pacer::verdict verdict = pacer.failed(error);
      if (verdict.is_news) report_accept(*server, error);
      if (verdict.pause.count() == 0) continue;
      pause = verdict.pause;
      pausing.emplace(*loop, freed);
    }
    try {
      auto waiting = pause ? loop->wait(clock::now() + *pause, error) : loop->wait_for_connection(error);
      co_await std::move(waiting);
    } catch (const std::exception&) {
      error = no_memory_error();
    }
    if (error == no_memory_error()) pause_without_memory();
  }
  loop->expect_end_of_sessions();
  while (server->has_sessions()) {
    std::error_code error;
    try {
      auto waiting = loop->wait(clock::now() + without_wake, error);
      co_await std::move(waiting);
    } catch (const std::exception&) {
      error = no_memory_error();
    }
    if (error == no_memory_error()) pause_without_memory();
  }
}

/// Begins to accept on the strand; `ended(std::exception_ptr)` follows there. Throws when there is no memory; the run
/// is the caller's then.
template <class Ended>
void start_accepting(const std::shared_ptr<server_state>& server, const std::shared_ptr<server_listener>& listener,
                     const asio::any_io_executor& strand, const asio::any_io_executor& executor, Ended ended) {
  const auto has_run = std::make_shared<std::atomic<bool>>(false);
  auto loop = std::make_shared<async_accept>(server, listener, strand, has_run);
  asio::co_spawn(strand, accept_on_strand(server, listener, std::move(loop), executor), std::move(ended));
  *has_run = true;
}

/// Accepts on an io thread of the default Runtime, on which the handlers run, too: so no thread is woken for each
/// connection. The calling thread waits until the listener is closed and every handler has ended. False: there is no
/// memory for it, or no io thread, and nothing has happened.
inline bool run_on_runtime(const std::shared_ptr<server_state>& server,
                           const std::shared_ptr<server_listener>& listener) {
  std::future<void> end;
  try {
    std::promise<void> over;
    end = over.get_future();
    start_accepting(server, listener, serial_executor(Runtime::Default().get_executor()), {},
                    [over = std::move(over)](std::exception_ptr) mutable { over.set_value(); });
  } catch (const std::exception&) {
    return false;
  }
  const end_accepting_at_exit accepting{*server};
  end.wait();
  return true;
}

/// Serves until the listener is closed and every handler has ended. Follows begin_run().
inline void serve_until_closed(const std::shared_ptr<server_state>& server,
                               const std::shared_ptr<server_listener>& listener) {
  if (server->config().serves_on_runtime() && run_on_runtime(server, listener)) return;
  run_in_thread(*server, *listener);
}

}  // namespace gtcp::detail

#endif
