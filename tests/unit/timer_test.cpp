// SPDX-License-Identifier: MIT

// The order of timers (timer_queue) and the rules of entries (timer_core) are tested with a time that the test sets;
// the Timer itself with real threads and real timers of a millisecond, whose times are never asserted.

#include <gtcp/detail/timer_core.hpp>
#include <gtcp/detail/timer_queue.hpp>
#include <gtcp/timer.hpp>

#include "support/poll_until.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <future>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#endif

namespace {

using namespace std::chrono_literals;
using gtcp::detail::timer_core;
using gtcp::detail::timer_node;
using gtcp::detail::timer_plan;
using gtcp::detail::timer_queue;
using gtcp::detail::timer_ticks;
using gtcp_test::ceiling;
using gtcp_test::comes;
using gtcp_test::poll_until;

/// A door that callbacks wait at until the test opens it.
class gate {
 public:
  void open() { opened_.set_value(); }
  void pass() const { EXPECT_EQ(future_.wait_for(ceiling), std::future_status::ready); }

 private:
  std::promise<void> opened_;
  std::shared_future<void> future_ = opened_.get_future().share();
};

/// Returns the text of the std::system_error with Errc::InvalidOption that `call` throws.
template <class Call>
std::string invalid_option_of(Call call) {
  try {
    call();
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), gtcp::Errc::InvalidOption);
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

// --- timer_queue

std::vector<timer_node*> pop_all(timer_queue& queue, timer_ticks now) {
  std::vector<timer_node*> popped;
  do {
    while (timer_node* node = queue.pop_due(now)) popped.push_back(node);
  } while (queue.moving());
  return popped;
}

TEST(TimerQueue, PopsInOrderAndNotBeforeTheDeadline) {
  timer_queue queue;
  timer_node a, b, c;
  a.deadline = 5'000'000'000;
  b.deadline = 4'999'999'999;
  c.deadline = 7;
  for (timer_node* node : {&a, &b, &c}) queue.insert(*node);
  EXPECT_EQ(queue.next(), 7u);
  EXPECT_TRUE(pop_all(queue, 6).empty());
  EXPECT_EQ(pop_all(queue, 7), std::vector<timer_node*>{&c});
  EXPECT_TRUE(pop_all(queue, 4'999'999'998).empty());
  EXPECT_EQ(pop_all(queue, 4'999'999'999), std::vector<timer_node*>{&b});
  EXPECT_EQ(pop_all(queue, 5'000'000'000), std::vector<timer_node*>{&a});
  EXPECT_TRUE(queue.empty());
}

TEST(TimerQueue, KeepsTheOrderOfEqualDeadlines) {
  timer_queue queue;
  std::vector<timer_node> nodes(100);
  std::vector<timer_node*> expected;
  for (auto& node : nodes) {
    node.deadline = 123'456'789;
    queue.insert(node);
    expected.push_back(&node);
  }
  EXPECT_EQ(pop_all(queue, 123'456'789), expected);
}

TEST(TimerQueue, TakesDeadlinesThatArePast) {
  timer_queue queue;
  timer_node first, late, next;
  first.deadline = 1000;
  queue.insert(first);
  EXPECT_EQ(queue.pop_due(5000), &first);
  late.deadline = 10;
  next.deadline = 5001;
  queue.insert(next);
  queue.insert(late);
  EXPECT_LE(queue.next(), 5000u);
  EXPECT_EQ(pop_all(queue, 5000), std::vector<timer_node*>{&late});
  EXPECT_EQ(pop_all(queue, 5001), std::vector<timer_node*>{&next});
}

TEST(TimerQueue, TakesTheFarthestDeadline) {
  timer_queue queue;
  timer_node never, soon;
  never.deadline = gtcp::detail::max_timer_ticks;
  soon.deadline = 1;
  queue.insert(never);
  queue.insert(soon);
  EXPECT_EQ(queue.pop_due(1), &soon);
  EXPECT_EQ(queue.pop_due(gtcp::detail::max_timer_ticks - 1), nullptr);
  EXPECT_EQ(queue.next(), gtcp::detail::max_timer_ticks);
  EXPECT_EQ(queue.pop_due(gtcp::detail::max_timer_ticks), &never);
}

TEST(TimerQueue, MovesLongSlotsInPieces) {
  constexpr std::size_t count = 1000;
  timer_queue queue;
  std::deque<timer_node> nodes(count);
  // All in one slot of a high level: 2^36 is the first time of a slot of level 6.
  for (std::size_t i = 0; i < count; ++i) {
    nodes[i].deadline = (timer_ticks{1} << 36) + 1'000'000 * (count - i);
    queue.insert(nodes[i]);
  }
  const timer_ticks now = queue.next();
  EXPECT_LE(now, nodes.back().deadline);
  EXPECT_EQ(queue.pop_due(now), nullptr);
  EXPECT_TRUE(queue.moving());
  // What comes and goes meanwhile finds its place.
  timer_node between;
  between.deadline = nodes[count / 2].deadline + 1;
  queue.insert(between);
  queue.erase(nodes[3]);
  queue.erase(nodes[count - 3]);
  const auto popped = pop_all(queue, nodes[0].deadline);
  EXPECT_EQ(popped.size(), count - 1);
  EXPECT_TRUE(std::is_sorted(popped.begin(), popped.end(),
                             [](const auto* a, const auto* b) { return a->deadline < b->deadline; }));
}

TEST(TimerQueue, ErasesTheLastOfASlotThatIsMoving) {
  constexpr std::size_t count = 300;
  timer_queue queue;
  std::deque<timer_node> nodes(count);
  for (auto& node : nodes) {
    node.deadline = (timer_ticks{1} << 36) + 5;
    queue.insert(node);
  }
  EXPECT_EQ(queue.pop_due(timer_ticks{1} << 36), nullptr);
  ASSERT_TRUE(queue.moving());
  for (auto& node : nodes) queue.erase(node);
  EXPECT_FALSE(queue.moving());
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.pop_due(timer_ticks{1} << 37), nullptr);
}

TEST(TimerQueue, AgreesWithASortedMapOnRandomOperations) {
  std::mt19937_64 random(20);
  for (int round = 0; round < 30; ++round) {
    timer_queue queue;
    std::deque<timer_node> nodes(500);
    std::multimap<timer_ticks, timer_node*> expected;
    std::vector<timer_node*> free;
    for (auto& node : nodes) free.push_back(&node);
    timer_ticks now = random() % 1'000'000;
    for (int step = 0; step < 5000; ++step) {
      const auto what = random() % 8;
      if (what < 4 && !free.empty()) {
        timer_node* node = free.back();
        free.pop_back();
        // Distances of every size, and some deadlines that are past.
        const timer_ticks distance = random() >> (random() % 40 + 20);
        node->deadline = random() % 16 == 0 ? now - std::min(now, distance) : now + distance;
        queue.insert(*node);
        expected.emplace(node->deadline, node);
      } else if (what < 5 && !expected.empty()) {
        auto it = expected.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(random() % expected.size()));
        queue.erase(*it->second);
        free.push_back(it->second);
        expected.erase(it);
      } else {
        if (!expected.empty() && random() % 2 == 0) {
          now = std::max(now, queue.next());
        } else {
          now += random() >> (random() % 40 + 24);
        }
        std::vector<timer_ticks> popped;
        for (timer_node* node : pop_all(queue, now)) {
          popped.push_back(node->deadline);
          free.push_back(node);
        }
        std::vector<timer_ticks> due;
        while (!expected.empty() && expected.begin()->first <= now) {
          due.push_back(expected.begin()->first);
          expected.erase(expected.begin());
        }
        // Deadlines that were past when they came are handed out as if they were due just then.
        std::sort(popped.begin(), popped.end());
        ASSERT_EQ(popped, due);
        ASSERT_EQ(queue.empty(), expected.empty());
        if (!expected.empty()) {
          ASSERT_GT(queue.next(), now);
          ASSERT_LE(queue.next(), expected.begin()->first);
        }
      }
    }
  }
}

// --- timer_core

/// A timer_core with a time of its own.
struct core_test {
  timer_core core;
  timer_ticks now = 1000;

  void add(timer_plan& plan, timer_ticks interval, std::int64_t times = timer_plan::no_limit) {
    plan.interval = interval;
    plan.planned = now + interval;
    plan.left = times;
    core.add(plan);
  }

  timer_plan* begin() {
    timer_plan* plan = core.begin(now);
    while (plan == nullptr && core.unfinished()) plan = core.begin(now);
    return plan;
  }

  /// Advances to `end` step by step and returns when each run of `plan` began; a run takes `takes`.
  std::vector<timer_ticks> runs_until(timer_ticks end, timer_plan& plan, timer_ticks takes = 0) {
    std::vector<timer_ticks> runs;
    for (;;) {
      while (timer_plan* due = begin()) {
        EXPECT_EQ(due, &plan);
        runs.push_back(now);
        now += takes;
        if (core.end(plan, now, true)) core.ended(plan);
      }
      if (core.idle() || core.next() > end) break;
      now = std::max(now, core.next());
    }
    now = end;
    return runs;
  }
};

using Times = std::vector<timer_ticks>;

TEST(TimerCore, KeepsAFixedRateWithoutDrift) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  // Each run ends 30 later; the next begins on the beat nevertheless.
  EXPECT_EQ(t.runs_until(1650, plan, 30), (Times{1100, 1200, 1300, 1400, 1500, 1600}));
}

TEST(TimerCore, LateRunsDoNotMoveTheBeats) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1170;  // noticed 70 too late
  EXPECT_EQ(t.runs_until(1500, plan), (Times{1170, 1200, 1300, 1400, 1500}));
}

TEST(TimerCore, LeavesMissedBeatsOutInsteadOfABurst) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1555;
  EXPECT_EQ(t.runs_until(1800, plan), (Times{1555, 1600, 1700, 1800}));
}

TEST(TimerCore, LeavesMissedBeatsOutAlsoWhereRunsMayOverlap) {
  core_test t;
  timer_plan plan;
  plan.singleton = false;
  t.add(plan, 100);
  t.now = 1555;
  EXPECT_EQ(t.begin(), &plan);
  EXPECT_EQ(t.begin(), nullptr);
  t.now = 1600;
  EXPECT_EQ(t.begin(), &plan);
}

TEST(TimerCore, LeavesOutTheBeatsOfALongRun) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  EXPECT_EQ(t.runs_until(1900, plan, 250), (Times{1100, 1400, 1700}));
}

TEST(TimerCore, RunsTimesExactly) {
  core_test t;
  timer_plan plan;
  t.add(plan, 10, 3);
  EXPECT_EQ(t.runs_until(2000, plan).size(), 3u);
  EXPECT_TRUE(plan.closed);
}

TEST(TimerCore, OverlapsOnlyWhenAllowed) {
  core_test t;
  timer_plan plan;
  t.add(plan, 10);
  t.now = 1010;
  EXPECT_EQ(t.begin(), &plan);
  t.now = 1020;
  EXPECT_EQ(t.begin(), nullptr);
  t.core.set_singleton(plan, false, t.now);
  EXPECT_EQ(t.begin(), &plan);
  t.now = 1030;
  EXPECT_EQ(t.begin(), &plan);
  EXPECT_EQ(plan.running, 3u);
  t.core.set_singleton(plan, true, t.now);
  t.now = 1040;
  EXPECT_EQ(t.begin(), nullptr);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(t.core.end(plan, t.now, true));
  EXPECT_EQ(t.begin(), &plan);
}

TEST(TimerCore, OverlappingRunsCountToTheLimitAndTheLastOneCloses) {
  core_test t;
  timer_plan plan;
  plan.singleton = false;
  t.add(plan, 10, 2);
  t.now = 1010;
  EXPECT_EQ(t.begin(), &plan);
  t.now = 1020;
  EXPECT_EQ(t.begin(), &plan);
  t.now = 1030;
  EXPECT_EQ(t.begin(), nullptr);
  EXPECT_FALSE(t.core.end(plan, t.now, true));
  EXPECT_FALSE(plan.closed);
  EXPECT_TRUE(t.core.end(plan, t.now, true));
  EXPECT_TRUE(plan.closed);
}

TEST(TimerCore, StartGoesOnWithTheNextBeatOfTheGrid) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.core.stop(plan);
  EXPECT_TRUE(t.runs_until(1350, plan).empty());
  t.core.start(plan, t.now);
  EXPECT_EQ(t.runs_until(1500, plan), (Times{1400, 1500}));
}

