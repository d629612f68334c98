// SPDX-License-Identifier: MIT
#ifndef GTCP_TLS_HPP
#define GTCP_TLS_HPP

// TLS, by OpenSSL. A Conn with TLS is a Conn like any other. The configuration is an asio::ssl::context, which may be
// shared by any number of connections and must not be changed any more once it is in use; what differs from connection
// to connection is in TLSOption. Whatever the context says: a client checks the server's chain and name unless
// TLSOption::InsecureSkipVerify, nobody speaks anything older than TLS 1.2 unless the context speaks nothing newer, and
// renegotiation is off.
//
// gtcp.hpp does not include this header. Programs that do link OpenSSL: CMake's gtcp::tls.

#include <gtcp/conn.hpp>
#include <gtcp/detail/tls_config.hpp>
#include <gtcp/detail/tls_dial.hpp>
#include <gtcp/detail/tls_error.hpp>
#include <gtcp/detail/tls_peer.hpp>
#include <gtcp/detail/tls_server.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/pool_conn.hpp>
#include <gtcp/pool_option.hpp>
#include <gtcp/server.hpp>
#include <gtcp/tls_option.hpp>

#include <asio/awaitable.hpp>
#include <asio/ssl/context.hpp>

#include <chrono>
#include <concepts>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp {

/// A TLS configuration, which connections share.
using TLSConfig = std::shared_ptr<asio::ssl::context>;

/// Loads a certificate, followed in its file by those of the authorities between it and the root, and its key; both
/// PEM, the key not encrypted. Returns a context for a server or a client: TLS 1.2 and newer, no renegotiation, no
/// tickets, and no authorities. A client adds those that it trusts, a server those whose clients it takes:
///
///     auto config = gtcp::LoadKeyCrt("server.crt", "server.key");
///     config->load_verify_file("clients_ca.crt");  // mutual TLS
///     config->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
///
/// Errors: the system's for a file that can't be read, OpenSSL's for one that is none, or a key that belongs to another
/// certificate; the text names the file. Whether the certificate is valid today is not looked at.
/// Source: GoFrame: gtcp.LoadKeyCrt.
inline TLSConfig LoadKeyCrt(const std::string& crt_file, const std::string& key_file, OnError on_error = {}) {
  std::error_code error;
  std::string why;
  TLSConfig config = detail::load_key_crt(crt_file, key_file, error, why);
  on_error.Report(error, [&] { return "LoadKeyCrt: " + why; });
  return config;
}

// ---- Clients

/// Connects as NewConn does, then with TLS; `timeout` is over both. `config` nullptr is one that trusts the authorities
/// that this system trusts.
///
/// Errors: those of NewConn; CertificateErrorCategory's when the server's certificate is refused; Errc::Timeout also
/// when the handshake takes longer than TLSOption::HandshakeTimeout; OpenSSL's ("wrong version number" when the server
/// does not speak TLS). A server that refuses the client's certificate may say so only at the first receive.
/// Source: GoFrame: gtcp.NewConnTLS.
inline Conn NewConnTLS(std::string_view address, TLSConfig config,
                       std::chrono::nanoseconds timeout = DefaultConnTimeout, const TLSOption& tls = {},
                       const ConnOption& option = {}, OnError on_error = {}, std::stop_token stop = {}) {
  detail::tls_connector connecting(std::string(address), std::move(config), timeout, tls, option);
  Conn conn;
  std::error_code error = connecting.begin();
  if (!error) error = connecting.run(stop, conn);
  on_error.Report(error, [&] { return connecting.describe("NewConnTLS"); });
  return conn;
}
inline Conn NewConnTLS(std::string_view address, TLSConfig config, const TLSOption& tls, OnError on_error = {}) {
  return NewConnTLS(address, std::move(config), DefaultConnTimeout, tls, {}, on_error);
}
inline Conn NewConnTLS(std::string_view address, TLSConfig config, std::error_code& ec) {
  return NewConnTLS(address, std::move(config), DefaultConnTimeout, {}, {}, ec);
}
inline Conn NewConnTLS(std::string_view address, TLSConfig config, std::chrono::nanoseconds timeout,
                       std::error_code& ec) {
  return NewConnTLS(address, std::move(config), timeout, {}, {}, ec);
}

