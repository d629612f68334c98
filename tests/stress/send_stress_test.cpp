// SPDX-License-Identifier: MIT
//
// Many senders of every kind on one connection: packages never interleave, none is lost or doubled, and each sender's
// arrive in its order. A send that times out or is cancelled never tears the stream.

#include <gtcp/conn.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using gtcp::Conn;
using gtcp::ConnOption;
using gtcp::Cork;
using gtcp::Errc;
using gtcp_test::comes;
using gtcp_test::dice;
using gtcp_test::rounds;
namespace numbered = gtcp_test::numbered;
using namespace std::chrono_literals;

std::size_t random_size(dice& roll) {
  if (roll.one_in(1000)) return 20'000 + roll(180'000);
  return numbered::head + roll(3000 - numbered::head);
}

// ---- P1

/// Sends `count` packages by every blocking way there is.
void send_as_thread(const Conn& conn, std::uint32_t sender, std::uint32_t count) {
  dice roll(sender);
  std::error_code error;
  for (std::uint32_t next = 0; next < count;) {
    const std::string package = numbered::make(sender, next, random_size(roll));
    switch (roll(5)) {
      case 0: conn.SendPkg(package, error); break;
      case 1: conn.SendPkgWithTimeout(package, roll.microseconds(300), error); break;
      case 2:
        if (!conn.TrySendPkg(package, error) && !error) conn.SendPkg(package, error);
        break;
      case 3: {
        std::vector<std::string> together = {package};
        while (together.size() < 5 && next + together.size() < count) {
          const auto number = next + static_cast<std::uint32_t>(together.size());
          together.push_back(numbered::make(sender, number, random_size(roll)));
        }
        conn.SendPkgs(together, error);
        if (!error) next += static_cast<std::uint32_t>(together.size()) - 1;
        break;
      }
      case 4: {
        const Cork cork(conn);
        conn.SendPkg(package, error);
        break;
      }
    }
    if (!error) ++next;  // what was withdrawn is sent again
    ASSERT_TRUE(!error || error == Errc::Timeout) << error.message();
  }
}

asio::awaitable<void> send_as_coroutine(Conn conn, std::uint32_t sender, std::uint32_t count) {
  dice roll(sender);
  std::error_code error;
  for (std::uint32_t next = 0; next < count;) {
    std::string package = numbered::make(sender, next, random_size(roll));
    switch (roll(4)) {
      case 0: {
        auto sending = conn.AsyncSendPkg(std::move(package), error);
        co_await std::move(sending);
        break;
      }
      case 1: {
        auto sending = conn.AsyncSendPkg(package, error);  // borrowed
        co_await std::move(sending);
        break;
      }
      case 2: {
        auto sending = conn.AsyncSendPkgWithTimeout(package, roll.microseconds(300), error);
        co_await std::move(sending);
        break;
      }
      case 3: {
        const bool sent = conn.TrySendPkg(package, error);
        if (!sent && !error) {
          auto sending = conn.AsyncSendPkg(std::move(package), error);
          co_await std::move(sending);
        }
        break;
      }
    }
    if (!error) ++next;
    EXPECT_TRUE(!error || error == Errc::Timeout) << error.message();
    if (error && error != Errc::Timeout) co_return;
  }
}

struct sharing {
  const char* name;
  std::size_t outbox_limit;
  bool narrow;
};

class SharedConn : public testing::TestWithParam<sharing> {
  const gtcp_test::seed_report report_;
};

TEST_P(SharedConn, PackagesOfManySendersArriveWholeOnceAndInOrder) {
  constexpr std::uint32_t thread_count = 8;
  constexpr std::uint32_t coroutine_count = 8;
  constexpr std::uint32_t timer_count = 2;
  constexpr std::uint32_t senders = thread_count + coroutine_count + timer_count;
  const auto each = static_cast<std::uint32_t>(rounds(GetParam().narrow ? 20'000 : 100'000)) / senders + 1;

  ConnOption option = gtcp_test::wide();
  option.OutboxLimit = GetParam().outbox_limit;
  if (GetParam().narrow) option.SendBufferSize = 8192;
  const auto [a, b] = gtcp_test::make_conn_pair(option, gtcp_test::wide());

  asio::io_context context;
  auto work = asio::make_work_guard(context);
  gtcp_test::thread_group threads;
  std::vector<std::future<void>> done;
  for (std::uint32_t sender = 0; sender < thread_count; ++sender) {
    threads.run([conn = a, sender, each] { send_as_thread(conn, sender, each); });
  }
  for (std::uint32_t i = 0; i < coroutine_count; ++i) {
    const asio::any_io_executor where = i % 2 == 0 ? a.get_executor() : asio::any_io_executor(context.get_executor());
    done.push_back(asio::co_spawn(where, send_as_coroutine(a, thread_count + i, each), asio::use_future));
  }
  gtcp_test::thread_group io;
  io.run([&] { context.run(); });
  io.run([&] { context.run(); });
  for (std::uint32_t i = 0; i < timer_count; ++i) {
    const std::uint32_t sender = thread_count + coroutine_count + i;
    a.SetInterval(1ms, [sender, each, next = std::uint32_t{0}, roll = dice(sender)](Conn conn) mutable {
      for (int burst = 0; burst < 50 && next < each; ++burst, ++next) {
        conn.SendPkg(numbered::make(sender, next, random_size(roll)));
      }
    });
  }

  std::vector<std::uint32_t> expected(senders, 0);
  std::string package;
  std::error_code error;
  for (std::uint64_t left = std::uint64_t{each} * senders; left > 0; --left) {
    b.RecvPkgWithTimeout(package, gtcp_test::ceiling, error);
    ASSERT_FALSE(error) << error.message() << ", missing " << left;
    const numbered::origin from = numbered::of(package);
    ASSERT_TRUE(from.whole) << "torn";
    ASSERT_LT(from.sender, senders);
    ASSERT_EQ(from.number, expected[from.sender]) << "lost, doubled or out of order, from " << from.sender;
    ++expected[from.sender];
  }
  for (std::future<void>& coroutine : done) {
    ASSERT_TRUE(comes(coroutine));
    coroutine.get();
  }
  threads.join();
  work.reset();
  io.join();
  a.Close();
  EXPECT_EQ(b.RecvPkg(error), "");
  EXPECT_EQ(error, asio::error::eof);
}

