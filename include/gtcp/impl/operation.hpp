// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_OPERATION_HPP
#define GTCP_IMPL_OPERATION_HPP

// The public operations of a connection: the blocking and the awaited forms.

#include <gtcp/detail/awaited.hpp>
#include <gtcp/detail/operation.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL prepared prepare(const char* name, const conn_handle& handle, const Retry& retry) {
  prepared result{name, state_of(handle)};
  result.retry = retry;
  result.error = handle == nullptr ? make_error_code(asio::error::not_connected) : check(retry, result.why);
  return result;
}

GTCP_DECL prepared prepare(const char* name, const conn_handle& handle, PkgOption option) {
  prepared result{name, state_of(handle)};
  if (handle == nullptr) {
    result.error = asio::error::not_connected;
  } else if (option == PkgOption{}) {
    result.format = handle->format();
  } else {
    if (option.HeaderSize == 0) {
      option.HeaderSize = static_cast<int>(handle->format().header_size);
      if (option.MaxDataSize == 0) option.MaxDataSize = static_cast<long long>(handle->format().max_data_size);
    }
    result.error = check(option, result.format, result.why);
  }
  result.retry = result.format.retry;
  return result;
}

/// Runs `attempt` until it succeeds, fails for good, or the retries are used up. No pause goes beyond the limit.
template <class Attempt>
std::error_code with_retries(const prepared& op, const time_limit& limit, const shared_deadline& standard,
                             const Attempt& attempt) {
  std::error_code error = attempt();
  for (int left = op.retry.Count; left > 0 && is_transient(error) && !on_runtime_thread(); --left) {
    if (const auto ended = op.conn->pause(deadline_after(retry_pause(op.retry)), limit, standard)) return ended;
    error = attempt();
  }
  return error;
}

GTCP_DECL void receive(const prepared& op, recv_goal goal, const time_limit& limit, std::string& into,
                       const OnError& on_error) {
  std::error_code error = op.error;
  if (!error)
    error = with_retries(op, limit, op.conn->recv_deadline(),
                         [&] { return op.conn->receive(recv_goal(goal), limit, into); });
  op.report(on_error, error);
}

GTCP_DECL bool try_receive(const prepared& op, recv_goal goal, std::string& into, const OnError& on_error) {
  std::error_code error = op.error;
  if (!error) error = op.conn->receive(std::move(goal), {}, into, /*may_wait=*/false);
  const bool received = !error;
  op.report(on_error, error == asio::error::would_block ? std::error_code() : error);
  return received;
}

GTCP_DECL pkg_header frame(prepared& op, std::size_t size) {
  if (!op.error) op.error = check_payload(op.format, size, op.why);
  return op.error ? pkg_header() : make_pkg_header(op.format, size);
}

GTCP_DECL void send(const prepared& op, const pkg_header& header, Payload data, const time_limit& limit,
                    const OnError& on_error) {
  std::error_code error = op.error;
  if (!error) {
    const asio::const_buffer payload(data.Data(), data.Size());
    op.conn->note_send(header);
    const auto attempt = [&] { return op.conn->send(header, payload, limit); };
    const auto with_its_retries = [&] { return with_retries(op, limit, op.conn->send_deadline(), attempt); };
    error = with_its_retries();
    if (op.conn->should_renew(error)) {
      if (op.conn->renew(limit)) error = with_its_retries();
      if (op.conn->closed()) error = Errc::Closed;
    }
  }
  op.report(on_error, error);
}

GTCP_DECL bool try_send(const prepared& op, const pkg_header& header, Payload data, const OnError& on_error) {
  std::error_code error = op.error;
  if (!error) {
    const bool has_reply = op.conn->note_send(header);
    error = op.conn->send(header, {data.Data(), data.Size()}, {}, /*may_wait=*/false);
    if (error) op.conn->take_back_send(has_reply);
  }
  const bool sent = !error;
  op.report(on_error, error == asio::error::would_block ? std::error_code() : error);
  return sent;
}

// ---- Awaited
//
// g++ before 13 destroys temporary objects inside of a co_await expression at the wrong address: so here, and wherever
// gtcp awaits, what is awaited gets a name first.

/// The text of an error of an operation.
inline auto describer(prepared op) {
  return [op = std::move(op)](const std::error_code& error) { return op.describe(error); };
}

GTCP_DECL asio::awaitable<std::string> await_receive(prepared op, recv_goal goal, time_limit limit, OnError on_error) {
  std::string bytes;
  std::error_code error = op.error;
  if (!error && op.conn->take_buffered(goal, bytes)) {
    if (op.conn->should_yield()) co_await asio::post(asio::use_awaitable);
  } else if (!error) {
    auto waiting = async_receive(op, std::move(goal), limit, asio::redirect_error(asio::use_awaitable, error));
    bytes = co_await std::move(waiting);
  }
  op.report(on_error, error);
  co_return bytes;
}

