// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_ERROR_HPP
#define GTCP_DETAIL_TLS_ERROR_HPP

// OpenSSL's errors as std::error_code: what its queue says is in Asio's category for it; why a certificate was refused,
// which the queue does not say, in one of ours.

#include <gtcp/error.hpp>

#include <asio/ssl/error.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <string>
#include <system_error>

namespace gtcp {

namespace detail {

class certificate_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "gtcp.certificate"; }
  std::string message(int value) const override {
    return std::string("certificate verify failed: ") + ::X509_verify_cert_error_string(value);
  }
};
inline constinit const certificate_category the_certificate_category{};

}  // namespace detail

/// Returns the category of refused certificates. Its values are OpenSSL's X509_V_ERR_ numbers.
inline const std::error_category& CertificateErrorCategory() noexcept { return detail::the_certificate_category; }

namespace detail {

/// Empties the calling thread's queue of errors, since SSL_get_error takes an old one for the last call's. Looking
/// first costs a tenth of emptying, and there is hardly ever something to empty.
inline void forget_openssl_errors() noexcept {
  if (::ERR_peek_error() != 0) ::ERR_clear_error();
}

/// Returns the first error of the calling thread's queue, and empties the queue. Without one: `otherwise`.
inline std::error_code take_openssl_error(std::error_code otherwise = asio::ssl::error::unexpected_result) {
  const unsigned long code = ::ERR_get_error();
  forget_openssl_errors();
  if (code == 0) return otherwise;
#if defined(ERR_SYSTEM_ERROR)
  if (ERR_SYSTEM_ERROR(code)) return {static_cast<int>(ERR_GET_REASON(code)), asio::error::get_system_category()};
#endif
  return {static_cast<int>(code), asio::error::get_ssl_category()};
}

/// The same after a call for `ssl` failed: says what was wrong with the peer's certificate if that was it.
inline std::error_code take_openssl_error(const SSL* ssl) {
  const unsigned long code = ::ERR_peek_error();
  const long verdict = ::SSL_get_verify_result(ssl);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED &&
      verdict != X509_V_OK) {
    forget_openssl_errors();
    return {static_cast<int>(verdict), CertificateErrorCategory()};
  }
  return take_openssl_error();
}

}  // namespace detail
}  // namespace gtcp

#endif
