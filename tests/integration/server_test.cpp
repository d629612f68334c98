// SPDX-License-Identifier: MIT

#include <gtcp/server.hpp>

#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/descriptors.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"

#include <asio/awaitable.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <fcntl.h>
#include <pthread.h>
#endif

namespace {

using namespace gtcp_test;
using gtcp::Errc;
using gtcp::NewConn;
using gtcp::Server;

class ServerOfEachKind : public testing::TestWithParam<kind> {};

INSTANTIATE_TEST_SUITE_P(Handlers, ServerOfEachKind,
                         testing::Values(kind::thread, kind::coroutine, kind::user_executor),
                         [](const auto& instance) { return name_of(instance.param); });

TEST_P(ServerOfEachKind, EchoesToManyClientsAtOnce) {
  running_server server(GetParam(), echo, async_echo);
  constexpr int clients = 32;
  constexpr int packages = 50;
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int client = 0; client < clients; ++client) {
      threads.emplace_back([&, client] {
        const Conn conn = server.connect();
        for (int i = 0; i < packages; ++i) {
          const std::string text = pattern(static_cast<std::size_t>(i) * 37, static_cast<unsigned>(client));
          conn.SendPkg(text);
          if (conn.RecvPkg() == text) ++right;
        }
      });
    }
  }
  EXPECT_EQ(right, clients * packages);
  EXPECT_FALSE(server.end());
  EXPECT_EQ(server.errors(), std::vector<std::string>());
}

TEST_P(ServerOfEachKind, GoesOnAfterAHandlerHasThrown) {
  std::atomic<int> count{0};
  const auto misbehave = [&](Conn conn) {
    const int number = count++;
    if (number == 0) throw std::runtime_error("first");
    if (number == 1) throw 7;
    conn.SendPkg("fine");
  };
  running_server server(GetParam(), misbehave, awaited(misbehave));
  EXPECT_TRUE(has_ended(server.connect()));
  EXPECT_TRUE(has_ended(server.connect()));
  EXPECT_EQ(server.connect().RecvPkg(), "fine");
  EXPECT_EQ(server.errors(), (std::vector<std::string>{"conn: first", "conn: int 7"}));
}

TEST_P(ServerOfEachKind, IsSilentAboutTheEndOfAConnection) {
  running_server server(GetParam(), echo, async_echo);
  server.connect().Close();  // the handler sees the end of the stream
  {
    const Conn conn = server.connect();
    ASSERT_TRUE(answers(conn));
    conn.Abort();  // a reset
  }
  const Conn last = server.connect();
  ASSERT_TRUE(answers(last));
  EXPECT_FALSE(server.end());  // Errc::Closed
  EXPECT_EQ(server.errors(), std::vector<std::string>());
}

