// SPDX-License-Identifier: MIT

// What happens to a server when the system is short of something. Tests that take it away run in a process of their
// own.

#include <gtcp/detail/server_accept.hpp>
#include <gtcp/server.hpp>

#include <gtcp/dial.hpp>

#include "support/child_process.hpp"
#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/no_threads.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"

#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

using namespace gtcp_test;
using gtcp::NewConn;
using gtcp::Server;
using gtcp::detail::accept_pacer;
using gtcp::detail::freed_descriptors;
using gtcp::detail::server_listener;

// ---- How long to pause

const std::error_code no_descriptors(static_cast<int>(std::errc::too_many_files_open),
                                     asio::error::get_system_category());
const std::error_code client_gone = asio::error::connection_aborted;

TEST(AcceptPacer, PausesLongerAndLongerWhileTheSystemIsShort) {
  using std::chrono::milliseconds;
  for (const std::errc shortage : {std::errc::too_many_files_open, std::errc::too_many_files_open_in_system,
                                   std::errc::no_buffer_space, std::errc::not_enough_memory}) {
    const std::error_code error(static_cast<int>(shortage), asio::error::get_system_category());
    accept_pacer pacer;
    for (int round = 0; round < 2; ++round) {
      for (const int pause : {10, 20, 40, 80, 160, 320, 640, 1000, 1000}) {
        const accept_pacer::verdict verdict = pacer.failed(error);
        EXPECT_EQ(verdict.pause, milliseconds(pause));
        EXPECT_EQ(verdict.is_news, pause == 10);
      }
      pacer.accepted();
    }
  }
}

TEST(AcceptPacer, GoesOnAtOnceAfterAnythingElseUnlessItOnlyFails) {
  accept_pacer pacer;
  for (int i = 0; i < 15; ++i) {
    const accept_pacer::verdict verdict = pacer.failed(client_gone);
    EXPECT_EQ(verdict.pause.count(), 0);
    EXPECT_FALSE(verdict.is_news);
  }
  EXPECT_GT(pacer.failed(client_gone).pause.count(), 0);
  pacer.accepted();
  EXPECT_EQ(pacer.failed(client_gone).pause.count(), 0);
}

TEST(ServerListener, PauseEndsEarly) {
  for (const bool by_close : {false, true}) {
    server_listener listener;
    std::string why;
    ASSERT_FALSE(listener.open(any_port, {}, why)) << why;
    const auto begin = std::chrono::steady_clock::now();
    const std::uint64_t seen = freed_descriptors::of_this_process().count();
    background pausing([&] {
      listener.pause(begin + std::chrono::hours(1), seen);
      return true;
    });
    pausing.wait_until_waiting();
    if (by_close)
      listener.close();
    else
      make_conn_and_peer().conn.Abort();  // closes a descriptor that the server has nothing to do with
    EXPECT_TRUE(pausing.get());
  }
}

#if defined(__linux__)

class ServerDeathTest : public testing::TestWithParam<kind> {
 protected:
  void SetUp() override {
    if (sanitizer_needs_descriptors()) GTEST_SKIP() << "a sanitizer needs the descriptors that this test takes away";
  }
};

INSTANTIATE_TEST_SUITE_P(Handlers, ServerDeathTest, testing::Values(kind::thread, kind::coroutine, kind::user_executor),
                         [](const auto& instance) { return name_of(instance.param); });

/// Takes every descriptor that the process may have.
std::vector<int> take_all_descriptors() {
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 128;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  std::vector<int> taken;
  for (int descriptor = 0; (descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) != -1;) taken.push_back(descriptor);
  return taken;
}