TEST(TimerCore, StopDuringARunHoldsAfterIt) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1100;
  EXPECT_EQ(t.begin(), &plan);
  t.core.stop(plan);
  EXPECT_FALSE(t.core.end(plan, t.now, true));
  EXPECT_TRUE(t.runs_until(1500, plan).empty());
}

TEST(TimerCore, ResetBeginsANewGrid) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1099;
  t.core.reset(plan, t.now);
  EXPECT_EQ(t.runs_until(1400, plan), (Times{1199, 1299, 1399}));
}

TEST(TimerCore, ResetDuringARunCountsFromThere) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1100;
  EXPECT_EQ(t.begin(), &plan);
  t.now = 1150;
  t.core.reset(plan, t.now);
  EXPECT_FALSE(t.core.end(plan, 1160, true));
  EXPECT_EQ(t.runs_until(1400, plan), (Times{1250, 1350}));
}

TEST(TimerCore, ARunOutOfTurnLeavesTheBeats) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1050;
  t.core.ask(plan, t.now);
  EXPECT_EQ(t.runs_until(1250, plan), (Times{1050, 1100, 1200}));
}

TEST(TimerCore, ARunOutOfTurnWaitsForARunningSingleton) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1100;
  EXPECT_EQ(t.begin(), &plan);
  t.core.ask(plan, t.now);
  t.core.ask(plan, t.now);
  EXPECT_EQ(t.begin(), nullptr);
  t.now = 1120;
  EXPECT_FALSE(t.core.end(plan, t.now, true));
  EXPECT_EQ(t.runs_until(1250, plan), (Times{1120, 1200}));
}