TEST_P(ServerOfEachKind, IsSilentAboutAResetThatASendMeets) {
  const std::string block(60'000, 'x');
  running_server server(
      GetParam(),
      [&](Conn conn) {
        for (;;) conn.SendPkg(block);
      },
      [&](Conn conn) -> asio::awaitable<void> {
        for (;;) co_await conn.AsyncSendPkg(block);
      });
  const Conn conn = server.connect();
  EXPECT_EQ(conn.RecvPkg(), block);
  conn.Abort();
  EXPECT_TRUE(answers(conn) == false);
  EXPECT_FALSE(server.end());
  EXPECT_EQ(server.errors(), std::vector<std::string>());
}

TEST_P(ServerOfEachKind, ReportsTheEndOfAnotherConnection) {
  conn_pair other = make_conn_pair();
  other.b.Close();
  const Conn ended = other.a;
  running_server server(
      GetParam(), [&](Conn) { ended.RecvPkg(); },
      [&](Conn) -> asio::awaitable<void> { co_await ended.AsyncRecvPkg(); });
  EXPECT_TRUE(has_ended(server.connect()));
  ASSERT_TRUE(poll_until([&] { return server.errors().size() == 1; }));
  EXPECT_NE(server.errors()[0].find("RecvPkg [" + ended.RemoteAddr() + "]"), std::string::npos) << server.errors()[0];
}

TEST_P(ServerOfEachKind, ReportsAHalfPackageAndGoesOn) {
  running_server server(GetParam(), echo, async_echo);
  const Conn half = server.connect();
  half.Send(std::string("\0\5hel", 5));
  half.Close();
  ASSERT_TRUE(poll_until([&] { return server.errors().size() == 1; }));
  EXPECT_NE(server.errors()[0].find(make_error_code(Errc::PkgTruncated).message()), std::string::npos);
  EXPECT_TRUE(answers(server.connect()));
}

TEST_P(ServerOfEachKind, ClosesAConnectionWhoseHandlerHasReturned) {
  std::promise<Conn> kept;
  const auto keep = [&](Conn conn) {
    conn.SendPkg("last words");
    kept.set_value(conn);
  };
  running_server server(GetParam(), keep, awaited(keep));
  const Conn conn = server.connect();
  EXPECT_EQ(conn.RecvPkg(), "last words");
  EXPECT_TRUE(has_ended(conn));
  auto future = kept.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_TRUE(future.get().IsClosed());
}

TEST_P(ServerOfEachKind, LeavesADetachedConnectionToItsNewOwner) {
  std::promise<Conn> handed_over;
  const auto hand_over = [&](Conn conn) {
    conn.Detach();
    handed_over.set_value(conn);
  };
  running_server server(GetParam(), hand_over, awaited(hand_over));
  const Conn client = server.connect();
  auto future = handed_over.get_future();
  ASSERT_TRUE(comes(future));
  Conn hub = future.get();
  EXPECT_FALSE(server.end());  // the handler has returned, and the connection is none of the server's
  EXPECT_FALSE(hub.IsClosed());
  client.SendPkg("still there?");
  EXPECT_EQ(hub.RecvPkg(), "still there?");
  hub.SendPkg("yes");
  EXPECT_EQ(client.RecvPkg(), "yes");
  hub = Conn();
  EXPECT_TRUE(has_ended(client));
}

TEST_P(ServerOfEachKind, CloseEndsEverything) {
  running_server server(GetParam(), echo, async_echo);
  std::vector<Conn> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(server.connect());
  for (const Conn& client : clients) ASSERT_TRUE(answers(client));
  server->Close();
  EXPECT_TRUE(refuses_connections(server->GetListenedAddress()));
  for (const Conn& client : clients) EXPECT_TRUE(has_ended(client));
  EXPECT_FALSE(server.end());
  server->Close();
}

TEST_P(ServerOfEachKind, CanBeClosedInAHandler) {
  std::atomic<const Server*> self{nullptr};
  const auto close = [&](Conn conn) {
    self.load()->Close();
    EXPECT_TRUE(conn.IsClosed());
    std::error_code error;
    conn.RecvPkg(error);
    EXPECT_TRUE(error == Errc::Closed || error == Errc::WouldDeadlock) << error;
  };
  running_server server(GetParam(), close, awaited(close));
  self = &*server;
  const Conn client = NewConn(server->GetListenedAddress());
  EXPECT_TRUE(has_ended(client));
  EXPECT_TRUE(server.ends());
}

TEST_P(ServerOfEachKind, RunReturnsOnlyWhenHandlersHaveEnded) {
  std::latch entered(1);
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  std::atomic<bool> returned{false};
  const auto linger = [&](Conn) {
    entered.count_down();
    gone.wait();
    returned = true;
  };
  running_server server(GetParam(), linger, awaited(linger));
  const Conn client = server.connect();
  entered.wait();
  server->Close();
  EXPECT_TRUE(has_ended(client));
  EXPECT_FALSE(server.has_ended());
  go.set_value();
  EXPECT_TRUE(server.ends());
  EXPECT_TRUE(returned);
}

TEST_P(ServerOfEachKind, UsesAHandlerThatIsSetWhileItRuns) {
  running_server server(GetParam(), echo, async_echo);
  const Conn old = server.connect();
  ASSERT_TRUE(answers(old));
  server->SetHandler([](const Conn& conn) { conn.SendPkg("thread"); });
  EXPECT_EQ(server.connect().RecvPkg(), "thread");
  server->SetHandler([](const Conn& conn) -> asio::awaitable<void> { co_await conn.AsyncSendPkg("coroutine"); });
  EXPECT_EQ(server.connect().RecvPkg(), "coroutine");
  server->SetHandler(nullptr);
  EXPECT_TRUE(has_ended(server.connect()));
  EXPECT_TRUE(answers(old));
}

TEST_P(ServerOfEachKind, SurvivesAnErrorCallbackThatThrows) {
  running_server server(
      GetParam(), [](Conn) { throw 1; }, awaited([](Conn) { throw 1; }));
  server->SetErrorCallback([](const Conn&, std::exception_ptr) { throw std::runtime_error("callback"); });
  testing::internal::CaptureStderr();
  EXPECT_TRUE(has_ended(server.connect()));
  EXPECT_TRUE(has_ended(server.connect()));
  server.end();
  EXPECT_NE(testing::internal::GetCapturedStderr().find("callback"), std::string::npos);
}

TEST_P(ServerOfEachKind, PrintsALineThatNamesThePeerWhereThereIsNoCallback) {
  running_server server(
      GetParam(), [](Conn) { throw std::runtime_error("what was wrong"); },
      awaited([](Conn) { throw std::runtime_error("what was wrong"); }));
  server->SetErrorCallback(nullptr);
  testing::internal::CaptureStderr();
  const Conn client = server.connect();
  const std::string peer = client.LocalAddr();
  EXPECT_TRUE(has_ended(client));
  server.end();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "gtcp: [" + peer + "] a server's handler failed: what was wrong\n");
}

