// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_ASYNC_HPP
#define GTCP_DETAIL_SERVER_ASYNC_HPP

// What a server does asynchronously, with any completion token.

#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/stats.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/async_result.hpp>
#include <asio/cancellation_type.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

class server_state;

GTCP_DECL void close_server(server_state& server) noexcept;

/// Begins to listen on `io` and to serve on `serves_on` (empty: on the default Runtime). `ended` is called once, when
/// the listener is closed and every handler has ended, or at once when it can't begin; `why`, if any, gets the reason.
GTCP_DECL void start_run(const std::shared_ptr<server_state>& server, const asio::any_io_executor& io,
                         const asio::any_io_executor& serves_on, std::string* why,
                         const std::function<void(std::error_code)>& ended) noexcept;

/// Shuts down in a thread, and calls `ended` there; at once when there is none.
GTCP_DECL void start_shutdown(const std::shared_ptr<server_state>& server, clock::time_point until,
                              const std::function<void(std::error_code, ShutdownResult)>& ended) noexcept;

/// Completes with void(std::error_code) when what start_run() begins has ended.
template <class Token>
auto async_run(std::shared_ptr<server_state> server, asio::any_io_executor executor, asio::any_io_executor handlers_on,
               std::string* why, Token&& token) {
  const auto initiate = [](auto handler, const std::shared_ptr<server_state>& running, const asio::any_io_executor& io,
                           const asio::any_io_executor& serves_on, std::string* text) {
    const auto begin = [&] {
      struct progress {
        std::atomic<bool> cancelled{false};
        std::atomic<bool> over{false};
      };
      const auto run = std::make_shared<progress>();
      auto slot = asio::get_associated_cancellation_slot(handler);
      if (slot.is_connected()) {
        slot.assign([weak_server = std::weak_ptr(running), weak_run = std::weak_ptr(run)](asio::cancellation_type) {
          const auto target = weak_server.lock();
          const auto begun = weak_run.lock();  // none: it ended with its context
          if (target == nullptr || begun == nullptr || begun->over) return;
          begun->cancelled = true;
          close_server(*target);
        });
      }
      const auto pending = std::make_shared<std::optional<pending_handler<decltype(handler)>>>();
      const std::function<void(std::error_code)> ended = [pending, run](const std::error_code& result) {
        run->over = true;
        std::move(**pending).complete(false, run->cancelled ? asio::error::operation_aborted : result);
      };
      pending->emplace(std::move(handler), io);  // nothing throws from here on
      start_run(running, io, serves_on, text, ended);
    };
    begin_or_refuse(
        handler, [&io] { return io; }, std::error_code(), begin);
  };
  const auto where = [executor] { return executor; };
  return asio::async_initiate<Token, void(std::error_code)>(initiation(initiate, where), token, std::move(server),
                                                            std::move(executor), std::move(handlers_on), why);
}

/// Completes with void(std::error_code, ShutdownResult).
template <class Token>
auto async_shutdown(std::shared_ptr<server_state> server, clock::time_point until, Token&& token) {
  const auto where = [] { return Runtime::Default().get_executor(); };
  const auto initiate = [where](auto handler, const std::shared_ptr<server_state>& closing, clock::time_point limit) {
    const auto begin = [&] {
      const asio::any_io_executor executor = where();
      const auto pending = std::make_shared<std::optional<pending_handler<decltype(handler)>>>();
      const std::function<void(std::error_code, ShutdownResult)> ended = [pending](const std::error_code& error,
                                                                                   const ShutdownResult& result) {
        std::move(**pending).complete(false, error, result);
      };
      pending->emplace(std::move(handler), executor);  // nothing throws from here on
      start_shutdown(closing, limit, ended);
    };
    begin_or_refuse(handler, where, std::error_code(), begin, ShutdownResult());
  };
  return asio::async_initiate<Token, void(std::error_code, ShutdownResult)>(initiation(initiate, where), token,
                                                                            std::move(server), until);
}

}  // namespace gtcp::detail

#endif
