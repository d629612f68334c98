// SPDX-License-Identifier: MIT

// Where the bytes of large packages are when they are given to the system: in the caller's memory, never in a copy.

#include "counting/answerer.hpp"
#include "support/conn_pair.hpp"
#include "support/counting_transport.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <future>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using gtcp::Conn;
using gtcp::detail::outbox;
using gtcp_test::background;
using gtcp_test::calls;
using gtcp_test::counted_conn;
using gtcp_test::framed;
using gtcp_test::make_counted;
using gtcp_test::pattern;

bool lies_in(const asio::const_buffer& part, std::string_view whole) {
  const char* const begin = static_cast<const char*>(part.data());
  return begin >= whole.data() && begin + part.size() <= whole.data() + whole.size();
}

/// Whether all that was given to the system, but for headers and what else is short, lies in one of these.
bool came_from(const calls& count, const std::vector<std::string_view>& payloads) {
  return std::all_of(count.large_parts.begin(), count.large_parts.begin() + count.large_count, [&](const auto& part) {
    return std::any_of(payloads.begin(), payloads.end(), [&](auto payload) { return lies_in(part, payload); });
  });
}

/// What is sent in one go, in one write, from where it is.
class Copies : public testing::TestWithParam<std::size_t> {
 protected:
  /// Calls `send(conn, payload)`, and looks what became of it.
  template <class Send>
  void expect_none(const Send& send, gtcp::ConnOption option = {}) {
    option.SendBufferSize = 4 << 20;
    counted_conn it = make_counted(option);
    const std::string payload = pattern(GetParam());
    send(it.conn, payload);
    EXPECT_EQ(it.peer.read_pkg(), payload);
    EXPECT_EQ(it.count->writes, 1u);
    EXPECT_EQ(it.count->large_count, 1u);
    EXPECT_TRUE(came_from(*it.count, {payload}));
  }
};

TEST_P(Copies, OfASendAreNone) {
  expect_none([](const Conn& conn, const std::string& payload) { conn.SendPkg(payload); });
}

TEST_P(Copies, OfADirectSendAreNone) {
  expect_none([](const Conn& conn, const std::string& payload) { conn.SendPkg(payload); },
              {.Mode = gtcp::SendMode::Direct});
}

TEST_P(Copies, OfASendWithATimeoutAreNone) {
  expect_none(
      [](const Conn& conn, const std::string& payload) { conn.SendPkgWithTimeout(payload, gtcp_test::ceiling); });
}

TEST_P(Copies, OfASendThatDoesNotWaitAreNone) {
  expect_none([](const Conn& conn, const std::string& payload) { EXPECT_TRUE(conn.TrySendPkg(payload)); });
}

TEST_P(Copies, OfACorkedSendAreNone) {
  expect_none([](const Conn& conn, const std::string& payload) {
    const gtcp::Cork together(conn);
    conn.SendPkg(payload);
  });
}

asio::awaitable<void> send(Conn conn, const std::string& payload) {
  auto sending = conn.AsyncSendPkg(payload);
  co_await std::move(sending);
}

TEST_P(Copies, OfAnAwaitedSendAreNone) {
  expect_none([](const Conn& conn, const std::string& payload) { gtcp_test::run(send(conn, payload)); });
}

TEST_P(Copies, OfASendWithATokenAreNone) {
  expect_none([](const Conn& conn, const std::string& payload) { conn.AsyncSendPkg(payload, asio::use_future).get(); });
}

TEST_P(Copies, OfAnOwnedPayloadAreNone) {
  counted_conn it = make_counted({.SendBufferSize = 4 << 20});
  std::string payload = pattern(GetParam());
  const std::string_view where = payload;
  it.conn.AsyncSendPkg(std::move(payload), asio::use_future).get();
  EXPECT_TRUE(came_from(*it.count, {where}));
  EXPECT_EQ(it.peer.read_pkg(), pattern(GetParam()));
}

TEST_P(Copies, OfASendInAPackageHandlerAreNone) {
  asio::io_context context{1};
  counted_conn it = make_counted({.SendBufferSize = 4 << 20, .Executor = context.get_executor()});
  const std::string payload = pattern(GetParam());
  unsigned answered = 0;
  it.conn.SetPkgHandler([&](const Conn& from, std::string_view) {
    from.SendPkg(payload);
    ++answered;
  });
  it.peer.write(framed("please"));
  while (answered == 0) context.run_one();
  context.poll();
  EXPECT_EQ(it.peer.read_pkg(), payload);
  EXPECT_TRUE(came_from(*it.count, {payload}));
  it.conn.Abort();
  context.poll();
}

TEST_P(Copies, OfASendBehindOneThatIsHeldBackAreNone) {
  counted_conn it = make_counted({.SendBufferSize = 4 << 20});
  const std::string payload = pattern(GetParam());
  it.peer.write(framed("first") + framed("second"));
  ASSERT_EQ(it.conn.RecvPkg(), "first");
  it.conn.SendPkg("held back");
  it.conn.SendPkg(payload);
  EXPECT_EQ(it.peer.read_pkg(), "held back");
  EXPECT_EQ(it.peer.read_pkg(), payload);
  EXPECT_LE(it.count->writes, 2u);  // a slow test's first one may have left
  EXPECT_TRUE(came_from(*it.count, {payload}));
}

INSTANTIATE_TEST_SUITE_P(Of, Copies, testing::Values(outbox::borrow_from, 60'000, 0xFFFF));

TEST(Copies, OfThoseWhoWaitForEachOtherAreNone) {
  const gtcp::ConnOption option{.SendBufferSize = 4096, .OutboxLimit = 1 << 20, .Pkg = {.HeaderSize = 4}};
  counted_conn it = make_counted(option, gtcp_test::net::tcp, {.peer_recv = 4096});
  const std::vector<std::string> payloads = {pattern(300'000, 1), pattern(20'000, 2), pattern(outbox::borrow_from, 3)};
  auto first = background([&] { return it.conn.SendPkg(payloads[0]), true; });
  ASSERT_TRUE(gtcp_test::poll_until([&] { return it.count->bytes_written != 0; }));
  std::future<void> second = it.conn.AsyncSendPkg(payloads[1], asio::use_future);
  auto third = background([&] { return it.conn.SendPkg(payloads[2]), true; });
  third.wait_until_waiting();
  for (const std::string& payload : payloads) EXPECT_EQ(it.peer.read_pkg(4), payload);
  EXPECT_TRUE(first.get() && third.get());
  ASSERT_TRUE(gtcp_test::comes(second));
  EXPECT_GE(it.count->large_count, 3u);
  EXPECT_TRUE(came_from(*it.count, {payloads.begin(), payloads.end()}));
}

}  // namespace
