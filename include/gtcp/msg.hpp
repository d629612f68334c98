// SPDX-License-Identifier: MIT
#ifndef GTCP_MSG_HPP
#define GTCP_MSG_HPP

// Packages that hold JSON: Msg, an action with its data, and any type that nlohmann/json can convert. The text is byte
// for byte what Go's encoding/json writes, and what that package reads is read here. The functions that send and
// receive stand on Conn's packages alone.

#include <gtcp/detail/json_codec.hpp>
#include <gtcp/error.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>

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
/// to the type's from_json.
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

}  // namespace gtcp

#endif
