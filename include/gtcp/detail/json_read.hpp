// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_JSON_READ_HPP
#define GTCP_DETAIL_JSON_READ_HPP

// JSON text to values. Takes what Go's encoding/json takes: nlohmann's own parser refuses bytes that are not UTF-8 and
// lone surrogates and skips a byte order mark, Go does it the other way round. A Msg is read without a document.

#include <gtcp/detail/json_text.hpp>

#include <nlohmann/json.hpp>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Reads one text. Each read function returns false when it is not what was asked for; reason() and offset() then say
/// why and where.
class json_reader {
 public:
  explicit json_reader(std::string_view text) noexcept
      : first_(text.data()), at_(text.data()), last_(text.data() + text.size()) {}

  /// Reads an object into the fields of a Msg, which keep their value where the object has none for them.
  bool read_msg(std::string& act, std::string& data) {
    skip_space();
    if (at_ == last_) return fail("empty");
    if (*at_ != '{') return fail("not an object");
    const bool read = for_each_member(0, [&](const raw_string& key) {
      if (is_field(key, "act")) return read_field(act, "Act is not a string");
      if (is_field(key, "data")) return read_field(data, "Data is not a string");
      return skip_value(1);
    });
    return read && finish();
  }

  /// Reads any value into a basic_json of nlohmann.
  template <class Json>
  bool read_document(Json& value) {
    skip_space();
    if (at_ == last_) return fail("empty");
    return read_value(value, 0) && finish();
  }

  const char* reason() const noexcept { return reason_; }
  std::size_t offset() const noexcept { return static_cast<std::size_t>(at_ - first_); }

 private:
  /// What is between the quotes of a string, known to be well-formed JSON.
  struct raw_string {
    std::string_view text;
    bool plain = true;  // no escapes, nothing but ASCII: the text is the value
  };

  bool fail(const char* reason) noexcept {
    reason_ = reason;
    return false;
  }

