// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONNECTOR_HPP
#define GTCP_IMPL_CONNECTOR_HPP

// What a connector does, and who waits for one.

#include <gtcp/detail/connector.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <memory>
#include <new>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL std::error_code connector::begin() { return dial_.begin(); }

GTCP_DECL std::error_code connector::run(const std::stop_token& stop, Conn& conn) {
  native_socket descriptor = invalid_native_socket;
  std::error_code error;
  try {
    error = dial_blocking(dial_, stop, descriptor);
  } catch (const std::system_error& failure) {  // there is no thread to resolve the name
    error = failure.code();
  }
  if (!error) error = make(descriptor, conn);
  return error;
}

GTCP_DECL asio::awaitable<std::error_code> connector::run(asio::any_io_executor strand, Conn& conn) {
  native_socket descriptor = invalid_native_socket;
  auto dialing = dial_async(dial_, strand, descriptor);
  std::error_code error = co_await std::move(dialing);
  if (!error) error = make(descriptor, conn);
  co_return error;
}

GTCP_DECL std::string connector::describe(const char* name) const { return dial_.describe(name); }

GTCP_DECL std::error_code connector::make(native_socket descriptor, Conn& conn) {
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

GTCP_DECL Conn make_conn(native_socket descriptor, const ConnOption& option, std::unique_ptr<transport> layer,
                         const socket_address& peer) {
  descriptor_guard guard(descriptor);
  auto state = std::make_shared<conn_state>(descriptor, option, std::move(layer), peer);
  guard.release();
  return conn_access::make(std::move(state));
}

GTCP_DECL asio::awaitable<void> connect_job::run(std::shared_ptr<connect_job> self, asio::any_io_executor strand) {
  co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  auto running = self->connecting->run(strand, self->conn);
  self->error = co_await std::move(running);
}

GTCP_DECL void connect_job::fail(const std::error_code& why) {
  if (!error) error = why;
  conn.Abort();
  conn = {};
}

GTCP_DECL asio::awaitable<Conn> await_connect(std::shared_ptr<connector> connecting, const char* name,
                                              OnError on_error) {
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
