// SPDX-License-Identifier: MIT

// TLS as a transport, below connections: two ends over a pair of sockets with tiny buffers, each step made by hand.

#include <gtcp/detail/tls_transport.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/tls_certificates.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using gtcp::Errc;
using gtcp::detail::includes;
using gtcp::detail::io_result;
using gtcp::detail::native_socket;
using gtcp::detail::tls_settings;
using gtcp::detail::tls_transport;
using gtcp::detail::wait_direction;
using gtcp_test::certificate;
using gtcp_test::client_context;
using gtcp_test::net;
using gtcp_test::pattern;
using gtcp_test::poll_until;
using gtcp_test::server_context;

void make_tiny(native_socket descriptor) {
  EXPECT_FALSE(gtcp::detail::set_option(descriptor, gtcp::detail::socket_option::send_buffer, 1));
  EXPECT_FALSE(gtcp::detail::set_option(descriptor, gtcp::detail::socket_option::recv_buffer, 1));
}

/// A socket with TLS on it.
struct end {
  end(native_socket socket, std::shared_ptr<asio::ssl::context> context, tls_settings settings)
      : descriptor(socket), tls(std::make_unique<tls_transport>(socket, std::move(context), std::move(settings))) {}
  ~end() { close(); }
  void close() {
    const native_socket old = std::exchange(descriptor, gtcp::detail::invalid_native_socket);
    if (old != gtcp::detail::invalid_native_socket) gtcp::detail::close_socket(old, false);
  }

  io_result write(std::string_view bytes) {
    const asio::const_buffer part(bytes.data(), bytes.size());
    return tls->write_some(std::span(&part, 1));
  }
  io_result flush() { return tls->write_some({}); }

  io_result read(std::string& into, std::size_t most = 64 * 1024) {
    std::string buffer(most, '\0');
    const io_result got = tls->read_some(asio::buffer(buffer));
    into.append(buffer, 0, got.size);
    return got;
  }

  /// Sends a key update that asks the peer for one of its own.
  void update_keys() {
    tls->with_ssl([](SSL* ssl) { EXPECT_EQ(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1); });
  }

  native_socket descriptor;
  std::unique_ptr<tls_transport> tls;
};

struct tls_pair {
  explicit tls_pair(bool tiny = true, std::shared_ptr<asio::ssl::context> server_side = server_context(),
                    std::shared_ptr<asio::ssl::context> client_side = client_context(),
                    tls_settings client_settings = {}, tls_settings server_settings = {}) {
    auto [first, second] = gtcp_test::connected_sockets(net::unix_socket);
    const native_socket a = first.release();
    const native_socket b = second.release();
    for (const native_socket descriptor : {a, b}) {
      EXPECT_FALSE(gtcp::detail::prepare_socket(descriptor));
      if (tiny) make_tiny(descriptor);
    }
    server_settings.is_server = true;
    if (client_settings.server_name.empty()) client_settings.server_name = "localhost";
    server = std::make_unique<end>(a, std::move(server_side), std::move(server_settings));
    client = std::make_unique<end>(b, std::move(client_side), std::move(client_settings));
  }

  /// Shakes hands; returns what each end says.
  std::pair<std::error_code, std::error_code> handshake() {
    io_result a{0, {}, wait_direction::both};
    io_result b = a;
    EXPECT_TRUE(poll_until([&] {
      if (a.wait_for != wait_direction::none) a = server->tls->handshake();
      if (b.wait_for != wait_direction::none) b = client->tls->handshake();
      return (a.wait_for == wait_direction::none || b.error) && (b.wait_for == wait_direction::none || a.error);
    }));
    return {a.error, b.error};
  }

  void must_handshake() {
    const auto [a, b] = handshake();
    ASSERT_FALSE(a) << a.message();
    ASSERT_FALSE(b) << b.message();
  }

  std::unique_ptr<end> server;
  std::unique_ptr<end> client;
};

