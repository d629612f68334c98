// SPDX-License-Identifier: MIT

// The third kind of handler: called for each package, on a server and on a connection of one's own.

#include <gtcp/dial.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/strand.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gtcp::Conn;
using gtcp::Errc;
using gtcp_test::any_port;
using gtcp_test::ceiling;
using gtcp_test::comes;
using gtcp_test::framed;
using gtcp_test::make_conn_and_peer;
using gtcp_test::pattern;
using gtcp_test::poll_until;
using gtcp_test::text_of_error;

/// What callbacks have noted.
class notes {
 public:
  void add(std::string_view text) {
    const std::lock_guard lock(mutex_);
    all_.emplace_back(text);
  }
  std::vector<std::string> all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }
  bool wait(std::size_t count) const {
    return poll_until([&] { return all().size() >= count; });
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

using texts = std::vector<std::string>;

/// A server with a package handler, and what its callbacks note.
struct pkg_server {
  explicit pkg_server(std::function<void(Conn&, std::string_view)> handler, gtcp::ServerOption option = {}) {
    option.ErrorCallback = [this](const Conn&, const std::exception_ptr& error) {
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& known) {
        errors.add(known.what());
      }
    };
    server = gtcp::Server(any_port, nullptr, option);
    server.SetPkgHandler(std::move(handler));
    server.SetOnOpen([this](Conn& conn) { events.add("open " + conn.RemoteAddr()); });
    server.SetOnClose([this](Conn&, std::error_code reason) { events.add("close " + reason.message()); });
    server.Start();
  }
  ~pkg_server() { server.CloseAndWait(ceiling); }

  Conn connect() const { return gtcp::NewConn(server.GetListenedAddress()); }

  notes events;
  notes errors;
  gtcp::Server server;
};

