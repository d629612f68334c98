// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_JSON_OPS_HPP
#define GTCP_DETAIL_JSON_OPS_HPP

// Sending and receiving JSON on a Conn: the value to text, the text as a package, and back. Nothing here knows more
// of a Conn than its public functions.

#include <gtcp/conn.hpp>
#include <gtcp/detail/adapted_handler.hpp>
#include <gtcp/detail/json_codec.hpp>
#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/post.hpp>

#include <chrono>
#include <concepts>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

template <class... Ending>
concept ends_with_token = sizeof...(Ending) == 1 && (!std::same_as<Ending, std::error_code&> && ...);

/// Which of Conn's operations on packages is called, and how.
struct json_call {
  const char* name;
  PkgOption option = {};
  std::optional<std::chrono::nanoseconds> timeout = {};

  std::string describe(const Conn& conn) const {
    const std::string peer = conn.RemoteAddr();
    return peer.empty() ? name : std::string(name) + " [" + peer + "]";
  }

  /// `last` is what the awaited form ends with, nothing or an error_code, or a completion token.
  template <class... Last>
  auto async_send(const Conn& conn, std::string&& text, Last&&... last) const {
    return timeout ? conn.AsyncSendPkgWithTimeout(std::move(text), *timeout, option, std::forward<Last>(last)...)
                   : conn.AsyncSendPkg(std::move(text), option, std::forward<Last>(last)...);
  }

  template <class... Last>
  auto async_recv(const Conn& conn, Last&&... last) const {
    return timeout ? conn.AsyncRecvPkgWithTimeout(*timeout, option, std::forward<Last>(last)...)
                   : conn.AsyncRecvPkg(option, std::forward<Last>(last)...);
  }
};

// ---- Blocking

template <class T>
void send_json(const json_call& call, const Conn& conn, const T& value, const OnError& on_error) {
  std::string text;
  std::string why;
  const std::error_code encoded = encode_json(value, text, on_error.Throws() ? &why : nullptr);
  if (encoded) {
    if (on_error.Throws()) throw_json_error(encoded, call.describe(conn), why);
    on_error.Report(encoded, [] { return std::string(); });
  } else if (call.timeout) {
    conn.SendPkgWithTimeout(text, *call.timeout, call.option, on_error);
  } else {
    conn.SendPkg(text, call.option, on_error);
  }
}

template <class T>
T recv_json(const json_call& call, const Conn& conn, const OnError& on_error) {
  std::error_code ec;
  const OnError receive_error = on_error.Throws() ? on_error : OnError(ec);
  const std::string text = call.timeout ? conn.RecvPkgWithTimeout(*call.timeout, call.option, receive_error)
                                        : conn.RecvPkg(call.option, receive_error);
  if (on_error.Throws()) return decode_json_or_throw<T>(text, [&] { return call.describe(conn); });
  T value{};
  if (!ec) ec = decode_json(text, value, nullptr);
  on_error.Report(ec, [] { return std::string(); });
  return value;
}

// ---- With a completion token

/// Starts an operation on a Conn. It has the Conn's executor, by which Asio's token adapters find one.
class json_initiation {
 public:
  using executor_type = asio::any_io_executor;

  json_initiation(const Conn& conn, const json_call& call) : conn_(conn), call_(call) {}

  executor_type get_executor() const { return conn_.get_executor(); }

 protected:
  Conn conn_;
  json_call call_;
};

class initiate_send_json : public json_initiation {
 public:
  using json_initiation::json_initiation;

  /// `encoded` is the result of writing `text`.
  template <class Handler>
  void operator()(Handler&& handler, std::string text, std::error_code encoded) const {
    if (!encoded) {
      call_.async_send(conn_, std::move(text), std::forward<Handler>(handler));
      return;
    }
    asio::post(conn_.get_executor(),
               adapt_handler(std::forward<Handler>(handler), [encoded](auto&& target) { std::move(target)(encoded); }));
  }
};

template <class T>
class initiate_recv_json : public json_initiation {
 public:
  using json_initiation::json_initiation;

  template <class Handler>
  void operator()(Handler&& handler) const {
    call_.async_recv(conn_, adapt_handler(std::forward<Handler>(handler),
                                          [](auto&& target, std::error_code ec, const std::string& text) {
                                            T value{};
                                            if (!ec) ec = decode_json(text, value, nullptr);
                                            std::move(target)(ec, std::move(value));
                                          }));
  }
};

// ---- Awaited

inline asio::awaitable<void> throw_in_coroutine(json_call call, Conn conn, std::error_code ec, std::string why) {
  throw_json_error(ec, call.describe(conn), why);
  co_return;
}

inline asio::awaitable<void> set_in_coroutine(std::error_code& ec, std::error_code value) {
  ec = value;
  co_return;
}

template <class T>
asio::awaitable<T> recv_json_in_coroutine(json_call call, Conn conn) {
  auto receiving = call.async_recv(conn);
  const std::string text = co_await std::move(receiving);
  co_return decode_json_or_throw<T>(text, [&] { return call.describe(conn); });
}

template <class T>
asio::awaitable<T> recv_json_in_coroutine(json_call call, Conn conn, std::error_code& ec) {
  auto receiving = call.async_recv(conn, ec);
  const std::string text = co_await std::move(receiving);
  T value{};
  if (!ec) ec = decode_json(text, value, nullptr);
  co_return value;
}

// ---- Any ending

/// The value is written before the operation begins: nothing of it is borrowed.
template <class T, class... Ending>
auto async_send_json(const json_call& call, const Conn& conn, const T& value, Ending&&... ending) {
  std::string text;
  std::string why;
  const std::error_code encoded = encode_json(value, text, sizeof...(Ending) == 0 ? &why : nullptr);
  if constexpr (ends_with_token<Ending...>) {
    return asio::async_initiate<Ending..., void(std::error_code)>(initiate_send_json(conn, call), ending...,
                                                                  std::move(text), encoded);
  } else if constexpr (sizeof...(Ending) == 1) {
    return encoded ? set_in_coroutine(ending..., encoded) : call.async_send(conn, std::move(text), ending...);
  } else {
    return encoded ? throw_in_coroutine(call, conn, encoded, std::move(why)) : call.async_send(conn, std::move(text));
  }
}

template <class T, class... Ending>
auto async_recv_json(const json_call& call, const Conn& conn, Ending&&... ending) {
  if constexpr (ends_with_token<Ending...>) {
    return asio::async_initiate<Ending..., void(std::error_code, T)>(initiate_recv_json<T>(conn, call), ending...);
  } else {
    return recv_json_in_coroutine<T>(call, conn, ending...);
  }
}

}  // namespace gtcp::detail

#endif
