// SPDX-License-Identifier: MIT

// The limits of a server's peers, with a time that the test sets; and who counts as the same peer.

#include <gtcp/detail/peer_limits.hpp>
#include <gtcp/detail/server_gate.hpp>
#include <gtcp/stats.hpp>

#include <asio/ip/address.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

namespace {

using namespace std::chrono_literals;
using gtcp::Errc;
using gtcp::detail::clock;
using gtcp::detail::no_deadline;
using gtcp::detail::peer_limits;
using gtcp::detail::receive_memory;
using gtcp::detail::server_gate;
using gtcp::detail::source_address;

class PeerLimits : public testing::Test {
 protected:
  void make(const peer_limits::times& times) { limits.emplace(times, nullptr); }

  void wait(std::uint64_t bytes_in, bool in_pkg = false) { limits->begin_wait(now, bytes_in, in_pkg); }
  void go_on() { limits->end_wait(now); }

  /// Looks as the watchdog would; also at the time at which it would look again.
  std::error_code look() {
    std::error_code over;
    next = limits->look(now, stalled_since, over);
    return over;
  }

  clock::time_point now{1000s};
  clock::time_point stalled_since = no_deadline;
  clock::time_point next{};
  std::optional<peer_limits> limits;
};

TEST_F(PeerLimits, LetThePeerBeIdleUntilItsTimeIsOver) {
  make({.idle = 10s});
  wait(0);
  now += 9s;
  EXPECT_FALSE(look());
  EXPECT_EQ(next, now + 1s);
  now += 1s;
  EXPECT_EQ(look(), Errc::IdleTimeout);
}

TEST_F(PeerLimits, CountEveryByteAsLife) {
  make({.idle = 10s});
  for (std::uint64_t bytes = 0; bytes < 5; ++bytes) {
    wait(bytes, true);
    now += 9s;
    EXPECT_FALSE(look()) << bytes;
    go_on();
  }
  wait(4, true);  // woken for nothing
  now += 1s;
  EXPECT_EQ(look(), Errc::IdleTimeout);
}

TEST_F(PeerLimits, CountOnlyWhileTheConnectionWaits) {
  make({.first_pkg = 10s, .idle = 10s, .pkg = 10s});
  wait(1, true);
  now += 5s;
  go_on();
  now += 1h;  // the handler does something else
  EXPECT_FALSE(look());
  EXPECT_EQ(next, now + 5s);
  wait(1, true);
  now += 4s;
  EXPECT_FALSE(look());
  now += 1s;
  EXPECT_TRUE(look());
}

TEST_F(PeerLimits, AreNotReachedByOneThatDoesNotWaitAnyMore) {
  make({.idle = 10s});
  wait(0);
  now += 11s;
  go_on();  // something came just before the watchdog
  EXPECT_FALSE(look());
  EXPECT_GT(next, now);
  wait(1);
  now += 9s;
  EXPECT_FALSE(look());
}

TEST_F(PeerLimits, GiveTheFirstPackageItsTimeFromTheBeginning) {
  make({.first_pkg = 10s});
  wait(0);
  now += 9s;
  go_on();
  wait(1, true);  // a byte is no package
  now += 1s;
  EXPECT_EQ(look(), Errc::FirstPkgTimeout);
  go_on();
  limits->note_take();
  wait(3);
  now += 1h;
  EXPECT_FALSE(look());
}

TEST_F(PeerLimits, AreNotPushedByMoreBytesOfAPackage) {
  make({.pkg = 10s});
  wait(0);
  now += 1h;
  EXPECT_FALSE(look());
  std::uint64_t bytes = 0;
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(look());
    go_on();
    wait(++bytes, true);
    now += 1s;
  }
  EXPECT_EQ(look(), Errc::PkgTimeout);
}

TEST_F(PeerLimits, GiveEachPackageATimeOfItsOwn) {
  make({.pkg = 10s});
  for (std::uint64_t bytes = 1; bytes < 5; ++bytes) {
    wait(bytes, true);  // what is there of the next one came with the last one
    now += 9s;
    EXPECT_FALSE(look()) << bytes;
    EXPECT_EQ(next, now + 1s) << bytes;
    go_on();
    limits->note_take();
  }
}

TEST_F(PeerLimits, EndAPeerThatTakesNothing) {
  make({.send_stall = 10s});
  EXPECT_FALSE(look());
  EXPECT_EQ(next, now + 10s);
  stalled_since = now;
  now += 9s;
  EXPECT_FALSE(look());
  EXPECT_EQ(next, now + 1s);
  now += 1s;
  EXPECT_EQ(look(), Errc::SendStalled) << "whether anybody waits for input or not";
}

TEST_F(PeerLimits, AreLookedAtWhenTheShortestCouldBeOver) {
  const peer_limits::times times{.idle = 1h, .pkg = 1min};
  EXPECT_TRUE(times.any());
  const clock::time_point before = clock::now();
  EXPECT_GE(times.first_look(), before + 1min);
  EXPECT_LT(times.first_look(), before + 1h);
  EXPECT_FALSE(peer_limits::times().any());
}