/// Connects with TLS and a certificate of the client's own, from two PEM files; trusts the authorities that this system
/// trusts.
///
/// Errors: those of LoadKeyCrt and NewConnTLS.
/// Source: GoFrame: gtcp.NewConnKeyCrt.
inline Conn NewConnKeyCrt(std::string_view address, const std::string& crt_file, const std::string& key_file,
                          std::chrono::nanoseconds timeout = DefaultConnTimeout, const TLSOption& tls = {},
                          const ConnOption& option = {}, OnError on_error = {}) {
  std::error_code error;
  std::string why;
  TLSConfig config = detail::load_key_crt(crt_file, key_file, error, why);
  if (!error) config->set_default_verify_paths(error);
  on_error.Report(error, [&] { return "NewConnKeyCrt: " + why; });
  return error ? Conn() : NewConnTLS(address, std::move(config), timeout, tls, option, on_error);
}
inline Conn NewConnKeyCrt(std::string_view address, const std::string& crt_file, const std::string& key_file,
                          std::error_code& ec) {
  return NewConnKeyCrt(address, crt_file, key_file, DefaultConnTimeout, {}, {}, ec);
}
inline Conn NewConnKeyCrt(std::string_view address, const std::string& crt_file, const std::string& key_file,
                          std::chrono::nanoseconds timeout, std::error_code& ec) {
  return NewConnKeyCrt(address, crt_file, key_file, timeout, {}, {}, ec);
}

/// Connects with TLS, asynchronously. Completion: void(std::error_code, Conn). The handler is not called from within
/// this function.
///
/// Cancellation: total; no connection is left behind.
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConnTLS(std::string address, TLSConfig config,
                                                           std::chrono::nanoseconds timeout, const TLSOption& tls,
                                                           const ConnOption& option, OnError on_error = {}) {
  return detail::await_connect(
      std::make_shared<detail::tls_connector>(std::move(address), std::move(config), timeout, tls, option),
      "AsyncNewConnTLS", on_error);
}
// No default arguments, see AsyncNewConn.
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConnTLS(std::string address, TLSConfig config,
                                                           std::chrono::nanoseconds timeout, const TLSOption& tls,
                                                           OnError on_error = {}) {
  return AsyncNewConnTLS(std::move(address), std::move(config), timeout, tls, ConnOption(), on_error);
}
[[nodiscard]] inline asio::awaitable<Conn> AsyncNewConnTLS(std::string address, TLSConfig config,
                                                           std::chrono::nanoseconds timeout = DefaultConnTimeout,
                                                           OnError on_error = {}) {
  return AsyncNewConnTLS(std::move(address), std::move(config), timeout, TLSOption(), ConnOption(), on_error);
}
template <detail::completion_token Token>
  requires(!std::convertible_to<Token, std::chrono::nanoseconds>)
auto AsyncNewConnTLS(std::string address, TLSConfig config, Token&& token) {
  return detail::async_connect(std::make_shared<detail::tls_connector>(std::move(address), std::move(config),
                                                                       DefaultConnTimeout, TLSOption(), ConnOption()),
                               std::forward<Token>(token));
}
template <detail::completion_token Token>
auto AsyncNewConnTLS(std::string address, TLSConfig config, std::chrono::nanoseconds timeout, const TLSOption& tls,
                     const ConnOption& option, Token&& token) {
  return detail::async_connect(
      std::make_shared<detail::tls_connector>(std::move(address), std::move(config), timeout, tls, option),
      std::forward<Token>(token));
}

