// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PKG_WRITER_HPP
#define GTCP_DETAIL_PKG_WRITER_HPP

// Writes the length header of a package. No socket, no clock, no thread.

#include <gtcp/pkg_option.hpp>

#include <array>
#include <cstddef>
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
  pkg_header header;
  header.size = format.header_size;
  for (std::size_t i = 0; i < format.header_size; ++i) {
    header.bytes[i] = static_cast<unsigned char>(payload_size >> (8 * (format.header_size - 1 - i)));
  }
  return header;
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
