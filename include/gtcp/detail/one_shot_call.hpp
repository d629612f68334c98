// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ONE_SHOT_CALL_HPP
#define GTCP_DETAIL_ONE_SHOT_CALL_HPP

// What the one-shot functions are made of: connect, send, perhaps receive, close, under one deadline.

#include <gtcp/conn.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/connector.hpp>
#include <gtcp/detail/operation.hpp>
#include <gtcp/detail/strand_job.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/error.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
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

  static one_shot_call bytes(const char* name, std::string_view address, const Retry& retry);

  static one_shot_call package(const char* name, std::string_view address, const PkgOption& option, std::size_t size);

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
  std::chrono::nanoseconds dial_timeout() const;

  time_limit limit() const { return give_up_at ? time_limit::at(*give_up_at) : time_limit(); }

  /// SendMode::Direct: nobody is left to hear of it if a package that is only in the outbox can't be sent.
  static ConnOption option() { return {.Mode = SendMode::Direct}; }

  prepared on(const Conn& conn) const;

  /// For an error before there was a connection.
  std::string describe() const;
};

/// Does all of it, in the calling thread.
GTCP_DECL std::string run_one_shot(const one_shot_call& call, Payload data, const OnError& on_error);

GTCP_DECL asio::awaitable<std::string> await_one_shot(one_shot_call call, AsyncPayload data, OnError on_error);
GTCP_DECL asio::awaitable<void> await_one_shot_sent(one_shot_call call, AsyncPayload data, OnError on_error);

/// A one-shot function with a completion token, until its handler is called.
struct one_shot_job {
  one_shot_call call;
  AsyncPayload data;
  std::error_code error = {};
  std::string reply = {};

  std::error_code begin() const { return call.error; }
  /// Ends on every type of cancellation.
  GTCP_DECL static asio::awaitable<void> run(std::shared_ptr<one_shot_job> self, asio::any_io_executor strand);
  void fail(const std::error_code& why) { error = why; }
};

/// Completes with void(std::error_code), or void(std::error_code, std::string) `WithReply`.
template <bool WithReply>
struct initiate_one_shot {
  using executor_type = asio::any_io_executor;
  executor_type get_executor() const { return Runtime::Default().get_executor(); }

  template <class Handler>
  void operator()(Handler&& handler, one_shot_call call, AsyncPayload data) const {
    std::decay_t<Handler> own(std::forward<Handler>(handler));
    const auto io = [this] { return get_executor(); };
    const auto begin = [&] {
      const auto job = std::make_shared<one_shot_job>(one_shot_job{std::move(call), std::move(data)});
      start_job(own, io(), job, [](auto&& pending, one_shot_job& ended) {
        if constexpr (WithReply)
          std::move(pending).complete(false, ended.error, std::move(ended.reply));
        else
          std::move(pending).complete(false, ended.error);
      });
    };
    if constexpr (WithReply)
      begin_or_refuse(own, io, std::error_code(), begin, std::string());
    else
      begin_or_refuse(own, io, std::error_code(), begin);
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

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/one_shot_call.hpp>
#endif

#endif