/// Sends all of `bytes` from one end to the other, and checks that they come.
void carry(end& from, end& to, const std::string& bytes) {
  std::string_view left = bytes;
  std::string came;
  EXPECT_TRUE(poll_until([&] {
    const io_result put = from.write(left);
    EXPECT_FALSE(put.error) << put.error.message();
    left.remove_prefix(put.size);
    const io_result got = to.read(came);
    EXPECT_FALSE(got.error) << got.error.message();
    return came.size() >= bytes.size() || put.error || got.error;
  }));
  EXPECT_EQ(came, bytes);
}

TEST(TlsTransport, TellsOfARecordThatHasBegun) {
  tls_pair pair(false);
  pair.must_handshake();
  std::string got;
  pair.client->write("hello");
  pair.server->read(got);
  EXPECT_EQ(got, "hello");
  const gtcp::detail::input_below before = pair.server->tls->below();
  EXPECT_FALSE(before.has_begun);
  // The header of a record of 16 KiB, and some bytes of it.
  const std::string record(
      "\x17\x03\x03\x40\x00"
      "abc",
      8);
  for (std::size_t sent = 1; sent <= record.size(); ++sent) {
    const asio::const_buffer byte(&record[sent - 1], 1);
    gtcp::detail::write_some(pair.client->descriptor, std::span(&byte, 1));
    EXPECT_EQ(pair.server->read(got).wait_for, wait_direction::read);
    EXPECT_EQ(pair.server->tls->below().bytes, before.bytes + sent);
    EXPECT_TRUE(pair.server->tls->below().has_begun) << sent;
  }
}

