// SPDX-License-Identifier: MIT
#ifndef GTCP_PKG_OPTION_HPP
#define GTCP_PKG_OPTION_HPP

// The options of package operations, and their check.

#include <gtcp/error.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>

namespace gtcp {

/// Says how often an operation is tried again when the system was short of memory for it and no byte had moved. No
/// other error is retried. A pause ends early with the operation's deadline, its cancellation, or the connection.
///
/// Source: GoFrame: gtcp.Retry.
struct Retry {
  /// How many further tries; 0, the default, is none. A negative one is Errc::InvalidOption.
  int Count = 0;
  /// The pause before each further try; 0, the default, is 100 ms. A negative one is Errc::InvalidOption.
  std::chrono::milliseconds Interval{0};

  friend bool operator==(const Retry&, const Retry&) = default;
};

/// Says how packages are framed: `length (HeaderSize bytes, big-endian) | payload`, the length counting the payload
/// only.
///
/// Source: GoFrame: gtcp.PkgOption.
/// Differs: MaxDataSize never exceeds what the header can say, so that no length is truncated.
struct PkgOption {
  /// Bytes of the length header, 1 to 4; 0, the default, means 2. All else is Errc::InvalidOption.
  int HeaderSize = 0;
  /// The largest payload in bytes, at most 0x7FFFFFFF; 0, the default, means what the header can say (for 4 bytes
  /// 0x7FFFFFFF). A larger one than the header can say is clipped to that; a negative one is Errc::InvalidOption.
  long long MaxDataSize = 0;
  /// Further tries when the system is short of memory, see Retry; none by default.
  gtcp::Retry Retry = {};

  friend bool operator==(const PkgOption&, const PkgOption&) = default;
};

namespace detail {

/// A PkgOption that was checked: what the reader and the writer of packages work with.
struct pkg_format {
  std::size_t header_size = 2;
  std::size_t max_data_size = 0xFFFF;
  Retry retry = {};
};

inline constexpr long long max_pkg_data_size = 0x7FFFFFFF;

inline std::chrono::milliseconds retry_pause(const Retry& retry) noexcept {
  return retry.Interval.count() != 0 ? retry.Interval : std::chrono::milliseconds(100);
}

inline std::error_code check(const Retry& retry, std::string& why) {
  if (retry.Count < 0) {
    why = "Retry.Count is " + std::to_string(retry.Count) + ", allowed are 0 and more";
    return Errc::InvalidOption;
  }
  if (retry.Interval.count() < 0) {
    why = "Retry.Interval is " + std::to_string(retry.Interval.count()) + " ms, allowed are 0 and more";
    return Errc::InvalidOption;
  }
  return {};
}

/// Checks `option` and fills `format`. On an error `why` quotes what is wrong and says what is allowed.
inline std::error_code check(const PkgOption& option, pkg_format& format, std::string& why) {
  if (option.HeaderSize < 0 || option.HeaderSize > 4) {
    why = "package header size is " + std::to_string(option.HeaderSize) +
          ", allowed are 1 to 4, and 0 for the default of 2";
    return Errc::InvalidOption;
  }
  if (option.MaxDataSize < 0 || option.MaxDataSize > max_pkg_data_size) {
    why = "package max data size is " + std::to_string(option.MaxDataSize) + ", allowed are 1 to " +
          std::to_string(max_pkg_data_size) + ", and 0 for what the header can say";
    return Errc::InvalidOption;
  }
  const int header_size = option.HeaderSize == 0 ? 2 : option.HeaderSize;
  const long long sayable = header_size == 4 ? max_pkg_data_size : (1LL << (8 * header_size)) - 1;
  const long long max = option.MaxDataSize == 0 || option.MaxDataSize > sayable ? sayable : option.MaxDataSize;
  format = {static_cast<std::size_t>(header_size), static_cast<std::size_t>(max), option.Retry};
  return check(option.Retry, why);
}

}  // namespace detail
}  // namespace gtcp

#endif
