// SPDX-License-Identifier: MIT

// Packages in both directions through a network that does everything to them: each arrives whole, once and in order, or
// its connection fails with an error; and no connection fails that the network has spared.

#include <gtcp/dial.hpp>
#include <gtcp/server.hpp>
#include <gtcp/tls.hpp>

#include "fault/echo_support.hpp"
#include "support/fault_proxy.hpp"
#include "support/poll_until.hpp"
#include "support/stress_support.hpp"
#include "support/tls_certificates.hpp"

#include <asio/ssl/error.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <tuple>

namespace {

using gtcp::Conn;
using gtcp::Errc;
using gtcp_test::dice;
using gtcp_test::fault;
using gtcp_test::fault_proxy;
using gtcp_test::rounds;
using gtcp_test::sequence;
using gtcp_test::serving;
namespace numbered = gtcp_test::numbered;

/// With TLS the fault may also hit the handshake, or the end of the stream.
bool may_end_with(const std::error_code& error) {
  return gtcp_test::may_end_with(error) || error == Errc::TlsTruncated ||
         error.category() == asio::error::get_ssl_category();
}

/// Sends a package in one way or another.
void send(const Conn& conn, dice& roll, std::size_t way, const std::string& pkg, std::error_code& error) {
  switch (way) {
    case 0: conn.SendPkg(pkg, error); break;
    case 1:
      if (!conn.TrySendPkg(pkg, error) && !error) conn.SendPkg(pkg, error);
      break;
    case 2:
      // One that times out was not sent; in the default mode that is certain.
      do {
        conn.SendPkgWithTimeout(pkg, roll.microseconds(300), error);
      } while (error == Errc::Timeout);
      break;
    case 3:
      try {
        conn.AsyncSendPkg(pkg, asio::use_future).get();
        error.clear();
      } catch (const std::system_error& failure) {
        error = failure.code();
      }
      break;
    default: {
      const gtcp::Cork together(conn);
      conn.SendPkg(pkg, error);
      break;
    }
  }
}

/// Sends packages over one connection and receives each of them back, `most` at the most; returns how many.
std::uint32_t talk(const Conn& conn, std::uint32_t sender, std::uint32_t most, std::error_code& error) {
  // What is sent follows from the seed and the sender; in which way also from what the system does meanwhile.
  dice content(sender);
  dice ways(sender + 1'000'000'000);
  sequence came(sender);
  std::uint32_t sent = 0;
  std::string pkg;
  while (came.count() < most && !error) {
    const auto way = ways(5);
    for (auto count = std::min<std::size_t>(1 + content(64), most - sent); count != 0 && !error; --count) {
      send(conn, ways, way, numbered::make(sender, sent, gtcp_test::package_size(content)), error);
      if (!error) ++sent;
    }
    std::error_code failure;
    while (came.count() < sent && !failure) {
      if (ways.one_in(4)) {
        conn.RecvPkgWithTimeout(pkg, ways.microseconds(200), failure);
        if (failure == Errc::Timeout) {  // nothing is lost by it
          failure.clear();
          continue;
        }
      } else {
        conn.RecvPkgWithTimeout(pkg, gtcp_test::ceiling, failure);
        EXPECT_NE(failure, Errc::Timeout) << "a package neither came, nor did its connection fail";
      }
      if (!failure) came.check(pkg);
    }
    if (failure) error = failure;
  }
  return came.count();
}

class FaultProxyEcho : public testing::TestWithParam<std::tuple<serving, bool>> {};

TEST_P(FaultProxyEcho, DeliversEachPackageOnceOrFailsTheConnection) {
  const gtcp_test::seed_report report;
  gtcp_test::print_seed();
  const serving which = std::get<0>(GetParam());
  const bool tls = std::get<1>(GetParam());
  constexpr int clients = 16;
  constexpr std::size_t one_is_spared_in = 3;
  const int all = tls ? rounds(8'000, 200'000) : rounds(24'000, 1'000'000);
  const auto packages = static_cast<std::uint32_t>(all / clients);
  gtcp::ServerOption option;
  std::atomic<int> unexpected{0};
  option.ErrorCallback = [&unexpected](const Conn&, std::exception_ptr failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
      if (!may_end_with(error.code())) ++unexpected;
    }
  };
  gtcp::Server server("127.0.0.1:0", nullptr, option);
  gtcp_test::echo_checked(server, which);
  if (tls) server.SetTLSConfig(gtcp_test::server_context());
  server.Start();
  std::atomic<std::uint32_t> echoed{0};
  {
    fault_proxy proxy(server.GetListenedPort(), {.listeners = std::size_t{clients},
                                                 .one_is_spared_in = one_is_spared_in,
                                                 .header_size = std::size_t{tls ? 0u : 2u}});
    gtcp_test::thread_group threads;
    for (std::uint32_t client = 0; client < clients; ++client) {
      threads.run([&, client] {
        std::uint32_t number = 0;
        for (std::uint32_t done = 0; done < packages && !testing::Test::HasFailure(); ++number) {
          const bool is_spared = proxy.spares(client, number);
          std::error_code error;
          gtcp::TLSOption name;
          name.ServerName = "localhost";
          const Conn conn = tls ? gtcp::NewConnTLS(proxy.address(client), gtcp_test::client_context(), name, error)
                                : gtcp::NewConn(proxy.address(client), error);
          if (!error) {
            const std::uint32_t life = std::min<std::uint32_t>(packages - done, 3'000);
            const std::uint32_t came = talk(conn, client * 1'000'000 + number, life, error);
            done += came;
            echoed += came;
          }
          EXPECT_TRUE(!error || may_end_with(error)) << error.message();
          EXPECT_FALSE(is_spared && error) << error.message() << ", without a fault";
        }
      });
    }
    threads.join();
    std::printf("%u packages there and back; %s\n", echoed.load(), proxy.summary().c_str());
    std::size_t hit = 0;
    for (const fault what : {fault::reset, fault::half_close, fault::cut, fault::truncate}) {
      hit += proxy.ended_by(what);
      EXPECT_TRUE(!gtcp_test::in_full() || proxy.ended_by(what) > 0) << name_of(what);
    }
    EXPECT_GT(hit, 0u);
  }
  EXPECT_EQ(echoed, packages * clients);
  EXPECT_EQ(unexpected, 0);
  server.CloseAndWait(gtcp_test::ceiling);
}

INSTANTIATE_TEST_SUITE_P(Of, FaultProxyEcho, testing::Combine(testing::ValuesIn(gtcp_test::all_kinds), testing::Bool()),
                         [](const auto& each) {
                           return name_of(std::get<0>(each.param)) + (std::get<1>(each.param) ? "Tls" : "");
                         });

}  // namespace
