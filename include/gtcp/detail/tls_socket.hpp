// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TLS_SOCKET_HPP
#define GTCP_DETAIL_TLS_SOCKET_HPP

// What OpenSSL reads from and writes to: a socket that absorbs. A write always succeeds: what the system does not take
// now stays here, and goes out first at the next chance. A BIO that asked OpenSSL to try again would bind it to the
// record it has begun: nothing could be withdrawn any more, and a key update that the peer asks for meanwhile would end
// the connection ("bad length").

#include <gtcp/detail/byte_buffer.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_io.hpp>
#include <gtcp/error.hpp>

#include <asio/buffer.hpp>

#include <openssl/bio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <system_error>

namespace gtcp::detail {

/// Thread safety: none; the transport's mutex guards it.
class tls_socket {
 public:
  explicit tls_socket(native_socket descriptor) : descriptor_(descriptor) {}
  tls_socket(const tls_socket&) = delete;
  tls_socket& operator=(const tls_socket&) = delete;

  /// Ciphertext of ours that may pile up before the peer's next request for more of it is not even read: key updates
  /// of a peer that never reads.
  static constexpr std::size_t max_pending = 64 * 1024;

  /// Makes what OpenSSL reads from and writes to; nullptr without memory. It must not outlive this object.
  BIO* make_bio() {
    BIO* const bio = ::BIO_new(method());
    if (bio == nullptr) return nullptr;
    ::BIO_set_data(bio, this);
    ::BIO_set_init(bio, 1);
    return bio;
  }

  /// Before OpenSSL is asked to read: what was found of the socket earlier may have changed.
  void begin_read() noexcept { drained_ = false; }

  /// Writes what is pending, as far as the system takes it.
  void flush() noexcept {
    while (!pending_.empty()) {
      const std::size_t put = write(pending_.data(), pending_.size());
      if (put == 0) break;
      pending_.consume(put);
    }
    if (pending_.empty() || write_error_) pending_.release();
  }

  std::size_t pending() const noexcept { return pending_.size(); }
  std::uint64_t sent() const noexcept { return sent_; }                     ///< bytes that the system took
  bool is_short_of_memory() const noexcept { return is_short_of_memory_; }  ///< the system was, at the last write
  std::uint64_t received() const noexcept { return received_; }
  bool ended() const noexcept { return ended_; }  ///< the peer's system ended the stream
  const std::error_code& read_error() const noexcept { return read_error_; }
  const std::error_code& write_error() const noexcept { return write_error_; }

 private:
  static tls_socket& of(BIO* bio) noexcept { return *static_cast<tls_socket*>(::BIO_get_data(bio)); }

  // No local static variable, see per_process. What OpenSSL has made is a child's, too.
  static const BIO_METHOD* method() {
    BIO_METHOD* now = method_.load(std::memory_order_acquire);
    if (now != nullptr) return now;
    BIO_METHOD* const made = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "gtcp socket");
    if (made == nullptr) throw std::bad_alloc();
    ::BIO_meth_set_write(made, &bio_write);
    ::BIO_meth_set_read(made, &bio_read);
    ::BIO_meth_set_ctrl(made, &bio_control);
    if (method_.compare_exchange_strong(now, made, std::memory_order_acq_rel, std::memory_order_acquire)) return made;
    ::BIO_meth_free(made);
    return now;
  }

  static int bio_write(BIO* bio, const char* data, int size) {
    ::BIO_clear_retry_flags(bio);
    if (size > 0) of(bio).absorb(data, static_cast<std::size_t>(size));
    return size;
  }

  static int bio_read(BIO* bio, char* data, int size) {
    ::BIO_clear_retry_flags(bio);
    if (size <= 0) return 0;
    tls_socket& self = of(bio);
    bool again = false;
    const int got = self.read({data, static_cast<std::size_t>(size)}, again);
    if (again) ::BIO_set_retry_read(bio);
    return got;
  }

  static long bio_control(BIO* bio, int command, long, void*) {
    switch (command) {
      case BIO_CTRL_FLUSH: return 1;
      case BIO_CTRL_EOF: return of(bio).ended_ ? 1 : 0;  // else a missing close_notify is not told from an error
      default: return 0;
    }
  }

  void absorb(const char* data, std::size_t size) noexcept {
    if (write_error_) return;  // what the peer sent must stay readable
    if (pending_.empty()) {
      const std::size_t put = write(data, size);
      data += put;
      size -= put;
    }
    if (write_error_ || size == 0) return;
    try {
      pending_.append(data, size);
    } catch (const std::bad_alloc&) {
      write_error_ = asio::error::connection_aborted;  // a part of the record is missing now
    }
  }

  std::size_t write(const char* data, std::size_t size) noexcept {
    const asio::const_buffer part(data, size);
    const io_count put = detail::write_some(descriptor_, std::span(&part, 1));
    is_short_of_memory_ = is_transient(put.error);
    if (put.error && put.error != asio::error::would_block && !is_short_of_memory_) write_error_ = put.error;
    sent_ += put.size;
    return put.size;
  }

  int read(asio::mutable_buffer buffer, bool& again) noexcept {
    if (ended_ || read_error_) return read_error_ ? -1 : 0;
    if (drained_ || pending_.size() > max_pending) {
      again = true;
      return -1;
    }
    const io_count got = detail::read_some(descriptor_, buffer);
    if (got.error == asio::error::would_block || is_transient(got.error)) {
      again = drained_ = true;
      return -1;
    }
    if (got.error) {
      read_error_ = got.error;
      return -1;
    }
    received_ += got.size;
    ended_ = got.size == 0;
    drained_ = got.size < buffer.size();
    return static_cast<int>(got.size);
  }

  inline static constinit std::atomic<BIO_METHOD*> method_{nullptr};

  const native_socket descriptor_;
  byte_buffer pending_;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  std::error_code read_error_{};
  std::error_code write_error_{};
  bool drained_ = false;
  bool is_short_of_memory_ = false;
  bool ended_ = false;
};

}  // namespace gtcp::detail

#endif
