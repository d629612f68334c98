// SPDX-License-Identifier: MIT
#ifndef GTCP_STATS_HPP
#define GTCP_STATS_HPP

// What connections and servers count, and the text of it that Prometheus reads.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace gtcp {

/// What went over one connection. All but OutboxBytes only grow.
struct ConnStats {
  std::uint64_t PkgsIn = 0;       ///< packages that a receive, or a package handler, was given
  std::uint64_t PkgsOut = 0;      ///< packages that were accepted for sending
  std::uint64_t PkgsDropped = 0;  ///< packages that QueuePolicy::Drop threw away
  std::uint64_t BytesIn = 0;      ///< bytes that were read; with TLS of what is inside
  std::uint64_t BytesOut = 0;     ///< bytes that the system, or TLS, took
  std::size_t OutboxBytes = 0;    ///< accepted bytes that still wait

  ConnStats& operator+=(const ConnStats& other) noexcept {
    PkgsIn += other.PkgsIn;
    PkgsOut += other.PkgsOut;
    PkgsDropped += other.PkgsDropped;
    BytesIn += other.BytesIn;
    BytesOut += other.BytesOut;
    OutboxBytes += other.OutboxBytes;
    return *this;
  }
};

/// What a server has done since it was made.
struct ServerStats {
  std::uint64_t Accepted = 0;  ///< connections, refused ones included
  std::size_t Active = 0;      ///< connections that are being served now
  /// Connections that were refused, by reason: "max_conns", "max_conns_per_address", "error" (no thread or no memory to
  /// serve it with, for example).
  std::map<std::string, std::uint64_t> Refused;
  /// Connections that are not served any more, by what ended them: "eof" and "reset" by the peer, "closed" on this side
  /// or by the end of the handler, "draining", "handshake_timeout", "first_pkg_timeout", "idle_timeout", "pkg_timeout",
  /// "send_stalled", "receive_memory_full", "queue_full", "pkg_too_large", "pkg_truncated", "other".
  std::map<std::string, std::uint64_t> Closed;
  std::uint64_t AcceptErrors = 0;       ///< failures to accept, a lack of descriptors for example
  std::uint64_t HandlerExceptions = 0;  ///< that went to the error callback
  ConnStats Conns;                      ///< the sum over all its connections, those that have ended too
};

/// What became of the connections of a server that was shut down.
struct ShutdownResult {
  std::size_t Drained = 0;  ///< ended by themselves in time, with everything delivered
  std::size_t Cut = 0;      ///< were reset at the end of the time
  bool Complete = false;    ///< false: it goes on in the background, and nothing is counted yet
};

/// Writes the statistics in Prometheus' text format, each name behind `prefix` and an underscore.
inline std::string FormatPrometheus(const ServerStats& stats, std::string_view prefix = "gtcp") {
  std::string text;
  const auto describe = [&](const char* name, const char* type, const char* help) {
    const std::string full = std::string(prefix) + '_' + name;
    text += "# HELP " + full + ' ' + help + "\n# TYPE " + full + ' ' + type + '\n';
    return full;
  };
  const auto single = [&](const char* name, const char* type, const char* help, std::uint64_t value) {
    const std::string full = describe(name, type, help);
    text += full + ' ' + std::to_string(value) + '\n';
  };
  const auto by_reason = [&](const char* name, const char* help, const std::map<std::string, std::uint64_t>& values) {
    const std::string full = describe(name, "counter", help);
    for (const auto& [reason, value] : values)
      text += full + "{reason=\"" + reason + "\"} " + std::to_string(value) + '\n';
  };
  single("accepted_total", "counter", "Connections that were accepted, refused ones included.", stats.Accepted);
  single("active", "gauge", "Connections that are being served.", stats.Active);
  by_reason("refused_total", "Connections that were refused.", stats.Refused);
  by_reason("closed_total", "Connections that are not served any more.", stats.Closed);
  single("accept_errors_total", "counter", "Failures to accept.", stats.AcceptErrors);
  single("handler_exceptions_total", "counter", "Exceptions that left a handler.", stats.HandlerExceptions);
  single("packages_in_total", "counter", "Packages that were received.", stats.Conns.PkgsIn);
  single("packages_out_total", "counter", "Packages that were accepted for sending.", stats.Conns.PkgsOut);
  single("packages_dropped_total", "counter", "Packages that QueuePolicy::Drop threw away.", stats.Conns.PkgsDropped);
  single("bytes_in_total", "counter", "Bytes that were read.", stats.Conns.BytesIn);
  single("bytes_out_total", "counter", "Bytes that were written.", stats.Conns.BytesOut);
  single("outbox_bytes", "gauge", "Accepted bytes that are not written yet.", stats.Conns.OutboxBytes);
  return text;
}

}  // namespace gtcp

#endif
