// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_ALLOCATION_SWEEP_HPP
#define GTCP_TESTS_SUPPORT_ALLOCATION_SWEEP_HPP

// Runs a scenario again and again, with another allocation failing each time, until none is left that could fail.

#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/runtime.hpp>

#include "support/allocation_faults.hpp"
#include "support/conn_pair.hpp"
#include "support/descriptors.hpp"
#include "support/poll_until.hpp"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp_test {

/// Makes the allocation fail whose turn it is.
struct injection {
  long n;
  whose threads;
  what_fails what;
  how_long lasting;

  failing_allocation operator()() const noexcept { return failing_allocation(n, threads, what, lasting); }
};

/// `scenario(arm)` calls arm() where allocations may fail, and returns whether one has (failing_allocation::end()).
template <class Scenario>
void sweep_allocations(whose threads, what_fails what, how_long lasting, const Scenario& scenario) {
  ASSERT_TRUE(allocation::is_replaced());
  // What is made once and for all, is made.
  for (unsigned i = 0; i < 2 * std::max(1u, std::thread::hardware_concurrency()); ++i) {
    static_cast<void>(gtcp::Runtime::Default().get_executor());
  }
  static_cast<void>(gtcp::detail::waker::of_this_thread());
  scenario(injection{allocation::never - 1, threads, what, lasting});
  scenario(injection{allocation::never - 1, threads, what, lasting});
  const std::size_t before = settled_descriptors();
  constexpr long most = 2000;
  const int enough = threads == whose::this_thread ? 1 : 3;  // other threads do not allocate the same every time
  int quiet = 0;
  long n = 0;
  for (; n < most && quiet < enough; ++n) {
    const ::testing::ScopedTrace trace(__FILE__, __LINE__, "allocation " + std::to_string(n));
    quiet = scenario(injection{n, threads, what, lasting}) ? 0 : quiet + 1;
    EXPECT_TRUE(poll_until([before] { return open_descriptors() <= before; }))
        << open_descriptors() - before << " descriptors are left";
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_LT(n, most) << "no end";
}

inline bool is_short_of_memory(const std::error_code& error) {
  return error == std::errc::not_enough_memory || error == asio::error::no_memory;
}

/// The result of an operation, where std::bad_alloc is as good as the error.
template <class Operation>
std::error_code outcome_of(const Operation& operation) {
  try {
    std::error_code error;
    operation(error);
    return error;
  } catch (const std::bad_alloc&) {
    return std::make_error_code(std::errc::not_enough_memory);
  } catch (const std::system_error& failure) {
    return failure.code();
  }
}

#define EXPECT_DONE_OR_SHORT_OF_MEMORY(error)                                                            \
  do {                                                                                                   \
    const std::error_code gtcp_outcome = (error);                                                        \
    EXPECT_TRUE(!gtcp_outcome || gtcp_test::is_short_of_memory(gtcp_outcome)) << gtcp_outcome.message(); \
  } while (false)

/// A completion handler's results, and how often it was called.
template <class Result>
class completion_note {
 public:
  struct results {
    std::atomic<int> calls{0};
    std::error_code error;
    Result value{};
  };

  completion_note() : shared_(std::make_shared<results>()) {}

  auto handler() const {
    return [shared = shared_](std::error_code error, auto&&... values) {
      if (shared->calls == 0) {
        shared->error = error;
        ((shared->value = std::forward<decltype(values)>(values)), ...);
      }
      ++shared->calls;
    };
  }

  /// Initiates by `start(handler)`. Returns what went wrong: at once, so that the handler was not called; or what the
  /// handler was told, once.
  template <class Start>
  std::error_code run(const Start& start) {
    try {
      start(handler());
    } catch (const std::bad_alloc&) {
      is_refused_ = true;
    }
    return is_refused_ ? std::make_error_code(std::errc::not_enough_memory) : std::error_code();
  }

  /// Waits until no handler is left.
  std::error_code wait() {
    const exempt_thread looking;
    EXPECT_TRUE(poll_until([&] { return shared_.use_count() == 1; })) << "a handler is left";
    EXPECT_EQ(shared_->calls, is_refused_ ? 0 : 1);
    return is_refused_ ? std::make_error_code(std::errc::not_enough_memory) : shared_->error;
  }

  results& operator*() const { return *shared_; }
  results* operator->() const { return shared_.get(); }

 private:
  const std::shared_ptr<results> shared_;
  bool is_refused_ = false;
};

/// Runs a coroutine on an io thread; allocations fail from when it has begun. Returns whether one has failed.
template <class Make>
bool run_armed(const injection& arm, const Make& make) {
  std::atomic<bool> ended{false};
  std::optional<failing_allocation> failing;
  bool fired = false;
  asio::co_spawn(
      gtcp::Runtime::Default().get_executor(),
      [&]() -> asio::awaitable<void> {
        struct disarm {
          std::optional<failing_allocation>& failing;
          bool& fired;
          ~disarm() {
            if (failing) fired = failing->end();
          }
        };
        disarm at_exit{failing, fired};
        failing.emplace(arm.n, arm.threads, arm.what, arm.lasting);
        auto body = make();
        co_await std::move(body);
      },
      [&](const std::exception_ptr& thrown) {
        const exempt_thread looking;
        try {
          if (thrown) std::rethrow_exception(thrown);
        } catch (const std::bad_alloc&) {
        } catch (const std::system_error& error) {
          EXPECT_TRUE(is_short_of_memory(error.code())) << error.what();
        }
        ended = true;
      });
  const exempt_thread looking;
  EXPECT_TRUE(poll_until([&ended] { return ended.load(); })) << "the coroutine did not end";
  return fired;
}

}  // namespace gtcp_test

#endif