INSTANTIATE_TEST_SUITE_P(Outboxes, SharedConn,
                         testing::Values(sharing{"Default", 256 * 1024, false}, sharing{"Small", 8 * 1024, false},
                                         sharing{"Narrow", 32 * 1024, true}),
                         [](const auto& kind) { return std::string(kind.param.name); });

// ---- P4

/// What has become of packages, by sender.
class ledger {
 public:
  enum class fate { sent, withdrawn };

  void note(std::uint32_t sender, std::uint32_t number, fate what) {
    const std::lock_guard lock(mutex_);
    EXPECT_TRUE(fates_[sender].emplace(number, what).second) << "completed twice";
  }

  /// Compares with the numbers that came, in the order in which they came.
  void check(const std::map<std::uint32_t, std::vector<std::uint32_t>>& came) const {
    std::size_t sent_count = 0;
    std::size_t withdrawn = 0;
    for (const auto& [sender, packages] : fates_) {
      std::vector<std::uint32_t> sent;
      for (const auto& [number, what] : packages) {
        if (what == fate::sent)
          sent.push_back(number);
        else
          ++withdrawn;
      }
      const auto found = came.find(sender);
      EXPECT_EQ(found == came.end() ? std::vector<std::uint32_t>() : found->second, sent) << "of sender " << sender;
      sent_count += sent.size();
    }
    EXPECT_GT(sent_count, 0u);
    EXPECT_GT(withdrawn, 0u) << "nothing was tested";
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::uint32_t, std::map<std::uint32_t, fate>> fates_;
};

std::size_t size_of_all_kinds(dice& roll) { return numbered::head + (roll.one_in(4) ? roll(60'000) : roll(4000)); }

/// A sender whose every send is cancelled, after a random time, by a signal.
class cancelled_sender : public std::enable_shared_from_this<cancelled_sender> {
 public:
  cancelled_sender(Conn conn, asio::io_context& context, ledger& book, std::uint32_t sender, std::uint32_t count)
      : conn_(std::move(conn)),
        strand_(asio::make_strand(context)),
        timer_(strand_),
        book_(book),
        roll_(sender),
        sender_(sender),
        count_(count) {}

  void start() {
    asio::dispatch(strand_, [self = shared_from_this()] { self->next(); });
  }

 private:
  void next() {
    if (number_ == count_) return;
    auto handler = [self = shared_from_this()](std::error_code error) {
      self->timer_.cancel();
      EXPECT_TRUE(!error || error == asio::error::operation_aborted || error == Errc::TimeoutPartlySent) << error;
      const bool withdrawn = error == asio::error::operation_aborted;
      self->book_.note(self->sender_, self->number_++, withdrawn ? ledger::fate::withdrawn : ledger::fate::sent);
      self->next();
    };
    conn_.AsyncSendPkg(numbered::make(sender_, number_, size_of_all_kinds(roll_)),
                       asio::bind_cancellation_slot(signal_.slot(), asio::bind_executor(strand_, std::move(handler))));
    timer_.expires_after(roll_.microseconds(2000));
    timer_.async_wait([self = shared_from_this()](std::error_code aborted) {
      if (!aborted) self->signal_.emit(asio::cancellation_type::total);
    });
  }

  Conn conn_;
  asio::strand<asio::io_context::executor_type> strand_;
  asio::steady_timer timer_;
  asio::cancellation_signal signal_;
  ledger& book_;
  dice roll_;
  const std::uint32_t sender_;
  const std::uint32_t count_;
  std::uint32_t number_ = 0;
};

asio::awaitable<void> send_with_timeouts(Conn conn, ledger& book, std::uint32_t sender, std::uint32_t count) {
  dice roll(sender);
  for (std::uint32_t number = 0; number < count; ++number) {
    std::error_code error;
    auto sending = conn.AsyncSendPkgWithTimeout(numbered::make(sender, number, size_of_all_kinds(roll)),
                                                roll.microseconds(2000), error);
    co_await std::move(sending);
    EXPECT_TRUE(!error || error == Errc::Timeout || error == Errc::TimeoutPartlySent) << error;
    book.note(sender, number, error == Errc::Timeout ? ledger::fate::withdrawn : ledger::fate::sent);
  }
}

class ImpatientSenders : public testing::TestWithParam<gtcp::SendMode> {
  const gtcp_test::seed_report report_;
};

TEST_P(ImpatientSenders, TearNothingAndLoseNothingAgainstASlowReader) {
  const auto each = static_cast<std::uint32_t>(rounds(400));
  ConnOption option = gtcp_test::wide();
  option.OutboxLimit = 16 * 1024;
  option.SendBufferSize = 4096;
  option.Mode = GetParam();
  auto [own, other] = gtcp_test::connected_sockets(gtcp_test::net::tcp, {.peer_recv = 4096});
  const Conn a = gtcp::NewConnByNetConn(own.release(), {}, option);
  const Conn b = gtcp::NewConnByNetConn(other.release(), {}, gtcp_test::wide());

  ledger book;
  gtcp_test::thread_group threads;
  for (std::uint32_t sender = 0; sender < 4; ++sender) {
    threads.run([conn = a, &book, sender, each] {
      dice roll(sender);
      for (std::uint32_t number = 0; number < each; ++number) {
        const std::string package = numbered::make(sender, number, size_of_all_kinds(roll));
        std::error_code error;
        bool sent = true;
        if (roll.one_in(5))
          sent = conn.TrySendPkg(package, error);
        else
          conn.SendPkgWithTimeout(package, roll.microseconds(2000), error);
        EXPECT_TRUE(!error || error == Errc::Timeout || error == Errc::TimeoutPartlySent) << error;
        const bool withdrawn = !sent || error == Errc::Timeout;
        book.note(sender, number, withdrawn ? ledger::fate::withdrawn : ledger::fate::sent);
      }
    });
  }
  asio::io_context context;
  std::vector<std::future<void>> done;
  for (std::uint32_t sender = 4; sender < 8; ++sender) {
    const asio::any_io_executor where =
        sender % 2 == 0 ? a.get_executor() : asio::any_io_executor(context.get_executor());
    done.push_back(asio::co_spawn(where, send_with_timeouts(a, book, sender, each), asio::use_future));
  }
  for (std::uint32_t sender = 8; sender < 12; ++sender) {
    std::make_shared<cancelled_sender>(a, context, book, sender, each)->start();
  }
  gtcp_test::thread_group io;
  io.run([&] { context.run(); });
  io.run([&] { context.run(); });

  std::map<std::uint32_t, std::vector<std::uint32_t>> came;
  std::error_code read_error;
  std::thread reader([&, conn = b] {
    dice roll(99);
    std::string package;
    for (;;) {
      conn.RecvPkgWithTimeout(package, gtcp_test::ceiling, read_error);
      if (read_error) return;
      const numbered::origin from = numbered::of(package);
      EXPECT_TRUE(from.whole) << "torn";
      if (!from.whole) return;
      came[from.sender].push_back(from.number);
      for (std::size_t pause = roll(200); pause > 0; --pause) std::this_thread::yield();
    }
  });
  threads.join();
  for (std::future<void>& coroutine : done) {
    EXPECT_TRUE(comes(coroutine));
    coroutine.get();
  }
  io.join();
  a.CloseWrite();
  reader.join();
  EXPECT_EQ(read_error, asio::error::eof);
  book.check(came);
}

INSTANTIATE_TEST_SUITE_P(Modes, ImpatientSenders, testing::Values(gtcp::SendMode::Buffered, gtcp::SendMode::Direct),
                         [](const auto& mode) { return mode.param == gtcp::SendMode::Direct ? "Direct" : "Buffered"; });

TEST(AsyncSendPkg, WithATimeoutThatIsOverAtOnceAlwaysCompletes) {
  const gtcp_test::seed_report report;
  const auto [conn, peer] = gtcp_test::make_narrow({.OutboxLimit = 1000});
  const std::string large(20'000, 'x');
  int timed_out = 0;
  for (int round = rounds(5000); round > 0; --round) {
    // Not use_future: an exception that crosses threads is a race for TSan, in the standard library.
    auto result = std::make_shared<std::promise<std::error_code>>();
    std::future<std::error_code> done = result->get_future();
    conn.AsyncSendPkgWithTimeout(large, 0s, [result](std::error_code error) { result->set_value(error); });
    ASSERT_TRUE(comes(done));
    const std::error_code error = done.get();
    ASSERT_TRUE(!error || error == Errc::Timeout) << error;
    if (error) ++timed_out;
  }
  EXPECT_GT(timed_out, 0);
}

}  // namespace