TEST_F(PeerLimits, OfTheLongestTimeAreNever) {
  constexpr clock::duration longest = clock::duration::max();
  const peer_limits::times times{.first_pkg = longest, .idle = longest, .pkg = longest, .send_stall = longest};
  EXPECT_EQ(times.first_look(), no_deadline);
  make(times);
  stalled_since = now;
  for (const bool in_pkg : {false, true}) {
    wait(1, in_pkg);
    now += 1h;
    EXPECT_FALSE(look()) << in_pkg;
    EXPECT_EQ(next, no_deadline);
    go_on();
  }
}

TEST(ReceiveMemory, IsSharedAndGivenBack) {
  const auto memory = std::make_shared<receive_memory>(100);
  {
    peer_limits first({}, memory);
    peer_limits second({}, memory);
    EXPECT_TRUE(first.hold(60));
    EXPECT_TRUE(second.hold(40));
    EXPECT_FALSE(second.hold(41));
    EXPECT_TRUE(second.hold(40)) << "what was refused is not counted";
    EXPECT_TRUE(first.hold(10));
    EXPECT_TRUE(second.hold(90));
    EXPECT_EQ(memory->held, 100u);
  }
  EXPECT_EQ(memory->held, 0u);
}

TEST(ReceiveMemory, CountsNeverLessThanWhatIsHeldBehindAPackage) {
  const auto memory = std::make_shared<receive_memory>(100'000);
  peer_limits limits({}, memory);
  EXPECT_TRUE(limits.hold_rest(0));
  EXPECT_EQ(memory->held, 0u);
  EXPECT_TRUE(limits.hold_rest(60'000));
  EXPECT_EQ(memory->held, 60'000u);
  for (std::size_t rest = 60'000; rest > 0; rest -= 100) {
    EXPECT_TRUE(limits.hold_rest(rest));
    ASSERT_GE(memory->held, rest);
    ASSERT_LT(memory->held, rest + 17'000);
  }
  EXPECT_TRUE(limits.hold_rest(0));
  EXPECT_EQ(memory->held, 0u);
  EXPECT_FALSE(limits.hold_rest(100'001));
}

TEST(SourceAddress, IsAnIpv4AddressOrTheNetworkOfAnIpv6One) {
  const auto of = [](const char* text) { return source_address::of(asio::ip::make_address(text)); };
  EXPECT_EQ(of("10.1.2.3"), of("10.1.2.3"));
  EXPECT_NE(of("10.1.2.3"), of("10.1.2.4"));
  EXPECT_EQ(of("::ffff:10.1.2.3"), of("10.1.2.3"));
  EXPECT_EQ(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
  EXPECT_NE(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
  EXPECT_NE(of("0.0.0.0"), source_address());
}

TEST(ServerGate, CountsWhoIsInAndWhyOthersAreNot) {
  server_gate gate;
  gtcp::ServerOption option;
  option.MaxConns = 2;
  option.MaxConnsPerAddress = 1;
  const source_address first = source_address::of(asio::ip::make_address("127.0.0.1"));
  const source_address second = source_address::of(asio::ip::make_address("127.0.0.2"));
  EXPECT_EQ(gate.enter(option, first), nullptr);
  EXPECT_STREQ(gate.enter(option, first), "max_conns_per_address");
  EXPECT_EQ(gate.enter(option, second), nullptr);
  EXPECT_STREQ(gate.enter(option, {}), "max_conns");
  gate.leave(first, asio::error::eof);
  EXPECT_EQ(gate.enter(option, first), nullptr);
  gate.turn_away(first, "error");
  EXPECT_EQ(gate.enter(option, first), nullptr);
  const gtcp::ServerStats& stats = gate.stats();
  EXPECT_EQ(stats.Accepted, 6u);
  EXPECT_EQ(stats.Active, 2u);
  EXPECT_EQ(stats.Refused.at("max_conns"), 1u);
  EXPECT_EQ(stats.Refused.at("max_conns_per_address"), 1u);
  EXPECT_EQ(stats.Refused.at("error"), 1u);
  EXPECT_EQ(stats.Closed.at("eof"), 1u);
}

TEST(FormatPrometheus, WritesNamesTypesAndValues) {
  gtcp::ServerStats stats;
  stats.Accepted = 3;
  stats.Active = 1;
  stats.Refused["max_conns"] = 2;
  stats.Closed["eof"] = 4;
  stats.Conns.BytesIn = 18446744073709551615u;
  const std::string text = gtcp::FormatPrometheus(stats, "chat");
  const auto has = [&](const std::string& line) { return ("\n" + text).find("\n" + line + "\n") != std::string::npos; };
  EXPECT_TRUE(has("# TYPE chat_accepted_total counter")) << text;
  EXPECT_TRUE(has("# HELP chat_accepted_total Connections that were accepted, refused ones included."));
  EXPECT_TRUE(has("chat_accepted_total 3"));
  EXPECT_TRUE(has("# TYPE chat_active gauge"));
  EXPECT_TRUE(has("chat_active 1"));
  EXPECT_TRUE(has("chat_refused_total{reason=\"max_conns\"} 2"));
  EXPECT_TRUE(has("chat_closed_total{reason=\"eof\"} 4"));
  EXPECT_TRUE(has("chat_bytes_in_total 18446744073709551615"));
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
