// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_TLS_PAIR_HPP
#define GTCP_TESTS_SUPPORT_TLS_PAIR_HPP

// Connections with TLS whose other end is a connection too, or a bare transport that does only what the test says.

#include <gtcp/detail/tls_peer.hpp>
#include <gtcp/detail/tls_transport.hpp>
#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/tls_certificates.hpp"

#include <asio/buffer.hpp>

#include <openssl/ssl.h>

#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp_test {

/// One end of a connection, with TLS on it. What would block for longer than the ceiling throws.
class tls_end {
 public:
  explicit tls_end(raw_peer::socket&& socket) : descriptor_(socket.release()) {
    if (gtcp::detail::prepare_socket(descriptor_)) throw std::runtime_error("tls_end: socket");
    gtcp::detail::tls_settings settings;
    settings.server_name = "localhost";
    tls_ = std::make_unique<gtcp::detail::tls_transport>(descriptor_, client_context(), settings);
  }
  tls_end(tls_end&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, gtcp::detail::invalid_native_socket)),
        tls_(std::move(other.tls_)) {}
  ~tls_end() { close(); }

  gtcp::detail::tls_transport& tls() noexcept { return *tls_; }

  /// Lets the system hold only little of what is written here.
  void narrow_sending() {
    if (gtcp::detail::set_option(descriptor_, gtcp::detail::socket_option::send_buffer, 4096))
      throw std::runtime_error("tls_end: send buffer");
  }

  void handshake() {
    until([this] { return tls_->handshake(); });
  }

  void write(std::string_view bytes) {
    until([&] {
      const asio::const_buffer part(bytes.data(), bytes.size());
      gtcp::detail::io_result put = tls_->write_some(std::span(&part, 1));
      bytes.remove_prefix(put.size);
      return put;
    });
  }

  /// Reads `size` bytes, or up to the end of the stream.
  std::string read(std::size_t size, std::error_code& error) {
    std::string bytes(size, '\0');
    std::size_t have = 0;
    error.clear();
    const bool done = poll_until([&] {
      const gtcp::detail::io_result got = tls_->read_some(asio::buffer(bytes.data() + have, size - have));
      have += got.size;
      error = got.error;
      return error || have == size;
    });
    if (!done) throw std::runtime_error("tls_end: nothing came");
    bytes.resize(have);
    return bytes;
  }

  /// Reads one package, with a header of two bytes.
  std::string read_pkg() {
    std::error_code error;
    const std::string header = read(2, error);
    if (error) throw std::system_error(error, "tls_end: header");
    std::string payload = read(
        static_cast<std::size_t>(static_cast<unsigned char>(header[0]) << 8 | static_cast<unsigned char>(header[1])),
        error);
    if (error) throw std::system_error(error, "tls_end: payload");
    return payload;
  }

  /// Sends a key update that asks for one in return, as far as the socket takes it. False: it did not take all.
  bool update_keys() {
    tls_->with_ssl([](SSL* ssl) {
      ::SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
      ::SSL_do_handshake(ssl);
    });
    return tls_->write_some({}).wait_for == gtcp::detail::wait_direction::none;
  }

  void finish() {
    until([this] { return tls_->finish_stream(); });
    tls_->end_of_sending();
  }

  void close() noexcept {
    const auto old = std::exchange(descriptor_, gtcp::detail::invalid_native_socket);
    if (old != gtcp::detail::invalid_native_socket) gtcp::detail::close_socket(old, false);
  }

 private:
  template <class Step>
  void until(const Step& step) {
    std::error_code error;
    const bool done = poll_until([&] {
      const gtcp::detail::io_result result = step();
      error = result.error;
      return error || result.wait_for == gtcp::detail::wait_direction::none;
    });
    if (error) throw std::system_error(error, "tls_end");
    if (!done) throw std::runtime_error("tls_end: blocked");
  }

  gtcp::detail::native_socket descriptor_;
  std::unique_ptr<gtcp::detail::tls_transport> tls_;
};

inline gtcp::Conn make_tls_conn(raw_peer::socket&& socket, bool is_server, const gtcp::ConnOption& option,
                                const std::shared_ptr<asio::ssl::context>& context) {
  gtcp::detail::tls_settings settings;
  settings.is_server = is_server;
  settings.server_name = "localhost";
  const gtcp::detail::native_socket descriptor = socket.release();
  gtcp::detail::descriptor_guard guard(descriptor);
  if (gtcp::detail::prepare_socket(descriptor)) throw std::runtime_error("make_tls_conn: socket");
  if (gtcp::detail::apply(option, descriptor, gtcp::detail::socket_address::of(descriptor).is_unix()))
    throw std::runtime_error("make_tls_conn: options");
  auto layer = std::make_unique<gtcp::detail::tls_transport>(descriptor, context, settings);
  return gtcp::detail::make_conn(guard.release(), option, std::move(layer));
}
inline gtcp::Conn make_tls_conn(raw_peer::socket&& socket, bool is_server, const gtcp::ConnOption& option) {
  return make_tls_conn(std::move(socket), is_server, option, is_server ? server_context() : client_context());
}

inline void shake_hands(const gtcp::Conn& conn) {
  std::string nothing;
  const std::error_code error = gtcp::detail::conn_access::state(conn)->receive(
      gtcp::detail::recv_goal::handshake(), gtcp::detail::time_limit::within(ceiling), nothing);
  if (error) throw std::system_error(error, "shake_hands");
}

inline void shake_hands(const conn_pair& pair) {
  std::thread other([&] { shake_hands(pair.a); });
  shake_hands(pair.b);
  other.join();
}

inline conn_pair make_tls_conn_pair(const gtcp::ConnOption& option_a = {}, const gtcp::ConnOption& option_b = {}) {
  auto [first, second] = connected_sockets(net::tcp);
  conn_pair pair{make_tls_conn(std::move(first), true, option_a), make_tls_conn(std::move(second), false, option_b)};
  shake_hands(pair);
  return pair;
}

struct conn_and_tls_end {
  gtcp::Conn conn;
  tls_end peer;
};

inline conn_and_tls_end make_conn_and_tls_end(const gtcp::ConnOption& option = {}, net kind = net::tcp,
                                              buffer_sizes sizes = {}) {
  auto [own, other] = connected_sockets(kind, sizes);
  conn_and_tls_end pair{make_tls_conn(std::move(own), true, option), tls_end(std::move(other))};
  std::thread handshaking([&] { shake_hands(pair.conn); });
  pair.peer.handshake();
  handshaking.join();
  return pair;
}

/// A connection whose sends block soon.
inline conn_and_tls_end make_narrow_tls(gtcp::ConnOption option = {}) {
  option.SendBufferSize = 4096;
  return make_conn_and_tls_end(option, net::tcp, {.peer_recv = 4096});
}

}  // namespace gtcp_test

#endif