GTCP_DECL asio::awaitable<void> await_receive_into(prepared op, recv_goal goal, time_limit limit, std::string& into,
                                                   OnError on_error) {
  std::error_code error = op.error;
  if (!error && op.conn->take_buffered(goal, into)) {
    if (op.conn->should_yield()) co_await asio::post(asio::use_awaitable);
  } else if (!error) {
    auto waiting =
        async_receive_into(op, std::move(goal), limit, into, asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(waiting);
  }
  op.report(on_error, error);
}

GTCP_DECL asio::awaitable<void> await_send(prepared op, pkg_header header, AsyncPayload data, time_limit limit,
                                           OnError on_error) {
  const awaited ending(describer(op), on_error);
  return async_send(std::move(op), header, std::move(data), limit, ending);
}

GTCP_DECL asio::awaitable<void> await_flush(prepared op, time_limit limit, OnError on_error) {
  const awaited ending(describer(op), on_error);
  return async_flush(std::move(op), limit, ending);
}

GTCP_DECL asio::awaitable<bool> await_close(prepared op, OnError on_error) {
  const awaited ending(describer(op), on_error);
  return async_close(std::move(op), ending);
}

// Packages of the connection's own format.

/// The text of an error of an operation on packages of the connection's own format.
inline auto describer(const char* name, conn_ptr conn) {
  return [name, conn = std::move(conn)](const std::error_code& error) {
    prepared failed{name, conn};
    failed.format = conn->format();
    return failed.describe(error);
  };
}

GTCP_DECL asio::awaitable<void> await_send_pkg(const char* name, conn_ptr conn, AsyncPayload data, time_limit limit,
                                               OnError on_error) {
  if (conn->append(data.Buffer())) {
    if (conn->should_yield()) co_await asio::post(asio::use_awaitable);
    co_return on_error.Clear();
  }
  std::error_code error;
  if (conn->send_at_once(data.Buffer(), error)) {
    if (conn->should_yield()) co_await asio::post(asio::use_awaitable);
    co_return on_error.Report(error, [&] { return describer(name, conn)(error); });
  }
  prepared op = prepare(name, conn, PkgOption());
  const pkg_header header = frame(op, data.Size());
  auto sending = await_send(std::move(op), header, std::move(data), limit, on_error);
  co_await std::move(sending);
}

GTCP_DECL asio::awaitable<void> await_buffered_pkg_into(const char* name, conn_ptr conn, time_limit limit,
                                                        std::string& into, OnError on_error) {
  if (conn->take_buffered_pkg(into, gathering::by_task)) {
    if (conn->should_yield()) co_await asio::post(asio::use_awaitable);
    co_return on_error.Clear();
  }
  auto waiting = async_receive_pkg_into(*conn, limit, into, awaited(describer(name, conn), on_error));
  co_await std::move(waiting);
}

GTCP_DECL asio::awaitable<std::string> await_buffered_pkg(const char* name, conn_ptr conn, time_limit limit,
                                                          OnError on_error) {
  std::string pkg;
  if (conn->take_buffered_pkg(pkg, gathering::by_task)) {
    if (conn->should_yield()) co_await asio::post(asio::use_awaitable);
    on_error.Clear();
    co_return pkg;
  }
  auto waiting = async_receive_pkg_into(*conn, limit, pkg, awaited(describer(name, conn), on_error));
  co_await std::move(waiting);
  co_return pkg;
}

GTCP_DECL asio::awaitable<void> await_receive_pkg_into(const char* name, conn_ptr conn, time_limit limit,
                                                       std::string& into, OnError on_error) {
  conn_state& state = *conn;
  if (state.has_more_input()) return await_buffered_pkg_into(name, std::move(conn), limit, into, on_error);
  return async_receive_pkg_into(state, limit, into, awaited(describer(name, std::move(conn)), on_error));
}

GTCP_DECL asio::awaitable<std::string> await_receive_pkg(const char* name, conn_ptr conn, time_limit limit,
                                                         OnError on_error) {
  conn_state& state = *conn;
  if (state.has_more_input()) return await_buffered_pkg(name, std::move(conn), limit, on_error);
  return async_receive_pkg(state, limit, awaited(describer(name, std::move(conn)), on_error));
}

GTCP_DECL asio::awaitable<std::string> await_send_receive(prepared op, pkg_header header, AsyncPayload data,
                                                          recv_goal goal, time_limit limit, OnError on_error) {
  std::error_code error;
  auto sending = await_send(op, header, std::move(data), limit, OnError(error));
  co_await std::move(sending);
  std::string reply;
  if (!error) {
    auto receiving = await_receive(op, std::move(goal), limit, OnError(error));
    reply = co_await std::move(receiving);
  }
  op.report(on_error, error);
  co_return reply;
}

}  // namespace gtcp::detail

#endif
