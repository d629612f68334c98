// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_OPERATION_HPP
#define GTCP_DETAIL_OPERATION_HPP

// What the public operations of a connection are made of: options resolved and checked, errors described, the blocking
// form and the awaited form; the form with a completion token is beside it.

#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/exchange.hpp>
#include <gtcp/error.hpp>
#include <gtcp/payload.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <string>
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

GTCP_DECL prepared prepare(const char* name, const conn_handle& handle, const Retry& retry);

GTCP_DECL prepared prepare(const char* name, const conn_handle& handle, PkgOption option);

// ---- Blocking

GTCP_DECL void receive(const prepared& op, recv_goal goal, const time_limit& limit, std::string& into,
                       const OnError& on_error);

GTCP_DECL bool try_receive(const prepared& op, recv_goal goal, std::string& into, const OnError& on_error);

/// Makes the header of a package to send; checks its size first.
GTCP_DECL pkg_header frame(prepared& op, std::size_t size);

GTCP_DECL void send(const prepared& op, const pkg_header& header, Payload data, const time_limit& limit,
                    const OnError& on_error);

GTCP_DECL bool try_send(const prepared& op, const pkg_header& header, Payload data, const OnError& on_error);

// ---- Awaited

/// What is buffered already does not go through the scheduler, but for every so many.
GTCP_DECL asio::awaitable<std::string> await_receive(prepared op, recv_goal goal, time_limit limit, OnError on_error);
GTCP_DECL asio::awaitable<void> await_receive_into(prepared op, recv_goal goal, time_limit limit, std::string& into,
                                                   OnError on_error);
GTCP_DECL asio::awaitable<void> await_send(prepared op, pkg_header header, AsyncPayload data, time_limit limit,
                                           OnError on_error);
GTCP_DECL asio::awaitable<std::string> await_send_receive(prepared op, pkg_header header, AsyncPayload data,
                                                          recv_goal goal, time_limit limit, OnError on_error);
GTCP_DECL asio::awaitable<void> await_flush(prepared op, time_limit limit, OnError on_error);
GTCP_DECL asio::awaitable<bool> await_close(prepared op, OnError on_error);

/// The same for packages of the connection's own format; one that need not wait does not go through the scheduler
/// either. What waits is small, since it may wait in thousands.
GTCP_DECL asio::awaitable<void> await_send_pkg(const char* name, conn_ptr conn, AsyncPayload data, time_limit limit,
                                               OnError on_error);
GTCP_DECL asio::awaitable<void> await_receive_pkg_into(const char* name, conn_ptr conn, time_limit limit,
                                                       std::string& into, OnError on_error);
GTCP_DECL asio::awaitable<std::string> await_receive_pkg(const char* name, conn_ptr conn, time_limit limit,
                                                         OnError on_error);

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/operation.hpp>
#endif

#endif
