// SPDX-License-Identifier: MIT

// An execution context that is destroyed takes along what waits in it, and nothing else: no handler is called, none
// stays, what was accepted is delivered, and who still has the connection goes on with it.

#include <gtcp/dial.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/running_server.hpp"

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using gtcp::Conn;
using gtcp::Errc;
using gtcp_test::ceiling;
using gtcp_test::comes;
using gtcp_test::conn_and_peer;
using gtcp_test::framed;
using gtcp_test::make_conn_and_peer;
using gtcp_test::make_narrow;
using gtcp_test::pattern;
using gtcp_test::poll_until;

/// What a handler owns, and leaves behind if it is neither called nor destroyed.
using witness = std::shared_ptr<int>;

/// A context of some kind, which runs until it is ended.
class context {
 public:
  virtual ~context() = default;
  virtual asio::any_io_executor executor() = 0;
};

class io_context final : public context {
 public:
  explicit io_context(bool on_strand) : on_strand_(on_strand), thread_([this] { io_.run(); }) {}
  ~io_context() override {
    io_.stop();
    thread_.join();
  }
  asio::any_io_executor executor() override {
    if (on_strand_) return asio::make_strand(io_);
    return io_.get_executor();
  }

 private:
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  const bool on_strand_;
  std::thread thread_;
};

class pool final : public context {
 public:
  ~pool() override {
    pool_.stop();
    pool_.join();
  }
  asio::any_io_executor executor() override { return pool_.get_executor(); }

 private:
  asio::thread_pool pool_{2};
};

class runtime final : public context {
 public:
  asio::any_io_executor executor() override { return runtime_.get_executor(); }

 private:
  gtcp::Runtime runtime_{1};
};

struct context_kind {
  std::string_view name;
  std::unique_ptr<context> (*make)();
};

struct operation {
  std::string_view name;
  bool fills = false;  ///< begins with an outbox without room
  void (*begin)(const Conn& conn, const witness& kept) = nullptr;
};

asio::awaitable<void> send_on([[maybe_unused]] Conn conn, std::size_t size, [[maybe_unused]] witness kept) {
  for (;;) co_await conn.AsyncSendPkg(std::string(size, 'x'));
}

asio::awaitable<void> flush(Conn conn, [[maybe_unused]] witness kept) { co_await conn.AsyncFlush(); }

asio::awaitable<void> receive(Conn conn, [[maybe_unused]] witness kept) { co_await conn.AsyncRecvPkg(); }

template <class Coroutine>
void spawn(const Conn& conn, Coroutine&& coroutine) {
  asio::co_spawn(conn.get_executor(), std::forward<Coroutine>(coroutine), asio::detached);
}

