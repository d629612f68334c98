// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_GATE_HPP
#define GTCP_DETAIL_SERVER_GATE_HPP

// Who may come in: how many connections a server has, in all and from each address, and what became of them.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/address.hpp>
#include <gtcp/detail/platform_address.hpp>
#include <gtcp/detail/platform_io.hpp>
#include <gtcp/error.hpp>
#include <gtcp/server_option.hpp>
#include <gtcp/stats.hpp>

#include <asio/error.hpp>
#include <asio/ip/address.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <system_error>

namespace gtcp::detail {

/// Where a connection comes from, as far as limits care: an IPv4 address, or the first 64 bits of an IPv6 address.
class source_address {
 public:
  source_address() = default;

  /// None for a unix socket.
  static source_address of(const socket_address& peer) noexcept {
    return peer.empty() || peer.is_unix() ? source_address() : of(to_endpoint(peer).address());
  }

  static source_address of(const asio::ip::address& address) noexcept {
    source_address source;
    const bool is_mapped = address.is_v6() && address.to_v6().is_v4_mapped();
    if (address.is_v4() || is_mapped) {
      const auto v4 =
          address.is_v4() ? address.to_v4() : asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
      source.set(4, v4.to_bytes().data(), 4);
    } else {
      source.set(6, address.to_v6().to_bytes().data(), 8);
    }
    return source;
  }

  bool empty() const noexcept { return bytes_[0] == 0; }
  friend auto operator<=>(const source_address&, const source_address&) = default;

 private:
  void set(unsigned char kind, const unsigned char* bytes, std::size_t size) noexcept {
    bytes_[0] = kind;
    std::memcpy(bytes_.data() + 1, bytes, size);
  }

  std::array<unsigned char, 9> bytes_{};
};

/// The name of what ended a connection, in ServerStats::Closed.
inline const char* reason_name(const std::error_code& reason) noexcept {
  if (!reason) return "closed";
  if (reason.category() == ErrorCategory()) {
    switch (static_cast<Errc>(reason.value())) {
      case Errc::Closed: return "closed";
      case Errc::PkgTooLarge: return "pkg_too_large";
      case Errc::PkgTruncated:
      case Errc::TlsTruncated: return "pkg_truncated";
      case Errc::Draining: return "draining";
      case Errc::QueueFull: return "queue_full";
      case Errc::FirstPkgTimeout: return "first_pkg_timeout";
      case Errc::IdleTimeout: return "idle_timeout";
      case Errc::Timeout: return "handshake_timeout";  // the only one that ends a connection
      case Errc::PkgTimeout: return "pkg_timeout";
      case Errc::SendStalled: return "send_stalled";
      case Errc::ReceiveMemoryFull: return "receive_memory_full";
      default: return "other";
    }
  }
  if (reason == asio::error::eof) return "eof";
  const bool is_reset = reason == asio::error::connection_reset || reason == asio::error::broken_pipe ||
                        reason == asio::error::connection_aborted;
  return is_reset ? "reset" : "other";
}

/// Under the server's mutex.
class server_gate {
 public:
  /// Lets a connection in: nullptr; or the reason why not, as in ServerStats::Refused. Counts it either way. `source`
  /// may be empty.
  const char* enter(const ServerOption& option, const source_address& source) {
    ++stats_.Accepted;
    const char* refused = nullptr;
    if (option.MaxConns != 0 && stats_.Active >= option.MaxConns)
      refused = "max_conns";
    else if (!source.empty() && of(source) >= option.MaxConnsPerAddress)
      refused = "max_conns_per_address";
    if (refused != nullptr) {
      refuse(refused);
      return refused;
    }
    if (!source.empty()) ++sources_[source];
    ++stats_.Active;
    return nullptr;
  }

  /// One that was let in is not served: back as if it had not been.
  void turn_away(const source_address& source, const char* reason) {
    leave(source);
    refuse(reason);
  }

  /// One that was let in has been served.
  void leave(const source_address& source, const std::error_code& reason) {
    leave(source);
    ++stats_.Closed[reason_name(reason)];
  }

  void note_accept_error() noexcept { ++stats_.AcceptErrors; }
  void note_exception() noexcept { ++stats_.HandlerExceptions; }

  const ServerStats& stats() const noexcept { return stats_; }

 private:
  std::size_t of(const source_address& source) const {
    const auto found = sources_.find(source);
    return found == sources_.end() ? 0 : found->second;
  }

  void refuse(const char* reason) { ++stats_.Refused[reason]; }

  void leave(const source_address& source) {
    --stats_.Active;
    const auto found = sources_.find(source);
    if (found != sources_.end() && --found->second == 0) sources_.erase(found);
  }

  ServerStats stats_;
  std::map<source_address, std::size_t> sources_;
};

/// A connection's place behind the gate, until a session has it. Locks the server's mutex.
class gate_place {
 public:
  gate_place(std::mutex& mutex, server_gate& gate) : mutex_(mutex), gate_(gate) {}
  ~gate_place() {
    if (!taken_) return;
    const std::lock_guard lock(mutex_);
    try {
      gate_.turn_away(source_, "error");
    } catch (const std::bad_alloc&) {  // for the name of the reason; all else is done before
    }
  }
  gate_place(const gate_place&) = delete;
  gate_place& operator=(const gate_place&) = delete;

  /// As server_gate::enter().
  const char* take(const ServerOption& option, const socket_address& peer) {
    if (option.MaxConnsPerAddress != 0) source_ = source_address::of(peer);
    const std::lock_guard lock(mutex_);
    const char* const refused = gate_.enter(option, source_);
    taken_ = refused == nullptr;
    return refused;
  }
  const source_address& source() const noexcept { return source_; }
  void release() noexcept { taken_ = false; }

 private:
  std::mutex& mutex_;
  server_gate& gate_;
  source_address source_;
  bool taken_ = false;
};

}  // namespace gtcp::detail

#endif
