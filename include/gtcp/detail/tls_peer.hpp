// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_PEER_HPP
#define GTCP_DETAIL_TLS_PEER_HPP

// Reading the peer's certificate.

#include <gtcp/conn.hpp>
#include <gtcp/detail/tls_transport.hpp>

#include <asio/ip/address_v4.hpp>
#include <asio/ip/address_v6.hpp>

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace gtcp::detail {

struct free_x509 {
  void operator()(X509* crt) const noexcept { ::X509_free(crt); }
  void operator()(BIO* bio) const noexcept { ::BIO_free(bio); }
  void operator()(GENERAL_NAMES* names) const noexcept { ::GENERAL_NAMES_free(names); }
};
using x509_ptr = std::unique_ptr<X509, free_x509>;

/// The connection's TLS; nullptr if it has none, or a pool has it back. Shared, since another thread may give it back,
/// or renew the connection, meanwhile; its own lock is not one to wait for under the connection's.
inline tls_transport_ptr tls_of(const Conn& conn) {
  const conn_ptr state = conn_access::state(conn);
  if (state == nullptr) return nullptr;
  return state->with_layer([](transport* layer) {
    auto* const tls = dynamic_cast<tls_transport*>(layer);
    return tls != nullptr ? tls->share() : nullptr;
  });
}

inline std::string protocol_of(const SSL* ssl) {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  ::SSL_get0_alpn_selected(ssl, &name, &size);
  return name != nullptr ? std::string(reinterpret_cast<const char*>(name), size) : std::string();
}

inline std::string name_text(const X509_NAME* name) {
  const std::unique_ptr<BIO, free_x509> out(::BIO_new(::BIO_s_mem()));
  if (out == nullptr) throw std::bad_alloc();
  ::X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB));
  char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

struct alternative_names {
  std::vector<std::string> dns;
  std::vector<std::string> ip;
  std::vector<std::string> email;
  std::vector<std::string> uri;
};

inline alternative_names alternative_names_of(const X509& crt) {
  alternative_names result;
  const std::unique_ptr<GENERAL_NAMES, free_x509> names(
      static_cast<GENERAL_NAMES*>(::X509_get_ext_d2i(&crt, NID_subject_alt_name, nullptr, nullptr)));
  const int count = names != nullptr ? sk_GENERAL_NAME_num(names.get()) : 0;
  for (int i = 0; i < count; ++i) {
    int kind = 0;
    const auto* const value =
        static_cast<const ASN1_STRING*>(::GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &kind));
    if (kind != GEN_DNS && kind != GEN_EMAIL && kind != GEN_URI && kind != GEN_IPADD) continue;
    // The size counts, not a zero byte: it would let a certificate for one name be read as one for another.
    const std::string text(reinterpret_cast<const char*>(::ASN1_STRING_get0_data(value)),
                           static_cast<std::size_t>(::ASN1_STRING_length(value)));
    asio::ip::address_v4::bytes_type v4;
    asio::ip::address_v6::bytes_type v6;
    if (kind == GEN_DNS) {
      result.dns.push_back(text);
    } else if (kind == GEN_EMAIL) {
      result.email.push_back(text);
    } else if (kind == GEN_URI) {
      result.uri.push_back(text);
    } else if (text.size() == v4.size()) {
      std::memcpy(v4.data(), text.data(), v4.size());
      result.ip.push_back(asio::ip::address_v4(v4).to_string());
    } else if (text.size() == v6.size()) {
      std::memcpy(v6.data(), text.data(), v6.size());
      result.ip.push_back(asio::ip::address_v6(v6).to_string());
    }
  }
  return result;
}

}  // namespace gtcp::detail

#endif
