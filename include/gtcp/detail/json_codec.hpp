// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_JSON_CODEC_HPP
#define GTCP_DETAIL_JSON_CODEC_HPP

// Values of a program to JSON text and back, with errors as gtcp reports them. No input or output.

#include <gtcp/detail/json_read.hpp>
#include <gtcp/detail/json_text.hpp>
#include <gtcp/detail/json_write.hpp>
#include <gtcp/error.hpp>

#include <nlohmann/json.hpp>

#include <concepts>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

struct Msg;

namespace detail {

/// What `{.Act = "hello"}` becomes where a message is only read: no string is made of it. It has no destructor, either:
/// g++ 12 moves an aggregate that is made inside of a co_await expression byte by byte, which a std::string does not
/// survive, and `co_await AsyncSendMsg(conn, {.Act = "hello"})` has to work.
struct msg_view {
  std::string_view Act = {};
  std::string_view Data = {};
};

template <class T>
concept msg_like = std::same_as<T, Msg> || std::same_as<T, msg_view>;

/// A document of nlohmann: written and read as it is, without a conversion.
template <class T>
concept json_document = std::same_as<T, nlohmann::json> || std::same_as<T, nlohmann::ordered_json>;

template <class T>
concept json_writable = std::is_constructible_v<nlohmann::json, const T&>;

/// Views and pointers are left out: they would point into the document, which is gone when the value is handed out.
template <class T>
concept json_readable =
    std::default_initializable<T> && std::movable<T> && !std::is_pointer_v<T> && !std::same_as<T, std::string_view> &&
    (json_document<T> || requires(const nlohmann::json& document) { document.get<T>(); });

/// The std::system_error of Errc::InvalidMsg. what() reads "<where>: invalid package structure: <why>".
class invalid_msg_error : public std::system_error {
 public:
  /// `where` may be empty.
  invalid_msg_error(std::string_view where, const std::string& why)
      : std::system_error(make_error_code(Errc::InvalidMsg), why), text_(where) {
    if (!text_.empty()) text_ += ": ";
    text_ += code().message();
    text_ += ": ";
    text_ += why;
  }

  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

/// Throws what stands for `ec`, an error of encode_json or decode_json.
[[noreturn]] inline void throw_json_error(const std::error_code& ec, std::string_view where, const std::string& why) {
  if (ec == Errc::InvalidMsg) throw invalid_msg_error(where, why);
  throw std::system_error(ec, std::string(where));
}

/// Runs `body`, which calls conversions that users write: their exceptions mean that the value does not fit. What is
/// not a std::exception passes through; it may be a thread's cancellation.
template <class Body>
std::error_code guard_conversion(std::string* why, Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return no_memory_error();
  } catch (const std::exception& error) {
    if (why != nullptr) *why = error.what();
    return Errc::InvalidMsg;
  }
}

inline void append_msg(std::string& out, std::string_view act, std::string_view data) {
  // Room for both keys and a few escapes, so that most messages take one allocation.
  out.reserve(out.size() + act.size() + data.size() + 32);
  out += "{\"Act\":";
  append_json_string(out, act);
  out += ",\"Data\":";
  append_json_string(out, data);
  out += '}';
}

/// A document of ours, which is taken apart from its leaves on: nlohmann's destructor asks for memory where something
/// is left in an array or an object, and the process ends when there is none.
class own_document {
 public:
  own_document() = default;
  template <class T>
  explicit own_document(const T& value) : root(value) {}
  ~own_document() { take_apart(root); }
  own_document(const own_document&) = delete;
  own_document& operator=(const own_document&) = delete;

  nlohmann::json root;

 private:
  /// As deep as the document is.
  static void take_apart(nlohmann::json& value) noexcept {
    if (auto* const array = value.get_ptr<nlohmann::json::array_t*>()) {
      for (nlohmann::json& element : *array) take_apart(element);
      array->clear();
    } else if (auto* const object = value.get_ptr<nlohmann::json::object_t*>()) {
      for (auto& [key, member] : *object) take_apart(member);
      object->clear();
    }
  }
};

/// Sets `text` to the JSON of `value`. On an error `why`, unless it is null, says what can't be written.
template <class T>
std::error_code encode_json(const T& value, std::string& text, std::string* why) {
  return guard_conversion(why, [&]() -> std::error_code {
    text.clear();
    const char* reason = nullptr;
    if constexpr (msg_like<T>) {
      append_msg(text, value.Act, value.Data);
    } else if constexpr (json_document<T>) {
      reason = append_json(text, value);
    } else {
      const own_document document(value);
      reason = append_json(text, document.root);
    }
    if (reason == nullptr) return {};
    if (why != nullptr) *why = reason;
    return Errc::InvalidMsg;
  });
}

/// Sets `value` to what the JSON `text` says; after an error it is a default-constructed one. On an error `why`, unless
/// it is null, says what is wrong and quotes the beginning of the text.
template <class T>
std::error_code decode_json(std::string_view text, T& value, std::string* why) {
  value = T{};
  json_reader reader(text);
  bool well_formed = true;
  const std::error_code ec = guard_conversion(why, [&]() -> std::error_code {
    if constexpr (std::is_same_v<T, Msg>) {
      well_formed = reader.read_msg(value.Act, value.Data);
    } else if constexpr (json_document<T>) {
      well_formed = reader.read_document(value);
    } else {
      own_document document;
      well_formed = reader.read_document(document.root);
      if (well_formed) value = document.root.get<T>();
    }
    return well_formed ? std::error_code() : make_error_code(Errc::InvalidMsg);
  });
  if (!ec) return ec;
  value = T{};
  if (why != nullptr && ec == Errc::InvalidMsg) {
    if (!well_formed) *why = std::string(reader.reason()) + " at byte " + std::to_string(reader.offset());
    *why += ": \"";
    append_quote(*why, text);
    *why += '"';
  }
  return ec;
}

/// The same, throwing; `where()` names the operation and the peer, if there is one.
template <class T, class Where>
T decode_json_or_throw(std::string_view text, Where where) {
  T value{};
  std::string why;
  if (const std::error_code ec = decode_json(text, value, &why)) throw_json_error(ec, where(), why);
  return value;
}

template <class T, class Where>
std::string encode_json_or_throw(const T& value, Where where) {
  std::string text;
  std::string why;
  if (const std::error_code ec = encode_json(value, text, &why)) throw_json_error(ec, where(), why);
  return text;
}

}  // namespace detail
}  // namespace gtcp

#endif