TEST_P(ServerOfEachKind, ClosesInEveryStateFromSeveralThreads) {
  for (int round = 0; round < 10; ++round) {
    running_server server(GetParam(), echo, async_echo);
    const std::string address = server->GetListenedAddress();
    std::latch begin(4);
    std::atomic<int> connected{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        begin.arrive_and_wait();
        for (;;) {
          std::error_code error;
          const Conn conn = NewConn(address, error);
          if (error) return;
          connected.fetch_add(1);
          connected.notify_all();
          conn.SendPkg("x", error);
          conn.RecvPkg(error);
        }
      });
    }
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        begin.arrive_and_wait();
        for (int now = connected; now < round * (i + 1); now = connected) connected.wait(now);
        server->Close();
        connected.fetch_add(1'000'000);  // no more come
        connected.notify_all();
      });
    }
    threads.clear();
    EXPECT_FALSE(server.end());
    EXPECT_EQ(server.errors(), std::vector<std::string>());
  }
}

#if defined(__linux__)
std::vector<int> descriptor_numbers() {
  std::vector<int> open;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    open.push_back(std::stoi(entry.path().filename().string()));
  }
  return open;
}

/// Each begins with the first connection that needs it, and its descriptors stay.
void begin_io_threads() {
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i)
    gtcp::Runtime::Default().get_executor();
}

TEST_P(ServerOfEachKind, LeavesNoDescriptorBehind) {
  begin_io_threads();
  {
    running_server warm_up(GetParam(), echo, async_echo);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(answers(warm_up.connect()));
  }
  // What the last ones of before have left closes in the background.
  const std::size_t before = gtcp_test::settled_descriptors();
  {
    running_server server(GetParam(), echo, async_echo);
    for (int i = 0; i < 10'000; ++i) {
      const Conn conn = server.connect();
      ASSERT_TRUE(answers(conn)) << i;
    }
    EXPECT_FALSE(server.end());
    EXPECT_EQ(server.errors(), std::vector<std::string>());
  }
  EXPECT_TRUE(poll_until([&] { return gtcp_test::open_descriptors() <= before; }))
      << before << " before, " << gtcp_test::open_descriptors() << " after";
}

TEST_P(ServerOfEachKind, GivesNoDescriptorToOtherPrograms) {
  running_server server(GetParam(), echo, async_echo);
  const std::vector<int> before = descriptor_numbers();
  const Conn conn = server.connect();
  ASSERT_TRUE(answers(conn));
  for (const int descriptor : descriptor_numbers()) {
    const int flags = ::fcntl(descriptor, F_GETFD);
    if (flags == -1) continue;  // the directory's own
    const std::string name = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor)).string();
    if (name.starts_with("socket:") || name.find("event") != std::string::npos) {
      EXPECT_NE(flags & FD_CLOEXEC, 0) << descriptor << " " << name;
    }
  }
}

TEST(ServerHandler, RunsInAsManyThreadsThatServedBeforeAsWait) {
  constexpr std::size_t at_once = 8;
  std::mutex mutex;
  std::vector<int> threads;
  running_server server(kind::thread,
                        [&](const Conn& conn) {
                          {
                            const std::lock_guard lock(mutex);
                            threads.push_back(static_cast<int>(::gettid()));
                          }
                          conn.SendPkg("served");
                          conn.RecvPkg();
                        },
                        {});
  const auto rests = [](int thread) {
    const char state = gtcp_test::thread_state(thread);
    return state == 'S' || state == 0;  // it waits a second, and then it ends
  };
  std::vector<int> before;
  int rounds_in_the_same_threads = 0;
  for (int round = 0; round <= 10; ++round) {
    {
      std::vector<Conn> conns;
      for (std::size_t i = 0; i < at_once; ++i) conns.push_back(server.connect());
      for (const Conn& conn : conns) ASSERT_EQ(conn.RecvPkgWithTimeout(ceiling), "served");
    }
    ASSERT_TRUE(poll_until([&] { return server->Stats().Active == 0; }));
    const std::lock_guard lock(mutex);
    std::ranges::sort(threads);
    if (threads == before) ++rounds_in_the_same_threads;
    before = std::exchange(threads, {});
    ASSERT_TRUE(poll_until([&] { return std::ranges::all_of(before, rests); }));
  }
  // Not all: one of them may sleep for a lock, and not wait yet.
  EXPECT_GT(rounds_in_the_same_threads, 5);
}

