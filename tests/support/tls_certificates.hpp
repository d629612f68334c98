// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_TLS_CERTIFICATES_HPP
#define GTCP_TESTS_SUPPORT_TLS_CERTIFICATES_HPP

// Certificates made on the spot, in memory and as files of a folder that is removed at the end.

#include <asio/ssl/context.hpp>

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>

namespace gtcp_test {

/// A folder for files of one test.
class scratch_folder {
 public:
  scratch_folder() {
    static std::atomic<unsigned> count{0};
    path_ = std::filesystem::temp_directory_path() /
            ("gtcp-tls-" + std::to_string(std::random_device()()) + "-" + std::to_string(count.fetch_add(1)));
    std::filesystem::create_directory(path_);
  }
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
    return file(name);
  }

 private:
  std::filesystem::path path_;
};

struct certificate_wish {
  std::string common_name = "localhost";
  std::string names = "DNS:localhost,IP:127.0.0.1";  ///< subject alternative names, as OpenSSL writes them
  long valid_from = -3600;                           ///< seconds from now
  long valid_until = 3600;
};

/// A certificate with its key.
class certificate {
 public:
  /// Makes an authority, which signs itself.
  static certificate authority(const std::string& common_name = "gtcp test authority") {
    return certificate({.common_name = common_name, .names = ""}, nullptr);
  }

  certificate issue(const certificate_wish& wish = {}) const { return certificate(wish, this); }

  std::string crt() const {
    return text([&](BIO* out) { return ::PEM_write_bio_X509(out, crt_.get()); });
  }
  std::string key() const {
    return text(
        [&](BIO* out) { return ::PEM_write_bio_PrivateKey(out, key_.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }

 private:
  struct deleter {
    void operator()(X509* object) const { ::X509_free(object); }
    void operator()(EVP_PKEY* object) const { ::EVP_PKEY_free(object); }
    void operator()(BIO* object) const { ::BIO_free(object); }
    void operator()(X509_EXTENSION* object) const { ::X509_EXTENSION_free(object); }
  };

  static void must(bool done, const char* what) {
    if (!done) throw std::runtime_error(std::string("certificate: ") + what);
  }

  certificate(const certificate_wish& wish, const certificate* issuer) {
    static std::atomic<long> serial{1};
    key_.reset(::EVP_EC_gen("P-256"), deleter());
    crt_.reset(::X509_new(), deleter());
    must(key_ != nullptr && crt_ != nullptr, "key");
    X509* const crt = crt_.get();
    must(::X509_set_version(crt, 2) == 1, "version");
    ::ASN1_INTEGER_set(::X509_get_serialNumber(crt), serial.fetch_add(1));
    must(::X509_gmtime_adj(X509_getm_notBefore(crt), wish.valid_from) != nullptr, "begin");
    must(::X509_gmtime_adj(X509_getm_notAfter(crt), wish.valid_until) != nullptr, "end");
    ::X509_set_pubkey(crt, key_.get());
    ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(crt), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(wish.common_name.c_str()), -1, -1, 0);
    X509* const by = issuer != nullptr ? issuer->crt_.get() : crt;
    ::X509_set_issuer_name(crt, ::X509_get_subject_name(by));
    add(by, NID_basic_constraints, issuer != nullptr ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (!wish.names.empty()) add(by, NID_subject_alt_name, wish.names.c_str());
    must(::X509_sign(crt, issuer != nullptr ? issuer->key_.get() : key_.get(), ::EVP_sha256()) > 0, "signature");
  }

  void add(X509* issuer, int what, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    ::X509V3_set_ctx(&context, issuer, crt_.get(), nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, deleter> extension(::X509V3_EXT_conf_nid(nullptr, &context, what, value));
    must(extension != nullptr && ::X509_add_ext(crt_.get(), extension.get(), -1) == 1, value);
  }

  template <class Write>
  static std::string text(const Write& write) {
    const std::unique_ptr<BIO, deleter> out(::BIO_new(::BIO_s_mem()));
    must(write(out.get()) == 1, "PEM");
    char* data = nullptr;
    const long size = BIO_get_mem_data(out.get(), &data);
    return std::string(data, static_cast<std::size_t>(size));
  }

  std::shared_ptr<EVP_PKEY> key_;
  std::shared_ptr<X509> crt_;
};

/// An authority that all tests of a program share, and a certificate for this machine by it.
inline const certificate& test_authority() {
  static const certificate instance = certificate::authority();
  return instance;
}
inline const certificate& test_certificate() {
  static const certificate instance = test_authority().issue();
  return instance;
}

/// A context with a certificate, and one that trusts an authority.
inline std::shared_ptr<asio::ssl::context> server_context(const certificate& own = test_certificate()) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls);
  context->use_certificate_chain(asio::buffer(own.crt()));
  context->use_private_key(asio::buffer(own.key()), asio::ssl::context::pem);
  return context;
}
inline std::shared_ptr<asio::ssl::context> client_context(const certificate& trusted = test_authority()) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls);
  context->add_certificate_authority(asio::buffer(trusted.crt()));
  return context;
}

}  // namespace gtcp_test

#endif
