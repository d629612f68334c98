// SPDX-License-Identifier: MIT
#ifndef GTCP_SERVER_OPTION_HPP
#define GTCP_SERVER_OPTION_HPP

// The options of a server, and their check.

#include <gtcp/conn_option.hpp>
#include <gtcp/error.hpp>

#include <exception>
#include <functional>
#include <string>
#include <system_error>

namespace gtcp {

class Conn;

/// Is told what left a handler, or kept a connection from being served. `conn` is not connected when the error belongs
/// to no connection (no descriptors to accept with, for example). May be called from several threads at once; what it
/// throws is reported on stderr.
using ServerErrorCallback = std::function<void(const Conn& conn, std::exception_ptr error)>;

/// Sets up a Server. Every member has a default.
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
  /// Empty, the default: one line on stderr.
  ServerErrorCallback ErrorCallback = {};
};

namespace detail {

/// Checks `option`. On an error `why` quotes what is wrong and says what is allowed.
inline std::error_code check(const ServerOption& option, std::string& why) {
  if (option.Backlog < 1) {
    why = "Backlog is " + std::to_string(option.Backlog) + ", allowed are 1 and more";
    return Errc::InvalidOption;
  }
  return check(option.Conn, why);
}

}  // namespace detail
}  // namespace gtcp

#endif
