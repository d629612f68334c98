// SPDX-License-Identifier: MIT

// The fault proxy itself: what it does follows from its seed, and it does everything that it is there for.

#include "support/fault_proxy.hpp"

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/stress_support.hpp"

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/socket_base.hpp>
#include <asio/write.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using asio::ip::tcp;
using gtcp_test::fault;
using gtcp_test::fault_plan;
using gtcp_test::fault_proxy;
using gtcp_test::framed;
using gtcp_test::pattern;

constexpr std::size_t listener_count = 8;
constexpr std::size_t connections_a_listener = 6;

/// Packages of all sizes; a stream is as good as any other.
std::string make_stream(unsigned seed) {
  std::string bytes;
  gtcp_test::dice roll(4711, seed);
  while (bytes.size() < 250'000) bytes += framed(pattern(roll.one_in(20) ? roll(9'000) : roll(300), seed));
  return bytes;
}

void write_all(tcp::socket& socket, const std::string& bytes) {
  std::error_code ignored;
  asio::write(socket, asio::buffer(bytes), ignored);
  socket.shutdown(asio::socket_base::shutdown_send, ignored);
}

std::string read_all(tcp::socket& socket) {
  std::string bytes;
  std::error_code error;
  while (!error) {
    std::array<char, 16 * 1024> some;
    const std::size_t size = socket.read_some(asio::buffer(some), error);
    bytes.append(some.data(), size);
  }
  return bytes;
}

/// Listener, number, and whether it is the way back.
using key = std::tuple<std::size_t, std::size_t, bool>;

/// Sends streams in both directions at once, through one connection after the other; returns what was done to each.
std::map<key, fault_proxy::trace> carry(std::uint32_t seed, std::string& summary) {
  asio::io_context context;
  tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  std::map<key, fault_proxy::trace> traces;
  fault_proxy proxy(acceptor.local_endpoint().port(),
                    {.listeners = listener_count, .one_is_spared_in = 4, .seed = seed, .keeps_trace = true});
  const std::string there = make_stream(1);
  const std::string back = make_stream(2);
  for (std::size_t number = 0; number < connections_a_listener; ++number) {
    for (std::size_t listener = 0; listener < listener_count; ++listener) {
      const fault_plan plan = fault_plan::make(seed, listener, number, 4);
      tcp::socket client(context);
      client.connect({asio::ip::address_v4::loopback(),
                      static_cast<asio::ip::port_type>(
                          std::stoi(proxy.address(listener).substr(proxy.address(listener).find(':') + 1)))});
      tcp::socket server = acceptor.accept();
      std::string came_there;
      std::string came_back;
      {
        gtcp_test::thread_group writers;
        writers.run([&] { write_all(client, there); });
        writers.run([&] { write_all(server, back); });
        gtcp_test::thread_group reader;
        reader.run([&] { came_there = read_all(server); });
        came_back = read_all(client);
        reader.join();
        // A half-closed direction is read by nobody: its writer would wait for ever.
        std::error_code ignored;
        client.shutdown(asio::socket_base::shutdown_both, ignored);
        server.shutdown(asio::socket_base::shutdown_both, ignored);
      }
      EXPECT_EQ(came_there, there.substr(0, came_there.size()));
      EXPECT_EQ(came_back, back.substr(0, came_back.size()));
      if (plan.spares()) {
        EXPECT_EQ(came_there.size(), there.size());
        EXPECT_EQ(came_back.size(), back.size());
      }
      for (const bool hits_back : {false, true}) {
        const auto& hit = hits_back ? plan.back : plan.there;
        const std::size_t came = hits_back ? came_back.size() : came_there.size();
        if (hit.what() == fault::none) continue;
        EXPECT_LE(came, hit.at() + 1) << name_of(hit.what());
        // A reset may take with it what had come; all others let it through.
        if (hit.what() != fault::reset) {
          EXPECT_GE(came, hit.at()) << name_of(hit.what());
        }
      }
    }
  }
  EXPECT_TRUE(
      gtcp_test::poll_until([&] { return proxy.traces().size() == 2 * listener_count * connections_a_listener; }));
  for (fault_proxy::trace& trace : proxy.traces())
    traces[{trace.listener, trace.number, trace.back}] = std::move(trace);
  summary = proxy.summary();
  for (const fault what : {fault::reset, fault::half_close, fault::cut, fault::truncate})
    EXPECT_GT(proxy.ended_by(what), 0u) << name_of(what);
  return traces;
}

TEST(FaultProxy, DoesTheSameAgainForTheSameSeed) {
  std::string summary;
  auto first = carry(1, summary);
  std::printf("%s\n", summary.c_str());
  auto second = carry(1, summary);
  ASSERT_EQ(first.size(), second.size());
  for (auto& [which, trace] : first) {
    auto& again = second.at(which);
    EXPECT_EQ(trace.planned, again.planned);
    if (trace.planned != fault::none) {
      EXPECT_EQ(trace.events, again.events) << name_of(trace.planned);
    } else {
      // How far it came when the other direction was ended is the system's affair.
      const std::size_t both = std::min(trace.events.size(), again.events.size());
      trace.events.resize(both);
      again.events.resize(both);
      EXPECT_EQ(trace.events, again.events);
    }
  }
}

TEST(FaultProxy, DoesSomethingElseForAnotherSeed) {
  const auto events = [](std::uint32_t seed) {
    std::vector<std::size_t> all;
    for (std::size_t listener = 0; listener < 10; ++listener) {
      for (std::size_t number = 0; number < 10; ++number) {
        const fault_plan plan = fault_plan::make(seed, listener, number, 2);
        all.push_back(plan.there.at());
        all.push_back(plan.back.at());
      }
    }
    return all;
  };
  const auto one = events(1);
  const auto other = events(2);
  std::size_t equal = 0;
  for (std::size_t i = 0; i < one.size(); ++i) equal += one[i] == other[i] ? 1u : 0u;
  EXPECT_LT(equal, one.size() / 20);
  EXPECT_EQ(one, events(1));
}

TEST(FaultProxy, SparesAsManyAsItIsToldTo) {
  std::array<std::size_t, gtcp_test::fault_kinds> count{};
  for (std::size_t listener = 0; listener < 40; ++listener) {
    for (std::size_t number = 0; number < 100; ++number) {
      const fault_plan plan = fault_plan::make(7, listener, number, 4);
      EXPECT_TRUE(plan.there.what() == fault::none || plan.back.what() == fault::none);
      ++count[static_cast<std::size_t>(std::max(plan.there.what(), plan.back.what()))];
    }
  }
  // A quarter of 4,000, and the rest in equal parts; far more than chance may be off.
  EXPECT_NEAR(static_cast<double>(count[0]), 1'000, 200);
  for (std::size_t what = 1; what < count.size(); ++what) EXPECT_NEAR(static_cast<double>(count[what]), 750, 200);
}

}  // namespace
