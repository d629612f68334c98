// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ADDRESS_HPP
#define GTCP_DETAIL_ADDRESS_HPP

// Addresses as text: "host:port", "[::1]:8999", ":8999", "unix:/path". Reading them, and writing endpoints.

#include <gtcp/detail/platform_address.hpp>
#include <gtcp/error.hpp>

#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

namespace gtcp::detail {

struct address {
  bool is_unix = false;
  std::string host;  ///< a name, an IPv4 or IPv6 address, or empty for "this machine" or "any"
  unsigned short port = 0;
  std::string path;  ///< of a unix socket
};

/// Reads an address. On an error `why` quotes the text and says what is wrong with it.
inline std::error_code parse_address(std::string_view text, address& result, std::string& why) {
  const auto refuse = [&](const char* reason) -> std::error_code {
    constexpr std::size_t longest_quote = 256;
    why = "address \"" + std::string(text.substr(0, longest_quote)) + (text.size() > longest_quote ? "..." : "") +
          "\": " + reason;
    return Errc::InvalidAddress;
  };
  result = {};
  if (text.find('\0') != std::string_view::npos) return refuse("has a zero byte");
  constexpr std::string_view unix_prefix = "unix:";
  if (text.substr(0, unix_prefix.size()) == unix_prefix) {
    result.is_unix = true;
    result.path = text.substr(unix_prefix.size());
    if (result.path.empty()) return refuse("the path is missing");
    if (result.path.size() > max_unix_path) return refuse("the path is too long for a unix socket");
    return {};
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse("the port is missing");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (!host.empty() && host.front() == '[') {
    if (host.back() != ']') return refuse("a ']' is missing, or the port behind it");
    host = host.substr(1, host.size() - 2);
    std::error_code not_ipv6;
    asio::ip::make_address_v6(std::string(host), not_ipv6);
    if (not_ipv6) return refuse("what is in brackets is no IPv6 address");
  } else if (host.find(':') != std::string_view::npos) {
    return refuse("too many colons; an IPv6 address stands in brackets");
  } else if (host.find_first_of("[]/ \t\r\n") != std::string_view::npos) {
    return refuse("the host has a character that none can have");
  }
  if (port.empty()) return refuse("the port is missing");
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error == std::errc::result_out_of_range ||
      (error == std::errc() && end == port.data() + port.size() && number > 65535)) {
    return refuse("the port is out of range, allowed are 0 to 65535");
  }
  if (error != std::errc() || end != port.data() + port.size()) return refuse("the port is not a number");
  result.host = host;
  result.port = static_cast<unsigned short>(number);
  return {};
}

/// Writes an endpoint as parse_address reads it; an IPv4-mapped IPv6 address as the IPv4 address.
inline std::string to_text(const asio::ip::tcp::endpoint& endpoint) {
  asio::ip::address address = endpoint.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  if (address.is_v6()) {
    const std::string host = address.to_string();
    return "[" + host + "]:" + std::to_string(endpoint.port());
  }
  // By hand, since it is done for every connection: Asio's way takes fifteen times as long.
  std::string text;
  const auto append = [&text](unsigned number) {
    std::array<char, 10> digits;
    char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    text.append(digits.data(), end);
  };
  for (const unsigned char byte : address.to_v4().to_bytes()) {
    if (!text.empty()) text += '.';
    append(byte);
  }
  text += ':';
  append(endpoint.port());
  return text;
}

inline socket_address to_socket_address(const asio::ip::tcp::endpoint& endpoint) noexcept {
  return {endpoint.data(), endpoint.size()};
}

/// Returns an endpoint without a port, 0.0.0.0:0, for an address of another kind.
inline asio::ip::tcp::endpoint to_endpoint(const socket_address& address) noexcept {
  asio::ip::tcp::endpoint endpoint;
  if (address.empty() || address.is_unix() || address.size() > endpoint.capacity()) return endpoint;
  std::memcpy(endpoint.data(), address.data(), address.size());
  endpoint.resize(address.size());
  return endpoint;
}

/// The same of what the system has written: "host:port", or the path of a unix socket; empty if there is none.
inline std::string to_text(const socket_address& address) {
  if (address.empty()) return {};
  return address.is_unix() ? address.unix_path() : to_text(to_endpoint(address));
}

}  // namespace gtcp::detail

#endif
