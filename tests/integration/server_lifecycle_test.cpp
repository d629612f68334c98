// SPDX-License-Identifier: MIT

#include <gtcp/server.hpp>

#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"
#include "support/sanitizers.hpp"

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#endif

namespace {

using namespace gtcp_test;
using gtcp::Errc;
using gtcp::NewConn;
using gtcp::Server;
using gtcp::ServerOption;

// ---- Listening and running

TEST(Server, KnowsItsPortOnceItListens) {
  const Server server("localhost:0", echo);
  EXPECT_EQ(server.GetAddress(), "localhost:0");
  EXPECT_EQ(server.GetListenedPort(), -1);
  EXPECT_EQ(server.GetListenedAddress(), "localhost:0");
  server.Listen();
  const int port = server.GetListenedPort();
  EXPECT_GT(port, 0);
  EXPECT_EQ(server.GetListenedAddress(), "localhost:" + std::to_string(port));
  EXPECT_EQ(server.GetAddress(), "localhost:0");
  server.Listen();
  EXPECT_EQ(server.GetListenedPort(), port);
}

TEST(Server, HoldsConnectionsFromListenOnUntilItServes) {
  const Server server(any_port, echo);
  server.Listen();
  const Conn client = NewConn(server.GetListenedAddress());
  client.SendPkg("early");
  server.Start();
  EXPECT_EQ(client.RecvPkg(), "early");
}

TEST(Server, NamesTheAddressOfAPortInUse) {
  const Server first(any_port, echo);
  first.Listen();
  const std::string address = first.GetListenedAddress();
  const Server second(address, echo);
  const std::error_code in_use = asio::error::address_in_use;
  const std::string text = "cannot listen on address \"" + address + "\": " + in_use.message();
  EXPECT_EQ(text_of_error(in_use, [&] { second.Listen(); }), "Server::Listen: " + text);
  EXPECT_EQ(text_of_error(in_use, [&] { second.Run(); }), "Server::Run: " + text);
  EXPECT_EQ(text_of_error(in_use, [&] { second.Start(); }), "Server::Start: " + text);
  EXPECT_EQ(text_of_error(in_use, [&] { run(second.AsyncRun()); }), "Server::AsyncRun: " + text);
  std::error_code error;
  second.Run(error);
  EXPECT_EQ(error, in_use);
  EXPECT_EQ(second.GetListenedPort(), -1);
  first.Close();
  second.Start();
  EXPECT_TRUE(answers(NewConn(address)));
}

TEST(Server, QuotesABadAddress) {
  for (const char* const address :
       {"", "nonsense", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:-1", "[::1:80", "unix:", "256.0.0.1.:x", ":http"}) {
    const std::string text = text_of_error(Errc::InvalidAddress, [&] { Server(address, echo).Listen(); });
    EXPECT_EQ(text.find("Server::Listen: address \"" + std::string(address) + "\""), 0u) << text;
  }
}

TEST(Server, WantsAHandler) {
  const std::string text = "no connection handler defined";
  for (const Server& server : {Server(any_port, nullptr), Server(any_port, std::function<void(Conn)>()),
                               Server(any_port, static_cast<void (*)(Conn)>(nullptr)), Server()}) {
    EXPECT_EQ(text_of_error(Errc::NoHandler, [&] { server.Run(); }), "Server::Run: " + text);
    EXPECT_EQ(text_of_error(Errc::NoHandler, [&] { server.Start(); }), "Server::Start: " + text);
    EXPECT_EQ(text_of_error(Errc::NoHandler, [&] { server.Listen(); }), "Server::Listen: " + text);
    EXPECT_EQ(text_of_error(Errc::NoHandler, [&] { run(server.AsyncRun()); }), "Server::AsyncRun: " + text);
  }
}

TEST(Server, QuotesABadOption) {
  const auto text = [](const ServerOption& option) {
    return text_of_error(Errc::InvalidOption, [&] { Server(any_port, echo, option).Run(); });
  };
  EXPECT_EQ(text({.Backlog = 0}), "Server::Run: Backlog is 0, allowed are 1 and more: invalid option");
  EXPECT_EQ(text({.Conn = {.Linger = std::chrono::milliseconds(-1)}}),
            "Server::Run: Linger is -1, allowed are 0 ms and more: invalid option");
  EXPECT_NE(text({.Conn = {.Pkg = {.HeaderSize = 5}}}).find("5"), std::string::npos);
}

TEST(Server, QuotesABadOptionThatIsSetWhileItRuns) {
  const Server server(any_port, echo);
  server.Start();
  EXPECT_EQ(
      text_of_error(Errc::InvalidOption, [&] { server.SetOption({.Backlog = 0}); }),
      "Server::SetOption: Backlog is 0, allowed are 1 and more: " + make_error_code(Errc::InvalidOption).message());
  std::error_code ec;
  server.SetOption({.Conn = {.Pkg = {.HeaderSize = 5}}}, ec);
  EXPECT_EQ(ec, Errc::InvalidOption);
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress()))) << "the old ones stay";
  server.SetOption({}, ec);
  EXPECT_FALSE(ec);
}

