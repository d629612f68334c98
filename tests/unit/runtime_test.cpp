// SPDX-License-Identifier: MIT

// Io threads: how many there are, when they start, and what becomes of what still waits on them.

#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/sanitizers.hpp"

#include <asio/any_io_executor.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <future>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <thread>

namespace {

using namespace std::chrono_literals;
using gtcp::Errc;
using gtcp::Runtime;
using gtcp_test::comes;
using gtcp_test::poll_until;
using gtcp_test::text_of_error;

/// The io thread that the executor stands for.
std::thread::id thread_of(const asio::any_io_executor& executor) {
  std::promise<std::thread::id> told;
  auto id = told.get_future();
  asio::post(executor, [&told] { told.set_value(std::this_thread::get_id()); });
  EXPECT_TRUE(comes(id));
  return id.get();
}

TEST(Runtime, RefusesANegativeNumberOfThreads) {
  const std::string text =
      "number of io threads is -1, allowed are 0 and more: " + gtcp::make_error_code(Errc::InvalidOption).message();
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [] { const Runtime refused(-1); }), text);
  Runtime runtime(1);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&] { runtime.SetThreads(-1); }), text);
  EXPECT_EQ(thread_of(runtime.get_executor()), thread_of(runtime.get_executor())) << "and has the one that it had";
}

TEST(Runtime, GivesItsThreadsInTurn) {
  Runtime runtime(3);
  const std::thread::id first = thread_of(runtime.get_executor());
  const std::thread::id second = thread_of(runtime.get_executor());
  const std::thread::id third = thread_of(runtime.get_executor());
  EXPECT_NE(first, second);
  EXPECT_NE(first, third);
  EXPECT_NE(second, third);
  EXPECT_EQ(thread_of(runtime.get_executor()), first);
  EXPECT_NE(first, std::this_thread::get_id());
}

TEST(Runtime, KeepsToANumberThatIsSetLater) {
  Runtime runtime(1);
  const std::thread::id first = thread_of(runtime.get_executor());
  runtime.SetThreads(2);
  const std::thread::id one = thread_of(runtime.get_executor());
  const std::thread::id other = thread_of(runtime.get_executor());
  EXPECT_NE(one, other);
  EXPECT_TRUE(one == first || other == first);
  runtime.SetThreads(1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(thread_of(runtime.get_executor()), first);
}

TEST(Runtime, HasAThreadForEachProcessorUnlessTold) {
  Runtime runtime;
  const std::thread::id first = thread_of(runtime.get_executor());
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) {
    EXPECT_NE(thread_of(runtime.get_executor()), first);
  }
  EXPECT_EQ(thread_of(runtime.get_executor()), first);
}

#if defined(__linux__)
std::size_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

TEST(Runtime, StartsAThreadWhenItIsNeeded) {
#if GTCP_TESTS_SANITIZED
  GTEST_SKIP() << "a sanitizer may start a thread of its own with the first one";
#endif
  const std::size_t before = threads_of_this_process();
  Runtime runtime(2);
  EXPECT_EQ(threads_of_this_process(), before);
  runtime.get_executor();
  EXPECT_EQ(threads_of_this_process(), before + 1);
  runtime.get_executor();
  runtime.get_executor();
  EXPECT_EQ(threads_of_this_process(), before + 2);
}
#endif

TEST(Runtime, DestroysWhatStillWaitsWithoutCallingIt) {
  const auto owned = std::make_shared<int>(0);
  std::atomic<bool> called{false};
  {
    Runtime runtime(1);
    const auto timer = std::make_shared<asio::steady_timer>(runtime.get_executor(), 1h);
    timer->async_wait([timer, owned, &called](std::error_code) { called = true; });
    EXPECT_GT(owned.use_count(), 1);
  }
  EXPECT_EQ(owned.use_count(), 1);
  EXPECT_FALSE(called);
}

TEST(Runtime, MayBeDestroyedOnAThreadOfItsOwn) {
  const auto owned = std::make_shared<int>(0);
  auto runtime = std::make_shared<std::unique_ptr<Runtime>>(std::make_unique<Runtime>(2));
  const asio::any_io_executor executor = (*runtime)->get_executor();
  std::promise<void> destroyed;
  auto done = destroyed.get_future();
  asio::post(executor, [&, runtime] {
    asio::post(executor, [owned] { ADD_FAILURE() << "called although its Runtime is gone"; });
    runtime->reset();
    destroyed.set_value();
  });
  ASSERT_TRUE(comes(done));
  EXPECT_TRUE(poll_until([&] { return owned.use_count() == 1; })) << "what waits is destroyed";
}

TEST(Runtime, GoesOnAfterAHandlerHasThrown) {
  Runtime runtime(1);
  const asio::any_io_executor executor = runtime.get_executor();
  testing::internal::CaptureStderr();
  asio::post(executor, [] { throw std::system_error(asio::error::eof, "of the test"); });
  thread_of(executor);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("of the test"), std::string::npos);
}

}  // namespace
