// SPDX-License-Identifier: MIT
#ifndef GTCP_FREE_PORT_HPP
#define GTCP_FREE_PORT_HPP

// Ports on which nothing listens. A Server that listens on FreePortAddress gets one without the risk that another
// program takes it first: prefer that wherever the server can say its port.

#include <gtcp/error.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>

#include <string>
#include <system_error>
#include <vector>

namespace gtcp {

namespace detail {

/// Binds to a port that the system chooses, of both families where there are both.
inline int bind_free_port(asio::ip::tcp::acceptor& acceptor, std::error_code& error) {
  for (const auto& family : {asio::ip::tcp::v6(), asio::ip::tcp::v4()}) {
    std::error_code ignored;
    acceptor.close(ignored);
    acceptor.open(family, error);
    if (!error && family == asio::ip::tcp::v6()) acceptor.set_option(asio::ip::v6_only(false), error);
    if (!error) acceptor.bind(asio::ip::tcp::endpoint(family, 0), error);
    if (error) continue;
    const asio::ip::tcp::endpoint bound = acceptor.local_endpoint(error);
    if (!error) return bound.port();
  }
  return 0;
}

}  // namespace detail

/// Returns `count` different ports that were free a moment ago.
///
/// Errors: Errc::InvalidOption for a negative count; the system's when there are no more ports or descriptors.
/// Thread safety: may be called from any thread.
/// Source: GoFrame: gtcp.GetFreePorts.
/// Differs: the ports are all different; the Go package may return one twice.
inline std::vector<int> GetFreePorts(int count, OnError on_error = {}) {
  std::error_code error;
  std::vector<int> ports;
  if (count < 0) {
    error = Errc::InvalidOption;
  } else {
    try {
      asio::io_context context;
      std::vector<asio::ip::tcp::acceptor> bound;  // all stay bound until the end, so that none is chosen twice
      while (!error && static_cast<int>(ports.size()) < count) {
        ports.push_back(detail::bind_free_port(bound.emplace_back(context), error));
      }
    } catch (const std::system_error& failure) {  // Asio needs descriptors of its own
      error = failure.code();
    }
  }
  if (error) ports.clear();
  on_error.Report(error, [&] {
    return count < 0 ? "GetFreePorts: the count is " + std::to_string(count) + ", allowed are 0 and more"
                     : "GetFreePorts(" + std::to_string(count) + ")";
  });
  return ports;
}

/// Returns a port that was free a moment ago; 0 on an error that goes into an error_code.
///
/// Errors, thread safety: as GetFreePorts.
/// Source: GoFrame: gtcp.GetFreePort.
inline int GetFreePort(OnError on_error = {}) {
  const std::vector<int> ports = GetFreePorts(1, on_error);
  return ports.empty() ? 0 : ports.front();
}

/// Does what GetFreePort does: it throws where the Go package panics.
///
/// Source: GoFrame: gtcp.MustGetFreePort.
inline int MustGetFreePort() { return GetFreePort(); }

}  // namespace gtcp

#endif
