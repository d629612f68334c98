// SPDX-License-Identifier: MIT

// What the tests of GoFrame's os/gtimer expect of that package, expected of ours: the same scenarios, in our words, and
// with events in place of pauses. Where ours differs on purpose docs/goframe.md says so.

#include <gtcp/timer.hpp>

#include "support/poll_until.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using gtcp::Timer;
using gtcp::TimerEntry;
using gtcp_test::comes;
using gtcp_test::poll_until;

namespace {

using Clock = std::chrono::steady_clock;
using Job = std::function<void()>;

/// Returns after some beats of an interval of a millisecond, of which the timers under test know nothing.
void BeatsPass(int beats = 8) {
  const TimerEntry other = gtcp::AddTimes(1ms, beats, [] {});
  EXPECT_TRUE(poll_until([&] { return other.Status() == gtcp::StatusClosed; }));
}

/// A job that counts its runs, and may be held up in them.
class Counted {
 public:
  Counted() = default;
  explicit Counted(std::shared_future<void> gate) : gate_(std::move(gate)) {}

  operator Job() {
    return [this] {
      last_ = Clock::now();
      ++begun_;
      if (gate_.valid()) {
        EXPECT_TRUE(comes(gate_));
      }
      ++ended_;
    };
  }
  int begun() const { return begun_; }
  int ended() const { return ended_; }
  Clock::time_point last() const { return last_; }

  bool ComesTo(int runs) const {
    return poll_until([&] { return ended_ >= runs; });
  }
  /// Whether no run begins any more.
  bool Rests() const {
    // One that had begun already may still come.
    return poll_until([&] {
      const int before = begun_;
      BeatsPass();
      return begun_ == before && ended_ == before;
    });
  }