TEST(ServerHandler, RunsInAThreadThatServedBefore) {
  begin_io_threads();
  const auto threads = [] { return std::ranges::distance(std::filesystem::directory_iterator("/proc/self/task")); };
  std::ptrdiff_t before = 0;
  // Those of earlier tests end in the background.
  ASSERT_TRUE(poll_until([&] {
    const auto now = threads();
    return std::exchange(before, now) == now;
  }));
  std::atomic<bool> again{false};
  {
    running_server server(kind::thread,
                          [&](const Conn& conn) {
                            thread_local int served = 0;
                            if (++served > 1) again = true;
                            conn.SendPkg("served");
                          },
                          {});
    // A thread that is done may not wait yet when the next connection comes.
    EXPECT_TRUE(poll_until([&] { return server.connect().RecvPkgWithTimeout(ceiling) == "served" && again; }));
  }
  // None is left behind, with its stack and its descriptor.
  EXPECT_TRUE(poll_until([&] { return threads() <= before; }));
}

TEST(ServerHandler, MayEndItsThread) {
  running_server server(kind::thread, [](Conn) { ::pthread_exit(nullptr); }, {});
  EXPECT_TRUE(has_ended(server.connect()));
  EXPECT_TRUE(has_ended(server.connect()));
  EXPECT_FALSE(server.end());
  EXPECT_EQ(server.errors(), std::vector<std::string>());
}
#endif

void function_handler(Conn conn) { conn.SendPkg("function"); }

TEST(ServerHandler, CanBeAnythingThatTakesAConn) {
  const auto greets = [](Server::Handler handler) {
    const Server server(any_port, std::move(handler));
    server.Start();
    return NewConn(server.GetListenedAddress()).RecvPkg();
  };
  EXPECT_EQ(greets(function_handler), "function");
  EXPECT_EQ(greets(&function_handler), "function");
  EXPECT_EQ(greets(std::function<void(Conn)>(function_handler)), "function");
  EXPECT_EQ(greets([](auto conn) { conn.SendPkg("generic"); }), "generic");
  EXPECT_EQ(greets([](auto&& conn) { conn.SendPkg("forwarding"); }), "forwarding");
  EXPECT_EQ(greets([](Conn&& conn) { conn.SendPkg("rvalue"); }), "rvalue");
  EXPECT_EQ(greets([](Conn& conn) { conn.SendPkg("lvalue"); }), "lvalue");
  EXPECT_EQ(greets([text = std::make_unique<std::string>("move-only")](Conn conn) { conn.SendPkg(*text); }),
            "move-only");
  const auto constant = [](const Conn& conn) { conn.SendPkg("const"); };
  EXPECT_EQ(greets(constant), "const");
  EXPECT_EQ(greets([](const Conn& conn) -> asio::awaitable<void> {
              co_await asio::post(asio::use_awaitable);
              co_await conn.AsyncSendPkg("by reference");
            }),
            "by reference");
  EXPECT_EQ(greets([](auto conn) -> asio::awaitable<void> { co_await conn.AsyncSendPkg("generic coroutine"); }),
            "generic coroutine");
  EXPECT_EQ(greets(std::function<asio::awaitable<void>(Conn)>(
                [](Conn conn) -> asio::awaitable<void> { co_await conn.AsyncSendPkg("std::function"); })),
            "std::function");
}

TEST(ServerHandler, CoroutineStaysOnOneThreadOfTheRuntime) {
  std::atomic<bool> same{true};
  running_server server(kind::coroutine, {}, [&](Conn conn) -> asio::awaitable<void> {
    const std::thread::id first = std::this_thread::get_id();
    if (!gtcp::detail::on_runtime_thread()) same = false;
    for (;;) {
      std::string pkg = co_await conn.AsyncRecvPkg();
      if (std::this_thread::get_id() != first) same = false;
      co_await conn.AsyncSendPkg(std::move(pkg));
      if (std::this_thread::get_id() != first) same = false;
    }
  });
  std::vector<Conn> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(server.connect());
  for (int round = 0; round < 20; ++round) {
    for (const Conn& client : clients) ASSERT_TRUE(answers(client));
  }
  EXPECT_TRUE(same);
}

}  // namespace
