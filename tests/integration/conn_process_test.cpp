// SPDX-License-Identifier: MIT

// Connections and processes: what a process leaves behind when it ends, and what a child does to its parent's.

#include <gtcp/conn.hpp>
#include <gtcp/detail/conn_ledger.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/exit_drain.hpp>
#include <gtcp/detail/server_state.hpp>
#include <gtcp/dial.hpp>
#include <gtcp/runtime.hpp>
#include <gtcp/server.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <asio/any_io_executor.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_future.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

// A child leaves alone what belongs to threads of its parent, which the leak checker would call leaks.
static bool is_child = false;
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return is_child ? 1 : 0; }

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;

// TSan ends a child of a process with threads that starts one itself. In a child of ASan's, a lock of its allocator
// that a thread of the parent held is never free again.
constexpr bool children_have_threads = GTCP_TESTS_TSAN == 0;
constexpr bool parents_have_threads = GTCP_TESTS_SANITIZED == 0;

#define SKIP_WHERE_CHILDREN_HAVE_NO_THREADS() \
  if constexpr (!children_have_threads) GTEST_SKIP() << "the thread sanitizer knows no threads in children"
#define SKIP_WHERE_PARENTS_HAVE_NO_THREADS() \
  if constexpr (!parents_have_threads) GTEST_SKIP() << "sanitizers know no fork beside threads"

/// A child process that runs a function and ends as from main.
class child_process {
 public:
  template <class Function>
  explicit child_process(Function function) {
    id_ = ::fork();
    if (id_ != 0) return;
    is_child = true;
    ::alarm(static_cast<unsigned>(ceiling.count()));  // one that hangs is ended by the system
    int code = 0;
    try {
      code = function();
    } catch (...) {
      code = 99;
    }
    std::exit(code);
  }

