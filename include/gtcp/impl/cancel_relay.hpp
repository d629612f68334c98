// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CANCEL_RELAY_HPP
#define GTCP_IMPL_CANCEL_RELAY_HPP

#include <gtcp/detail/cancel_relay.hpp>
#include <gtcp/error.hpp>

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/co_spawn.hpp>

#include <exception>
#include <functional>
#include <system_error>
#include <utility>

namespace gtcp::detail {

inline std::error_code error_of(const std::exception_ptr& failure) noexcept {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    return error.code();
  } catch (...) {
    return no_memory_error();
  }
}

GTCP_DECL void cancel_relay::spawn(asio::awaitable<void> coroutine, std::function<void(const std::error_code&)> ended) {
  asio::co_spawn(
      strand_, std::move(coroutine),
      asio::bind_cancellation_slot(signal_.slot(), [self = shared_from_this(), end = std::move(ended)](
                                                       const std::exception_ptr& failure) { end(error_of(failure)); }));
}

}  // namespace gtcp::detail

#endif
