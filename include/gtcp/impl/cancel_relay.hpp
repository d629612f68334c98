// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CANCEL_RELAY_HPP
#define GTCP_IMPL_CANCEL_RELAY_HPP

#include <gtcp/detail/cancel_relay.hpp>

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/co_spawn.hpp>

#include <exception>
#include <functional>
#include <utility>

namespace gtcp::detail {

GTCP_DECL void cancel_relay::spawn(asio::awaitable<void> coroutine,
                                   std::function<void(const std::exception_ptr&)> ended) {
  asio::co_spawn(
      strand_, std::move(coroutine),
      asio::bind_cancellation_slot(signal_.slot(), [self = shared_from_this(), end = std::move(ended)](
                                                       const std::exception_ptr& failure) { end(failure); }));
}

}  // namespace gtcp::detail

#endif
