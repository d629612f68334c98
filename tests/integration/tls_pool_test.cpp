// SPDX-License-Identifier: MIT

// Pooled connections with TLS: the same as without, but for how they are opened and what keeps them apart.

#include <gtcp/detail/conn_pool.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_io.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/pool_conn.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server.hpp>
#include <gtcp/tls.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"
#include "support/tls_certificates.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gtcp::Conn;
using gtcp::Errc;
using gtcp::PoolConn;
using gtcp::PoolOption;
using gtcp::TLSOption;
using gtcp_test::client_context;
using gtcp_test::form;
using gtcp_test::poll_until;
using gtcp_test::server_context;

gtcp::detail::conn_pool& pool() { return gtcp::detail::per_process<gtcp::detail::conn_pool>::instance(); }

/// An echo server with TLS that knows its connections.
class TlsPool : public testing::Test {
 protected:
  TlsPool() {
    gtcp::CloseIdlePoolConns();
    server_.SetTLSConfig(server_context(), {.NextProtos = {"gtcp/1", "gtcp/2"}});
    server_.Start();
  }
  ~TlsPool() override {
    gtcp::CloseIdlePoolConns();
    server_.CloseAndWait(gtcp_test::ceiling);
    EXPECT_TRUE(poll_until([] { return pool().group_count() == 0; })) << "a connection, or a place, was not given back";
  }

  std::string address() const { return server_.GetListenedAddress(); }

  std::size_t accepted() const {
    const std::lock_guard lock(mutex_);
    return accepted_.size();
  }
  Conn last_accepted() const {
    const std::lock_guard lock(mutex_);
    return accepted_.back();
  }

  PoolConn take(form which, const TLSOption& tls = {}, const PoolOption& option = {}) const {
    switch (which) {
      case form::blocking: return gtcp::NewPoolConnTLS(address(), config_, 10s, tls, option);
      case form::awaited: {
        PoolOption lasting = option;  // the coroutine's context ends here, before the connection
        lasting.Conn.Executor = gtcp::Runtime::Default().get_executor();
        return gtcp_test::run(gtcp::AsyncNewPoolConnTLS(address(), config_, 10s, tls, lasting));
      }
      case form::callback: break;
    }
    std::error_code error;
    PoolConn conn = gtcp_test::call_back<PoolConn>(
        error, [&](auto token) { gtcp::AsyncNewPoolConnTLS(address(), config_, 10s, tls, option, std::move(token)); });
    EXPECT_FALSE(error) << error.message();
    return conn;
  }

  /// A connection out of the pool that has died, which only its first use can show.
  PoolConn dead() const {
    PoolConn conn = take(form::blocking);
    exchange(conn);
    conn.Close();
    EXPECT_EQ(pool().idle_count(), 1u);
    conn = take(form::blocking);
    EXPECT_EQ(pool().idle_count(), 0u);
    last_accepted().Abort();
    EXPECT_TRUE(poll_until([&] {
      bool ready = false;
      with_descriptor(conn, [&](gtcp::detail::native_socket descriptor) {
        ready = gtcp::detail::is_ready(descriptor, gtcp::detail::wait_direction::read);
      });
      return ready;
    }));
    return conn;
  }

  static void exchange(const Conn& conn, const std::string& text = "hello") {
    EXPECT_EQ(conn.SendRecvPkgWithTimeout(text, gtcp_test::ceiling), text);
  }

  /// As GetNativeHandle, after which the connection would not go back.
  template <class Use>
  static void with_descriptor(const Conn& conn, const Use& use) {
    static_cast<void>(gtcp::detail::conn_access::state(conn)->with_descriptor([&](auto descriptor) {
      use(descriptor);
      return std::error_code();
    }));
  }

  const gtcp::TLSConfig config_ = client_context();

 private:
  mutable std::mutex mutex_;
  std::vector<Conn> accepted_;
  gtcp::Server server_{"127.0.0.1:0", [this](Conn conn) {
                         {
                           const std::lock_guard lock(mutex_);
                           accepted_.push_back(conn);
                         }
                         for (;;) conn.SendPkg(conn.RecvPkg());
                       }};
};

