// SPDX-License-Identifier: MIT

// How much memory packages ask for once a connection is at work: operator new is counted. What the tests do themselves
// while they count takes none.

#include <gtcp/msg.hpp>
#include <gtcp/server.hpp>

#include "counting/answerer.hpp"
#include "counting/counters.hpp"
#include "support/conn_pair.hpp"
#include "support/running_server.hpp"

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using gtcp::Conn;
using gtcp_test::allocations_of_all_threads;
using gtcp_test::answer_kind;
using gtcp_test::answerer;
using gtcp_test::conn_and_peer;
using gtcp_test::framed;
using gtcp_test::make_conn_and_peer;
using gtcp_test::pattern;
using gtcp_test::raw_peer;

/// Reads what must be there, into memory that is there.
void read_exactly(raw_peer& peer, std::vector<char>& into) {
  for (std::size_t have = 0; have < into.size();) {
    have += peer.get().read_some(asio::buffer(into.data() + have, into.size() - have));
  }
}

/// Returns what all threads allocate while `step` is repeated, once it has been.
template <class Step>
std::size_t allocations_of(unsigned times, const Step& step) {
  for (unsigned i = 0; i < times; ++i) step();
  const std::size_t before = allocations_of_all_threads();
  for (unsigned i = 0; i < times; ++i) step();
  return allocations_of_all_threads() - before;
}

class Allocations : public testing::TestWithParam<answer_kind> {
 protected:
  static std::size_t owned_strings() { return GetParam() == answer_kind::owned_coroutine ? 1 : 0; }

  asio::io_context context{1};
  conn_and_peer it = make_conn_and_peer({.Executor = context.get_executor()});
  answerer answering{GetParam(), it.conn, context};

  /// What is not blocking is answered in this thread, as long as the test goes on: Asio keeps memory for further use as
  /// long as a thread runs a context.
  void start() {
    if (GetParam() != answer_kind::blocking) thread_ = std::jthread([this] { context.run(); });
  }
  void answer(unsigned packages) {
    if (GetParam() == answer_kind::blocking) answering.answer(packages);
  }
  void let_go() {
    if (GetParam() == answer_kind::blocking) answering.let_go();
  }

  void TearDown() override { context.stop(); }

 private:
  std::jthread thread_;
};

TEST_P(Allocations, OfARoundTripAreNoneButTheOwnedString) {
  constexpr unsigned round_trips = 1'000;
  start();
  for (const std::size_t size : {64u, 1'000u, 20'000u}) {
    const std::string request = framed(pattern(size));
    std::vector<char> reply(request.size());
    const std::size_t allocated = allocations_of(round_trips, [&] {
      it.peer.write(request);
      answer(1);
      read_exactly(it.peer, reply);
    });
    EXPECT_EQ(std::string_view(reply.data(), reply.size()), request);
    EXPECT_EQ(allocated, owned_strings() * round_trips) << size;
  }
}

TEST_P(Allocations, OfPipelinedPackagesAreNoneButTheOwnedString) {
  constexpr unsigned packages = 500;
  constexpr unsigned rounds = 20;
  start();
  std::string requests;
  for (unsigned i = 0; i < packages; ++i) requests += framed(pattern(64, i));
  std::vector<char> replies(requests.size());
  const std::size_t allocated = allocations_of(rounds, [&] {
    it.peer.write(requests);
    answer(packages);
    let_go();
    read_exactly(it.peer, replies);
  });
  EXPECT_EQ(std::string_view(replies.data(), replies.size()), requests);
  // Asio keeps two blocks a thread for the operations that wait, and those of a burst are of three sizes; a burst may
  // come in two pieces.
  constexpr std::size_t waiting = 4 * rounds;
  EXPECT_GE(allocated, owned_strings() * packages * rounds);
  EXPECT_LE(allocated, owned_strings() * packages * rounds + waiting);
}

INSTANTIATE_TEST_SUITE_P(Of, Allocations,
                         testing::Values(answer_kind::blocking, answer_kind::coroutine, answer_kind::owned_coroutine,
                                         answer_kind::callback),
                         [](const auto& each) { return gtcp_test::name_of(each.param); });

// ---- As a program has it: a server with its threads, and a client with its own

/// Sends requests and takes the replies, again and again, in memory that it has already.
std::size_t allocations_of_exchanges(const gtcp::Server& server, unsigned times) {
  const Conn client = gtcp::NewConn(server.GetListenedAddress());
  const std::string request = pattern(64);
  std::string reply;
  const std::size_t allocated = allocations_of(times, [&] {
    client.SendPkg(request);
    client.RecvPkg(reply);
  });
  EXPECT_EQ(reply, request);
  return allocated;
}

constexpr unsigned exchanges = 1'000;

TEST(ServerAllocations, OfAnExchangeWithABlockingHandlerAreNone) {
  gtcp::Server server(gtcp_test::any_port, [](Conn conn) {
    std::string pkg;
    for (;;) {
      conn.RecvPkg(pkg);
      conn.SendPkg(pkg);
    }
  });
  server.Start();
  EXPECT_EQ(allocations_of_exchanges(server, exchanges), 0u);
}

/// On one io thread accepting has gone back to waiting before the first reply is made.
void accept_and_serve_on_one_thread() { gtcp::Runtime::Default().SetThreads(1); }

TEST(ServerAllocations, OfAnExchangeWithAPackageHandlerAreNone) {
  accept_and_serve_on_one_thread();
  gtcp::Server server(gtcp_test::any_port);
  server.SetPkgHandler([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  server.Start();
  EXPECT_EQ(allocations_of_exchanges(server, exchanges), 0u);
}

TEST(ServerAllocations, OfAnExchangeWithACoroutineAreTheOwnedString) {
  accept_and_serve_on_one_thread();
  gtcp::Server server(gtcp_test::any_port, gtcp_test::async_echo);
  server.Start();
  EXPECT_EQ(allocations_of_exchanges(server, exchanges), exchanges);
}

// ---- JSON

TEST(MsgAllocations, AreTheTextAndTheLongStrings) {
  auto [a, b] = gtcp_test::make_conn_pair();
  const auto exchange = [](const Conn& from, const Conn& to, const gtcp::Msg& msg) {
    gtcp::SendMsg(from, msg);
    const gtcp::Msg got = gtcp::RecvMsg(to);
    EXPECT_TRUE(got == msg);
  };
  const gtcp::Msg small{.Act = "hello", .Data = "short"};
  const gtcp::Msg large{.Act = "hello", .Data = std::string(200, 'x')};
  constexpr unsigned times = 100;
  // There and back, or it would be a burst, which an io thread looks after.
  const auto of_small = allocations_of(times, [&] { exchange(a, b, small), exchange(b, a, small); });
  const auto of_large = allocations_of(times, [&] { exchange(a, b, large), exchange(b, a, large); });
  // The text when it is written, and again when it is read.
  EXPECT_EQ(of_small, 2 * times * 2);
  // And the data.
  EXPECT_EQ(of_large, 2 * times * 3);
}

}  // namespace
