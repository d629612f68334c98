// SPDX-License-Identifier: MIT

// What packages cost in system calls: those that move bytes counted at the transport, those that wait where the linker
// lets us. No clock, no luck: all of it happens in one thread.

#include <gtcp/server.hpp>

#include "counting/answerer.hpp"
#include "counting/counters.hpp"
#include "support/conn_pair.hpp"
#include "support/counting_transport.hpp"
#include "support/poll_until.hpp"

#include <asio/io_context.hpp>

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <future>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

namespace {

using gtcp_test::answer_kind;
using gtcp_test::answerer;
using gtcp_test::counted_conn;
using gtcp_test::counts;
using gtcp_test::counts_of_this_thread;
using gtcp_test::framed;
using gtcp_test::make_counted;
using gtcp_test::pattern;

/// Returns when so many bytes have come for the connection, which nobody reads.
bool has_come(const counted_conn& it, std::size_t size) {
  return gtcp_test::poll_until([&] {
    std::string seen(size, '\0');
    return ::recv(it.conn.GetNativeHandle(), seen.data(), size, MSG_PEEK) == static_cast<ssize_t>(size);
  });
}

class Calls : public testing::TestWithParam<answer_kind> {
 protected:
  asio::io_context context{1};
};

TEST_P(Calls, OfARoundTripAreOneReadOneWriteAndOneWait) {
  constexpr unsigned round_trips = 200;
  counted_conn it = make_counted({.Executor = context.get_executor()});
  answerer answering(GetParam(), it.conn, context);
  const counts before = counts_of_this_thread();
  for (unsigned i = 0; i < round_trips; ++i) {
    it.peer.write(framed("hello"));
    answering.answer(1);
    ASSERT_EQ(it.peer.read_pkg(), "hello");
  }
  EXPECT_EQ(it.count->writes, round_trips);
  EXPECT_EQ(it.count->reads, round_trips);
  EXPECT_EQ(it.count->empty_reads, 0u);
#if GTCP_TESTS_COUNT_WAITS
  const counts cost = counts_of_this_thread() - before;
  EXPECT_EQ(cost.waits(), round_trips);
  EXPECT_EQ(cost.epoll_looks, 0u);
  EXPECT_EQ(cost.epoll_orders, GetParam() == answer_kind::blocking ? 0u : round_trips);
#endif
}

/// Answers so many requests of 64 bytes, which are there all at once. Returns how many writes that took.
unsigned writes_of_answers(answer_kind kind, unsigned requests) {
  asio::io_context context{1};
  counted_conn it = make_counted({.Executor = context.get_executor()});
  answerer answering(kind, it.conn, context);
  std::string all;
  for (unsigned i = 0; i < requests; ++i) all += framed(pattern(64, i));
  it.peer.write(all);
  EXPECT_TRUE(has_come(it, all.size()));
  answering.answer(requests);
  answering.let_go();
  EXPECT_TRUE(it.peer.read(all.size()) == all);
  EXPECT_EQ(it.count->reads, 1u);
  EXPECT_LE(it.count->empty_reads, kind == answer_kind::blocking ? 1u : 0u);  // to let go
  EXPECT_EQ(it.count->bytes_read, all.size()) << "nothing is read twice";
  return static_cast<unsigned>(it.count->writes);
}

/// A thread that does not run for a millisecond in between has not held back its answers any longer.
void expect_writes_of_answers(answer_kind kind, unsigned requests, unsigned writes) {
  const unsigned counted = writes_of_answers(kind, requests);
  EXPECT_GE(counted, writes) << requests << " requests";
  EXPECT_LE(counted, kind == answer_kind::blocking ? 20u : writes) << requests << " requests";
}

TEST_P(Calls, OfAFewPipelinedRequestsAreOneWrite) { expect_writes_of_answers(GetParam(), 31, 1); }

// The peer shall have something to do while the other answers are made, and a write not be for a handful of them.
TEST_P(Calls, OfManyPipelinedRequestsAreAWriteForEachQuarter) {
  const unsigned parts = std::thread::hardware_concurrency() == 1 ? 1 : 4;
  expect_writes_of_answers(GetParam(), 128, parts);
  const unsigned yields = GetParam() == answer_kind::callback ? 3 : 0;  // to others, before which all of it leaves
  expect_writes_of_answers(GetParam(), 1'000, parts + yields);
}

// Most clients speak first, and have done so when they are accepted.
TEST(ServedConn, IsReadBeforeItIsWaitedFor) {
  asio::io_context context{1};
  gtcp_test::switch_off_rearming();
  const gtcp::Server server("127.0.0.1:0", nullptr, {.Conn = {.Executor = context.get_executor()}});
  server.SetPkgHandler([](gtcp::Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  server.Listen();
  server.AsyncRun([](std::error_code) {});
  context.poll();  // now it waits for a connection
  {
    gtcp_test::raw_peer peer = gtcp_test::connect_raw(server.GetListenedPort());
    peer.write(framed("hello"));
    const counts before = counts_of_this_thread();
    while (peer.available() == 0) context.run_one();
#if GTCP_TESTS_COUNT_WAITS
    const std::size_t for_listener = 1;
    const std::size_t for_next_pkg = 2;
    EXPECT_LE((counts_of_this_thread() - before).epoll_orders, for_listener + for_next_pkg);
#endif
    EXPECT_EQ(peer.read_pkg(), "hello");
  }
  server.Close();
  context.run();
}

INSTANTIATE_TEST_SUITE_P(Of, Calls,
                         testing::Values(answer_kind::blocking, answer_kind::coroutine, answer_kind::owned_coroutine,
                                         answer_kind::callback),
                         [](const auto& each) { return gtcp_test::name_of(each.param); });

TEST(Cork, HoldsAnswersToPipelinedRequestsUntilItsEnd) {
  constexpr unsigned requests = 128;
  counted_conn it = make_counted();
  std::string all;
  for (unsigned i = 0; i < requests; ++i) all += framed(pattern(64, i));
  it.peer.write(all);
  ASSERT_TRUE(has_come(it, all.size()));
  {
    const gtcp::Cork together(it.conn);
    for (unsigned i = 0; i < requests; ++i) it.conn.SendPkg(it.conn.RecvPkg());
    EXPECT_EQ(it.count->writes, 0u);
  }
  EXPECT_EQ(it.count->writes, 1u);
  EXPECT_TRUE(it.peer.read(all.size()) == all);
}

// Without a Cork it takes a clock to know that it is a blast: see Outbox.WritesWhatIsSentInABurstTogether.
TEST(SendPkg, OfABlastTakesFewWrites) {
  constexpr unsigned count = 10'000;
  counted_conn it = make_counted({.SendBufferSize = 4 << 20});
  const std::string pkg = pattern(64);
  auto reading = std::async(std::launch::async, [&] { return it.peer.read(count * framed(pkg).size()); });
  {
    const gtcp::Cork together(it.conn);
    for (unsigned i = 0; i < count; ++i) it.conn.SendPkg(pkg);
  }
  const std::string bytes = reading.get();
  EXPECT_EQ(bytes.size(), count * framed(pkg).size());
  EXPECT_LE(it.count->writes, 100u);
}

}  // namespace