TEST_F(TlsPool, UsesAConnectionAgain) {
  for (const form which : gtcp_test::forms) {
    const std::size_t before = accepted();
    for (int i = 0; i < 3; ++i) {
      const PoolConn conn = take(which);
      EXPECT_TRUE(gtcp::GetTLSState(conn).PeerVerified) << which;
      exchange(conn);
      exchange(conn, gtcp_test::pattern(60'000));
      conn.Close();
      EXPECT_EQ(pool().idle_count(), 1u) << which;
    }
    EXPECT_EQ(accepted(), before + 1) << which;
    gtcp::CloseIdlePoolConns();
  }
}

TEST_F(TlsPool, IsClosedForItsOldHandles) {
  const PoolConn old = take(form::blocking);
  exchange(old);
  old.Close();
  const PoolConn current = take(form::blocking);
  EXPECT_EQ(accepted(), 1u);
  old.CloseWrite();
  exchange(current);
}

TEST_F(TlsPool, KeepsApartWhatIsNotTheSame) {
  struct other {
    gtcp::TLSConfig config;
    TLSOption tls;
  };
  const std::vector<other> others = {
      {config_, {}},
      {client_context(), {}},
      {config_, {.ServerName = "localhost"}},
      {config_, {.InsecureSkipVerify = true}},
      {config_, {.NextProtos = {"gtcp/1"}}},
      {config_, {.NextProtos = {"gtcp/1", "gtcp/2"}}},
  };
  for (const other& one : others) {
    const PoolConn conn = gtcp::NewPoolConnTLS(address(), one.config, 10s, one.tls);
    exchange(conn);
  }
  EXPECT_EQ(accepted(), others.size());
  EXPECT_EQ(pool().idle_count(), others.size());
  // What has no TLS is another connection too; this server does not take it.
  std::error_code error;
  gtcp::NewPoolConn(address()).SendRecvPkgWithTimeout("plain", gtcp_test::ceiling, error);
  EXPECT_TRUE(error);
  EXPECT_EQ(pool().idle_count(), others.size());
  // A time limit makes no difference.
  exchange(gtcp::NewPoolConnTLS(address(), config_, 9s, {.HandshakeTimeout = 8s}));
  EXPECT_EQ(accepted(), others.size());
}

TEST_F(TlsPool, OpensAnotherOneForTheFirstSendOnOneThatHasDied) {
  for (const form which : gtcp_test::forms) {
    for (const std::size_t size : {std::size_t{5}, std::size_t{60'000}}) {
      SCOPED_TRACE(testing::Message() << which << ' ' << size);
      const PoolConn conn = dead();
      const std::size_t before = accepted();
      const std::string text = gtcp_test::pattern(size);
      switch (which) {
        case form::blocking: conn.SendPkg(text); break;
        case form::awaited: gtcp_test::run(conn.AsyncSendPkg(text)); break;
        case form::callback: {
          std::error_code error;
          gtcp_test::call_back<void>(error, [&](auto token) { conn.AsyncSendPkg(text, token); });
          EXPECT_FALSE(error) << error.message();
          break;
        }
      }
      EXPECT_TRUE(conn.RecvPkgWithTimeout(gtcp_test::ceiling) == text);
      EXPECT_TRUE(gtcp::GetTLSState(conn).HandshakeComplete);
      EXPECT_EQ(accepted(), before + 1);
      conn.Close();
      EXPECT_EQ(pool().idle_count(), 1u);
      gtcp::CloseIdlePoolConns();
    }
  }
}

TEST_F(TlsPool, LendsNoConnectionAgainInWhichARecordHasBegun) {
  // The header of a record of 16 KiB, and some bytes of it.
  const std::string record(
      "\x17\x03\x03\x40\x00"
      "abc",
      8);
  for (const std::size_t size : {std::size_t{1}, std::size_t{5}, std::size_t{8}}) {
    for (const bool comes_late : {false, true}) {
      SCOPED_TRACE(testing::Message() << size << ' ' << comes_late);
      const PoolConn conn = take(form::blocking);
      exchange(conn);
      gtcp::detail::native_socket own = gtcp::detail::invalid_native_socket;
      with_descriptor(conn, [&](gtcp::detail::native_socket descriptor) { own = descriptor; });
      const std::size_t before = accepted();
      if (comes_late) conn.Close();
      EXPECT_EQ(pool().idle_count(), comes_late ? 1u : 0u);
      with_descriptor(last_accepted(), [&](gtcp::detail::native_socket descriptor) {
        const asio::const_buffer begin(record.data(), size);
        EXPECT_EQ(gtcp::detail::write_some(descriptor, std::span(&begin, 1)).size, size);
      });
      EXPECT_TRUE(poll_until([&] { return gtcp::detail::is_ready(own, gtcp::detail::wait_direction::read); }));
      if (!comes_late) conn.Close();
      exchange(take(form::blocking));
      EXPECT_EQ(accepted(), before + 1);
      gtcp::CloseIdlePoolConns();
    }
  }
}

TEST_F(TlsPool, KnowsNothingOfAConnectionThatHasGoneBack) {
  const PoolConn conn = take(form::blocking);
  exchange(conn);
  EXPECT_TRUE(gtcp::GetTLSState(conn).HandshakeComplete);
  conn.Close();
  EXPECT_EQ(pool().idle_count(), 1u);
  EXPECT_FALSE(gtcp::GetTLSState(conn).HandshakeComplete);
  EXPECT_EQ(gtcp::GetTLSSession(conn), nullptr);
}

TEST_F(TlsPool, MayBeAskedWhileAConnectionIsRenewedAndGoesBack) {
  for (int round = 0; round < 10; ++round) {
    const PoolConn conn = dead();
    std::atomic<unsigned> asked{0};
    const std::jthread asking([&](const std::stop_token& stop) {
      for (; !stop.stop_requested(); ++asked) {
        gtcp::GetTLSState(conn);
        gtcp::GetTLSSession(conn);
      }
    });
    EXPECT_TRUE(poll_until([&] { return asked != 0; }));
    exchange(conn);
    conn.Close();
    EXPECT_EQ(pool().idle_count(), 1u);
    gtcp::CloseIdlePoolConns();
  }
}

TEST_F(TlsPool, WaitsForOneThatComesBack) {
  PoolConn first = take(form::blocking, {}, {.MaxConns = 1});
  exchange(first);
  std::error_code error;
  const auto late = gtcp::NewPoolConnTLS(address(), config_, 10ms, {}, {.MaxConns = 1}, error);
  EXPECT_EQ(error, Errc::Timeout);
  EXPECT_TRUE(late.IsClosed());
  gtcp_test::background waiting([&] { return take(form::blocking, {}, {.MaxConns = 1}); });
  EXPECT_TRUE(poll_until([] { return pool().waiting_count() == 1; }));
  first.Close();
  exchange(waiting.get());
  EXPECT_EQ(accepted(), 1u);
}

TEST_F(TlsPool, SaysWhatIsWrongWithTheServersCertificate) {
  std::error_code error;
  const TLSOption tls{.ServerName = "somebody.else.example"};
  const PoolConn conn = gtcp::NewPoolConnTLS(address(), config_, 10s, tls, {}, error);
  EXPECT_EQ(&error.category(), &gtcp::CertificateErrorCategory()) << error.message();
  EXPECT_TRUE(conn.IsClosed());
  try {
    gtcp::NewPoolConnTLS(address(), config_, 10s, tls);
    ADD_FAILURE() << "connected";
  } catch (const std::system_error& refused) {
    EXPECT_EQ(std::string(refused.what()).find("NewPoolConnTLS \"" + address() + "\": TLS handshake"), 0u)
        << refused.what();
  }
  EXPECT_FALSE(gtcp::NewPoolConnTLS("", config_, error));
  EXPECT_EQ(error, Errc::InvalidAddress);
  EXPECT_FALSE(gtcp::NewPoolConnTLS(address(), config_, -1s, error));
  EXPECT_EQ(error, Errc::InvalidOption);
  std::error_code invalid;
  gtcp::NewPoolConnTLS(address(), config_, 10s, {.HandshakeTimeout = -1s}, {}, invalid);
  EXPECT_EQ(invalid, Errc::InvalidOption);
}

/// Somebody who accepts, and never says a word.
class TlsPoolToNobody : public testing::Test {
 protected:
  TlsPoolToNobody() : acceptor_(gtcp_test::raw_context(), {asio::ip::address_v4::loopback(), 0}) {}
  ~TlsPoolToNobody() override {
    EXPECT_TRUE(poll_until([] { return pool().group_count() == 0; })) << "a place was not given back";
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }

 private:
  asio::ip::tcp::acceptor acceptor_;
};

TEST_F(TlsPoolToNobody, GivesUpAtTheDeadlineOfTheHandshake) {
  const TLSOption tls{.HandshakeTimeout = 20ms};
  std::error_code error;
  gtcp::NewPoolConnTLS(address(), client_context(), 10s, tls, {.MaxConns = 1}, error);
  EXPECT_EQ(error, Errc::Timeout);
  const PoolOption option{.MaxConns = 1};
  gtcp_test::run(gtcp::AsyncNewPoolConnTLS(address(), client_context(), 10s, tls, option, error));
  EXPECT_EQ(error, Errc::Timeout);
}

TEST_F(TlsPoolToNobody, GivesUpWhenItIsStoppedOrCancelled) {
  std::stop_source stop;
  gtcp_test::background stopped([&] {
    std::error_code error;
    gtcp::NewPoolConnTLS(address(), client_context(), 0s, {}, {}, error, stop.get_token());
    return error;
  });
  EXPECT_TRUE(poll_until([] { return pool().group_count() == 1; }));
  stop.request_stop();
  EXPECT_EQ(stopped.get(), asio::error::operation_aborted);

  asio::cancellation_signal signal;
  std::promise<std::error_code> told;
  auto cancelled = told.get_future();
  gtcp::AsyncNewPoolConnTLS(address(), client_context(), 0s, {}, {},
                            asio::bind_cancellation_slot(
                                signal.slot(), [&](std::error_code error, const PoolConn&) { told.set_value(error); }));
  EXPECT_TRUE(poll_until([] { return pool().group_count() == 1; }));
  signal.emit(asio::cancellation_type::total);
  ASSERT_TRUE(gtcp_test::comes(cancelled));
  EXPECT_EQ(cancelled.get(), asio::error::operation_aborted);
}

}  // namespace