TEST(PkgHandler, IsCalledForEachPackageInOrder) {
  const pkg_server server([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  const Conn client = server.connect();
  auto receiving = std::async(std::launch::async, [&] {
    for (unsigned i = 0; i < 3'000; ++i) {
      if (client.RecvPkgWithTimeout(ceiling) != pattern(i * 7 % 65'536, i)) return i;
    }
    return 3'000u;
  });
  for (unsigned i = 0; i < 3'000; ++i) client.SendPkg(pattern(i * 7 % 65'536, i));
  EXPECT_EQ(receiving.get(), 3'000u);
}

TEST(PkgHandler, AnswersEachOfManyConnections) {
  const pkg_server server([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  std::vector<Conn> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(server.connect());
  for (int round = 0; round < 20; ++round) {
    for (std::size_t i = 0; i < clients.size(); ++i) clients[i].SendPkg(std::to_string(i));
    for (std::size_t i = 0; i < clients.size(); ++i) {
      ASSERT_EQ(clients[i].RecvPkgWithTimeout(ceiling), std::to_string(i));
    }
  }
}

TEST(PkgHandler, IsToldTheBeginningAndTheEnd) {
  const pkg_server server([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  Conn client = server.connect();
  const std::string address = client.LocalAddr();
  ASSERT_TRUE(server.events.wait(1)) << "before the first package";
  EXPECT_EQ(client.SendRecvPkg("hello"), "hello");
  client = {};
  ASSERT_TRUE(server.events.wait(2));
  EXPECT_EQ(server.events.all(), (texts{"open " + address, "close " + make_error_code(asio::error::eof).message()}));
  EXPECT_EQ(server.errors.all(), texts{}) << "an end is no error";
}

TEST(PkgHandler, IsToldWhyTheConnectionEnded) {
  gtcp::ServerOption option;
  option.Conn.Pkg.MaxDataSize = 10;
  const pkg_server server([](Conn&, std::string_view) {}, option);
  const Conn too_long = server.connect();
  too_long.SendPkg(pattern(11));
  ASSERT_TRUE(server.events.wait(2));
  EXPECT_EQ(server.events.all()[1], "close " + make_error_code(Errc::PkgTooLarge).message());
  const Conn other = server.connect();
  ASSERT_TRUE(server.events.wait(3));
  server.server.Close();
  ASSERT_TRUE(server.events.wait(4));
  EXPECT_EQ(server.events.all()[3], "close " + make_error_code(Errc::Closed).message());
}

TEST(PkgHandler, WhatOnCloseSendsIsDelivered) {
  pkg_server server([](Conn&, std::string_view) {});
  server.server.SetOnClose([](Conn& conn, std::error_code) { conn.SendPkg("good bye"); });
  const Conn client = server.connect();
  client.SendPkg("hello");
  client.CloseWrite();
  EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "good bye");
}

TEST(PkgHandler, ThatThrowsClosesItsConnectionAlone) {
  const pkg_server server([](Conn& conn, std::string_view pkg) {
    if (pkg == "throw") throw std::runtime_error("thrown");
    conn.SendPkg(pkg);
  });
  const Conn bad = server.connect();
  const Conn good = server.connect();
  bad.SendPkg("before");
  bad.SendPkg("throw");
  bad.SendPkg("after");
  EXPECT_EQ(bad.RecvPkgWithTimeout(ceiling), "before");
  EXPECT_TRUE(gtcp_test::has_ended(bad));
  EXPECT_EQ(good.SendRecvPkg("still here"), "still here");
  EXPECT_EQ(server.errors.all(), texts{"thrown"});
}

TEST(PkgHandler, IsNotServedWhenItsBeginningThrows) {
  std::atomic<int> calls{0};
  pkg_server server([&](Conn&, std::string_view) { ++calls; });
  server.server.SetOnOpen([](Conn&) { throw std::runtime_error("no"); });
  std::promise<std::error_code> ended;
  server.server.SetOnClose([&](Conn&, std::error_code reason) { ended.set_value(reason); });
  const Conn client = server.connect();
  client.SendPkg("hello");
  EXPECT_TRUE(gtcp_test::has_ended(client));
  auto told = ended.get_future();
  ASSERT_TRUE(gtcp_test::comes(told));
  EXPECT_EQ(told.get(), gtcp::Errc::Closed);
  EXPECT_EQ(server.errors.all(), texts{"no"});
  EXPECT_EQ(calls, 0);
}

TEST(PkgHandler, NeverBlocksInASendAndPausesWhileThePeerDoesNotRead) {
  constexpr unsigned count = 200;
  std::atomic<unsigned> calls{0};
  gtcp::ServerOption option;
  option.Conn.SendBufferSize = 4096;
  option.Conn.OutboxLimit = 100'000;
  const pkg_server server(
      [&](Conn& conn, std::string_view) {
        for (unsigned i = 0; i < 4; ++i) conn.SendPkg(pattern(50'000, calls * 4 + i));
        ++calls;
      },
      option);
  const Conn client = gtcp::NewConn(server.server.GetListenedAddress(), 30s, {.RecvBufferSize = 4096});
  for (unsigned i = 0; i < count; ++i) client.SendPkg("next");
  client.Flush();
  ASSERT_TRUE(poll_until([&] { return calls > 0; }));
  // It takes in no more than what goes over the limit in a call, however long nothing is read.
  const Conn second = server.connect();
  second.SendPkg("next");
  for (unsigned i = 0; i < 4; ++i) second.RecvPkgWithTimeout(ceiling);
  EXPECT_LT(calls, count / 2);
  for (unsigned i = 0; i < count * 4; ++i) ASSERT_EQ(client.RecvPkgWithTimeout(ceiling).size(), 50'000u) << i;
  EXPECT_EQ(calls, count + 1);
}

TEST(PkgHandler, SendsThoughOthersWaitForRoom) {
  constexpr unsigned count = 200;
  std::promise<Conn> opened;
  std::atomic<int> failures{0};
  unsigned replies = 0;
  const pkg_server server([&](Conn& conn, std::string_view pkg) {
    if (pkg == "open") return opened.set_value(conn);
    std::error_code error;
    conn.SendPkg("reply " + std::to_string(replies++), error);
    if (error) ++failures;
  });
  const Conn client = server.connect();
  client.SendPkg("open");
  auto future = opened.get_future();
  ASSERT_TRUE(comes(future));
  const Conn conn = future.get();
  std::vector<std::jthread> others;
  for (int i = 0; i < 4; ++i) {
    others.emplace_back([&] {
      for (unsigned k = 0; k < count; ++k) conn.SendPkg(std::string(k % 2 == 0 ? 60'000 : 10, '.'));
    });
  }
  for (unsigned i = 0; i < count; ++i) client.SendPkg("request");
  unsigned came = 0;
  for (unsigned i = 0; i < 5 * count; ++i) {
    const std::string pkg = client.RecvPkgWithTimeout(ceiling);
    if (pkg.starts_with("reply")) {
      EXPECT_EQ(pkg, "reply " + std::to_string(came++));
    }
  }
  EXPECT_EQ(came, count);
  EXPECT_EQ(failures, 0);
}

TEST(PkgHandler, RefusesToBlockInAReceive) {
  asio::io_context own;
  const auto work = asio::make_work_guard(own);
  std::jthread running([&] { own.run(); });
  for (const asio::any_io_executor& executor : {asio::any_io_executor(), asio::any_io_executor(own.get_executor()),
                                                asio::any_io_executor(asio::make_strand(own))}) {
    notes noted;
    const pkg_server server(
        [&](Conn& conn, std::string_view) {
          std::error_code error;
          conn.RecvPkg(error);
          noted.add(error.message());
          std::string other;
          noted.add(conn.TryRecvPkg(other) ? "got" : "none");
          conn.SendPkg("done");
        },
        {.Conn = {.Executor = executor}});
    const Conn client = server.connect();
    client.SendPkgs(texts{"one", "two"});
    EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "done");
    EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "done");
    const std::string refused = make_error_code(Errc::WouldDeadlock).message();
    EXPECT_EQ(noted.all(), (texts{refused, "none", refused, "none"}));
  }
  own.stop();
}

TEST(PkgHandler, ThatClosesGetsNoFurtherPackage) {
  std::atomic<int> calls{0};
  const pkg_server server([&](Conn& conn, std::string_view) {
    ++calls;
    conn.SendPkg("last");
    conn.Close();
  });
  const Conn client = server.connect();
  client.SendPkgs(texts{"one", "two", "three"});
  EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "last");
  EXPECT_TRUE(gtcp_test::has_ended(client));
  ASSERT_TRUE(server.events.wait(2));
  EXPECT_EQ(calls, 1);
}

TEST(PkgHandler, MayCloseItsServer) {
  gtcp::Server server(any_port);
  server.SetPkgHandler([&server](Conn&, std::string_view) { server.Close(); });
  server.Listen();
  std::jthread running([&] { server.Run(); });
  const Conn client = gtcp::NewConn(server.GetListenedAddress());
  client.SendPkg("close");
  EXPECT_TRUE(gtcp_test::has_ended(client));
  running.join();
}

TEST(PkgHandler, MayKeepItsConnForOthersToSend) {
  std::promise<Conn> kept;
  const pkg_server server([&](Conn& conn, std::string_view) { kept.set_value(conn); });
  const Conn client = server.connect();
  client.SendPkg("hello");
  auto future = kept.get_future();
  ASSERT_TRUE(comes(future));
  const Conn conn = future.get();
  conn.SendPkg("from another thread");
  EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "from another thread");
}

TEST(PkgHandler, TakesThePlaceOfAHandlerAndTheOtherWayRound) {
  gtcp::Server server(any_port, [](Conn conn) { conn.SendPkg("by a thread"); });
  server.Start();
  const auto greeting = [&] {
    const Conn client = gtcp::NewConn(server.GetListenedAddress());
    client.SendPkg("hello");
    return client.RecvPkgWithTimeout(ceiling);
  };
  EXPECT_EQ(greeting(), "by a thread");
  server.SetPkgHandler([](Conn& conn, std::string_view) { conn.SendPkg("by a callback"); });
  EXPECT_EQ(greeting(), "by a callback");
  server.SetHandler([](Conn conn) { conn.SendPkg("by a thread again"); });
  EXPECT_EQ(greeting(), "by a thread again");
  server.Close();

  gtcp::Server none(any_port);
  none.SetPkgHandler(nullptr);
  std::error_code error;
  none.Listen(error);
  EXPECT_EQ(error, Errc::NoHandler);
}

TEST(PkgHandler, RunsOnTheStrandOfTheUsersExecutor) {
  asio::io_context context;
  auto work = asio::make_work_guard(context);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; ++i) threads.emplace_back([&] { context.run(); });
  const auto strand = asio::make_strand(context);
  gtcp::ServerOption option;
  option.Conn.Executor = strand;
  std::atomic<int> outside{0};
  int calls = 0;  // guarded by the strand alone
  {
    const pkg_server server(
        [&](Conn& conn, std::string_view pkg) {
          if (!strand.running_in_this_thread()) ++outside;
          ++calls;
          conn.SendPkg(pkg);
        },
        option);
    std::vector<Conn> clients;
    for (int i = 0; i < 8; ++i) clients.push_back(server.connect());
    for (int round = 0; round < 50; ++round) {
      for (const Conn& client : clients) client.SendPkg("x");
      for (const Conn& client : clients) EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "x");
    }
    clients.clear();
    EXPECT_TRUE(server.events.wait(16));
  }
  work.reset();
  threads.clear();
  EXPECT_EQ(outside, 0);
  EXPECT_EQ(calls, 400);
}

// ---- On a connection of one's own

TEST(ConnPkgHandler, GetsPackagesUntilTheEnd) {
  auto [conn, peer] = make_conn_and_peer();
  notes noted;
  peer.write(framed("one"));
  conn.SetPkgHandler(
      [&](Conn& from, std::string_view pkg) {
        noted.add(pkg);
        from.SendPkg("thanks");
      },
      [&](Conn& from, std::error_code reason) {
        noted.add(reason.message());
        EXPECT_FALSE(from.IsClosed());
      });
  EXPECT_EQ(peer.read(8), framed("thanks"));
  peer.write(framed("two").substr(0, 3));
  peer.write(framed("two").substr(3));
  EXPECT_EQ(peer.read(8), framed("thanks"));
  peer.close();
  ASSERT_TRUE(noted.wait(3));
  EXPECT_EQ(noted.all(), (texts{"one", "two", make_error_code(asio::error::eof).message()}));
  EXPECT_TRUE(poll_until([&, &closing = conn] { return closing.IsClosed(); }));
}

TEST(ConnPkgHandler, EndsWithItsLastHandle) {
  auto [conn, peer] = make_conn_and_peer();
  std::promise<std::pair<bool, std::error_code>> ended;
  conn.SetPkgHandler([](Conn&, std::string_view) {},
                     [&](Conn& from, std::error_code reason) {
                       ended.set_value({static_cast<bool>(from), reason});
                     });
  conn = {};
  auto future = ended.get_future();
  ASSERT_TRUE(comes(future));
  const auto [is_connected, reason] = future.get();
  EXPECT_FALSE(is_connected);
  EXPECT_EQ(reason, Errc::Closed);
  EXPECT_EQ(peer.read_to_end(), "");
}

TEST(ConnPkgHandler, WhatItThrowsGoesToTheExecutor) {
  asio::io_context context;
  auto [conn, peer] = make_conn_and_peer({.Executor = context.get_executor()});
  bool was_told = false;
  conn.SetPkgHandler([](Conn&, std::string_view) { throw std::runtime_error("thrown"); },
                     [&](Conn&, std::error_code) { was_told = true; });
  peer.write(framed("one") + framed("two"));
  EXPECT_THROW(context.run(), std::runtime_error);
  EXPECT_TRUE(was_told);
  EXPECT_TRUE(conn.IsClosed());
}

TEST(ConnPkgHandler, ClosesThoughOnCloseThrows) {
  for (const bool handler_throws : {false, true}) {
    asio::io_context context;
    auto [conn, peer] = make_conn_and_peer({.Executor = context.get_executor()});
    conn.SetPkgHandler(
        [&](Conn&, std::string_view) {
          if (handler_throws) throw std::invalid_argument("the handler's");
        },
        [](Conn&, std::error_code) { throw std::system_error(make_error_code(Errc::Timeout), "on_close's"); });
    peer.write(framed("one"));
    peer.end_sending();
    std::string thrown;
    try {
      context.run_for(ceiling);
    } catch (const std::exception& failure) {
      thrown = failure.what();
    }
    EXPECT_TRUE(thrown.starts_with(handler_throws ? "the handler's" : "on_close's")) << thrown;
    EXPECT_TRUE(conn.IsClosed()) << handler_throws;
    EXPECT_EQ(context.run(), 0u) << "thrown once";
  }
}

TEST(ConnPkgHandler, NeedsAConnection) {
  const Conn none;
  EXPECT_THROW(none.SetPkgHandler([](Conn&, std::string_view) {}), std::system_error);
}

TEST(ConnPkgHandler, IsRefusedIfItIsNone) {
  auto [conn, peer] = make_conn_and_peer();
  const std::function<void(Conn&, std::string_view)> empty;
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [&, &on = conn] { on.SetPkgHandler(empty); }),
            "SetPkgHandler: the handler is empty: " + make_error_code(Errc::InvalidOption).message());
  peer.write(framed("still there"));
  EXPECT_EQ(conn.RecvPkg(), "still there");
}

TEST(ConnPkgHandler, GoesOnBehindAReceiveThatWaits) {
  auto [conn, peer] = make_conn_and_peer();
  notes noted;
  auto first = conn.AsyncRecvPkg(asio::use_future);
  conn.SetPkgHandler([&](Conn&, std::string_view pkg) { noted.add(pkg); });
  peer.write(framed("one") + framed("two"));
  ASSERT_TRUE(comes(first));
  EXPECT_EQ(first.get(), "one");
  ASSERT_TRUE(noted.wait(1));
  EXPECT_EQ(noted.all(), texts{"two"});
}

}  // namespace