  /// Its exit code, or what ended it, negative.
  int wait() {
    int status = 0;
    if (::waitpid(id_, &status, 0) != id_) return -1000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  ::pid_t id_ = 0;
};

/// A connection's sockets that nobody has made a Conn of yet, with small buffers between them.
struct narrow_sockets {
  narrow_sockets() {
    auto [first, second] = connected_sockets(net::tcp, {.peer_recv = 4096});
    first.set_option(asio::socket_base::send_buffer_size(4096));
    own = first.release();
    peer = std::make_unique<raw_peer>(std::move(second));
  }
  gtcp::detail::native_socket own;
  std::unique_ptr<raw_peer> peer;
};

enum class leave { close, drop, keep };

/// What the child does: sends more than the system takes, and ends.
int send_and_end(narrow_sockets& sockets, leave how) {
  sockets.peer->close();  // the parent's
  auto conn = std::make_unique<Conn>(gtcp::NewConnByNetConn(sockets.own));
  const bool sent = conn->TrySendPkg(pattern(60'000));
  conn->SendPkg("bye");
  if (how == leave::close) conn->Close();
  if (how == leave::keep) conn.release();  // as a global that is never destroyed
  return sent ? 0 : 1;
}

TEST(ProcessEnd, DeliversWhatWasAccepted) {
  SKIP_WHERE_CHILDREN_HAVE_NO_THREADS();
  for (const leave how : {leave::close, leave::drop, leave::keep}) {
    narrow_sockets sockets;
    child_process child([&] { return send_and_end(sockets, how); });
    gtcp::detail::close_socket(sockets.own, false);
    EXPECT_TRUE(sockets.peer->read_to_end() == framed(pattern(60'000)) + framed("bye")) << static_cast<int>(how);
    sockets.peer->close();
    EXPECT_EQ(child.wait(), 0);
  }
}

TEST(ProcessEnd, DeliversThoughTheParentHadConnectionsOfItsOwn) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  // The parent's io threads are not the child's.
  auto [mine, other] = make_narrow();
  ASSERT_TRUE(mine.TrySendPkg(pattern(60'000)));
  std::future<std::string> waiting = mine.AsyncRecvPkg(asio::use_future);
  for (const leave how : {leave::close, leave::drop, leave::keep}) {
    narrow_sockets sockets;
    child_process child([&] { return send_and_end(sockets, how); });
    gtcp::detail::close_socket(sockets.own, false);
    EXPECT_TRUE(sockets.peer->read_to_end() == framed(pattern(60'000)) + framed("bye")) << static_cast<int>(how);
    sockets.peer->close();
    EXPECT_EQ(child.wait(), 0);
  }
  EXPECT_TRUE(other.read_pkg() == pattern(60'000));
  other.write(framed("hello"));
  ASSERT_TRUE(comes(waiting));
  EXPECT_EQ(waiting.get(), "hello");
}

TEST(ProcessEnd, DeliversHoweverLongTheLingerTime) {
  SKIP_WHERE_CHILDREN_HAVE_NO_THREADS();
  for (const bool closes : {false, true}) {
    narrow_sockets sockets;
    child_process child([&] {
      sockets.peer->close();
      const Conn conn = gtcp::NewConnByNetConn(sockets.own, {}, {.Linger = std::chrono::milliseconds::max()});
      const bool sent = conn.TrySendPkg(pattern(60'000));
      if (closes) conn.Close();
      return sent ? 7 : 1;
    });
    gtcp::detail::close_socket(sockets.own, false);
    EXPECT_TRUE(sockets.peer->read_to_end() == framed(pattern(60'000))) << closes;
    sockets.peer->close();
    EXPECT_EQ(child.wait(), 7);
  }
}

TEST(ProcessEnd, WaitsNoLongerThanTheLingerTime) {
  SKIP_WHERE_CHILDREN_HAVE_NO_THREADS();
  narrow_sockets sockets;
  child_process child([&] {
    sockets.peer->close();
    const Conn conn = gtcp::NewConnByNetConn(sockets.own, {}, {.Linger = 50ms});
    return conn.TrySendPkg(pattern(60'000)) ? 7 : 1;
  });
  gtcp::detail::close_socket(sockets.own, false);
  EXPECT_EQ(child.wait(), 7) << "nobody reads, and still it ends";
}

TEST(ProcessEnd, CountsTheLingerTimeFromClose) {
  SKIP_WHERE_CHILDREN_HAVE_NO_THREADS();
  narrow_sockets sockets;
  child_process child([&] {
    sockets.peer->close();
    const Conn conn = gtcp::NewConnByNetConn(sockets.own, {}, {.Linger = 1ms});
    const bool sent = conn.TrySendPkg(pattern(60'000));
    std::this_thread::sleep_for(5ms);  // what waits in the outbox does so for longer than the linger time
    conn.SetLinger(1min);
    conn.Close();
    return sent ? 7 : 1;
  });
  gtcp::detail::close_socket(sockets.own, false);
  std::this_thread::sleep_for(100ms);  // the child is at its end
  EXPECT_TRUE(sockets.peer->read_to_end() == framed(pattern(60'000)));
  sockets.peer->close();
  EXPECT_EQ(child.wait(), 7);
}

TEST(ProcessEnd, IsNotPutOffByWhatIsSentMeanwhile) {
  SKIP_WHERE_CHILDREN_HAVE_NO_THREADS();
  child_process child([] {
    static auto& undelivered = *new gtcp::detail::exit_hold;
    undelivered.acquire(gtcp::detail::deadline_after(50ms));
    std::thread([] {
      for (gtcp::detail::exit_hold another;;) {
        another.acquire(gtcp::detail::deadline_after(50ms));
        another.release();
      }
    }).detach();
    return 7;
  });
  EXPECT_EQ(child.wait(), 7);
}

enum class child_does { nothing, close, drop, abort };

TEST(Fork, LeavesTheParentsConnectionsAlone) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  for (const child_does what : {child_does::nothing, child_does::close, child_does::drop, child_does::abort}) {
    auto [conn, peer] = make_narrow();
    auto [idle, idle_peer] = make_conn_and_peer();
    // One with a receive that waits and an outbox that is not empty, and one that an io thread has waited for before.
    ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
    std::future<std::string> waiting = conn.AsyncRecvPkg(asio::use_future);
    std::future<std::string> once = idle.AsyncRecvPkg(asio::use_future);
    idle_peer.write(framed("once"));
    ASSERT_TRUE(comes(once));
    EXPECT_EQ(once.get(), "once");
    child_process child([&, &first = conn, &second = idle] {
      for (Conn* const one : {&first, &second}) {
        switch (what) {
          case child_does::nothing: break;
          case child_does::close: one->Close(); break;
          case child_does::drop: *one = Conn(); break;
          case child_does::abort: one->Abort(); break;
        }
      }
      return 5;
    });
    EXPECT_EQ(child.wait(), 5) << static_cast<int>(what);
    EXPECT_TRUE(peer.read_pkg() == pattern(60'000)) << static_cast<int>(what);
    peer.write(framed("hello"));
    ASSERT_TRUE(comes(waiting));
    EXPECT_EQ(waiting.get(), "hello");
    conn.SendPkg("still there");
    EXPECT_EQ(peer.read_pkg(), "still there");
    std::future<std::string> again = idle.AsyncRecvPkg(asio::use_future);
    idle_peer.write(framed("again"));
    ASSERT_TRUE(comes(again));
    EXPECT_EQ(again.get(), "again");
    idle.SendPkg("too");
    EXPECT_EQ(idle_peer.read_pkg(), "too");
  }
}

TEST(Fork, GivesTheChildIoThreadsOfItsOwn) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  auto [mine, other] = make_conn_and_peer();
  std::future<std::string> waiting = mine.AsyncRecvPkg(asio::use_future);  // the parent's io threads run
  auto [own, second] = connected_sockets(net::tcp);
  raw_peer peer(std::move(second));
  const auto descriptor = own.release();
  child_process child([&] {
    peer.close();
    const Conn conn = gtcp::NewConnByNetConn(descriptor);
    const std::string got = run(conn.AsyncRecvPkg());
    std::future<std::string> future = conn.AsyncRecvPkg(asio::use_future);
    if (!comes(future)) return 2;
    conn.SendPkg(got + future.get());
    return conn.CloseAndWait(ceiling) ? 0 : 3;
  });
  gtcp::detail::close_socket(descriptor, false);
  peer.write(framed("hello ") + framed("child"));
  EXPECT_EQ(peer.read_pkg(), "hello child");
  EXPECT_EQ(peer.read_to_end(), "");
  peer.close();
  EXPECT_EQ(child.wait(), 0);
  other.write(framed("parent"));
  ASSERT_TRUE(comes(waiting));
  EXPECT_EQ(waiting.get(), "parent");
}

TEST(Fork, LetsAChildRunAServerThatItsParentMade) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  for (const bool listens_before : {false, true}) {
    const gtcp::Server server("127.0.0.1:0", [](const Conn& conn) {
      for (;;) conn.SendPkg(conn.RecvPkg());
    });
    if (listens_before) server.Listen();
    child_process child([&] {
      for (int i = 0; i < 2; ++i) {
        server.Listen();
        server.Start();
        const Conn conn = gtcp::NewConn(server.GetListenedAddress());
        if (conn.SendRecvPkgWithTimeout("hello", ceiling) != "hello") return 2;
        if (!server.CloseAndWait(ceiling)) return 3;
        std::error_code error;
        conn.RecvPkgWithTimeout(ceiling, error);
        if (error != asio::error::eof) return 4;
      }
      return 0;
    });
    EXPECT_EQ(child.wait(), 0) << listens_before;
  }
}

TEST(Fork, LetsAChildCloseAServerWhoseParentStillDelivers) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  std::promise<void> is_sent;
  const gtcp::Server server("127.0.0.1:0",
                            [&](const Conn& conn) {
                              for (const std::string pkg = pattern(10'000); conn.TrySendPkg(pkg);) {
                              }
                              is_sent.set_value();
                            },
                            {.Conn = {.SendBufferSize = 4096}});
  server.Start();
  const Conn client = gtcp::NewConn(server.GetListenedAddress(), {.RecvBufferSize = 4096});
  auto sent = is_sent.get_future();
  ASSERT_TRUE(comes(sent));
  std::error_code error;
  EXPECT_FALSE(server.CloseAndWait(1ms, error)) << "it does deliver";
  child_process child([&] {
    server.Listen();
    server.Start();
    return server.CloseAndWait(ceiling) ? 0 : 3;
  });
  EXPECT_EQ(child.wait(), 0);
  client.Abort();
}

TEST(Fork, LetsAChildEndThatHasARuntimeOfItsParent) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  auto runtime = std::make_unique<gtcp::Runtime>(1);
  auto [conn, peer] = make_conn_and_peer({.Executor = runtime->get_executor()});
  std::future<std::string> waiting = conn.AsyncRecvPkg(asio::use_future);
  child_process child([&] {
    runtime.reset();  // its thread is not here
    return 5;
  });
  EXPECT_EQ(child.wait(), 5);
  peer.write(framed("hello"));
  ASSERT_TRUE(comes(waiting));
  EXPECT_EQ(waiting.get(), "hello");
}

/// A thread that is inside of what `hold` does, which calls the function that it is given, until this is destroyed.
class held_up {
 public:
  template <class Hold>
  explicit held_up(Hold hold) : thread_([this, hold] { hold([this] { wait(); }); }) {
    inside_.get_future().wait();
  }
  ~held_up() {
    over_.set_value();
    thread_.join();
  }

 private:
  void wait() {
    inside_.set_value();
    over_.get_future().wait();
  }

  std::promise<void> inside_;
  std::promise<void> over_;
  std::thread thread_;
};

/// A thread that does something again and again, until this is destroyed.
class busy {
 public:
  template <class Function>
  explicit busy(Function function)
      : thread_([function](const std::stop_token& stop) {
          while (!stop.stop_requested()) function();
        }) {}

 private:
  std::jthread thread_;
};

TEST(Fork, LetsAChildDropConnectionsThatAreJustBeingCounted) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  struct slow_entry final : gtcp::detail::ledger_entry {
    explicit slow_entry(std::function<void()> wait) : wait_(std::move(wait)) {}
    gtcp::ConnStats counted() const override {
      wait_();
      return {};
    }
    std::function<void()> wait_;
  };
  auto [conn, peer] = make_conn_and_peer();
  const auto ledger = std::make_shared<gtcp::detail::conn_ledger>();
  gtcp::detail::conn_access::state(conn)->serve(ledger, nullptr);
  {
    const held_up counting([&](const std::function<void()>& wait) {
      slow_entry entry(wait);
      ledger->add(entry);
      static_cast<void>(ledger->sum());
      entry.wait_ = [] {};
      ledger->remove(entry);
    });
    child_process child([&, &own = conn] {
      own = Conn();
      return 5;
    });
    EXPECT_EQ(child.wait(), 5);
  }
  conn.SendPkg("still there");
  EXPECT_EQ(peer.read_pkg(), "still there");
}

TEST(Fork, LetsAChildDropConnectionsWhileTheReactorIsBusy) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  gtcp::Runtime::Default().SetThreads(1);
  const asio::any_io_executor io = gtcp::Runtime::Default().get_executor();
  const busy timing([&] {
    asio::steady_timer timer(io);
    for (int i = 0; i < 100; ++i) {
      timer.expires_after(1h);
      timer.async_wait([](std::error_code) {});
    }
  });
  for (int i = 0; i < 20; ++i) {
    auto [conn, peer] = make_conn_and_peer();
    std::future<std::string> first = conn.AsyncRecvPkg(asio::use_future);
    peer.write(framed("one"));
    ASSERT_TRUE(comes(first));
    peer.write(framed("two") + framed("three"));
    EXPECT_EQ(conn.RecvPkg(), "two");
    conn.SendPkg("a reply");  // goes out with that to the other one, or when a timer is over
    EXPECT_EQ(peer.read_pkg(), "a reply");
    const std::weak_ptr<gtcp::detail::conn_state> state = gtcp::detail::conn_access::state(conn);
    ASSERT_TRUE(poll_until([&] { return state.use_count() == 1; }));
    child_process child([&own = conn] {
      own = Conn();
      return 5;
    });
    ASSERT_EQ(child.wait(), 5);
  }
  gtcp::Runtime::Default().SetThreads(0);
}

TEST(Fork, LetsAChildDropARuntimeThatIsBusy) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  auto runtime = std::make_unique<gtcp::Runtime>(1);
  const asio::any_io_executor io = runtime->get_executor();
  const busy posting([&] { asio::post(io, [] {}); });
  for (int i = 0; i < 20; ++i) {
    child_process child([&] {
      runtime.reset();
      return 5;
    });
    ASSERT_EQ(child.wait(), 5);
  }
}

TEST(Fork, LetsAChildDropAServerThatAnotherThreadHasLocked) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  gtcp::Server::Handler handler([](const Conn&) {});
  const auto server =
      std::make_shared<gtcp::detail::server_state>("127.0.0.1:0", std::move(handler), gtcp::ServerOption());
  std::string why;
  ASSERT_FALSE(server->listen(false, why)) << why;
  const held_up changing([&](const std::function<void()>& wait) {
    server->config().set_pkg_handlers([&](gtcp::detail::pkg_handlers&) { wait(); });
  });
  child_process child([&] {
    if (server->stats().Conns.BytesIn != 0) return 2;
    server->abandon();
    return 5;
  });
  EXPECT_EQ(child.wait(), 5);
}

TEST(Fork, LetsAChildRunAServerWhoseConnectionsArePartlyItsParents) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  std::promise<Conn> told;
  std::future<Conn> detached = told.get_future();
  std::atomic<bool> is_first{true};
  const gtcp::Server server("127.0.0.1:0", [&](Conn conn) {
    if (is_first.exchange(false)) {
      conn.Detach();
      return told.set_value(conn);
    }
    for (;;) conn.SendPkg(conn.RecvPkg());
  });
  server.Start();
  const Conn client = gtcp::NewConn(server.GetListenedAddress());
  ASSERT_TRUE(comes(detached));
  Conn kept = detached.get();
  client.SendPkg("to the parent");
  EXPECT_EQ(kept.RecvPkg(), "to the parent");
  ASSERT_TRUE(server.CloseAndWait(ceiling));
  child_process child([&] {
    kept = Conn();  // what it has counted is not there any more
    if (server.Stats().Conns.PkgsIn != 0) return 2;
    server.Listen();
    server.Start();
    if (gtcp::NewConn(server.GetListenedAddress()).SendRecvPkgWithTimeout("hello", ceiling) != "hello") return 3;
    if (!server.CloseAndWait(ceiling)) return 4;
    return server.Stats().Conns.PkgsIn == 1 ? 5 : 6;
  });
  EXPECT_EQ(child.wait(), 5);
  EXPECT_EQ(server.Stats().Conns.PkgsIn, 1u);
}

TEST(Fork, LetsAChildAskForServersByNameWhileOthersNameThem) {
  SKIP_WHERE_PARENTS_HAVE_NO_THREADS();
  const gtcp::Server server = gtcp::NewServer(
      "127.0.0.1:0", [](const Conn&) {}, "known to the child");
  const busy asking([] { static_cast<void>(gtcp::GetServer("known to the child")); });
  for (int i = 0; i < 20; ++i) {
    child_process child([&] { return gtcp::GetServer("known to the child") == server ? 5 : 2; });
    ASSERT_EQ(child.wait(), 5);
  }
}

TEST(Descriptors, AreNotInheritedByOtherPrograms) {
  auto [conn, peer] = make_conn_and_peer();
  EXPECT_NE(::fcntl(conn.GetNativeHandle(), F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace

#endif
