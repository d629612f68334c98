// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PKG_WRITER_HPP
#define GTCP_DETAIL_PKG_WRITER_HPP

// Writes the length header of a package. No socket, no clock, no thread.

#include <gtcp/pkg_option.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

namespace gtcp::detail {

struct pkg_header {
  std::array<unsigned char, 4> bytes = {};
  std::size_t size = 0;
};

/// Makes the header of a package: the length of the payload in `header_size` bytes, most significant first. The
/// length must have been checked against the format.
inline pkg_header make_pkg_header(const pkg_format& format, std::size_t payload_size) noexcept {
  const auto aligned = static_cast<std::uint32_t>(payload_size << (8 * (4 - format.header_size)));
  const auto byte = [aligned](int place) { return static_cast<unsigned char>(aligned >> (24 - 8 * place)); };
  return {{byte(0), byte(1), byte(2), byte(3)}, format.header_size};
}

/// Says whether a payload may be sent in this format; on an error `why` has the numbers.
inline std::error_code check_payload(const pkg_format& format, std::size_t payload_size, std::string& why) {
  if (payload_size <= format.max_data_size) return {};
  why = "data size " + std::to_string(payload_size) + " exceeds the allowed max data size " +
        std::to_string(format.max_data_size);
  return Errc::DataTooLong;
}

}  // namespace gtcp::detail

#endif
