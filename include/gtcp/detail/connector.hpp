// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONNECTOR_HPP
#define GTCP_DETAIL_CONNECTOR_HPP

// What every function that connects has in common, blocking and asynchronous; what differs is a connector.

#include <gtcp/conn.hpp>
#include <gtcp/detail/cancel_relay.hpp>
#include <gtcp/detail/dialer.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/error.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/co_spawn.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

inline Conn make_conn(native_socket descriptor, const ConnOption& option, std::unique_ptr<transport> layer = nullptr,
                      const socket_address& peer = {}) {
  descriptor_guard guard(descriptor);
  auto state = std::make_shared<conn_state>(descriptor, option, std::move(layer), peer);
  guard.release();
  return conn_access::make(std::move(state));
}

/// Opens one connection.
class connector {
 public:
  connector(std::string address, std::chrono::nanoseconds timeout, const ConnOption& option)
      : dial_(std::move(address), option, timeout), option_(option) {}
  virtual ~connector() = default;
  connector(const connector&) = delete;
  connector& operator=(const connector&) = delete;

  /// Checks what can be checked without a system call; begins the time.
  virtual std::error_code begin() { return dial_.begin(); }

  virtual std::error_code run(const std::stop_token& stop, Conn& conn) {
    native_socket descriptor = invalid_native_socket;
    std::error_code error = dial_blocking(dial_, stop, descriptor);
    if (!error) error = make(descriptor, conn);
    return error;
  }

  /// The same on a strand.
  virtual asio::awaitable<std::error_code> run(asio::any_io_executor strand, Conn& conn) {
    native_socket descriptor = invalid_native_socket;
    auto dialing = dial_async(dial_, strand, descriptor);
    std::error_code error = co_await std::move(dialing);
    if (!error) error = make(descriptor, conn);
    co_return error;
  }

  virtual std::string describe(const char* name) const { return dial_.describe(name); }

  clock::time_point deadline() const noexcept { return dial_.deadline(); }
  const asio::any_io_executor& executor() const noexcept { return option_.Executor; }
  void set_executor(const asio::any_io_executor& executor) { option_.Executor = executor; }

 protected:
  /// What bytes go through; nullptr is the socket itself.
  virtual std::unique_ptr<transport> layer(native_socket) { return nullptr; }

  dialer& dial() noexcept { return dial_; }

 private:
  std::error_code make(native_socket descriptor, Conn& conn) {
    descriptor_guard guard(descriptor);
    try {
      std::unique_ptr<transport> through = layer(descriptor);
      conn = make_conn(guard.release(), option_, std::move(through));
    } catch (const std::bad_alloc&) {
      return no_memory_error();
    } catch (const std::system_error& failure) {
      return failure.code();
    }
    return {};
  }

  dialer dial_;
  ConnOption option_;
};

/// The error code of what left a coroutine: it was cancelled between two steps, or there was no memory.
inline std::error_code dial_error(const std::exception_ptr& failure) noexcept {
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    return error.code();
  } catch (...) {
    return no_memory_error();
  }
}

/// An asynchronous connect, until its handler is called.
struct connect_job {
  std::shared_ptr<connector> connecting;
  std::error_code error = {};
  Conn conn = {};

  static asio::awaitable<void> run(std::shared_ptr<connect_job> self, asio::any_io_executor strand) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    auto running = self->connecting->run(strand, self->conn);
    self->error = co_await std::move(running);
  }
};

/// Connects and completes with void(std::error_code, Conn).
template <class Token>
auto async_connect(std::shared_ptr<connector> connecting, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code, Conn)>(
      [](auto handler, std::shared_ptr<connector> one) {
        using pending = pending_handler<decltype(handler)>;
        const auto io = [&one] { return one->executor() ? one->executor() : Runtime::Default().get_executor(); };
        const auto begin = [&] {
          one->set_executor(io());
          const asio::any_io_executor strand = serial_executor(inner_executor(one->executor()));
          const auto relay = cancel_relay::make(asio::get_associated_cancellation_slot(handler), strand);
          const auto job = std::make_shared<connect_job>(connect_job{one});
          job->error = one->begin();
          const auto kept = std::make_shared<pending>(std::move(handler), one->executor());
          if (job->error) return std::move(*kept).complete(false, job->error, Conn());
          try {
            asio::co_spawn(strand, connect_job::run(job, strand),
                           asio::bind_cancellation_slot(relay->slot(), [kept, job, relay](std::exception_ptr failure) {
                             if (failure) {
                               if (!job->error) job->error = dial_error(failure);
                               job->conn.Abort();
                               job->conn = {};
                             }
                             std::move(*kept).complete(false, job->error, std::move(job->conn));
                           }));
          } catch (const std::exception&) {
            std::move(*kept).complete(false, no_memory_error(), Conn());
          }
        };
        begin_or_refuse(handler, io, std::error_code(), begin, Conn());
      },
      token, std::move(connecting));
}

inline asio::awaitable<Conn> await_connect(std::shared_ptr<connector> connecting, const char* name, OnError on_error) {
  std::error_code error;
  if (!connecting->executor()) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    connecting->set_executor(executor);
  }
  auto running = async_connect(connecting, asio::redirect_error(asio::use_awaitable, error));
  Conn conn = co_await std::move(running);
  on_error.Report(error, [&] { return connecting->describe(name); });
  co_return conn;
}

}  // namespace gtcp::detail

#endif