TEST(TlsTransport, CarriesBytesBothWays) {
  tls_pair pair;
  pair.must_handshake();
  for (const std::size_t size : {1u, 100u, 16383u, 16384u, 16385u, 300'000u}) {
    carry(*pair.client, *pair.server, pattern(size, 1));
    carry(*pair.server, *pair.client, pattern(size, 2));
  }
}

TEST(TlsTransport, IsNotMisledByErrorsThatOthersLeftInTheThreadsQueue) {
  const auto leave_an_error = [context = client_context()] {
    EXPECT_NE(SSL_CTX_use_certificate_file(context->native_handle(), "/no/such/file", SSL_FILETYPE_PEM), 1);
  };
  tls_pair pair;
  leave_an_error();
  pair.must_handshake();
  leave_an_error();
  std::string nothing;
  const io_result step = pair.server->read(nothing);
  EXPECT_EQ(step.wait_for, wait_direction::read);
  EXPECT_FALSE(step.error) << step.error.message();
  leave_an_error();
  carry(*pair.client, *pair.server, pattern(100'000, 1));
}

TEST(TlsTransport, GathersSmallBuffersInOneRecord) {
  tls_pair pair(false);
  pair.must_handshake();
  const std::string parts[] = {"head", "", "payload", "tail"};
  std::vector<asio::const_buffer> buffers;
  for (const std::string& part : parts) buffers.emplace_back(part.data(), part.size());
  const io_result put = pair.client->tls->write_some(buffers);
  EXPECT_EQ(put.size, 15u);
  EXPECT_EQ(put.wait_for, wait_direction::none);
  std::string came;
  ASSERT_TRUE(poll_until([&] { return pair.server->read(came, 1).size == 1; }));
  EXPECT_EQ(pair.server->tls->with_ssl([](SSL* ssl) { return SSL_pending(ssl); }), 14);
  EXPECT_EQ(pair.server->read(came).size, 14u);
  EXPECT_EQ(came, "headpayloadtail");
}

TEST(TlsTransport, WritesManyBuffersInOrder) {
  tls_pair pair;
  pair.must_handshake();
  const std::string large = pattern(50'000);
  std::string expected;
  std::vector<asio::const_buffer> buffers;
  for (const std::size_t size : {3u, 20'000u, 0u, 5u, 16'384u, 16'385u, 7u}) {
    buffers.emplace_back(large.data() + size % 11, size);
    expected.append(large.data() + size % 11, size);
  }
  std::string came;
  std::size_t taken = 0;
  EXPECT_TRUE(poll_until([&] {
    std::vector<asio::const_buffer> left;
    std::size_t skip = taken;
    for (const asio::const_buffer& buffer : buffers) {
      const std::size_t part = std::min(skip, buffer.size());
      left.push_back(buffer + part);
      skip -= part;
    }
    taken += pair.client->tls->write_some(left).size;
    return pair.server->read(came).error || came.size() >= expected.size();
  }));
  EXPECT_EQ(came, expected);
}

TEST(TlsTransport, KeepsCiphertextThatTheSocketDoesNotTake) {
  tls_pair pair;
  pair.must_handshake();
  // Everything taken, and still waiting for write: the rest of the ciphertext is in the transport.
  const std::string bytes = pattern(16'000);
  const io_result put = pair.client->write(bytes);
  ASSERT_EQ(put.size, bytes.size());
  ASSERT_EQ(put.wait_for, wait_direction::write);
  // Then nothing is taken.
  EXPECT_EQ(pair.client->write("more").size, 0u);
  EXPECT_EQ(pair.client->write("more").wait_for, wait_direction::write);
  EXPECT_FALSE(pair.client->write("more").moved_held);

  std::string came;
  io_result flushed = put;
  EXPECT_TRUE(poll_until([&] {
    pair.server->read(came);
    const io_result again = pair.client->write("more");
    EXPECT_EQ(again.size, 0u);
    return again.moved_held;
  })) << "the system took a part of the record";
  EXPECT_LT(came.size(), bytes.size());
  EXPECT_TRUE(poll_until([&] {
    pair.server->read(came);
    flushed = pair.client->flush();
    return flushed.wait_for == wait_direction::none || flushed.error;
  }));
  EXPECT_FALSE(flushed.error);
  EXPECT_TRUE(poll_until([&] { return pair.server->read(came).error || came.size() >= bytes.size(); }));
  EXPECT_EQ(came, bytes);
}

TEST(TlsTransport, FlushesPendingCiphertextWhenItReads) {
  tls_pair pair;
  pair.must_handshake();
  const std::string bytes = pattern(16'000);
  ASSERT_EQ(pair.client->write(bytes).size, bytes.size());
  std::string came;
  std::string nothing;
  // The client only reads from here on.
  EXPECT_TRUE(poll_until([&] {
    const io_result got = pair.client->read(nothing);
    EXPECT_TRUE(includes(got.wait_for, wait_direction::read));
    return pair.server->read(came).error || came.size() >= bytes.size();
  }));
  EXPECT_EQ(came, bytes);
}

TEST(TlsTransport, WaitsForBothWithCiphertextPending) {
  tls_pair pair;
  pair.must_handshake();
  std::string came;
  EXPECT_EQ(pair.client->read(came).wait_for, wait_direction::read);
  ASSERT_EQ(pair.client->write(pattern(16'000)).wait_for, wait_direction::write);
  EXPECT_EQ(pair.client->read(came).wait_for, wait_direction::both);
}

TEST(TlsTransport, SaysDrainedOnlyWhenNothingIsLeft) {
  tls_pair pair(false);
  pair.must_handshake();
  ASSERT_EQ(pair.client->write(pattern(10'000)).size, 10'000u);
  std::string came;
  ASSERT_TRUE(poll_until([&] { return pair.server->read(came, 100).size == 100; }));
  // Nine thousand bytes are decrypted already; the socket would never say so.
  EXPECT_FALSE(gtcp::detail::is_ready(pair.server->descriptor, wait_direction::read));
  const io_result part = pair.server->read(came, 100);
  EXPECT_EQ(part.size, 100u);
  EXPECT_FALSE(part.drained);
  const io_result rest = pair.server->read(came, 64 * 1024);
  EXPECT_EQ(rest.size, 9'800u);
  EXPECT_TRUE(rest.drained);
  EXPECT_EQ(pair.server->read(came).wait_for, wait_direction::read);
}

TEST(TlsTransport, UpdatesKeysBothWaysWhileWritesArePending) {
  tls_pair pair;
  pair.must_handshake();
  end* const ends[] = {pair.client.get(), pair.server.get()};
  const std::string sent[] = {pattern(400'000, 1), pattern(400'000, 2)};
  std::string came[2];
  std::size_t out[2] = {0, 0};
  unsigned round = 0;
  EXPECT_TRUE(poll_until([&] {
    ++round;
    for (std::size_t i = 0; i < 2; ++i) {
      if (round % 7 == 3 * i && out[i] < sent[i].size()) ends[i]->update_keys();
      const io_result put = ends[i]->write(std::string_view(sent[i]).substr(out[i], 9'000));
      EXPECT_FALSE(put.error) << put.error.message();
      out[i] += put.size;
    }
    for (std::size_t i = 0; i < 2; ++i) {
      const io_result got = ends[i]->read(came[i], 5'000);
      EXPECT_FALSE(got.error) << got.error.message();
      if (got.error) return true;
    }
    return came[0].size() >= sent[1].size() && came[1].size() >= sent[0].size();
  }));
  EXPECT_EQ(came[0], sent[1]);
  EXPECT_EQ(came[1], sent[0]);
}

TEST(TlsTransport, StopsReadingFromAPeerThatFloodsKeyUpdates) {
  tls_pair pair;
  pair.must_handshake();
  // The client never reads what the server answers.
  std::size_t updates = 0;
  io_result got;
  std::string came;
  EXPECT_TRUE(poll_until([&] {
    if (pair.client->flush().wait_for == wait_direction::none) {
      pair.client->update_keys();
      pair.client->tls->with_ssl([](SSL* ssl) { SSL_do_handshake(ssl); });
      ++updates;
    }
    got = pair.server->read(came);
    return got.wait_for == wait_direction::write || got.error;
  }));
  EXPECT_FALSE(got.error) << got.error.message();
  EXPECT_GT(updates, 500u);
}

TEST(TlsTransport, RefusesRenegotiation) {
  auto twelve = [](std::shared_ptr<asio::ssl::context> context) {
    SSL_CTX_set_max_proto_version(context->native_handle(), TLS1_2_VERSION);
    return context;
  };
  tls_pair pair(false, twelve(server_context()), twelve(client_context()));
  pair.must_handshake();
  pair.client->tls->with_ssl([](SSL* ssl) { EXPECT_EQ(SSL_renegotiate(ssl), 0); });
  carry(*pair.client, *pair.server, "still there");
}

TEST(TlsTransport, EndsWithCloseNotify) {
  tls_pair pair;
  pair.must_handshake();
  carry(*pair.client, *pair.server, "last");
  EXPECT_TRUE(poll_until([&] { return pair.client->tls->finish_stream().wait_for == wait_direction::none; }));
  pair.client->tls->end_of_sending();
  std::string came;
  EXPECT_EQ(pair.server->read(came).error, asio::error::eof);
  EXPECT_EQ(pair.server->read(came).error, asio::error::eof);
  // The other direction is still open.
  carry(*pair.server, *pair.client, "answer after the end");
  EXPECT_EQ(pair.client->write("late").error, asio::error::shut_down);
}

TEST(TlsTransport, EndsWithCloseNotifyRightAfterAKeyUpdate) {
  tls_pair pair(false);
  pair.must_handshake();
  pair.client->update_keys();
  EXPECT_EQ(pair.client->tls->finish_stream().wait_for, wait_direction::none);
  pair.client->close();
  std::string came;
  std::error_code error;
  EXPECT_TRUE(poll_until([&] {
    error = pair.server->read(came).error;
    return static_cast<bool>(error);
  }));
  EXPECT_EQ(error, asio::error::eof);
}

TEST(TlsTransport, TakesNothingAgainForTheEndWhileCiphertextIsPending) {
  tls_pair pair;
  pair.must_handshake();
  const std::string bytes = pattern(16'000);
  ASSERT_EQ(pair.client->write(bytes).wait_for, wait_direction::write);
  EXPECT_EQ(pair.client->tls->finish_stream().wait_for, wait_direction::write);
  std::string came;
  std::error_code error;
  bool finished = false;
  EXPECT_TRUE(poll_until([&] {
    if (!finished && pair.client->tls->finish_stream().wait_for == wait_direction::none) {
      finished = true;
      pair.client->close();
    }
    error = pair.server->read(came).error;
    return static_cast<bool>(error);
  }));
  EXPECT_EQ(error, asio::error::eof);
  EXPECT_EQ(came, bytes);
}

TEST(TlsTransport, TellsAMissingCloseNotify) {
  tls_pair pair;
  pair.must_handshake();
  carry(*pair.client, *pair.server, "last");
  pair.client->close();
  std::string came;
  EXPECT_EQ(pair.server->read(came).error, Errc::TlsTruncated);
  EXPECT_EQ(pair.server->read(came).error, Errc::TlsTruncated);
}

TEST(TlsTransport, StillReadsWhatCameWhenWritingFails) {
  tls_pair pair(false);
  pair.must_handshake();
  ASSERT_EQ(pair.client->write("goodbye").size, 7u);
  EXPECT_EQ(pair.client->tls->finish_stream().wait_for, wait_direction::none);
  pair.client->close();
  std::error_code error;
  EXPECT_TRUE(poll_until([&] {
    error = pair.server->write("to nobody").error;
    return static_cast<bool>(error);
  }));
  EXPECT_NE(error, asio::error::eof);
  EXPECT_EQ(pair.server->write("to nobody").error, error);
  std::string came;
  EXPECT_FALSE(pair.server->read(came).error);
  EXPECT_EQ(came, "goodbye");
}

TEST(TlsTransport, FailsAfterGarbageForGood) {
  tls_pair pair(false);
  pair.must_handshake();
  const std::string garbage = "this is no record at all";
  const asio::const_buffer part(garbage.data(), garbage.size());
  EXPECT_EQ(gtcp::detail::write_some(pair.client->descriptor, std::span(&part, 1)).size, garbage.size());
  std::string came;
  const std::error_code error = pair.server->read(came).error;
  EXPECT_EQ(&error.category(), &asio::error::get_ssl_category()) << error.message();
  EXPECT_TRUE(gtcp::IsFatal(error));
  EXPECT_EQ(pair.server->read(came).error, error);
  EXPECT_EQ(pair.server->write("x").error, error);
  EXPECT_EQ(came, "");
}

TEST(TlsTransport, RefusesACertificateForAnotherName) {
  tls_pair pair(false, server_context(), client_context(), {.server_name = "example.com"});
  const auto [server_says, client_says] = pair.handshake();
  EXPECT_EQ(client_says, std::error_code(X509_V_ERR_HOSTNAME_MISMATCH, gtcp::CertificateErrorCategory()))
      << client_says.message();
  EXPECT_NE(client_says.message().find("hostname mismatch"), std::string::npos) << client_says.message();
  EXPECT_FALSE(pair.client->tls->established());
}

TEST(TlsTransport, ChecksAddressesToo) {
  tls_pair good(false, server_context(), client_context(), {.server_name = "127.0.0.1"});
  good.must_handshake();
  tls_pair bad(false, server_context(), client_context(), {.server_name = "127.0.0.2"});
  EXPECT_EQ(bad.handshake().second, std::error_code(X509_V_ERR_IP_ADDRESS_MISMATCH, gtcp::CertificateErrorCategory()));
}

TEST(TlsTransport, RefusesAnUnknownAuthorityUnlessToldOtherwise) {
  const certificate stranger = certificate::authority("somebody else");
  tls_pair pair(false, server_context(stranger.issue()));
  EXPECT_EQ(pair.handshake().second.category(), gtcp::CertificateErrorCategory());
  tls_pair careless(false, server_context(stranger.issue()), client_context(),
                    {.verifies = false, .server_name = "example.com"});
  careless.must_handshake();
}

TEST(TlsTransport, SpeaksNothingOlderThanTls12) {
  auto old = client_context();
  old->native_handle();
  SSL_CTX_set_security_level(old->native_handle(), 0);
  SSL_CTX_set_min_proto_version(old->native_handle(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(old->native_handle(), TLS1_1_VERSION);
  auto lax = server_context();
  SSL_CTX_set_security_level(lax->native_handle(), 0);
  SSL_CTX_set_min_proto_version(lax->native_handle(), TLS1_VERSION);
  tls_pair pair(false, lax, old);
  const auto [server_says, client_says] = pair.handshake();
  EXPECT_NE(server_says.message().find("unsupported protocol"), std::string::npos) << server_says.message();
}

TEST(TlsTransport, AgreesOnAProtocol) {
  auto context = server_context();
  tls_transport::choose_protocols(*context);
  const std::string both("\5first\6second");
  const std::string second("\6second");
  tls_pair pair(false, context, client_context(), {.protocols = second}, {.protocols = both});
  pair.must_handshake();
  pair.client->tls->with_ssl([](SSL* ssl) {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl, &name, &size);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(name), size), "second");
  });
  tls_pair stranger(false, context, client_context(), {.protocols = std::string("\5third")}, {.protocols = both});
  EXPECT_TRUE(stranger.handshake().first);
}

TEST(TlsTransport, SendsNoTicketsUnlessTold) {
  for (const bool resumes : {false, true}) {
    tls_pair pair(false, server_context(), client_context(), {}, {.resumes = resumes});
    pair.must_handshake();
    carry(*pair.server, *pair.client, "after the tickets");
    const bool resumable =
        pair.client->tls->with_ssl([](SSL* ssl) { return SSL_SESSION_is_resumable(SSL_get0_session(ssl)) != 0; });
    EXPECT_EQ(resumable, resumes);
  }
}

TEST(TlsTransport, FailsItsHandshakeAtTheEndOfTheStream) {
  tls_pair pair(false);
  EXPECT_EQ(pair.client->tls->handshake().wait_for, wait_direction::read);
  char hello[1024];
  EXPECT_GT(pair.server->tls->discard_some(asio::buffer(hello)).size, 0u);
  pair.server->close();
  EXPECT_EQ(pair.client->tls->handshake().error, asio::error::eof);
  EXPECT_EQ(pair.client->tls->handshake().error, asio::error::eof);
}

TEST(TlsTransport, MayBeReadAndWrittenByTwoThreads) {
  tls_pair pair;
  pair.must_handshake();
  const std::string sent[] = {pattern(1'000'000, 1), pattern(1'000'000, 2)};
  end* const ends[] = {pair.client.get(), pair.server.get()};
  std::string came[2];
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      gtcp::detail::waker wake;
      for (std::size_t out = 0, calls = 0; !failed; ++calls) {
        if (calls % 50 == 10) ends[i]->update_keys();
        const io_result put = ends[i]->write(std::string_view(sent[i]).substr(out, 7'000));
        out += put.size;
        if (put.error) failed = true;
        if (put.wait_for != wait_direction::none)
          gtcp::detail::wait_descriptor(ends[i]->descriptor, put.wait_for, wake, gtcp::detail::no_deadline);
        else if (out == sent[i].size())
          break;
      }
    });
    threads.emplace_back([&, i] {
      gtcp::detail::waker wake;
      while (!failed && came[i].size() < sent[1 - i].size()) {
        const io_result got = ends[i]->read(came[i], 9'000);
        if (got.error) failed = true;
        if (got.wait_for != wait_direction::none)
          gtcp::detail::wait_descriptor(ends[i]->descriptor, got.wait_for, wake, gtcp::detail::no_deadline);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(failed);
  EXPECT_EQ(came[0], sent[1]);
  EXPECT_EQ(came[1], sent[0]);
}

}  // namespace
