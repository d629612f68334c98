// SPDX-License-Identifier: MIT
#ifndef GTCP_POOL_OPTION_HPP
#define GTCP_POOL_OPTION_HPP

// The options of a pooled connection, and their check.

#include <gtcp/conn_option.hpp>
#include <gtcp/error.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>

namespace gtcp {

/// Says what NewPoolConn is to give, and how long it is kept afterwards. Every member has a default.
struct PoolOption {
  /// How long the connection is kept when it is back and nobody wants it; 0 is without a limit.
  std::chrono::milliseconds IdleTime{10'000};
  /// How many connections there may be, idle ones included, when another one is opened for this call; 0, the default,
  /// is no limit. At the limit the call waits for one that comes back, first come first served.
  std::size_t MaxConns = 0;
  /// Also keeps a connection on which something was sent that no receive has answered. Only for peers that never reply:
  /// else a reply that comes late is there for the next one who gets the connection.
  bool ReuseUnanswered = false;
  /// The options of the connection. Connections are kept apart by those of the socket (NoDelay, KeepAlive and its
  /// times, buffer sizes, LocalAddress); all others are each borrower's own.
  ConnOption Conn = {};
};

namespace detail {

/// Checks `option`. On an error `why` quotes what is wrong and says what is allowed.
inline std::error_code check(const PoolOption& option, std::string& why) {
  if (option.IdleTime.count() < 0) {
    why = "IdleTime is " + std::to_string(option.IdleTime.count()) + ", allowed are 0 ms and more";
    return Errc::InvalidOption;
  }
  return check(option.Conn, why);
}

}  // namespace detail
}  // namespace gtcp

#endif
