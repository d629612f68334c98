// SPDX-License-Identifier: MIT

// Connections with TLS: connecting and serving, what each side checks, and what bad input gets.

#include <gtcp/dial.hpp>
#include <gtcp/server.hpp>
#include <gtcp/tls.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"
#include "support/tls_certificates.hpp"

#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <openssl/crypto.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gtcp::Conn;
using gtcp::Errc;
using gtcp::Server;
using gtcp::TLSConfig;
using gtcp::TLSState;
using gtcp_test::certificate;
using gtcp_test::client_context;
using gtcp_test::comes;
using gtcp_test::fresh_name;
using gtcp_test::poll_until;
using gtcp_test::raw_context;
using gtcp_test::scratch_folder;
using gtcp_test::server_context;
using gtcp_test::serving;
using gtcp_test::test_authority;
using gtcp_test::test_certificate;
using gtcp_test::text_of_error;

void echo(Conn conn) {
  for (;;) conn.SendPkg(conn.RecvPkg());
}

asio::awaitable<void> echo_coro(Conn conn) {
  for (;;) {
    std::string pkg = co_await conn.AsyncRecvPkg();
    co_await conn.AsyncSendPkg(std::move(pkg));
  }
}

/// A server that serves while it lives, and what its error callback was told.
class served {
 public:
  explicit served(Server::Handler handler, TLSConfig config = server_context(), gtcp::TLSOption tls = {}) {
    gtcp::ServerOption option;
    option.ErrorCallback = [errors = errors_](const Conn&, std::exception_ptr failure) {
      try {
        std::rethrow_exception(failure);
      } catch (const std::system_error& error) {
        const std::lock_guard lock(errors->mutex);
        errors->list.push_back(error);
      }
    };
    server.SetOption(option);
    server.SetAddress("127.0.0.1:0");
    server.SetHandler(std::move(handler));
    if (config != nullptr) server.SetTLSConfig(config, tls);
    server.Start();
  }
  /// With an echo of that kind.
  explicit served(serving which, const TLSConfig& config = server_context(), const gtcp::TLSOption& tls = {})
      : served(which == serving::coroutine ? Server::Handler(echo_coro) : Server::Handler(echo), config, tls) {
    if (which == serving::pkg_handler) {
      server.SetPkgHandler([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
    }
  }
  ~served() { server.CloseAndWait(gtcp_test::ceiling); }

  std::string address() const { return server.GetListenedAddress(); }
  std::size_t errors() const {
    const std::lock_guard lock(errors_->mutex);
    return errors_->list.size();
  }
  std::system_error error(std::size_t index = 0) const {
    EXPECT_TRUE(poll_until([&] { return errors() > index; }));
    const std::lock_guard lock(errors_->mutex);
    return errors_->list.size() > index ? errors_->list[index] : std::system_error(std::error_code(), "none");
  }

  Server server;

 private:
  struct error_list {
    std::mutex mutex;
    std::vector<std::system_error> list;
  };
  std::shared_ptr<error_list> errors_ = std::make_shared<error_list>();
};

/// An echo that first says what was agreed on its connection.
Server::Handler telling_echo(std::promise<TLSState>& agreed) {
  return [&agreed](Conn conn) {
    agreed.set_value(gtcp::GetTLSState(conn));
    echo(conn);
  };
}

void expect_echo(const Conn& conn, const std::string& text = "hello") {
  std::error_code error;
  const std::string reply = conn.SendRecvPkgWithTimeout(text, gtcp_test::ceiling, error);
  EXPECT_TRUE(reply == text) << reply.size() << " instead of " << text.size() << " bytes";
  EXPECT_FALSE(error) << error.message();
}

asio::ip::tcp::socket raw_client(const std::string& address) {
  asio::ip::tcp::socket socket(raw_context());
  const auto port = static_cast<unsigned short>(std::stoi(address.substr(address.rfind(':') + 1)));
  socket.connect({asio::ip::address_v4::loopback(), port});
  return socket;
}

std::error_code verify_error(int value) { return {value, gtcp::CertificateErrorCategory()}; }

// ---- Connecting and serving

TEST(TlsConn, ServesThreadsAndCoroutines) {
  for (const bool coroutines : {false, true}) {
    served echoing(coroutines ? Server::Handler(echo_coro) : Server::Handler(echo));
    Conn conn = gtcp::NewConnTLS(echoing.address(), client_context());
    expect_echo(conn);
    expect_echo(conn, gtcp_test::pattern(60'000));
    expect_echo(conn, "");
    conn.Close();
    EXPECT_EQ(echoing.errors(), 0u);
  }
}

TEST(TlsConn, ConnectsAsynchronously) {
  served echoing(echo_coro);
  const auto talk = [&]() -> asio::awaitable<std::string> {
    Conn conn = co_await gtcp::AsyncNewConnTLS(echoing.address(), client_context());
    expect_echo(conn);
    gtcp::TLSOption tls;
    tls.ServerName = "localhost";
    conn = co_await gtcp::AsyncNewConnTLS(echoing.address(), client_context(), 10s, tls);
    const std::string hello = "hello";
    std::string reply = co_await conn.AsyncSendRecvPkg(hello);
    co_return reply;
  };
  asio::io_context context;
  auto reply = asio::co_spawn(context, talk(), asio::use_future);
  context.run();
  EXPECT_EQ(reply.get(), "hello");

  auto connected = gtcp::AsyncNewConnTLS(echoing.address(), client_context(), asio::use_future);
  ASSERT_TRUE(comes(connected));
  expect_echo(connected.get());
}

TEST(TlsConn, ConnectsByUnixSocketAndServerName) {
  const gtcp_test::socket_path path;
  Server server("unix:" + path.str(), echo);
  server.SetTLSConfig(server_context(test_authority().issue({.names = "DNS:somewhere.example"})));
  server.Start();
  Conn conn = gtcp::NewConnTLS("unix:" + path.str(), client_context(), {.ServerName = "somewhere.example"});
  expect_echo(conn);
  EXPECT_EQ(gtcp::GetTLSState(conn).ServerName, "somewhere.example");
}

TEST(TlsConn, TellsWhatWasAgreed) {
  std::promise<TLSState> at_server;
  served echoing(telling_echo(at_server), server_context(), {.NextProtos = {"gtcp/2", "gtcp/1"}});
  gtcp::TLSOption tls;
  tls.ServerName = "localhost";
  tls.NextProtos = {"gtcp/1", "gtcp/2"};
  const Conn conn = gtcp::NewConnTLS(echoing.address(), client_context(), tls);
  expect_echo(conn);
  const TLSState client = gtcp::GetTLSState(conn);
  const TLSState server = at_server.get_future().get();
  EXPECT_TRUE(client.HandshakeComplete);
  EXPECT_EQ(client.Version, "TLSv1.3");
  EXPECT_EQ(server.Version, "TLSv1.3");
  EXPECT_FALSE(client.CipherSuite.empty());
  EXPECT_EQ(client.NegotiatedProtocol, "gtcp/2");  // the server's order counts
  EXPECT_EQ(server.NegotiatedProtocol, "gtcp/2");
  EXPECT_EQ(server.ServerName, "localhost");
  EXPECT_TRUE(client.PeerVerified);
  EXPECT_EQ(client.PeerSubject, "CN=localhost");
  EXPECT_EQ(client.PeerIssuer, "CN=gtcp test authority");
  EXPECT_EQ(client.PeerDNSNames, std::vector<std::string>{"localhost"});
  EXPECT_EQ(client.PeerIPAddresses, std::vector<std::string>{"127.0.0.1"});
  EXPECT_FALSE(server.HasPeerCertificate);
  EXPECT_FALSE(gtcp::GetTLSState(Conn()).HandshakeComplete);
}

TLSConfig mutual_context() {
  TLSConfig config = server_context();
  config->add_certificate_authority(asio::buffer(test_authority().crt()));
  config->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
  return config;
}

TLSConfig client_context_with(const certificate& own) {
  TLSConfig config = client_context();
  config->use_certificate_chain(asio::buffer(own.crt()));
  config->use_private_key(asio::buffer(own.key()), asio::ssl::context::pem);
  return config;
}

TEST(TlsConn, ShowsTheClientsNamesUnderMutualTls) {
  std::promise<TLSState> at_server;
  served echoing(telling_echo(at_server), mutual_context());
  const certificate own = test_authority().issue(
      {.common_name = "client 7", .names = "DNS:seven.example,email:7@example.com,URI:spiffe://example/7,IP:::1"});
  const Conn conn = gtcp::NewConnTLS(echoing.address(), client_context_with(own));
  expect_echo(conn);
  const TLSState client = at_server.get_future().get();
  EXPECT_TRUE(client.HasPeerCertificate);
  EXPECT_TRUE(client.PeerVerified);
  EXPECT_EQ(client.PeerSubject, "CN=client 7");
  EXPECT_EQ(client.PeerDNSNames, std::vector<std::string>{"seven.example"});
  EXPECT_EQ(client.PeerEmailAddresses, std::vector<std::string>{"7@example.com"});
  EXPECT_EQ(client.PeerURIs, std::vector<std::string>{"spiffe://example/7"});
  EXPECT_EQ(client.PeerIPAddresses, std::vector<std::string>{"::1"});
}

TEST(TlsConn, RefusesClientsWithoutACertificateUnderMutualTls) {
  served echoing(echo, mutual_context());
  std::error_code error;
  const Conn conn = gtcp::NewConnTLS(echoing.address(), client_context(), error);
  // By TLS 1.3 the client learns it with its first receive.
  if (!error) conn.RecvPkg(error);
  EXPECT_NE(error.message().find("certificate required"), std::string::npos) << error.message();
  EXPECT_NE(std::string(echoing.error().what()).find("peer did not return a certificate"), std::string::npos)
      << echoing.error().what();
}

TEST(TlsConn, ResumesASessionWhereTheServerAllowsIt) {
  const TLSConfig client = client_context_with(test_authority().issue({.common_name = "client 9"}));
  for (const TLSConfig& server : {server_context(), mutual_context()}) {
    for (const bool allowed : {false, true}) {
      served echoing(echo, server, {.SessionResumption = allowed});
      const Conn first = gtcp::NewConnTLS(echoing.address(), client);
      expect_echo(first);
      gtcp::TLSOption tls;
      tls.Session = gtcp::GetTLSSession(first);
      EXPECT_EQ(tls.Session != nullptr, allowed);
      const Conn second = gtcp::NewConnTLS(echoing.address(), client, tls);
      expect_echo(second);
      EXPECT_EQ(gtcp::GetTLSState(second).DidResume, allowed);
    }
  }
}

TEST(TlsOptions, GiveAHandshakeAndAnIdleConnectionTenSeconds) {
  EXPECT_EQ(gtcp::TLSOption().HandshakeTimeout, 10s);
  EXPECT_EQ(gtcp::PoolOption().IdleTime, 10s);
}

// ---- Servers with a name

/// A name that no test has used, for tests that are repeated.
TEST(NewServerTLS, ServesUnderItsName) {
  const std::string name = fresh_name();
  const Server server = gtcp::NewServerTLS("127.0.0.1:0", server_context(), echo, name, {}, {.NextProtos = {"x/1"}});
  EXPECT_EQ(gtcp::GetServer(name), server);
  server.Start();
  const Conn conn = gtcp::NewConnTLS(server.GetListenedAddress(), client_context(), {.NextProtos = {"x/2", "x/1"}});
  expect_echo(conn);
  EXPECT_EQ(gtcp::GetTLSState(conn).NegotiatedProtocol, "x/1");
  conn.Close();
  EXPECT_TRUE(server.CloseAndWait(gtcp_test::ceiling));
}

TEST(NewServerKeyCrt, GivesItsNameOnlyToAServerWithAGoodPair) {
  const scratch_folder folder;
  const std::string crt = folder.write("server.crt", test_certificate().crt());
  const std::string key = folder.write("server.key", test_certificate().key());
  const std::string wrong = folder.write("other.key", test_authority().key());
  const std::string name = fresh_name();
  const Server server = gtcp::NewServerKeyCrt("127.0.0.1:0", crt, key, echo, name);
  EXPECT_EQ(gtcp::GetServer(name), server);
  std::error_code error;
  EXPECT_NE(gtcp::NewServerKeyCrt("127.0.0.1:0", crt, wrong, echo, name, {}, error), server);
  EXPECT_NE(error.message().find("key values mismatch"), std::string::npos) << error.message();
  EXPECT_EQ(gtcp::GetServer(name), server);
  gtcp::NewServerKeyCrt("127.0.0.1:0", crt, wrong, echo, error);
  EXPECT_NE(error.message().find("key values mismatch"), std::string::npos) << error.message();
  gtcp::NewServerKeyCrt("127.0.0.1:0", crt, key, echo, error);
  EXPECT_FALSE(error) << error.message();
  gtcp::NewServerKeyCrt("127.0.0.1:0", crt, wrong, echo, error);
  const std::string text = text_of_error(error, [&] { gtcp::NewServerKeyCrt("127.0.0.1:0", crt, wrong, echo, name); });
  EXPECT_NE(text.find(wrong), std::string::npos) << text;
  EXPECT_EQ(gtcp::GetServer(name), server);
  const certificate expired = test_authority().issue({.valid_from = -7200, .valid_until = -3600});
  const std::string old_crt = folder.write("old.crt", expired.crt());
  const std::string old_key = folder.write("old.key", expired.key());
  EXPECT_NE(gtcp::NewServerKeyCrt("127.0.0.1:0", old_crt, old_key, echo, name, {}, error), server);
  EXPECT_EQ(error, verify_error(X509_V_ERR_CERT_HAS_EXPIRED)) << error.message();
  EXPECT_EQ(gtcp::GetServer(name), server);
  const Server other = gtcp::NewServerKeyCrt("127.0.0.1:0", crt, key, echo, name);
  EXPECT_EQ(gtcp::GetServer(name), other);
}

// ---- Files

TEST(Readme, Tls) {
  const gtcp_test::scratch_folder folder;
  const std::string address = "127.0.0.1:0";
  const std::string crt_file = folder.write("own.crt", gtcp_test::test_certificate().crt());
  const std::string key_file = folder.write("own.key", gtcp_test::test_certificate().key());
  const std::string authority_file = folder.write("authority.crt", gtcp_test::test_authority().crt());
  // README: TLS
  gtcp::Server server = gtcp::NewServerKeyCrt(address, crt_file, key_file, [](gtcp::Conn conn) {
    for (;;) conn.SendPkg(conn.RecvPkg());
  });
  server.Start();

  gtcp::TLSConfig config = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_client);
  config->load_verify_file(authority_file);
  gtcp::Conn conn = gtcp::NewConnTLS(server.GetListenedAddress(), config);
  // README: end
  EXPECT_EQ(conn.SendRecvPkg("hello"), "hello");
}

TEST(LoadKeyCrt, LoadsAPairForBothSides) {
  const scratch_folder folder;
  const std::string crt = folder.write("server.crt", test_certificate().crt());
  const std::string key = folder.write("server.key", test_certificate().key());
  const Server server = gtcp::NewServerKeyCrt("127.0.0.1:0", crt, key, echo);
  server.Start();
  const TLSConfig config = gtcp::LoadKeyCrt(crt, key);
  config->add_certificate_authority(asio::buffer(test_authority().crt()));
  expect_echo(gtcp::NewConnTLS(server.GetListenedAddress(), config));
  // Nothing that this system trusts has signed it.
  std::error_code error;
  gtcp::NewConnKeyCrt(server.GetListenedAddress(), crt, key, gtcp_test::ceiling, error);
  EXPECT_EQ(error, verify_error(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY)) << error.message();
  EXPECT_FALSE(gtcp::NewConnKeyCrt(server.GetListenedAddress(), key, crt, error));
  EXPECT_TRUE(error);
}

TEST(NewConnKeyCrt, ShowsItsCertificateToTheServer) {
  const scratch_folder folder;
  const certificate own = test_authority().issue({.common_name = "client 8"});
  const std::string crt = folder.write("client.crt", own.crt());
  const std::string key = folder.write("client.key", own.key());
  std::promise<TLSState> at_server;
  served echoing(telling_echo(at_server), mutual_context());
  // The system does not trust who signed the server's.
  gtcp::TLSOption tls;
  tls.InsecureSkipVerify = true;
  expect_echo(gtcp::NewConnKeyCrt(echoing.address(), crt, key, gtcp_test::ceiling, tls));
  auto agreed = at_server.get_future();
  ASSERT_TRUE(comes(agreed));
  const TLSState client = agreed.get();
  EXPECT_TRUE(client.PeerVerified);
  EXPECT_EQ(client.PeerSubject, "CN=client 8");
}

TEST(LoadKeyCrt, NamesAFileThatIsMissing) {
  const scratch_folder folder;
  const std::string crt = folder.write("server.crt", test_certificate().crt());
  const std::string missing = folder.file("missing");
  const auto no_file = std::make_error_code(std::errc::no_such_file_or_directory);
  EXPECT_NE(text_of_error(no_file, [&] { gtcp::LoadKeyCrt(missing, crt); }).find("certificate \"" + missing),
            std::string::npos);
  EXPECT_NE(text_of_error(no_file, [&] { gtcp::LoadKeyCrt(crt, missing); }).find("key \"" + missing),
            std::string::npos);
  EXPECT_NE(text_of_error(no_file, [&] { gtcp::NewServerKeyCrt(":0", crt, missing, echo); }).find(missing),
            std::string::npos);
  EXPECT_NE(text_of_error(no_file, [&] { gtcp::NewConnKeyCrt("127.0.0.1:1", missing, crt); }).find(missing),
            std::string::npos);
#if defined(__linux__)
  // Nor is a path looked for beside the program, as in Go.
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe").filename();
  if (!std::filesystem::exists(beside)) {
    EXPECT_NE(text_of_error(no_file, [&] { gtcp::LoadKeyCrt(beside.string(), crt); }).find(beside.string()),
              std::string::npos);
  }
#endif
}

TEST(LoadKeyCrt, RefusesAKeyOfAnotherCertificate) {
  const scratch_folder folder;
  const std::string crt = folder.write("server.crt", test_certificate().crt());
  const std::string key = folder.write("other.key", test_authority().key());
  std::error_code error;
  EXPECT_EQ(gtcp::LoadKeyCrt(crt, key, error), nullptr);
  EXPECT_NE(error.message().find("key values mismatch"), std::string::npos) << error.message();
  EXPECT_NE(text_of_error(error, [&] { gtcp::LoadKeyCrt(crt, key); }).find(key), std::string::npos);
}

TEST(LoadKeyCrt, RefusesFilesThatAreNone) {
  const scratch_folder folder;
  const std::string crt = folder.write("server.crt", test_certificate().crt());
  const std::string key = folder.write("server.key", test_certificate().key());
  const std::string garbage = folder.write("garbage", "no PEM at all\n");
  const std::string empty = folder.write("empty", "");
  for (const std::string& bad : {garbage, empty}) {
    std::error_code error;
    EXPECT_EQ(gtcp::LoadKeyCrt(bad, key, error), nullptr);
    EXPECT_EQ(error.category(), asio::error::get_ssl_category()) << error.message();
    EXPECT_EQ(gtcp::LoadKeyCrt(crt, bad, error), nullptr);
    EXPECT_EQ(error.category(), asio::error::get_ssl_category()) << error.message();
  }
}

TEST(SetTLSKeyCrt, ReplacesTheCertificateWhileConnectionsGoOn) {
  const scratch_folder folder;
  const certificate next = test_authority().issue({.common_name = "next"});
  served echoing(echo);
  const Conn old = gtcp::NewConnTLS(echoing.address(), client_context());
  expect_echo(old);
  echoing.server.SetTLSKeyCrt(folder.write("crt", next.crt()), folder.write("key", next.key()));
  const Conn fresh = gtcp::NewConnTLS(echoing.address(), client_context());
  EXPECT_EQ(gtcp::GetTLSState(fresh).PeerSubject, "CN=next");
  EXPECT_EQ(gtcp::GetTLSState(old).PeerSubject, "CN=localhost");
  expect_echo(fresh);
  expect_echo(old);
}

TEST(SetTLSKeyCrt, KeepsTheOldPairIfTheNewOneIsBad) {
  const scratch_folder folder;
  const std::string crt = folder.write("crt", test_certificate().crt());
  const std::string key = folder.write("key", test_certificate().key());
  const certificate expired = test_authority().issue({.valid_from = -7200, .valid_until = -3600});
  const certificate early = test_authority().issue({.valid_from = 3600, .valid_until = 7200});
  served echoing(echo);
  std::error_code error;
  echoing.server.SetTLSKeyCrt(crt, folder.write("wrong", test_authority().key()), error);
  EXPECT_EQ(error.category(), asio::error::get_ssl_category());
  echoing.server.SetTLSKeyCrt(folder.file("missing"), key, error);
  EXPECT_EQ(error, std::errc::no_such_file_or_directory);
  echoing.server.SetTLSKeyCrt(folder.write("old", expired.crt()), folder.write("old.key", expired.key()), error);
  EXPECT_EQ(error, verify_error(X509_V_ERR_CERT_HAS_EXPIRED));
  echoing.server.SetTLSKeyCrt(folder.write("new", early.crt()), folder.write("new.key", early.key()), error);
  EXPECT_EQ(error, verify_error(X509_V_ERR_CERT_NOT_YET_VALID));
  const Conn conn = gtcp::NewConnTLS(echoing.address(), client_context());
  EXPECT_EQ(gtcp::GetTLSState(conn).PeerSubject, "CN=localhost");
  expect_echo(conn);
}

TEST(SetTLSKeyCrt, LeavesMutualTlsOn) {
  const scratch_folder folder;
  served echoing(echo, mutual_context());
  echoing.server.SetTLSKeyCrt(folder.write("crt", test_certificate().crt()),
                              folder.write("key", test_certificate().key()));
  std::error_code error;
  const Conn conn = gtcp::NewConnTLS(echoing.address(), client_context(), error);
  if (!error) conn.RecvPkg(error);
  EXPECT_NE(error.message().find("certificate required"), std::string::npos) << error.message();
}

TEST(SetTLSKeyCrt, MayBeCalledWhileClientsConnect) {
  const scratch_folder folder;
  const certificate other = test_authority().issue({.common_name = "other"});
  const std::string crts[] = {folder.write("a.crt", test_certificate().crt()), folder.write("b.crt", other.crt())};
  const std::string keys[] = {folder.write("a.key", test_certificate().key()), folder.write("b.key", other.key())};
  served echoing(echo);
  std::atomic<bool> done{false};
  std::thread swapping([&] {
    for (std::size_t i = 0; !done; ++i) echoing.server.SetTLSKeyCrt(crts[i % 2], keys[i % 2]);
  });
  const TLSConfig config = client_context();
  for (int i = 0; i < 50; ++i) expect_echo(gtcp::NewConnTLS(echoing.address(), config));
  done = true;
  swapping.join();
  EXPECT_EQ(echoing.errors(), 0u);
}

// ---- What is refused

TEST(TlsConn, RefusesAnExpiredCertificate) {
  const certificate expired = test_authority().issue({.valid_from = -7200, .valid_until = -3600});
  served echoing(echo, server_context(expired));
  std::error_code error;
  EXPECT_FALSE(gtcp::NewConnTLS(echoing.address(), client_context(), error));
  EXPECT_EQ(error, verify_error(X509_V_ERR_CERT_HAS_EXPIRED)) << error.message();
  const std::string text = text_of_error(error, [&] { gtcp::NewConnTLS(echoing.address(), client_context()); });
  EXPECT_NE(text.find("certificate has expired"), std::string::npos) << text;
  EXPECT_NE(text.find(echoing.address() + "\": TLS handshake"), std::string::npos) << text;
  // The server is told why.
  const std::string told = echoing.error().what();
  EXPECT_NE(told.find("certificate expired"), std::string::npos) << told;
  EXPECT_NE(told.find("handshake [127.0.0.1:"), std::string::npos) << told;
}

TEST(TlsConn, RefusesAnotherHostsCertificateUnlessToldOtherwise) {
  served echoing(echo, server_context(test_authority().issue({.names = "DNS:elsewhere.example"})));
  std::error_code error;
  gtcp::NewConnTLS(echoing.address(), client_context(), error);
  EXPECT_EQ(error, verify_error(X509_V_ERR_IP_ADDRESS_MISMATCH)) << error.message();
  gtcp::NewConnTLS(echoing.address(), client_context(), {.ServerName = "localhost"}, error);
  EXPECT_EQ(error, verify_error(X509_V_ERR_HOSTNAME_MISMATCH)) << error.message();
  gtcp::TLSOption careless;
  careless.InsecureSkipVerify = true;
  expect_echo(gtcp::NewConnTLS(echoing.address(), client_context(), careless));
}

TEST(TlsConn, ChecksTheChainAlsoWithAContextThatDoesNot) {
  served echoing(echo, server_context(certificate::authority("stranger").issue()));
  TLSConfig config = client_context();
  config->set_verify_mode(asio::ssl::verify_none);
  std::error_code error;
  gtcp::NewConnTLS(echoing.address(), config, error);
  EXPECT_EQ(error.category(), gtcp::CertificateErrorCategory()) << error.message();
  gtcp::NewConnTLS(echoing.address(), nullptr, error);  // the system's authorities
  EXPECT_EQ(error.category(), gtcp::CertificateErrorCategory()) << error.message();
}

TEST(TlsConn, RefusesBadOptionsBeforeAnything) {
  std::error_code error;
  gtcp::TLSOption tls;
  tls.HandshakeTimeout = -1ns;
  const auto connect = [&] { gtcp::NewConnTLS("127.0.0.1:1", client_context(), tls); };
  EXPECT_NE(text_of_error(Errc::InvalidOption, connect).find("HandshakeTimeout is -1 ns"), std::string::npos);
  EXPECT_NE(text_of_error(Errc::InvalidOption, [&] { Server().SetTLSConfig(server_context(), tls); }).find("-1 ns"),
            std::string::npos);
  tls = {};
  tls.NextProtos = {std::string(256, 'x')};
  EXPECT_NE(text_of_error(Errc::InvalidOption, connect).find("a name of 256"), std::string::npos);
  tls.NextProtos = {""};
  EXPECT_NE(text_of_error(Errc::InvalidOption, connect).find("a name of 0"), std::string::npos);
  EXPECT_NE(text_of_error(Errc::InvalidAddress, [] { gtcp::NewConnTLS("nowhere", nullptr); }).find("\"nowhere\""),
            std::string::npos);
}

TEST(TlsServer, IsNotMadeWithoutAConfiguration) {
  // Else a configuration that could not be loaded would make a server that speaks plain text.
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [] { gtcp::NewServerTLS("127.0.0.1:0", nullptr, echo); }),
            "NewServerTLS: the configuration is nullptr: " + make_error_code(Errc::InvalidOption).message());
}

TEST(TlsConn, TellsAPlainServer) {
  served plain([](Conn conn) { conn.Send("this is no TLS\n"); }, nullptr);
  std::error_code error;
  EXPECT_FALSE(gtcp::NewConnTLS(plain.address(), client_context(), error));
  EXPECT_NE(error.message().find("wrong version number"), std::string::npos) << error.message();
}

TEST(TlsConn, GivesUpAServerThatSaysNothing) {
  std::promise<void> done;
  auto waits = done.get_future().share();
  served silent([waits](Conn) { waits.wait(); }, nullptr);
  gtcp::TLSOption tls;
  tls.HandshakeTimeout = 1ms;
  std::error_code error;
  gtcp::NewConnTLS(silent.address(), client_context(), tls, error);
  EXPECT_EQ(error, Errc::Timeout);
  gtcp::NewConnTLS(silent.address(), client_context(), 20ms, {}, {}, error);
  EXPECT_EQ(error, Errc::Timeout);
  auto asynchronous = gtcp::AsyncNewConnTLS(silent.address(), client_context(), 1h, tls, {},
                                            asio::redirect_error(asio::use_future, error));
  asynchronous.get();
  EXPECT_EQ(error, Errc::Timeout);
  done.set_value();
}

TEST(TlsConn, CancelsAHandshake) {
  std::promise<void> done;
  auto waits = done.get_future().share();
  std::atomic<int> connected{0};
  served silent(
      [&, waits](Conn conn) {
        conn.Recv(1);
        ++connected;
        waits.wait();
      },
      nullptr);
  std::stop_source stop;
  std::thread stopping([&] {
    EXPECT_TRUE(poll_until([&] { return connected == 1; }));
    stop.request_stop();
  });
  std::error_code error;
  gtcp::NewConnTLS(silent.address(), client_context(), 0s, {}, {}, error, stop.get_token());
  EXPECT_EQ(error, asio::error::operation_aborted);
  stopping.join();

  asio::io_context context;
  asio::cancellation_signal signal;
  std::error_code cancelled;
  gtcp::AsyncNewConnTLS(silent.address(), client_context(),
                        asio::bind_cancellation_slot(
                            signal.slot(), asio::bind_executor(context.get_executor(),
                                                               [&](std::error_code ec, Conn) { cancelled = ec; })));
  EXPECT_TRUE(poll_until([&] { return connected == 2; }));
  signal.emit(asio::cancellation_type::all);
  context.run();
  EXPECT_EQ(cancelled, asio::error::operation_aborted);
  done.set_value();
}

TEST(TlsServer, TellsAPlainClient) {
  served echoing(echo);
  const Conn plain = gtcp::NewConn(echoing.address());
  std::error_code error;
  plain.SendPkg("hello, is there anybody?", error);
  EXPECT_NE(std::string(echoing.error().what()).find("wrong version number"), std::string::npos)
      << echoing.error().what();
  // It gets what TLS says of it, and the end.
  EXPECT_TRUE(poll_until([&] {
    plain.Recv(1, error);
    return static_cast<bool>(error);
  }));
}

TEST(TlsServer, ClosesAfterGarbage) {
  served echoing(echo);
  const Conn good = gtcp::NewConnTLS(echoing.address(), client_context());
  for (const std::string& garbage : {std::string(5000, '\0'), gtcp_test::pattern(3000),
                                     std::string("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10)}) {
    const std::size_t before = echoing.errors();
    gtcp_test::raw_peer peer(raw_client(echoing.address()));
    peer.write(garbage);
    const std::system_error told = echoing.error(before);
    EXPECT_EQ(told.code().category(), asio::error::get_ssl_category()) << told.what();
    EXPECT_NE(std::string(told.what()).find("handshake [127.0.0.1:"), std::string::npos) << told.what();
    std::string answer;
    try {
      answer = peer.read_to_end();
    } catch (const std::system_error&) {  // a reset is an end, too
    }
    EXPECT_LT(answer.size(), 100u);
  }
  expect_echo(good);
}

TEST(TlsServer, ClosesAHalfHandshakeAtItsDeadlineAndServesOthersMeanwhile) {
  for (const serving which : gtcp_test::all_kinds) {
    SCOPED_TRACE(name_of(which));
    gtcp::TLSOption tls;
    tls.HandshakeTimeout = 2s;
    served echoing(which, server_context(), tls);
    std::vector<gtcp_test::raw_peer> halves;
    for (int i = 0; i < 5; ++i) {
      halves.emplace_back(raw_client(echoing.address()));
      halves.back().write(std::string_view("\x16\x03\x01\x02\x00\x01", 6));  // the begin of a hello
    }
    expect_echo(gtcp::NewConnTLS(echoing.address(), client_context()));
    EXPECT_EQ(echoing.errors(), 0u);  // it has not waited for the end of a half one
    for (auto& half : halves) {
      try {
        half.read_to_end();
      } catch (const std::system_error& end) {
        EXPECT_EQ(end.code(), asio::error::connection_reset);
      }
    }
    for (std::size_t i = 0; i < halves.size(); ++i) EXPECT_EQ(echoing.error(i).code(), Errc::Timeout);
    expect_echo(gtcp::NewConnTLS(echoing.address(), client_context()));
  }
}

TEST(TlsServer, CountsAHandshakeAsAConnection) {
  gtcp::TLSOption tls;
  tls.HandshakeTimeout = 300ms;
  served echoing(echo, server_context(), tls);
  gtcp::ServerOption option;
  option.MaxConns = 1;
  option.ErrorCallback = [](const Conn&, const std::exception_ptr&) {};
  echoing.server.SetOption(option);
  gtcp_test::raw_peer half(raw_client(echoing.address()));
  EXPECT_TRUE(poll_until([&] { return echoing.server.Stats().Active == 1; }));
  std::error_code error;
  gtcp::NewConnTLS(echoing.address(), client_context(), error);
  EXPECT_TRUE(error);
  EXPECT_EQ(echoing.server.Stats().Refused["max_conns"], 1u);
  EXPECT_TRUE(gtcp_test::is_over(half));
  EXPECT_TRUE(poll_until([&] { return echoing.server.Stats().Active == 0; }));
  EXPECT_EQ(echoing.server.Stats().Closed["handshake_timeout"], 1u);
  expect_echo(gtcp::NewConnTLS(echoing.address(), client_context()));
}

TEST(TlsServer, CountsARecordThatDripsAsAPackage) {
  served echoing(echo);
  gtcp::ServerOption option;
  option.PkgTimeout = 50ms;
  echoing.server.SetOption(option);
  const Conn conn = gtcp::NewConnTLS(echoing.address(), client_context());
  expect_echo(conn);
  // Of a record of 16 KiB a byte for each answer that another one gets, below the client's TLS: never all of it in
  // time.
  const Conn other = gtcp::NewConnTLS(echoing.address(), client_context());
  std::string record("\x17\x03\x03\x40\x00", 5);
  record += std::string(16'384, 'x');
  std::size_t sent = 0;
  EXPECT_TRUE(poll_until([&] {
    const asio::const_buffer byte(&record[sent++ % record.size()], 1);
    gtcp::detail::write_some(conn.GetNativeHandle(), std::span(&byte, 1));
    expect_echo(other);
    return echoing.server.Stats().Active == 1;
  }));
  EXPECT_EQ(echoing.server.Stats().Closed["pkg_timeout"], 1u);
}

TEST(TlsServer, EndsHandshakesWhenItCloses) {
  for (const bool coroutines : {false, true}) {
    gtcp::TLSOption tls;
    tls.HandshakeTimeout = 0s;
    served echoing(coroutines ? Server::Handler(echo_coro) : Server::Handler(echo), server_context(), tls);
    gtcp_test::raw_peer half(raw_client(echoing.address()));
    half.write(std::string_view("\x16\x03", 2));
    expect_echo(gtcp::NewConnTLS(echoing.address(), client_context()));  // so the half one was accepted, too
    half.end_sending();
    echoing.server.Close();
    std::error_code error;
    echoing.server.CloseAndWait(gtcp_test::ceiling, error);
    EXPECT_FALSE(error) << error.message();
  }
}

TEST(TlsDeathTest, LeavesOpenSslToIoThreadsThatOutliveMain) {
  // OpenSSL calls what was given to OPENSSL_atexit() before it frees everything.
  EXPECT_EXIT(
      {
        client_context();
        ::OPENSSL_atexit([] { std::_Exit(3); });
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(TlsServer, SpeaksPlainAgain) {
  served echoing(echo);
  const Conn secret = gtcp::NewConnTLS(echoing.address(), client_context());
  expect_echo(secret);
  echoing.server.SetTLSConfig(nullptr);
  expect_echo(gtcp::NewConn(echoing.address()));
  expect_echo(secret);
}

}  // namespace