TEST(TimerCore, ARunOutOfTurnCountsAndRunsStoppedEntries) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100, 2);
  t.core.stop(plan);
  t.core.ask(plan, t.now);
  EXPECT_EQ(t.runs_until(1300, plan), (Times{1000}));
  t.core.start(plan, t.now);
  EXPECT_EQ(t.runs_until(2000, plan), (Times{1300}));
  EXPECT_TRUE(plan.closed);
}

TEST(TimerCore, ACallbackThatIsDoneEndsItsEntry) {
  core_test t;
  timer_plan plan;
  t.add(plan, 100);
  t.now = 1100;
  EXPECT_EQ(t.begin(), &plan);
  EXPECT_TRUE(t.core.end(plan, t.now, false));
  EXPECT_TRUE(plan.closed);
  EXPECT_TRUE(t.core.idle());
}

TEST(TimerCore, CloseAnyClosesWaitingStoppedAndRunningEntries) {
  core_test t;
  timer_plan waiting, stopped, running;
  t.add(running, 10);
  t.now = 1010;
  EXPECT_EQ(t.begin(), &running);
  t.add(waiting, 100);
  t.add(stopped, 100);
  t.core.stop(stopped);
  while (t.core.close_any() != nullptr) {
  }
  EXPECT_TRUE(waiting.closed && stopped.closed && running.closed);
  EXPECT_TRUE(t.core.idle());
  EXPECT_TRUE(t.core.end(running, t.now, true));
}

TEST(TimerCore, IntervalsOfCenturiesDoNotOverflow) {
  core_test t;
  timer_plan plan;
  plan.interval = plan.planned = gtcp::detail::max_timer_ticks - 10;
  t.core.add(plan);
  t.core.reset(plan, t.now);
  EXPECT_EQ(plan.planned, gtcp::detail::max_timer_ticks);
  EXPECT_EQ(t.begin(), nullptr);
}

// --- Timer: what runs

TEST(SetTimeout, RunsOnceAndCloses) {
  std::promise<void> ran;
  auto done = ran.get_future();
  const gtcp::TimerEntry entry = gtcp::SetTimeout(1ms, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(done));
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
}

TEST(SetTimeout, RunsAtOnceButOnAnotherThreadForZeroAndLess) {
  for (const auto delay : {0ns, std::chrono::nanoseconds(-1), std::chrono::nanoseconds::min()}) {
    std::promise<std::thread::id> ran;
    auto done = ran.get_future();
    const auto entry = gtcp::SetTimeout(delay, [&ran] { ran.set_value(std::this_thread::get_id()); });
    ASSERT_EQ(done.wait_for(ceiling), std::future_status::ready);
    entry.Close();
    EXPECT_NE(done.get(), std::this_thread::get_id());
  }
}

TEST(SetTimeout, TakesTheLongestDelay) {
  const gtcp::TimerEntry entry = gtcp::SetTimeout(std::chrono::nanoseconds::max(), [] { FAIL(); });
  EXPECT_EQ(entry.Status(), gtcp::StatusReady);
  entry.Reset();
  entry.Close();
  const gtcp::TimerEntry delayed =
      gtcp::DelayAdd(std::chrono::nanoseconds::max(), std::chrono::nanoseconds::max(), [] { FAIL(); });
  EXPECT_EQ(delayed.Status(), gtcp::StatusReady);
  delayed.Close();
}

TEST(SetTimeout, TakesAMoveOnlyJobAndIgnoresItsResult) {
  std::promise<int> ran;
  auto done = ran.get_future();
  const auto entry = gtcp::SetTimeout(1ms, [&ran, value = std::make_unique<int>(7)]() mutable {
    ran.set_value(*value);
    return 5;
  });
  ASSERT_EQ(done.wait_for(ceiling), std::future_status::ready);
  EXPECT_EQ(done.get(), 7);
  entry.Close();
}

TEST(SetTimeout, AnEarlierOneIsNotHeldUpByALaterOne) {
  gtcp::Timer timer;
  timer.SetTimeout(1h, [] { FAIL(); });
  std::promise<void> ran;
  auto done = ran.get_future();
  timer.SetTimeout(1ms, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(done));
  timer.Close();
}

TEST(SetInterval, RunsAgainAndAgainWithoutItsHandle) {
  gtcp::Timer timer;
  std::latch runs(5);
  std::atomic<int> count{0};
  timer.SetInterval(1ms, [&] {
    if (count++ < 5) runs.count_down();
  });
  runs.wait();
  timer.Close();
  EXPECT_GE(count, 5);
  timer.Close();
}

TEST(AddTimes, RunsExactlySoOften) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = timer.AddTimes(50us, 20, [&] { ++count; });
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(count, 20);
  timer.Close();
}

TEST(AddTimes, RunsExactlySoOftenWithOverlap) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = timer.AddEntry(
      20us,
      [&] {
        std::this_thread::yield();
        ++count;
      },
      false, 50, gtcp::StatusReady);
  EXPECT_FALSE(entry.IsSingleton());
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  entry.Close();  // waits for overlapping runs
  EXPECT_EQ(count, 50);
  timer.Close();
}

TEST(AddTimes, WithoutALimitForZeroAndLess) {
  gtcp::Timer timer;
  for (const int times : {0, -1}) {
    std::atomic<int> count{0};
    const gtcp::TimerEntry entry = timer.AddTimes(100us, times, [&] { ++count; });
    EXPECT_TRUE(poll_until([&] { return count > 3; }));
    entry.Close();
  }
  timer.Close();
}

