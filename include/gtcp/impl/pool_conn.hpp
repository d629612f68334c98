// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_POOL_CONN_HPP
#define GTCP_IMPL_POOL_CONN_HPP

#include <gtcp/detail/conn_pool.hpp>
#include <gtcp/detail/per_process.hpp>
#include <gtcp/pool_conn.hpp>

#include <asio/awaitable.hpp>

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

namespace gtcp {

GTCP_DECL void CloseIdlePoolConns() noexcept { detail::per_process<detail::conn_pool>::instance().close_idle(true); }

GTCP_DECL PoolConn NewPoolConn(std::string_view address, std::chrono::nanoseconds timeout, const PoolOption& option,
                               OnError on_error, std::stop_token stop) {
  return detail::pool_conn_access::make<PoolConn>(
      detail::take_from_pool({std::string(address), timeout, option}, "NewPoolConn", on_error, stop));
}

GTCP_DECL asio::awaitable<PoolConn> AsyncNewPoolConn(std::string address, std::chrono::nanoseconds timeout,
                                                     const PoolOption& option, OnError on_error) {
  const detail::pool_request request{std::move(address), timeout, option};
  return detail::await_from_pool<PoolConn>(std::make_shared<detail::pool_job>(request), "AsyncNewPoolConn", on_error);
}

}  // namespace gtcp

#endif
