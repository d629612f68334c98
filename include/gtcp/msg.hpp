// SPDX-License-Identifier: MIT
#ifndef GTCP_MSG_HPP
#define GTCP_MSG_HPP

// Packages that hold JSON: Msg, an action with its data, and any type that nlohmann/json can convert. The text is byte
// for byte what Go's encoding/json writes, and what that package reads is read here. The functions that send and
// receive stand on Conn's packages alone.

#include <gtcp/conn.hpp>
#include <gtcp/detail/json_codec.hpp>
#include <gtcp/detail/json_ops.hpp>
#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

/// An action and its data: `{"Act":"hello","Data":"My name's John!"}` on the wire. Both keys are always written.
///
/// Source: GoFrame: the Msg of the gtcp examples.
struct Msg {
  /// What is to be done, or what happened.
  std::string Act = {};
  /// Whatever belongs to it; JSON inside of it is a string like any other.
  std::string Data = {};

  friend bool operator==(const Msg&, const Msg&) = default;
};

/// Makes a Msg inside of other types convertible (found by nlohmann/json through argument-dependent look-up).
template <class Json>
void to_json(Json& json, const Msg& msg) {
  json = Json{{"Act", msg.Act}, {"Data", msg.Data}};
}

/// The way back. Keys count in any letter case and unknown ones are ignored; of several that name one field the one
/// that sorts last wins. Throws nlohmann's type_error when the value is not an object or a field not a string.
template <class Json>
void from_json(const Json& json, Msg& msg) {
  const auto is_field = [](std::string_view key, std::string_view field) {
    return key.size() == field.size() && std::equal(key.begin(), key.end(), field.begin(), [](char c, char lower) {
             return (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) == lower;
           });
  };
  for (const auto& [key, value] : json.template get_ref<const typename Json::object_t&>()) {
    if (value.is_null()) continue;
    if (is_field(key, "act")) value.get_to(msg.Act);
    if (is_field(key, "data")) value.get_to(msg.Data);
  }
}

/// Returns the JSON of a message, as Go's json.Marshal writes it.
///
/// `<`, `>`, `&`, U+2028 and U+2029 are escaped, and each byte that is not UTF-8 is written as `\ufffd`, so that any
/// two strings of bytes make a message.
///
/// Errors: none but memory.
/// Thread safety: may be called from any thread.
inline std::string MarshalMsg(const Msg& msg) {
  std::string text;
  detail::append_msg(text, msg.Act, msg.Data);
  return text;
}

/// Reads a message from JSON, as Go's json.Unmarshal does into an empty one.
///
/// Keys count in any letter case, of several for one field the last wins, `null` leaves a field empty, fields that a
/// Msg does not have are skipped, and each byte that is not UTF-8 and each lone surrogate becomes U+FFFD.
///
/// Units and limits: nesting of at most 64, the object itself counted.
/// Errors: Errc::InvalidMsg for all that is not such an object. After an error the Msg is empty.
/// Thread safety: may be called from any thread.
/// Differs: `null` for the message itself is Errc::InvalidMsg, and so is a nesting of 65 to 10000.
inline Msg UnmarshalMsg(std::string_view text, std::error_code& ec) {
  Msg msg;
  ec = detail::decode_json(text, msg, nullptr);
  return msg;
}

/// The same, throwing std::system_error; what() says why and where, and quotes the first 64 bytes of the text.
inline Msg UnmarshalMsg(std::string_view text) {
  return detail::decode_json_or_throw<Msg>(text, [] { return std::string_view(); });
}

/// Returns the JSON of any value that nlohmann/json can convert, as Go's json.Marshal writes it.
///
/// Keys of objects are sorted, as those of Go's maps are; a nlohmann::ordered_json keeps its order, as a Go struct
/// does. Numbers, also those of floating point, and strings are written as Go does; binary values as base64.
///
/// Units and limits: nesting of at most 64.
/// Errors: Errc::InvalidMsg for NaN, an infinity, deeper nesting, and when the type's to_json throws a std::exception.
/// Thread safety: may be called from any thread.
/// Differs: a float is written with the digits of the double that it is converted to (Go: its own), and a
/// std::vector<std::uint8_t> as an array (Go: base64), since nlohmann/json makes that of them.
template <detail::json_writable T>
std::string MarshalJson(const T& value, std::error_code& ec) {
  std::string text;
  ec = detail::encode_json(value, text, nullptr);
  if (ec) text.clear();
  return text;
}

/// The same, throwing std::system_error.
template <detail::json_writable T>
std::string MarshalJson(const T& value) {
  return detail::encode_json_or_throw(value, [] { return std::string_view(); });
}

