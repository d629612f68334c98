// SPDX-License-Identifier: MIT
//
// The outbox against a scripted transport: every byte that is written, and every completion, is the test's to say.

#include <gtcp/detail/outbox.hpp>
#include <gtcp/detail/thread_waiters.hpp>
#include <gtcp/detail/time_limit.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/sanitizers.hpp"
#include "support/scripted_sink.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gtcp::Errc;
using gtcp::detail::flush_record;
using gtcp::detail::gathering;
using gtcp::detail::no_deadline;
using gtcp::detail::outbox;
using gtcp::detail::send_outcome;
using gtcp::detail::send_record;
using gtcp::detail::thread_record;
using gtcp::detail::wait_direction;
using gtcp_test::comes;
using gtcp_test::fail_count;
using gtcp_test::framed;
using gtcp_test::pattern;
using gtcp_test::poll_until;
using gtcp_test::write_step;

const std::error_code no_memory_for_it(static_cast<int>(std::errc::no_buffer_space),
                                       asio::error::get_system_category());

class fake_host final : public gtcp::detail::outbox_host {
 public:
  std::atomic<int> awaits{0};
  std::atomic<int> drained{0};
  std::atomic<int> left{0};
  std::atomic<std::thread::id> left_by{};
  std::atomic<wait_direction> direction{wait_direction::none};
  std::atomic<bool> awaiting{false};
  std::atomic<gathering> turn{gathering::none};
  std::atomic<int> turns{0};
  std::atomic<int> further_turns{0};
  std::atomic<bool> input{true};             ///< so that nobody sends in a burst unless a test wants it
  gtcp::detail::clock::time_point time{1s};  ///< stands still unless a test moves it

  void await_writable(wait_direction wanted) override {
    direction = wanted;
    ++awaits;
    awaiting = true;
  }
  void await_turn(gathering how, bool again) override {
    turn = how;
    ++(again ? further_turns : turns);
  }
  bool input_came() noexcept override { return input.load(); }
  gtcp::detail::clock::time_point now() const noexcept override { return time; }
  void on_outbox_drained() override { ++drained; }
  void on_descriptor_left() override {
    left_by = std::this_thread::get_id();
    ++left;
  }
};

/// An asynchronous sender. Counts how often it was told its result.
class sender final : public send_record {
 public:
  explicit sender(std::string payload_bytes, std::size_t header_size = 2) : bytes_(std::move(payload_bytes)) {
    header = gtcp::detail::make_pkg_header({.header_size = header_size, .max_data_size = 0x7FFFFFFF}, bytes_.size());
    payload = asio::buffer(bytes_);
    id = next_id_.fetch_add(1) + 1;
  }
  ~sender() = default;

  sender& directly() {
    direct = true;
    return *this;
  }

  send_outcome go(outbox& out, bool may_wait = true, gathering how = gathering::none) {
    done = false;
    const send_outcome outcome = out.send(*this, may_wait, nullptr, how);
    if (outcome == send_outcome::done) ++results_;
    return outcome;
  }

  int results() const { return results_; }
  int destroyed() const { return destroyed_; }
  int deadline_changes() const { return deadline_changes_; }
  std::string wire() const { return framed(bytes_, header.size); }

  bool finished() override { return true; }
  void complete() override { ++results_; }
  bool is_asynchronous() const noexcept override { return true; }
  void destroy() noexcept override { ++destroyed_; }
  void deadline_changed() override { ++deadline_changes_; }

 private:
  inline static std::atomic<std::uint64_t> next_id_{0};
  const std::string bytes_;
  std::atomic<int> results_{0};
  int destroyed_ = 0;
  int deadline_changes_ = 0;
};

class flusher final : public flush_record {
 public:
  flusher() { id = std::uint64_t{1} << 40; }
  ~flusher() = default;

  send_outcome go(outbox& out) {
    const send_outcome outcome = out.flush(*this);
    if (outcome == send_outcome::done) ++results_;
    return outcome;
  }
  int results() const { return results_; }

  bool finished() override { return true; }
  void complete() override { ++results_; }
  void deadline_changed() override {}

 private:
  std::atomic<int> results_{0};
};

/// Sends in the calling thread, as a connection does. A moment in the past is a timeout of zero.
std::error_code send_blocking(outbox& out, const sender& what, gtcp::detail::clock::time_point until = no_deadline) {
  thread_record<send_record> record;
  record.header = what.header;
  record.payload = what.payload;
  record.direct = what.direct;
  if (out.send(record, true, &record.self) == send_outcome::waiting)
    out.wait(record, record.self, [&] { return until; });
  return record.error;
}

/// Sends what is like `what`, and need not wait.
send_outcome send_once(outbox& out, const sender& what, gathering how = gathering::none) {
  thread_record<send_record> record;
  record.header = what.header;
  record.payload = what.payload;
  return out.send(record, false, nullptr, how);
}

std::error_code flush_blocking(outbox& out, gtcp::detail::clock::time_point until = no_deadline) {
  thread_record<flush_record> record;
  if (out.flush(record, &record.self) == send_outcome::waiting) out.wait(record, record.self, [&] { return until; });
  return record.error;
}

const gtcp::detail::clock::time_point already = gtcp::detail::clock::time_point::min();

class Outbox : public testing::Test {
 protected:
  Outbox() { door.close(); }
  ~Outbox() override { EXPECT_FALSE(sink.overlapped()) << "two writers at once"; }

  outbox& make(std::size_t limit = 256 * 1024) {
    out_ = std::make_unique<outbox>(sink, door.descriptor(), host, limit);
    return *out_;
  }

  /// Lets the io thread of the host find the transport writable, until nothing waits for that any more.
  void make_writable() {
    while (host.awaiting.exchange(false)) out_->on_writable();
  }
  /// Once.
  void make_writable_once() {
    ASSERT_TRUE(host.awaiting.exchange(false)) << "nobody waits";
    out_->on_writable();
  }

  /// Leaves one byte of a first package pending, so that what comes after it has to wait.
  void block() {
    sink.on_writes({write_step::takes(first_wire.size() - 1)}, write_step::blocks());
    ASSERT_EQ(first.go(*out_), send_outcome::done);
    ASSERT_EQ(out_->pending_bytes(), 1u);
  }
  void unblock() { sink.on_writes({}); }
  /// Blocks, has `waits` wait for room, and a package handler send `pkg`.
  void keep_behind(sender& waits, const sender& pkg) {
    block();
    ASSERT_EQ(waits.go(*out_), send_outcome::waiting);
    ASSERT_EQ(send_once(*out_, pkg, gathering::by_dispatch), send_outcome::done) << "it never waits";
  }

  gtcp_test::scripted_sink sink;
  gtcp_test::gate door;
  fake_host host;
  sender first{"f"};
  const std::string first_wire = framed("f");

 private:
  std::unique_ptr<outbox> out_;
};

// ---- Straight out

TEST_F(Outbox, TellsSinceWhenTheTransportTakesNothing) {
  outbox& out = make();
  EXPECT_EQ(out.stalled_since(), no_deadline);
  const auto begin = host.time;
  block();
  EXPECT_EQ(out.stalled_since(), begin);
  host.time += 1s;
  make_writable_once();
  EXPECT_EQ(out.stalled_since(), begin) << "it was tried, and took nothing";
  sender more("more");
  ASSERT_EQ(more.go(out), send_outcome::done);
  host.time += 1s;
  sink.on_writes({write_step::takes(1)}, write_step::blocks());
  make_writable_once();
  EXPECT_EQ(out.stalled_since(), host.time) << "a byte is progress";
  host.time += 1s;
  sink.on_writes({{.take = 0, .moves_held = true}}, write_step::blocks());
  make_writable_once();
  EXPECT_EQ(out.stalled_since(), host.time) << "so is one of what a layer holds";
  unblock();
  make_writable();
  EXPECT_EQ(out.stalled_since(), no_deadline);
}

TEST_F(Outbox, WritesAPackageStraightFromItsSendersMemory) {
  outbox& out = make();
  sender one("hello");
  EXPECT_EQ(one.go(out), send_outcome::done);
  EXPECT_FALSE(one.error);
  EXPECT_EQ(sink.written(), framed("hello"));
  ASSERT_EQ(sink.writes(), 1u);
  ASSERT_EQ(sink.parts(0).size(), 2u);
  EXPECT_EQ(sink.parts(0)[1].data, one.payload.data());
  EXPECT_EQ(host.awaits, 0);
}

TEST_F(Outbox, WritesRawBytesWithoutAHeader) {
  outbox& out = make();
  sender raw("raw bytes", 0);
  EXPECT_EQ(raw.go(out), send_outcome::done);
  EXPECT_EQ(sink.written(), "raw bytes");
  ASSERT_EQ(sink.parts(0).size(), 1u);
}

TEST_F(Outbox, WritesAnEmptyPackageAndNothingAtAll) {
  outbox& out = make();
  sender empty("");
  sender nothing("", 0);
  EXPECT_EQ(empty.go(out), send_outcome::done);
  EXPECT_EQ(nothing.go(out), send_outcome::done);
  EXPECT_EQ(sink.written(), framed(""));
  sender direct("", 0);
  direct.directly().go(out);
  EXPECT_EQ(direct.results(), 1);
}

