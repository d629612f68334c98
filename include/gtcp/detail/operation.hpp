// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_OPERATION_HPP
#define GTCP_DETAIL_OPERATION_HPP

// What the public operations of a connection are made of: options resolved and checked, errors described, the blocking
// form, the awaited form and the form with a completion token side by side.

#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/awaited.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/guarded_wait.hpp>
#include <gtcp/error.hpp>
#include <gtcp/payload.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/compose.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

/// Tells a completion token from the options and the error_code that stand in the same place.
template <class T>
concept completion_token =
    !std::same_as<std::remove_cvref_t<T>, PkgOption> && !std::same_as<std::remove_cvref_t<T>, Retry> &&
    !std::same_as<std::remove_cvref_t<T>, std::error_code> && !std::same_as<std::remove_cvref_t<T>, OnError>;

/// What an asynchronous operation may end with: nothing or a std::error_code& for an awaitable, else a completion
/// token.
template <class Signature, class... Ending>
concept operation_ending =
    sizeof...(Ending) == 0 ||
    (sizeof...(Ending) == 1 && ((std::same_as<Ending, std::error_code&> ||
                                 (completion_token<Ending> && asio::completion_token_for<Ending, Signature>)) &&
                                ...));

/// Holds small packages of a connection back while it lives.
class cork_guard {
 public:
  explicit cork_guard(conn_handle conn) : conn_(std::move(conn)) {
    if (conn_ != nullptr) conn_->out().cork();
  }
  ~cork_guard() {
    if (conn_ != nullptr) conn_->out().uncork();
  }
  cork_guard(const cork_guard&) = delete;
  cork_guard& operator=(const cork_guard&) = delete;

 private:
  conn_handle conn_;
};

/// The state itself, not the handle: an operation under way must not keep the connection open.
inline conn_ptr state_of(const conn_handle& handle) { return handle != nullptr ? handle->shared_from_this() : nullptr; }

inline prepared prepare(const char* name, const conn_handle& handle, const Retry& retry) {
  prepared result{name, state_of(handle)};
  result.retry = retry;
  result.error = handle == nullptr ? make_error_code(asio::error::not_connected) : check(retry, result.why);
  return result;
}

inline prepared prepare(const char* name, const conn_handle& handle, PkgOption option) {
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
  for (int left = op.retry.Count; left > 0 && is_transient(error); --left) {
    const clock::time_point give_up_at = limit.resolve(standard);
    std::error_code closed;  // a pause ends when the connection does
    op.conn->wait_closed(std::min(deadline_after(retry_pause(op.retry)), give_up_at), closed);
    if (closed != Errc::Timeout) break;
    if (give_up_at != no_deadline && clock::now() >= give_up_at) return Errc::Timeout;
    error = attempt();
  }
  return error;
}

// ---- Blocking

inline void receive(const prepared& op, recv_goal goal, const time_limit& limit, std::string& into,
                    const OnError& on_error) {
  std::error_code error = op.error;
  if (!error)
    error = with_retries(op, limit, op.conn->recv_deadline(),
                         [&] { return op.conn->receive(recv_goal(goal), limit, into); });
  op.report(on_error, error);
}

inline bool try_receive(const prepared& op, recv_goal goal, std::string& into, const OnError& on_error) {
  std::error_code error = op.error;
  if (!error) error = op.conn->receive(std::move(goal), {}, into, /*may_wait=*/false);
  const bool received = !error;
  op.report(on_error, error == asio::error::would_block ? std::error_code() : error);
  return received;
}

/// Makes the header of a package to send; checks its size first.
inline pkg_header frame(prepared& op, std::size_t size) {
  if (!op.error) op.error = check_payload(op.format, size, op.why);
  return op.error ? pkg_header() : make_pkg_header(op.format, size);
}