/// Reads any value that nlohmann/json can convert from JSON.
///
/// The text may be what Go's json.Unmarshal takes: of a key's several values the last wins, and each byte that is not
/// UTF-8 and each lone surrogate becomes U+FFFD. Which keys are needed, and how they and the numbers are taken, is up
/// to the type's from_json. That of nlohmann/json converts a number that an integer type can't hold without an error.
///
/// Units and limits: nesting of at most 64; numbers within those of a double.
/// Errors: Errc::InvalidMsg for all else, and when the type's from_json throws a std::exception. After an error the
/// value is a default-constructed one.
/// Thread safety: may be called from any thread.
template <detail::json_readable T>
T UnmarshalJson(std::string_view text, std::error_code& ec) {
  T value{};
  ec = detail::decode_json(text, value, nullptr);
  return value;
}

/// The same, throwing std::system_error; what() says why, and quotes the first 64 bytes of the text.
template <detail::json_readable T>
T UnmarshalJson(std::string_view text) {
  return detail::decode_json_or_throw<T>(text, [] { return std::string_view(); });
}

// Sending and receiving. Blocking and awaited functions throw, or fill a std::error_code, as Conn's do; an asynchronous
// one ends with nothing for an awaitable that throws, with a std::error_code& for one that does not, or with any
// completion token. An option that is not given is the Conn's.

/// Sends a message as one package.
///
/// Errors: those of Conn::SendPkg; Errc::DataTooLong when the JSON is longer than PkgOption::MaxDataSize.
/// Thread safety: may be called from any thread.
/// Example:
///     gtcp::SendMsg(conn, {.Act = "heartbeat"});
/// Source: GoFrame: SendPkg in the gtcp examples.
template <detail::msg_like T = detail::msg_view>
void SendMsg(const Conn& conn, const T& msg, PkgOption option = {}, OnError on_error = {}) {
  detail::send_json({"SendMsg", option}, conn, msg, on_error);
}
template <detail::msg_like T = detail::msg_view>
void SendMsg(const Conn& conn, const T& msg, std::error_code& ec) {
  detail::send_json({"SendMsg"}, conn, msg, ec);
}

/// The same, within `timeout`: see Conn::SendPkgWithTimeout.
template <detail::msg_like T = detail::msg_view>
void SendMsgWithTimeout(const Conn& conn, const T& msg, std::chrono::nanoseconds timeout, PkgOption option = {},
                        OnError on_error = {}) {
  detail::send_json({"SendMsgWithTimeout", option, timeout}, conn, msg, on_error);
}
template <detail::msg_like T = detail::msg_view>
void SendMsgWithTimeout(const Conn& conn, const T& msg, std::chrono::nanoseconds timeout, std::error_code& ec) {
  detail::send_json({"SendMsgWithTimeout", {}, timeout}, conn, msg, ec);
}

/// Receives one package and reads it as a message.
///
/// Errors: those of Conn::RecvPkg; Errc::InvalidMsg, not fatal, when the package holds something else: it was consumed,
/// and the next one can be received. The throwing form's what() says what is wrong and quotes the package's beginning.
/// Thread safety: may be called from any thread; each call gets a package of its own.
/// Source: GoFrame: RecvPkg in the gtcp examples.
/// Differs: see UnmarshalMsg.
inline Msg RecvMsg(const Conn& conn, PkgOption option = {}, OnError on_error = {}) {
  return detail::recv_json<Msg>({"RecvMsg", option}, conn, on_error);
}
inline Msg RecvMsg(const Conn& conn, std::error_code& ec) { return detail::recv_json<Msg>({"RecvMsg"}, conn, ec); }

/// The same, within `timeout`: see Conn::RecvPkgWithTimeout. A timeout loses nothing.
inline Msg RecvMsgWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, PkgOption option = {},
                              OnError on_error = {}) {
  return detail::recv_json<Msg>({"RecvMsgWithTimeout", option, timeout}, conn, on_error);
}
inline Msg RecvMsgWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, std::error_code& ec) {
  return detail::recv_json<Msg>({"RecvMsgWithTimeout", {}, timeout}, conn, ec);
}

/// Sends a message as one package.
///
/// Completion: void(std::error_code), as Conn::AsyncSendPkg; without a token asio::awaitable<void>.
/// Errors: as SendMsg.
/// Cancellation: as Conn::AsyncSendPkg.
/// Lifetimes: the message is written to JSON before the function returns; nothing is borrowed. With g++
/// before 13 give a Msg a name first, as the option of AsyncNewConn; braces as below are a view, and safe.
/// Example:
///     co_await gtcp::AsyncSendMsg(conn, {.Act = "hello", .Data = "My name's John!"});
template <detail::msg_like T = detail::msg_view, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendMsg(const Conn& conn, const T& msg, Ending&&... ending) {
  return detail::async_send_json({"AsyncSendMsg"}, conn, msg, std::forward<Ending>(ending)...);
}
template <detail::msg_like T = detail::msg_view, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendMsg(const Conn& conn, const T& msg, PkgOption option, Ending&&... ending) {
  return detail::async_send_json({"AsyncSendMsg", option}, conn, msg, std::forward<Ending>(ending)...);
}