TEST(AddOnce, RunsOnce) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = timer.AddOnce(1ms, [&] { ++count; });
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(count, 1);
  timer.Close();
}

/// Returns when the timer has come to what is due after `time`.
void let_pass(gtcp::Timer& timer, std::chrono::nanoseconds time) {
  std::promise<void> later;
  auto done = later.get_future();
  timer.SetTimeout(time, [&later] { later.set_value(); });
  EXPECT_TRUE(comes(done));
}

TEST(AddEntry, BeginsWithTheGivenStatus) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const auto job = [&count] { ++count; };
  EXPECT_EQ(timer.AddEntry(1h, job, true, 1, gtcp::StatusReady).Status(), gtcp::StatusReady);
  EXPECT_EQ(timer.AddEntry(1ms, job, true, 1, gtcp::StatusClosed).Status(), gtcp::StatusClosed);
  const gtcp::TimerEntry stopped = timer.AddEntry(1ms, job, true, 1, gtcp::StatusStopped);
  EXPECT_EQ(stopped.Status(), gtcp::StatusStopped);
  let_pass(timer, 3ms);
  EXPECT_EQ(count, 0);
  stopped.Start();
  EXPECT_TRUE(poll_until([&] { return count == 1; }));
  timer.Close();
}

TEST(FreeFunctions, AllRunOnTheDefaultTimer) {
  std::atomic<int> runs{0};
  const auto job = [&runs] { ++runs; };
  const std::vector<gtcp::TimerEntry> entries{
      gtcp::SetTimeout(1ms, job),
      gtcp::AddOnce(1ms, job),
      gtcp::AddTimes(1ms, 1, job),
      gtcp::AddEntry(1ms, job, true, 1, gtcp::StatusReady),
      gtcp::DelayAddOnce(1ms, 1ms, job),
      gtcp::DelayAddTimes(1ms, 1ms, 1, job),
      gtcp::DelayAddEntry(1ms, 1ms, job, true, 1, gtcp::StatusReady),
  };
  for (const auto& entry : entries) EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(runs, 7);
  runs = 0;
  const std::vector<gtcp::TimerEntry> repeated{
      gtcp::SetInterval(1ms, job),
      gtcp::Add(1ms, job),
      gtcp::AddSingleton(1ms, job),
      gtcp::DelayAdd(1ms, 1ms, job),
      gtcp::DelayAddSingleton(-1ms, 1ms, job),
  };
  for (const auto& entry : repeated) {
    EXPECT_TRUE(poll_until([&] { return runs > 0; }));
    entry.Close();
    runs = 0;
  }
}

TEST(DelayAdd, WaitsForTheDelayBeforeItsFirstInterval) {
  gtcp::Timer timer;
  std::atomic<int> early{0};
  const auto job = [&early] { ++early; };
  timer.DelayAdd(1h, 1ms, job);
  timer.DelayAddEntry(1h, 1ms, job, true, 1, gtcp::StatusReady);
  timer.DelayAddSingleton(1h, 1ms, job);
  timer.DelayAddOnce(1h, 1ms, job);
  timer.DelayAddTimes(1h, 1ms, 2, job);
  timer.DelayAdd(1ms, 1h, job);
  let_pass(timer, 5ms);
  EXPECT_EQ(early, 0);
  timer.Close();

  gtcp::Timer quick({.Quick = true});
  std::promise<void> ran;
  auto ran_early = ran.get_future();
  quick.DelayAddTimes(1ms, 1h, 1, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(ran_early)) << "then the delay alone is waited for";
  quick.Close();
}

TEST(TimerOptions, QuickBeginsIntervalsAtOnce) {
  gtcp::Timer timer({.Quick = true});
  std::promise<void> ran;
  auto done = ran.get_future();
  timer.AddTimes(1h, 2, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(done));
  std::atomic<bool> early{false};
  timer.AddOnce(1h, [&early] { early = true; });
  timer.SetTimeout(1h, [&early] { early = true; });
  timer.Close();
  EXPECT_FALSE(early);
  timer.Close();
}

// --- no overlap, growth

TEST(TimerThreads, OneEntryDoesNotOverlapWithItself) {
  gtcp::Timer timer;
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<int> runs{0};
  const auto job = [&] {
    const int now = ++inside;
    most = std::max(most.load(), now);
    // Long enough for further beats to come.
    const auto end = std::chrono::steady_clock::now() + 300us;
    while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
    --inside;
    ++runs;
  };
  const gtcp::TimerEntry entry = timer.SetInterval(50us, job);
  const gtcp::TimerEntry asked = timer.SetInterval(1h, [&] { entry.Run(); });
  for (int i = 0; i < 50; ++i) asked.Run();
  EXPECT_TRUE(poll_until([&] { return runs > 50; }));
  EXPECT_EQ(most, 1);
  timer.Close();
}

TEST(TimerThreads, RunsOverlapWhereAllowed) {
  gtcp::Timer timer;
  std::latch together(3);
  std::atomic<int> begun{0};
  const gtcp::TimerEntry entry = timer.SetInterval(100us, [&] {
    if (++begun <= 3) together.arrive_and_wait();  // only ends if three are inside at once
  });
  EXPECT_TRUE(entry.IsSingleton());
  entry.SetSingleton(false);
  together.wait();
  entry.Close();
  timer.Close();
}

TEST(TimerThreads, GrowWhenCallbacksBlock) {
  constexpr int blocking = 20;
  gtcp::Timer timer;
  gate open;
  std::latch all_inside(blocking);
  for (int i = 0; i < blocking; ++i) {
    timer.SetTimeout(1ms, [&] {
      all_inside.count_down();
      open.pass();
    });
  }
  all_inside.wait();  // hangs if a blocked callback holds up others
  std::promise<void> ran;
  auto done = ran.get_future();
  timer.SetTimeout(1ms, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(done));
  open.open();
  timer.Close();
}

TEST(TimerThreads, ABlockedCallbackDoesNotHoldUpWhatIsAddedLater) {
  gtcp::Timer timer;
  gate open;
  std::promise<void> inside;
  auto begun = inside.get_future();
  timer.SetTimeout(0ms, [&] {
    inside.set_value();
    open.pass();
  });
  ASSERT_TRUE(comes(begun));
  for (int i = 0; i < 3; ++i) {
    std::promise<void> ran;
    auto done = ran.get_future();
    const auto entry = timer.SetTimeout(1ms, [&ran] { ran.set_value(); });
    EXPECT_TRUE(comes(done));
    entry.Close();
  }
  open.open();
  timer.Close();
}

