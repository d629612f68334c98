// SPDX-License-Identifier: MIT
//
// A gibibyte for a peer that does not read: memory stays within the outbox, and nobody else waits for it.

#if defined(__linux__)

#include <gtcp/conn_option.hpp>
#include <gtcp/server.hpp>

#include "support/conn_pair.hpp"
#include "support/crowd.hpp"
#include "support/poll_until.hpp"
#include "support/process_stats.hpp"
#include "support/running_server.hpp"
#include "support/sanitizers.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/error.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

namespace {

using namespace std::chrono_literals;
using gtcp::Conn;
using gtcp::Errc;
using gtcp::QueuePolicy;
using gtcp_test::framed;
using gtcp_test::poll_until;
using gtcp_test::raw_peer;
using gtcp_test::serving;
namespace process_stats = gtcp_test::process_stats;

constexpr std::size_t outbox_limit = std::size_t{1} << 20;

std::size_t offer() { return (std::size_t{1} << 20) * static_cast<std::size_t>(gtcp_test::rounds(64, 1024)); }

/// Sees how much is used at most.
class high_water_mark {
 public:
  explicit high_water_mark(const gtcp::Server& server) : server_(server) {}

  void look() {
    outbox_ = std::max(outbox_, server_.Stats().Conns.OutboxBytes);
    memory_ = std::max(memory_, process_stats::resident());
  }
  void expect_within(std::size_t pkg_size) const {
    EXPECT_LE(outbox_, outbox_limit + pkg_size);
    const std::size_t grown = memory_ - std::min(memory_, before_);
    std::printf("outbox %zu KiB at most, memory grew by %zu KiB\n", outbox_ / 1024, grown / 1024);
#if !GTCP_TESTS_SANITIZED  // whose memory is about other things
    // Beside what it holds: the buffer that was written before, which was as large, the smaller ones that they grew out
    // of, which wait for the next one, and a thread's stack.
    constexpr std::size_t around = 2 * outbox_limit + (1u << 20);
    EXPECT_LE(grown, outbox_limit + pkg_size + around);
#endif
  }

