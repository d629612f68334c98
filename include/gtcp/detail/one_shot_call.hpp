// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ONE_SHOT_CALL_HPP
#define GTCP_DETAIL_ONE_SHOT_CALL_HPP

// What the one-shot functions are made of: connect, send, perhaps receive, close, under one deadline.

#include <gtcp/conn.hpp>
#include <gtcp/detail/cancel_relay.hpp>
#include <gtcp/detail/connector.hpp>
#include <gtcp/detail/operation.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/error.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/co_spawn.hpp>
#include <asio/this_coro.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

/// A one-shot function's arguments but for the payload, checked: or the error that keeps it from beginning.
struct one_shot_call {
  const char* name;
  std::string address;
  std::error_code error{};
  std::string why{};
  Retry retry{};
  pkg_format format{};
  pkg_header header{};
  std::optional<recv_goal> goal{};                   ///< what to receive, if anything
  std::optional<clock::time_point> give_up_at = {};  ///< no limit but DefaultConnTimeout for connecting

  static one_shot_call bytes(const char* name, std::string_view address, const Retry& retry) {
    one_shot_call call{name, std::string(address)};
    call.retry = retry;
    call.error = check(retry, call.why);
    return call;
  }

  static one_shot_call package(const char* name, std::string_view address, const PkgOption& option, std::size_t size) {
    one_shot_call call{name, std::string(address)};
    call.error = check(option, call.format, call.why);
    if (!call.error) call.error = check_payload(call.format, size, call.why);
    if (call.error) return call;
    call.retry = call.format.retry;
    call.header = make_pkg_header(call.format, size);
    return call;
  }

  one_shot_call&& receiving(int length) && {
    goal = recv_goal::bytes(length);
    return std::move(*this);
  }

  one_shot_call&& receiving_pkg() && {
    goal = recv_goal::package(format);
    return std::move(*this);
  }

  one_shot_call&& within(std::chrono::nanoseconds timeout) && {
    give_up_at = deadline_after(timeout);
    return std::move(*this);
  }

  /// What is left for connecting. A dialer takes zero for no limit, so a time that is over is the shortest one.
  std::chrono::nanoseconds dial_timeout() const {
    if (!give_up_at) return DefaultConnTimeout;
    if (*give_up_at == no_deadline) return std::chrono::nanoseconds(0);
    return std::max<std::chrono::nanoseconds>(*give_up_at - clock::now(), std::chrono::nanoseconds(1));
  }

  time_limit limit() const { return give_up_at ? time_limit::at(*give_up_at) : time_limit(); }

  /// SendMode::Direct: nobody is left to hear of it if a package that is only in the outbox can't be sent.
  static ConnOption option() { return {.Mode = SendMode::Direct}; }

  prepared on(const Conn& conn) const {
    prepared op{name, conn_access::state(conn)};
    op.retry = retry;
    return op;
  }

  /// For an error before there was a connection.
  std::string describe() const {
    if (!why.empty()) return with_reason(name, why);
    dialer described(address, option(), std::chrono::nanoseconds(0));
    static_cast<void>(described.begin());
    return described.describe(name);
  }
};

/// The Conn is dropped at the end, which closes it: what was sent is delivered, in the background.
inline std::string run_one_shot(const one_shot_call& call, Payload data, const OnError& on_error) {
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

inline asio::awaitable<std::string> await_one_shot(one_shot_call call, AsyncPayload data, OnError on_error) {
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

inline asio::awaitable<void> await_one_shot_sent(one_shot_call call, AsyncPayload data, OnError on_error) {
  auto running = await_one_shot(std::move(call), std::move(data), on_error);
  co_await std::move(running);
}

/// What is spawned for a completion token: ends on every type of cancellation.
inline asio::awaitable<std::string> await_one_shot_cancellable(one_shot_call call, AsyncPayload data,
                                                               std::shared_ptr<std::error_code> error) {
  auto enabling = asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  co_await std::move(enabling);
  auto running = await_one_shot(std::move(call), std::move(data), OnError(*error));
  std::string reply = co_await std::move(running);
  co_return reply;
}

/// Completes with void(std::error_code), or void(std::error_code, std::string) `WithReply`.
template <bool WithReply>
struct initiate_one_shot {
  using executor_type = asio::any_io_executor;
  executor_type get_executor() const { return Runtime::Default().get_executor(); }

  template <class Handler>
  void operator()(Handler&& handler, one_shot_call call, AsyncPayload data) const {
    std::decay_t<Handler> own(std::move(handler));
    const auto io = [this] { return get_executor(); };
    const auto start = [&] { begin(own, std::move(call), std::move(data)); };
    if constexpr (WithReply)
      begin_or_refuse(own, io, std::error_code(), start, std::string());
    else
      begin_or_refuse(own, io, std::error_code(), start);
  }

 private:
  /// If it throws, the handler is as it was.
  template <class Handler>
  void begin(Handler& handler, one_shot_call call, AsyncPayload data) const {
    const asio::any_io_executor io = get_executor();
    const asio::any_io_executor strand = serial_executor(io);
    const auto relay = cancel_relay::make(asio::get_associated_cancellation_slot(handler), strand);
    const auto error = std::make_shared<std::error_code>(call.error);
    const auto pending = std::make_shared<pending_handler<Handler>>(std::move(handler), io);
    const auto complete = [pending](std::error_code result, std::string reply) {
      if constexpr (WithReply)
        std::move(*pending).complete(false, result, std::move(reply));
      else
        std::move(*pending).complete(false, result);
    };
    if (*error) return complete(*error, {});
    try {
      asio::co_spawn(strand, await_one_shot_cancellable(std::move(call), std::move(data), error),
                     asio::bind_cancellation_slot(
                         relay->slot(), [complete, error, relay](const std::exception_ptr& failure, std::string reply) {
                           complete(failure ? dial_error(failure) : *error, std::move(reply));
                         }));
    } catch (const std::exception&) {
      complete(no_memory_error(), {});
    }
  }
};

using one_shot_sent = void(std::error_code);
using one_shot_replied = void(std::error_code, std::string);

/// `Signature` is one_shot_sent or one_shot_replied. Does not take `data` over before it runs: the caller asks for its
/// size in the same expression.
template <class Signature, class... Ending>
auto async_one_shot(one_shot_call call, AsyncPayload&& data, Ending&&... ending) {
  constexpr bool awaited = sizeof...(Ending) == 0 || (std::same_as<Ending, std::error_code&> || ...);
  constexpr bool replied = std::same_as<Signature, one_shot_replied>;
  if constexpr (!awaited) {
    return asio::async_initiate<Ending..., Signature>(initiate_one_shot<replied>(), ending..., std::move(call),
                                                      std::move(data));
  } else if constexpr (replied) {
    return await_one_shot(std::move(call), std::move(data), OnError(ending...));
  } else {
    return await_one_shot_sent(std::move(call), std::move(data), OnError(ending...));
  }
}

}  // namespace gtcp::detail

#endif