TEST(TimerThreads, ALongRunIsFollowedByItsNextBeat) {
  gtcp::Timer timer;
  gate open;
  std::promise<void> inside;
  auto begun = inside.get_future();
  std::atomic<int> runs{0};
  const gtcp::TimerEntry entry = timer.SetInterval(1ms, [&] {
    if (++runs == 1) {
      inside.set_value();
      open.pass();
    }
  });
  ASSERT_TRUE(comes(begun));
  // Another thread comes, and then waits for an hour.
  timer.SetTimeout(1h, [] {});
  std::promise<void> ran;
  auto done = ran.get_future();
  timer.SetTimeout(1ms, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(done));
  open.open();
  EXPECT_TRUE(poll_until([&] { return runs > 2; }));
  timer.Close();
}

TEST(TimerThreads, StayWithinTheirNumber) {
  gtcp::Timer timer({.MaxThreads = 3});
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::latch all(40);
  for (int i = 0; i < 40; ++i) {
    timer.SetTimeout(0ms, [&] {
      const int now = ++inside;
      int before = most;
      while (before < now && !most.compare_exchange_weak(before, now)) {
      }
      const auto end = std::chrono::steady_clock::now() + 1ms;
      while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
      --inside;
      all.count_down();
    });
  }
  all.wait();
  EXPECT_LE(most, 3);
  timer.Close();
}

TEST(TimerThreads, ASingleThreadServesAll) {
  gtcp::Timer timer({.MaxThreads = 1});
  std::mutex mutex;
  std::vector<std::thread::id> ids;
  std::latch all(100);
  for (int i = 0; i < 100; ++i) {
    timer.SetTimeout(10us * i, [&] {
      {
        const std::lock_guard lock(mutex);
        ids.push_back(std::this_thread::get_id());
      }
      all.count_down();
    });
  }
  all.wait();
  const std::lock_guard lock(mutex);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), ids.front()), 100);
  timer.Close();
}

TEST(TimerThreads, EndWhenIdleAndComeBack) {
  gtcp::Timer timer({.IdleTime = 0ms});
  for (int round = 0; round < 50; ++round) {
    std::promise<void> ran;
    auto done = ran.get_future();
    const auto entry = timer.SetTimeout(round % 2 == 0 ? 0us : 200us, [&ran] { ran.set_value(); });
    ASSERT_TRUE(comes(done));
    entry.Close();
  }
  timer.Close();
}

TEST(TimerThreads, StayForTheLongestIdleTime) {
  gtcp::Timer timer({.MaxThreads = 1, .IdleTime = std::chrono::milliseconds::max()});
  for (int round = 1; round <= 20; ++round) {
    std::promise<int> ran;
    auto done = ran.get_future();
    timer.SetTimeout(1ms, [&ran] {
      thread_local int runs = 0;
      ran.set_value(++runs);
    });
    ASSERT_TRUE(comes(done));
    EXPECT_EQ(done.get(), round) << "another thread";
  }
}

// --- Close

TEST(TimerEntryClose, WaitsForTheRunningCallback) {
  gtcp::Timer timer;
  for (int round = 0; round < 20; ++round) {
    std::promise<void> inside;
    auto begun = inside.get_future();
    std::atomic<bool> over{false};
    const gtcp::TimerEntry entry = timer.SetTimeout(0ms, [&] {
      inside.set_value();
      for (int i = 0; i < 100; ++i) std::this_thread::yield();
      over = true;
    });
    ASSERT_TRUE(comes(begun));
    entry.Close();
    EXPECT_TRUE(over);
    EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  }
  timer.Close();
}

TEST(TimerEntryClose, NeverRunsAgain) {
  gtcp::Timer timer;
  for (int round = 0; round < 50; ++round) {
    auto alive = std::make_unique<std::atomic<int>>(0);
    const gtcp::TimerEntry entry = timer.AddEntry(
        10us, [count = alive.get()] { ++*count; }, round % 2 == 0, -1, gtcp::StatusReady);
    ASSERT_TRUE(poll_until([&] { return *alive > 2; }));
    entry.Close();
    alive.reset();  // a use after this is ASan's and TSan's to find
    entry.Start();
    entry.Run();
    entry.Reset();
    entry.SetTimes(5);
    EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  }
  timer.Close();
}

TEST(TimerEntryClose, ReturnsInItsOwnCallback) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  gtcp::TimerEntry entry;
  std::latch stored(1);
  std::promise<void> closed;
  auto done = closed.get_future();
  entry = timer.SetInterval(1ms, [&] {
    stored.wait();
    entry.Close();
    EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
    ++count;
    closed.set_value();
  });
  stored.count_down();
  EXPECT_TRUE(comes(done));
  entry.Close();
  EXPECT_EQ(count, 1);
  timer.Close();
}

TEST(TimerEntryClose, TwoCallbacksMayCloseEachOther) {
  gtcp::Timer timer;
  for (int round = 0; round < 20; ++round) {
    gtcp::TimerEntry a, b;
    std::latch stored(1);
    std::barrier both(2);
    std::latch over(2);
    const auto closes = [&](const gtcp::TimerEntry& other) {
      stored.wait();
      both.arrive_and_wait();  // both are running now
      other.Close();
      over.count_down();
    };
    a = timer.SetTimeout(0ms, [&] { closes(b); });
    b = timer.SetTimeout(0ms, [&] { closes(a); });
    stored.count_down();
    over.wait();
    a.Close();
    b.Close();
  }
  timer.Close();
}

TEST(TimerEntryClose, CallbacksOfTwoTimersMayCloseEachOther) {
  gtcp::Timer one, two;
  gtcp::TimerEntry a, b;
  std::latch stored(1);
  std::barrier both(2);
  std::latch over(2);
  const auto closes = [&](const gtcp::TimerEntry& other) {
    stored.wait();
    both.arrive_and_wait();
    other.Close();
    over.count_down();
  };
  a = one.SetTimeout(0ms, [&] { closes(b); });
  b = two.SetTimeout(0ms, [&] { closes(a); });
  stored.count_down();
  over.wait();
  one.Close();
  two.Close();
}

TEST(TimerEntryClose, DestroysTheCallbackThoughHandlesAreLeft) {
  gtcp::Timer timer;
  auto captured = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = captured;
  const gtcp::TimerEntry entry = timer.SetInterval(1h, [captured = std::move(captured)] {});
  const gtcp::TimerEntry copy = entry;
  EXPECT_TRUE(entry == copy);
  EXPECT_FALSE(watch.expired());
  entry.Close();
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(copy.Status(), gtcp::StatusClosed);
  timer.Close();
}