/// Takes an idle connection with TLS out of the pool, or opens another one; see PoolConn, NewPoolConn and NewConnTLS.
/// Connections are kept apart by `config` itself, not by what is in it, and by the server's name, the protocols and
/// whether the server is checked. A session to resume is only for a connection that is opened.
///
/// Errors: those of NewPoolConn and NewConnTLS.
/// Thread safety: may be called from any thread.
/// Source: ours.
inline PoolConn NewPoolConnTLS(std::string_view address, TLSConfig config,
                               std::chrono::nanoseconds timeout = DefaultConnTimeout, const TLSOption& tls = {},
                               const PoolOption& option = {}, OnError on_error = {}, std::stop_token stop = {}) {
  auto layer = std::make_shared<detail::tls_pool_layer>(std::move(config), tls);
  return detail::pool_conn_access::make<PoolConn>(detail::take_from_pool(
      {std::string(address), timeout, option, std::move(layer)}, "NewPoolConnTLS", on_error, stop));
}
inline PoolConn NewPoolConnTLS(std::string_view address, TLSConfig config, std::error_code& ec) {
  return NewPoolConnTLS(address, std::move(config), DefaultConnTimeout, {}, {}, ec);
}
inline PoolConn NewPoolConnTLS(std::string_view address, TLSConfig config, std::chrono::nanoseconds timeout,
                               std::error_code& ec) {
  return NewPoolConnTLS(address, std::move(config), timeout, {}, {}, ec);
}

/// Does what NewPoolConnTLS does, asynchronously. Completion: void(std::error_code, PoolConn). The handler is not
/// called from within this function.
///
/// Cancellation: total; no connection is left behind.
[[nodiscard]] inline asio::awaitable<PoolConn> AsyncNewPoolConnTLS(std::string address, TLSConfig config,
                                                                   std::chrono::nanoseconds timeout,
                                                                   const TLSOption& tls, const PoolOption& option,
                                                                   OnError on_error = {}) {
  auto layer = std::make_shared<detail::tls_pool_layer>(std::move(config), tls);
  const detail::pool_request request{std::move(address), timeout, option, std::move(layer)};
  return detail::await_from_pool<PoolConn>(std::make_shared<detail::pool_job>(request), "AsyncNewPoolConnTLS",
                                           on_error);
}
template <detail::pool_token Token>
auto AsyncNewPoolConnTLS(std::string address, TLSConfig config, std::chrono::nanoseconds timeout, const TLSOption& tls,
                         const PoolOption& option, Token&& token) {
  auto layer = std::make_shared<detail::tls_pool_layer>(std::move(config), tls);
  const detail::pool_request request{std::move(address), timeout, option, std::move(layer)};
  return detail::async_from_pool<PoolConn>(std::make_shared<detail::pool_job>(request), std::forward<Token>(token));
}

// ---- Servers

/// Makes a server that speaks TLS; see Server::SetTLSConfig.
///
/// Errors: std::system_error with Errc::InvalidOption, also for a `config` that is nullptr.
/// Source: GoFrame: gtcp.NewServerTLS.
/// Differs: without a configuration the Go package's server speaks plain text.
inline Server NewServerTLS(std::string_view address, TLSConfig config, Server::Handler handler,
                           std::string_view name = {}, const ServerOption& option = {}, const TLSOption& tls = {}) {
  if (config == nullptr)
    throw std::system_error(make_error_code(Errc::InvalidOption), "NewServerTLS: the configuration is nullptr");
  const Server server = NewServer(address, std::move(handler), name, option);
  server.SetTLSConfig(config, tls);
  return server;
}

/// Makes a server that speaks TLS with a certificate and its key from two PEM files; see Server::SetTLSKeyCrt.
///
/// Source: GoFrame: gtcp.NewServerKeyCrt.
inline Server NewServerKeyCrt(std::string_view address, const std::string& crt_file, const std::string& key_file,
                              Server::Handler handler, std::string_view name = {}, const ServerOption& option = {},
                              OnError on_error = {}) {
  const Server server(address, std::move(handler), option);
  std::error_code error;
  server.SetTLSKeyCrt(crt_file, key_file, on_error.Throws() ? OnError() : OnError(error));
  on_error.Report(error, [] { return std::string(); });
  if (!error && !name.empty()) detail::name_server(name, server);
  return server;
}
inline Server NewServerKeyCrt(std::string_view address, const std::string& crt_file, const std::string& key_file,
                              Server::Handler handler, std::error_code& ec) {
  return NewServerKeyCrt(address, crt_file, key_file, std::move(handler), {}, {}, ec);
}

