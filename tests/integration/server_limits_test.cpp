// SPDX-License-Identifier: MIT

// What a server demands of its peers, how it ends without losing anything, and what it tells about it. How times are
// counted is tested in peer_limits_test.cpp, without a clock.

#include <gtcp/dial.hpp>
#include <gtcp/server.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_future.hpp>
#include <asio/write.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <latch>
#include <map>
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
using namespace gtcp_test;
using gtcp::Errc;
using gtcp::NewConn;
using gtcp::QueuePolicy;
using gtcp::Server;
using gtcp::ServerOption;
using gtcp::ShutdownResult;

class ServerLimits : public testing::TestWithParam<serving> {};
INSTANTIATE_TEST_SUITE_P(Handlers, ServerLimits, testing::ValuesIn(all_kinds),
                         [](const auto& each) { return name_of(each.param); });

// ---- How many

TEST_P(ServerLimits, RefuseConnectionsBeyondTheirNumber) {
  const echo_server server(GetParam(), {.MaxConns = 2});
  Conn first = server.connect();
  const Conn second = server.connect();
  EXPECT_TRUE(answers(first));
  EXPECT_TRUE(answers(second));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(server.turns_away());
  EXPECT_EQ(server.refused("max_conns"), 3u);
  EXPECT_TRUE(answers(first));
  first.Close();
  EXPECT_TRUE(poll_until([&] { return server->Stats().Active == 1; }));
  EXPECT_TRUE(answers(server.connect()));
  EXPECT_TRUE(answers(second));
}

TEST_P(ServerLimits, RefuseConnectionsBeyondTheirNumberFromOneAddress) {
  const echo_server server(GetParam(), {.MaxConnsPerAddress = 1});
  const Conn first = server.connect();
  EXPECT_TRUE(answers(first));
  EXPECT_TRUE(server.turns_away());
  const Conn other = NewConn(server->GetListenedAddress(), {.LocalAddress = "127.0.0.2:0"});
  EXPECT_TRUE(answers(other));
  EXPECT_EQ(server.refused("max_conns_per_address"), 1u);
  EXPECT_EQ(server->Stats().Accepted, 3u);
}

// ---- How long

TEST_P(ServerLimits, EndPeersThatNeverBegin) {
  const echo_server server(GetParam(), {.FirstPkgTimeout = 50ms});
  raw_peer silent = server.connect_raw();
  raw_peer half = server.connect_raw();
  half.write(std::string("\0", 1));
  EXPECT_TRUE(is_over(silent));
  EXPECT_TRUE(is_over(half));
  EXPECT_TRUE(poll_until([&] { return server.closed("first_pkg_timeout") == 2; }));
  const Conn good = server.connect();
  EXPECT_TRUE(answers(good));
  raw_peer another = server.connect_raw();
  EXPECT_TRUE(is_over(another));  // so the time of the good one is over, too
  EXPECT_TRUE(answers(good));
}

TEST_P(ServerLimits, EndPeersThatSayNothingMore) {
  const echo_server server(GetParam(), {.IdleTimeout = 50ms});
  raw_peer peer = server.connect_raw();
  peer.write(framed("hello"));
  EXPECT_EQ(peer.read_pkg(), "hello");
  EXPECT_TRUE(is_over(peer));
  EXPECT_TRUE(poll_until([&] { return server.closed("idle_timeout") == 1; }));
}

TEST_P(ServerLimits, MayBeOfAnyLength) {
  constexpr auto longest = std::chrono::milliseconds::max();
  const echo_server server(
      GetParam(),
      {.FirstPkgTimeout = 50ms, .IdleTimeout = longest, .PkgTimeout = longest, .SendStallTimeout = longest});
  const Conn good = server.connect();
  EXPECT_TRUE(answers(good));
  raw_peer silent = server.connect_raw();
  EXPECT_TRUE(is_over(silent));
  EXPECT_TRUE(answers(good));
  EXPECT_TRUE(poll_until([&] { return server.closed("first_pkg_timeout") == 1; }));
  EXPECT_EQ(server.closed("idle_timeout"), 0u);
}

