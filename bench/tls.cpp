// SPDX-License-Identifier: MIT

// TLS by OpenSSL, used by hand, and by gtcp. The client is OpenSSL by hand for both.

#include <gtcp/tls.hpp>

#include "bench.hpp"
#include "content.hpp"
#include "gtcp_server.hpp"
#include "net.hpp"

#include <support/tls_certificates.hpp>

#include <openssl/ssl.h>

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace bench {

namespace {

struct ssl_deleter {
  void operator()(SSL* ssl) const { ::SSL_free(ssl); }
};
using ssl_ptr = std::unique_ptr<SSL, ssl_deleter>;

constexpr std::size_t read_size = 64 * 1024;

/// The same settings as gtcp's, so that both agree on the same cipher and do the same handshake.
void set_up(asio::ssl::context& context) {
  SSL_CTX* const native = context.native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  ::SSL_CTX_set_num_tickets(native, 0);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(native, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

ssl_ptr open(asio::ssl::context& context, int fd) {
  ssl_ptr ssl(::SSL_new(context.native_handle()));
  if (ssl == nullptr || ::SSL_set_fd(ssl.get(), fd) != 1) fail("SSL_new");
  SSL_set_read_ahead(ssl.get(), 1);
  return ssl;
}

/// Serves one connection: reads all that has come, answers what is whole of it together.
void answer(SSL* ssl, std::size_t header) {
  std::vector<char> bytes(2 * read_size);
  std::size_t held = 0;
  for (;;) {
    do {
      const int n = ::SSL_read(ssl, bytes.data() + held, static_cast<int>(bytes.size() - held));
      if (n <= 0) return;
      held += static_cast<std::size_t>(n);
    } while (held < bytes.size() && ::SSL_has_pending(ssl) != 0 && SSL_pending(ssl) > 0);
    std::size_t whole = 0;
    while (held - whole >= header) {
      const std::size_t frame = header + length_of(bytes.data() + whole, header);
      if (held - whole < frame) break;
      whole += frame;
    }
    for (std::size_t sent = 0; sent < whole;) {
      const int n = ::SSL_write(ssl, bytes.data() + sent, static_cast<int>(whole - sent));
      if (n <= 0) return;
      sent += static_cast<std::size_t>(n);
    }
    std::memmove(bytes.data(), bytes.data() + whole, held - whole);
    held -= whole;
  }
}

void serve_by_hand(const shape& how, const ready& tell) {
  ::signal(SIGPIPE, SIG_IGN);  // of a client that leaves while replies are under way
  const auto context = gtcp_test::server_context();
  set_up(*context);
  unsigned port = 0;
  const int listener = listen_on_loopback(port);
  tell(port);
  for (;;) {
    const int fd = accept_one(listener);
    const ssl_ptr ssl = open(*context, fd);
    if (::SSL_accept(ssl.get()) == 1) {
      answer(ssl.get(), how.header);
      ::SSL_shutdown(ssl.get());
    }
    ::close(fd);
  }
}

/// One connection of the client. It never waits for only one direction, so that it cannot wait for ever.
class client {
 public:
  client(asio::ssl::context& context, const shape& how, unsigned port)
      : how_(how), fd_(dial(port)), ssl_(open(context, fd_)), ring_(how.in_flight * how.frame()) {
    if (::SSL_connect(ssl_.get()) != 1) fail("SSL_connect");
    set_blocking(fd_, false);
    for (std::size_t slot = 0; slot < how.in_flight; ++slot) {
      put_length(ring_.data() + slot * how.frame(), how.header, how.payload);
      fill(ring_.data() + slot * how.frame() + how.header, how.payload, {});
    }
  }
  ~client() {
    ::SSL_shutdown(ssl_.get());
    ::close(fd_);
  }
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  /// Until `seconds` have passed, or `most` replies have come in all.
  double run(double seconds, std::size_t most) {
    const std::size_t before = replies();
    for (const double end = seconds_now() + seconds; replies() < most && seconds_now() < end;) {
      for (; allowed_ < std::min(replies() + how_.in_flight, most); ++allowed_) {
        put_stamp(ring_.data() + allowed_ % how_.in_flight * how_.frame() + how_.header, how_.payload, {allowed_, 0});
      }
      const bool moved = send();
      if (!receive() && !moved) {
        pollfd waiting{fd_, static_cast<short>(sent_ < allowed_ * how_.frame() ? POLLIN | POLLOUT : POLLIN), 0};
        ::poll(&waiting, 1, 100);
      }
    }
    return static_cast<double>(replies() - before);
  }

 private:
  std::size_t replies() const { return received_ / how_.frame(); }

  bool send() {
    bool moved = false;
    while (sent_ < allowed_ * how_.frame()) {
      const std::size_t at = sent_ % ring_.size();
      const std::size_t size = std::min(allowed_ * how_.frame() - sent_, ring_.size() - at);
      const int n = ::SSL_write(ssl_.get(), ring_.data() + at, static_cast<int>(size));
      if (n <= 0) break;
      sent_ += static_cast<std::size_t>(n);
      moved = true;
    }
    return moved;
  }

  bool receive() {
    const int n = ::SSL_read(ssl_.get(), bytes_.data(), static_cast<int>(bytes_.size()));
    if (n <= 0) {
      const int why = ::SSL_get_error(ssl_.get(), n);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) fail("the server ended the TLS connection");
      return false;
    }
    const auto size = static_cast<std::size_t>(n);
    if (received_ + size > sent_) fail("more came back than was sent");
    const std::size_t at = received_ % ring_.size();
    const std::size_t first = std::min(size, ring_.size() - at);
    if (std::memcmp(bytes_.data(), ring_.data() + at, first) != 0 ||
        std::memcmp(bytes_.data() + first, ring_.data(), size - first) != 0) {
      fail("something else came back than was sent");
    }
    received_ += size;
    return true;
  }

  shape how_;
  int fd_;
  ssl_ptr ssl_;
  std::vector<char> ring_;
  std::vector<char> bytes_ = std::vector<char>(read_size);
  std::size_t allowed_ = 0;   // packages
  std::size_t sent_ = 0;      // bytes
  std::size_t received_ = 0;  // bytes
};

constexpr auto no_end = static_cast<std::size_t>(-1) / max_payload;

}  // namespace

outcome measure_tls(const shape& how, const peer& server) {
  const auto context = gtcp_test::client_context();
  set_up(*context);
  outcome result;
  std::size_t count = 0;
  shape once = how;
  once.in_flight = 1;
  const double begin = seconds_now();
  for (; seconds_now() < begin + how.seconds; ++count) {
    if (client(*context, once, server.port).run(10, 1) != 1) fail("no reply");
  }
  result.values.push_back(static_cast<double>(count) / (seconds_now() - begin));
  for (const bool large : {false, true}) {
    shape many = how;
    many.payload = large ? 65'535 : 64;
    many.in_flight = large ? 16 : 128;
    client one(*context, many, server.port);
    one.run(how.warm_up, no_end);
    const double from = seconds_now();
    const double replies = one.run(how.seconds, no_end);
    result.values.push_back(replies / (seconds_now() - from));
  }
  return result;
}

void add_tls(std::vector<contestant>& to) {
  const auto tls = [](auto handler) {
    return serve([handler](gtcp::Server& server) {
      server.SetHandler(handler);
      server.SetTLSConfig(gtcp_test::server_context());
    });
  };
  // Made before the first fork: all processes need the same.
  static_cast<void>(gtcp_test::test_certificate());
  to.push_back({.name = "OpenSSL by hand", .tls_echo = serve_by_hand});
  to.push_back({.name = "gtcp, blocking handler", .tls_echo = tls(bench::answer)});
  to.push_back({.name = "gtcp, coroutine handler", .tls_echo = tls(bench::answer_in_coroutine)});
}

}  // namespace bench