inline void send(const prepared& op, const pkg_header& header, Payload data, const time_limit& limit,
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

inline bool try_send(const prepared& op, const pkg_header& header, Payload data, const OnError& on_error) {
  std::error_code error = op.error;
  if (!error) error = op.conn->send(header, {data.Data(), data.Size()}, {}, /*may_wait=*/false);
  const bool sent = !error;
  if (sent) op.conn->note_send(header);
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

/// Receives; a package that is buffered already does not go through the scheduler, but for every so many.
inline asio::awaitable<std::string> await_receive(prepared op, recv_goal goal, time_limit limit, OnError on_error) {
  std::string bytes;
  std::error_code error = op.error;
  if (!error && op.conn->receive_buffered(goal, bytes)) {
    if (op.conn->should_yield()) co_await asio::post(asio::use_awaitable);
  } else if (!error) {
    auto waiting = async_receive(op, std::move(goal), limit, asio::redirect_error(asio::use_awaitable, error));
    bytes = co_await std::move(waiting);
  }
  op.report(on_error, error);
  co_return bytes;
}

inline asio::awaitable<void> await_receive_into(prepared op, recv_goal goal, time_limit limit, std::string& into,
                                                OnError on_error) {
  std::error_code error = op.error;
  if (!error && op.conn->receive_buffered(goal, into)) {
    if (op.conn->should_yield()) co_await asio::post(asio::use_awaitable);
  } else if (!error) {
    auto waiting =
        async_receive_into(op, std::move(goal), limit, into, asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(waiting);
  }
  op.report(on_error, error);
}

inline asio::awaitable<void> await_send(prepared op, pkg_header header, AsyncPayload data, time_limit limit,
                                        OnError on_error) {
  const awaited ending(describer(op), on_error);
  return async_send(std::move(op), header, std::move(data), limit, ending);
}

// The same for packages of the connection's own format; one that need not wait, or is buffered already, does not go
// through the scheduler, but for every so many. What waits is small, since it may wait in thousands.

/// The text of an error of an operation on packages of the connection's own format.
inline auto describer(const char* name, conn_ptr conn) {
  return [name, conn = std::move(conn)](const std::error_code& error) {
    prepared failed{name, conn};
    failed.format = conn->format();
    return failed.describe(error);
  };
}

inline asio::awaitable<void> await_send_pkg(const char* name, conn_ptr conn, AsyncPayload data, time_limit limit,
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

inline asio::awaitable<void> await_buffered_pkg_into(const char* name, conn_ptr conn, time_limit limit,
                                                     std::string& into, OnError on_error) {
  if (conn->take_buffered(into, gathering::by_task)) {
    if (conn->should_yield()) co_await asio::post(asio::use_awaitable);
    co_return on_error.Clear();
  }
  auto waiting = async_receive_pkg_into(*conn, limit, into, awaited(describer(name, conn), on_error));
  co_await std::move(waiting);
}

inline asio::awaitable<std::string> await_buffered_pkg(const char* name, conn_ptr conn, time_limit limit,
                                                       OnError on_error) {
  std::string pkg;
  if (conn->take_buffered(pkg, gathering::by_task)) {
    if (conn->should_yield()) co_await asio::post(asio::use_awaitable);
    on_error.Clear();
    co_return pkg;
  }
  auto waiting = async_receive_pkg_into(*conn, limit, pkg, awaited(describer(name, conn), on_error));
  co_await std::move(waiting);
  co_return pkg;
}

inline asio::awaitable<void> await_receive_pkg_into(const char* name, conn_ptr conn, time_limit limit,
                                                    std::string& into, OnError on_error) {
  conn_state& state = *conn;
  if (state.has_more_input()) return await_buffered_pkg_into(name, std::move(conn), limit, into, on_error);
  return async_receive_pkg_into(state, limit, into, awaited(describer(name, std::move(conn)), on_error));
}

inline asio::awaitable<std::string> await_receive_pkg(const char* name, conn_ptr conn, time_limit limit,
                                                      OnError on_error) {
  conn_state& state = *conn;
  if (state.has_more_input()) return await_buffered_pkg(name, std::move(conn), limit, on_error);
  return async_receive_pkg(state, limit, awaited(describer(name, std::move(conn)), on_error));
}

inline asio::awaitable<std::string> await_send_receive(prepared op, pkg_header header, AsyncPayload data,
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

// ---- With a completion token

/// Sends, then receives.
template <class Token>
auto async_send_receive(prepared op, pkg_header header, AsyncPayload data, recv_goal goal, time_limit limit,
                        Token&& token) {
  const asio::any_io_executor executor = op.executor();
  return asio::async_compose<Token, void(std::error_code, std::string)>(
      [op = std::move(op), header, data = std::move(data), goal = std::move(goal), limit, step = 0](
          auto& self, std::error_code error = {}, std::string reply = {}) mutable {
        if (step == 2 || error) return self.complete(error, std::move(reply));
        // What the next step needs is taken out first: beginning it moves this object.
        prepared next = op;
        if (step++ == 0)
          async_send(std::move(next), header, std::move(data), limit, std::move(self));
        else
          async_receive(std::move(next), std::move(goal), limit, std::move(self));
      },
      token, executor);
}

}  // namespace gtcp::detail

#endif
