// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_SHUTDOWN_HPP
#define GTCP_DETAIL_SERVER_SHUTDOWN_HPP

#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/background_thread.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/detail/server_state.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/stats.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>

#include <memory>
#include <new>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Shuts down in a thread of its own, since that waits for handlers which may need every io thread. Completes with
/// void(std::error_code, ShutdownResult).
template <class Token>
auto async_shutdown(std::shared_ptr<server_state> server, clock::time_point until, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code, ShutdownResult)>(
      [](auto handler, std::shared_ptr<server_state> closing, clock::time_point limit) {
        using pending = pending_handler<decltype(handler)>;
        const auto io = [] { return Runtime::Default().get_executor(); };
        const auto begin = [&] {
          const asio::any_io_executor executor = io();
          const auto kept = std::make_shared<pending>(std::move(handler), executor);
          const std::error_code error = start_background_thread([kept, closing, limit] {
            ShutdownResult result;
            std::error_code failure;
            try {
              result = closing->shutdown(limit);
            } catch (const std::bad_alloc&) {
              failure = no_memory_error();
            }
            std::move(*kept).complete(false, failure, result);
          });
          if (error) std::move(*kept).complete(false, error, ShutdownResult());
        };
        begin_or_refuse(handler, io, std::error_code(), begin, ShutdownResult());
      },
      token, std::move(server), until);
}

}  // namespace gtcp::detail

#endif