TEST(TimerEntryClose, DestroysTheCallbackThatItWaitedFor) {
  gtcp::Timer timer;
  for (int round = 0; round < 50; ++round) {
    auto captured = std::make_shared<int>(1);
    const std::weak_ptr<int> watch = captured;
    std::promise<void> inside;
    auto begun = inside.get_future();
    const gtcp::TimerEntry entry =
        timer.SetTimeout(0ms, [&inside, captured = std::move(captured)] { inside.set_value(); });
    ASSERT_TRUE(comes(begun));
    entry.Close();
    EXPECT_TRUE(watch.expired());
  }
  timer.Close();
}

TEST(TimerEntryClose, WithoutWaitingLeavesTheRunToEndByItself) {
  gtcp::Timer timer;
  gate open;
  std::promise<void> inside;
  auto begun = inside.get_future();
  auto captured = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = captured;
  const gtcp::TimerEntry entry = timer.SetInterval(1ms, [&, captured = std::move(captured)] {
    inside.set_value();
    open.pass();
  });
  ASSERT_TRUE(comes(begun));
  gtcp::detail::timer_access::close_without_waiting(entry);
  EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  EXPECT_FALSE(watch.expired());
  open.open();
  entry.Close();
  EXPECT_TRUE(watch.expired());
  timer.Close();
}

/// Closes its entry as it is destroyed.
struct closes_on_destruction {
  gtcp::TimerEntry* entry;
  explicit closes_on_destruction(gtcp::TimerEntry& which) : entry(&which) {}
  closes_on_destruction(closes_on_destruction&& other) noexcept : entry(std::exchange(other.entry, nullptr)) {}
  ~closes_on_destruction() {
    if (entry != nullptr) entry->Close();
  }
  void operator()() const {}
};

TEST(TimerEntryClose, MayBeCalledByTheDestructorOfItsCallback) {
  gtcp::Timer timer;
  gtcp::TimerEntry entry = timer.SetTimeout(1h, closes_on_destruction(entry));
  entry.Close();
  gtcp::TimerEntry soon;
  soon = timer.AddEntry(1ms, closes_on_destruction(soon), true, 1, gtcp::StatusStopped);
  soon.Start();
  EXPECT_TRUE(poll_until([&] { return soon.Status() == gtcp::StatusClosed; }));
  timer.Close();
}

// --- Start, Stop, Reset, Run, times

TEST(TimerEntry, StopHoldsAndStartGoesOn) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = timer.SetInterval(100us, [&] { ++count; });
  ASSERT_TRUE(poll_until([&] { return count > 2; }));
  entry.Stop();
  EXPECT_EQ(entry.Status(), gtcp::StatusStopped);
  // A run that was going on ends; beats of another entry pass then without a further one.
  const auto others = [&] {
    std::latch passed(20);
    const gtcp::TimerEntry other = timer.AddTimes(100us, 20, [&] { passed.count_down(); });
    passed.wait();
    other.Close();
  };
  others();
  const int before = count;
  others();
  EXPECT_EQ(count, before);
  entry.Start();
  EXPECT_TRUE(poll_until([&] { return count > before + 2; }));
  timer.Close();
}

TEST(TimerEntry, ResetPutsTheRunOff) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  timer.Stop();  // time stands still: only Reset moves the deadline
  const gtcp::TimerEntry entry = timer.SetTimeout(1ms, [&] { ++count; });
  for (int i = 0; i < 100; ++i) entry.Reset();
  timer.Start();
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(count, 1);
  timer.Close();
}

TEST(TimerEntry, RunRunsNowAndCounts) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = timer.AddTimes(1h, 2, [&] { ++count; });
  entry.Run();
  EXPECT_TRUE(poll_until([&] { return count == 1 && entry.Status() == gtcp::StatusReady; }));
  entry.Run();
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(count, 2);
  timer.Close();
}

TEST(TimerEntry, SetTimesLimitsFurtherRuns) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = timer.AddEntry(
      100us, [&] { ++count; }, true, -1, gtcp::StatusStopped);
  entry.SetTimes(3);
  entry.Start();
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(count, 3);
  const gtcp::TimerEntry other = timer.SetInterval(1h, [] {});
  other.SetTimes(0);
  EXPECT_EQ(other.Status(), gtcp::StatusClosed);
  timer.Close();
}

TEST(TimerEntry, SaysThatItIsRunning) {
  gtcp::Timer timer;
  gate open;
  std::promise<void> inside;
  auto begun = inside.get_future();
  const gtcp::TimerEntry entry = timer.SetTimeout(0ms, [&] {
    inside.set_value();
    open.pass();
  });
  ASSERT_TRUE(comes(begun));
  EXPECT_EQ(entry.Status(), gtcp::StatusRunning);
  open.open();
  entry.Close();
  timer.Close();
}

TEST(TimerEntry, SetStatusDoesWhatTheStatusSays) {
  gtcp::Timer timer;
  const gtcp::TimerEntry entry = timer.SetInterval(1h, [] {});
  EXPECT_EQ(entry.SetStatus(gtcp::StatusStopped), gtcp::StatusReady);
  EXPECT_EQ(entry.SetStatus(gtcp::StatusReady), gtcp::StatusStopped);
  EXPECT_EQ(entry.Status(), gtcp::StatusReady);
  EXPECT_NE(invalid_option_of([&] { entry.SetStatus(9); }).find("status is 9"), std::string::npos);
  EXPECT_EQ(entry.SetStatus(gtcp::StatusClosed), gtcp::StatusReady);
  EXPECT_EQ(entry.SetStatus(gtcp::StatusReady), gtcp::StatusClosed);
  EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  timer.Close();
}

TEST(TimerEntry, DoesNothingWhenItRefersToNone) {
  const gtcp::TimerEntry entry;
  EXPECT_FALSE(entry);
  entry.Start();
  entry.Stop();
  entry.Reset();
  entry.Run();
  entry.SetSingleton(false);
  entry.SetTimes(1);
  entry.SetTimes(0);
  entry.Close();
  EXPECT_EQ(entry.SetStatus(gtcp::StatusReady), gtcp::StatusClosed);
  EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  EXPECT_TRUE(entry.IsSingleton());
  EXPECT_TRUE(entry == gtcp::TimerEntry());
}

// --- exceptions

TEST(TimerExceptions, GoToTheErrorCallbackAndTheEntryGoesOn) {
  gtcp::Timer timer;
  std::mutex mutex;
  std::vector<std::string> errors;
  timer.SetErrorCallback([&](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      const std::lock_guard lock(mutex);
      errors.emplace_back(e.what());
    }
  });
  const gtcp::TimerEntry entry = timer.AddTimes(1ms, 3, [] { throw std::runtime_error("out of a job"); });
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  const std::lock_guard lock(mutex);
  EXPECT_EQ(errors, std::vector<std::string>(3, "out of a job"));
  timer.Close();
}

