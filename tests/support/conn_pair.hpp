// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_CONN_PAIR_HPP
#define GTCP_TESTS_SUPPORT_CONN_PAIR_HPP

// Connected pairs: two Conns, or a Conn and a raw socket which says exactly what is on the wire.

#include <gtcp/dial.hpp>

#include "support/poll_until.hpp"

#include <asio/buffer.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/address_v4.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp_test {

/// The bytes of a package: the length in `header_size` bytes, then the payload.
inline std::string framed(std::string_view payload, std::size_t header_size = 2) {
  std::string bytes;
  for (std::size_t i = header_size; i-- > 0;) bytes += static_cast<char>(payload.size() >> (8 * i) & 0xFF);
  return bytes.append(payload);
}

/// `size` bytes that differ with `seed` and with their place.
inline std::string pattern(std::size_t size, unsigned seed = 1) {
  std::string bytes(size, '\0');
  std::uint32_t state = seed * 2654435761u + 1;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

/// A path for a unix socket that nothing else uses; what is there is removed at the end.
class socket_path {
 public:
  socket_path() {
    static std::atomic<unsigned> count{0};
    path_ = (std::filesystem::temp_directory_path() /
             ("gtcp-" + std::to_string(std::random_device()()) + "-" + std::to_string(count.fetch_add(1))))
                .string();
    remove();
  }
  ~socket_path() { remove(); }
  socket_path(const socket_path&) = delete;
  socket_path& operator=(const socket_path&) = delete;

  const std::string& str() const noexcept { return path_; }

 private:
  void remove() const {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  std::string path_;
};

/// The other end of a connection as a plain blocking socket. What would block for longer than the ceiling throws.
class raw_peer {
 public:
  using socket = asio::generic::stream_protocol::socket;

  explicit raw_peer(socket&& connected) : socket_(std::move(connected)) { limit_waiting(); }
  raw_peer(raw_peer&&) = default;

  void write(std::string_view bytes) {
    while (!bytes.empty()) bytes.remove_prefix(socket_.write_some(asio::buffer(bytes)));
  }

  /// Reads exactly `size` bytes, or fewer if the stream ends before.
  std::string read(std::size_t size) {
    std::string bytes(size, '\0');
    std::size_t have = 0;
    while (have < size) {
      std::error_code error;
      const std::size_t got = socket_.read_some(asio::buffer(bytes.data() + have, size - have), error);
      if (error == asio::error::eof) break;
      if (error) throw std::system_error(error, "raw_peer::read");
      have += got;
    }
    bytes.resize(have);
    return bytes;
  }

  std::string read_to_end() {
    std::string all;
    for (;;) {
      std::string part = read(64 * 1024);
      const bool ended = part.size() < 64 * 1024;
      all += part;
      if (ended) return all;
    }
  }

  /// Reads one package of whatever size.
  std::string read_pkg(std::size_t header_size = 2) {
    const std::string header = read(header_size);
    if (header.size() < header_size) throw std::runtime_error("the stream ended before a package");
    std::size_t size = 0;
    for (const char byte : header) size = size << 8 | static_cast<unsigned char>(byte);
    std::string payload = read(size);
    if (payload.size() < size) throw std::runtime_error("the stream ended inside a package");
    return payload;
  }

  /// Bytes that have come and can be read.
  std::size_t available() const { return socket_.available(); }

  void end_sending() { socket_.shutdown(socket::shutdown_send); }
  void close() { socket_.close(); }
  /// Makes the other end see a reset.
  void reset() {
    socket_.set_option(asio::socket_base::linger(true, 0));
    socket_.close();
  }
  socket& get() noexcept { return socket_; }

 private:
  void limit_waiting() {
#if !defined(ASIO_WINDOWS)
    const ::timeval limit = {ceiling.count(), 0};
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
#endif
  }

  socket socket_;
};

/// The context of raw sockets, on which nothing ever runs.
inline asio::io_context& raw_context() {
  static asio::io_context& context = *new asio::io_context;
  return context;
}

inline bool has_ipv6() {
  asio::ip::tcp::acceptor acceptor(raw_context());
  std::error_code error;
  acceptor.open(asio::ip::tcp::v6(), error);
  if (!error) acceptor.bind({asio::ip::address_v6::loopback(), 0}, error);
  return !error;
}

/// Connects to a port of this machine.
inline raw_peer connect_raw(int port) {
  asio::ip::tcp::socket socket(raw_context());
  socket.connect({asio::ip::address_v4::loopback(), static_cast<unsigned short>(port)});
  socket.set_option(asio::ip::tcp::no_delay(true));
  return raw_peer(std::move(socket));
}

enum class net { tcp, unix_socket };

/// How large the system's buffers are that stand between the two ends; 0 leaves it to the system.
struct buffer_sizes {
  int peer_recv = 0;
};

inline std::pair<raw_peer::socket, raw_peer::socket> connected_sockets(net kind, buffer_sizes sizes = {}) {
  raw_peer::socket first(raw_context());
  if (kind == net::tcp) {
    asio::ip::tcp::acceptor acceptor(raw_context(), {asio::ip::address_v4::loopback(), 0});
    asio::ip::tcp::socket second(raw_context());
    second.open(asio::ip::tcp::v4());
    if (sizes.peer_recv != 0) second.set_option(asio::socket_base::receive_buffer_size(sizes.peer_recv));
    second.connect(acceptor.local_endpoint());
    asio::ip::tcp::socket accepted = acceptor.accept();
    second.set_option(asio::ip::tcp::no_delay(true));
    return {std::move(accepted), std::move(second)};
  }
  const socket_path path;
  asio::local::stream_protocol::acceptor acceptor(raw_context(), asio::local::stream_protocol::endpoint(path.str()));
  asio::local::stream_protocol::socket second(raw_context());
  second.connect(acceptor.local_endpoint());
  asio::local::stream_protocol::socket accepted = acceptor.accept();
  return {std::move(accepted), std::move(second)};
}

struct conn_and_peer {
  gtcp::Conn conn;
  raw_peer peer;
};

inline conn_and_peer make_conn_and_peer(const gtcp::ConnOption& option = {}, net kind = net::tcp,
                                        buffer_sizes sizes = {}) {
  auto [own, other] = connected_sockets(kind, sizes);
  gtcp::Conn conn = gtcp::NewConnByNetConn(own.release(), {}, option);
  return {std::move(conn), raw_peer(std::move(other))};
}

struct conn_pair {
  gtcp::Conn a;
  gtcp::Conn b;
};

inline conn_pair make_conn_pair(const gtcp::ConnOption& option_a = {}, const gtcp::ConnOption& option_b = {},
                                net kind = net::tcp) {
  auto [first, second] = connected_sockets(kind);
  return {gtcp::NewConnByNetConn(first.release(), {}, option_a),
          gtcp::NewConnByNetConn(second.release(), {}, option_b)};
}

/// A connection whose sends block soon: small buffers at both ends, and a peer that reads only when told to.
inline conn_and_peer make_narrow(gtcp::ConnOption option = {}) {
  option.SendBufferSize = 4096;
  return make_conn_and_peer(option, net::tcp, {.peer_recv = 4096});
}

/// Whether nothing is left to read from the system: a receive that waits on the connection has taken it.
inline bool has_read_all(const gtcp::Conn& conn) {
  return !gtcp::detail::is_ready(conn.GetNativeHandle(), gtcp::detail::wait_direction::read);
}

/// Calls `operation` and returns the what() of the std::system_error that it throws with `expected`; else what happened
/// instead.
template <class Operation>
std::string text_of_error(const std::error_code& expected, Operation operation) {
  try {
    operation();
  } catch (const std::system_error& error) {
    if (error.code() == expected) return error.what();
    return "another error: " + std::string(error.what());
  }
  return "no error";
}

}  // namespace gtcp_test

#endif
