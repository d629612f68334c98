// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_ONE_SHOT_CALL_HPP
#define GTCP_IMPL_ONE_SHOT_CALL_HPP

// How a one-shot function goes through its steps.

#include <gtcp/detail/one_shot_call.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/this_coro.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// The Conn is dropped at the end, which closes it: what was sent is delivered, in the background.
GTCP_DECL std::string run_one_shot(const one_shot_call& call, Payload data, const OnError& on_error) {
  std::string reply;
  std::error_code error = call.error;
  Conn conn;
  if (!error) {
    connector connecting(call.address, call.dial_timeout(), one_shot_call::option());
    error = connecting.begin();
    if (!error) error = connecting.run(std::stop_token(), conn);
  }
  if (error) {
    on_error.Report(error, [&] { return call.describe(); });
    return reply;
  }
  const prepared op = call.on(conn);
  send(op, call.header, data, call.limit(), OnError(error));
  if (!error && call.goal) receive(op, *call.goal, call.limit(), reply, OnError(error));
  op.report(on_error, error);
  return reply;
}

GTCP_DECL asio::awaitable<std::string> await_one_shot(one_shot_call call, AsyncPayload data, OnError on_error) {
  std::string reply;
  std::error_code error = call.error;
  Conn conn;
  if (!error) {
    auto connecting = std::make_shared<connector>(call.address, call.dial_timeout(), one_shot_call::option());
    auto running = await_connect(std::move(connecting), "", OnError(error));
    conn = co_await std::move(running);
  }
  if (error) {
    on_error.Report(error, [&] { return call.describe(); });
    co_return reply;
  }
  const prepared op = call.on(conn);
  auto sending = await_send(op, call.header, std::move(data), call.limit(), OnError(error));
  co_await std::move(sending);
  if (!error && call.goal) {
    auto receiving = await_receive(op, *call.goal, call.limit(), OnError(error));
    reply = co_await std::move(receiving);
  }
  op.report(on_error, error);
  co_return reply;
}

GTCP_DECL asio::awaitable<void> await_one_shot_sent(one_shot_call call, AsyncPayload data, OnError on_error) {
  auto running = await_one_shot(std::move(call), std::move(data), on_error);
  co_await std::move(running);
}

GTCP_DECL asio::awaitable<void> one_shot_job::run(std::shared_ptr<one_shot_job> self, asio::any_io_executor) {
  auto enabling = asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  co_await std::move(enabling);
  auto running = await_one_shot(std::move(self->call), std::move(self->data), OnError(self->error));
  self->reply = co_await std::move(running);
}

GTCP_DECL one_shot_call one_shot_call::bytes(const char* name, std::string_view address, const Retry& retry) {
  one_shot_call call{name, std::string(address)};
  call.retry = retry;
  call.error = check(retry, call.why);
  return call;
}

GTCP_DECL one_shot_call one_shot_call::package(const char* name, std::string_view address, const PkgOption& option,
                                               std::size_t size) {
  one_shot_call call{name, std::string(address)};
  call.error = check(option, call.format, call.why);
  if (!call.error) call.error = check_payload(call.format, size, call.why);
  if (call.error) return call;
  call.retry = call.format.retry;
  call.header = make_pkg_header(call.format, size);
  return call;
}

GTCP_DECL std::chrono::nanoseconds one_shot_call::dial_timeout() const {
  if (!give_up_at) return DefaultConnTimeout;
  if (*give_up_at == no_deadline) return std::chrono::nanoseconds(0);
  return std::max<std::chrono::nanoseconds>(*give_up_at - clock::now(), std::chrono::nanoseconds(1));
}

GTCP_DECL prepared one_shot_call::on(const Conn& conn) const {
  prepared op{name, conn_access::state(conn)};
  op.retry = retry;
  return op;
}

GTCP_DECL std::string one_shot_call::describe() const {
  if (!why.empty()) return with_reason(name, why);
  dialer described(address, option(), std::chrono::nanoseconds(0));
  static_cast<void>(described.begin());
  return described.describe(name);
}

}  // namespace gtcp::detail

#endif