TEST_P(ServerLimits, EndPeersThatDoNotFinishAPackage) {
  const echo_server server(GetParam(), {.PkgTimeout = 50ms});
  const Conn quiet = server.connect();
  EXPECT_TRUE(answers(quiet));
  raw_peer peer = server.connect_raw();
  const std::string bytes = framed("hello") + framed("world");
  peer.write(bytes.substr(0, bytes.size() - 1));
  EXPECT_EQ(peer.read_pkg(), "hello");
  EXPECT_TRUE(is_over(peer));
  EXPECT_TRUE(poll_until([&] { return server.closed("pkg_timeout") == 1; }));
  EXPECT_TRUE(answers(quiet)) << "between packages there is no such limit";
}

TEST_P(ServerLimits, EndPeersThatTakeNothing) {
  ServerOption option;
  option.SendStallTimeout = 50ms;
  option.Conn.SendBufferSize = 4096;
  option.Conn.OutboxLimit = 64 * 1024;
  const echo_server server(GetParam(), option);
  raw_peer peer = server.connect_raw();
  const std::string request = framed(pattern(60'000));
  std::error_code error;
  // Until the replies that nobody reads hold everything up.
  while (!error) asio::write(peer.get(), asio::buffer(request), error);
  EXPECT_TRUE(error == asio::error::connection_reset || error == asio::error::broken_pipe) << error.message();
  EXPECT_TRUE(poll_until([&] { return server.closed("send_stalled") == 1; }));
  EXPECT_TRUE(answers(server.connect()));
}

TEST(ServerLimits, DoNotCountWhileAHandlerDoesSomethingElse) {
  std::latch begun(1);
  std::latch may_go_on(1);
  ServerOption option;
  option.IdleTimeout = 20ms;
  option.PkgTimeout = 20ms;
  option.FirstPkgTimeout = 20ms;
  Server server(
      any_port,
      [&](Conn conn) {
        std::string pkg = conn.RecvPkg();
        if (pkg == "work") {
          begun.count_down();
          may_go_on.wait();
        }
        conn.SendPkg(pkg);
        conn.SendPkg(conn.RecvPkg());
      },
      option);
  server.Start();
  const Conn busy = NewConn(server.GetListenedAddress());
  busy.SendPkg("work");
  begun.wait();
  busy.SendPkg("more");  // it waits with the system, unread
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(has_ended(NewConn(server.GetListenedAddress()))) << "while others time out";
  may_go_on.count_down();
  EXPECT_EQ(busy.RecvPkgWithTimeout(ceiling), "work");
  EXPECT_EQ(busy.RecvPkgWithTimeout(ceiling), "more");
}

TEST_P(ServerLimits, DoNotCountWhileReadingIsPaused) {
  ServerOption option;
  option.FirstPkgTimeout = option.IdleTimeout = option.PkgTimeout = 100ms;
  option.Conn.SendBufferSize = 4096;
  option.Conn.OutboxLimit = 16 * 1024;
  const echo_server server(GetParam(), option);
  raw_peer peer = server.connect_raw();
  const std::string request = framed(pattern(60'000));
  peer.get().non_blocking(true);
  std::atomic<std::size_t> sent{0};
  std::error_code error;
  std::jthread writes([&](const std::stop_token& stop) {
    while (!stop.stop_requested() && (!error || error == asio::error::would_block))
      sent += peer.get().write_some(asio::buffer(std::string_view(request).substr(sent % request.size())), error);
  });
  const auto time_passes = [&] {
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(has_ended(server.connect()));
  };
  // Until the replies that are not read hold everything up, and then for some more time.
  EXPECT_TRUE(poll_until([&, before = std::size_t{1}]() mutable {
    time_passes();
    return std::exchange(before, sent.load()) == sent && sent != 0;
  }));
  writes.request_stop();
  writes.join();
  ASSERT_EQ(error, asio::error::would_block);
  time_passes();
  peer.get().non_blocking(false);
  for (std::size_t whole = sent / request.size(); whole > 0; --whole) ASSERT_TRUE(peer.read(request.size()) == request);
}

TEST(ServerLimits, SayWhichOneWasReached) {
  std::promise<std::pair<std::error_code, std::error_code>> told;
  ServerOption option;
  option.IdleTimeout = 20ms;
  Server server(
      any_port,
      [&](Conn conn) {
        std::error_code error;
        conn.RecvPkg(error);
        told.set_value({error, conn.CloseReason()});
      },
      option);
  server.Start();
  const Conn conn = NewConn(server.GetListenedAddress());
  auto future = told.get_future();
  ASSERT_TRUE(comes(future));
  const auto [error, reason] = future.get();
  EXPECT_EQ(error, Errc::Closed);
  EXPECT_EQ(reason, Errc::IdleTimeout);
  EXPECT_EQ(reason, std::errc::timed_out);
  EXPECT_TRUE(gtcp::IsFatal(reason));
}

// ---- How much

TEST_P(ServerLimits, BoundTheMemoryOfUnfinishedPackages) {
  const echo_server server(GetParam(), {.MaxReceiveMemory = 100'000});
  raw_peer first = server.connect_raw();
  const std::string bytes = framed(pattern(60'000));
  first.write(bytes.substr(0, 59'000));
  EXPECT_TRUE(poll_until([&] { return server->Stats().Conns.BytesIn == 59'000; }));
  raw_peer second = server.connect_raw();
  second.write(bytes.substr(0, 59'000));
  EXPECT_TRUE(is_over(second));
  EXPECT_TRUE(poll_until([&] { return server.closed("receive_memory_full") == 1; }));
  first.write(bytes.substr(59'000));
  EXPECT_TRUE(first.read_pkg() == pattern(60'000));
  // And it is free again.
  raw_peer third = server.connect_raw();
  third.write(bytes.substr(0, 59'000));
  EXPECT_TRUE(poll_until([&] { return server->Stats().Conns.BytesIn >= 59'000u + 60'002u + 59'000u; }));
  third.write(bytes.substr(59'000));
  EXPECT_TRUE(third.read_pkg() == pattern(60'000));
}

TEST(ServerLimits, BoundTheMemoryOfPackagesThatWaitForAHandler) {
  std::latch sent(1);
  std::latch may_go_on(1);
  std::atomic<int> handled{0};
  Server server(any_port,
                [&](Conn conn) {
                  sent.wait();  // so that all of it is there at once
                  conn.RecvPkg();
                  ++handled;
                  may_go_on.wait();
                  for (;;) conn.SendPkg(conn.RecvPkg());
                },
                {.MaxReceiveMemory = 100'000});
  server.Start();
  std::vector<raw_peer> peers;
  std::string packages;
  for (int i = 0; i < 60; ++i) packages += framed(pattern(998));
  for (int i = 0; i < 2; ++i) {
    peers.push_back(connect_raw(server.GetListenedPort()));
    peers.back().write(packages);
  }
  EXPECT_TRUE(poll_until([&] { return server.Stats().Active == 2; }));
  sent.count_down();
  EXPECT_TRUE(poll_until([&] { return handled == 2; }));
  may_go_on.count_down();
  EXPECT_TRUE(poll_until([&] { return server.Stats().Active == 1; }));
  EXPECT_EQ(server.Stats().Closed["receive_memory_full"], 1u);
  std::size_t ended = 0;
  for (raw_peer& peer : peers) {
    try {
      for (int i = 1; i < 60; ++i) EXPECT_TRUE(peer.read_pkg() == pattern(998));
    } catch (const std::exception&) {
      ++ended;
    }
  }
  EXPECT_EQ(ended, 1u);
}

TEST(ServerOption, IsRefusedWithWhatIsAllowed) {
  const auto text_of = [](const ServerOption& option) -> std::string {
    try {
      Server(any_port, echo, option).Listen();
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), Errc::InvalidOption);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(text_of({.FirstPkgTimeout = -1ms}).find("FirstPkgTimeout is -1 ms, allowed are 0"), std::string::npos);
  EXPECT_NE(text_of({.IdleTimeout = -2ms}).find("IdleTimeout is -2 ms, allowed are 0"), std::string::npos);
  EXPECT_NE(text_of({.PkgTimeout = -3ms}).find("PkgTimeout is -3 ms, allowed are 0"), std::string::npos);
  EXPECT_NE(text_of({.SendStallTimeout = -4ms}).find("SendStallTimeout is -4 ms"), std::string::npos);
}

TEST(ServerOption, IsRefusedWhileTheServerRunsToo) {
  const echo_server server(serving::thread);
  const auto set = [&] { server->SetOption({.IdleTimeout = -2ms}); };
  EXPECT_NE(text_of_error(Errc::InvalidOption, set).find("SetOption: IdleTimeout is -2 ms"), std::string::npos);
  EXPECT_TRUE(answers(server.connect()));
}

// ---- Shutdown

TEST_P(ServerLimits, DrainWhatWaitsBetweenPackages) {
  const echo_server server(GetParam());
  std::vector<Conn> conns;
  for (int i = 0; i < 5; ++i) {
    conns.push_back(server.connect());
    EXPECT_TRUE(answers(conns.back()));
  }
  const ShutdownResult result = server->Shutdown(ceiling);
  EXPECT_TRUE(result.Complete);
  EXPECT_EQ(result.Drained, 5u);
  EXPECT_EQ(result.Cut, 0u);
  for (const Conn& conn : conns) {
    std::error_code error;
    conn.RecvPkgWithTimeout(ceiling, error);
    EXPECT_EQ(error, asio::error::eof);
  }
  EXPECT_TRUE(refuses_connections(server->GetListenedAddress()));
  EXPECT_EQ(server.closed("draining"), 5u);
  const ShutdownResult again = server->Shutdown(ceiling);
  EXPECT_TRUE(again.Complete);
  EXPECT_EQ(again.Drained + again.Cut, 0u);
}

/// Tells when a server has begun to shut down. (To knock would be to connect.)
struct shutdown_begun {
  std::promise<void> promise;
  ServerOption option() {
    ServerOption told;
    told.Log = [this](gtcp::LogLevel, std::string_view text, std::uint64_t) {
      if (text.starts_with("shutting down")) promise.set_value();
    };
    return told;
  }
};

TEST_P(ServerLimits, DrainAPackageThatHasBegun) {
  shutdown_begun begun;
  const echo_server server(GetParam(), begun.option());
  raw_peer peer = server.connect_raw();
  const std::string bytes = framed("hello");
  peer.write(bytes.substr(0, 3));
  EXPECT_TRUE(poll_until([&] { return server->Stats().Conns.BytesIn == 3; }));
  background shutting([&] { return server->Shutdown(ceiling); });
  begun.promise.get_future().wait();
  peer.write(bytes.substr(3));
  EXPECT_EQ(peer.read_pkg(), "hello");
  EXPECT_TRUE(is_over(peer));
  const ShutdownResult result = shutting.get();
  EXPECT_EQ(result.Drained, 1u);
  EXPECT_EQ(result.Cut, 0u);
}

TEST_P(ServerLimits, CutOffWhatDoesNotEnd) {
  const echo_server server(GetParam());
  raw_peer peer = server.connect_raw();
  peer.write(framed("hello").substr(0, 3));
  EXPECT_TRUE(poll_until([&] { return server->Stats().Conns.BytesIn == 3; }));
  const ShutdownResult result = server->Shutdown(10ms);
  EXPECT_EQ(result.Drained, 0u);
  EXPECT_EQ(result.Cut, 1u);
  EXPECT_TRUE(is_over(peer));
}

TEST(Shutdown, LetsAHandlerFinishAndDeliversWhatItSends) {
  shutdown_begun told;
  std::latch begun(1);
  std::latch may_go_on(1);
  std::promise<std::error_code> next;
  Server server(
      any_port,
      [&](Conn conn) {
        const std::string pkg = conn.RecvPkg();
        begun.count_down();
        may_go_on.wait();
        conn.SendPkg("reply to " + pkg);
        std::error_code error;
        conn.RecvPkg(error);
        next.set_value(error);
        conn.SendPkg(pattern(60'000));
      },
      told.option());
  server.Start();
  raw_peer peer([&] {
    asio::ip::tcp::socket socket(raw_context());
    socket.connect({asio::ip::address_v4::loopback(), static_cast<unsigned short>(server.GetListenedPort())});
    return socket;
  }());
  peer.write(framed("a question"));
  begun.wait();
  background shutting([&] { return server.Shutdown(ceiling); });
  told.promise.get_future().wait();
  may_go_on.count_down();
  EXPECT_EQ(peer.read_pkg(), "reply to a question");
  EXPECT_TRUE(peer.read_pkg() == pattern(60'000));
  EXPECT_EQ(peer.read_to_end(), "");
  peer.close();
  EXPECT_EQ(next.get_future().get(), Errc::Draining);
  EXPECT_EQ(shutting.get().Drained, 1u);
}

TEST(Shutdown, MayBeCalledInAHandler) {
  Server server;
  server.SetAddress(any_port);
  std::atomic<bool> complete{true};
  server.SetHandler([&](Conn conn) {
    const std::string pkg = conn.RecvPkg();
    if (pkg == "shut down") complete = server.Shutdown(ceiling).Complete;
    conn.SendPkg("bye");
  });
  server.Listen();
  background running([&] {
    server.Run();
    return true;
  });
  const Conn other = NewConn(server.GetListenedAddress());
  const Conn conn = NewConn(server.GetListenedAddress());
  conn.SendPkg("shut down");
  EXPECT_EQ(conn.RecvPkgWithTimeout(ceiling), "bye");
  EXPECT_TRUE(has_ended(other));
  EXPECT_TRUE(running.get()) << "and Run returns";
  EXPECT_FALSE(complete);
}

TEST(Shutdown, DoesNotWaitInAHandlerThatHasNoThreadOfItsOwn) {
  for (const bool coroutine : {true, false}) {
    Server server;
    server.SetAddress(any_port);
    std::promise<ShutdownResult> told;
    if (coroutine) {
      server.SetHandler([&](Conn conn) -> asio::awaitable<void> {
        const std::string pkg = co_await conn.AsyncRecvPkg();
        told.set_value(server.Shutdown(ceiling));
        co_await conn.AsyncSendPkg(pkg);
      });
    } else {
      server.SetPkgHandler([&](Conn& conn, std::string_view pkg) {
        told.set_value(server.Shutdown(ceiling));
        conn.SendPkg(pkg);
      });
    }
    server.Start();
    const Conn conn = NewConn(server.GetListenedAddress());
    EXPECT_EQ(conn.SendRecvPkgWithTimeout("bye", ceiling), "bye");
    EXPECT_TRUE(has_ended(conn));
    EXPECT_FALSE(told.get_future().get().Complete);
    server.CloseAndWait(ceiling);
  }
}

TEST(Shutdown, CutsOffAHandlerThatDoesNotEndInTime) {
  std::promise<void> goes_on;
  Server server(any_port, [&, wait = goes_on.get_future().share()](Conn conn) {
    conn.SendPkg(conn.RecvPkg());
    wait.wait();
  });
  server.Start();
  const Conn conn = NewConn(server.GetListenedAddress());
  EXPECT_TRUE(answers(conn));
  const ShutdownResult result = server.Shutdown(10ms);
  EXPECT_TRUE(result.Complete);
  EXPECT_EQ(result.Cut, 1u);
  EXPECT_EQ(result.Drained, 0u);
  EXPECT_TRUE(has_ended(conn)) << "while the handler is at work";
  goes_on.set_value();
  server.CloseAndWait(ceiling);
}

TEST(Shutdown, IsThereForCoroutinesOnAnExecutorOfTheUsers) {
  asio::io_context context;
  ServerOption option;
  option.Conn.Executor = context.get_executor();
  Server server(any_port, async_echo, option);
  server.Listen();
  server.AsyncRun([](std::error_code) {});
  std::promise<ShutdownResult> told;
  std::jthread runs([&] { context.run(); });
  const Conn conn = NewConn(server.GetListenedAddress());
  EXPECT_TRUE(answers(conn));
  server.AsyncShutdown(ceiling, [&](std::error_code error, ShutdownResult result) {
    EXPECT_FALSE(error);
    told.set_value(result);
  });
  auto future = told.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get().Drained, 1u);
  EXPECT_TRUE(has_ended(conn));
}

TEST(Shutdown, ReceivesWhatHasComeAndNoMore) {
  for (const serving which : gtcp_test::all_kinds) {
    const gtcp_test::echo_server server(which);
    const Conn conn = NewConn(server->GetListenedAddress());
    std::atomic<bool> floods{true};
    std::atomic<std::uint64_t> answers{0};
    std::jthread flood([&] {
      std::error_code error;
      while (floods && !error) conn.SendPkg("more", error);
    });
    std::jthread reads([&] {
      std::error_code error;
      while (!conn.RecvPkg(error).empty()) ++answers;
      EXPECT_EQ(error, asio::error::eof);
      floods = false;
      conn.Close();
    });
    EXPECT_TRUE(poll_until([&] { return answers > 100; }));
    const ShutdownResult result = server->Shutdown(ceiling);
    EXPECT_EQ(result.Drained, 1u) << name_of(which);
    EXPECT_EQ(result.Cut, 0u) << name_of(which);
  }
}

TEST(Shutdown, IsAwaited) {
  const Server server(any_port, async_echo);
  server.Start();
  const Conn conn = NewConn(server.GetListenedAddress());
  EXPECT_TRUE(answers(conn));
  const ShutdownResult result = gtcp_test::run(server.AsyncShutdown(ceiling));
  EXPECT_TRUE(result.Complete);
  EXPECT_EQ(result.Drained, 1u);
  EXPECT_TRUE(has_ended(conn));
  std::error_code error = Errc::Timeout;
  EXPECT_TRUE(gtcp_test::run(server.AsyncShutdown(ceiling, error)).Complete) << "again";
  EXPECT_FALSE(error);
}

TEST(Shutdown, LeavesDetachedConnectionsToTheirOwner) {
  std::promise<Conn> kept;
  Server server(any_port, [&](Conn conn) {
    conn.Detach();
    kept.set_value(conn);
  });
  server.Start();
  const Conn client = NewConn(server.GetListenedAddress());
  const Conn conn = kept.get_future().get();
  EXPECT_TRUE(poll_until([&] { return server.Stats().Active == 0; }));
  EXPECT_TRUE(server.Shutdown(ceiling).Complete);
  conn.SendPkg("still there");
  EXPECT_EQ(client.RecvPkgWithTimeout(ceiling), "still there");
}

// ---- Observing

TEST_P(ServerLimits, AreCountedWithEverythingElse) {
  const echo_server server(GetParam());
  constexpr std::uint64_t packages = 10;
  {
    const Conn conn = server.connect();
    for (std::uint64_t i = 0; i < packages; ++i) EXPECT_TRUE(answers(conn));
    const gtcp::ConnStats own = conn.Stats();
    EXPECT_EQ(own.PkgsOut, packages);
    EXPECT_EQ(own.PkgsIn, packages);
    EXPECT_EQ(own.BytesOut, packages * 6);
    EXPECT_EQ(own.BytesIn, packages * 6);
    EXPECT_EQ(own.OutboxBytes, 0u);
    EXPECT_EQ(server->Stats().Active, 1u);
  }
  EXPECT_TRUE(poll_until([&] { return server->Stats().Active == 0; }));
  const gtcp::ServerStats stats = server->Stats();
  EXPECT_EQ(stats.Accepted, 1u);
  EXPECT_EQ(stats.Conns.PkgsIn, packages);
  EXPECT_EQ(stats.Conns.PkgsOut, packages);
  EXPECT_EQ(stats.Conns.BytesIn, packages * 6);
  EXPECT_EQ(stats.Conns.BytesOut, packages * 6);
  EXPECT_EQ(stats.Closed.at("eof"), 1u);
  EXPECT_EQ(stats.HandlerExceptions, 0u);
}

TEST(ServerStats, CountExceptionsOfHandlers) {
  ServerOption option;
  option.ErrorCallback = [](const Conn&, std::exception_ptr) {};
  Server server(
      any_port,
      [](Conn conn) {
        conn.RecvPkg();
        throw std::runtime_error("broken");
      },
      option);
  server.Start();
  for (int i = 0; i < 3; ++i) {
    const Conn conn = NewConn(server.GetListenedAddress());
    conn.SendPkg("x");
    EXPECT_TRUE(has_ended(conn));
  }
  EXPECT_TRUE(poll_until([&] { return server.Stats().HandlerExceptions == 3; }));
  EXPECT_TRUE(poll_until([&] { return server.Stats().Active == 0; }));
  EXPECT_EQ(server.Stats().Closed.at("closed"), 3u);
}

TEST(ServerLog, TellsOfConnectionsAndNeverOfPayload) {
  struct line {
    gtcp::LogLevel level;
    std::string text;
    std::uint64_t conn_id;
  };
  struct shared_lines {
    std::mutex mutex;
    std::vector<line> all;
  };
  const auto lines = std::make_shared<shared_lines>();
  ServerOption option;
  option.ErrorCallback = [](const Conn&, std::exception_ptr) {};
  option.MaxConns = 1;
  const auto asked = std::make_shared<std::atomic<const Server*>>(nullptr);
  option.Log = [lines, asked](gtcp::LogLevel level, std::string_view text, std::uint64_t conn_id) {
    // Under a lock of the library this would wait for itself.
    if (const Server* const server = *asked) gtcp::FormatPrometheus(server->Stats());
    const std::lock_guard lock(lines->mutex);
    lines->all.push_back({level, std::string(text), conn_id});
    throw std::runtime_error("a log that fails costs nothing");
  };
  Server server(
      any_port,
      [](Conn conn) {
        conn.SendPkg(std::to_string(conn.Id()));
        conn.RecvPkg();
        throw std::runtime_error("broken");
      },
      option);
  *asked = &server;
  server.Start();
  const Conn conn = NewConn(server.GetListenedAddress());
  const std::uint64_t id = std::stoull(conn.RecvPkg());
  std::error_code refused;
  const Conn second = NewConn(server.GetListenedAddress(), refused);
  EXPECT_TRUE(refused || has_ended(second));
  conn.SendPkg("a secret");
  EXPECT_TRUE(has_ended(conn));
  EXPECT_TRUE(server.Shutdown(ceiling).Complete);
  const std::lock_guard lock(lines->mutex);
  const auto has = [&](gtcp::LogLevel level, const std::string& part, std::uint64_t conn_id) {
    return std::any_of(lines->all.begin(), lines->all.end(), [&](const line& one) {
      return one.level == level && one.conn_id == conn_id && one.text.find(part) != std::string::npos;
    });
  };
  EXPECT_TRUE(has(gtcp::LogLevel::Debug, "connection from [127.0.0.1:", id));
  EXPECT_TRUE(has(gtcp::LogLevel::Warning, "refused: max_conns", 0));
  EXPECT_TRUE(has(gtcp::LogLevel::Error, "a handler failed: broken", id));
  EXPECT_TRUE(has(gtcp::LogLevel::Debug, "ended: closed", id));
  EXPECT_TRUE(has(gtcp::LogLevel::Info, "shut down: ", 0));
  for (const line& one : lines->all) EXPECT_EQ(one.text.find("secret"), std::string::npos) << one.text;
}

TEST(ServerLog, MayThrowAnything) {
  const auto calls = std::make_shared<std::atomic<int>>(0);
  ServerOption option;
  option.Log = [calls](gtcp::LogLevel, std::string_view, std::uint64_t) {
    ++*calls;
    throw 42;
  };
  const Server server(any_port, echo, option);
  server.Start();
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  EXPECT_TRUE(server.Shutdown(ceiling).Complete);
  EXPECT_GE(*calls, 3);
}

// ---- A full outbox

/// Sends until something is not taken; returns how many were.
int fill(const Conn& conn, std::size_t size, const std::function<std::error_code(std::string)>& send,
         std::error_code& error) {
  int sent = 0;
  for (; sent < 100'000 && !error && conn.Stats().PkgsDropped == 0; ++sent) {
    error = send(pattern(size, static_cast<unsigned>(sent)));
  }
  return sent - 1;
}

std::function<std::error_code(std::string)> sender_of(form which, const Conn& conn) {
  switch (which) {
    case form::blocking:
      return [conn](const std::string& pkg) {
        std::error_code error;
        conn.SendPkg(pkg, error);
        return error;
      };
    case form::awaited:
      return [conn](const std::string& pkg) {
        std::error_code error;
        run(conn.AsyncSendPkg(pkg, error));
        return error;
      };
    case form::callback: break;
  }
  return [conn](const std::string& pkg) {
    std::error_code error;
    call_back<void>(error, [&](auto token) { conn.AsyncSendPkg(pkg, std::move(token)); });
    return error;
  };
}

conn_and_peer make_full(QueuePolicy policy) {
  gtcp::ConnOption option;
  option.WhenFull = policy;
  option.OutboxLimit = 8192;
  option.SendBufferSize = 4096;
  option.Executor = gtcp::Runtime::Default().get_executor();
  return make_conn_and_peer(option, net::tcp, {.peer_recv = 4096});
}

TEST(QueuePolicy, FailsASendForWhichThereIsNoRoom) {
  for (const form which : forms) {
    for (const std::size_t size : {10u, 1000u, 20'000u}) {
      SCOPED_TRACE(testing::Message() << which << ' ' << size);
      auto [conn, peer] = make_full(QueuePolicy::Fail);
      std::error_code error;
      const int sent = fill(conn, size, sender_of(which, conn), error);
      EXPECT_EQ(error, Errc::QueueFull);
      EXPECT_FALSE(gtcp::IsFatal(error));
      EXPECT_GT(sent, 0);
      EXPECT_GT(conn.Stats().OutboxBytes, 0u);
      EXPECT_LE(conn.Stats().OutboxBytes, std::max<std::size_t>(8192, size + 2));
      EXPECT_EQ(conn.Stats().PkgsOut, static_cast<std::uint64_t>(sent));
      for (int i = 0; i < sent; ++i) ASSERT_TRUE(peer.read_pkg() == pattern(size, static_cast<unsigned>(i))) << i;
      EXPECT_TRUE(poll_until([&] {
        conn.SendPkg("more", error);
        return !error;
      }));
      EXPECT_EQ(peer.read_pkg(), "more");
    }
  }
}

TEST(QueuePolicy, DropsThePackageForWhichThereIsNoRoom) {
  for (const form which : forms) {
    SCOPED_TRACE(testing::Message() << which);
    auto [conn, peer] = make_full(QueuePolicy::Drop);
    std::error_code error;
    const int sent = fill(conn, 1000, sender_of(which, conn), error);
    EXPECT_FALSE(error) << error.message();
    EXPECT_EQ(conn.Stats().PkgsDropped, 1u);
    EXPECT_EQ(conn.Stats().PkgsOut, static_cast<std::uint64_t>(sent));
    for (int i = 0; i < sent; ++i) ASSERT_TRUE(peer.read_pkg() == pattern(1000, static_cast<unsigned>(i))) << i;
    conn.Flush();
    conn.SendPkg("newer");
    EXPECT_EQ(peer.read_pkg(), "newer");
  }
}

TEST(QueuePolicy, ClosesTheConnectionThatHasNoRoom) {
  for (const form which : forms) {
    SCOPED_TRACE(testing::Message() << which);
    auto [conn, peer] = make_full(QueuePolicy::Close);
    std::error_code received;
    std::future<std::string> waiting = conn.AsyncRecvPkg(asio::redirect_error(asio::use_future, received));
    std::error_code error;
    fill(conn, 1000, sender_of(which, conn), error);
    EXPECT_EQ(error, Errc::QueueFull);
    EXPECT_TRUE(conn.IsClosed());
    EXPECT_EQ(conn.CloseReason(), Errc::QueueFull);
    ASSERT_TRUE(comes(waiting));
    waiting.get();
    EXPECT_TRUE(received);
    conn.SendPkg("x", error);
    EXPECT_EQ(error, Errc::Closed);
  }
}

TEST(QueuePolicy, BindsAPackageHandlerToo) {
  for (const QueuePolicy policy : {QueuePolicy::Fail, QueuePolicy::Drop, QueuePolicy::Close}) {
    SCOPED_TRACE(static_cast<int>(policy));
    auto [conn, peer] = make_full(policy);
    struct outcome {
      int sent = 0;
      std::error_code error{};
    };
    std::promise<outcome> told;
    conn.SetPkgHandler([&](Conn& from, std::string_view) {
      outcome what;
      while (!what.error && from.Stats().PkgsDropped == 0 && what.sent < 100'000) {
        from.SendPkg(pattern(1000, static_cast<unsigned>(what.sent)), what.error);
        if (!what.error && from.Stats().PkgsDropped == 0) ++what.sent;
      }
      told.set_value(what);
    });
    peer.write(framed("go"));
    auto future = told.get_future();
    ASSERT_TRUE(comes(future));
    const auto [sent, error] = future.get();
    EXPECT_GT(sent, 0);
    EXPECT_EQ(error, policy == QueuePolicy::Drop ? std::error_code() : Errc::QueueFull);
    EXPECT_EQ(conn.Stats().PkgsDropped, policy == QueuePolicy::Drop ? 1u : 0u);
    EXPECT_EQ(conn.IsClosed(), policy == QueuePolicy::Close);
    if (policy == QueuePolicy::Close) {
      EXPECT_EQ(conn.CloseReason(), Errc::QueueFull);
      continue;
    }
    for (int i = 0; i < sent; ++i) ASSERT_TRUE(peer.read_pkg() == pattern(1000, static_cast<unsigned>(i))) << i;
  }
}

}  // namespace
