// SPDX-License-Identifier: MIT
#ifndef GTCP_CONN_OPTION_HPP
#define GTCP_CONN_OPTION_HPP

// The options of a connection, and their check.

#include <gtcp/error.hpp>
#include <gtcp/pkg_option.hpp>

#include <asio/any_io_executor.hpp>

#include <chrono>
#include <cstddef>
#include <limits>
#include <string>
#include <system_error>

namespace gtcp {

/// Says what it means that a send is done.
enum class SendMode : unsigned char {
  /// The package is with the system or in the outbox, which sends it without further help.
  Buffered,
  /// The package is with the system.
  Direct,
};

/// Says what a send does when the outbox has no room for its package. Only Block ever waits; the others take whole
/// packages or nothing, and SendMode means nothing for them. A package that is larger than ConnOption::OutboxLimit is
/// taken when nothing else waits.
enum class QueuePolicy : unsigned char {
  /// It waits for room.
  Block,
  /// It fails with Errc::QueueFull.
  Fail,
  /// It succeeds, and the package is dropped and counted (ConnStats::PkgsDropped): for values of which a newer one
  /// follows.
  Drop,
  /// It fails with Errc::QueueFull, and the connection is reset: the peer is too slow to be served.
  Close,
};

/// Sets up a connection, at NewConn, on a Server, or when a socket is adopted. Every member has a default.
struct ConnOption {
  /// Sends small packages at once (TCP_NODELAY) instead of waiting for an acknowledgement first.
  bool NoDelay = true;
  /// Lets the system probe connections on which nothing happens (SO_KEEPALIVE).
  bool KeepAlive = true;
  /// How long nothing happens before the first probe; 0 is the system's default. At most 32,767 s, more counts as that.
  std::chrono::seconds KeepAliveIdle{15};
  /// The pause between probes; 0 is the system's default. At most 32,767 s, more counts as that.
  std::chrono::seconds KeepAliveInterval{15};
  /// How many unanswered probes end the connection; 0 is the system's default. At most 127, more counts as that.
  int KeepAliveCount = 9;
  /// The system's receive buffer (SO_RCVBUF) in bytes; 0 leaves it to the system, which is best for most.
  std::size_t RecvBufferSize = 0;
  /// The system's send buffer (SO_SNDBUF) in bytes; 0 leaves it to the system, which is best for most.
  std::size_t SendBufferSize = 0;
  /// How long Close goes on delivering in the background; 0 is not at all.
  std::chrono::milliseconds Linger{5000};
  /// How many bytes of accepted packages may wait in the outbox before senders wait. At least 1.
  std::size_t OutboxLimit = 256 * 1024;
  /// What a send does when there is no room.
  QueuePolicy WhenFull = QueuePolicy::Block;
  /// The longest line of RecvLine and RecvTill in bytes, with what ends it. At least 1.
  std::size_t MaxLineSize = 1024 * 1024;
  /// What it means that a send is done.
  SendMode Mode = SendMode::Buffered;
  /// How long a blocking receive looks for input, again and again, before it sleeps; 0 is not at all. Answers come some
  /// microseconds earlier, and cost a processor meanwhile: for one that has nothing else to do.
  std::chrono::microseconds BusyWait{0};
  /// The framing of packages, where an operation names none.
  PkgOption Pkg = {};
  /// The local "host:port" to connect from; empty leaves it to the system. Ignored for accepted and adopted sockets.
  std::string LocalAddress = {};
  /// Where asynchronous operations go on. Empty, the default: on Runtime::Default(). When the context under it is
  /// destroyed, they end without their handlers being called, and the connection goes on in the default Runtime. While
  /// it is stopped, replies of its handlers that wait for their turn there stay in the outbox, until Flush, Close, or
  /// the context's end. The context of a Server's connections must live until the Server is closed. A strand must not
  /// outlive its context, so what keeps its options, a Server or a pooled connection, must not either.
  asio::any_io_executor Executor = {};
};

namespace detail {

/// Checks `option`. On an error `why` quotes what is wrong and says what is allowed.
inline std::error_code check(const ConnOption& option, std::string& why) {
  const auto refuse = [&why](const char* name, long long value, const char* allowed) -> std::error_code {
    why = std::string(name) + " is " + std::to_string(value) + ", allowed are " + allowed;
    return Errc::InvalidOption;
  };
  if (option.KeepAliveIdle.count() < 0) return refuse("KeepAliveIdle", option.KeepAliveIdle.count(), "0 s and more");
  if (option.KeepAliveInterval.count() < 0) {
    return refuse("KeepAliveInterval", option.KeepAliveInterval.count(), "0 s and more");
  }
  if (option.KeepAliveCount < 0) return refuse("KeepAliveCount", option.KeepAliveCount, "0 and more");
  if (option.Linger.count() < 0) return refuse("Linger", option.Linger.count(), "0 ms and more");
  if (option.BusyWait.count() < 0) return refuse("BusyWait", option.BusyWait.count(), "0 us and more");
  if (option.OutboxLimit == 0) return refuse("OutboxLimit", 0, "1 byte and more");
  if (option.MaxLineSize == 0) return refuse("MaxLineSize", 0, "1 byte and more");
  constexpr std::size_t max_int = std::numeric_limits<int>::max();
  if (option.RecvBufferSize > max_int || option.SendBufferSize > max_int) {
    const std::size_t size = option.RecvBufferSize > max_int ? option.RecvBufferSize : option.SendBufferSize;
    why = "socket buffer size is " + std::to_string(size) + ", allowed are 0 to " + std::to_string(max_int) + " bytes";
    return Errc::InvalidOption;
  }
  pkg_format ignored;
  return check(option.Pkg, ignored, why);
}

}  // namespace detail
}  // namespace gtcp

#endif