const std::vector<operation> operations = {
    {"Receive", false, [](const Conn& conn, const witness& kept) { spawn(conn, receive(conn, kept)); }},
    {"SecondReceive", false,
     [](const Conn& conn, const witness& kept) {
       for (int i = 0; i < 3; ++i) conn.AsyncRecvPkg([conn, kept](std::error_code, const std::string&) { FAIL(); });
     }},
    {"Send", true, [](const Conn& conn, const witness& kept) { spawn(conn, send_on(conn, 1000, kept)); }},
    {"LargeSend", true, [](const Conn& conn, const witness& kept) { spawn(conn, send_on(conn, 60'000, kept)); }},
    {"PartlySent", false, [](const Conn& conn, const witness& kept) { spawn(conn, send_on(conn, 60'000, kept)); }},
    {"SendByCallback", true,
     [](const Conn& conn, const witness& kept) {
       conn.AsyncSendPkgWithTimeout(std::string(5000, 'y'), ceiling, [conn, kept](std::error_code) { FAIL(); });
     }},
    {"Flush", true, [](const Conn& conn, const witness& kept) { spawn(conn, flush(conn, kept)); }},
    {"PkgHandler", true,
     [](const Conn& conn, const witness& kept) {
       conn.SetPkgHandler([conn, kept](Conn& from, std::string_view pkg) { from.SendPkg(pkg); },
                          [kept](Conn&, std::error_code) { FAIL(); });
     }},
    {"Close", true,
     [](const Conn& conn, const witness& kept) { conn.AsyncClose([conn, kept](std::error_code, bool) { FAIL(); }); }},
};

class ContextEnd : public testing::TestWithParam<std::tuple<context_kind, operation>> {};

TEST_P(ContextEnd, DestroysWhatWaitsAndDeliversWhatWasAccepted) {
  const auto& [kind, what] = GetParam();
  std::unique_ptr<context> own = kind.make();
  conn_and_peer ends = make_narrow({.Executor = own->executor()});
  std::size_t accepted = 0;
  if (what.fills) {
    while (ends.conn.TrySendPkg(pattern(2000))) ++accepted;
  }
  witness kept = std::make_shared<int>();
  const std::weak_ptr<int> left = kept;
  what.begin(ends.conn, std::exchange(kept, nullptr));
  if (what.name == "PkgHandler") {
    // So many that their answers are over the limit, and it pauses, whatever the system still takes.
    for (int i = 0; i < 30; ++i) ends.peer.write(framed(pattern(3000)));
    ASSERT_TRUE(poll_until([&] { return ends.conn.Stats().PkgsIn != 0; }));
  }
  asio::post(own->executor(), asio::use_future).get();  // behind what has begun
  ASSERT_FALSE(left.expired());
  ends.conn = {};  // the handler's own is the last one
  own.reset();
  EXPECT_TRUE(left.expired()) << "a handler was neither called nor destroyed";
  const std::string all = ends.peer.read_to_end();
  std::string_view rest = all;
  const std::string pkg = framed(pattern(2000));
  for (std::size_t i = 0; i < accepted; ++i) {
    ASSERT_EQ(rest.substr(0, pkg.size()), pkg) << i;
    rest.remove_prefix(pkg.size());
  }
  while (!rest.empty()) {  // of what was under way, whole packages
    ASSERT_GE(rest.size(), 2u);
    const std::size_t size = 2 + static_cast<unsigned char>(rest[0]) * 256u + static_cast<unsigned char>(rest[1]);
    ASSERT_GE(rest.size(), size);
    rest.remove_prefix(size);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Contexts, ContextEnd,
    testing::Combine(
        testing::Values(
            context_kind{"IoContext", []() -> std::unique_ptr<context> { return std::make_unique<io_context>(false); }},
            context_kind{"Strand", []() -> std::unique_ptr<context> { return std::make_unique<io_context>(true); }},
            context_kind{"ThreadPool", []() -> std::unique_ptr<context> { return std::make_unique<pool>(); }},
            context_kind{"Runtime", []() -> std::unique_ptr<context> { return std::make_unique<runtime>(); }}),
        testing::ValuesIn(operations)),
    [](const auto& test) {
      return std::string(std::get<0>(test.param).name) + std::string(std::get<1>(test.param).name);
    });

TEST(ContextEnd, LeavesTheConnectionToWhoHasIt) {
  for (const bool waits : {false, true}) {
    auto own = std::make_unique<io_context>(false);
    auto [conn, peer] = make_conn_and_peer({.Executor = own->executor()});
    std::future<std::string> first = conn.AsyncRecvPkg(asio::use_future);
    peer.write(framed("first"));
    ASSERT_TRUE(comes(first));
    EXPECT_EQ(first.get(), "first");
    auto kept = std::make_shared<int>();
    if (waits) conn.AsyncRecvPkg([kept](std::error_code, const std::string&) { FAIL(); });
    own.reset();
    EXPECT_EQ(kept.use_count(), 1);

    std::future<std::string> second = conn.AsyncRecvPkg(asio::use_future);  // in the default Runtime now
    peer.write(framed("second") + framed("third"));
    ASSERT_TRUE(comes(second));
    EXPECT_EQ(second.get(), "second");
    EXPECT_EQ(conn.RecvPkgWithTimeout(ceiling), "third");
    conn.SendPkg("answer");
    EXPECT_EQ(peer.read_pkg(), "answer");
    EXPECT_TRUE(conn.CloseAndWait(ceiling));
    EXPECT_EQ(peer.read_to_end(), "");
  }
}

// What closes waits elsewhere, for input that nobody wants any more, and for room.
TEST(ContextEnd, AfterCloseKeepsNothingFromThePeer) {
  auto own = std::make_unique<asio::io_context>();
  auto [conn, peer] = make_conn_and_peer({.OutboxLimit = 16 << 20, .Executor = own->get_executor()});
  const std::string pkg = pattern(10'000);
  std::string all;
  for (int i = 0; i < 1'000; ++i) {
    conn.SendPkg(pkg);
    all += framed(pkg);
  }
  conn.Close();
  own.reset();
  peer.write(std::string(24 << 20, 'x'));
  EXPECT_TRUE(peer.read_to_end() == all);
}

TEST(ContextEnd, LetsGoOfWhatWasHeldBackForItsTurn) {
  auto own = std::make_unique<asio::io_context>();
  auto [conn, peer] = make_conn_and_peer({.Executor = own->get_executor()});
  peer.write(framed("one") + framed("two"));
  const auto answer = [](Conn served, asio::io_context& io) -> asio::awaitable<void> {
    const std::string pkg = co_await served.AsyncRecvPkg();
    co_await served.AsyncSendPkg(pkg);  // there is more to take, so it is held back until the context has nothing to do
    io.stop();
  };
  asio::co_spawn(*own, answer(conn, *own), asio::detached);
  own->run();
  own.reset();
  EXPECT_EQ(peer.read_pkg(), "one");
  EXPECT_EQ(conn.RecvPkgWithTimeout(ceiling), "two");
}

TEST(ContextEnd, DoesNotKeepALimitFromStriking) {
  gtcp::Conn client;
  std::weak_ptr<int> left;
  {
    io_context own(false);
    gtcp::ServerOption option{.Conn = {.SendBufferSize = 4096, .Executor = own.executor()}};
    option.SendStallTimeout = 100ms;
    auto kept = std::make_shared<int>();
    left = kept;
    const gtcp::Server server(
        gtcp_test::any_port,
        [kept](Conn conn) -> asio::awaitable<void> {  // NOLINT: the server keeps what it captures
          conn.Detach();
          co_await send_on(conn, 1000, kept);
        },
        option);
    kept = nullptr;
    server.Start();
    client = gtcp::NewConn(server.GetListenedAddress(), {.RecvBufferSize = 4096});
    client.SetPkgHandler([](Conn&, std::string_view) {}, [](Conn&, std::error_code) {});
  }
  EXPECT_TRUE(poll_until([&] { return left.expired() && client.IsClosed(); }));
}

}  // namespace
