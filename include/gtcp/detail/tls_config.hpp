// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_CONFIG_HPP
#define GTCP_DETAIL_TLS_CONFIG_HPP

// Contexts with safe defaults, certificates out of files, and what a TLSOption means for a connection.

#include <gtcp/detail/tls_error.hpp>
#include <gtcp/detail/tls_transport.hpp>
#include <gtcp/tls_option.hpp>

#include <asio/ssl/context.hpp>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Makes a context for TLS 1.2 and newer, without renegotiation, compression, tickets and a cache of sessions.
inline tls_context make_tls_context() {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls);
  SSL_CTX* const native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  ::SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  ::SSL_CTX_set_num_tickets(native, 0);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  return context;
}

/// Says why a file can't be read. OpenSSL would say it in a code that names no file and no condition.
inline std::error_code check_readable(const std::string& path) {
  errno = 0;
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return {errno, std::generic_category()};
  std::fclose(file);
  return {};
}

/// Loads a certificate, with the chain behind it, and its key. nullptr with an error and `why`, which names the file.
inline tls_context load_key_crt(const std::string& crt_file, const std::string& key_file, std::error_code& error,
                                std::string& why) {
  tls_context context = make_tls_context();
  // Else OpenSSL asks for the password of an encrypted key at the terminal.
  context->set_password_callback([](std::size_t, asio::ssl::context::password_purpose) { return std::string(); });
  why = "certificate \"" + crt_file + "\"";
  error = check_readable(crt_file);
  if (!error) context->use_certificate_chain_file(crt_file, error);
  if (error) return nullptr;
  why = "key \"" + key_file + "\" for " + why;
  error = check_readable(key_file);
  if (!error) context->use_private_key_file(key_file, asio::ssl::context::pem, error);
  forget_openssl_errors();
  if (!error && ::SSL_CTX_check_private_key(context->native_handle()) != 1) error = take_openssl_error();
  return error ? nullptr : context;
}

/// Says whether the context's certificate can be used today.
inline std::error_code check_validity(const asio::ssl::context& context) {
  const X509* const crt = ::SSL_CTX_get0_certificate(const_cast<asio::ssl::context&>(context).native_handle());
  int wrong = X509_V_OK;
  if (::X509_cmp_current_time(::X509_get0_notBefore(crt)) > 0) wrong = X509_V_ERR_CERT_NOT_YET_VALID;
  if (::X509_cmp_current_time(::X509_get0_notAfter(crt)) < 0) wrong = X509_V_ERR_CERT_HAS_EXPIRED;
  if (wrong == X509_V_OK) return {};
  return {wrong, CertificateErrorCategory()};
}

/// What both sides take of an option, which was checked.
inline tls_settings common_settings(const TLSOption& option) {
  tls_settings settings;
  for (const std::string& name : option.NextProtos) {
    settings.protocols += static_cast<char>(static_cast<unsigned char>(name.size()));
    settings.protocols += name;
  }
  return settings;
}

/// `host` is that of the address.
inline tls_settings client_settings(const TLSOption& option, std::string host) {
  tls_settings settings = common_settings(option);
  settings.verifies = !option.InsecureSkipVerify;
  settings.session = option.Session;
  settings.server_name = option.ServerName.empty() ? std::move(host) : option.ServerName;
  if (settings.server_name.empty()) settings.server_name = "localhost";
  // A name with its root is the same name; certificates and SNI have it without.
  if (settings.server_name.back() == '.') settings.server_name.pop_back();
  return settings;
}

inline tls_settings server_settings(const TLSOption& option) {
  tls_settings settings = common_settings(option);
  settings.is_server = true;
  settings.resumes = option.SessionResumption;
  return settings;
}

}  // namespace gtcp::detail

#endif
