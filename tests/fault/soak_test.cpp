// SPDX-License-Identifier: MIT

// Many connections through a network that does everything to them, for a while: GTCP_SOAK_SECONDS, with 500
// connections; without it two seconds with 50. What fault_proxy.hpp promises to do to each of them goes on all the
// time.

#include <gtcp/dial.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server.hpp>

#include "fault/echo_support.hpp"
#include "support/fault_proxy.hpp"
#include "support/poll_until.hpp"
#include "support/sanitizers.hpp"
#include "support/stress_support.hpp"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using gtcp::Conn;
using gtcp::Errc;
using gtcp_test::dice;
using gtcp_test::fault_proxy;
using gtcp_test::sequence;
using gtcp_test::serving;
using std::chrono::steady_clock;
namespace numbered = gtcp_test::numbered;

struct soak {
  const fault_proxy& proxy;
  steady_clock::time_point end;
  std::atomic<std::uint64_t> echoed{0};
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::uint64_t> failed{0};

  bool goes_on() const { return steady_clock::now() < end && !testing::Test::HasFailure(); }

  void check_end(std::size_t listener, std::uint32_t number, const std::error_code& error) {
    if (!error) return;
    ++failed;
    EXPECT_TRUE(gtcp_test::may_end_with(error)) << error.message();
    EXPECT_FALSE(proxy.spares(listener, number)) << error.message() << ", without a fault";
  }
};

constexpr std::uint32_t longest_life = 400;  // packages

std::uint32_t sender_of(std::size_t listener, std::uint32_t number) {
  return static_cast<std::uint32_t>(listener) * 1'000'000 + number;
}

/// One client after the other, in a coroutine.
asio::awaitable<void> visit(soak& all, std::size_t listener) {
  for (std::uint32_t number = 0; all.goes_on(); ++number) {
    std::error_code error;
    auto connecting = gtcp::AsyncNewConn(all.proxy.address(listener), error);
    const Conn conn = co_await std::move(connecting);
    ++all.connections;
    const std::uint32_t sender = sender_of(listener, number);
    dice roll(sender);
    sequence came(sender);
    std::uint32_t sent = 0;
    while (!error && sent < longest_life && all.goes_on()) {
      for (std::size_t count = 1 + roll(16); count != 0 && !error; --count) {
        auto sending = conn.AsyncSendPkg(numbered::make(sender, sent, gtcp_test::package_size(roll)), error);
        co_await std::move(sending);
        if (!error) ++sent;
      }
      std::error_code failure;
      while (came.count() < sent && !failure) {
        auto receiving = conn.AsyncRecvPkgWithTimeout(2 * gtcp_test::ceiling, failure);
        const std::string pkg = co_await std::move(receiving);
        if (failure) break;
        came.check(pkg);
        ++all.echoed;
      }
      if (failure) error = failure;
    }
    all.check_end(listener, number, error);
  }
}

/// The same in a thread.
void visit_blocking(soak& all, std::size_t listener) {
  std::string pkg;
  for (std::uint32_t number = 0; all.goes_on(); ++number) {
    std::error_code error;
    const Conn conn = gtcp::NewConn(all.proxy.address(listener), error);
    ++all.connections;
    const std::uint32_t sender = sender_of(listener, number);
    dice roll(sender);
    sequence came(sender);
    std::uint32_t sent = 0;
    while (!error && sent < longest_life && all.goes_on()) {
      for (std::size_t count = 1 + roll(16); count != 0 && !error; --count) {
        conn.SendPkg(numbered::make(sender, sent, gtcp_test::package_size(roll)), error);
        if (!error) ++sent;
      }
      std::error_code failure;
      while (came.count() < sent && !failure) {
        conn.RecvPkgWithTimeout(pkg, 2 * gtcp_test::ceiling, failure);
        if (failure) break;
        came.check(pkg);
        ++all.echoed;
      }
      if (failure) error = failure;
    }
    all.check_end(listener, number, error);
  }
}

/// In KiB; 0 where the system does not say.
std::size_t resident_memory() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

std::size_t open_descriptors() {
  std::error_code error;
  std::size_t count = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error))
    ++count;
  return count;
}

/// As many as the system allows, each of which needs some descriptors.
std::size_t connections_allowed(std::size_t wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return std::min<std::size_t>(wanted, (static_cast<std::size_t>(limit.rlim_cur) - 100) / 6);
}

TEST(Soak, KeepsManyConnectionsWholeForAWhile) {
  const gtcp_test::seed_report report;
  gtcp_test::print_seed();
  const char* const given = std::getenv("GTCP_SOAK_SECONDS");
  const std::chrono::seconds time(given != nullptr ? std::atoi(given) : 2);
  const std::size_t listeners = connections_allowed(given != nullptr ? 500 : 50);
  const std::size_t threads = listeners / 25;
  gtcp::ServerOption option;
  option.ErrorCallback = [](const Conn&, std::exception_ptr failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
      EXPECT_TRUE(gtcp_test::may_end_with(error.code())) << error.what();
    }
  };
  gtcp::Server server("127.0.0.1:0", nullptr, option);
  gtcp_test::echo_checked(server, serving::coroutine);
  server.Start();
  fault_proxy proxy(server.GetListenedPort(), {.listeners = listeners, .one_is_spared_in = 2});
  const auto begin = steady_clock::now();
  soak all{proxy, begin + time};
  std::vector<std::size_t> memory;
  {
    gtcp_test::thread_group blocking;
    std::vector<std::future<void>> coroutines;
    for (std::size_t listener = 0; listener < listeners; ++listener) {
      if (listener < threads)
        blocking.run([&all, listener] { visit_blocking(all, listener); });
      else
        coroutines.push_back(
            asio::co_spawn(gtcp::Runtime::Default().get_executor(), visit(all, listener), asio::use_future));
    }
    constexpr int looks = 20;
    for (int look = 1; look <= looks; ++look) {
      std::this_thread::sleep_until(begin + time * look / looks);
      memory.push_back(resident_memory());
      if (given == nullptr) continue;
      std::printf(
          "%5.0f s: %llu packages there and back, %llu connections, %llu of them failed, %zu KiB, %zu descriptors\n",
          std::chrono::duration<double>(steady_clock::now() - begin).count(),
          static_cast<unsigned long long>(all.echoed), static_cast<unsigned long long>(all.connections),
          static_cast<unsigned long long>(all.failed), memory.back(), open_descriptors());
      std::fflush(stdout);
    }
    for (std::future<void>& each : coroutines) {
      const bool ended = gtcp_test::comes(each) || gtcp_test::comes(each) || gtcp_test::comes(each);
      ASSERT_TRUE(ended) << "a package neither came, nor did its connection fail";
      each.get();
    }
  }
  std::printf("%llu packages there and back; %s\n", static_cast<unsigned long long>(all.echoed),
              proxy.summary().c_str());
  EXPECT_GT(all.echoed, 0u);
  EXPECT_GT(all.failed, 0u);
  // Flat from the first tenth on. (The sanitizers keep what was freed.)
  if (!GTCP_TESTS_SANITIZED && given != nullptr) {
    const std::size_t first = *std::max_element(memory.begin() + 1, memory.begin() + 5);
    const std::size_t last = *std::max_element(memory.end() - 4, memory.end());
    EXPECT_LT(last, first + first / 4 + 8 * 1024);
  }
  // Not all was delivered: the last connections may have been reset.
  std::error_code error;
  server.CloseAndWait(gtcp_test::ceiling, error);
  EXPECT_FALSE(error) << error.message();
}

}  // namespace