// ---- What was agreed

/// What the two ends have agreed on, and who the other one is.
struct TLSState {
  bool HandshakeComplete = false;   ///< false for a Conn without TLS, too
  std::string Version;              ///< "TLSv1.3"
  std::string CipherSuite;          ///< "TLS_AES_256_GCM_SHA384"
  std::string NegotiatedProtocol;   ///< ALPN; empty if none
  std::string ServerName;           ///< what the client has asked for
  bool DidResume = false;           ///< a session of an earlier connection goes on
  bool HasPeerCertificate = false;  ///< the rest is about it
  bool PeerVerified = false;        ///< by an authority that this end trusts
  std::string PeerSubject;          ///< as RFC 2253 writes it: "CN=client 7,O=Example"
  std::string PeerIssuer;
  std::vector<std::string> PeerDNSNames;
  std::vector<std::string> PeerIPAddresses;
  std::vector<std::string> PeerEmailAddresses;
  std::vector<std::string> PeerURIs;
};

/// Returns what is known about a connection's TLS. Valid after Close too, but for a pooled connection that has gone
/// back: nothing is known of it any more.
///
/// Thread safety: may be called from any thread.
inline TLSState GetTLSState(const Conn& conn) {
  TLSState state;
  const detail::tls_transport_ptr tls = detail::tls_of(conn);
  if (tls == nullptr) return state;
  state.HandshakeComplete = tls->established();
  tls->with_ssl([&](const SSL* ssl) {
    state.Version = ::SSL_get_version(ssl);
    if (const SSL_CIPHER* const cipher = ::SSL_get_current_cipher(ssl))
      state.CipherSuite = ::SSL_CIPHER_get_name(cipher);
    state.NegotiatedProtocol = detail::protocol_of(ssl);
    if (const char* const name = ::SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) state.ServerName = name;
    state.DidResume = ::SSL_session_reused(ssl) != 0;
    const detail::x509_ptr peer(::SSL_get1_peer_certificate(ssl));
    if (peer == nullptr) return;
    state.HasPeerCertificate = true;
    state.PeerVerified = ::SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE && ::SSL_get_verify_result(ssl) == X509_V_OK;
    state.PeerSubject = detail::name_text(::X509_get_subject_name(peer.get()));
    state.PeerIssuer = detail::name_text(::X509_get_issuer_name(peer.get()));
    detail::alternative_names names = detail::alternative_names_of(*peer);
    state.PeerDNSNames = std::move(names.dns);
    state.PeerIPAddresses = std::move(names.ip);
    state.PeerEmailAddresses = std::move(names.email);
    state.PeerURIs = std::move(names.uri);
  });
  return state;
}

/// Returns the session of a client's connection, for TLSOption::Session of the next; nullptr if it can't be resumed.
/// The server's ticket comes behind the handshake: ask after something was received, and before a pooled connection
/// goes back.
///
/// Thread safety: may be called from any thread.
inline TLSSession GetTLSSession(const Conn& conn) {
  const detail::tls_transport_ptr tls = detail::tls_of(conn);
  if (tls == nullptr) return nullptr;
  return tls->with_ssl([](SSL* ssl) -> TLSSession {
    SSL_SESSION* const session = ::SSL_get1_session(ssl);
    if (session == nullptr) return nullptr;
    TLSSession result(session, &::SSL_SESSION_free);
    return ::SSL_SESSION_is_resumable(session) != 0 ? result : nullptr;
  });
}

}  // namespace gtcp

#endif