TEST_F(Outbox, KeepsTheRestOfAPartialWriteOfEverySize) {
  const std::string wire = framed("0123456789");
  for (std::size_t taken = 0; taken < wire.size(); ++taken) {
    gtcp_test::scripted_sink pieces;
    fake_host io;
    outbox out(pieces, door.descriptor(), io, 1000);
    pieces.on_writes({write_step::takes(taken)});
    auto one = std::make_unique<sender>("0123456789");
    ASSERT_EQ(one->go(out), send_outcome::done) << taken;
    EXPECT_FALSE(one->error);
    one.reset();  // what is left was copied
    EXPECT_EQ(out.pending_bytes(), wire.size() - taken);
    EXPECT_EQ(io.awaits, 1);
    sender next("next");
    EXPECT_EQ(next.go(out), send_outcome::done);
    out.on_writable();
    EXPECT_EQ(pieces.written(), wire + framed("next")) << taken;
    EXPECT_EQ(out.pending_bytes(), 0u);
    EXPECT_EQ(io.awaits, io.awaiting ? 1 : 0);
  }
}

TEST_F(Outbox, DribblesOutByteByByte) {
  outbox& out = make();
  sink.on_writes({}, write_step::takes(1));
  std::deque<sender> senders;
  std::string wire;
  for (int i = 0; i < 40; ++i) {
    sender& one = senders.emplace_back(pattern(static_cast<std::size_t>(i), static_cast<unsigned>(i)));
    if (i % 3 == 1) one.directly();
    wire += one.wire();
    one.go(out);
  }
  make_writable();
  EXPECT_EQ(sink.written(), wire);
  for (const sender& one : senders) {
    EXPECT_EQ(one.results(), 1);
    EXPECT_FALSE(one.error);
  }
}

TEST_F(Outbox, WaitsForWhatTheTransportAsksFor) {
  outbox& out = make();
  sink.on_writes({write_step::blocks(wait_direction::read)});
  sender one("one");
  one.go(out);
  EXPECT_EQ(host.direction, wait_direction::read);
  sink.on_writes({write_step::blocks(wait_direction::both)});
  make_writable_once();
  EXPECT_EQ(host.direction, wait_direction::both);
}

TEST_F(Outbox, WaitsAnewWhenTheTransportAsksForSomethingElse) {
  outbox& out = make();
  sink.on_writes({write_step::blocks(wait_direction::read), write_step::blocks(wait_direction::write)});
  sender one("one");
  one.go(out);
  sender two("two");
  two.direct = true;
  two.go(out);  // finds that it could be written now
  EXPECT_EQ(host.awaits, 2);
  EXPECT_EQ(host.direction, wait_direction::write);
}

TEST_F(Outbox, PutsBehindEachOtherWhatComesDuringAWrite) {
  outbox& out = make();
  sender two("two");
  sender three("three");
  sink.on_writes({write_step::everything().with([&] {
    EXPECT_EQ(two.go(out), send_outcome::done);
    EXPECT_EQ(three.go(out), send_outcome::done);
  })});
  sender one("one");
  one.go(out);
  EXPECT_EQ(sink.written(), framed("one") + framed("two") + framed("three"));
  EXPECT_EQ(sink.writes(), 2u) << "together";
}

TEST_F(Outbox, PutsTheRestBeforeWhatCameDuringTheWrite) {
  outbox& out = make();
  sender two("two");
  sink.on_writes({write_step::takes(4).with([&] { EXPECT_EQ(two.go(out), send_outcome::done); })});
  sender one("one");
  one.go(out);
  make_writable();
  EXPECT_EQ(sink.written(), framed("one") + framed("two"));
}

// ---- Room

TEST_F(Outbox, LimitsWhatWaitsStrictlyInBytesAndWholePackages) {
  constexpr std::size_t limit = 100;
  outbox& out = make(limit);
  block();  // one byte
  sender most(pattern(limit - 1 - 2));
  sender byte_too_many(pattern(limit - 1 - 2 + 1));
  EXPECT_EQ(byte_too_many.go(out, false), send_outcome::refused);
  EXPECT_EQ(out.pending_bytes(), 1u) << "nothing of a refused package is taken";
  EXPECT_EQ(most.go(out, false), send_outcome::done);
  EXPECT_EQ(out.pending_bytes(), limit);
  sender smallest("", 0);
  sender small("", 1);
  EXPECT_EQ(small.go(out, false), send_outcome::refused);
  EXPECT_EQ(small.go(out), send_outcome::waiting);
  EXPECT_EQ(small.results(), 0);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + most.wire() + small.wire());
  EXPECT_EQ(small.results(), 1);
}

TEST_F(Outbox, AcceptsOnePackageOverTheLimitWhenNothingElseWaits) {
  outbox& out = make(10);
  sink.on_writes({write_step::blocks()}, write_step::blocks());
  sender large(pattern(50));
  EXPECT_EQ(large.go(out, false), send_outcome::done);
  EXPECT_EQ(out.pending_bytes(), 52u);
  sender next("n");
  EXPECT_EQ(next.go(out, false), send_outcome::refused);
  unblock();
  make_writable();
  EXPECT_EQ(next.go(out, false), send_outcome::done);
  EXPECT_EQ(sink.written(), large.wire() + next.wire());
}

TEST_F(Outbox, NobodyPassesAWaitingAsynchronousSend) {
  outbox& out = make(100);
  block();
  sender large(pattern(99));
  sender small("s");
  EXPECT_EQ(large.go(out), send_outcome::waiting);
  EXPECT_EQ(small.go(out, false), send_outcome::refused) << "there would be room, but others are before it";
  EXPECT_EQ(small.go(out), send_outcome::waiting);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + large.wire() + small.wire());
}

TEST_F(Outbox, WakesWaitingSendersWhenHalfIsFree) {
  outbox& out = make(100);
  sink.on_writes({write_step::blocks()}, write_step::blocks());
  sender most(pattern(98));
  most.go(out);
  sender waiting(pattern(10));
  EXPECT_EQ(waiting.go(out), send_outcome::waiting);
  sink.on_writes({write_step::takes(40)}, write_step::blocks());
  make_writable_once();
  EXPECT_EQ(waiting.results(), 0) << "60 of 100 are taken";
  sink.on_writes({write_step::takes(10)}, write_step::blocks());
  make_writable_once();
  make_writable_once();
  EXPECT_EQ(waiting.results(), 1) << "50 of 100";
  EXPECT_EQ(out.pending_bytes(), 50u + 12u);
}

TEST_F(Outbox, ServesThreadsAndAsynchronousSendersInTheOrderInWhichTheyCame) {
  outbox& out = make(64);
  block();
  sender filler(pattern(61));
  ASSERT_EQ(filler.go(out), send_outcome::done);
  std::deque<sender> senders;
  std::vector<std::thread> threads;
  std::string wire = first_wire + filler.wire();
  for (int i = 0; i < 12; ++i) {
    sender& one = senders.emplace_back(pattern(static_cast<std::size_t>(10 + i), static_cast<unsigned>(i)));
    wire += one.wire();
    if (i % 2 == 0) {
      ASSERT_EQ(one.go(out), send_outcome::waiting);
      continue;
    }
    // The thread is in the queue when a send behind it has to wait for it.
    std::latch queued(1);
    threads.emplace_back([&out, &one, &queued] {
      thread_record<send_record> record;
      record.header = one.header;
      record.payload = one.payload;
      EXPECT_EQ(out.send(record, true, &record.self), send_outcome::waiting);
      queued.count_down();
      out.wait(record, record.self, [] { return no_deadline; });
      EXPECT_FALSE(record.error);
    });
    queued.wait();
  }
  unblock();
  door.open();
  make_writable();
  for (std::thread& thread : threads) thread.join();
  make_writable();
  EXPECT_EQ(sink.written(), wire);
  for (int i = 0; i < 12; i += 2) EXPECT_EQ(senders[static_cast<std::size_t>(i)].results(), 1);
}

// ---- Large payloads

TEST_F(Outbox, NeverCopiesALargePayloadWhileItsSenderWaits) {
  outbox& out = make();
  block();
  sender large(pattern(outbox::borrow_from));
  EXPECT_EQ(large.go(out), send_outcome::waiting);
  EXPECT_EQ(out.pending_bytes(), 1u);
  const char* const begin = static_cast<const char*>(large.payload.data());
  sink.on_writes({write_step::takes(1 + 2 + 1000), write_step::takes(5000), write_step::everything()});
  const std::size_t before = sink.writes();
  make_writable();
  ASSERT_EQ(sink.writes(), before + 3);
  EXPECT_EQ(sink.parts(before).back().data, begin);
  EXPECT_EQ(sink.parts(before + 1).back().data, begin + 1000);
  EXPECT_EQ(sink.parts(before + 2).back().data, begin + 6000);
  EXPECT_EQ(large.results(), 1);
  EXPECT_EQ(sink.written(), first_wire + large.wire());
}

TEST_F(Outbox, DoesNotCopyALargePayloadOfATrySendThatGoesOutWhole) {
  outbox& out = make();
  sender large(pattern(100'000), 4);
  EXPECT_EQ(large.go(out, false), send_outcome::done);
  EXPECT_EQ(sink.parts(0)[1].data, large.payload.data());
}

TEST_F(Outbox, GathersMoreSendersThanOneWriteTakes) {
  outbox& out = make();
  block();
  std::deque<sender> senders;
  std::string wire = first_wire;
  for (unsigned i = 0; i < 150; ++i) {
    sender& one = senders.emplace_back("package " + std::to_string(i));
    wire += one.wire();
    EXPECT_EQ(one.directly().go(out), send_outcome::waiting);
  }
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), wire);
  for (const sender& one : senders) EXPECT_EQ(one.results(), 1);
}

