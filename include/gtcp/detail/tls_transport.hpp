// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_TRANSPORT_HPP
#define GTCP_DETAIL_TLS_TRANSPORT_HPP

// TLS as a transport: OpenSSL's SSL object over a socket that absorbs (tls_socket). A write takes nothing or whole
// bytes; what the system does not take of their ciphertext is flushed first by every later call, whichever it is.

#include <gtcp/detail/tls_error.hpp>
#include <gtcp/detail/tls_socket.hpp>
#include <gtcp/detail/transport.hpp>

#include <asio/buffer.hpp>
#include <asio/ip/address.hpp>
#include <asio/ssl/context.hpp>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp::detail {

// OpenSSL frees what all its connections share when the process ends, by its own std::atexit(): under the hands of io
// threads, which outlive main. So it is told not to, before anybody can use it; the system frees it as well.
inline const bool openssl_outlives_main = ::OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr) == 1;

using tls_context = std::shared_ptr<asio::ssl::context>;

/// What one connection adds to its context.
struct tls_settings {
  bool is_server = false;
  bool verifies = true;  ///< client: checks the peer's chain and name; a server does what its context says
  bool resumes = false;  ///< server: sends tickets; client: `session`
  std::string server_name =
      {};  ///< client: what the certificate must be for, and, unless it is an IP address, sent as SNI
  std::string protocols = {};  ///< ALPN, as on the wire: length byte, name, ...
  std::shared_ptr<SSL_SESSION> session = {};
  tls_context identity = {};  ///< server: whose certificate and key take the place of the context's
};

class tls_transport;
using tls_transport_ptr = std::unique_ptr<tls_transport, release_transport>;

/// Thread safety: all members may be called by any thread; one mutex orders them, never held while waiting.
class tls_transport final : public transport {
 public:
  /// Errors: std::bad_alloc; std::system_error when OpenSSL refuses a setting.
  tls_transport(native_socket descriptor, tls_context context, tls_settings settings)
      : descriptor_(descriptor), context_(std::move(context)), settings_(std::move(settings)), socket_(descriptor) {
    forget_openssl_errors();
    ssl_.reset(::SSL_new(context_->native_handle()));
    BIO* const bio = ssl_ != nullptr ? socket_.make_bio() : nullptr;
    if (bio == nullptr) throw std::system_error(take_openssl_error(asio::error::no_memory), "TLS");
    ::SSL_set_bio(ssl_.get(), bio, bio);
    SSL* const ssl = ssl_.get();
    ::SSL_set_ex_data(ssl, self_index(), this);
    ::SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    ::SSL_set_read_ahead(ssl, 1);
    ::SSL_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // Asio's contexts begin with TLS 1.0; one that ends below 1.2 was made so on purpose.
    const auto newest = SSL_get_max_proto_version(ssl);
    const auto oldest = SSL_get_min_proto_version(ssl);
    if (oldest < TLS1_2_VERSION && (newest == 0 || newest >= TLS1_2_VERSION)) {
      SSL_set_min_proto_version(ssl, TLS1_2_VERSION);
    }
    if (settings_.is_server)
      set_up_server();
    else
      set_up_client();
  }

  io_result handshake() override {
    const std::lock_guard lock(mutex_);
    const io_result step = establish();
    below_ = {socket_.received(), false};
    return step;
  }

  io_result read_some(asio::mutable_buffer buffer) override {
    const std::lock_guard lock(mutex_);
    if (!established_) {
      const io_result step = establish();
      if (!established_) return step;
    }
    socket_.flush();
    if (read_end_) return {0, read_end_};
    socket_.begin_read();
    std::size_t total = 0;
    bool starved = false;
    while (total < buffer.size() && !starved && !read_end_) {
      std::size_t got = 0;
      forget_openssl_errors();
      const int result =
          ::SSL_read_ex(ssl_.get(), static_cast<char*>(buffer.data()) + total, buffer.size() - total, &got);
      if (result == 1) {
        total += got;
        continue;
      }
      const int why = ::SSL_get_error(ssl_.get(), result);
      if (why == SSL_ERROR_WANT_READ)
        starved = true;
      else
        read_end_ = failure(why);
    }
    socket_.flush();  // answers to key updates
    below_ = {socket_.received(), has_begun()};
    if (total == 0 && read_end_) return {0, read_end_};
    if (total == 0 && starved) return {0, {}, wants()};
    return {total, {}, wait_direction::none, starved && socket_.pending() == 0};
  }