 private:
  std::shared_future<void> gate_;
  std::atomic<int> begun_{0};
  std::atomic<int> ended_{0};
  std::atomic<Clock::time_point> last_{};
};

// ---- Entries

TEST(GoFrameTimerCases, AnEntryStopsAndGoesOnAndCloses) {
  Timer timer;
  Counted runs;
  const TimerEntry entry = timer.Add(1ms, Job(runs));
  EXPECT_TRUE(runs.ComesTo(1));
  entry.Stop();
  EXPECT_TRUE(runs.Rests());
  const int stopped = runs.begun();
  entry.Start();
  EXPECT_TRUE(runs.ComesTo(stopped + 1));
  entry.Close();
  EXPECT_EQ(entry.Status(), gtcp::StatusClosed);
  EXPECT_TRUE(runs.Rests());
}

TEST(GoFrameTimerCases, ASingletonDoesNotBeginAgainWhileItRuns) {
  std::promise<void> open;
  Timer timer;
  Counted runs(open.get_future().share());
  const TimerEntry entry = timer.Add(1ms, Job(runs));
  entry.SetSingleton(true);
  EXPECT_TRUE(entry.IsSingleton());
  EXPECT_TRUE(poll_until([&] { return runs.begun() == 1; }));
  BeatsPass();
  EXPECT_EQ(runs.begun(), 1);
  open.set_value();
  EXPECT_TRUE(runs.ComesTo(2));
  timer.Close();
}

TEST(GoFrameTimerCases, AQuickSingletonBeginsAtOnceAndOnce) {
  std::promise<void> open;
  Timer timer({.Quick = true});
  Counted runs(open.get_future().share());
  const TimerEntry entry = timer.Add(1h, Job(runs));
  entry.SetSingleton(true);
  EXPECT_TRUE(poll_until([&] { return runs.begun() == 1; }));
  BeatsPass();
  EXPECT_EQ(runs.begun(), 1);
  open.set_value();
  timer.Close();
}

TEST(GoFrameTimerCases, SetTimesLimitsAnEntry) {
  Timer timer;
  Counted runs;
  timer.Stop();
  const TimerEntry entry = timer.Add(1ms, Job(runs));
  entry.SetTimes(2);
  timer.Start();
  EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  EXPECT_EQ(runs.ended(), 2);
}

TEST(GoFrameTimerCases, AJobCanBeRunOutOfTurn) {
  Timer timer;
  Counted runs;
  timer.Add(1h, Job(runs)).Run();
  EXPECT_TRUE(runs.ComesTo(1));
  EXPECT_TRUE(runs.Rests());
  timer.Close();
}

TEST(GoFrameTimerCases, ResetAgainAndAgainPutsTheRunOff) {
  Timer timer;
  Counted runs;
  const TimerEntry entry = timer.AddSingleton(1h, Job(runs));
  for (int i = 0; i < 3; ++i) {
    BeatsPass(1);
    entry.Reset();
  }
  EXPECT_EQ(runs.begun(), 0);
  EXPECT_EQ(entry.Status(), gtcp::StatusReady);
  timer.Close();
}

TEST(GoFrameTimerCases, AJobMayEndItsEntry) {
  Timer timer;
  std::atomic<int> runs{0};
  std::promise<TimerEntry> self;
  const std::shared_future<TimerEntry> entry = self.get_future().share();
  self.set_value(timer.Add(1ms, [&runs, entry] {
    ++runs;
    entry.get().Close();
  }));
  EXPECT_TRUE(poll_until([&] { return entry.get().Status() == gtcp::StatusClosed; }));
  BeatsPass();
  EXPECT_EQ(runs, 1);
  timer.Close();
}

// ---- Timers

TEST(GoFrameTimerCases, ATimerRunsItsEntriesUntilItIsClosed) {
  Timer timer;
  Counted first, second, slower;
  timer.Add(1ms, Job(first));
  timer.Add(1ms, Job(second));
  timer.Add(2ms, Job(slower));
  EXPECT_TRUE(first.ComesTo(3) && second.ComesTo(3) && slower.ComesTo(3));
  timer.Close();
  EXPECT_TRUE(first.Rests() && second.Rests() && slower.Rests());
}

TEST(GoFrameTimerCases, ATimerStopsAndGoesOnAndCloses) {
  Timer timer;
  Counted runs;
  timer.Add(1ms, Job(runs));
  EXPECT_TRUE(runs.ComesTo(1));
  timer.Stop();
  EXPECT_TRUE(runs.Rests());
  const int stopped = runs.begun();
  timer.Start();
  EXPECT_TRUE(runs.ComesTo(stopped + 1));
  timer.Close();
  EXPECT_TRUE(runs.Rests());
}

TEST(GoFrameTimerCases, ATimerThatIsNotQuickWaitsForTheFirstBeat) {
  Timer timer({.Quick = false});
  Counted runs;
  timer.AddSingleton(1h, Job(runs));
  EXPECT_TRUE(runs.Rests());
  EXPECT_EQ(runs.begun(), 0);
  timer.Close();
}

TEST(GoFrameTimerCases, AnIntervalMayBeShorterThanWhatGoCallsATick) {
  Timer timer;
  Counted runs;
  timer.Add(20us, Job(runs));
  EXPECT_TRUE(runs.ComesTo(20));
  timer.Close();
}

// ---- Each function, on the default timer and on one of its own

/// The members of a Timer and the functions of the same names are called alike.
struct OnDefaultTimer {
  template <class... Args>
  static TimerEntry SetTimeout(Args... args) {
    return gtcp::SetTimeout(args...);
  }
  template <class... Args>
  static TimerEntry SetInterval(Args... args) {
    return gtcp::SetInterval(args...);
  }
  template <class... Args>
  static TimerEntry AddEntry(Args... args) {
    return gtcp::AddEntry(args...);
  }
  template <class... Args>
  static TimerEntry AddSingleton(Args... args) {
    return gtcp::AddSingleton(args...);
  }
  template <class... Args>
  static TimerEntry AddOnce(Args... args) {
    return gtcp::AddOnce(args...);
  }
  template <class... Args>
  static TimerEntry AddTimes(Args... args) {
    return gtcp::AddTimes(args...);
  }
  template <class... Args>
  static TimerEntry DelayAdd(Args... args) {
    return gtcp::DelayAdd(args...);
  }
  template <class... Args>
  static TimerEntry DelayAddEntry(Args... args) {
    return gtcp::DelayAddEntry(args...);
  }
  template <class... Args>
  static TimerEntry DelayAddSingleton(Args... args) {
    return gtcp::DelayAddSingleton(args...);
  }
  template <class... Args>
  static TimerEntry DelayAddOnce(Args... args) {
    return gtcp::DelayAddOnce(args...);
  }
  template <class... Args>
  static TimerEntry DelayAddTimes(Args... args) {
    return gtcp::DelayAddTimes(args...);
  }
};

template <class Where>
class GoFrameTimerFunctions : public testing::Test {
 protected:
  Where timer_;
};

struct WhereNames {
  template <class Where>
  static std::string GetName(int) {
    return std::is_same_v<Where, Timer> ? "ATimer" : "DefaultTimer";
  }
};
using Wheres = testing::Types<Timer, OnDefaultTimer>;
TYPED_TEST_SUITE(GoFrameTimerFunctions, Wheres, WhereNames);

TYPED_TEST(GoFrameTimerFunctions, RunAJobExactlySoOften) {
  std::vector<Counted> runs(6);
  const std::vector<TimerEntry> entries{
      this->timer_.SetTimeout(1ms, Job(runs[0])),
      this->timer_.AddOnce(1ms, Job(runs[1])),
      this->timer_.DelayAddOnce(1ms, 1ms, Job(runs[2])),
      this->timer_.AddTimes(1ms, 2, Job(runs[3])),
      this->timer_.DelayAddTimes(1ms, 1ms, 2, Job(runs[4])),
      this->timer_.DelayAddEntry(1ms, 1ms, Job(runs[5]), false, 2, gtcp::StatusReady),
  };
  for (const TimerEntry& entry : entries) {
    EXPECT_TRUE(poll_until([&] { return entry.Status() == gtcp::StatusClosed; }));
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    EXPECT_TRUE(runs[i].Rests());
    EXPECT_EQ(runs[i].ended(), i < 3 ? 1 : 2) << i;
  }
}

TYPED_TEST(GoFrameTimerFunctions, RunAJobAgainAndAgain) {
  Counted interval, entry, delayed;
  const std::vector<TimerEntry> entries{
      this->timer_.SetInterval(1ms, Job(interval)),
      this->timer_.AddEntry(1ms, Job(entry), false, 0, gtcp::StatusReady),
      this->timer_.DelayAdd(1ms, 1ms, Job(delayed)),
  };
  EXPECT_TRUE(interval.ComesTo(3) && entry.ComesTo(3) && delayed.ComesTo(3));
  for (const TimerEntry& one : entries) one.Close();
}

TYPED_TEST(GoFrameTimerFunctions, RunASingletonOnceAtATime) {
  std::promise<void> open;
  const std::shared_future<void> gate = open.get_future().share();
  Counted runs(gate), delayed(gate);
  const TimerEntry entry = this->timer_.AddSingleton(1ms, Job(runs));
  const TimerEntry later = this->timer_.DelayAddSingleton(1ms, 1ms, Job(delayed));
  EXPECT_TRUE(poll_until([&] { return runs.begun() == 1 && delayed.begun() == 1; }));
  BeatsPass();
  EXPECT_EQ(runs.begun(), 1);
  EXPECT_EQ(delayed.begun(), 1);
  open.set_value();
  entry.Close();
  later.Close();
}

TYPED_TEST(GoFrameTimerFunctions, DelayTheFirstRunByADelayAndAnInterval) {
  std::vector<Counted> runs(5);
  const Clock::time_point begin = Clock::now();
  const std::vector<TimerEntry> entries{
      this->timer_.DelayAddOnce(10ms, 20ms, Job(runs[0])),
      this->timer_.DelayAddTimes(10ms, 20ms, 1, Job(runs[1])),
      this->timer_.DelayAddEntry(10ms, 20ms, Job(runs[2]), false, 1, gtcp::StatusReady),
      this->timer_.DelayAdd(10ms, 20ms, Job(runs[3])),
      this->timer_.DelayAddSingleton(10ms, 20ms, Job(runs[4])),
  };
  for (const Counted& one : runs) {
    EXPECT_TRUE(one.ComesTo(1));
    EXPECT_GE(one.last() - begin, 30ms);
  }
  for (const TimerEntry& entry : entries) entry.Close();
}

}  // namespace
