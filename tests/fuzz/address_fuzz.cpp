// SPDX-License-Identifier: MIT

// Addresses: every text is refused with a quote of it, or says something that can be written and read again.

#include <gtcp/detail/address.hpp>
#include <gtcp/error.hpp>

#include "fuzz_input.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  gtcp::detail::address address;
  std::string why;
  const std::error_code error = gtcp::detail::parse_address(text, address, why);
  if (error) {
    FUZZ_CHECK(error == gtcp::Errc::InvalidAddress);
    FUZZ_CHECK(why.size() > std::string("address \"\": ").size());
    FUZZ_CHECK(why.find(std::string(text.substr(0, 256))) != std::string::npos);
    FUZZ_CHECK(why.size() < 512);
    return 0;
  }
  FUZZ_CHECK(text.find('\0') == std::string_view::npos);
  if (address.is_unix) {
    FUZZ_CHECK(text == "unix:" + address.path);
    return 0;
  }
  const bool is_v6 = address.host.find(':') != std::string::npos;
  const std::string written = (is_v6 ? "[" + address.host + "]:" : address.host + ":") + std::to_string(address.port);
  gtcp::detail::address again;
  FUZZ_CHECK(!gtcp::detail::parse_address(written, again, why));
  FUZZ_CHECK(again.host == address.host);
  FUZZ_CHECK(again.port == address.port);
  return 0;
}