TEST(Server, ReturnsFromRunAtOnceWhenClosedBefore) {
  const Server server(any_port, echo);
  server.Close();
  server.Run();
  run(server.AsyncRun());
  std::error_code error;
  server.Start(error);
  EXPECT_EQ(error, Errc::Closed);
  EXPECT_EQ(server.GetListenedPort(), -1);

  server.Listen();
  server.Close();
  EXPECT_TRUE(refuses_connections(server.GetListenedAddress()));
  server.Run();
}

TEST(Server, OpensAnewWithListen) {
  const Server server(any_port, echo);
  for (int round = 0; round < 3; ++round) {
    server.Listen();
    background run([&] {
      std::error_code error;
      server.Run(error);
      return error;
    });
    EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
    server.Close();
    EXPECT_FALSE(run.get());
  }
}

TEST(Server, StartsAnewAfterCloseAndWait) {
  const Server server(any_port, echo);
  for (int round = 0; round < 200; ++round) {
    server.Listen();
    server.Start();
    const Conn client = NewConn(server.GetListenedAddress());
    EXPECT_TRUE(answers(client));
    client.Close();
    if (round % 2 == 0) {
      EXPECT_TRUE(server.CloseAndWait(ceiling));
    } else {
      EXPECT_TRUE(server.Shutdown(ceiling).Complete);
    }
  }
}

TEST(Server, RunsOnlyOnceAtATime) {
  const Server server(any_port, echo);
  server.Start();
  const std::error_code started = asio::error::already_started;
  EXPECT_EQ(text_of_error(started, [&] { server.Run(); }),
            "Server::Run: the server is running already: " + started.message());
  EXPECT_EQ(text_of_error(started, [&] { server.Start(); }),
            "Server::Start: the server is running already: " + started.message());
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
}

TEST(Server, ThatWasClosedHasNothingToRun) {
  for (int i = 0; i < 20; ++i) {
    const Server server(any_port, echo);
    server.Start();
    server.Close();  // its run may be ending still
    server.Run();
    std::error_code error;
    server.Start(error);
    EXPECT_EQ(error, Errc::Closed);
  }
}

TEST(Server, RefusesToBlockAnIoThread) {
  const Server server(any_port, echo);
  std::promise<std::pair<std::error_code, std::error_code>> errors;
  asio::post(gtcp::Runtime::Default().get_executor(), [&] {
    std::pair<std::error_code, std::error_code> result;
    server.Run(result.first);
    server.CloseAndWait(ceiling, result.second);
    errors.set_value(result);
  });
  auto future = errors.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), std::pair(make_error_code(Errc::WouldDeadlock), make_error_code(Errc::WouldDeadlock)));
}

TEST(Server, RefusesToWaitForItselfInAHandler) {
  std::atomic<const Server*> self{nullptr};
  std::promise<std::pair<std::error_code, std::error_code>> errors;
  running_server server(kind::thread,
                        [&](Conn) {
                          std::pair<std::error_code, std::error_code> result;
                          self.load()->Run(result.first);
                          self.load()->CloseAndWait(ceiling, result.second);
                          errors.set_value(result);
                        },
                        {});
  self = &*server;
  const Conn client = server.connect();
  auto future = errors.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), std::pair(make_error_code(Errc::WouldDeadlock), make_error_code(Errc::WouldDeadlock)));
  EXPECT_TRUE(server.ends());
}

