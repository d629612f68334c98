// SPDX-License-Identifier: MIT
//
// A server that may have 64 descriptors, and a thousand clients at its door: it keeps quiet while it is full, and goes
// on at once when it can.

#if defined(__linux__)

#include <gtcp/server_option.hpp>

#include "support/child_process.hpp"
#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/process_stats.hpp"
#include "support/running_server.hpp"
#include "support/stress_support.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;
using gtcp_test::accepting;
using gtcp_test::poll_until;
using gtcp_test::serving;
namespace process_stats = gtcp_test::process_stats;
using clock = std::chrono::steady_clock;

constexpr rlim_t descriptors_allowed = 64;

/// Two processes tell each other something.
class line_between {
 public:
  line_between() { CHILD_CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_) == 0); }
  void take_end(int which) {
    own_ = ends_[which];
    ::close(ends_[1 - which]);
  }
  void tell(int value) const { CHILD_CHECK(::write(own_, &value, sizeof(value)) == sizeof(value)); }
  int hear() const {
    int value = 0;
    CHILD_CHECK(::recv(own_, &value, sizeof(value), MSG_WAITALL) == sizeof(value));
    return value;
  }

 private:
  int ends_[2] = {-1, -1};
  int own_ = -1;
};

/// The clients: all knock and ask. When told they make room, as often as it takes for all of them to be answered.
[[noreturn]] void knock(const line_between& line, std::size_t count) {
  process_stats::raise_descriptor_limit();
  const int port = line.hear();
  const std::string question = gtcp_test::framed("ping");
  std::vector<pollfd> waiting;
  for (std::size_t i = 0; i < count; ++i) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<unsigned short>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHILD_CHECK(::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    CHILD_CHECK(::send(descriptor, question.data(), question.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(question.size()));
    waiting.push_back({descriptor, POLLIN, 0});
  }
  line.tell(0);
  line.hear();
  // Who was answered makes room for others.
  clock::time_point freed = clock::now();
  clock::duration longest{};
  int rounds = 0;
  for (bool first = true; !waiting.empty(); first = false) {
    CHILD_CHECK(::poll(waiting.data(), waiting.size(), static_cast<int>(gtcp_test::ceiling / 1ms)) > 0);
    const clock::time_point now = clock::now();
    if (!first) longest = std::max(longest, now - freed);
    ++rounds;
    std::erase_if(waiting, [&](const pollfd& one) {
      if (one.revents == 0) return false;
      std::string answer(question.size(), '\0');
      CHILD_CHECK(::recv(one.fd, answer.data(), answer.size(), MSG_WAITALL) == static_cast<ssize_t>(answer.size()));
      CHILD_CHECK(answer == question);
      ::close(one.fd);
      return true;
    });
    freed = clock::now();
  }
  std::printf("all were answered, in %d rounds; it took at most %lld ms from one to the next\n", rounds,
              static_cast<long long>(longest / 1ms));
  std::fflush(stdout);
  if (gtcp_test::in_full()) CHILD_CHECK(longest < 1s);
  std::_Exit(0);
}

[[noreturn]] void serve_with_few_descriptors(serving which, accepting accepts, std::size_t count) {
  line_between line;
  const pid_t clients = ::fork();  // before there are threads
  CHILD_CHECK(clients != -1);
  line.take_end(clients == 0 ? 0 : 1);
  if (clients == 0) knock(line, count);

  const rlimit limit = {descriptors_allowed, descriptors_allowed};
  CHILD_CHECK(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  gtcp::ServerOption option;
  option.ErrorCallback = [](const gtcp::Conn&, const std::exception_ptr&) {};
  std::atomic<unsigned> failed{0};
  option.Log = [&failed](gtcp::LogLevel, std::string_view message, std::uint64_t) {
    if (!message.starts_with("cannot accept")) return;
    ++failed;
    failed.notify_all();
  };
  {
    const gtcp_test::echo_server server(which, option, {}, accepts);
    line.tell(server.port());
    line.hear();
    // In full until the pauses have doubled from 10 ms to 1 s; what the first clients have begun is at its end then.
    const std::uint64_t failures = gtcp_test::in_full() ? 8 : 1;
    CHILD_CHECK(poll_until([&] { return server->Stats().AcceptErrors >= failures; }));
    const std::size_t active = server->Stats().Active;
    CHILD_CHECK(active > 10);
    CHILD_CHECK(active < descriptors_allowed);

    const auto used = process_stats::processor_time();
    const clock::time_point begin = clock::now();
    // While it is full, over some further tries; in full with a pause of a second before each.
    for (int tries = gtcp_test::in_full() ? 5 : 1; tries != 0; --tries) failed.wait(failed);
    const double share = std::chrono::duration<double>(process_stats::processor_time() - used) /
                         std::chrono::duration<double>(clock::now() - begin);
    std::printf("full with %zu connections: %.2f %% of a processor, %llu failures to accept\n", active, share * 100,
                static_cast<unsigned long long>(server->Stats().AcceptErrors));
    std::fflush(stdout);
    if (gtcp_test::in_full()) CHILD_CHECK(share < 0.05);

    line.tell(0);
    int status = -1;
    CHILD_CHECK(poll_until([&] { return ::waitpid(clients, &status, WNOHANG) == clients; }));
    CHILD_CHECK(status == 0);
    CHILD_CHECK(poll_until([&] { return server->Stats().Active == 0; }));
    CHILD_CHECK(server->Stats().Accepted == count);
  }
  std::_Exit(0);
}

class NoDescriptorsDeathTest : public testing::TestWithParam<std::tuple<serving, accepting>> {
 protected:
  void SetUp() override {
    if (gtcp_test::sanitizer_needs_descriptors()) GTEST_SKIP() << "a sanitizer needs the descriptors";
  }
};
std::string name_of(const testing::TestParamInfo<std::tuple<serving, accepting>>& one) {
  const auto [which, accepts] = one.param;
  return gtcp_test::name_of(which) + (accepts == accepting::in_thread ? "" : "AcceptedAsynchronously");
}
INSTANTIATE_TEST_SUITE_P(Handlers, NoDescriptorsDeathTest,
                         testing::Combine(testing::ValuesIn(gtcp_test::all_kinds),
                                          testing::Values(accepting::in_thread, accepting::asynchronously)),
                         name_of);

TEST_P(NoDescriptorsDeathTest, LetAServerRestAndGoOnAtOnce) {
  const auto [which, accepts] = GetParam();
  const auto clients = static_cast<std::size_t>(gtcp_test::rounds(300, 1000));
  gtcp_test::expect_well_in_child(
      [&] { serve_with_few_descriptors(which, accepts, std::max<std::size_t>(clients, 100)); });
}

}  // namespace

#endif
