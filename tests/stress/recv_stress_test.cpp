// SPDX-License-Identifier: MIT
//
// Several receivers at once: each package goes to one of them whole, in the order in which they asked, and a receive
// that times out loses nothing.

#include <gtcp/conn.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using gtcp::Conn;
using gtcp::Errc;
using gtcp_test::comes;
using gtcp_test::dice;
using gtcp_test::poll_until;
using gtcp_test::rounds;
namespace numbered = gtcp_test::numbered;
using namespace std::chrono_literals;

/// Which packages came, and that each receiver saw them in order.
class seen {
 public:
  explicit seen(std::size_t count) : times_(count, 0) {}

  void note(const std::string& package, std::int64_t& last_of_receiver) {
    const numbered::origin from = numbered::of(package);
    EXPECT_TRUE(from.whole) << "torn";
    EXPECT_LT(last_of_receiver, std::int64_t{from.number}) << "out of order for one receiver";
    last_of_receiver = from.number;
    const std::lock_guard lock(mutex_);
    ASSERT_LT(from.number, times_.size());
    EXPECT_EQ(++times_[from.number], 1);
    ++count_;
  }

  std::size_t count() const { return count_; }

 private:
  std::mutex mutex_;
  std::vector<int> times_;
  std::atomic<std::size_t> count_{0};
};

asio::awaitable<void> receive_as_coroutine(Conn conn, seen& all, std::uint32_t id, std::atomic<int>& timeouts) {
  dice roll(id);
  std::int64_t last = -1;
  for (;;) {
    std::error_code error;
    auto receiving = conn.AsyncRecvPkgWithTimeout(150us + roll.microseconds(50), error);
    const std::string package = co_await std::move(receiving);
    if (!error) {
      all.note(package, last);
    } else if (error == Errc::Timeout) {
      ++timeouts;
    } else {
      EXPECT_EQ(error, asio::error::eof);
      co_return;
    }
  }
}

void receive_as_thread(const Conn& conn, seen& all, std::uint32_t id, std::atomic<int>& timeouts) {
  dice roll(id);
  std::int64_t last = -1;
  std::string package;
  for (;;) {
    std::error_code error;
    bool received = true;
    if (roll.one_in(10))
      received = conn.TryRecvPkg(package, error);
    else
      conn.RecvPkgWithTimeout(package, 150us + roll.microseconds(50), error);
    if (!error && received) {
      all.note(package, last);
    } else if (error == Errc::Timeout) {
      ++timeouts;
    } else if (error) {
      EXPECT_EQ(error, asio::error::eof);
      return;
    }
  }
}

TEST(ConcurrentReceivers, GetEachPackageOnceWithTimeoutsAllTheTime) {
  const gtcp_test::seed_report report;
  const auto count = static_cast<std::size_t>(rounds(30'000));
  auto [conn, peer] = gtcp_test::make_conn_and_peer();
  seen all(count);
  std::atomic<int> timeouts{0};
  gtcp_test::thread_group threads;
  for (std::uint32_t id = 0; id < 2; ++id) {
    threads.run([&, receiver = conn, id] { receive_as_thread(receiver, all, id, timeouts); });
  }
  asio::io_context context;
  std::vector<std::future<void>> done;
  done.push_back(asio::co_spawn(conn.get_executor(), receive_as_coroutine(conn, all, 2, timeouts), asio::use_future));
  done.push_back(asio::co_spawn(context, receive_as_coroutine(conn, all, 3, timeouts), asio::use_future));
  gtcp_test::thread_group io;
  io.run([&] { context.run(); });

  // In pieces that end anywhere, with pauses longer than the timeouts in between.
  dice roll(9);
  std::string wire;
  for (std::uint32_t number = 0; number < count; ++number) {
    wire += gtcp_test::framed(numbered::make(0, number, numbered::head + roll(roll.one_in(50) ? 40'000 : 300)));
    if (!roll.one_in(4)) continue;
    const std::size_t size = roll(wire.size() + 1);
    peer.write(std::string_view(wire).substr(0, size));
    wire.erase(0, size);
    if (roll.one_in(20)) {
      const int before = timeouts;
      ASSERT_TRUE(poll_until([&] { return timeouts > before + 3; }));
    }
  }
  peer.write(wire);
  EXPECT_TRUE(poll_until([&] { return all.count() == count; })) << all.count() << " of " << count;
  peer.end_sending();
  threads.join();
  for (std::future<void>& coroutine : done) {
    ASSERT_TRUE(comes(coroutine));
    coroutine.get();
  }
  EXPECT_EQ(all.count(), count);
}

TEST(ConcurrentReceivers, AreServedInTheOrderInWhichTheyAsked) {
  constexpr int receivers = 50;
  for (int round = rounds(100); round > 0; --round) {
    auto [conn, peer] = gtcp_test::make_conn_and_peer();
    std::vector<std::promise<std::string>> got(receivers);
    for (std::promise<std::string>& one : got) {
      conn.AsyncRecvPkg([&one](std::error_code error, std::string package) {
        one.set_value(error ? error.message() : std::move(package));
      });
    }
    std::string wire;
    for (int i = 0; i < receivers; ++i) wire += gtcp_test::framed(std::to_string(i));
    for (const char byte : wire) {
      if (round % 10 == 0) peer.write({&byte, 1});
    }
    if (round % 10 != 0) peer.write(wire);
    for (int i = 0; i < receivers; ++i) {
      std::future<std::string> package = got[static_cast<std::size_t>(i)].get_future();
      ASSERT_TRUE(comes(package));
      EXPECT_EQ(package.get(), std::to_string(i));
    }
  }
}

TEST(ConcurrentReceivers, GetNothingTwiceWhenTheirTimeoutMeetsThePackage) {
  const gtcp_test::seed_report report;
  auto [conn, peer] = gtcp_test::make_conn_and_peer();
  dice roll(1);
  std::error_code error;
  std::uint32_t next = 0;
  for (int round = rounds(20'000); round > 0; --round) {
    // One package, and two receivers whose time is over at about that moment; a third one takes what they did not.
    std::promise<std::string> first;
    std::promise<std::string> second;
    for (std::promise<std::string>* one : {&first, &second}) {
      conn.AsyncRecvPkgWithTimeout(roll.microseconds(60), [one](std::error_code why, std::string package) {
        EXPECT_TRUE(!why || why == Errc::Timeout) << why;
        one->set_value(std::move(package));
      });
    }
    peer.write(gtcp_test::framed(numbered::make(0, next, 20)));
    int times = 0;
    for (std::promise<std::string>* one : {&first, &second}) {
      std::future<std::string> package = one->get_future();
      ASSERT_TRUE(comes(package));
      const numbered::origin from = numbered::of(package.get());
      if (from.whole && from.number == next) ++times;
    }
    if (times == 0) {
      const numbered::origin from = numbered::of(conn.RecvPkgWithTimeout(gtcp_test::ceiling, error));
      ASSERT_FALSE(error) << "lost";
      ASSERT_TRUE(from.whole);
      ASSERT_EQ(from.number, next);
    } else {
      ASSERT_EQ(times, 1);
    }
    ++next;
  }
}

}  // namespace
