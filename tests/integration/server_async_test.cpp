// SPDX-License-Identifier: MIT

#include <gtcp/one_shot.hpp>
#include <gtcp/server.hpp>

#include <gtcp/dial.hpp>

#include "support/poll_until.hpp"
#include "support/running_server.hpp"

#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using namespace gtcp_test;
using gtcp::Errc;
using gtcp::NewConn;
using gtcp::Server;
using gtcp::ServerOption;

TEST(AsyncRun, NeedsOneThreadOfTheUsersOnly) {
  asio::io_context context;
  bool ended = false;
  const auto main = [&]() -> asio::awaitable<void> {
    const std::thread::id here = std::this_thread::get_id();
    const Server server(any_port, [&](Conn conn) -> asio::awaitable<void> {
      EXPECT_EQ(std::this_thread::get_id(), here);
      co_await async_echo(conn);
    });
    server.Listen();
    const auto client = [](Server of) -> asio::awaitable<void> {
      const Conn conn = co_await gtcp::AsyncNewConn(of.GetListenedAddress());
      co_await conn.AsyncSendPkg("ping");
      const std::string reply = co_await conn.AsyncRecvPkg();
      EXPECT_EQ(reply, "ping");
      of.Close();
    };
    asio::co_spawn(context, client(server), asio::detached);
    co_await server.AsyncRun();
    EXPECT_EQ(std::this_thread::get_id(), here);
    ended = true;
  };
  asio::co_spawn(context, main(), [](std::exception_ptr error) { EXPECT_FALSE(error); });
  context.run_for(ceiling);
  EXPECT_TRUE(ended);
}

TEST(AsyncRun, ServesThreadHandlersToo) {
  asio::io_context context;
  const Server server(any_port, echo, {.Conn = {.Executor = context.get_executor()}});
  server.Listen();
  std::future<void> ended = server.AsyncRun(asio::use_future);
  std::jthread io([&] { context.run(); });
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  server.Close();
  ASSERT_TRUE(comes(ended));
  ended.get();
}

TEST(AsyncRun, CompletesThroughItsHandlersExecutor) {
  asio::thread_pool pool(1);
  const Server server(any_port, echo);
  std::promise<bool> on_pool;
  server.Listen();
  server.AsyncRun(asio::bind_executor(pool.get_executor(), [&](std::error_code error) {
    EXPECT_FALSE(error);
    on_pool.set_value(pool.get_executor().running_in_this_thread());
  }));
  server.Close();
  EXPECT_TRUE(on_pool.get_future().get());
  pool.join();
}

TEST(AsyncRun, IsNeverCompletedFromWithinTheCall) {
  asio::io_context context;
  const Server server("nonsense", echo, {.Conn = {.Executor = context.get_executor()}});
  std::error_code result;
  server.AsyncRun([&](std::error_code error) { result = error; });
  EXPECT_FALSE(result);
  context.run();
  EXPECT_EQ(result, Errc::InvalidAddress);
}

TEST(AsyncRun, ClosesTheServerWhenCancelled) {
  asio::io_context context;
  const Server server(any_port, async_echo, {.Conn = {.Executor = context.get_executor()}});
  server.Listen();
  asio::cancellation_signal signal;
  std::promise<std::error_code> ended;
  server.AsyncRun(asio::bind_cancellation_slot(signal.slot(), [&](std::error_code error) { ended.set_value(error); }));
  std::jthread io([&] { context.run(); });
  const Conn client = NewConn(server.GetListenedAddress());
  ASSERT_TRUE(answers(client));
  signal.emit(asio::cancellation_type::terminal);
  auto future = ended.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), asio::error::operation_aborted);
  EXPECT_TRUE(has_ended(client));
  EXPECT_TRUE(refuses_connections(server.GetListenedAddress()));
}

// Its slot may be used long after that, and for a run that never began.
TEST(AsyncRun, IsNotCancelledOnceItHasCompleted) {
  const gtcp::Server server("127.0.0.1:0");
  server.SetPkgHandler([](gtcp::Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  asio::cancellation_signal first;
  std::promise<std::error_code> closed;
  server.AsyncRun(asio::bind_cancellation_slot(first.slot(), [&](std::error_code ec) { closed.set_value(ec); }));
  server.Close();
  EXPECT_EQ(closed.get_future().get(), std::error_code());
  server.Listen();
  server.Start();
  asio::cancellation_signal second;
  std::promise<std::error_code> refused;
  server.AsyncRun(asio::bind_cancellation_slot(second.slot(), [&](std::error_code ec) { refused.set_value(ec); }));
  EXPECT_EQ(refused.get_future().get(), asio::error::already_started);
  first.emit(asio::cancellation_type::total);
  second.emit(asio::cancellation_type::total);
  EXPECT_EQ(gtcp::SendRecvPkg(server.GetListenedAddress(), "there"), "there");
}

TEST(AsyncRun, IsNotCancelledOnceItsContextHasEnded) {
  auto context = std::make_unique<asio::io_context>();
  const gtcp::Server server("127.0.0.1:0", nullptr, {.Conn = {.Executor = context->get_executor()}});
  server.SetPkgHandler([](gtcp::Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  asio::cancellation_signal signal;
  server.AsyncRun(asio::bind_cancellation_slot(signal.slot(), [](std::error_code) { ADD_FAILURE(); }));
  context->poll();
  context.reset();
  server.SetOption({});
  server.Listen();
  server.Start();
  signal.emit(asio::cancellation_type::total);
  EXPECT_EQ(gtcp::SendRecvPkg(server.GetListenedAddress(), "there"), "there");
}

TEST(AsyncRun, EndsWithItsContext) {
  std::optional<Server> server;
  Conn client;
  std::string address;
  bool completed = false;
  {
    asio::io_context context;
    server.emplace(any_port, async_echo, ServerOption{.Conn = {.Executor = context.get_executor()}});
    server->Listen();
    address = server->GetListenedAddress();
    server->AsyncRun([&](std::error_code) { completed = true; });
    client = NewConn(address);
    client.SendPkg("ping");
    std::string reply;
    std::atomic<bool> came{false};
    std::jthread reader([&] {
      reply = client.RecvPkg();
      came = true;
      context.stop();
    });
    context.run();
    EXPECT_TRUE(came);
  }
  EXPECT_FALSE(completed);
  EXPECT_TRUE(refuses_connections(address));
  EXPECT_TRUE(has_ended(client));
  server.reset();
}

TEST(AsyncRun, SpreadsConnectionsOverTheIoThreads) {
  gtcp::Runtime::Default().SetThreads(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  const Server server(any_port, [&](Conn conn) -> asio::awaitable<void> {
    {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    }
    co_await async_echo(conn);
  });
  server.Listen();
  std::promise<std::error_code> ended;
  server.AsyncRun([&](std::error_code error) { ended.set_value(error); });
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  EXPECT_TRUE(server.CloseAndWait(ceiling));
  auto future = ended.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_FALSE(future.get());
  EXPECT_EQ(threads.size(), 2u);
}

TEST(AsyncRun, ServesOnAPoolOfThreads) {
  asio::thread_pool pool(3);
  const Server server(any_port, async_echo, {.Conn = {.Executor = pool.get_executor()}});
  server.Listen();
  std::promise<std::error_code> ended;
  server.AsyncRun([&](std::error_code error) { ended.set_value(error); });
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        const Conn conn = NewConn(server.GetListenedAddress());
        for (int round = 0; round < 50; ++round) right += answers(conn) ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(right, 400);
  server.Close();
  auto future = ended.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_FALSE(future.get());
  pool.join();
}

}  // namespace
