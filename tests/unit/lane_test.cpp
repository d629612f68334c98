// SPDX-License-Identifier: MIT

#include <gtcp/detail/lane.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using gtcp::detail::lane;
using gtcp::detail::lane_waiter;

/// Waits as an asynchronous operation does: whoever hands the lane over runs it.
class runner final : public lane_waiter {
 public:
  runner(lane& of, std::vector<int>& order, int number) : lane_(of), order_(order), number_(number) {}
  ~runner() = default;

  bool granted() override { return true; }
  lane_waiter* resume() override {
    order_.push_back(number_);
    return lane_.unlock();
  }

 private:
  lane& lane_;
  std::vector<int>& order_;
  const int number_;
};

/// Waits as a blocked thread does.
class sleeper final : public lane_waiter {
 public:
  bool has_lane = false;
  std::condition_variable woken;
  ~sleeper() = default;

  bool granted() override {
    has_lane = true;
    woken.notify_one();
    return false;
  }
  lane_waiter* resume() override { return nullptr; }
};

class Lane : public testing::Test {
 protected:
  bool lock_or_queue(lane_waiter& waiter) {
    const std::lock_guard lock(mutex);
    return way.lock_or_queue(waiter);
  }
  bool withdraw(lane_waiter& waiter) {
    const std::lock_guard lock(mutex);
    return way.withdraw(waiter);
  }
  void unlock() { lane::run(way.unlock()); }

  std::mutex mutex;
  lane way{mutex};
  std::vector<int> order;
};

TEST_F(Lane, AdmitsOneAtATime) {
  EXPECT_TRUE(way.try_lock());
  EXPECT_FALSE(way.try_lock());
  EXPECT_EQ(way.unlock(), nullptr);
  EXPECT_TRUE(way.try_lock());
  unlock();
  runner one(way, order, 1);
  EXPECT_TRUE(lock_or_queue(one)) << "free, so it need not wait";
  EXPECT_FALSE(way.try_lock());
  unlock();
  EXPECT_TRUE(order.empty());
}

TEST_F(Lane, ServesWhoCameFirst) {
  ASSERT_TRUE(way.try_lock());
  std::deque<runner> waiters;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(lock_or_queue(waiters.emplace_back(way, order, i)));
  unlock();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(way.try_lock());
}

TEST_F(Lane, StaysHeldByWhomItWasHandedTo) {
  ASSERT_TRUE(way.try_lock());
  sleeper thread;
  ASSERT_FALSE(lock_or_queue(thread));
  EXPECT_EQ(way.unlock(), nullptr) << "a thread wakes itself";
  EXPECT_TRUE(thread.has_lane);
  EXPECT_FALSE(way.try_lock());
  EXPECT_FALSE(withdraw(thread)) << "too late: it has the lane, and must use it or pass it on";
  unlock();
  EXPECT_TRUE(way.try_lock());
}

TEST_F(Lane, UnlocksUnderTheMutex) {
  ASSERT_TRUE(way.try_lock());
  runner one(way, order, 1);
  ASSERT_FALSE(lock_or_queue(one));
  lane_waiter* next = nullptr;
  {
    const std::lock_guard lock(mutex);
    next = way.unlock_queued();
  }
  EXPECT_EQ(next, &one);
  lane::run(next);
  EXPECT_TRUE(way.try_lock());
  {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(way.unlock_queued(), nullptr);
  }
  EXPECT_TRUE(way.try_lock());
}

TEST_F(Lane, LetsAnyWaiterWithdraw) {
  for (int gone = 0; gone < 3; ++gone) {
    order.clear();
    ASSERT_TRUE(way.try_lock());
    std::deque<runner> waiters;
    for (int i = 0; i < 3; ++i) lock_or_queue(waiters.emplace_back(way, order, i));
    runner& leaves = waiters[static_cast<std::size_t>(gone)];
    EXPECT_TRUE(withdraw(leaves));
    EXPECT_FALSE(withdraw(leaves)) << "once";
    unlock();
    EXPECT_EQ(order.size(), 2u);
    for (const int number : order) EXPECT_NE(number, gone);
  }
}

TEST_F(Lane, IsFreeAgainWhenAllHaveWithdrawn) {
  ASSERT_TRUE(way.try_lock());
  std::deque<runner> waiters;
  for (int i = 0; i < 3; ++i) lock_or_queue(waiters.emplace_back(way, order, i));
  for (runner& waiter : waiters) EXPECT_TRUE(withdraw(waiter));
  runner late(way, order, 9);
  EXPECT_FALSE(lock_or_queue(late));
  EXPECT_TRUE(withdraw(late));
  EXPECT_EQ(way.unlock(), nullptr);
  EXPECT_TRUE(way.try_lock());
}

TEST_F(Lane, RunsALongQueueWithoutAStackForEach) {
  ASSERT_TRUE(way.try_lock());
  std::deque<runner> waiters;
  for (int i = 0; i < 200'000; ++i) lock_or_queue(waiters.emplace_back(way, order, i));
  unlock();
  EXPECT_EQ(order.size(), 200'000u);
}

TEST_F(Lane, NeverLosesOrDoublesItselfAmongThreads) {
  constexpr int threads = 4;
  constexpr int rounds = 3000;
  int inside = 0;  // guarded by the lane alone
  std::atomic<int> withdrawn{0};
  std::vector<std::thread> all;
  for (int id = 0; id < threads; ++id) {
    all.emplace_back([&, id] {
      unsigned random = static_cast<unsigned>(id) * 7919 + 1;
      for (int round = 0; round < rounds; ++round) {
        random = random * 1664525u + 1013904223u;
        if (!way.try_lock()) {
          sleeper self;
          std::unique_lock lock(mutex);
          if (!way.lock_or_queue(self)) {
            const bool impatient = (random >> 24) % 4 == 0;
            if (!impatient) self.woken.wait(lock, [&] { return self.has_lane; });
            if (impatient && way.withdraw(self)) {
              ++withdrawn;
              continue;
            }
          }
        }
        EXPECT_EQ(inside++, 0);
        --inside;
        unlock();
      }
    });
  }
  for (std::thread& thread : all) thread.join();
  EXPECT_TRUE(way.try_lock());
}

}  // namespace
