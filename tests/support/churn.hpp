// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_CHURN_HPP
#define GTCP_TESTS_SUPPORT_CHURN_HPP

// Connects, asks once, and closes, again and again, and compares what the process uses after a tenth of that with what
// it uses at the end. Linux only.

#include <gtcp/conn.hpp>

#include "support/descriptors.hpp"
#include "support/poll_until.hpp"
#include "support/process_stats.hpp"
#include "support/running_server.hpp"
#include "support/sanitizers.hpp"
#include "support/stress_support.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>

namespace gtcp_test {

template <class Connect>
void churn(int count, const echo_server& server, const Connect& connect) {
  constexpr int parts = 10;
  constexpr int workers = 4;
  std::atomic<int> unanswered{0};
  const auto visit = [&](int number) {
    try {
      gtcp::ConnOption option;
      // A port is not used again for a while: so there are several addresses of them.
      option.LocalAddress = "127.0.0." + std::to_string(1 + number % 32) + ":0";
      const gtcp::Conn conn = connect(option);
      if (!answers(conn)) ++unanswered;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ++unanswered;
    }
  };
  std::size_t descriptors = 0;
  [[maybe_unused]] std::size_t memory = 0;
  for (int part = 0; part < parts; ++part) {
    std::atomic<int> next{0};
    thread_group threads;
    for (int i = 0; i < workers; ++i) {
      threads.run([&] {
        for (int number = next++; number < count / parts; number = next++) visit(number);
      });
    }
    threads.join();
    ASSERT_EQ(unanswered, 0);
    EXPECT_TRUE(poll_until([&] { return server->Stats().Active == 0; }));
    if (part == 0) descriptors = settled_descriptors();
    // Threads without a session keep theirs for a second.
    ASSERT_TRUE(poll_until([&] { return open_descriptors() <= descriptors; }))
        << descriptors << " at first, now " << open_descriptors();
    const std::size_t memory_now = process_stats::resident();
    if (part == 0 || part == parts - 1) {
      std::printf("after %d connections: %zu descriptors, %zu KiB\n", count / parts * (part + 1), open_descriptors(),
                  memory_now / 1024);
    }
    if (part == 0) {
      memory = memory_now;
      continue;
    }
#if !GTCP_TESTS_SANITIZED                                       // whose memory is about other things
    const std::size_t noise = in_full() ? 1u << 20 : 4u << 20;  // a tenth of little is little
    EXPECT_LE(memory_now, memory + noise);
#endif
  }
  EXPECT_EQ(server->Stats().Accepted, static_cast<std::uint64_t>(count / parts * parts));
}

}  // namespace gtcp_test

#endif