  input_below below() const noexcept override { return below_; }

  io_result write_some(std::span<const asio::const_buffer> buffers) override {
    const std::lock_guard lock(mutex_);
    return with_what_moved(write(buffers));
  }

  io_result finish_stream() override {
    const std::lock_guard lock(mutex_);
    if (established_ && !fatal_ && !std::exchange(ended_, true)) {
      forget_openssl_errors();
      // A key update leaves OpenSSL inside a handshake until the next call, and SSL_shutdown refuses there.
      if (::SSL_in_init(ssl_.get()) != 0) ::SSL_do_handshake(ssl_.get());
      ::SSL_shutdown(ssl_.get());
      forget_openssl_errors();
    }
    socket_.flush();
    return with_what_moved({0, {}, socket_.pending() != 0 ? blocked_for() : wait_direction::none});
  }

  void end_of_sending() override { shutdown_send(descriptor_); }

  io_result discard_some(asio::mutable_buffer buffer) override {
    const io_count got = detail::read_some(descriptor_, buffer);
    if (got.error == asio::error::would_block) return {0, {}, wait_direction::read, true};
    if (!got.error && got.size == 0) return {0, asio::error::eof};
    return {got.size, got.error};
  }

  bool established() const {
    const std::lock_guard lock(mutex_);
    return established_;
  }

  /// Calls `use` with the SSL object, while nobody else uses it.
  template <class Use>
  auto with_ssl(const Use& use) const {
    const std::lock_guard lock(mutex_);
    return use(ssl_.get());
  }

  /// Another owner, who may outlive the connection.
  tls_transport_ptr share() noexcept {
    owners_.fetch_add(1, std::memory_order_relaxed);
    return tls_transport_ptr(this);
  }

