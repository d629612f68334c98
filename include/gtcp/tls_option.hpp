// SPDX-License-Identifier: MIT
#ifndef GTCP_TLS_OPTION_HPP
#define GTCP_TLS_OPTION_HPP

// What a connection or a server adds to its TLS configuration. The configuration itself is an asio::ssl::context, see
// tls.hpp.

#include <gtcp/error.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

struct ssl_session_st;  // OpenSSL's SSL_SESSION

namespace gtcp {

/// A session that a further connection to the same server can resume; see GetTLSSession.
using TLSSession = std::shared_ptr<ssl_session_st>;

/// Sets up TLS on a connection, at NewConnTLS, or on the connections of a Server. Every member has a default.
struct TLSOption {
  /// Client: the name or IP address that the server's certificate must be for, and that is sent as SNI. Empty is the
  /// host of the address, "localhost" for one without host.
  std::string ServerName = {};
  /// Client: takes any certificate of anybody. Encrypted, and safe from nobody who can get in between.
  bool InsecureSkipVerify = false;
  /// The protocols that are offered, or spoken, best first (ALPN). A server that names some refuses clients that offer
  /// only others. At most 255 bytes each.
  std::vector<std::string> NextProtos = {};
  /// How long the handshake may take; 0 is no limit.
  std::chrono::nanoseconds HandshakeTimeout = std::chrono::seconds(10);
  /// Server: sends tickets with which clients can resume their session. Off, since a client that closes without having
  /// read its tickets resets the connection, and what it sent last may be lost.
  bool SessionResumption = false;
  /// Client: a session of an earlier connection to resume; a server that does not know it begins a new one.
  TLSSession Session = {};
};

namespace detail {

/// Checks `option`. On an error `why` quotes what is wrong and says what is allowed.
inline std::error_code check(const TLSOption& option, std::string& why) {
  if (option.HandshakeTimeout.count() < 0) {
    why = "HandshakeTimeout is " + std::to_string(option.HandshakeTimeout.count()) + " ns, allowed are 0 and more";
    return Errc::InvalidOption;
  }
  std::size_t total = 0;
  for (const std::string& name : option.NextProtos) {
    total += 1 + name.size();
    if (name.empty() || name.size() > 255 || total > 65535) {
      why = "NextProtos has a name of " + std::to_string(name.size()) +
            " bytes, allowed are 1 to 255, and 65535 for all of them";
      return Errc::InvalidOption;
    }
  }
  if (option.ServerName.find('\0') != std::string::npos) {
    why = "ServerName has a zero byte";
    return Errc::InvalidOption;
  }
  return {};
}

}  // namespace detail
}  // namespace gtcp

#endif