/// The same, within `timeout`: see Conn::AsyncSendPkgWithTimeout.
template <detail::msg_like T = detail::msg_view, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendMsgWithTimeout(const Conn& conn, const T& msg, std::chrono::nanoseconds timeout,
                                           Ending&&... ending) {
  return detail::async_send_json({"AsyncSendMsgWithTimeout", {}, timeout}, conn, msg, std::forward<Ending>(ending)...);
}
template <detail::msg_like T = detail::msg_view, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendMsgWithTimeout(const Conn& conn, const T& msg, std::chrono::nanoseconds timeout,
                                           PkgOption option, Ending&&... ending) {
  return detail::async_send_json({"AsyncSendMsgWithTimeout", option, timeout}, conn, msg,
                                 std::forward<Ending>(ending)...);
}

/// Receives one package and reads it as a message.
///
/// Completion: void(std::error_code, Msg), as Conn::AsyncRecvPkg; without a token asio::awaitable<Msg>. Only the
/// awaitable that throws quotes a package that is no message.
///
/// Errors: as RecvMsg.
/// Cancellation: as Conn::AsyncRecvPkg: nothing is lost. Example:
///     const gtcp::Msg msg = co_await gtcp::AsyncRecvMsg(conn);
template <class... Ending>
  requires detail::operation_ending<void(std::error_code, Msg), Ending...>
[[nodiscard]] auto AsyncRecvMsg(const Conn& conn, Ending&&... ending) {
  return detail::async_recv_json<Msg>({"AsyncRecvMsg"}, conn, std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<void(std::error_code, Msg), Ending...>
[[nodiscard]] auto AsyncRecvMsg(const Conn& conn, PkgOption option, Ending&&... ending) {
  return detail::async_recv_json<Msg>({"AsyncRecvMsg", option}, conn, std::forward<Ending>(ending)...);
}

/// The same, within `timeout`: see Conn::AsyncRecvPkgWithTimeout. A timeout loses nothing.
template <class... Ending>
  requires detail::operation_ending<void(std::error_code, Msg), Ending...>
[[nodiscard]] auto AsyncRecvMsgWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, Ending&&... ending) {
  return detail::async_recv_json<Msg>({"AsyncRecvMsgWithTimeout", {}, timeout}, conn, std::forward<Ending>(ending)...);
}
template <class... Ending>
  requires detail::operation_ending<void(std::error_code, Msg), Ending...>
[[nodiscard]] auto AsyncRecvMsgWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, PkgOption option,
                                           Ending&&... ending) {
  return detail::async_recv_json<Msg>({"AsyncRecvMsgWithTimeout", option, timeout}, conn,
                                      std::forward<Ending>(ending)...);
}

/// Sends any value that nlohmann/json can convert as one package of JSON.
///
/// Errors: those of Conn::SendPkg and, before anything is sent, those of MarshalJson.
/// Thread safety: may be called from any thread.
template <detail::json_writable T>
void SendJson(const Conn& conn, const T& value, PkgOption option = {}, OnError on_error = {}) {
  detail::send_json({"SendJson", option}, conn, value, on_error);
}
template <detail::json_writable T>
void SendJson(const Conn& conn, const T& value, std::error_code& ec) {
  detail::send_json({"SendJson"}, conn, value, ec);
}

/// The same, within `timeout`: see Conn::SendPkgWithTimeout.
template <detail::json_writable T>
void SendJsonWithTimeout(const Conn& conn, const T& value, std::chrono::nanoseconds timeout, PkgOption option = {},
                         OnError on_error = {}) {
  detail::send_json({"SendJsonWithTimeout", option, timeout}, conn, value, on_error);
}
template <detail::json_writable T>
void SendJsonWithTimeout(const Conn& conn, const T& value, std::chrono::nanoseconds timeout, std::error_code& ec) {
  detail::send_json({"SendJsonWithTimeout", {}, timeout}, conn, value, ec);
}

/// Receives one package and reads it as any value that nlohmann/json can convert.
///
/// Errors: those of Conn::RecvPkg; Errc::InvalidMsg, not fatal, when the package holds something else, as UnmarshalJson
/// says: it was consumed, and the next one can be received.
/// Thread safety: may be called from any thread; each call gets a package of its own.
/// Example:
///     const auto sizes = gtcp::RecvJson<std::vector<int>>(conn);
template <detail::json_readable T>
T RecvJson(const Conn& conn, PkgOption option = {}, OnError on_error = {}) {
  return detail::recv_json<T>({"RecvJson", option}, conn, on_error);
}
template <detail::json_readable T>
T RecvJson(const Conn& conn, std::error_code& ec) {
  return detail::recv_json<T>({"RecvJson"}, conn, ec);
}