  void release() noexcept override {
    if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  /// Makes servers with this context choose among the protocols that their settings name.
  static void choose_protocols(asio::ssl::context& context) {
    ::SSL_CTX_set_alpn_select_cb(context.native_handle(), &choose_protocol, nullptr);
  }

 private:
  static constexpr std::size_t record_size = 16 * 1024;

  struct free_ssl {
    void operator()(SSL* ssl) const noexcept { ::SSL_free(ssl); }
  };

  /// The next bytes of a sequence of buffers, as one record's worth: large ones as they are, small ones together.
  class gather {
   public:
    explicit gather(std::span<const asio::const_buffer> buffers) : left_(buffers) {}

    const char* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

    bool next() {
      skip_empty();
      if (left_.empty()) return false;
      const asio::const_buffer first = left_.front() + offset_;
      data_ = static_cast<const char*>(first.data());
      size_ = std::min(first.size(), record_size);
      if (size_ == record_size || left_.size() == 1) return true;
      try {
        stage_.consume(stage_.size());
        stage_.prepare(record_size);
      } catch (const std::bad_alloc&) {
        return true;  // a record of its own
      }
      std::size_t skip = offset_;
      for (const asio::const_buffer& whole : left_) {
        const asio::const_buffer part = whole + std::exchange(skip, 0);
        stage_.append(part.data(), std::min(part.size(), record_size - stage_.size()));
        if (stage_.size() == record_size) break;
      }
      data_ = stage_.data();
      size_ = stage_.size();
      return true;
    }

    void consume(std::size_t size) noexcept {
      while (size != 0) {
        const std::size_t part = std::min(size, left_.front().size() - offset_);
        offset_ += part;
        size -= part;
        skip_empty();
      }
    }

   private:
    void skip_empty() noexcept {
      while (!left_.empty() && left_.front().size() == offset_) {
        left_ = left_.subspan(1);
        offset_ = 0;
      }
    }

    std::span<const asio::const_buffer> left_;
    std::size_t offset_ = 0;
    const char* data_ = nullptr;
    std::size_t size_ = 0;
    byte_buffer stage_;
  };

  void set_up_client() {
    SSL* const ssl = ssl_.get();
    ::SSL_set_connect_state(ssl);
    ::SSL_set_verify(ssl, settings_.verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    const std::string& name = settings_.server_name;
    std::error_code not_a_number;
    static_cast<void>(asio::ip::make_address(name, not_a_number));
    bool done = true;
    if (!not_a_number) {
      if (settings_.verifies) done = ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl), name.c_str()) == 1;
    } else if (!name.empty()) {
      done = SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
      if (settings_.verifies) {
        ::SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        done = done && ::SSL_set1_host(ssl, name.c_str()) == 1;
      }
    }
    if (!settings_.protocols.empty()) {
      // Differs from the rest of OpenSSL: returns 0 on success.
      done = done && ::SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(settings_.protocols.data()),
                                           static_cast<unsigned>(settings_.protocols.size())) == 0;
    }
    if (settings_.session != nullptr) done = done && ::SSL_set_session(ssl, settings_.session.get()) == 1;
    if (!done) throw std::system_error(take_openssl_error(Errc::InvalidOption), "TLS settings for \"" + name + "\"");
  }

  void set_up_server() {
    SSL* const ssl = ssl_.get();
    ::SSL_set_accept_state(ssl);
    // Under mutual TLS OpenSSL refuses to resume sessions that name no context.
    static constexpr unsigned char id_context[] = {'g', 't', 'c', 'p'};
    ::SSL_set_session_id_context(ssl, id_context, sizeof(id_context));
    if (settings_.identity != nullptr) {
      SSL_CTX* const pair = settings_.identity->native_handle();
      STACK_OF(X509)* chain = nullptr;
      SSL_CTX_get0_chain_certs(pair, &chain);
      ::SSL_certs_clear(ssl);
      if (::SSL_use_cert_and_key(ssl, ::SSL_CTX_get0_certificate(pair), ::SSL_CTX_get0_privatekey(pair), chain, 1) != 1)
        throw std::system_error(take_openssl_error(), "TLS certificate and key");
    }
    if (!settings_.resumes) {
      // A client that only sends never reads its tickets, and its system resets the connection at its close for that:
      // a server that is slow to read would lose data.
      ::SSL_set_num_tickets(ssl, 0);
      ::SSL_set_options(ssl, SSL_OP_NO_TICKET);
    }
  }

  // No local static variable, see per_process.
  static int self_index() {
    int now = self_index_.load(std::memory_order_relaxed);
    if (now != no_index) return now;
    const int made = ::SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return self_index_.compare_exchange_strong(now, made, std::memory_order_relaxed) ? made : now;
  }

  static int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                             unsigned offered_size, void*) {
    const auto* const self = static_cast<const tls_transport*>(::SSL_get_ex_data(ssl, self_index()));
    if (self == nullptr || self->settings_.protocols.empty()) return SSL_TLSEXT_ERR_NOACK;
    const std::string& wanted = self->settings_.protocols;
    unsigned char* found = nullptr;
    if (::SSL_select_next_proto(&found, size, reinterpret_cast<const unsigned char*>(wanted.data()),
                                static_cast<unsigned>(wanted.size()), offered,
                                offered_size) != OPENSSL_NPN_NEGOTIATED) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
  }

  io_result write(std::span<const asio::const_buffer> buffers) {
    if (!established_) {
      const io_result step = establish();
      if (!established_) return step;
    }
    socket_.flush();
    if (fatal_) return {0, fatal_};
    if (socket_.write_error()) return {0, socket_.write_error()};
    if (socket_.pending() != 0) return blocked(0);
    if (ended_ && asio::buffer_size(buffers) != 0) return {0, asio::error::shut_down};

    std::size_t total = 0;
    const std::uint64_t sent_before = socket_.sent();
    for (gather source(buffers); source.next();) {
      std::size_t put = 0;
      forget_openssl_errors();
      const int result = ::SSL_write_ex(ssl_.get(), source.data(), source.size(), &put);
      if (result != 1) {
        const int why = ::SSL_get_error(ssl_.get(), result);
        if (why == SSL_ERROR_WANT_READ) return {total, {}, wait_direction::both};
        return {total, failure(why)};
      }
      total += put;
      source.consume(put);
      // Nothing was taken if not even a byte of its ciphertext has left.
      if (socket_.write_error()) return {socket_.sent() == sent_before ? 0 : total, socket_.write_error()};
      if (socket_.pending() != 0) return blocked(total);
    }
    return {total};
  }

  /// Notes that ciphertext has left since the last one: all of it counts, also what a read let go.
  io_result with_what_moved(io_result put) noexcept {
    put.moved_held = std::exchange(sent_, socket_.sent()) != socket_.sent();
    return put;
  }

  /// Goes on with the handshake. Done with nothing to wait for; established, and still waiting for write, when a last
  /// part of ours is not with the system.
  io_result establish() {
    socket_.flush();
    if (fatal_) return {0, fatal_};
    if (!established_) {
      socket_.begin_read();
      forget_openssl_errors();
      const int result = ::SSL_do_handshake(ssl_.get());
      if (result != 1) {
        const int why = ::SSL_get_error(ssl_.get(), result);
        if (why != SSL_ERROR_WANT_READ) return {0, failure(why)};
        if (socket_.write_error()) return {0, socket_.write_error()};
        return {0, {}, wants()};
      }
      established_ = true;
    }
    return {0, {}, socket_.pending() != 0 ? wait_direction::write : wait_direction::none};
  }

  /// Whether a part of a record came; its header alone does not count as pending.
  bool has_begun() const noexcept {
    return ::SSL_has_pending(ssl_.get()) == 1 || std::string_view(::SSL_rstate_string(ssl_.get())) == "RB";
  }

  /// What a write says that took `size` bytes, with ciphertext left.
  io_result blocked(std::size_t size) const noexcept { return {size, {}, blocked_for(), false, true}; }

  wait_direction blocked_for() const noexcept {
    return socket_.is_short_of_memory() ? wait_direction::moment : wait_direction::write;
  }

  /// What a read waits for.
  wait_direction wants() const noexcept {
    if (socket_.pending() == 0) return wait_direction::read;
    return socket_.pending() > tls_socket::max_pending ? wait_direction::write : wait_direction::both;
  }

  /// Says what has ended the SSL object, for good unless it was the peer's orderly end.
  std::error_code failure(int why) {
    if (why == SSL_ERROR_ZERO_RETURN) return asio::error::eof;
    if (fatal_) return fatal_;
    if (socket_.read_error())
      fatal_ = socket_.read_error();
    else if (socket_.ended())
      fatal_ = established_ ? make_error_code(Errc::TlsTruncated) : make_error_code(asio::error::eof);
    else
      fatal_ = take_openssl_error(ssl_.get());
    forget_openssl_errors();
    return fatal_;
  }

  static constexpr int no_index = -1;
  inline static constinit std::atomic<int> self_index_{no_index};

  std::atomic<unsigned> owners_{1};
  const native_socket descriptor_;
  const tls_context context_;  ///< its destructor deletes callbacks that a live SSL object uses
  const tls_settings settings_;
  mutable std::mutex mutex_;
  tls_socket socket_;
  std::unique_ptr<SSL, free_ssl> ssl_;
  input_below below_;           ///< only for who reads
  std::error_code read_end_{};  ///< what every further read says
  std::error_code fatal_{};     ///< the SSL object can't be used any more
  bool established_ = false;
  bool ended_ = false;      ///< close_notify was sent
  std::uint64_t sent_ = 0;  ///< socket_.sent() after the last write
};

}  // namespace gtcp::detail

#endif
