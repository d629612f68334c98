// SPDX-License-Identifier: MIT
#ifndef GTCP_SERVER_OPTION_HPP
#define GTCP_SERVER_OPTION_HPP

// The options of a server, and their check.

#include <gtcp/conn_option.hpp>
#include <gtcp/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

class Conn;

/// Is told what left a handler, or kept a connection from being served. `conn` is not connected when the error belongs
/// to no connection (no descriptors to accept with, for example). May be called from several threads at once; what it
/// throws is reported on stderr.
using ServerErrorCallback = std::function<void(const Conn& conn, std::exception_ptr error)>;

/// How much a message of a log matters.
enum class LogLevel : unsigned char { Debug, Info, Warning, Error };

/// Is told what a Server does: never under a lock of the library, and never a byte of a package. `conn_id` is Conn::Id,
/// 0 for none. May be called from several threads at once; what it throws is dropped.
using ServerLog = std::function<void(LogLevel level, std::string_view message, std::uint64_t conn_id)>;

/// Sets up a Server. Every member has a default. All limits are off by default; a server that strangers can reach
/// should have them.
///
/// The time limits count only while the connection waits for its peer: never while the handler does something else, nor
/// while reading is paused because the outbox is full. A connection is ended at most a tenth of the limit late; what
/// its handler waits for fails with Errc::Closed, and Conn::CloseReason names the limit. TLSOption::HandshakeTimeout is
/// the limit of a TLS handshake.
struct ServerOption {
  /// What every accepted connection gets. Its Executor is where coroutine handlers run; empty, the default, is
  /// Runtime::Default(), each connection on one of its io threads.
  ConnOption Conn = {};
  /// How many connections the system holds until they are accepted; the system may allow fewer. At least 1.
  int Backlog = 4096;
  /// Lets the server listen while connections of an earlier one on the same port still end (SO_REUSEADDR).
  bool ReuseAddress = true;
  /// Takes no IPv4 connections on ":port" and "[::]:port".
  bool V6Only = false;
  /// How many connections may be served at a time, from accept on, a handshake included; 0 is any number. Beyond it
  /// they are accepted and reset at once.
  std::size_t MaxConns = 0;
  /// The same for each address that they come from, IPv6 by its first 64 bits; 0 is any number. Unix sockets have none.
  std::size_t MaxConnsPerAddress = 0;
  /// How long the first package (or the first successful receive of bytes) may take, from accept on; 0 is no limit.
  /// Beyond it: reset, Errc::FirstPkgTimeout.
  std::chrono::milliseconds FirstPkgTimeout{0};
  /// How long nothing at all may come; any byte counts. 0 is no limit. Beyond it: closed, Errc::IdleTimeout.
  std::chrono::milliseconds IdleTimeout{0};
  /// How long a package may take from its first byte to its last, however steadily it drips; 0 is no limit. Beyond it:
  /// reset, Errc::PkgTimeout.
  std::chrono::milliseconds PkgTimeout{0};
  /// How long the peer may take not a byte of what waits to be sent; 0 is no limit. Beyond it: reset,
  /// Errc::SendStalled.
  std::chrono::milliseconds SendStallTimeout{0};
  /// How many bytes that came, and were not handed to a handler yet, all connections may hold together: unfinished
  /// packages, and those that came while a handler does something else. 0 is any number. The connection that goes
  /// beyond it is reset, Errc::ReceiveMemoryFull.
  std::size_t MaxReceiveMemory = 0;
  /// Empty, the default: one line on stderr.
  ServerErrorCallback ErrorCallback = {};
  /// Empty, the default: silent.
  ServerLog Log = {};
};

namespace detail {

/// Checks `option`. On an error `why` quotes what is wrong and says what is allowed.
inline std::error_code check(const ServerOption& option, std::string& why) {
  if (option.Backlog < 1) {
    why = "Backlog is " + std::to_string(option.Backlog) + ", allowed are 1 and more";
    return Errc::InvalidOption;
  }
  const std::pair<const char*, std::chrono::milliseconds> limits[] = {{"FirstPkgTimeout", option.FirstPkgTimeout},
                                                                      {"IdleTimeout", option.IdleTimeout},
                                                                      {"PkgTimeout", option.PkgTimeout},
                                                                      {"SendStallTimeout", option.SendStallTimeout}};
  for (const auto& [name, value] : limits) {
    if (value.count() >= 0) continue;
    why = std::string(name) + " is " + std::to_string(value.count()) + " ms, allowed are 0 for no limit and more";
    return Errc::InvalidOption;
  }
  return check(option.Conn, why);
}

}  // namespace detail
}  // namespace gtcp

#endif