// A connection that has to be handed over to another thread costs a wake-up.
TEST(Server, AcceptsOnAnIoThreadWhatIsServedOnOne) {
  for (const serving which : all_kinds) {
    std::promise<bool> accepted_on_io_thread;
    ServerOption option;
    option.Log = [&](gtcp::LogLevel, std::string_view message, std::uint64_t) {
      if (message.starts_with("connection from")) accepted_on_io_thread.set_value(gtcp::detail::on_runtime_thread());
    };
    const Server server(any_port, nullptr, option);
    if (which == serving::thread) server.SetHandler(echo);
    if (which == serving::coroutine) server.SetHandler(async_echo);
    if (which == serving::pkg_handler)
      server.SetPkgHandler([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
    server.Start();
    EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
    EXPECT_EQ(accepted_on_io_thread.get_future().get(), which != serving::thread) << name_of(which);
    EXPECT_TRUE(server.CloseAndWait(ceiling));
  }
}

#if defined(__linux__)
// The thread may end while it waits for a connection, and while it asks for one.
TEST(Server, OutlivesTheCancelledThreadOfItsRun) {
#if GTCP_TESTS_TSAN
  GTEST_SKIP() << "TSan takes no notice of the locks of a thread that is cancelled inside of one of its interceptors";
#endif
  const Server server(any_port, echo);
  server.Listen();
  Conn before;
  for (int i = 0; i < 100; ++i) {
    std::thread run([&] { server.Run(); });
    const Conn client = NewConn(server.GetListenedAddress());
    EXPECT_TRUE(answers(client));
    ::pthread_cancel(run.native_handle());
    run.join();
    EXPECT_TRUE(answers(client));
    before = client;
  }
  server.Start();
  EXPECT_TRUE(answers(before));
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  EXPECT_TRUE(server.CloseAndWait(ceiling));
}
#endif

TEST(Server, OpensAnewWhileItsHandlersEnd) {
  std::atomic<bool> may_end{false};
  const Server server(any_port, [&](const Conn& conn) {
    std::error_code error;
    while (!error) conn.SendPkg(conn.RecvPkg(error));
    EXPECT_TRUE(poll_until([&] { return may_end.load(); }));
  });
  server.Listen();
  server.Start();
  const Conn first = NewConn(server.GetListenedAddress());
  ASSERT_TRUE(answers(first));
  server.Close();
  server.Listen();
  gtcp_test::background starting([&] {
    std::error_code error;
    server.Start(error);
    return error;
  });
  starting.wait_until_waiting();
  may_end = true;
  EXPECT_FALSE(starting.get());
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  for (int i = 0; i < 100; ++i) {
    server.Close();
    server.Listen();
    server.Start();
  }
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  EXPECT_TRUE(server.CloseAndWait(ceiling));
}

// ---- Destroying

TEST(Server, ClosesWithItsLastHandle) {
  Conn client;
  std::string address;
  {
    const Server server(any_port, echo);
    Server copy = server;
    EXPECT_EQ(copy, server);
    server.Start();
    address = server.GetListenedAddress();
    client = NewConn(address);
    ASSERT_TRUE(answers(client));
  }
  EXPECT_TRUE(refuses_connections(address));
  EXPECT_TRUE(has_ended(client));
}

TEST(Server, WaitsForItsHandlersWhenDestroyed) {
  for (const bool coroutine : {false, true}) {
    std::atomic<int> ended{0};
    {
      struct count_at_end {
        std::atomic<int>& count;
        ~count_at_end() {
          for (int i = 0; i < 10; ++i) std::this_thread::yield();
          ++count;
        }
      };
      const Server server(any_port, nullptr);
      if (coroutine) {
        server.SetHandler([&](Conn conn) -> asio::awaitable<void> {
          const count_at_end at_end{ended};
          co_await async_echo(conn);
        });
      } else {
        server.SetHandler([&](Conn conn) {
          const count_at_end at_end{ended};
          echo(conn);
        });
      }
      server.Start();
      std::vector<Conn> clients;
      for (int i = 0; i < 5; ++i) clients.push_back(NewConn(server.GetListenedAddress()));
      for (const Conn& client : clients) ASSERT_TRUE(answers(client));
    }
    EXPECT_EQ(ended, 5);
  }
}

TEST(Server, CanBeDestroyedInItsHandler) {
  for (const bool coroutine : {false, true}) {
    std::optional<Server> server;
    std::promise<void> destroyed;
    const auto destroy = [&] {
      server.reset();
      destroyed.set_value();
    };
    if (coroutine) {
      server.emplace(any_port, [&](Conn) -> asio::awaitable<void> {
        destroy();
        co_return;
      });
    } else {
      server.emplace(any_port, [&](Conn) { destroy(); });
    }
    server->Start();
    const Conn client = NewConn(server->GetListenedAddress());
    auto future = destroyed.get_future();
    ASSERT_TRUE(comes(future));
    EXPECT_TRUE(has_ended(client));
  }
}

TEST(Server, CanBeOwnedByItsHandler) {
  std::weak_ptr<int> alive;
  {
    auto part = std::make_shared<int>(1);
    alive = part;
    const Server server(any_port, nullptr);
    server.SetHandler([server, part](Conn conn) {
      echo(conn);
      server.Close();
    });
    server.Start();
    const Conn client = NewConn(server.GetListenedAddress());
    ASSERT_TRUE(answers(client));
    server.SetHandler(nullptr);
    // The handler that runs now owns the last handle but ours.
  }
  EXPECT_TRUE(poll_until([&] { return alive.expired(); }));
}

TEST(Server, KeepsServingWhileACopyLives) {
  std::optional<Server> first(std::in_place, any_port, echo);
  first->Start();
  const Server second = *first;
  first.reset();
  EXPECT_TRUE(answers(NewConn(second.GetListenedAddress())));
}

// ---- CloseAndWait

TEST(Server, CloseAndWaitDeliversWhatWasSent) {
  const std::string block = pattern(60'000);
  constexpr int packages = 4;
  for (const bool coroutine : {false, true}) {
    std::latch sent(1);
    const auto send = [&](Conn conn) {
      conn.SendPkgs(std::vector<std::string>(packages, block));
      sent.count_down();
    };
    const Server server(any_port, nullptr);
    if (coroutine)
      server.SetHandler(awaited(send));
    else
      server.SetHandler(send);
    server.Start();
    const Conn client = NewConn(server.GetListenedAddress(), {.RecvBufferSize = 4096});
    sent.wait();
    background read([&] {
      int whole = 0;
      std::error_code error;
      while (client.RecvPkg(error) == block && !error) ++whole;
      return whole;
    });
    EXPECT_TRUE(server.CloseAndWait(ceiling));
    EXPECT_EQ(read.get(), packages);
    EXPECT_TRUE(server.CloseAndWait(ceiling)) << "again";
  }
}

TEST(Server, IsNotKeptByAConnectionThatHasEndedAndWhoseHandleIsKept) {
  for (const bool shuts_down : {false, true}) {
    Conn kept;
    const Server server(any_port, [&](const Conn& conn) {
      kept = conn;
      for (;;) conn.SendPkg(pattern(15'000));
    });
    server.Start();
    const Conn client = NewConn(server.GetListenedAddress());
    ASSERT_TRUE(poll_until([&] { return server.Stats().Conns.BytesOut > 1'000'000; }));
    client.Abort();
    ASSERT_TRUE(poll_until([&] { return server.Stats().Active == 0; }));
    ASSERT_TRUE(poll_until([&] { return gtcp::detail::conn_access::state(kept)->has_ended(); }));
    if (shuts_down) {
      const gtcp::ShutdownResult result = server.Shutdown(ceiling);
      EXPECT_TRUE(result.Complete);
      EXPECT_EQ(result.Drained + result.Cut, 0u);
    }
    EXPECT_TRUE(server.CloseAndWait(ceiling)) << shuts_down;
  }
}

TEST(Server, CloseAndWaitSaysWhenAPeerDoesNotRead) {
  const std::string block(60'000, 'x');
  std::latch full(1);
  const Server server(any_port,
                      [&](Conn conn) {
                        while (conn.TrySendPkg(block)) {
                        }
                        full.count_down();
                        conn.RecvPkg();
                      },
                      {.Conn = {.SendBufferSize = 4096, .Linger = std::chrono::milliseconds(1)}});
  server.Start();
  const Conn client = NewConn(server.GetListenedAddress(), {.RecvBufferSize = 4096});
  full.wait();
  EXPECT_FALSE(server.CloseAndWait(ceiling));
}

TEST(Server, CloseAndWaitTimesOutWhileAHandlerRuns) {
  std::latch entered(1);
  std::promise<void> go;
  const std::shared_future<void> gone = go.get_future().share();
  const Server server(any_port, [&](Conn) {
    entered.count_down();
    gone.wait();
  });
  server.Start();
  const Conn client = NewConn(server.GetListenedAddress());
  entered.wait();
  EXPECT_NE(text_of_error(Errc::Timeout, [&] { server.CloseAndWait(std::chrono::milliseconds(1)); })
                .find("Server::CloseAndWait"),
            std::string::npos);
  go.set_value();
  EXPECT_TRUE(server.CloseAndWait(ceiling));
}

// ---- Addresses

TEST(Server, ServesUnixSockets) {
  const socket_path path;
  const Server server("unix:" + path.str(), echo);
  server.Start();
  EXPECT_EQ(server.GetListenedPort(), -1);
  EXPECT_EQ(server.GetListenedAddress(), "unix:" + path.str());
  EXPECT_TRUE(answers(NewConn("unix:" + path.str())));
  EXPECT_TRUE(std::filesystem::is_socket(path.str()));
  server.Close();
  EXPECT_FALSE(std::filesystem::exists(path.str()));
}

TEST(Server, ReplacesAStaleUnixSocket) {
  const socket_path path;
  {
    asio::io_context context;
    asio::local::stream_protocol::acceptor gone(context, path.str());
  }
  ASSERT_TRUE(std::filesystem::is_socket(path.str()));
  const Server server("unix:" + path.str(), echo);
  server.Start();
  EXPECT_TRUE(answers(NewConn("unix:" + path.str())));
}

TEST(Server, LeavesAUnixSocketToItsListener) {
  const socket_path path;
  const Server first("unix:" + path.str(), echo);
  first.Start();
  const Server second("unix:" + path.str(), echo);
  const std::string text = text_of_error(asio::error::address_in_use, [&] { second.Listen(); });
  EXPECT_NE(text.find("\"unix:" + path.str() + "\""), std::string::npos) << text;
  second.Close();
  EXPECT_TRUE(answers(NewConn("unix:" + path.str())));
}

TEST(Server, LeavesAUnixSocketToTheFirstOfThoseThatBeginAtOnce) {
  for (int round = 0; round < 300; ++round) {
    const socket_path path;
    if (round % 2 != 0) asio::local::stream_protocol::acceptor(raw_context(), path.str());  // leaves a stale one
    const Server one("unix:" + path.str(), echo);
    const Server other("unix:" + path.str(), echo);
    std::latch both(2);
    const auto start = [&](const Server& server) {
      std::error_code error;
      both.arrive_and_wait();
      server.Start(error);
      return error;
    };
    background starting([&] { return start(other); });
    const std::error_code error = start(one);
    const std::error_code others = starting.get();
    ASSERT_NE(!error, !others) << error.message() << ", " << others.message();
    ASSERT_EQ(error ? error : others, asio::error::address_in_use);
    ASSERT_TRUE(answers(NewConn("unix:" + path.str())));
  }
}

TEST(Server, LeavesAFileThatIsNoSocket) {
  const socket_path path;
  std::ofstream(path.str()) << "precious";
  EXPECT_NE(text_of_error(asio::error::address_in_use, [&] { Server("unix:" + path.str(), echo).Listen(); }),
            "no error");
  std::string content;
  std::ifstream(path.str()) >> content;
  EXPECT_EQ(content, "precious");
}

TEST(Server, LeavesAUnixSocketThatHasTakenThePlaceOfItsOwn) {
  const socket_path path;
  const Server first("unix:" + path.str(), echo);
  first.Listen();
  std::filesystem::remove(path.str());
  const Server second("unix:" + path.str(), echo);
  second.Start();
  first.Close();
  EXPECT_TRUE(std::filesystem::exists(path.str()));
  EXPECT_TRUE(answers(NewConn("unix:" + path.str())));
}

TEST(Server, ServesIpv6) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  const Server server("[::1]:0", echo);
  server.Start();
  EXPECT_EQ(server.GetListenedAddress(), "[::1]:" + std::to_string(server.GetListenedPort()));
  EXPECT_TRUE(answers(NewConn(server.GetListenedAddress())));
  EXPECT_TRUE(refuses_connections("127.0.0.1:" + std::to_string(server.GetListenedPort())));
}

TEST(Server, ServesBothFamiliesWhereNoHostIsGiven) {
  std::promise<std::string> seen;
  const Server server(gtcp::FreePortAddress, [&](Conn conn) {
    seen.set_value(conn.RemoteAddr());
    echo(conn);
  });
  server.Start();
  const std::string port = std::to_string(server.GetListenedPort());
  EXPECT_EQ(server.GetListenedAddress(), ":" + port);
  {
    const Conn client = NewConn("127.0.0.1:" + port);
    EXPECT_TRUE(answers(client));
    EXPECT_EQ(seen.get_future().get(), client.LocalAddr()) << "an IPv4 address is shown as one";
  }
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  seen = {};
  EXPECT_TRUE(answers(NewConn("[::1]:" + port)));
}

TEST(Server, LeavesIpv4OutWhereV6Only) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  const Server server(":0", echo, {.V6Only = true});
  server.Start();
  const std::string port = std::to_string(server.GetListenedPort());
  EXPECT_TRUE(refuses_connections("127.0.0.1:" + port));
  EXPECT_TRUE(answers(NewConn("[::1]:" + port)));
}

TEST(Server, ListensAgainWhileOldConnectionsEnd) {
  std::string address;
  {
    const Server first(any_port, [](Conn) {});  // closes first, so that its side is in TIME_WAIT
    first.Start();
    address = first.GetListenedAddress();
    EXPECT_TRUE(has_ended(NewConn(address)));
  }
  const Server second(address, echo);
  second.Start();
  EXPECT_TRUE(answers(NewConn(address)));
}

TEST(Server, GivesItsConnectionsTheOptions) {
  const Server server(
      any_port, [](Conn conn) { conn.SendPkg((conn.NoDelay() ? "on " : "off ") + std::to_string(conn.KeepAlive())); },
      {.Conn = {.NoDelay = false, .KeepAlive = false, .Pkg = {.HeaderSize = 4}}});
  server.Start();
  EXPECT_EQ(NewConn(server.GetListenedAddress()).RecvPkg({.HeaderSize = 4}), "off 0");
}

#if defined(__linux__)
gtcp::detail::tcp_settings tcp_settings_of(gtcp::detail::native_socket descriptor) {
  gtcp::detail::tcp_settings settings{};
  for (std::size_t i = 0; i < settings.size(); ++i)
    EXPECT_FALSE(gtcp::detail::get_option(descriptor, gtcp::detail::tcp_options[i], settings[i]));
  return settings;
}

// The first ones come from the listener, and stay there.
TEST(Server, GivesConnectionsTheOptionsOfTheirTime) {
  using gtcp::detail::tcp_settings;
  std::promise<tcp_settings> seen;
  const Server server(any_port, [&](const Conn& conn) { seen.set_value(tcp_settings_of(conn.GetNativeHandle())); });
  const auto next = [&] {
    seen = std::promise<tcp_settings>();
    const Conn conn = NewConn(server.GetListenedAddress());
    return seen.get_future().get();
  };
  std::error_code error;
  const gtcp::detail::descriptor_guard untouched(gtcp::detail::open_socket(AF_INET, error));
  ASSERT_FALSE(error);
  const tcp_settings system = tcp_settings_of(untouched.get());
  server.Start();
  const tcp_settings standard{1, 1, 15, 15, 9};
  EXPECT_EQ(next(), standard);
  server.SetOption({.Conn = {.KeepAliveIdle = std::chrono::seconds(70),
                             .KeepAliveInterval = std::chrono::seconds(0),
                             .KeepAliveCount = 9}});
  EXPECT_EQ(next(), (tcp_settings{1, 1, 70, system[3], 9}));
  server.SetOption({.Conn = {.NoDelay = false}});
  EXPECT_EQ(next(), (tcp_settings{0, 1, 15, 15, 9}));
  server.SetOption({.Conn = {.KeepAlive = false}});
  EXPECT_EQ(next(), (tcp_settings{1, 0, system[2], system[3], system[4]}));
  server.SetOption({});
  EXPECT_EQ(next(), standard);
  EXPECT_TRUE(server.CloseAndWait(ceiling));
}
#endif

// ---- Names

/// A name that no test has used, for tests that are repeated.
TEST(NewServer, RegistersItsName) {
  const std::string name = fresh_name();
  const Server server = gtcp::NewServer(any_port, echo, name);
  EXPECT_EQ(gtcp::GetServer(name), server);
  const Server other = gtcp::NewServer(any_port, echo, name);
  EXPECT_EQ(gtcp::GetServer(name), other);
  EXPECT_NE(gtcp::NewServer(any_port, echo), other);
}

TEST(GetServer, MakesWhatIsMissing) {
  const std::string name = fresh_name();
  const Server server = gtcp::GetServer(name);
  EXPECT_EQ(server, gtcp::GetServer(name));
  EXPECT_NE(server, gtcp::GetServer());
  EXPECT_EQ(gtcp::GetServer(), gtcp::GetServer("default"));
  EXPECT_EQ(server.GetAddress(), "");
  server.SetAddress(any_port);
  server.SetHandler(echo);
  server.SetOption({.Backlog = 10});
  server.Start();
  EXPECT_TRUE(answers(NewConn(gtcp::GetServer(name).GetListenedAddress())));
  EXPECT_TRUE(server.CloseAndWait(ceiling));
}

}  // namespace
