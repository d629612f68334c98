// SPDX-License-Identifier: MIT

// The JSON Msg: what is read is what nlohmann/json reads, and is the same after it was written and read again; and so
// is any other document.

#include <gtcp/msg.hpp>

#include "fuzz_input.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace {

/// What nlohmann/json finds in a text: whether it is a Msg, and which.
class reference final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit reference(std::string_view text) { is_json = nlohmann::json::sax_parse(text, this); }

  bool is_json = false;
  bool has_range_error = false;  ///< a number that no double can hold: JSON all the same
  bool is_object = false;
  bool fields_are_strings = true;
  int deepest = 0;
  gtcp::Msg msg;

  bool null() override { return true; }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool string(string_t& value) override {
    if (std::string* const field = current()) *field = value;
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 0) is_object = true;
    other();
    deepest = std::max(deepest, ++depth_);
    return true;
  }
  bool end_object() override { return --depth_, true; }
  bool start_array(std::size_t) override {
    other();
    deepest = std::max(deepest, ++depth_);
    return true;
  }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      key_ = name;
      std::transform(key_.begin(), key_.end(), key_.begin(), [](unsigned char c) {
        return c < 0x80 ? static_cast<char>(std::tolower(c)) : static_cast<char>(c);
      });
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    has_range_error = error.id == 406;
    return false;
  }

 private:
  std::string* current() {
    if (depth_ != 1) return nullptr;
    return key_ == "act" ? &msg.Act : key_ == "data" ? &msg.Data : nullptr;
  }
  bool other() {
    if (current() != nullptr) fields_are_strings = false;
    return true;
  }

  int depth_ = 0;
  std::string key_;
};

/// Whether bytes are valid UTF-8: of others Go keeps a replacement character, and nlohmann/json nothing.
bool is_utf8(std::string_view text) {
  try {
    static_cast<void>(nlohmann::json(std::string(text)).dump());
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

void check_document(std::string_view text) {
  std::error_code error;
  const auto document = gtcp::UnmarshalJson<nlohmann::json>(text, error);
  if (error) {
    FUZZ_CHECK(error == gtcp::Errc::InvalidMsg);
    FUZZ_CHECK(document.is_null());
    return;
  }
  const std::string written = gtcp::MarshalJson(document, error);
  FUZZ_CHECK(!error);
  FUZZ_CHECK(gtcp::UnmarshalJson<nlohmann::json>(written, error) == document);
  FUZZ_CHECK(!error);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_document(text);
  // Half a surrogate pair is JSON for Go, and not for nlohmann/json; with a byte order mark it is the other way round,
  // and a zero byte is the end for the latter.
  const bool has_zero = text.find('\0') != std::string_view::npos;
  const bool comparable =
      is_utf8(text) && !has_zero && text.find("\\u") == std::string_view::npos && !text.starts_with("\xEF\xBB\xBF");
  const reference expected(text);
  gtcp::Msg msg;
  try {
    msg = gtcp::UnmarshalMsg(text);
  } catch (const std::system_error& error) {
    FUZZ_CHECK(error.code() == gtcp::Errc::InvalidMsg);
    const std::string what = error.what();
    FUZZ_CHECK(what.find("invalid package structure") != std::string::npos);
    FUZZ_CHECK(what.size() < 2000);
    const bool is_msg = expected.is_json && expected.is_object && expected.fields_are_strings && expected.deepest <= 64;
    FUZZ_CHECK(!comparable || !is_msg);
    return 0;
  }
  FUZZ_CHECK(!has_zero);
  if (comparable && !expected.has_range_error) {
    FUZZ_CHECK(expected.is_json && expected.is_object && expected.fields_are_strings && expected.deepest <= 64);
    FUZZ_CHECK(msg == expected.msg);
  }
  const std::string written = gtcp::MarshalMsg(msg);
  FUZZ_CHECK(gtcp::UnmarshalMsg(written) == msg);
  FUZZ_CHECK(gtcp::MarshalMsg(gtcp::UnmarshalMsg(written)) == written);
  const nlohmann::json read = nlohmann::json::parse(written, nullptr, false);
  FUZZ_CHECK(read.is_object());
  FUZZ_CHECK(read.at("Act").get<std::string>() == msg.Act);
  FUZZ_CHECK(read.at("Data").get<std::string>() == msg.Data);
  return 0;
}