  void skip_space() noexcept {
    while (at_ != last_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  bool take(char c) noexcept {
    if (at_ == last_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  bool finish() noexcept {
    skip_space();
    return at_ == last_ || fail("more text after the value");
  }

  static int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  }

  /// Returns the four digits of a \u escape; the scan has seen that they are there.
  static std::uint32_t hex4(const char* digits) noexcept {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) code = code << 4 | static_cast<std::uint32_t>(hex_digit(digits[i]));
    return code;
  }

  bool scan_escape() noexcept {
    ++at_;
    if (at_ == last_) return fail("string without end");
    switch (*at_) {
      case '"':
      case '\\':
      case '/':
      case 'b':
      case 'f':
      case 'n':
      case 'r':
      case 't': ++at_; return true;
      case 'u': break;
      default: return fail("unknown escape in a string");
    }
    ++at_;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (at_ == last_) return fail("string without end");
      if (hex_digit(*at_) < 0) return fail("\\u without four hexadecimal digits");
    }
    return true;
  }

  bool scan_string(raw_string& string) noexcept {
    if (!take('"')) return fail("string expected");
    const char* const begin = at_;
    for (;;) {
      at_ = skip_plain<>(at_, last_);
      if (at_ == last_) return fail("string without end");
      if (*at_ == '"') break;
      string.plain = false;
      if (*at_ == '\\') {
        if (!scan_escape()) return false;
      } else if (static_cast<unsigned char>(*at_) < 0x20) {
        return fail("control character in a string");
      } else {
        ++at_;  // whether it is UTF-8 is decided when the value is wanted
      }
    }
    string.text = {begin, static_cast<std::size_t>(at_ - begin)};
    ++at_;
    return true;
  }

  /// Appends the character of the escape at `first`, or U+FFFD for half a surrogate pair; returns what comes after.
  static const char* append_escaped(std::string& out, const char* first, const char* last) {
    switch (first[1]) {
      case 'b': out += '\b'; return first + 2;
      case 'f': out += '\f'; return first + 2;
      case 'n': out += '\n'; return first + 2;
      case 'r': out += '\r'; return first + 2;
      case 't': out += '\t'; return first + 2;
      case 'u': break;
      default: out += first[1]; return first + 2;
    }
    const std::uint32_t code = hex4(first + 2);
    first += 6;
    if (code < 0xD800 || code > 0xDFFF) {
      append_utf8(out, code);
      return first;
    }
    if (code < 0xDC00 && last - first >= 6 && first[0] == '\\' && first[1] == 'u') {
      const std::uint32_t low = hex4(first + 2);
      if (low >= 0xDC00 && low <= 0xDFFF) {
        append_utf8(out, 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00)));
        return first + 6;
      }
    }
    out += replacement_character;  // what follows, be it another escape, stands for itself
    return first;
  }

  static void unquote(const raw_string& string, std::string& value) {
    if (string.plain) {
      value.assign(string.text);
      return;
    }
    value.clear();
    value.reserve(string.text.size());
    const char* first = string.text.data();
    const char* const last = first + string.text.size();
    while (first != last) {
      const char* const special = skip_plain<>(first, last);
      value.append(first, special);
      first = special;
      if (first == last) break;
      if (*first == '\\') {
        first = append_escaped(value, first, last);
      } else if (const std::size_t length = utf8_length(first, last)) {
        value.append(first, length);
        first += length;
      } else {
        value += replacement_character;
        ++first;
      }
    }
  }

  /// Says whether a key names the field, which is given in lower case. Case folding as Go's has no letter outside of
  /// ASCII that stands for one of "act" or "data".
  static bool is_field(const raw_string& key, std::string_view field) {
    if (!key.plain) {
      // The longest way to write a letter is six bytes, \u0041.
      if (key.text.size() > 6 * field.size()) return false;
      raw_string unquoted;
      std::string value;
      unquote(key, value);
      unquoted.text = value;
      return is_field(unquoted, field);
    }
    if (key.text.size() != field.size()) return false;
    for (std::size_t i = 0; i < field.size(); ++i) {
      const char c = key.text[i];
      if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != field[i]) return false;
    }
    return true;
  }

  bool read_field(std::string& value, const char* reason_if_other) {
    if (at_ == last_) return fail("value expected");
    if (*at_ == '"') {
      raw_string string;
      if (!scan_string(string)) return false;
      unquote(string, value);
      return true;
    }
    if (*at_ == 'n') return scan_word("null");  // null leaves the field as it is
    return fail(reason_if_other);
  }

  bool scan_word(std::string_view word) noexcept {
    for (const char c : word) {
      if (!take(c)) return fail("value expected");
    }
    return true;
  }

  bool scan_digits() noexcept {
    const char* const begin = at_;
    while (at_ != last_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ != begin || fail("digit expected");
  }

  /// `integral` is set to whether the number has neither fraction nor exponent.
  bool scan_number(bool& integral) noexcept {
    integral = true;
    take('-');
    if (!take('0') && !scan_digits()) return false;
    if (take('.')) {
      integral = false;
      if (!scan_digits()) return false;
    }
    if (take('e') || take('E')) {
      integral = false;
      if (!take('+')) take('-');
      if (!scan_digits()) return false;
    }
    return true;
  }

  /// Reads the object at `{`, inside `depth` arrays and objects. `member(key)` is called in front of each value and
  /// has to read it.
  template <class Member>
  bool for_each_member(int depth, Member member) {
    if (depth >= max_json_depth) return fail("nested deeper than 64");
    ++at_;
    skip_space();
    if (take('}')) return true;
    for (;;) {
      raw_string key;
      if (!scan_string(key)) return false;
      skip_space();
      if (!take(':')) return fail("colon expected");
      skip_space();
      if (!member(key)) return false;
      skip_space();
      if (take('}')) return true;
      if (!take(',')) return fail("comma or end of object expected");
      skip_space();
    }
  }

  /// The same for the array at `[`.
  template <class Element>
  bool for_each_element(int depth, Element element) {
    if (depth >= max_json_depth) return fail("nested deeper than 64");
    ++at_;
    skip_space();
    if (take(']')) return true;
    for (;;) {
      if (!element()) return false;
      skip_space();
      if (take(']')) return true;
      if (!take(',')) return fail("comma or end of array expected");
      skip_space();
    }
  }

  bool skip_value(int depth) {
    if (at_ == last_) return fail("value expected");
    switch (*at_) {
      case '{': return for_each_member(depth, [&](const raw_string&) { return skip_value(depth + 1); });
      case '[': return for_each_element(depth, [&] { return skip_value(depth + 1); });
      case '"': {
        raw_string string;
        return scan_string(string);
      }
      case 't': return scan_word("true");
      case 'f': return scan_word("false");
      case 'n': return scan_word("null");
      default: {
        if (*at_ != '-' && (*at_ < '0' || *at_ > '9')) return fail("value expected");
        bool integral = true;
        return scan_number(integral);
      }
    }
  }

  template <class Json>
  bool read_value(Json& value, int depth) {
    if (at_ == last_) return fail("value expected");
    switch (*at_) {
      case '{':
        value = Json::object();
        return for_each_member(depth, [&](const raw_string& raw_key) {
          typename Json::string_t key;
          unquote(raw_key, key);
          Json element;
          if (!read_value(element, depth + 1)) return false;
          value[std::move(key)] = std::move(element);
          return true;
        });
      case '[':
        value = Json::array();
        return for_each_element(depth, [&] {
          Json element;
          if (!read_value(element, depth + 1)) return false;
          value.push_back(std::move(element));
          return true;
        });
      case '"': {
        raw_string string;
        if (!scan_string(string)) return false;
        typename Json::string_t text;
        unquote(string, text);
        value = std::move(text);
        return true;
      }
      case 't': value = true; return scan_word("true");
      case 'f': value = false; return scan_word("false");
      case 'n': value = nullptr; return scan_word("null");
      default: return read_number(value);
    }
  }

  template <class Json>
  bool read_number(Json& value) {
    if (*at_ != '-' && (*at_ < '0' || *at_ > '9')) return fail("value expected");
    const char* const begin = at_;
    bool integral = true;
    if (!scan_number(integral)) return false;
    if (integral && *begin == '-') {
      typename Json::number_integer_t number = 0;
      if (std::from_chars(begin, at_, number).ec == std::errc()) {
        value = number;
        if (number == 0) value = -0.0;  // which no integer can be
        return true;
      }
    } else if (integral) {
      typename Json::number_unsigned_t number = 0;
      if (std::from_chars(begin, at_, number).ec == std::errc()) {
        value = number;
        return true;
      }
    }
    // Not every standard library has std::from_chars for double, and where it exists it refuses what is too small for
    // a double, which is to be 0. nlohmann's lexer gets both right, and the locale.
    value = Json::parse(begin, at_, nullptr, false);
    return !value.is_discarded() || fail("number out of range");
  }

  const char* first_;
  const char* at_;
  const char* last_;
  const char* reason_ = "";
};

}  // namespace gtcp::detail

#endif