 private:
  const gtcp::Server server_;
  const std::size_t before_ = process_stats::resident();
  std::size_t outbox_ = 0;
  std::size_t memory_ = 0;
};

gtcp::ServerOption options(QueuePolicy policy) {
  gtcp::ServerOption option;
  option.Conn.OutboxLimit = outbox_limit;
  option.Conn.WhenFull = policy;
  option.Conn.Pkg = {.HeaderSize = 3};
  option.Conn.Linger = 0ms;
  return option;
}

class SlowReader : public testing::TestWithParam<std::tuple<serving, std::size_t>> {};
INSTANTIATE_TEST_SUITE_P(Handlers, SlowReader,
                         testing::Combine(testing::ValuesIn(gtcp_test::all_kinds),
                                          testing::Values(std::size_t{1000}, std::size_t{200'000})),
                         [](const auto& kind) {
                           return gtcp_test::name_of(std::get<0>(kind.param)) + std::to_string(std::get<1>(kind.param));
                         });

/// An echo server, but one of whose packages, "give", asks for all that there is.
class generous_server {
 public:
  generous_server(serving which, std::size_t size)
      : server_(gtcp_test::any_port, nullptr, options(QueuePolicy::Block)) {
    const std::string gift = gtcp_test::pattern(size);
    switch (which) {
      case serving::thread:
        server_.SetHandler([this, gift](const Conn& conn) {
          for (;;) {
            const std::string pkg = conn.RecvPkg();
            if (pkg != "give") conn.SendPkg(pkg);
            for (std::size_t left = pkg == "give" ? offer() : 0; left > 0; left -= std::min(left, gift.size())) {
              conn.SendPkg(gift);
              ++taken_;
            }
          }
        });
        break;
      case serving::coroutine:
        server_.SetHandler([this, gift](Conn conn) -> asio::awaitable<void> {
          for (;;) {
            const std::string pkg = co_await conn.AsyncRecvPkg();
            if (pkg != "give") co_await conn.AsyncSendPkg(pkg);
            for (std::size_t left = pkg == "give" ? offer() : 0; left > 0; left -= std::min(left, gift.size())) {
              co_await conn.AsyncSendPkg(gift);
              ++taken_;
            }
          }
        });
        break;
      case serving::pkg_handler:
        server_.SetPkgHandler([this, gift](Conn& conn, std::string_view pkg) {
          // One answer to one question: it is the questions that there are many of.
          conn.SendPkg(pkg == "give" ? std::string_view(gift) : pkg);
          if (pkg == "give") ++taken_;
        });
        break;
    }
    server_.Start();
  }
  ~generous_server() { server_.CloseAndWait(gtcp_test::ceiling); }

  const gtcp::Server& operator*() const { return server_; }
  int port() const { return server_.GetListenedPort(); }
  std::size_t taken() const { return taken_; }

 private:
  std::atomic<std::size_t> taken_{0};
  gtcp::Server server_;
};

std::chrono::microseconds p99_of(int port, std::size_t questions, const std::function<void()>& meanwhile) {
  gtcp_test::timed_client other(gtcp_test::ask_echo(port, 3), 100us);
  while (other.count() < questions && other.wait_for_answer()) meanwhile();
  EXPECT_TRUE(other.end());
  return other.p99();
}

TEST_P(SlowReader, HoldsUpNobodyElseAndNoMoreMemoryThanAllowed) {
  const auto [which, size] = GetParam();
  const auto questions = static_cast<std::size_t>(gtcp_test::rounds(500, 5000));
  const generous_server server(which, size);
  const std::chrono::microseconds alone = p99_of(server.port(), questions, [] {});

  raw_peer peer = gtcp_test::connect_raw(server.port());
  std::string asks;
  // Who answers each question once is asked for all of it.
  const std::size_t times = which == serving::pkg_handler ? offer() / size : 1;
  for (std::size_t i = 0; i < times; ++i) asks += framed("give", 3);
  std::optional<gtcp_test::timed_client> other(std::in_place, gtcp_test::ask_echo(server.port(), 3), 100us);
  ASSERT_TRUE(other->wait_for_answer());  // what it takes is no part of the mark
  high_water_mark mark(*server);
  peer.get().non_blocking(true);
  std::string_view left = asks;
  std::size_t steps = 0;
  const auto ask_and_look = [&] {
    if (steps++ % 8 != 0) return;  // looking takes as long as an answer
    std::error_code ignored;
    left.remove_prefix(peer.get().write_some(asio::buffer(left), ignored));
    mark.look();
  };
  // Until nothing moves any more while another one is answered a hundred times.
  std::size_t taken = 0;
  ASSERT_TRUE(poll_until([&] {
    for (int i = 0; i < 100 && other->wait_for_answer(); ++i) ask_and_look();
    return std::exchange(taken, server.taken()) == server.taken() && taken != 0;
  }));
  EXPECT_TRUE(other->end());
  other.reset();
  EXPECT_LT(taken * size, offer()) << "the system has taken all of it: offer more";
  const std::chrono::microseconds beside = p99_of(server.port(), questions, ask_and_look);
  mark.expect_within(size + 3);
  std::printf("p99 of another connection %lld us, beside it %lld us\n", static_cast<long long>(alone.count()),
              static_cast<long long>(beside.count()));
  // Of a machine that does something else meanwhile nothing can be told below some time.
  if (gtcp_test::in_full()) {
    EXPECT_LE(beside, 2 * std::max(alone, std::chrono::microseconds(500)));
  }
}

class SlowReaderOfALot : public testing::TestWithParam<std::tuple<QueuePolicy, std::size_t>> {};
INSTANTIATE_TEST_SUITE_P(Policies, SlowReaderOfALot,
                         testing::Combine(testing::Values(QueuePolicy::Fail, QueuePolicy::Drop, QueuePolicy::Close),
                                          testing::Values(std::size_t{1000}, std::size_t{200'000})),
                         [](const auto& kind) {
                           const QueuePolicy policy = std::get<0>(kind.param);
                           const char* const name = policy == QueuePolicy::Fail   ? "Fail"
                                                    : policy == QueuePolicy::Drop ? "Drop"
                                                                                  : "Close";
                           return name + std::to_string(std::get<1>(kind.param));
                         });

TEST_P(SlowReaderOfALot, GetsWhatThereIsRoomFor) {
  const auto [policy, size] = GetParam();
  const std::string pkg = gtcp_test::pattern(size);
  std::atomic<bool> done{false};
  std::atomic<std::size_t> failed{0};
  gtcp::Server server(
      gtcp_test::any_port,
      [&, send = offer() / pkg.size()](const Conn& conn) {
        for (std::size_t i = 0; i < send; ++i) {
          std::error_code error;
          conn.SendPkg(pkg, error);
          if (error) ++failed;
        }
        done = true;
        conn.RecvPkg();
      },
      options(policy));
  server.Start();
  high_water_mark mark(server);
  raw_peer peer = gtcp_test::connect_raw(server.GetListenedPort());
  EXPECT_TRUE(poll_until([&] {
    mark.look();
    return done.load();
  }));
  mark.expect_within(size + 3);
  const gtcp::ServerStats stats = server.Stats();
  if (policy == QueuePolicy::Drop) {
    EXPECT_EQ(stats.Conns.PkgsOut + stats.Conns.PkgsDropped, offer() / size);
  }
  if (policy == QueuePolicy::Fail) {
    EXPECT_EQ(stats.Conns.PkgsOut + failed, offer() / size);
  }
  if (policy == QueuePolicy::Close) return;
  // What was taken comes whole and in order.
  for (std::uint64_t i = 0; i < stats.Conns.PkgsOut; ++i) ASSERT_TRUE(peer.read_pkg(3) == pkg) << i;
}

}  // namespace

#endif