TEST(TimerExceptions, AreALineOnStderrByDefault) {
  testing::internal::CaptureStderr();
  {
    gtcp::Timer timer;
    std::promise<void> ran;
    auto done = ran.get_future();
    timer.SetTimeout(0ms, [&ran] {
      ran.set_value();
      throw std::runtime_error("nobody listens");
    });
    EXPECT_TRUE(comes(done));
    timer.Close();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "gtcp: exception in a timer's callback: nobody listens\n");
}

TEST(TimerExceptions, OutOfTheErrorCallbackAreALineOnStderr) {
  testing::internal::CaptureStderr();
  {
    gtcp::Timer timer;
    timer.SetErrorCallback([](std::exception_ptr) { throw 5; });
    const gtcp::TimerEntry entry = timer.AddTimes(1ms, 2, [] { throw std::runtime_error("first"); });
    EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  }
  const std::string line = "gtcp: exception of unknown type in a timer's error callback\n";
  EXPECT_EQ(testing::internal::GetCapturedStderr(), line + line);
}

// --- the Timer as a whole

TEST(Timer, ClosesAllItsEntries) {
  gtcp::Timer timer;
  auto captured = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = captured;
  std::vector<gtcp::TimerEntry> entries;
  for (int i = 0; i < 1000; ++i) entries.push_back(timer.SetTimeout(1h + i * 1ms, [captured] {}));
  entries.push_back(timer.AddEntry(
      1h, [captured] {}, true, 1, gtcp::StatusStopped));
  captured.reset();
  timer.Close();
  timer.Close();
  EXPECT_TRUE(watch.expired());
  for (const auto& entry : entries) EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  const gtcp::TimerEntry late = timer.SetTimeout(0ms, [] { FAIL(); });
  EXPECT_EQ(late.Status(), gtcp::StatusClosed);
  timer.Close();
}

TEST(Timer, CloseWaitsForRunningCallbacks) {
  gtcp::Timer timer;
  std::promise<void> inside;
  auto begun = inside.get_future();
  std::atomic<bool> over{false};
  timer.SetTimeout(0ms, [&] {
    inside.set_value();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    over = true;
  });
  ASSERT_TRUE(comes(begun));
  timer.Close();
  EXPECT_TRUE(over);
  timer.Close();
}

TEST(Timer, MayBeDestroyedInItsOwnCallback) {
  for (int round = 0; round < 20; ++round) {
    auto owner = std::make_shared<std::unique_ptr<gtcp::Timer>>(std::make_unique<gtcp::Timer>());
    auto ready = std::make_shared<std::latch>(1);
    auto gone = std::make_shared<std::promise<void>>();
    auto done = gone->get_future();
    (*owner)->SetInterval(100us, [] {});
    (*owner)->SetTimeout(100us, [owner, ready, gone] {
      ready->wait();
      owner->reset();
      gone->set_value();
    });
    ready->count_down();
    ASSERT_TRUE(comes(done));
  }
}

TEST(Timer, MayBeOwnedByItsOwnCallback) {
  auto ran = std::make_shared<std::promise<void>>();
  auto done = ran->get_future();
  auto timer = std::make_shared<gtcp::Timer>();
  gtcp::Timer& of = *timer;
  of.SetTimeout(1ms, [ran, timer = std::move(timer)] { ran->set_value(); });
  EXPECT_TRUE(comes(done));
}

TEST(Timer, MayBeDestroyedWithoutAnyUse) {
  const gtcp::Timer unused;
  gtcp::Timer closed;
  closed.Close();
  gtcp::Timer stopped;
  stopped.Stop();
  stopped.SetInterval(1ms, [] { FAIL(); });
}

TEST(Timer, TimeStandsStillWhileItIsStopped) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  timer.SetInterval(100us, [&] { ++count; });
  ASSERT_TRUE(poll_until([&] { return count > 2; }));
  timer.Stop();
  timer.Stop();
  // A run that had begun may still end.
  gtcp::Timer other;
  const auto others = [&] {
    std::latch passed(20);
    const gtcp::TimerEntry entry = other.AddTimes(100us, 20, [&] { passed.count_down(); });
    passed.wait();
    entry.Close();
  };
  others();
  const int before = count;
  others();
  EXPECT_EQ(count, before);
  timer.Start();
  timer.Start();
  EXPECT_TRUE(poll_until([&] { return count > before + 2; }));
  timer.Close();
}

TEST(Timer, TheTimeBetweenStopAndStartDoesNotCount) {
  // A busy machine may hold up the test between Start and SetTimeout for longer than `early` waits: then once more.
  bool in_order = false;
  for (int round = 0; round < 50 && !in_order; ++round) {
    std::atomic<bool> early_ran{false};
    std::promise<bool> ran;
    auto order = ran.get_future();
    gtcp::Timer other;
    gtcp::Timer timer({.MaxThreads = 1});
    timer.Stop();
    timer.SetTimeout(20ms, [&] { early_ran = true; });
    std::promise<void> passed;
    auto longer = passed.get_future();
    other.SetTimeout(25ms, [&] { passed.set_value(); });
    ASSERT_TRUE(comes(longer));
    timer.Start();
    timer.SetTimeout(0ms, [&] { ran.set_value(!early_ran); });
    ASSERT_EQ(order.wait_for(ceiling), std::future_status::ready);
    in_order = order.get();
    other.Close();
    timer.Close();
  }
  EXPECT_TRUE(in_order);
}

TEST(Timer, EntriesOutliveIt) {
  std::optional<gtcp::Timer> timer(std::in_place);
  const gtcp::TimerEntry entry = timer->SetInterval(1h, [] {});
  timer.reset();
  EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  entry.Start();
  entry.Run();
  entry.Close();
}