/// The same, within `timeout`: see Conn::RecvPkgWithTimeout. A timeout loses nothing.
template <detail::json_readable T>
T RecvJsonWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, PkgOption option = {},
                      OnError on_error = {}) {
  return detail::recv_json<T>({"RecvJsonWithTimeout", option, timeout}, conn, on_error);
}
template <detail::json_readable T>
T RecvJsonWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, std::error_code& ec) {
  return detail::recv_json<T>({"RecvJsonWithTimeout", {}, timeout}, conn, ec);
}

/// Sends any value that nlohmann/json can convert as one package of JSON.
///
/// Completion: void(std::error_code), as Conn::AsyncSendPkg; without a token asio::awaitable<void>.
/// Errors: as SendJson; also what can't be written is told by the completion.
/// Cancellation: as Conn::AsyncSendPkg.
/// Lifetimes: the value is written to JSON before the function returns; nothing is borrowed. With g++
/// before 13 give a value of an aggregate class a name first, as the option of AsyncNewConn.
template <detail::json_writable T, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendJson(const Conn& conn, const T& value, Ending&&... ending) {
  return detail::async_send_json({"AsyncSendJson"}, conn, value, std::forward<Ending>(ending)...);
}
template <detail::json_writable T, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendJson(const Conn& conn, const T& value, PkgOption option, Ending&&... ending) {
  return detail::async_send_json({"AsyncSendJson", option}, conn, value, std::forward<Ending>(ending)...);
}

/// The same, within `timeout`: see Conn::AsyncSendPkgWithTimeout.
template <detail::json_writable T, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendJsonWithTimeout(const Conn& conn, const T& value, std::chrono::nanoseconds timeout,
                                            Ending&&... ending) {
  return detail::async_send_json({"AsyncSendJsonWithTimeout", {}, timeout}, conn, value,
                                 std::forward<Ending>(ending)...);
}
template <detail::json_writable T, class... Ending>
  requires detail::operation_ending<void(std::error_code), Ending...>
[[nodiscard]] auto AsyncSendJsonWithTimeout(const Conn& conn, const T& value, std::chrono::nanoseconds timeout,
                                            PkgOption option, Ending&&... ending) {
  return detail::async_send_json({"AsyncSendJsonWithTimeout", option, timeout}, conn, value,
                                 std::forward<Ending>(ending)...);
}

/// Receives one package and reads it as any value that nlohmann/json can convert.
///
/// Completion: void(std::error_code, T), as Conn::AsyncRecvPkg; without a token asio::awaitable<T>. T's from_json runs
/// on the handler's executor.
///
/// Errors: as RecvJson.
/// Cancellation: as Conn::AsyncRecvPkg: nothing is lost.
template <detail::json_readable T, class... Ending>
  requires detail::operation_ending<void(std::error_code, T), Ending...>
[[nodiscard]] auto AsyncRecvJson(const Conn& conn, Ending&&... ending) {
  return detail::async_recv_json<T>({"AsyncRecvJson"}, conn, std::forward<Ending>(ending)...);
}
template <detail::json_readable T, class... Ending>
  requires detail::operation_ending<void(std::error_code, T), Ending...>
[[nodiscard]] auto AsyncRecvJson(const Conn& conn, PkgOption option, Ending&&... ending) {
  return detail::async_recv_json<T>({"AsyncRecvJson", option}, conn, std::forward<Ending>(ending)...);
}

/// The same, within `timeout`: see Conn::AsyncRecvPkgWithTimeout. A timeout loses nothing.
template <detail::json_readable T, class... Ending>
  requires detail::operation_ending<void(std::error_code, T), Ending...>
[[nodiscard]] auto AsyncRecvJsonWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, Ending&&... ending) {
  return detail::async_recv_json<T>({"AsyncRecvJsonWithTimeout", {}, timeout}, conn, std::forward<Ending>(ending)...);
}
template <detail::json_readable T, class... Ending>
  requires detail::operation_ending<void(std::error_code, T), Ending...>
[[nodiscard]] auto AsyncRecvJsonWithTimeout(const Conn& conn, std::chrono::nanoseconds timeout, PkgOption option,
                                            Ending&&... ending) {
  return detail::async_recv_json<T>({"AsyncRecvJsonWithTimeout", option, timeout}, conn,
                                    std::forward<Ending>(ending)...);
}

}  // namespace gtcp

#endif
