// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_JSON_WRITE_HPP
#define GTCP_DETAIL_JSON_WRITE_HPP

// JSON values to text, byte for byte as Go's encoding/json writes them.

#include <gtcp/detail/json_text.hpp>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gtcp::detail {

/// Appends what Go writes for the byte or UTF-8 sequence at `first`, which is not plain; returns what comes after it.
inline const char* append_json_special(std::string& out, const char* first, const char* last) {
  constexpr char hex[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(*first);
  if (byte < 0x80) {
    switch (byte) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:  // control characters and, so that the text may stand inside HTML, <, > and &
        out += "\\u00";
        out += hex[byte >> 4];
        out += hex[byte & 0xF];
    }
    return first + 1;
  }
  const std::size_t length = utf8_length(first, last);
  if (length == 0) {
    out += "\\ufffd";
    return first + 1;
  }
  const std::string_view sequence(first, length);
  if (sequence == "\xE2\x80\xA8") {
    out += "\\u2028";
  } else if (sequence == "\xE2\x80\xA9") {
    out += "\\u2029";
  } else {
    out += sequence;
  }
  return first + length;
}

/// Appends `text` as a JSON string, quotes included.
inline void append_json_string(std::string& out, std::string_view text) {
  const char* first = text.data();
  const char* const last = first + text.size();
  out += '"';
  while (first != last) {
    const char* const special = skip_plain<'<', '>', '&'>(first, last);
    out.append(first, special);
    first = special == last ? last : append_json_special(out, special, last);
  }
  out += '"';
}

/// Appends a finite number: the shortest digits that read back as the same double, with an exponent only below 1e-6
/// and from 1e21 on.
inline void append_json_double(std::string& out, double value) {
  // std::to_chars finds the digits; the layout is Go's, so it is asked for the one form that shows them plainly:
  // d.ddde+xx
  char buffer[32];
  const char* const end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const char* first = buffer;
  if (*first == '-') out += *first++;
  const std::string_view text(first, static_cast<std::size_t>(end - first));
  const std::size_t mark = text.find('e');
  int exponent = 0;
  const char* const exponent_first = text.data() + mark + (text[mark + 1] == '+' ? 2 : 1);
  std::from_chars(exponent_first, end, exponent);
  if (value != 0 && (std::abs(value) < 1e-6 || std::abs(value) >= 1e21)) {
    // Go writes an exponent of at least two digits when it is positive, which 21 and more have, and trims e-09 to e-9.
    out.append(text.substr(0, mark));
    out += exponent < 0 ? "e" : "e+";
    out += std::to_string(exponent);
    return;
  }
  std::string digits(text.substr(0, 1));
  if (mark > 1) digits.append(text.substr(2, mark - 2));
  if (exponent < 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-exponent - 1), '0');
    out += digits;
    return;
  }
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) {
    out += digits;
    out.append(whole - digits.size(), '0');
  } else {
    out.append(digits, 0, whole);
    out += '.';
    out.append(digits, whole);
  }
}

/// Appends bytes as a string in base64, as Go writes a []byte.
template <class Bytes>
void append_json_base64(std::string& out, const Bytes& bytes) {
  constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  out += '"';
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = bytes.size() - i < 3 ? bytes.size() - i : 3;
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? static_cast<std::uint8_t>(bytes[i + k]) : 0);
    for (std::size_t k = 0; k < 4; ++k) out += k <= count ? letters[group >> (18 - 6 * k) & 0x3F] : '=';
  }
  out += '"';
}

/// Appends `value`, a basic_json of nlohmann, inside `depth` arrays and objects. Returns nullptr, or why it can't be
/// written; `out` is then in any state.
template <class Json>
const char* append_json(std::string& out, const Json& value, int depth = 0) {
  const auto append_integer = [&out](auto number) {
    char buffer[24];
    out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
  };
  if (value.is_structured() && depth >= max_json_depth) return "nested deeper than 64";
  switch (value.type()) {
    case Json::value_t::null: out += "null"; break;
    case Json::value_t::boolean: out += value.template get<bool>() ? "true" : "false"; break;
    case Json::value_t::string:
      append_json_string(out, value.template get_ref<const typename Json::string_t&>());
      break;
    case Json::value_t::number_integer: append_integer(value.template get<typename Json::number_integer_t>()); break;
    case Json::value_t::number_unsigned: append_integer(value.template get<typename Json::number_unsigned_t>()); break;
    case Json::value_t::number_float: {
      const double number = value.template get<double>();
      if (!std::isfinite(number)) return "NaN and infinities have no JSON form";
      append_json_double(out, number);
      break;
    }
    case Json::value_t::binary: append_json_base64(out, value.get_binary()); break;
    case Json::value_t::array: {
      char separator = '[';
      for (const Json& element : value) {
        out += separator;
        if (const char* const why = append_json(out, element, depth + 1)) return why;
        separator = ',';
      }
      out += separator == '[' ? "[]" : "]";
      break;
    }
    case Json::value_t::object: {
      char separator = '{';
      for (const auto& [key, element] : value.template get_ref<const typename Json::object_t&>()) {
        out += separator;
        append_json_string(out, key);
        out += ':';
        if (const char* const why = append_json(out, element, depth + 1)) return why;
        separator = ',';
      }
      out += separator == '{' ? "{}" : "}";
      break;
    }
    default: return "a discarded value has no JSON form";
  }
  return nullptr;
}

}  // namespace gtcp::detail

#endif