[[noreturn]] void serve_without_descriptors(kind which) {
  running_server server(which, echo, async_echo);
  CHILD_CHECK(answers(server.connect()));
  asio::io_context context;
  const auto port = static_cast<unsigned short>(server->GetListenedPort());
  std::vector<asio::ip::tcp::socket> clients;
  for (int i = 0; i < 5; ++i) clients.emplace_back(context, asio::ip::tcp::v4());

  const std::vector<int> taken = take_all_descriptors();
  CHILD_CHECK(!taken.empty());
  for (auto& client : clients) {
    client.connect({asio::ip::address_v4::loopback(), port});
    CHILD_CHECK(client.write_some(asio::buffer(framed("ping"))) == framed("ping").size());
  }
  CHILD_CHECK(poll_until([&] { return !server.errors().empty(); }));
  CHILD_CHECK(server.errors()[0].find(no_descriptors.message()) != std::string::npos);
  CHILD_CHECK(server.errors()[0].find(server->GetListenedAddress()) != std::string::npos);

  for (const int descriptor : taken) ::close(descriptor);
  for (auto& client : clients) CHILD_CHECK(raw_peer(std::move(client)).read_pkg() == "ping");
  CHILD_CHECK(!server.end());
  std::_Exit(0);
}

TEST_P(ServerDeathTest, GoesOnWhenThereAreDescriptorsAgain) {
  expect_well_in_child([] { serve_without_descriptors(GetParam()); });
}

[[noreturn]] void close_without_descriptors(kind which) {
  running_server server(which, echo, async_echo);
  const Conn client = server.connect();
  CHILD_CHECK(answers(client));
  asio::io_context context;
  asio::ip::tcp::socket knocks(context, asio::ip::tcp::v4());
  const std::vector<int> taken = take_all_descriptors();
  knocks.connect({asio::ip::address_v4::loopback(), static_cast<unsigned short>(server->GetListenedPort())});
  CHILD_CHECK(poll_until([&] { return !server.errors().empty(); }));
  CHILD_CHECK(answers(client));
  CHILD_CHECK(!server.end());  // in its pause
  CHILD_CHECK(has_ended(client));
  std::_Exit(0);
}

TEST_P(ServerDeathTest, ClosesWhileThereAreNoDescriptors) {
  expect_well_in_child([] { close_without_descriptors(GetParam()); });
}

[[noreturn]] void serve_without_threads() {
  running_server server(kind::thread, echo, {});
  const Conn unlucky = server.connect();  // the client has all it needs before the limit is there
  CHILD_CHECK(answers(unlucky));
  unlucky.Close();
  std::vector<Conn> clients;
  auto none = std::make_unique<no_threads>();
  while (server.errors().empty()) {
    clients.push_back(server.connect());
    if (!answers(clients.back())) break;
    CHILD_CHECK(clients.size() < 1000);
  }
  CHILD_CHECK(has_ended(clients.back()));
  CHILD_CHECK(poll_until([&] { return !server.errors().empty(); }));
  CHILD_CHECK(server.errors()[0].starts_with("conn: "));
  none.reset();
  CHILD_CHECK(answers(server.connect()));
  for (std::size_t i = 0; i + 1 < clients.size(); ++i) CHILD_CHECK(answers(clients[i]));
  std::_Exit(0);
}

TEST(ServerThreadsDeathTest, LosesOnlyTheConnectionForWhichThereIsNoThread) {
  expect_well_without_threads(serve_without_threads);
}

TEST(Server, BelongsToTheParentAfterAFork) {
  const socket_path path;
  auto server = std::make_unique<Server>("unix:" + path.str(), echo);
  server->Start();
  const Conn client = NewConn("unix:" + path.str());
  ASSERT_TRUE(answers(client));
  const pid_t child = ::fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    std::error_code error;
    server->Run(error);
    server->Close();
    server.reset();
    ::_exit(error == gtcp::Errc::Closed ? 0 : 1);
  }
  int status = -1;
  const bool ended = poll_until([&] { return ::waitpid(child, &status, WNOHANG) == child; });
  if (!ended) ::kill(child, SIGKILL);
  EXPECT_TRUE(ended);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(answers(client));
  EXPECT_TRUE(answers(NewConn("unix:" + path.str())));
}

#endif

}  // namespace