TEST(Timer, RefusesWhatIsNotAllowed) {
  gtcp::Timer timer;
  const auto job = [] {};
  using std::string;
  EXPECT_EQ(invalid_option_of([&] { timer.SetInterval(-5ns, job); }),
            "SetInterval: interval is -5 ns, allowed is more than 0: invalid option");
  EXPECT_NE(invalid_option_of([&] { timer.Add(0ms, job); }).find("Add: interval is 0 ns"), string::npos);
  EXPECT_NE(invalid_option_of([&] { timer.AddOnce(0ms, job); }).find("AddOnce: interval is 0 ns"), string::npos);
  EXPECT_NE(invalid_option_of([&] { timer.AddTimes(-1us, 1, job); }).find("is -1000 ns"), string::npos);
  EXPECT_NE(invalid_option_of([&] { timer.DelayAdd(1s, 0s, job); }).find("DelayAdd: interval"), string::npos);
  EXPECT_NE(invalid_option_of([&] { gtcp::SetInterval(0s, job); }).find("SetInterval: interval"), string::npos);
  EXPECT_NE(invalid_option_of([&] { timer.AddEntry(1s, job, true, 1, 3); }).find("status is 3"), string::npos);
  EXPECT_NE(invalid_option_of([&] { timer.SetTimeout(1s, std::function<void()>()); }).find("job is empty"),
            string::npos);
  EXPECT_NE(invalid_option_of([&] { timer.SetTimeout(1s, static_cast<void (*)()>(nullptr)); }).find("empty"),
            string::npos);
  EXPECT_NE(invalid_option_of([] { gtcp::Timer none({.MaxThreads = 0}); }).find("MaxThreads is 0"), string::npos);
  EXPECT_NE(invalid_option_of([] { gtcp::Timer none({.IdleTime = -3ms}); }).find("IdleTime is -3 ms"), string::npos);
  timer.Close();
}

TEST(TimerAccess, AJobThatReturnsFalseEndsItsEntry) {
  gtcp::Timer timer;
  std::atomic<int> count{0};
  const gtcp::TimerEntry entry = gtcp::detail::timer_access::add(timer, {.name = "test", .first = 1ms, .interval = 1ms},
                                                                 [&count] { return ++count < 3; });
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(count, 3);
  timer.Close();
}

#if defined(__unix__)

TEST(TimerThreads, LeaveSignalsToTheUsersThreads) {
  std::promise<bool> blocked;
  auto done = blocked.get_future();
  const auto entry = gtcp::SetTimeout(0ms, [&blocked] {
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, nullptr, &set);
    blocked.set_value(sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGTERM) == 1);
  });
  ASSERT_EQ(done.wait_for(ceiling), std::future_status::ready);
  EXPECT_TRUE(done.get());
  entry.Close();
}

#if defined(__GLIBC__)
TEST(TimerThreads, SurviveACallbackThatEndsItsThread) {
  gtcp::Timer timer;
  const gtcp::TimerEntry entry = timer.SetTimeout(0ms, [] { pthread_exit(nullptr); });
  std::promise<void> ran;
  auto done = ran.get_future();
  timer.SetTimeout(1ms, [&ran] { ran.set_value(); });
  EXPECT_TRUE(comes(done));
  entry.Close();
  timer.Close();
}
#endif

#if !GTCP_TESTS_SANITIZED  // which know no threads in a child of a process with threads
TEST(TimerFork, TheChildHasADefaultTimerOfItsOwn) {
  gtcp::Timer own;
  std::atomic<int> runs{0};
  const gtcp::TimerEntry inherited = gtcp::SetInterval(1ms, [&runs] { ++runs; });
  const gtcp::TimerEntry of_own = own.SetInterval(1ms, [&runs] { ++runs; });
  ASSERT_TRUE(poll_until([&] { return runs > 3; }));
  const pid_t child = fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    alarm(30);
    // What came from the parent is dead, and says so.
    inherited.Close();
    of_own.Run();
    own.Stop();
    own.Start();
    own.Close();
    int failed = inherited.Status() == gtcp::StatusClosed ? 0 : 1;
    try {
      own.SetTimeout(0ms, [] {});
      failed |= 2;
    } catch (const std::system_error& e) {
      if (e.code() != gtcp::Errc::Closed) failed |= 4;
    }
    std::promise<void> ran;
    auto done = ran.get_future();
    gtcp::SetTimeout(1ms, [&ran] { ran.set_value(); });
    if (!comes(done)) failed |= 8;
    _exit(failed);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  inherited.Close();
}
#endif
#endif

// --- all at once

TEST(TimerStress, ManyThreadsAddAndCloseAtRandom) {
  constexpr int threads = 6;
  constexpr int steps = 1500;
  std::atomic<int> after_close{0};
  std::atomic<int> overlaps{0};
  auto alive = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = alive;
  {
    gtcp::Timer timer({.MaxThreads = 8, .IdleTime = 1ms});
    std::vector<std::thread> users;
    for (int user = 0; user < threads; ++user) {
      users.emplace_back([&, user, alive] {
        struct state {
          std::atomic<bool> closed{false};
          std::atomic<int> inside{0};
        };
        std::mt19937 random(static_cast<unsigned>(user));
        std::vector<std::pair<gtcp::TimerEntry, std::shared_ptr<state>>> entries;
        for (int step = 0; step < steps; ++step) {
          const auto what = random() % 10;
          if (entries.empty() || (what < 4 && entries.size() < 50)) {
            auto its = std::make_shared<state>();
            auto job = [its, alive, &after_close, &overlaps] {
              if (its->closed) ++after_close;
              if (++its->inside != 1) ++overlaps;
              std::this_thread::yield();
              --its->inside;
            };
            const auto wait = std::chrono::microseconds(1 + random() % 300);
            gtcp::TimerEntry entry =
                random() % 2 == 0 ? timer.SetInterval(wait, std::move(job)) : timer.AddTimes(wait, 3, std::move(job));
            entries.emplace_back(std::move(entry), std::move(its));
            continue;
          }
          const std::size_t index = random() % entries.size();
          const auto& [entry, its] = entries[index];
          switch (what) {
            case 4: entry.Stop(); break;
            case 5: entry.Start(); break;
            case 6: entry.Reset(); break;
            case 7: entry.Run(); break;
            default:
              entry.Close();
              its->closed = true;
              entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(index));
          }
        }
      });
    }
    for (auto& user : users) user.join();
    alive.reset();
  }
  EXPECT_EQ(after_close, 0);
  EXPECT_EQ(overlaps, 0);
  EXPECT_TRUE(poll_until([&] { return watch.expired(); }));
}

TEST(TimerStress, TimersComeAndGoWhileCallbacksAdd) {
  std::atomic<int> runs{0};
  for (int round = 0; round < 100; ++round) {
    std::latch some(3);
    std::atomic<int> counted{0};
    gtcp::Timer timer({.MaxThreads = 4});
    timer.SetInterval(20us, [&] {
      timer.SetTimeout(5us, [&] { ++runs; });
      if (counted++ < 3) some.count_down();
    });
    timer.SetInterval(30us, [&] { ++runs; });
    some.wait();
  }
  EXPECT_GT(runs, 0);
}

}  // namespace