// ---- Giving up

TEST_F(Outbox, WithdrawsASendOfWhichNoByteIsOut) {
  outbox& out = make(10);
  block();
  sender small(pattern(12));
  sender large(pattern(20'000));
  sender direct("direct");
  sender stays("stays");
  small.go(out);
  large.go(out);
  direct.directly().go(out);
  stays.go(out);
  out.stop(small.id, Errc::Timeout);
  out.stop(large.id, asio::error::operation_aborted);
  out.stop(direct.id, Errc::Timeout);
  EXPECT_EQ(small.error, Errc::Timeout);
  EXPECT_EQ(large.error, asio::error::operation_aborted);
  EXPECT_EQ(direct.error, Errc::Timeout);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + stays.wire());
  for (const sender* one : {&small, &large, &direct, &stays}) EXPECT_EQ(one->results(), 1);
}

TEST_F(Outbox, SendsTheRestOfAPackageWhoseSenderGaveUpBeforeAnythingElse) {
  for (const bool direct : {false, true}) {
    const std::string bytes = pattern(direct ? 30 : 20'000);
    for (std::size_t taken = 1; taken < bytes.size() + 2; taken += taken < 40 ? 1 : 3333) {
      gtcp_test::scripted_sink pieces;
      fake_host io;
      outbox out(pieces, door.descriptor(), io, 100);
      pieces.on_writes({write_step::takes(taken)}, write_step::blocks());
      auto one = std::make_unique<sender>(bytes);
      one->direct = direct;
      ASSERT_EQ(one->go(out), send_outcome::waiting);
      sender next("next");
      next.go(out);
      EXPECT_EQ(out.pending_bytes(), 0u);
      out.stop(one->id, Errc::Timeout);
      EXPECT_EQ(one->results(), 1);
      EXPECT_EQ(one->error, direct ? make_error_code(Errc::TimeoutPartlySent) : std::error_code()) << taken;
      one.reset();
      pieces.on_writes({}, write_step::takes(7777));
      while (io.awaiting.exchange(false)) out.on_writable();
      EXPECT_EQ(pieces.written(), framed(bytes) + framed("next")) << taken;
      EXPECT_EQ(next.results(), 1);
    }
  }
}

TEST_F(Outbox, AnswersToTheSenderThatGivesUpDuringAWriteWhatTheWriteDid) {
  const std::string bytes = pattern(30);
  for (const bool direct : {false, true}) {
    for (std::size_t taken = 0; taken <= bytes.size() + 2; ++taken) {
      gtcp_test::scripted_sink pieces;
      fake_host io;
      outbox out(pieces, door.descriptor(), io, 20);
      pieces.on_writes({write_step::blocks()}, write_step::blocks());
      sender before(pattern(20, 9));
      before.go(out);
      sender one(bytes);
      one.direct = direct;
      ASSERT_EQ(one.go(out), send_outcome::waiting);
      sender next("next");
      next.directly().go(out);
      pieces.on_writes({write_step::takes(before.wire().size() + taken).with([&] {
                         out.stop(one.id, Errc::Timeout);
                         EXPECT_EQ(one.results(), 0) << "its memory is being written";
                       })},
                       write_step::blocks());
      io.awaiting = false;
      out.on_writable();
      ASSERT_EQ(one.results(), 1);
      const bool out_whole = taken == bytes.size() + 2;
      if (taken == 0)
        EXPECT_EQ(one.error, Errc::Timeout);
      else if (direct && !out_whole)
        EXPECT_EQ(one.error, Errc::TimeoutPartlySent);
      else
        EXPECT_FALSE(one.error);
      pieces.on_writes({});
      while (io.awaiting.exchange(false)) out.on_writable();
      EXPECT_EQ(pieces.written(), before.wire() + (taken == 0 ? std::string() : one.wire()) + next.wire()) << taken;
      EXPECT_EQ(next.results(), 1);
    }
  }
}

TEST_F(Outbox, AThreadThatGivesUpDuringAWriteWaitsForItsEnd) {
  outbox& out = make();
  block();
  sender one(pattern(20'000));
  std::latch in_write(1);
  std::latch may_end(1);
  std::atomic<bool> returned{false};
  std::atomic<bool> expired{false};
  thread_record<send_record> record;
  record.header = one.header;
  record.payload = one.payload;
  ASSERT_EQ(out.send(record, true, &record.self), send_outcome::waiting);
  sink.on_writes({write_step::takes(1 + 100).with([&] {
                   in_write.count_down();
                   may_end.wait();
                 })},
                 write_step::blocks());
  std::thread io([&] { make_writable_once(); });
  in_write.wait();
  std::thread waiter([&] {
    out.wait(record, record.self, [&] {
      expired = true;
      return already;
    });
    returned = true;
  });
  EXPECT_TRUE(poll_until([&] { return expired.load(); }));
  EXPECT_FALSE(returned);
  may_end.count_down();
  waiter.join();
  io.join();
  EXPECT_FALSE(record.error) << "its first byte is out, so it is done";
  EXPECT_EQ(out.pending_bytes(), one.wire().size() - 100);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + one.wire());
}

TEST_F(Outbox, AThreadWithATimeoutOfZeroTriesOnce) {
  outbox& out = make(10);
  EXPECT_FALSE(send_blocking(out, sender("out"), already));
  EXPECT_EQ(sink.written(), framed("out"));
  block();
  EXPECT_EQ(send_blocking(out, sender(pattern(11)), already), Errc::Timeout);
  EXPECT_EQ(send_blocking(out, sender(pattern(50'000)), already), Errc::Timeout);
  EXPECT_EQ(flush_blocking(out, already), Errc::Timeout);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), framed("out") + first_wire);
}

TEST_F(Outbox, IgnoresAStopForWhatIsNotThere) {
  outbox& out = make();
  out.stop(4711, Errc::Timeout);
  block();
  sender waiting(pattern(20'000));
  waiting.go(out);
  out.stop(waiting.id + 1, Errc::Timeout);
  EXPECT_EQ(waiting.results(), 0);
  unblock();
  make_writable();
  out.stop(waiting.id, Errc::Timeout);
  EXPECT_EQ(waiting.results(), 1);
}

TEST_F(Outbox, AsksAQueuedSenderForItsDeadlineSoThatNoneCanPassUnseen) {
  outbox& out = make(10);
  sender straight("x");
  straight.go(out);
  EXPECT_EQ(straight.deadline_changes(), 0) << "needs none";
  block();
  sender waiting(pattern(20));
  waiting.go(out);
  EXPECT_EQ(waiting.deadline_changes(), 1);
  out.deadline_changed();
  EXPECT_EQ(waiting.deadline_changes(), 2);
  out.stop(waiting.id, Errc::Timeout);
  EXPECT_EQ(waiting.results(), 1);
}

// ---- Direct

TEST_F(Outbox, ADirectSendIsDoneWhenItIsWithTheSystem) {
  outbox& out = make();
  sender one("direct");
  EXPECT_EQ(one.directly().go(out), send_outcome::waiting);
  EXPECT_EQ(one.results(), 1);
  sink.on_writes({write_step::takes(3)}, write_step::blocks());
  sender two("direct too");
  two.directly().go(out);
  EXPECT_EQ(two.results(), 0);
  unblock();
  make_writable();
  EXPECT_EQ(two.results(), 1);
  EXPECT_EQ(sink.written(), one.wire() + two.wire());
}

TEST_F(Outbox, ADirectSendByAThreadReturnsWhenItIsWithTheSystem) {
  outbox& out = make();
  EXPECT_FALSE(send_blocking(out, sender("one").directly()));
  EXPECT_EQ(sink.written(), framed("one"));
  sink.on_writes({write_step::blocks()});
  std::thread thread([&] { EXPECT_FALSE(send_blocking(out, sender("two").directly())); });
  ASSERT_TRUE(poll_until([&] { return sink.writes() == 2; }));
  door.open();
  thread.join();
  EXPECT_EQ(sink.written(), framed("one") + framed("two"));
}

// ---- Threads that claim to write

/// A package of a thread that has to be with the system, step by step.
class claimant {
 public:
  explicit claimant(const std::string& payload) : from_(payload) {
    record_.header = from_.header;
    record_.payload = from_.payload;
    record_.direct = true;
  }
  send_outcome claim(outbox& out) { return out.send(record_, true, &record_.self); }
  std::error_code wait(outbox& out, gtcp::detail::clock::time_point until = no_deadline) {
    out.wait(record_, record_.self, [&] { return until; });
    return record_.error;
  }

 private:
  sender from_;
  thread_record<send_record> record_;
};

TEST_F(Outbox, AThreadWritesItsPackageItselfOnceNobodyElseDoes) {
  outbox& out = make();
  claimant two("two");
  sink.on_writes({write_step::everything().with([&] { EXPECT_EQ(two.claim(out), send_outcome::waiting); })});
  EXPECT_FALSE(send_blocking(out, sender("one").directly()));
  EXPECT_EQ(sink.written(), framed("one")) << "the writer does not write for others";
  EXPECT_FALSE(two.wait(out));
  EXPECT_EQ(sink.written(), framed("one") + framed("two"));
  EXPECT_EQ(sink.writes(), 2u);
}

TEST_F(Outbox, AThreadGoesOnWritingUntilTheNextOneIsAwakeAndSaysThatMoreFollows) {
  outbox& out = make();
  claimant two("two");
  sink.on_writes({write_step::everything().with([&] { two.claim(out); })});
  EXPECT_FALSE(send_blocking(out, sender("one").directly()));
  EXPECT_FALSE(send_blocking(out, sender("three").directly()));
  EXPECT_EQ(sink.kept(), "m");
  EXPECT_FALSE(two.wait(out));
  EXPECT_EQ(sink.written(), framed("one") + framed("three") + framed("two"));
  EXPECT_EQ(sink.kept(), "m") << "the last write keeps nothing back";
}

TEST_F(Outbox, WhatIsKeptBackGoesOutWhenWhoWaitedGivesUp) {
  outbox& out = make();
  claimant two("two");
  sink.on_writes({write_step::everything().with([&] { two.claim(out); }),
                  write_step::everything().with([&] { EXPECT_EQ(two.wait(out, already), Errc::Timeout); })});
  EXPECT_FALSE(send_blocking(out, sender("one").directly()));
  EXPECT_FALSE(send_blocking(out, sender("three").directly()));
  EXPECT_EQ(sink.kept(), "mp");
  EXPECT_EQ(sink.written(), framed("one") + framed("three")) << "withdrawn whole";
}

TEST_F(Outbox, AThreadThatWaitsForItsClaimGoesBehindWhatCameMeanwhile) {
  outbox& out = make();
  claimant two("two");
  sender three("three");
  sink.on_writes({write_step::everything().with([&] {
    two.claim(out);
    three.go(out);  // asynchronous: nobody passes it
  })});
  EXPECT_FALSE(send_blocking(out, sender("one").directly()));
  EXPECT_EQ(three.results(), 1);
  EXPECT_FALSE(two.wait(out));
  EXPECT_EQ(sink.written(), framed("one") + framed("three") + framed("two"));
}

TEST_F(Outbox, TheRestOfAThreadsPackageGoesOutBeforeWhatCameDuringItsWrite) {
  outbox& out = make();
  claimant two("two");
  sender three("three");
  sink.on_writes({write_step::takes(3).with([&] {
                    two.claim(out);
                    three.go(out);
                  }),
                  write_step::blocks()});
  std::thread thread([&] { EXPECT_FALSE(send_blocking(out, sender("one").directly())); });
  ASSERT_TRUE(poll_until([&] { return sink.writes() >= 1; }));
  door.open();
  thread.join();
  EXPECT_FALSE(two.wait(out));
  make_writable();
  EXPECT_EQ(sink.written(), framed("one") + framed("three") + framed("two"));
}

TEST_F(Outbox, CloseEndsTheWaitForAClaim) {
  outbox& out = make();
  claimant two("two");
  sink.on_writes({write_step::everything().with([&] {
    two.claim(out);
    out.end(Errc::Closed, false);
  })});
  EXPECT_FALSE(send_blocking(out, sender("one").directly())) << "its byte was out";
  EXPECT_EQ(two.wait(out), Errc::Closed);
  EXPECT_EQ(sink.written(), framed("one"));
  EXPECT_EQ(host.drained, 1);
}

TEST_F(Outbox, AFailedWriteEndsTheWaitForAClaim) {
  outbox& out = make();
  claimant two("two");
  sink.on_writes({write_step::fails(asio::error::connection_reset).with([&] { two.claim(out); })});
  EXPECT_EQ(send_blocking(out, sender("one").directly()), asio::error::connection_reset);
  EXPECT_EQ(two.wait(out), asio::error::connection_reset);
}

TEST_F(Outbox, AFailedWriteEndsWhatCameDuringIt) {
  for (const bool by_thread : {false, true}) {
    outbox& out = make();
    sender large(pattern(outbox::borrow_from));
    flusher flush;
    sink.on_writes({write_step::fails(asio::error::connection_reset).with([&] {
      large.go(out);
      flush.go(out);
    })});
    sender one("one");
    if (by_thread)
      EXPECT_EQ(send_blocking(out, sender("one").directly()), asio::error::connection_reset);
    else
      one.go(out);
    EXPECT_EQ(large.results(), 1);
    EXPECT_EQ(large.error, asio::error::connection_reset);
    EXPECT_EQ(flush.results(), 1);
  }
}

// ---- Flush

TEST_F(Outbox, FlushIsDoneAtOnceWhenNothingWaits) {
  outbox& out = make();
  flusher flush;
  EXPECT_EQ(flush.go(out), send_outcome::done);
  EXPECT_FALSE(flush.error);
}

TEST_F(Outbox, FlushWaitsForWhatWasAcceptedBeforeItAndNotForMore) {
  outbox& out = make();
  block();
  sender before("before");
  before.go(out);
  flusher flush;
  EXPECT_EQ(flush.go(out), send_outcome::waiting);
  sender after("after");
  after.go(out);
  sink.on_writes({write_step::takes(1), write_step::takes(before.wire().size() - 1)}, write_step::blocks());
  make_writable_once();
  EXPECT_EQ(flush.results(), 0);
  sink.on_writes({write_step::takes(1)}, write_step::blocks());
  make_writable_once();
  EXPECT_EQ(flush.results(), 1);
  EXPECT_FALSE(flush.error);
  EXPECT_EQ(sink.written(), first_wire + before.wire());
}

TEST_F(Outbox, FlushWaitsForItsOwnPackageAlsoWhenARestIsPutBeforeIt) {
  outbox& out = make();
  sender mine("mine");
  flusher flush;
  sink.on_writes({write_step::takes(3).with([&] {
                   mine.go(out);
                   flush.go(out);
                 })},
                 write_step::blocks());
  sender other("other's package");
  other.go(out);
  ASSERT_EQ(flush.results(), 0);
  sink.on_writes({write_step::takes(other.wire().size() - 3)}, write_step::blocks());
  make_writable_once();
  EXPECT_EQ(flush.results(), 0) << "mine is not out";
  unblock();
  make_writable();
  EXPECT_EQ(flush.results(), 1);
  EXPECT_EQ(sink.written(), other.wire() + mine.wire());
}

TEST_F(Outbox, FlushDuringAStraightWriteOfSomebodyElseEnds) {
  outbox& out = make();
  flusher flush;
  sink.on_writes({write_step::everything().with([&] { flush.go(out); })});
  sender one("one");
  one.go(out);
  make_writable();
  EXPECT_EQ(flush.results(), 1);
}

TEST_F(Outbox, FlushByAThreadDuringAStraightWriteOfSomebodyElseEnds) {
  outbox& out = make();
  door.open();
  std::latch in_write(1);
  std::latch may_end(1);
  sink.on_writes({write_step::everything().with([&] {
    in_write.count_down();
    may_end.wait();
  })});
  std::thread other([&] { sender("one").go(out); });
  in_write.wait();
  std::future<std::error_code> flushed = std::async(std::launch::async, [&] { return flush_blocking(out); });
  may_end.count_down();
  other.join();
  ASSERT_TRUE(comes(flushed));
  EXPECT_FALSE(flushed.get());
}

TEST_F(Outbox, FlushCanBeStopped) {
  outbox& out = make();
  block();
  flusher flush;
  flush.go(out);
  out.stop(flush.id, asio::error::operation_aborted);
  EXPECT_EQ(flush.results(), 1);
  EXPECT_EQ(flush.error, asio::error::operation_aborted);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire);
}

TEST_F(Outbox, FlushSaysWhyTheBytesWillNotGoOut) {
  outbox& out = make();
  block();
  flusher flush;
  flush.go(out);
  sink.on_writes({write_step::fails(asio::error::broken_pipe)});
  make_writable();
  EXPECT_EQ(flush.error, asio::error::broken_pipe);
  flusher later;
  EXPECT_EQ(later.go(out), send_outcome::done);
  EXPECT_EQ(later.error, asio::error::broken_pipe);
}

TEST_F(Outbox, ABlockedFlushDrainsByItselfWhereNoIoThreadDoes) {
  outbox& out = make();
  block();
  std::future<std::error_code> flushed = std::async(std::launch::async, [&] { return flush_blocking(out); });
  unblock();
  door.open();  // the host never calls on_writable
  ASSERT_TRUE(comes(flushed));
  EXPECT_FALSE(flushed.get());
  EXPECT_EQ(sink.written(), first_wire);
}

// ---- Cork

TEST_F(Outbox, ACorkHoldsSmallPackagesBackUntilItsEnd) {
  outbox& out = make();
  out.cork();
  out.cork();
  sender one("one");
  sender two("two");
  EXPECT_EQ(one.go(out), send_outcome::done);
  EXPECT_EQ(two.go(out, false), send_outcome::done);
  out.uncork();
  EXPECT_EQ(sink.writes(), 0u);
  EXPECT_EQ(host.awaits, 0) << "nobody is to send it";
  out.uncork();
  EXPECT_EQ(sink.writes(), 1u);
  EXPECT_EQ(sink.written(), one.wire() + two.wire());
  out.uncork();  // one too many does no harm
  sender three("three");
  three.go(out);
  EXPECT_EQ(sink.writes(), 2u);
}

TEST_F(Outbox, ACorkLetsGoAtItsLimitAndWhenTheOutboxIsFull) {
  outbox& out = make(outbox::cork_limit + 6000);
  out.cork();
  std::deque<sender> senders;
  std::size_t held = 0;
  while (sink.writes() == 0) {
    sender& one = senders.emplace_back(pattern(5000));
    held += one.wire().size();
    ASSERT_EQ(one.go(out), send_outcome::done);
  }
  EXPECT_GE(held, outbox::cork_limit);
  EXPECT_LT(held, outbox::cork_limit + 5002);
  EXPECT_EQ(sink.written().size(), held);

  gtcp_test::scripted_sink other_sink;
  outbox small(other_sink, door.descriptor(), host, 20);
  small.cork();
  sender ten(pattern(10));
  sender eleven(pattern(11));
  ten.go(small);
  EXPECT_EQ(eleven.go(small), send_outcome::waiting);
  EXPECT_EQ(eleven.results(), 1);
  EXPECT_EQ(other_sink.written(), ten.wire() + eleven.wire());
}

// A peer that takes everything is not slow, whatever is held back for it.
TEST_F(Outbox, WhatIsHeldBackDoesNotKeepTheRoomOfWhoNeverWaits) {
  using gtcp::QueuePolicy;
  for (const QueuePolicy policy : {QueuePolicy::Drop, QueuePolicy::Fail, QueuePolicy::Close, QueuePolicy::Block}) {
    for (const gathering how : {gathering::none, gathering::by_dispatch, gathering::by_thread}) {
      gtcp_test::scripted_sink taking;
      outbox small(taking, door.descriptor(), host, 30, policy);
      if (how == gathering::none) small.cork();
      std::string sent;
      for (int i = 0; i < 20; ++i) {
        sender ten(pattern(10));
        ASSERT_EQ(ten.go(small, policy != QueuePolicy::Block, how), send_outcome::done) << i;
        ASSERT_FALSE(ten.error) << ten.error.message();
        sent += ten.wire();
      }
      small.flush_held();
      EXPECT_EQ(taking.written(), sent);
      EXPECT_EQ(small.counted().dropped_pkgs, 0u);
    }
  }
}

TEST_F(Outbox, ACorkLetsGoBeforeWaitingForInputAndForAFlush) {
  outbox& out = make();
  out.cork();
  out.flush_held();
  EXPECT_EQ(sink.writes(), 0u);
  sender one("one");
  one.go(out);
  out.flush_held();
  EXPECT_EQ(sink.written(), one.wire());
  sender two("two");
  two.go(out);
  flusher flush;
  flush.go(out);
  EXPECT_EQ(flush.results(), 1);
  EXPECT_EQ(sink.written(), one.wire() + two.wire());
  sender large(pattern(300 * 1024), 4);
  sender three("three");
  three.go(out);
  EXPECT_EQ(large.go(out, false), send_outcome::done);
  EXPECT_EQ(sink.written(), one.wire() + two.wire() + three.wire() + large.wire());
}

TEST_F(Outbox, ACorkLetsGoOfWhatCameDuringTheWritesOfOthers) {
  enum class asks { later, reading, flushing };
  for (const bool appends : {false, true}) {
    for (const asks how : {asks::later, asks::reading, asks::flushing}) {
      outbox& out = make();
      sink.clear();
      sender large(pattern(20'000));
      sender one("one");
      sender two("two");
      flusher flush;
      out.cork();
      const auto comes_too = [&](sender& pkg) {
        if (appends)
          EXPECT_TRUE(out.append(pkg.header, pkg.payload, gathering::none));
        else
          pkg.go(out);
      };
      // What comes during the first write goes out with the second one; what comes during that may be held back.
      sink.on_writes({write_step::everything().with([&] { comes_too(one); }), write_step::everything().with([&] {
                        comes_too(two);
                        if (how == asks::reading) out.flush_held();
                        if (how == asks::flushing) flush.go(out);
                      })});
      ASSERT_EQ(large.go(out, false), send_outcome::done);
      if (how == asks::later) {
        EXPECT_TRUE(sink.written() == large.wire() + one.wire());
        out.flush_held();
      }
      make_writable();
      EXPECT_TRUE(sink.written() == large.wire() + one.wire() + two.wire()) << appends << static_cast<int>(how);
      EXPECT_EQ(flush.results(), how == asks::flushing ? 1 : 0);
      sender later("later");
      sink.clear();
      later.go(out);
      EXPECT_EQ(sink.writes(), 0u) << "the Cork holds further ones back";
      out.uncork();
    }
  }
}

// ---- Held back with what follows

TEST_F(Outbox, HoldsBackWhatAReaderSendsUntilItWaitsForInput) {
  for (const gathering how : {gathering::by_thread, gathering::by_task}) {
    outbox& out = make();
    host.turns = 0;
    sender one("one");
    sender two("two");
    EXPECT_EQ(one.go(out, true, how), send_outcome::done);
    EXPECT_EQ(two.go(out, false, how), send_outcome::done);
    EXPECT_TRUE(out.append(one.header, one.payload, how));
    EXPECT_EQ(sink.writes(), 0u);
    EXPECT_EQ(host.turn, how);
    EXPECT_EQ(host.turns, 1) << "awaited once for all of them";
    EXPECT_EQ(host.awaits, 0);
    out.flush_held();
    EXPECT_EQ(sink.writes(), 1u);
    EXPECT_EQ(sink.written(), one.wire() + two.wire() + one.wire());
    out.flush_held();
    EXPECT_EQ(sink.writes(), 1u);
    sink.clear();
  }
}

TEST_F(Outbox, ATurnOfAThreadLetsGoAndIsAwaitedAsLongAsItIsBusy) {
  outbox& out = make();
  sender one("one");
  one.go(out, true, gathering::by_thread);
  EXPECT_FALSE(out.on_turn(gathering::by_thread)) << "nothing was sent since";
  EXPECT_EQ(sink.written(), one.wire());
  sender two("two");
  two.go(out, true, gathering::by_thread);
  EXPECT_EQ(host.turns, 2);
  EXPECT_TRUE(out.append(two.header, two.payload, gathering::by_thread));
  EXPECT_TRUE(out.on_turn(gathering::by_thread));
  EXPECT_EQ(sink.written(), one.wire() + two.wire() + two.wire());
  sender three("three");
  three.go(out, true, gathering::by_thread);
  EXPECT_EQ(host.turns, 2) << "it is awaited already";
  out.flush_held();
  EXPECT_TRUE(out.on_turn(gathering::by_thread));
  EXPECT_FALSE(out.on_turn(gathering::by_thread));
}

TEST_F(Outbox, ATurnOfATaskIsOverWhenItSentNothingInIt) {
  outbox& out = make();
  sender one("one");
  one.go(out, true, gathering::by_task);
  EXPECT_TRUE(out.append(one.header, one.payload, gathering::by_task));
  EXPECT_TRUE(out.on_turn(gathering::by_task)) << "it goes on gathering";
  EXPECT_EQ(sink.writes(), 0u);
  EXPECT_FALSE(out.on_turn(gathering::by_task));
  EXPECT_EQ(sink.written(), one.wire() + one.wire());
  one.go(out, true, gathering::by_task);
  EXPECT_EQ(host.turns, 2);
  out.flush_held();
  EXPECT_FALSE(out.on_turn(gathering::by_task)) << "it has sent everything itself";
}

TEST_F(Outbox, NeitherATurnNorAReaderWithMoreInputLetsGoOfWhatACorkHolds) {
  outbox& out = make();
  sender one("one");
  out.cork();
  one.go(out, true, gathering::by_thread);
  EXPECT_FALSE(out.on_turn(gathering::by_thread));
  out.flush_replies();
  EXPECT_EQ(sink.writes(), 0u);
  one.go(out, true, gathering::by_thread);
  EXPECT_EQ(host.turns, 2) << "it is awaited anew";
  out.uncork();
  EXPECT_EQ(sink.written(), one.wire() + one.wire());
  EXPECT_EQ(sink.writes(), 1u);
}

TEST_F(Outbox, WhatIsHeldBackLeavesBeforeWhatIsNot) {
  outbox& out = make();
  sender one("one");
  sender two("two");
  one.go(out, true, gathering::by_task);
  two.go(out);
  EXPECT_EQ(sink.writes(), 1u);
  EXPECT_EQ(sink.written(), one.wire() + two.wire());
  sink.clear();
  sender large(pattern(20'000));
  one.go(out, true, gathering::by_task);
  EXPECT_EQ(large.go(out, true, gathering::by_task), send_outcome::waiting);
  EXPECT_EQ(large.results(), 1);
  EXPECT_EQ(sink.writes(), 1u);
  EXPECT_EQ(sink.parts(0).back().data, large.payload.data()) << "not copied";
  EXPECT_EQ(sink.written(), one.wire() + large.wire());
}

TEST_F(Outbox, AnswersAThousandPipelinedRequestsInAFewWrites) {
  outbox& out = make();
  const sender reply(pattern(64));
  std::string wanted;
  for (int i = 0; i < 1000; ++i) {
    if (!out.append(reply.header, reply.payload, gathering::by_task)) send_once(out, reply, gathering::by_task);
    wanted += reply.wire();
  }
  out.flush_held();
  EXPECT_EQ(sink.written(), wanted);
  EXPECT_LE(sink.writes(), 2u);
}

TEST_F(Outbox, WritesWhatIsSentInABurstTogether) {
  outbox& out = make();
  host.input = false;
  host.time += 1s;
  const sender pkg(pattern(64));
  for (int i = 0; i < 3; ++i) send_once(out, pkg);
  EXPECT_EQ(sink.writes(), 2u) << "the second in a row after a write is held back";
  EXPECT_EQ(host.turn, gathering::by_burst);
  EXPECT_FALSE(out.on_turn(gathering::by_burst));
  EXPECT_EQ(sink.writes(), 3u);
  EXPECT_EQ(out.pending_bytes(), 0u);

  std::string wanted = sink.written();
  for (int i = 0; i < 10'000; ++i) {
    if (!out.append(pkg.header, pkg.payload, gathering::none)) send_once(out, pkg);
    wanted += pkg.wire();
  }
  EXPECT_TRUE(out.on_turn(gathering::by_burst));
  EXPECT_FALSE(out.on_turn(gathering::by_burst));
  EXPECT_EQ(sink.written(), wanted);
  EXPECT_LE(sink.writes(), 100u);
}

TEST_F(Outbox, IsNoBurstWhenInputComesOrTimePasses) {
  outbox& out = make();
  const sender pkg("pkg");
  for (int i = 0; i < 10; ++i) send_once(out, pkg);
  EXPECT_EQ(sink.writes(), 10u) << "requests and replies";
  host.input = false;
  for (int i = 0; i < 10; ++i) {
    host.time += 9us;
    send_once(out, pkg);
  }
  EXPECT_EQ(sink.writes(), 20u) << "now and then";
}

TEST_F(Outbox, TellsABurstByWhatAWriteCostsHere) {
  // Packages that come 20 microseconds after the last write: a burst where a write takes as long, else none.
  const sender pkg("pkg");
  for (const auto cost : {3us, 30us}) {
    outbox& out = make();
    host.input = false;
    host.time += 1s;
    host.turn = gathering::none;
    sink.on_writes({}, write_step::everything().with([this, cost] { host.time += cost; }));
    for (int i = 0; i < 50; ++i) {
      host.time += 20us;
      send_once(out, pkg);
    }
    EXPECT_EQ(host.turn, cost == 30us ? gathering::by_burst : gathering::none) << cost.count();
  }
}

TEST_F(Outbox, HoldsBackWhatComesAgainAndAgainWhileItWrites) {
  outbox& out = make();
  const sender pkg("pkg");
  std::atomic<int> writes{0};
  const auto more = [&] {
    ++writes;
    EXPECT_TRUE(out.append(pkg.header, pkg.payload, gathering::none)) << "somebody writes";
  };
  block();
  sink.on_writes({}, write_step::everything().with(more));
  make_writable_once();
  EXPECT_LE(writes, 4) << "little after little";
  EXPECT_EQ(host.turn, gathering::by_burst);
  EXPECT_EQ(host.further_turns, 1);
  EXPECT_EQ(out.pending_bytes(), pkg.wire().size());
  sink.on_writes({});
  out.on_turn(gathering::by_burst);
  EXPECT_EQ(out.pending_bytes(), 0u);
}

TEST_F(Outbox, TakesPackagesOfADispatchBeyondTheLimit) {
  outbox& out = make(100);
  block();
  const sender pkg(pattern(64));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(send_once(out, pkg, gathering::by_dispatch), send_outcome::done);
  }
  EXPECT_GT(out.pending_bytes(), 600u);
  EXPECT_FALSE(out.append(pkg.header, pkg.payload, gathering::none));
  sender other("other");
  EXPECT_EQ(other.go(out, false), send_outcome::refused);
  unblock();
  make_writable();
  EXPECT_EQ(out.pending_bytes(), 0u);
}

TEST_F(Outbox, KeepsPackagesOfADispatchBehindThoseThatWait) {
  outbox& out = make(100);
  block();
  sender waits(pattern(40'000));
  EXPECT_EQ(waits.go(out), send_outcome::waiting);
  const sender pkg(pattern(64));
  EXPECT_EQ(send_once(out, pkg, gathering::by_dispatch), send_outcome::done) << "it never waits";
  EXPECT_EQ(send_once(out, pkg, gathering::by_dispatch), send_outcome::done);
  EXPECT_EQ(out.pending_bytes(), 1 + 2 * pkg.wire().size());
  EXPECT_TRUE(out.is_over_limit());
  flusher room;
  EXPECT_EQ(out.await_room(room), send_outcome::waiting);
  sender behind("behind");
  EXPECT_EQ(behind.go(out), send_outcome::waiting);
  sink.on_writes({write_step::takes(1 + 10'000), write_step::blocks()});
  make_writable_once();
  EXPECT_EQ(room.results(), 0);
  unblock();
  sink.on_writes({write_step::takes(waits.wire().size() - 10'000 + 70), write_step::blocks()});
  make_writable_once();
  EXPECT_EQ(room.results(), 0) << "of both more than half of the limit is left";
  unblock();
  make_writable();
  EXPECT_EQ(room.results(), 1);
  EXPECT_EQ(sink.written(), first_wire + waits.wire() + pkg.wire() + pkg.wire() + behind.wire());
  EXPECT_EQ(out.pending_bytes(), 0u);
  EXPECT_EQ(out.counted().pkgs, 5u);
}

TEST_F(Outbox, KeepsPackagesOfADispatchWhileAnotherIsWritten) {
  outbox& out = make();
  const sender large(pattern(40'000));
  const sender pkg("pkg");
  sink.on_writes({write_step::takes(10'000).with(
      [&] { EXPECT_EQ(send_once(out, pkg, gathering::by_dispatch), send_outcome::done); })});
  std::jthread other([&] { EXPECT_EQ(send_blocking(out, large), std::error_code()); });
  door.open();
  other.join();
  make_writable();
  EXPECT_EQ(sink.written(), large.wire() + pkg.wire());
}

TEST_F(Outbox, ADirectPackageOfADispatchIsDoneWhenItIsWithTheSystem) {
  outbox& out = make(100);
  block();
  sender direct(pattern(64));
  EXPECT_EQ(direct.directly().go(out, true, gathering::by_dispatch), send_outcome::waiting);
  const sender pkg("kept");
  EXPECT_EQ(send_once(out, pkg, gathering::by_dispatch), send_outcome::done);
  EXPECT_EQ(direct.results(), 0);
  unblock();
  make_writable();
  EXPECT_EQ(direct.results(), 1);
  EXPECT_EQ(sink.written(), first_wire + direct.wire() + pkg.wire());
}

TEST_F(Outbox, AFlushWaitsForKeptPackages) {
  outbox& out = make();
  sender waits(pattern(40'000));
  const sender pkg("kept");
  keep_behind(waits, pkg);
  flusher flush;
  EXPECT_EQ(flush.go(out), send_outcome::waiting);
  unblock();
  sink.on_writes({write_step::takes(1 + waits.wire().size()), write_step::blocks()});
  make_writable_once();
  EXPECT_EQ(waits.results(), 1);
  EXPECT_EQ(flush.results(), 0);
  unblock();
  make_writable();
  EXPECT_EQ(flush.results(), 1);
}

TEST_F(Outbox, EndSendsKeptPackages) {
  outbox& out = make();
  sender waits(pattern(40'000));
  const sender pkg("kept");
  keep_behind(waits, pkg);
  out.end(Errc::Closed, false);
  EXPECT_EQ(waits.results(), 1);
  EXPECT_EQ(waits.error, Errc::Closed);
  EXPECT_EQ(host.drained, 0);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + pkg.wire());
  EXPECT_EQ(host.drained, 1);
  EXPECT_TRUE(out.all_sent());
}

TEST_F(Outbox, DropCountsKeptPackages) {
  outbox& out = make();
  sender waits(pattern(40'000));
  const sender pkg("kept");
  keep_behind(waits, pkg);
  EXPECT_EQ(out.drop(Errc::Closed), 1 + pkg.wire().size());
  EXPECT_FALSE(out.all_sent());
  EXPECT_EQ(out.pending_bytes(), 0u);
}

TEST_F(Outbox, KeptPackagesAreTriedAgain) {
  make();
  sender waits(pattern(40'000));
  const sender pkg("kept");
  keep_behind(waits, pkg);
  unblock();
  sink.on_writes({write_step::takes(1 + waits.wire().size()), write_step::fails(no_memory_for_it)});
  make_writable_once();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + waits.wire() + pkg.wire());
}

TEST_F(Outbox, AppendsOnlyBehindOthersThatAreWritten) {
  outbox& out = make(200);
  const sender pkg("pkg");
  EXPECT_FALSE(out.append(pkg.header, pkg.payload, gathering::none)) << "nothing is before it";
  EXPECT_FALSE(out.append(pkg.header, pkg.payload, gathering::by_task)) << "nobody has said that it is held back";
  block();
  EXPECT_TRUE(out.append(pkg.header, pkg.payload, gathering::none)) << "an io thread will write";
  const sender large(pattern(300));
  EXPECT_FALSE(out.append(large.header, large.payload, gathering::none)) << "no room";
  sender waits(pattern(300));
  EXPECT_EQ(waits.go(out), send_outcome::waiting);
  EXPECT_FALSE(out.append(pkg.header, pkg.payload, gathering::none)) << "somebody waits before it";
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + pkg.wire() + waits.wire());
  out.end(gtcp::Errc::Closed, false);
  EXPECT_FALSE(out.append(pkg.header, pkg.payload, gathering::none)) << "it has ended";
}

TEST_F(Outbox, TriesAgainWhileTheTransportBlocksOnlyWhenMuchHasCome) {
  outbox& out = make();
  block();
  const std::size_t writes = sink.writes();
  const sender pkg(pattern(998));
  for (int i = 0; i < 150; ++i) {
    if (!out.append(pkg.header, pkg.payload, gathering::none)) send_once(out, pkg);
  }
  EXPECT_LE(sink.writes() - writes, 3u) << "150,000 bytes, 64 KiB each time; but for one after a long time";
  unblock();
  make_writable();
  EXPECT_EQ(out.pending_bytes(), 0u);
}

TEST_F(Outbox, WhatIsCorkedLeavesWhenSendingEnds) {
  outbox& out = make();
  out.cork();
  sender one("one");
  one.go(out);
  out.end(asio::error::shut_down, true);
  EXPECT_EQ(sink.written(), one.wire());
  EXPECT_EQ(host.drained, 1);
}

// ---- The end

TEST_F(Outbox, EndFailsWhoWaitsAndSendsWhatWasAccepted) {
  outbox& out = make(100);
  block();
  sender accepted("accepted");
  sender partly(pattern(20'000));
  sender waiting(pattern(200));
  flusher flush;
  accepted.go(out);
  partly.go(out);
  waiting.go(out);
  flush.go(out);
  sink.on_writes({write_step::takes(1), write_step::takes(accepted.wire().size() + 10)}, write_step::blocks());
  make_writable_once();
  ASSERT_EQ(out.pending_bytes(), 0u);
  flusher second;
  second.go(out);

  out.end(Errc::Closed, false);
  EXPECT_EQ(waiting.results(), 1);
  EXPECT_EQ(waiting.error, Errc::Closed);
  EXPECT_EQ(partly.results(), 1);
  EXPECT_FALSE(partly.error) << "its first byte is out, so it goes out whole";
  EXPECT_EQ(host.drained, 0);
  sender late("late");
  EXPECT_EQ(late.go(out), send_outcome::done);
  EXPECT_EQ(late.error, Errc::Closed);
  unblock();
  make_writable();
  EXPECT_EQ(host.drained, 1);
  EXPECT_EQ(sink.written(), first_wire + accepted.wire() + partly.wire());
  EXPECT_TRUE(out.all_sent());
}

TEST_F(Outbox, EndDuringAWriteDrainsWhenTheWriteIsOver) {
  for (const std::size_t taken : {std::size_t{0}, std::size_t{3}, std::size_t{1000}}) {
    gtcp_test::scripted_sink pieces;
    fake_host io;
    outbox out(pieces, door.descriptor(), io, 100);
    pieces.on_writes({write_step::takes(taken).with([&] {
      out.end(Errc::Closed, false);
      EXPECT_EQ(io.drained, 0);
    })});
    sender one("package");
    EXPECT_EQ(one.go(out), send_outcome::done);
    EXPECT_FALSE(one.error);
    while (io.awaiting.exchange(false)) out.on_writable();
    EXPECT_EQ(io.drained, 1) << taken;
    EXPECT_EQ(pieces.written(), one.wire());
  }
}

TEST_F(Outbox, EndOfSendingOnlyComesBehindWhoWaits) {
  outbox& out = make(10);
  block();
  sender waiting(pattern(200));
  waiting.go(out);
  out.end(asio::error::shut_down, true);
  EXPECT_EQ(waiting.results(), 0);
  sender late("late");
  late.go(out);
  EXPECT_EQ(late.error, asio::error::shut_down);
  unblock();
  make_writable();
  EXPECT_EQ(waiting.results(), 1);
  EXPECT_FALSE(waiting.error);
  EXPECT_EQ(host.drained, 1);
  flusher flush;
  flush.go(out);
  EXPECT_FALSE(flush.error) << "everything is with the system";
  out.end(Errc::Closed, false);
  sender later("later");
  later.go(out);
  EXPECT_EQ(later.error, Errc::Closed);
  flusher after_close;
  after_close.go(out);
  EXPECT_EQ(after_close.error, Errc::Closed);
}

TEST_F(Outbox, AFlushAfterTheEndIsToldSo) {
  outbox& out = make();
  block();
  out.end(Errc::Closed, false);
  flusher flush;
  EXPECT_EQ(flush.go(out), send_outcome::done);
  EXPECT_EQ(flush.error, Errc::Closed);
}

TEST_F(Outbox, EndWakesBlockedThreads) {
  outbox& out = make(10);
  block();
  std::vector<std::future<std::error_code>> results;
  for (int i = 0; i < 3; ++i) {
    results.push_back(std::async(std::launch::async, [&] { return send_blocking(out, sender(pattern(50))); }));
    results.push_back(std::async(std::launch::async, [&] { return flush_blocking(out); }));
  }
  // One of them has taken the draining over and sits in poll.
  out.end(Errc::Closed, false);
  for (auto& result : results) {
    ASSERT_TRUE(comes(result));
    EXPECT_EQ(result.get(), Errc::Closed);
  }
  unblock();
  make_writable();
  EXPECT_EQ(host.drained, 1);
  EXPECT_EQ(sink.written(), first_wire);
}

TEST_F(Outbox, DropTellsOfAPackageThatIsPartlyOut) {
  outbox& out = make();
  sender large(pattern(300 * 1024), 4);
  sink.on_writes({write_step::takes(100)}, write_step::blocks());
  ASSERT_EQ(large.go(out), send_outcome::waiting);
  EXPECT_TRUE(out.all_sent());
  out.drop(no_memory_for_it);
  EXPECT_EQ(large.results(), 1);
  EXPECT_FALSE(out.all_sent());
}

TEST_F(Outbox, DropThrowsAwayWhatIsNotWithTheSystem) {
  outbox& out = make(100);
  block();
  sender accepted("accepted");
  sender waiting(pattern(200));
  flusher flush;
  accepted.go(out);
  waiting.go(out);
  flush.go(out);
  EXPECT_EQ(out.drop(Errc::Closed), 1 + accepted.wire().size());
  EXPECT_EQ(waiting.error, Errc::Closed);
  EXPECT_EQ(waiting.results(), 1);
  EXPECT_EQ(flush.error, Errc::Closed);
  EXPECT_EQ(flush.results(), 1);
  EXPECT_EQ(out.pending_bytes(), 0u);
  EXPECT_FALSE(out.all_sent());
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire.substr(0, first_wire.size() - 1));
  sender late("late");
  late.go(out);
  EXPECT_EQ(late.error, Errc::Closed);
}

TEST_F(Outbox, DropOfNothingLosesNothing) {
  outbox& out = make();
  sender one("one");
  one.go(out);
  out.drop(Errc::Closed);
  EXPECT_TRUE(out.all_sent());
}

TEST_F(Outbox, DropDuringAWriteEndsWhenTheWriteIsOver) {
  for (const bool queued : {false, true}) {
    for (const std::size_t taken : {std::size_t{0}, std::size_t{3}, std::size_t{100'000}}) {
      gtcp_test::scripted_sink pieces;
      fake_host io;
      outbox out(pieces, door.descriptor(), io, 100);
      sender behind("behind");
      pieces.on_writes({write_step::takes(taken).with([&] {
        behind.go(out);
        out.drop(Errc::Closed);
        out.leave_descriptor();
        EXPECT_EQ(io.left, 0) << "it is in use";
      })});
      sender one(pattern(queued ? 20'000 : 20));
      one.go(out);
      EXPECT_EQ(one.results(), 1);
      EXPECT_EQ(one.error, taken == 100'000 ? std::error_code() : make_error_code(Errc::Closed)) << taken;
      EXPECT_EQ(behind.results(), 1);
      EXPECT_EQ(out.pending_bytes(), 0u);
      EXPECT_EQ(io.left, 1);
      EXPECT_EQ(pieces.writes(), 1u);
    }
  }
}

TEST_F(Outbox, DropTellsClosedToWhoWaitsBehindAnEndOfSending) {
  outbox& out = make(10);
  block();
  sender waiting(pattern(200));
  waiting.go(out);
  out.end(asio::error::shut_down, true);
  sink.on_writes({write_step::takes(0).with([&] { out.drop(Errc::Closed); })});
  make_writable_once();
  EXPECT_EQ(waiting.results(), 1);
  EXPECT_EQ(waiting.error, Errc::Closed);
  sender late("late");
  late.go(out);
  EXPECT_EQ(late.error, Errc::Closed);
}

TEST_F(Outbox, LeavesTheDescriptorWhenNoThreadWaitsForItAnyMore) {
  outbox& out = make();
  sink.on_writes({}, write_step::blocks());
  sender one(pattern(20'000));
  thread_record<send_record> record;
  record.header = one.header;
  record.payload = one.payload;
  ASSERT_EQ(out.send(record, true, &record.self), send_outcome::waiting);
  std::atomic<bool> asked{false};
  std::thread thread([&] {
    out.wait(record, record.self, [&] {
      asked = true;  // nobody drains, so it takes over and goes to poll, before it lets go of the mutex
      return no_deadline;
    });
    EXPECT_EQ(record.error, Errc::Closed);
  });
  const std::thread::id waiting = thread.get_id();
  ASSERT_TRUE(poll_until([&] { return asked.load(); }));
  out.leave_descriptor();  // first, so that the thread can't be gone before it is asked for
  EXPECT_EQ(host.left, 0);
  out.drop(Errc::Closed);
  thread.join();
  EXPECT_EQ(host.left, 1);
  EXPECT_EQ(host.left_by.load(), waiting) << "not before it was out of poll";
}

TEST_F(Outbox, AWaitForRoomThatWillNotComeBackIsTakenUpAgain) {
  outbox& out = make();
  block();
  EXPECT_EQ(host.awaits, 1);
  out.end(Errc::Closed, false);
  out.forget_await_writable();
  EXPECT_EQ(host.awaits, 2);
  unblock();
  make_writable();
  EXPECT_EQ(host.drained, 1);
  out.forget_await_writable();
  EXPECT_EQ(host.awaits, 2);
}

// ---- Errors

TEST_F(Outbox, KeepsTheErrorOfAFailedWriteForTheNextSends) {
  outbox& out = make();
  sink.on_writes({write_step::fails(asio::error::broken_pipe)});
  sender one("one");
  EXPECT_EQ(one.go(out), send_outcome::done);
  EXPECT_EQ(one.error, asio::error::broken_pipe);
  sender two("two");
  two.go(out);
  EXPECT_EQ(two.error, asio::error::broken_pipe);
  sender three(pattern(20'000));
  three.go(out);
  EXPECT_EQ(three.error, asio::error::broken_pipe);
  EXPECT_EQ(sink.writes(), 1u);
  out.end(Errc::Closed, false);
  EXPECT_EQ(host.drained, 1) << "closing goes on";
}

TEST_F(Outbox, AbandonDestroysAllThatPauseAfterAFailedWrite) {
  outbox& out = make();
  sink.on_writes({write_step::fails(asio::error::broken_pipe)});
  sender one("one");
  sender two("two");
  for (sender* const each : {&one, &two}) {
    each->go(out);
    ASSERT_TRUE(out.pause(*each));  // until there is a fresh connection, as a pool's are
  }
  out.abandon();
  for (const sender* const each : {&one, &two}) EXPECT_EQ(each->destroyed(), 1);
}

TEST_F(Outbox, AFailureAfterClosingEndsClosing) {
  outbox& out = make();
  block();
  out.end(Errc::Closed, false);
  sink.on_writes({write_step::fails(asio::error::connection_reset)});
  make_writable();
  EXPECT_EQ(host.drained, 1);
  EXPECT_FALSE(out.all_sent());
}

TEST_F(Outbox, EachStepThatFailsCompletesEverybodyOnce) {
  bool passed = false;
  for (std::size_t step = 0; !passed; ++step) {
    ASSERT_LT(step, 200u);
    SCOPED_TRACE(step);
    fail_count fail(step);
    gtcp_test::scripted_sink pieces;
    pieces.fail_by(&fail);
    fake_host io;
    outbox out(pieces, door.descriptor(), io, 40);
    std::deque<sender> senders;
    std::string wire;
    flusher flush;
    pieces.on_writes({}, write_step::takes(37));
    for (unsigned i = 0; i < 12; ++i) {
      if (i == 6) flush.go(out);
      if (i == 8) out.cork();
      sender& one = senders.emplace_back(pattern(i * i % 60, i));
      one.direct = i % 4 == 3;
      wire += one.wire();
      one.go(out);
    }
    out.uncork();
    while (io.awaiting.exchange(false)) out.on_writable();
    out.end(Errc::Closed, false);
    while (io.awaiting.exchange(false)) out.on_writable();

    passed = !fail.fired();
    bool failed = false;
    std::string reported;
    for (const sender& one : senders) {
      EXPECT_EQ(one.results(), 1);
      EXPECT_TRUE(!one.error || one.error == fail.error());
      EXPECT_FALSE(failed && !one.error) << "none succeeds behind one that failed";
      failed = failed || one.error;
    }
    EXPECT_EQ(flush.results(), 1);
    EXPECT_EQ(io.drained, 1);
    EXPECT_EQ(out.pending_bytes(), 0u);
    const std::string written = pieces.written();
    EXPECT_EQ(written, wire.substr(0, written.size()));
    EXPECT_EQ(written.size() == wire.size(), passed);
    EXPECT_TRUE(out.all_sent() || !passed);
  }
}

TEST_F(Outbox, ATransientErrorBelongsToTheSenderAlone) {
  outbox& out = make();
  sink.on_writes({write_step::fails(no_memory_for_it)});
  sender one("one");
  one.go(out);
  EXPECT_EQ(one.error, no_memory_for_it);
  sender two("two");
  two.go(out);
  EXPECT_FALSE(two.error);
  EXPECT_EQ(sink.written(), two.wire());
}

TEST_F(Outbox, ATransientErrorOfALargePackageBelongsToItsSenderAlone) {
  for (const bool direct : {false, true}) {
    gtcp_test::scripted_sink pieces;
    fake_host io;
    outbox out(pieces, door.descriptor(), io, 1000);
    pieces.on_writes({write_step::fails(no_memory_for_it)});
    sender one(pattern(direct ? 10 : 20'000));
    one.direct = direct;
    one.go(out);
    EXPECT_EQ(one.results(), 1);
    EXPECT_EQ(one.error, no_memory_for_it);
    sender again(pattern(20'000));
    again.go(out);
    EXPECT_EQ(again.results(), 1);
    EXPECT_FALSE(again.error);
    EXPECT_EQ(pieces.written(), again.wire());
  }
}

TEST_F(Outbox, WaitsForAMomentAfterATransientError) {
  make();
  block();
  sink.on_writes({write_step::fails(no_memory_for_it), write_step::blocks()});
  make_writable_once();
  EXPECT_EQ(host.direction, wait_direction::moment) << "the system would say at once that it takes bytes";
  make_writable_once();
  EXPECT_EQ(host.direction, wait_direction::write);
  make_writable();
  EXPECT_EQ(sink.written(), first_wire);
}

TEST_F(Outbox, AThreadWaitsForAMomentAfterATransientError) {
  outbox& out = make();
  door.open();
  constexpr int failures = 5;
  block();
  sink.on_writes(std::vector<write_step>(failures, write_step::fails(no_memory_for_it)));
  const auto begin = gtcp::detail::clock::now();
  EXPECT_FALSE(flush_blocking(out));
  EXPECT_GE(gtcp::detail::clock::now() - begin, (failures - 1) * gtcp::detail::moment_length);
}

TEST_F(Outbox, ATransientErrorLosesNothingThatWasAccepted) {
  outbox& out = make();
  block();
  sender accepted("accepted");
  sender large(pattern(20'000));
  accepted.go(out);
  large.go(out);
  sink.on_writes({write_step::fails(no_memory_for_it), write_step::fails(no_memory_for_it), write_step::takes(1 + 50),
                  write_step::fails(no_memory_for_it)});
  make_writable();
  EXPECT_EQ(large.results(), 1);
  EXPECT_FALSE(large.error) << "a part of it was out";
  EXPECT_EQ(sink.written(), first_wire + accepted.wire() + large.wire());
}

TEST_F(Outbox, ATransientErrorInTheMiddleOfAPackageEndsTheStream) {
  outbox& out = make();
  sink.on_writes({write_step::fails(no_memory_for_it, 2)});
  sender one("one");
  one.go(out);
  EXPECT_TRUE(one.error);
  sender two("two");
  two.go(out);
  EXPECT_TRUE(two.error);
  EXPECT_EQ(sink.written().size(), 2u);
}

#if !GTCP_TESTS_SANITIZED  // which end the program for such a size, instead of throwing

TEST_F(Outbox, EndsAStreamOfWhichItCannotKeepTheRest) {
  outbox& out = make();
  sink.on_writes({write_step::takes(4)});
  sender one("one");
  one.payload = asio::const_buffer(one.payload.data(), std::size_t{1} << 60);
  EXPECT_EQ(one.go(out, false), send_outcome::done);
  EXPECT_EQ(one.error, std::errc::not_enough_memory);
  sender two("two");
  two.go(out);
  EXPECT_EQ(two.error, std::errc::not_enough_memory);
}

TEST_F(Outbox, RefusesAPackageThatItHasNoMemoryFor) {
  outbox& out = make(std::size_t{1} << 62);
  block();
  sender one("one");
  one.payload = asio::const_buffer(one.payload.data(), std::size_t{1} << 60);
  EXPECT_EQ(one.go(out, false), send_outcome::done);
  EXPECT_EQ(one.error, std::errc::not_enough_memory);
  sender two("two");
  two.go(out);
  unblock();
  make_writable();
  EXPECT_EQ(sink.written(), first_wire + two.wire());
}

#endif

// ---- Many threads

TEST_F(Outbox, ThreadsAloneDrainItWhenTheHostNeverDoes) {
  outbox& out = make(500);
  door.open();
  sink.on_writes({}, write_step::takes(333));
  constexpr int per_thread = 200;
  std::vector<std::thread> threads;
  for (char name = 'a'; name < 'e'; ++name) {
    threads.emplace_back([&out, name] {
      for (int i = 0; i < per_thread; ++i) {
        const std::string text = name + std::to_string(i) + std::string(static_cast<std::size_t>(i % 7 * 40), '.');
        EXPECT_FALSE(send_blocking(out, sender(text)));
      }
      EXPECT_FALSE(flush_blocking(out));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(out.pending_bytes(), 0u);
  std::string rest = sink.written();
  int next[4] = {};
  while (!rest.empty()) {
    const std::size_t size =
        static_cast<std::size_t>(static_cast<unsigned char>(rest[0])) << 8 | static_cast<unsigned char>(rest[1]);
    const std::string text = rest.substr(2, size);
    int& number = next[text[0] - 'a'];
    EXPECT_EQ(text.substr(1, text.find('.') - 1), std::to_string(number));
    ++number;
    rest.erase(0, 2 + size);
  }
  for (const int count : next) EXPECT_EQ(count, per_thread);
}

}  // namespace
