// SPDX-License-Identifier: MIT

#include <gtcp/detail/conn_pool.hpp>
#include <gtcp/msg.hpp>
#include <gtcp/pool_conn.hpp>
#include <gtcp/server.hpp>

#include "support/child_process.hpp"
#include "support/conn_pair.hpp"
#include "support/descriptors.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"

#include <gtest/gtest.h>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>

#include <any>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace std::chrono_literals;
using gtcp::Errc;
using gtcp::PoolConn;
using gtcp::PoolOption;
using gtcp_test::background;
using gtcp_test::comes;
using gtcp_test::form;
using gtcp_test::framed;
using gtcp_test::pattern;
using gtcp_test::poll_until;
using gtcp_test::raw_peer;
using gtcp_test::text_of_error;

namespace {

using tcp = asio::ip::tcp;

gtcp::detail::conn_pool& Pool() { return gtcp::detail::per_process<gtcp::detail::conn_pool>::instance(); }

/// Where connections go, and what comes out at the other end.
class Listener {
 public:
  explicit Listener(int backlog = 64) : acceptor_(gtcp_test::raw_context()) {
    acceptor_.open(tcp::v4());
    acceptor_.bind({asio::ip::address_v4::loopback(), 0});
    acceptor_.listen(backlog);
    acceptor_.non_blocking(true);
  }

  std::string Address() const { return "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
  tcp::endpoint Endpoint() const { return acceptor_.local_endpoint(); }

  raw_peer Accept() {
    std::optional<tcp::socket> accepted;
    poll_until([&] {
      accepted = TryAccept();
      return accepted.has_value();
    });
    return raw_peer{raw_peer::socket(std::move(accepted.value()))};
  }

  /// A connection that has come and that nobody accepted yet.
  bool HasAnother() { return TryAccept().has_value(); }

  void Close() { acceptor_.close(); }

 private:
  std::optional<tcp::socket> TryAccept() {
    std::error_code error;
    tcp::socket accepted = acceptor_.accept(error);
    if (error) return std::nullopt;
    accepted.non_blocking(false);
    return accepted;
  }

  tcp::acceptor acceptor_;
};

/// An address on which nobody listens.
std::string AddressOfNobody() { return Listener().Address(); }

/// Every test begins, and has to end, with nothing in the pool.
class PoolTest : public testing::Test {
 protected:
  PoolTest() { gtcp::CloseIdlePoolConns(); }
  ~PoolTest() override {
    gtcp::CloseIdlePoolConns();
    EXPECT_TRUE(poll_until([] { return Pool().group_count() == 0; })) << "a connection, or a place, was not given back";
  }

  Listener listener_;
  const std::string address_ = listener_.Address();
};

/// A request that is answered at the other end.
void Exchange(const gtcp::Conn& conn, raw_peer& peer, const std::string& text) {
  conn.SendPkg(text);
  EXPECT_EQ(peer.read_pkg(), text);
  peer.write(framed("re: " + text));
  EXPECT_EQ(conn.RecvPkg(), "re: " + text);
}

/// Waits until the other end's last word has come: something to read, the end, or an error.
void WaitForInput(const std::shared_ptr<gtcp::detail::conn_state>& state) {
  EXPECT_TRUE(poll_until([&] {
    bool ready = false;
    static_cast<void>(state->with_descriptor([&](gtcp::detail::native_socket descriptor) {
      ready = gtcp::detail::is_ready(descriptor, gtcp::detail::wait_direction::read);
      return std::error_code();
    }));
    return ready;
  }));
}
void WaitForInput(const gtcp::Conn& conn) { WaitForInput(gtcp::detail::conn_access::state(conn)); }

// ---- GoFrame's own scenarios

using PoolConnAsInGo = PoolTest;

gtcp::Server EchoPkgServer(const gtcp::PkgOption& option = {}) {
  gtcp::Server server("127.0.0.1:0", [option](gtcp::Conn conn) {
    for (;;) conn.SendPkg(conn.RecvPkg(option), option);
  });
  server.Start();
  return server;
}

gtcp::Server EchoBytesServer() {
  gtcp::Server server("127.0.0.1:0", [](gtcp::Conn conn) {
    for (;;) conn.Send(conn.Recv(-1));
  });
  server.Start();
  return server;
}

TEST_F(PoolConnAsInGo, SendsPackages) {
  const gtcp::Server server = EchoPkgServer();
  const PoolConn conn = gtcp::NewPoolConn(server.GetListenedAddress());
  conn.SendPkg("9999");
  conn.SendPkgWithTimeout("9999", 30s);
  EXPECT_EQ(conn.RecvPkg(), "9999");
  EXPECT_EQ(conn.RecvPkg(), "9999");
}

TEST_F(PoolConnAsInGo, FailsWhereNobodyListens) {
  const std::string nowhere = AddressOfNobody();
  std::error_code error;
  const PoolConn conn = gtcp::NewPoolConn(nowhere, error);
  EXPECT_EQ(error, asio::error::connection_refused);
  EXPECT_FALSE(conn);
  EXPECT_NE(text_of_error(asio::error::connection_refused, [&] { gtcp::NewPoolConn(nowhere); }).find(nowhere),
            std::string::npos);
}

TEST_F(PoolConnAsInGo, FailsWhenTheServerClosesAtOnce) {
  const gtcp::Server server("127.0.0.1:0", [](gtcp::Conn conn) { conn.Close(); });
  server.Start();
  const PoolConn conn = gtcp::NewPoolConn(server.GetListenedAddress());
  std::error_code ignored;
  conn.SendPkg("9999", ignored);
  std::error_code error;
  conn.SendRecv("9999", -1, error);
  EXPECT_TRUE(gtcp::IsFatal(error)) << error.message();
}

TEST_F(PoolConnAsInGo, SendsAndReceivesBytes) {
  const gtcp::Server server = EchoBytesServer();
  const std::string address = server.GetListenedAddress();
  const auto with_conn = [&](auto use) {
    const PoolConn conn = gtcp::NewPoolConn(address);
    use(conn);
    conn.Close();
  };
  with_conn([](const PoolConn& conn) {
    conn.Send("9999");
    EXPECT_EQ(conn.Recv(-1), "9999");
  });
  with_conn([](const PoolConn& conn) {
    conn.Send("9999\n");
    EXPECT_EQ(conn.RecvLine(), "9999");
  });
  with_conn([](const PoolConn& conn) {
    conn.Send("9999\n");
    EXPECT_EQ(conn.RecvTill("\n"), "9999\n");
  });
  with_conn([](const PoolConn& conn) {
    conn.Send("9999");
    EXPECT_EQ(conn.RecvWithTimeout(-1, 30s), "9999");
  });
  with_conn([](const PoolConn& conn) {
    conn.SendWithTimeout("9999", 30s);
    EXPECT_EQ(conn.Recv(-1), "9999");
  });
  with_conn([](const PoolConn& conn) { EXPECT_EQ(conn.SendRecvWithTimeout("9999", -1, 30s), "9999"); });
  EXPECT_EQ(Pool().idle_count(), 1u) << "it should have been one connection all the time";
}

TEST_F(PoolConnAsInGo, ExchangesPackages) {
  const gtcp::Server server = EchoPkgServer();
  const std::string address = server.GetListenedAddress();
  {
    const PoolConn conn = gtcp::NewPoolConn(address);
    for (int i = 0; i < 100; ++i) conn.SendPkg(std::to_string(i));
    for (int i = 0; i < 100; ++i) conn.SendPkgWithTimeout(std::to_string(i), 30s);
  }
  {
    const PoolConn conn = gtcp::NewPoolConn(address);
    std::error_code error;
    conn.SendPkg(std::string(65536, 'x'), error);
    EXPECT_EQ(error, Errc::DataTooLong);
    EXPECT_EQ(conn.SendRecvPkg(std::string(65536, 'x'), error), "");
    EXPECT_EQ(error, Errc::DataTooLong);
  }
  {
    const PoolConn conn = gtcp::NewPoolConn(address);
    for (int i = 100; i < 200; ++i) EXPECT_EQ(conn.SendRecvPkg(std::to_string(i)), std::to_string(i));
    for (int i = 100; i < 200; ++i) EXPECT_EQ(conn.SendRecvPkgWithTimeout(std::to_string(i), 30s), std::to_string(i));
    EXPECT_EQ(conn.SendRecvPkg(pattern(65500)), pattern(65500));
  }
}

TEST_F(PoolConnAsInGo, GivesALateReplyToNobody) {
  std::promise<void> timed_out;
  const std::shared_future<void> may_answer = timed_out.get_future().share();
  const gtcp::Server server("127.0.0.1:0", [may_answer](gtcp::Conn conn) {
    for (;;) {
      const std::string data = conn.RecvPkg();
      may_answer.wait();
      conn.SendPkg(data);
    }
  });
  server.Start();
  const std::string address = server.GetListenedAddress();
  {
    const PoolConn conn = gtcp::NewPoolConn(address);
    std::error_code error;
    EXPECT_EQ(conn.SendRecvPkgWithTimeout("late", 1ms, error), "");
    EXPECT_EQ(error, Errc::Timeout);
  }
  const PoolConn conn = gtcp::NewPoolConn(address);
  timed_out.set_value();
  EXPECT_EQ(conn.SendRecvPkgWithTimeout("10000", 30s), "10000");
}

TEST_F(PoolConnAsInGo, TakesOptionsOfPackages) {
  const gtcp::PkgOption option{.HeaderSize = 1};
  const gtcp::Server server = EchoPkgServer(option);
  const std::string address = server.GetListenedAddress();
  for (int i = 0; i < 2; ++i) {
    const PoolConn conn = gtcp::NewPoolConn(address);
    std::error_code error;
    EXPECT_EQ(conn.SendRecvPkg(std::string(0xFF + 1, 'x'), option, error), "");
    EXPECT_EQ(error, Errc::DataTooLong);
    EXPECT_EQ(conn.SendRecvPkgWithTimeout(std::string(0xFF + 1, 'x'), 30s, option, error), "");
    EXPECT_EQ(error, Errc::DataTooLong);
    EXPECT_EQ(conn.SendRecvPkg(pattern(0xFF), option), pattern(0xFF));
    EXPECT_EQ(conn.SendRecvPkgWithTimeout(pattern(0xFF), 30s, option), pattern(0xFF));
  }
  EXPECT_EQ(Pool().idle_count(), 1u);
}

// ---- Giving back

using PoolConnGivesBack = PoolTest;

TEST_F(PoolConnGivesBack, WhenClosed) {
  const PoolConn first = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  Exchange(first, peer, "one");
  first.Close();
  EXPECT_EQ(Pool().idle_count(), 1u);

  const PoolConn second = gtcp::NewPoolConn(address_);
  EXPECT_EQ(Pool().idle_count(), 0u);
  Exchange(second, peer, "two");
  EXPECT_EQ(second.LocalAddr(), first.LocalAddr());
  EXPECT_EQ(second.RemoteAddr(), address_);
  EXPECT_NE(second.Id(), first.Id());
  EXPECT_FALSE(listener_.HasAnother());
}

TEST_F(PoolConnGivesBack, WhenTheLastHandleIsDropped) {
  std::optional<PoolConn> conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  std::optional<gtcp::Conn> copy = *conn;
  conn.reset();
  EXPECT_EQ(Pool().idle_count(), 0u);
  Exchange(*copy, peer, "one");
  copy.reset();
  EXPECT_EQ(Pool().idle_count(), 1u);
  Exchange(gtcp::NewPoolConn(address_), peer, "two");
}

TEST_F(PoolConnGivesBack, WhenACopyOfTheBaseIsClosed) {
  const PoolConn conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  const gtcp::Conn base = conn;
  EXPECT_EQ(base, conn);
  base.Close();
  EXPECT_TRUE(conn.IsClosed());
  EXPECT_EQ(Pool().idle_count(), 1u);
  Exchange(gtcp::NewPoolConn(address_), peer, "one");
}

TEST_F(PoolConnGivesBack, OnceOnly) {
  const PoolConn conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  conn.Close();
  conn.Close();
  conn.Abort();
  conn.CloseAndWait(30s);
  conn.CloseWrite();
  EXPECT_EQ(Pool().idle_count(), 1u);
  const PoolConn again = gtcp::NewPoolConn(address_);
  conn.Close();
  conn.Abort();
  conn.CloseWrite();
  Exchange(again, peer, "still there");
  again.Close();
  gtcp::CloseIdlePoolConns();
  conn.CloseWrite();
  again.CloseWrite();
}

TEST_F(PoolConnGivesBack, AndIsClosedForItsOldHandles) {
  const PoolConn old = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  old.Close();
  const PoolConn current = gtcp::NewPoolConn(address_);

  EXPECT_TRUE(old.IsClosed());
  EXPECT_EQ(old.CloseReason(), Errc::Closed);
  std::error_code error;
  old.SendPkg("from the past", error);
  EXPECT_EQ(error, Errc::Closed);
  EXPECT_FALSE(old.TrySendPkg("from the past", error));
  EXPECT_EQ(error, Errc::Closed);
  peer.write(framed("for the present"));
  WaitForInput(current);
  old.RecvPkg(error);
  EXPECT_EQ(error, Errc::Closed);
  old.SetNoDelay(false, error);
  EXPECT_EQ(error, Errc::Closed);
  old.Flush(error);
  EXPECT_EQ(error, Errc::Closed);
  gtcp_test::call_back<void>(error, [&](auto token) { old.AsyncSendPkg("from the past", token); });
  EXPECT_EQ(error, Errc::Closed);
  gtcp_test::call_back<std::string>(error, [&](auto token) { old.AsyncRecvPkg(token); });
  EXPECT_EQ(error, Errc::Closed);

  EXPECT_EQ(current.RecvPkg(), "for the present");
  Exchange(current, peer, "nothing else");
}

TEST_F(PoolConnGivesBack, WithSettingsAsNew) {
  const PoolConn first = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  first.SetDeadline(std::chrono::steady_clock::now() - 1s);
  first.SetSendMode(gtcp::SendMode::Direct);
  first.SetBufferWaitRecv(24h);
  first.UserData() = std::string("mine");
  const gtcp::TimerEntry timer = first.SetInterval(1h, [] {});
  first.Close();
  EXPECT_EQ(timer.Status(), gtcp::StatusClosed);

  const PoolConn second = gtcp::NewPoolConn(address_);
  Exchange(second, peer, "no deadline");
  peer.write("no long wait");
  EXPECT_EQ(second.Recv(-1), "no long wait");
  EXPECT_EQ(gtcp::detail::conn_access::state(second)->mode(), gtcp::SendMode::Buffered);
  EXPECT_FALSE(second.UserData().has_value());
}

TEST_F(PoolConnGivesBack, WithTheNextOnesOptions) {
  gtcp::NewPoolConn(address_).Close();
  raw_peer peer = listener_.Accept();
  const PoolConn conn = gtcp::NewPoolConn(address_, {.Conn = {.Pkg = {.HeaderSize = 4}}});
  conn.SendPkg("hello");
  EXPECT_EQ(peer.read(9), framed("hello", 4));
}

TEST_F(PoolConnGivesBack, AfterAFailureThatIsNone) {
  const PoolConn conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  std::error_code error;
  conn.RecvPkgWithTimeout(0s, error);
  EXPECT_EQ(error, Errc::Timeout);
  conn.RecvTill("", error);
  EXPECT_EQ(error, Errc::InvalidOption);
  conn.SendPkg("x", {.HeaderSize = 5}, error);
  EXPECT_EQ(error, Errc::InvalidOption);
  conn.SendPkg(std::string(70'000, 'x'), error);
  EXPECT_EQ(error, Errc::DataTooLong);
  conn.SendPkg("question");
  peer.write(framed("no JSON"));
  gtcp::RecvMsg(conn, error);
  EXPECT_EQ(error, Errc::InvalidMsg);
  conn.Close();
  EXPECT_EQ(peer.read_pkg(), "question");
  EXPECT_EQ(Pool().idle_count(), 1u);
  Exchange(gtcp::NewPoolConn(address_), peer, "one");
}

TEST_F(PoolConnGivesBack, AfterAnsweredRequestsOfEveryKind) {
  std::optional<raw_peer> peer;
  const auto goes_back_after = [&](auto use) {
    const PoolConn conn = gtcp::NewPoolConn(address_);
    if (!peer) peer.emplace(listener_.Accept());
    use(conn);
    conn.Close();
    return Pool().idle_count() == 1;
  };
  EXPECT_TRUE(goes_back_after([&](const PoolConn& conn) {  // several at once
    for (int i = 0; i < 3; ++i) conn.SendPkg("x");
    for (int i = 0; i < 3; ++i) peer->write(framed(std::to_string(i)));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(conn.RecvPkg(), std::to_string(i));
    peer->read(9);
  }));
  EXPECT_TRUE(goes_back_after([&](const PoolConn& conn) {  // a request in parts, a reply in lines
    conn.Send("first, ");
    conn.Send("second");
    peer->write("a\nb\n");
    EXPECT_EQ(conn.RecvLine(), "a");
    EXPECT_EQ(conn.RecvLine(), "b");
    peer->read(13);
  }));
  EXPECT_TRUE(goes_back_after([&](const PoolConn& conn) {  // nobody asked
    peer->write(framed("news") + framed("more news"));
    EXPECT_EQ(conn.RecvPkg(), "news");
    EXPECT_EQ(conn.RecvPkg(), "more news");
  }));
  EXPECT_TRUE(goes_back_after([&](const PoolConn& conn) {  // in every form
    std::error_code error;
    peer->write(framed("1") + framed("2") + framed("3"));
    gtcp_test::call_back<std::string>(error, [&](auto token) { conn.AsyncSendRecvPkg("x", token); });
    EXPECT_FALSE(error);
    EXPECT_EQ(gtcp_test::run(conn.AsyncSendRecvPkg("x")), "2");
    EXPECT_TRUE(conn.TrySendPkg("x"));
    std::string reply;
    EXPECT_TRUE(poll_until([&] { return conn.TryRecvPkg(reply); }));
    EXPECT_EQ(reply, "3");
    peer->read(9);
  }));
  EXPECT_TRUE(goes_back_after([&](const PoolConn& conn) {  // and some that there was no room for
    const std::string much = pattern(50'000);
    int sent = 0;
    while (conn.TrySendPkg(much)) ++sent;
    EXPECT_FALSE(conn.TrySendPkg(much));
    for (int i = 0; i < sent; ++i) EXPECT_EQ(peer->read_pkg(), much);
    conn.Flush();
    for (int i = 0; i < sent; ++i) peer->write(framed("!"));
    for (int i = 0; i < sent; ++i) EXPECT_EQ(conn.RecvPkg(), "!");
  }));
  Exchange(gtcp::NewPoolConn(address_), *peer, "at the end");
}

TEST_F(PoolConnGivesBack, WithoutAReplyIfToldSo) {
  const PoolOption option{.ReuseUnanswered = true};
  const PoolConn first = gtcp::NewPoolConn(address_, option);
  raw_peer peer = listener_.Accept();
  first.SendPkg("one way");
  first.Close();
  EXPECT_EQ(Pool().idle_count(), 1u);
  const PoolConn second = gtcp::NewPoolConn(address_, option);
  second.SendPkg("again");
  EXPECT_EQ(peer.read_pkg(), "one way");
  EXPECT_EQ(peer.read_pkg(), "again");
}

// ---- Not giving back

struct Spoiler {
  const char* name;
  std::function<void(const PoolConn&, raw_peer&)> spoil;
};

class PoolConnKeeps : public PoolTest, public testing::WithParamInterface<Spoiler> {};

TEST_P(PoolConnKeeps, WhatIsNotAsNew) {
  PoolConn first = gtcp::NewPoolConn(address_);
  raw_peer old_peer = listener_.Accept();
  GetParam().spoil(first, old_peer);
  first.Close();
  EXPECT_EQ(Pool().idle_count(), 0u);
  EXPECT_EQ(Pool().group_count(), 0u) << "it still counts as open";

  const PoolConn second = gtcp::NewPoolConn(address_);
  raw_peer new_peer = listener_.Accept();
  Exchange(second, new_peer, "as new");
}

INSTANTIATE_TEST_SUITE_P(
    PoolConn, PoolConnKeeps,
    testing::Values(
        Spoiler{"PackageUnanswered", [](const PoolConn& conn, raw_peer&) { conn.SendPkg("question"); }},
        Spoiler{"OneOfTwoUnanswered",
                [](const PoolConn& conn, raw_peer& peer) {
                  conn.SendPkg("question");
                  conn.SendPkg("question");
                  peer.write(framed("answer"));
                  conn.RecvPkg();
                }},
        Spoiler{"BytesUnanswered",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.write("hello");
                  conn.Recv(5);
                  conn.Send("question");
                }},
        Spoiler{"TriedUnanswered", [](const PoolConn& conn, raw_peer&) { EXPECT_TRUE(conn.TrySendPkg("question")); }},
        Spoiler{"CallbackUnanswered",
                [](const PoolConn& conn, raw_peer&) {
                  std::error_code error;
                  gtcp_test::call_back<void>(error, [&](auto token) { conn.AsyncSendPkg("question", token); });
                }},
        Spoiler{"AwaitedUnanswered",
                [](const PoolConn& conn, raw_peer&) { gtcp_test::run(conn.AsyncSendPkg("question")); }},
        Spoiler{"TimedOut",
                [](const PoolConn& conn, raw_peer&) {
                  std::error_code error;
                  conn.SendRecvPkgWithTimeout("question", 1ms, error);
                  EXPECT_EQ(error, Errc::Timeout);
                }},
        Spoiler{"UnreadInSystem",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.write(framed("nobody asked"));
                  WaitForInput(conn);
                }},
        Spoiler{"UnreadInBuffer",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.write(framed("one") + framed("two"));
                  WaitForInput(conn);
                  EXPECT_EQ(conn.RecvPkg(), "one");
                }},
        Spoiler{"PartOfAPackage",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.write(framed("package").substr(0, 1));
                  WaitForInput(conn);
                  std::error_code error;
                  conn.RecvPkgWithTimeout(0s, error);
                  EXPECT_EQ(error, Errc::Timeout);
                }},
        Spoiler{"EndedByThePeer",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.close();
                  WaitForInput(conn);
                }},
        Spoiler{"EndOfTheStreamReceived",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.close();
                  std::error_code error;
                  conn.RecvPkg(error);
                  EXPECT_EQ(error, asio::error::eof);
                }},
        Spoiler{"Reset",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.reset();
                  std::error_code error;
                  conn.RecvPkg(error);
                  EXPECT_EQ(error, asio::error::connection_reset);
                }},
        Spoiler{"BrokenFraming",
                [](const PoolConn& conn, raw_peer& peer) {
                  peer.write(framed("too large"));
                  std::error_code error;
                  conn.RecvPkg({.MaxDataSize = 3}, error);
                  EXPECT_EQ(error, Errc::PkgTooLarge);
                }},
        Spoiler{"SendingEnded", [](const PoolConn& conn, raw_peer&) { conn.CloseWrite(); }},
        Spoiler{"OptionOfTheSocket", [](const PoolConn& conn, raw_peer&) { conn.SetNoDelay(false); }},
        Spoiler{"KeepAliveTimes", [](const PoolConn& conn, raw_peer&) { conn.SetKeepAliveTimes(1s, 1s, 1); }},
        Spoiler{"NativeHandle", [](const PoolConn& conn, raw_peer&) { conn.GetNativeHandle(); }},
        Spoiler{"Aborted", [](const PoolConn& conn, raw_peer&) { conn.Abort(); }},
        Spoiler{"ClosedAndWaitedFor", [](const PoolConn& conn, raw_peer&) { EXPECT_TRUE(conn.CloseAndWait(30s)); }},
        Spoiler{"ClosedAsynchronously",
                [](const PoolConn& conn, raw_peer&) { EXPECT_TRUE(gtcp_test::run(conn.AsyncClose())); }},
        Spoiler{"SomethingLeftToSend",
                [](const PoolConn& conn, raw_peer& peer) {
                  // Small buffers, so that the system can't take it all later.
                  peer.get().set_option(asio::socket_base::receive_buffer_size(4096));
                  const auto state = gtcp::detail::conn_access::state(conn);
                  static_cast<void>(state->with_descriptor([](gtcp::detail::native_socket descriptor) {
                    return gtcp::detail::set_option(descriptor, gtcp::detail::socket_option::send_buffer, 4096);
                  }));
                  const std::string much(10'000, 'x');
                  int sent = 0;
                  while (conn.TrySendPkg(much)) ++sent;
                  // Answered all of it, so that only what waits to be sent is against it.
                  for (int i = 0; i < sent; ++i) peer.write(framed("!"));
                  for (int i = 0; i < sent; ++i) EXPECT_EQ(conn.RecvPkg(), "!");
                  EXPECT_NE(state->out().pending_bytes(), 0u);
                }}),
    [](const testing::TestParamInfo<Spoiler>& spoiler) { return spoiler.param.name; });

TEST_F(PoolConnGivesBack, NotWhileAThreadReceives) {
  const PoolConn conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  background receiving([&] {
    std::error_code error;
    conn.RecvPkg(error);
    return error;
  });
  receiving.wait_until_waiting();
  conn.Close();
  EXPECT_EQ(receiving.get(), Errc::Closed);
  EXPECT_EQ(Pool().idle_count(), 0u);
  EXPECT_EQ(peer.read_to_end(), "");
}

TEST_F(PoolConnGivesBack, NotWhileAnOperationReceives) {
  const PoolConn conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  std::error_code received, received_behind;
  std::future<std::string> receiving = conn.AsyncRecvPkg(asio::redirect_error(asio::use_future, received));
  std::future<std::string> waiting_behind = conn.AsyncRecvPkg(asio::redirect_error(asio::use_future, received_behind));
  conn.Close();
  receiving.get();
  waiting_behind.get();
  EXPECT_EQ(received, Errc::Closed);
  EXPECT_EQ(received_behind, Errc::Closed);
  EXPECT_EQ(Pool().idle_count(), 0u);
  EXPECT_EQ(peer.read_to_end(), "");
}

TEST_F(PoolConnGivesBack, DeliversWhatWasSentWhenItEndsInstead) {
  std::optional<PoolConn> conn = gtcp::NewPoolConn(address_);
  raw_peer peer = listener_.Accept();
  const std::string much = pattern(50'000);
  int sent = 0;
  while (conn->TrySendPkg(much)) ++sent;
  conn.reset();
  for (int i = 0; i < sent; ++i) ASSERT_EQ(peer.read_pkg(), much);
  EXPECT_EQ(peer.read_to_end(), "");
}

// ---- Looking at it on the way out

using PoolConnIsLookedAt = PoolTest;

TEST_F(PoolConnIsLookedAt, WhenItHasDiedMeanwhile) {
  enum class death { end, reset, data };
  for (const death kind : {death::end, death::reset, death::data}) {
    gtcp::NewPoolConn(address_).Close();
    raw_peer old_peer = listener_.Accept();
    ASSERT_EQ(Pool().idle_count(), 1u);
    if (kind == death::end) old_peer.end_sending();
    if (kind == death::reset) old_peer.reset();
    if (kind == death::data) old_peer.write("nobody asked");
    // On the loopback it has come when the call has returned; another connection makes sure of it.
    gtcp_test::make_conn_and_peer();

    const PoolConn conn = gtcp::NewPoolConn(address_);
    raw_peer new_peer = listener_.Accept();
    Exchange(conn, new_peer, "alive");
    if (kind == death::reset) continue;
    EXPECT_EQ(old_peer.read_to_end(), "") << "the dead one stays open";
  }
}

TEST_F(PoolConnIsLookedAt, UntilOneIsAlive) {
  std::vector<PoolConn> conns;
  std::vector<raw_peer> peers;
  for (int i = 0; i < 4; ++i) {
    conns.push_back(gtcp::NewPoolConn(address_));
    peers.push_back(listener_.Accept());
  }
  for (const PoolConn& conn : conns) conn.Close();
  EXPECT_EQ(Pool().idle_count(), 4u);
  // The one that was given back last is tried first.
  peers[3].reset();
  peers[2].reset();
  Exchange(gtcp::NewPoolConn(address_), peers[1], "still alive");
  EXPECT_EQ(Pool().idle_count(), 2u);
  EXPECT_FALSE(listener_.HasAnother());
}

TEST_F(PoolConnIsLookedAt, AndCountsDeadOnesOnce) {
  const PoolOption option{.MaxConns = 2};
  {
    const PoolConn a = gtcp::NewPoolConn(address_, option);
    const PoolConn b = gtcp::NewPoolConn(address_, option);
    raw_peer first = listener_.Accept();
    raw_peer second = listener_.Accept();
    a.Close();
    b.Close();
    first.reset();
    second.reset();
  }
  const PoolConn a = gtcp::NewPoolConn(address_, option);
  const PoolConn b = gtcp::NewPoolConn(address_, option);
  raw_peer first = listener_.Accept();
  raw_peer second = listener_.Accept();
  std::error_code error;
  gtcp::NewPoolConn(address_, 1ms, option, error);
  EXPECT_EQ(error, Errc::Timeout);
}

// ---- Keys

using PoolConnIsKeyed = PoolTest;

TEST_F(PoolConnIsKeyed, ByAddress) {
  Listener other;
  gtcp::NewPoolConn(address_).Close();
  raw_peer peer = listener_.Accept();
  const PoolConn conn = gtcp::NewPoolConn(other.Address());
  raw_peer other_peer = other.Accept();
  Exchange(conn, other_peer, "other");
  EXPECT_EQ(Pool().idle_count(), 1u);
}

TEST_F(PoolConnIsKeyed, ByOptionsOfTheSocket) {
  gtcp::NewPoolConn(address_).Close();
  raw_peer peer = listener_.Accept();
  const std::vector<gtcp::ConnOption> others = {
      {.NoDelay = false},    {.KeepAlive = false},       {.KeepAliveIdle = 7s},      {.KeepAliveInterval = 7s},
      {.KeepAliveCount = 7}, {.RecvBufferSize = 70'000}, {.SendBufferSize = 70'000}, {.LocalAddress = "127.0.0.1:0"},
  };
  std::vector<PoolConn> conns;
  for (const gtcp::ConnOption& option : others) {
    conns.push_back(gtcp::NewPoolConn(address_, {.Conn = option}));
    listener_.Accept();
  }
  EXPECT_EQ(Pool().group_count(), 1 + others.size());
}

TEST_F(PoolConnIsKeyed, ByNothingElse) {
  asio::io_context context;
  std::optional<raw_peer> peer;
  const std::vector<PoolOption> others = {
      {},
      {.IdleTime = 7s},
      {.MaxConns = 7},
      {.ReuseUnanswered = true},
      {.Conn = {.Linger = 7s}},
      {.Conn = {.OutboxLimit = 7}},
      {.Conn = {.MaxLineSize = 7}},
      {.Conn = {.Mode = gtcp::SendMode::Direct}},
      {.Conn = {.Pkg = {.MaxDataSize = 70}}},
      {.Conn = {.Executor = context.get_executor()}},
  };
  for (const PoolOption& option : others) {
    const PoolConn conn = gtcp::NewPoolConn(address_, option);
    if (!peer) peer.emplace(listener_.Accept());
    Exchange(conn, *peer, "x");
    conn.Close();
  }
  EXPECT_FALSE(listener_.HasAnother());
}

// ---- Idle time

using PoolConnIdles = PoolTest;

TEST_F(PoolConnIdles, UntilItsTimeIsOver) {
  gtcp::NewPoolConn(address_, {.IdleTime = 1h}).Close();
  raw_peer longer = listener_.Accept();
  Listener other;
  gtcp::NewPoolConn(other.Address(), {.IdleTime = 1ms}).Close();
  raw_peer peer = other.Accept();
  EXPECT_EQ(peer.read_to_end(), "");
  EXPECT_TRUE(poll_until([] { return Pool().idle_count() == 1; }));
  Exchange(gtcp::NewPoolConn(address_), longer, "its time is not over");
}

TEST_F(PoolConnIdles, AsLongAsTheOneWhoGaveItBackSaid) {
  std::vector<PoolConn> conns;
  std::vector<raw_peer> peers;
  for (const auto idle_time : {3ms, 1ms, 2ms}) {
    conns.push_back(gtcp::NewPoolConn(address_, {.IdleTime = idle_time}));
    peers.push_back(listener_.Accept());
  }
  const PoolConn forever = gtcp::NewPoolConn(address_, {.IdleTime = 0ms});
  raw_peer last = listener_.Accept();
  for (const PoolConn& conn : conns) conn.Close();
  forever.Close();
  for (raw_peer& peer : peers) EXPECT_EQ(peer.read_to_end(), "");
  EXPECT_EQ(Pool().idle_count(), 1u);
  Exchange(gtcp::NewPoolConn(address_), last, "no limit");
}

TEST_F(PoolConnIdles, AnyLength) {
  gtcp::NewPoolConn(address_, {.IdleTime = std::chrono::milliseconds::max()}).Close();
  raw_peer peer = listener_.Accept();
  EXPECT_EQ(Pool().idle_count(), 1u);
  Exchange(gtcp::NewPoolConn(address_), peer, "x");
}

TEST_F(PoolConnIdles, UntilAllIdleOnesAreClosed) {
  const PoolConn lent = gtcp::NewPoolConn(address_);
  raw_peer lent_peer = listener_.Accept();
  gtcp::NewPoolConn(address_).Close();
  raw_peer peer = listener_.Accept();
  gtcp::CloseIdlePoolConns();
  EXPECT_EQ(peer.read_to_end(), "");
  Exchange(lent, lent_peer, "lent");
  lent.Close();
  EXPECT_EQ(Pool().idle_count(), 1u);
}

// ---- The greatest number

class PoolConnWaits : public PoolTest {
 protected:
  const PoolOption one_{.MaxConns = 1};
};

TEST_F(PoolConnWaits, ForOneThatComesBack) {
  const PoolConn first = gtcp::NewPoolConn(address_, one_);
  raw_peer peer = listener_.Accept();
  background waiting([&] { return gtcp::NewPoolConn(address_, one_); });
  waiting.wait_until_waiting();
  EXPECT_FALSE(waiting.ended());
  Exchange(first, peer, "one");
  first.Close();
  Exchange(waiting.get(), peer, "two");
  EXPECT_FALSE(listener_.HasAnother());
}

TEST_F(PoolConnWaits, ForThePlaceOfOneThatEnds) {
  const PoolConn first = gtcp::NewPoolConn(address_, one_);
  raw_peer peer = listener_.Accept();
  background waiting([&] { return gtcp::NewPoolConn(address_, one_); });
  waiting.wait_until_waiting();
  EXPECT_FALSE(waiting.ended());
  first.Abort();
  raw_peer second = listener_.Accept();
  Exchange(waiting.get(), second, "fresh");
}

TEST_F(PoolConnWaits, ForThePlaceOfOneThatFailedToConnect) {
  const std::string nowhere = AddressOfNobody();
  std::error_code error;
  for (int i = 0; i < 3; ++i) {
    gtcp::NewPoolConn(nowhere, 30s, one_, error);
    EXPECT_EQ(error, asio::error::connection_refused);
  }
}

TEST_F(PoolConnWaits, UntilItsDeadline) {
  const PoolConn first = gtcp::NewPoolConn(address_, one_);
  const std::string text = text_of_error(Errc::Timeout, [&] { gtcp::NewPoolConn(address_, 1ms, one_); });
  EXPECT_NE(text.find(address_), std::string::npos) << text;
  EXPECT_NE(text.find("at most 1 connections"), std::string::npos) << text;
  std::error_code error;
  const PoolConn none = gtcp::NewPoolConn(address_, 1ms, one_, error);
  EXPECT_EQ(error, Errc::Timeout);
  EXPECT_FALSE(none);
}

TEST_F(PoolConnWaits, UntilItIsStopped) {
  const PoolConn first = gtcp::NewPoolConn(address_, one_);
  std::stop_source source;
  background waiting([&] {
    std::error_code error;
    gtcp::NewPoolConn(address_, 0s, one_, error, source.get_token());
    return error;
  });
  waiting.wait_until_waiting();
  source.request_stop();
  EXPECT_EQ(waiting.get(), asio::error::operation_aborted);
}

TEST_F(PoolConnWaits, FirstComeFirstServed) {
  PoolConn held = gtcp::NewPoolConn(address_, one_);
  raw_peer peer = listener_.Accept();
  std::mutex mutex;
  std::vector<int> order;
  constexpr int waiters = 6;
  std::vector<std::unique_ptr<background<int>>> threads;
  std::vector<std::future<void>> operations;
  const auto serve = [&](int number, const gtcp::Conn& conn) {
    {
      const std::lock_guard lock(mutex);
      order.push_back(number);
    }
    conn.Close();
  };
  for (int i = 0; i < waiters; ++i) {
    if (i % 2 == 0) {
      threads.push_back(std::make_unique<background<int>>([&, i] {
        serve(i, gtcp::NewPoolConn(address_, one_));
        return 0;
      }));
      threads.back()->wait_until_waiting();
    } else {
      const auto served = std::make_shared<std::promise<void>>();
      operations.push_back(served->get_future());
      gtcp::AsyncNewPoolConn(address_, 30s, one_, [&, i, served](std::error_code error, PoolConn conn) {
        EXPECT_FALSE(error);
        serve(i, conn);
        served->set_value();
      });
    }
    EXPECT_TRUE(poll_until([&] { return Pool().waiting_count() == static_cast<std::size_t>(i) + 1; }));
  }
  held.Close();
  for (auto& thread : threads) thread->get();
  for (auto& operation : operations) EXPECT_TRUE(comes(operation));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

TEST_F(PoolConnWaits, BehindWhoCameBeforeEvenIfItsOwnLimitIsHigher) {
  const PoolConn held = gtcp::NewPoolConn(address_, one_);
  raw_peer peer = listener_.Accept();
  std::stop_source stop_first;
  background first([&] {
    std::error_code error;
    gtcp::NewPoolConn(address_, 0s, one_, error, stop_first.get_token());
    return error;
  });
  EXPECT_TRUE(poll_until([] { return Pool().waiting_count() == 1; }));
  background second([&] { return gtcp::NewPoolConn(address_, {.MaxConns = 2}); });
  EXPECT_TRUE(poll_until([] { return Pool().waiting_count() == 2; }));
  // When the first one goes the second one is content with what there is.
  stop_first.request_stop();
  EXPECT_EQ(first.get(), asio::error::operation_aborted);
  raw_peer other = listener_.Accept();
  Exchange(second.get(), other, "the second one's");
}

TEST_F(PoolConnWaits, NotWithoutALimit) {
  const PoolConn held = gtcp::NewPoolConn(address_, one_);
  raw_peer peer = listener_.Accept();
  background first([&] { return gtcp::NewPoolConn(address_, one_); });
  EXPECT_TRUE(poll_until([] { return Pool().waiting_count() == 1; }));
  const PoolConn unlimited = gtcp::NewPoolConn(address_);
  raw_peer other = listener_.Accept();
  Exchange(unlimited, other, "at once");
  unlimited.Close();
  Exchange(first.get(), other, "which goes to the first");
}

TEST_F(PoolConnWaits, AsynchronouslyUntilItsDeadline) {
  const PoolConn held = gtcp::NewPoolConn(address_, one_);
  std::error_code error;
  const PoolConn none = gtcp_test::call_back<PoolConn>(
      error, [&](auto token) { gtcp::AsyncNewPoolConn(address_, 1ms, one_, std::move(token)); });
  EXPECT_EQ(error, Errc::Timeout);
  EXPECT_FALSE(none);
  const std::string text =
      text_of_error(Errc::Timeout, [&] { gtcp_test::run(gtcp::AsyncNewPoolConn(address_, 1ms, one_)); });
  EXPECT_NE(text.find("at most 1 connections"), std::string::npos) << text;
}

TEST_F(PoolConnWaits, AsynchronouslyUntilCancelled) {
  const PoolConn held = gtcp::NewPoolConn(address_, one_);
  for (const auto type : {asio::cancellation_type::total, asio::cancellation_type::terminal}) {
    asio::io_context context;
    asio::cancellation_signal signal;
    std::optional<std::error_code> result;
    PoolOption option = one_;
    option.Conn.Executor = context.get_executor();
    gtcp::AsyncNewPoolConn(address_, 0s, option,
                           asio::bind_cancellation_slot(signal.slot(), [&](std::error_code error, PoolConn conn) {
                             result = error;
                             EXPECT_FALSE(conn);
                           }));
    context.poll();
    EXPECT_EQ(Pool().waiting_count(), 1u);
    EXPECT_FALSE(result);
    signal.emit(type);
    context.run_for(gtcp_test::ceiling);
    ASSERT_TRUE(result);
    EXPECT_EQ(*result, asio::error::operation_aborted);
    EXPECT_EQ(Pool().waiting_count(), 0u);
  }
}

TEST_F(PoolConnWaits, NotOnceItsContextIsGone) {
  std::optional<PoolConn> held = gtcp::NewPoolConn(address_, one_);
  raw_peer peer = listener_.Accept();
  {
    asio::io_context waits;
    PoolOption option = one_;
    option.Conn.Executor = waits.get_executor();
    const auto never = [](std::error_code, PoolConn) { ADD_FAILURE() << "its context is gone"; };
    gtcp::AsyncNewPoolConn(address_, 0s, option, never);
    waits.poll();
    EXPECT_EQ(Pool().waiting_count(), 1u);
  }
  EXPECT_EQ(Pool().waiting_count(), 0u);
  {
    asio::io_context granted;
    PoolOption option = one_;
    option.Conn.Executor = granted.get_executor();
    gtcp::AsyncNewPoolConn(address_, 0s, option, [](std::error_code, PoolConn) {});
    granted.poll();
    EXPECT_EQ(Pool().waiting_count(), 1u);
    held.reset();
    EXPECT_EQ(Pool().waiting_count(), 0u);
  }
  EXPECT_EQ(peer.read_to_end(), "");
  const PoolConn next = gtcp::NewPoolConn(address_, one_);
  raw_peer fresh = listener_.Accept();
  Exchange(next, fresh, "the place is free");
}

TEST_F(PoolConnWaits, NotOnceItsContextIsGoneAlthoughItsPermitHasJustCome) {
  using gtcp::detail::conn_pool;
  struct call final : conn_pool::bell {
    std::function<void()> function;
    void ring() noexcept override { function(); }
  };
  struct permit final : conn_pool::permit {
    using conn_pool::permit::permit;
    std::shared_ptr<call> told;
    std::shared_ptr<conn_pool::bell> granted() noexcept override { return told; }
  };
  const PoolConn held = gtcp::NewPoolConn(address_, one_);
  const std::string key = gtcp::detail::pool_request{address_, 0ns, one_}.key();
  permit before(1);
  EXPECT_FALSE(Pool().ask(key, before));
  std::optional<asio::io_context> context(std::in_place);
  PoolOption option{.MaxConns = 3};
  option.Conn.Executor = context->get_executor();
  gtcp::AsyncNewPoolConn(address_, 0s, option,
                         [](std::error_code, PoolConn) { ADD_FAILURE() << "its context is gone"; });
  context->poll();
  permit behind(3);
  behind.told = std::make_shared<call>();
  behind.told->function = [&] { context.reset(); };
  EXPECT_FALSE(Pool().ask(key, behind));
  EXPECT_EQ(Pool().waiting_count(), 3u);
  // Both that are behind it are granted in one go, and the last one is told first.
  EXPECT_TRUE(Pool().withdraw(before));
  EXPECT_FALSE(context);
  EXPECT_EQ(Pool().waiting_count(), 0u);
  Pool().lose(*behind.group);
}

// ---- A send on one that had died

class PoolConnRenews : public PoolTest {
 protected:
  /// A connection out of the pool that has died, which only its first use can show.
  PoolConn Dead(const PoolOption& option = {}) {
    gtcp::NewPoolConn(address_, option).Close();
    raw_peer old = listener_.Accept();
    const PoolConn conn = gtcp::NewPoolConn(address_, option);
    EXPECT_EQ(Pool().idle_count(), 0u);
    old.reset();
    WaitForInput(conn);
    return conn;
  }

  static std::error_code Send(form which, const gtcp::Conn& conn, const std::string& text) {
    std::error_code error;
    const auto send = [&](auto& ec) -> asio::awaitable<void> { co_await conn.AsyncSendPkg(text, ec); };
    switch (which) {
      case form::blocking: conn.SendPkg(text, error); break;
      case form::callback:
        gtcp_test::call_back<void>(error, [&](auto token) { conn.AsyncSendPkg(text, token); });
        break;
      case form::awaited: gtcp_test::run(send(error)); break;
    }
    return error;
  }
};

TEST_F(PoolConnRenews, ForTheFirstSend) {
  for (const form which : gtcp_test::forms) {
    for (const std::size_t size : {std::size_t{5}, std::size_t{60'000}}) {
      for (const auto mode : {gtcp::SendMode::Buffered, gtcp::SendMode::Direct}) {
        SCOPED_TRACE(testing::Message() << which << ' ' << size << ' ' << static_cast<int>(mode));
        const PoolConn conn = Dead({.Conn = {.Mode = mode}});
        const std::uint64_t id = conn.Id();
        conn.UserData() = 42;
        EXPECT_EQ(Send(which, conn, pattern(size)), std::error_code());
        raw_peer fresh = listener_.Accept();
        EXPECT_EQ(fresh.read_pkg(), pattern(size));
        fresh.write(framed("reply"));
        EXPECT_EQ(conn.RecvPkg(), "reply");
        EXPECT_EQ(conn.Id(), id);
        EXPECT_EQ(std::any_cast<int>(conn.UserData()), 42);
        conn.Close();
        EXPECT_EQ(Pool().idle_count(), 1u);
        Exchange(gtcp::NewPoolConn(address_), fresh, "again");
        gtcp::CloseIdlePoolConns();
      }
    }
  }
}

TEST_F(PoolConnRenews, ForMessagesAndBytesToo) {
  {
    const PoolConn conn = Dead();
    gtcp::SendMsg(conn, {.Act = "hello", .Data = "x"});
    raw_peer fresh = listener_.Accept();
    EXPECT_EQ(fresh.read_pkg(), R"({"Act":"hello","Data":"x"})");
  }
  {
    const PoolConn conn = Dead();
    background exchange([&] { return conn.SendRecv("ping", 4); });
    raw_peer fresh = listener_.Accept();
    EXPECT_EQ(fresh.read(4), "ping");
    fresh.write("pong");
    EXPECT_EQ(exchange.get(), "pong");
  }
}

TEST_F(PoolConnRenews, AndClosesTheOldSocket) {
  std::vector<PoolConn> conns;
  const auto one_more = [&] {
    conns.push_back(Dead());
    conns.back().SendPkg("x");
    listener_.Accept();
  };
  one_more();
  EXPECT_TRUE(poll_until([&] { return Pool().group_count() == 1; }));
  const std::size_t before = gtcp_test::open_descriptors();
  one_more();
  EXPECT_EQ(gtcp_test::open_descriptors(), before + 1);
}

TEST_F(PoolConnRenews, WithAnUnansweredRequestThatKeepsItFromThePool) {
  for (const form which : gtcp_test::forms) {
    const PoolConn conn = Dead();
    EXPECT_EQ(Send(which, conn, "question"), std::error_code());
    conn.Close();
    EXPECT_EQ(Pool().idle_count(), 0u) << which;
    raw_peer fresh = listener_.Accept();
    EXPECT_EQ(fresh.read_pkg(), "question");
  }
}

TEST_F(PoolConnRenews, OnlyOnce) {
  for (const form which : gtcp_test::forms) {
    const PoolConn conn = Dead();
    EXPECT_EQ(Send(which, conn, "one"), std::error_code());
    raw_peer fresh = listener_.Accept();
    EXPECT_EQ(fresh.read_pkg(), "one");
    fresh.reset();
    WaitForInput(conn);
    EXPECT_TRUE(gtcp::IsFatal(Send(which, conn, "two"))) << which;
    EXPECT_FALSE(listener_.HasAnother());
  }
}

TEST_F(PoolConnRenews, NotWhatWasJustOpened) {
  for (const form which : gtcp_test::forms) {
    const PoolConn conn = gtcp::NewPoolConn(address_);
    listener_.Accept().reset();
    WaitForInput(conn);
    EXPECT_TRUE(gtcp::IsFatal(Send(which, conn, "x"))) << which;
    EXPECT_FALSE(listener_.HasAnother());
  }
}

TEST_F(PoolConnRenews, NotWhenSomethingWasSentBefore) {
  for (const form which : gtcp_test::forms) {
    gtcp::NewPoolConn(address_).Close();
    raw_peer old = listener_.Accept();
    const PoolConn conn = gtcp::NewPoolConn(address_);
    conn.Send("the first half, ");
    old.reset();
    WaitForInput(conn);
    EXPECT_TRUE(gtcp::IsFatal(Send(which, conn, "the second half"))) << which;
    EXPECT_FALSE(listener_.HasAnother());
  }
}

TEST_F(PoolConnRenews, NotWhenAByteWasOut) {
  for (const form which : gtcp_test::forms) {
    const PoolOption option{.Conn = {.SendBufferSize = 4096}};
    gtcp::NewPoolConn(address_, option).Close();
    raw_peer old = listener_.Accept();
    old.get().set_option(asio::socket_base::receive_buffer_size(4096));
    const PoolConn conn = gtcp::NewPoolConn(address_, option);
    const std::string much = pattern(8'000'000);
    background sending([&] {
      std::error_code error;
      if (which == form::blocking) {
        conn.Send(much, error);
      } else {
        gtcp_test::call_back<void>(error, [&](auto token) { conn.AsyncSend(much, token); });
      }
      return error;
    });
    EXPECT_EQ(old.read(1).size(), 1u);
    old.reset();
    const std::error_code error = sending.get();
    EXPECT_TRUE(gtcp::IsFatal(error)) << which << ' ' << error.message();
    EXPECT_FALSE(listener_.HasAnother());
  }
}

TEST_F(PoolConnRenews, NotForAReceive) {
  const PoolConn conn = Dead();
  std::error_code error;
  conn.RecvPkg(error);
  EXPECT_EQ(error, asio::error::connection_reset);
  conn.SendPkg("x", error);
  EXPECT_TRUE(gtcp::IsFatal(error));
  EXPECT_FALSE(listener_.HasAnother());
}

TEST_F(PoolConnRenews, NotWithoutWaiting) {
  const PoolConn conn = Dead();
  std::error_code error;
  EXPECT_FALSE(conn.TrySendPkg("x", error));
  EXPECT_TRUE(gtcp::IsFatal(error));
  EXPECT_FALSE(listener_.HasAnother());
}

TEST_F(PoolConnRenews, NotWithSettingsOfItsOwn) {
  const PoolConn conn = Dead();
  conn.SetNoDelay(false);
  std::error_code error;
  conn.SendPkg("x", error);
  EXPECT_TRUE(gtcp::IsFatal(error));
  EXPECT_FALSE(listener_.HasAnother());
}

TEST_F(PoolConnRenews, NotWhereNobodyListensAnyMore) {
  for (const form which : gtcp_test::forms) {
    Listener gone;
    gtcp::NewPoolConn(gone.Address()).Close();
    raw_peer old = gone.Accept();
    const PoolConn conn = gtcp::NewPoolConn(gone.Address());
    gone.Close();
    old.reset();
    WaitForInput(conn);
    const std::error_code error = Send(which, conn, "x");
    EXPECT_TRUE(gtcp::IsFatal(error)) << which << ' ' << error.message();
    EXPECT_EQ(Send(which, conn, "x"), error) << which;
  }
}

/// A connection that has died, to where connecting takes for ever.
class PoolConnRenewsForEver : public PoolTest {
 protected:
  PoolConnRenewsForEver() : full_(0) {
    gtcp::NewPoolConn(full_.Address()).Close();
    raw_peer old = full_.Accept();
    conn_ = gtcp::NewPoolConn(full_.Address());
    // As many as the system holds for a listener that holds none, and more, whose fate does not matter.
    for (int i = 0; i < 4; ++i) {
      fill_.emplace_back(gtcp_test::raw_context());
      fill_.back().open(tcp::v4());
      fill_.back().non_blocking(true);
      // Not Asio's connect, which waits.
      const tcp::endpoint to = full_.Endpoint();
      static_cast<void>(gtcp::detail::connect_socket(fill_.back().native_handle(), {to.data(), to.size()}));
    }
    old.reset();
    WaitForInput(conn_);
  }

  Listener full_;
  std::vector<tcp::socket> fill_;
  PoolConn conn_;
};

TEST_F(PoolConnRenewsForEver, UntilItIsClosed) {
  background sending([&] {
    std::error_code error;
    conn_.SendPkg("x", error);
    return error;
  });
  sending.wait_until_waiting();
  EXPECT_FALSE(sending.ended());
  conn_.Close();
  EXPECT_EQ(sending.get(), Errc::Closed);
}

TEST_F(PoolConnRenewsForEver, UntilItIsClosedAsynchronously) {
  std::error_code error;
  std::future<void> sending = conn_.AsyncSendPkg("x", asio::redirect_error(asio::use_future, error));
  conn_.Close();
  ASSERT_TRUE(comes(sending));
  sending.get();
  EXPECT_EQ(error, Errc::Closed);
}

TEST_F(PoolConnRenewsForEver, UntilTheDeadlineOfTheSend) {
  std::error_code error;
  conn_.SendPkgWithTimeout("x", 1ms, error);
  EXPECT_TRUE(error);
}

TEST_F(PoolConnRenewsForEver, UntilTheDeadlineOfTheAsynchronousSend) {
  std::error_code error;
  gtcp_test::call_back<void>(error, [&](auto token) { conn_.AsyncSendPkgWithTimeout("x", 1ms, token); });
  EXPECT_TRUE(error);
}

// ---- Forms, and bad arguments

using PoolConnIsMade = PoolTest;

TEST_F(PoolConnIsMade, InEveryForm) {
  std::optional<raw_peer> peer;
  const auto check = [&](const PoolConn& conn) {
    if (!peer) peer.emplace(listener_.Accept());
    Exchange(conn, *peer, "x");
    conn.Close();
    EXPECT_EQ(Pool().idle_count(), 1u);
  };
  std::error_code error;
  const PoolOption option;
  check(gtcp::NewPoolConn(address_));
  check(gtcp::NewPoolConn(address_, 30s));
  check(gtcp::NewPoolConn(address_, 30s, option));
  check(gtcp::NewPoolConn(address_, {.MaxConns = 3}));
  check(gtcp::NewPoolConn(address_, error));
  check(gtcp::NewPoolConn(address_, 30s, error));
  check(gtcp::NewPoolConn(address_, 30s, option, error));
  check(gtcp_test::run(gtcp::AsyncNewPoolConn(address_)));
  check(gtcp_test::run(gtcp::AsyncNewPoolConn(address_, 30s)));
  check(gtcp_test::run(gtcp::AsyncNewPoolConn(address_, 30s, option)));
  check(gtcp_test::run(gtcp::AsyncNewPoolConn(address_, option)));
  check(gtcp_test::run(gtcp::AsyncNewPoolConn(address_, error)));
  check(gtcp_test::run(gtcp::AsyncNewPoolConn(address_, 30s, option, error)));
  check(gtcp::AsyncNewPoolConn(address_, asio::use_future).get());
  check(gtcp::AsyncNewPoolConn(address_, 30s, asio::use_future).get());
  check(gtcp::AsyncNewPoolConn(address_, 30s, option, asio::use_future).get());
  check(gtcp_test::call_back<PoolConn>(error, [&](auto token) { gtcp::AsyncNewPoolConn(address_, std::move(token)); }));
  EXPECT_FALSE(error);
}

TEST_F(PoolConnIsMade, NotConnectedByDefault) {
  const PoolConn none;
  EXPECT_FALSE(none);
  none.Close();
  std::error_code error;
  none.SendPkg("x", error);
  EXPECT_EQ(error, asio::error::not_connected);
}

TEST_F(PoolConnIsMade, AHandleThatCanBeAKey) {
  const PoolConn a = gtcp::NewPoolConn(address_);
  const PoolConn b = gtcp::NewPoolConn(address_);
  const PoolConn copy = a;
  EXPECT_EQ(a, copy);
  EXPECT_NE(a, b);
  EXPECT_EQ((std::unordered_set<PoolConn>{a, b, copy}).size(), 2u);
}

TEST_F(PoolConnIsMade, OnTheHandlersExecutorAndNeverAtOnce) {
  asio::io_context io;
  asio::io_context handlers;
  PoolOption option;
  option.Conn.Executor = io.get_executor();
  for (int round = 0; round < 2; ++round) {  // a fresh one, then an idle one
    bool called = false;
    gtcp::AsyncNewPoolConn(address_, 30s, option,
                           asio::bind_executor(handlers.get_executor(), [&](std::error_code error, PoolConn conn) {
                             EXPECT_FALSE(error);
                             EXPECT_TRUE(conn);
                             EXPECT_EQ(conn.get_executor(), io.get_executor());
                             called = true;
                           }));
    EXPECT_FALSE(called);
    io.restart();
    background running([&] { return io.run_for(gtcp_test::ceiling); });
    handlers.restart();
    handlers.run_for(gtcp_test::ceiling);
    EXPECT_TRUE(called);
    running.get();
  }
  EXPECT_EQ(Pool().idle_count(), 1u);
}

TEST_F(PoolConnIsMade, ForAHandlerThatHasAName) {
  asio::io_context handlers;
  const auto calls = std::make_shared<int>(0);
  auto handler = [calls](std::error_code error, const PoolConn& conn) {
    EXPECT_FALSE(error);
    EXPECT_TRUE(conn);
    ++*calls;
  };
  PoolOption option;
  option.Conn.Executor = handlers.get_executor();
  gtcp::AsyncNewPoolConn(address_, 30s, option, handler);
  gtcp::AsyncNewPoolConn(address_, 30s, option, handler);
  handlers.run_for(gtcp_test::ceiling);
  EXPECT_EQ(*calls, 2);
}

TEST_F(PoolConnIsMade, OnTheCoroutinesExecutor) {
  asio::io_context context;
  const auto make = [&]() -> asio::awaitable<bool> {
    const PoolConn conn = co_await gtcp::AsyncNewPoolConn(address_);
    co_return conn.get_executor() == asio::any_io_executor(context.get_executor());
  };
  std::future<bool> same = asio::co_spawn(context, make(), asio::use_future);
  context.run_for(gtcp_test::ceiling);
  EXPECT_TRUE(same.get());
}

TEST_F(PoolConnIsMade, NotOnAnIoThread) {
  gtcp::NewPoolConn(address_).Close();
  std::promise<std::error_code> result;
  asio::post(gtcp::Runtime::Default().get_executor(), [&] {
    std::error_code error;
    gtcp::NewPoolConn(address_, error);
    result.set_value(error);
  });
  EXPECT_EQ(result.get_future().get(), Errc::WouldDeadlock);
}

TEST_F(PoolConnIsMade, NotOfBadArguments) {
  const auto says = [](const std::error_code& expected, auto make, const std::string& part) {
    const std::string text = text_of_error(expected, make);
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_NE(text.find("NewPoolConn"), std::string::npos) << text;
  };
  const PoolOption negative{.IdleTime = -1ms};
  const PoolOption linger{.Conn = {.Linger = -1ms}};
  says(
      Errc::InvalidOption, [&] { gtcp::NewPoolConn(address_, negative); }, "IdleTime is -1");
  says(
      Errc::InvalidOption, [&] { gtcp::NewPoolConn(address_, linger); }, "Linger is -1");
  says(
      Errc::InvalidOption, [&] { gtcp::NewPoolConn(address_, -1ns); }, "timeout is -1");
  says(
      Errc::InvalidAddress, [&] { gtcp::NewPoolConn("nonsense"); }, "nonsense");
  says(
      Errc::InvalidOption, [&] { gtcp_test::run(gtcp::AsyncNewPoolConn(address_, negative)); }, "IdleTime is -1");
  says(
      Errc::InvalidAddress, [&] { gtcp_test::run(gtcp::AsyncNewPoolConn("nonsense")); }, "nonsense");
  EXPECT_FALSE(listener_.HasAnother());
}

// ---- Many at once

TEST_F(PoolTest, ServesManyAtOnceAndMixesNothingUp) {
  std::atomic<int> open{0};
  std::atomic<int> most{0};
  const gtcp::Server server("127.0.0.1:0", [&](gtcp::Conn conn) {
    const int now = ++open;
    for (int seen = most.load(); seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    struct leave {
      std::atomic<int>& count;
      ~leave() { --count; }
    } guard{open};
    for (;;) conn.SendPkg("re: " + conn.RecvPkg());
  });
  server.Start();
  const std::string address = server.GetListenedAddress();
  constexpr std::size_t max = 4;
  constexpr int rounds = 150;
  std::atomic<int> wrong{0};
  std::atomic<int> answered{0};
  const auto check = [&](const std::string& text, const std::string& reply, const std::error_code& error) {
    if (error) return;
    ++answered;
    if (reply != "re: " + text) ++wrong;
  };
  const auto end = [](const PoolConn& conn, int how) {
    if (how % 7 == 1) conn.Abort();
    if (how % 7 == 2) conn.SendPkgs(std::vector<std::string>{"nobody", "reads", "the answers"});
    if (how % 3 != 0) conn.Close();
  };

  const auto in_thread = [&](int id) {
    for (int i = 0; i < rounds; ++i) {
      const PoolConn conn = gtcp::NewPoolConn(address, {.MaxConns = max});
      const std::string text = std::to_string(id) + '/' + std::to_string(i);
      std::error_code error;
      const std::string reply =
          i % 11 == 3 ? conn.SendRecvPkgWithTimeout(text, 0s, error) : conn.SendRecvPkg(text, error);
      check(text, reply, error);
      end(conn, i + id);
    }
  };
  const auto in_coroutine = [&](int id) -> asio::awaitable<void> {
    for (int i = 0; i < rounds; ++i) {
      std::error_code error;
      const PoolOption option{.MaxConns = max};
      auto taking = gtcp::AsyncNewPoolConn(address, 30s, option, error);
      const PoolConn conn = co_await std::move(taking);
      if (error) {
        ++wrong;
        continue;
      }
      const std::string text = std::to_string(id) + '/' + std::to_string(i);
      auto exchange = conn.AsyncSendRecvPkg(text, error);
      const std::string reply = co_await std::move(exchange);
      check(text, reply, error);
      end(conn, i + id);
    }
  };
  std::vector<std::future<void>> coroutines;
  for (int id = 0; id < 6; ++id) {
    coroutines.push_back(
        asio::co_spawn(gtcp::Runtime::Default().get_executor(), in_coroutine(100 + id), asio::use_future));
  }
  // Some who ask and then want nothing any more.
  std::vector<std::unique_ptr<background<int>>> threads;
  threads.push_back(std::make_unique<background<int>>([&] {
    for (int i = 0; i < rounds; ++i) {
      std::stop_source source;
      std::error_code ignored;
      const std::jthread stopper([&] { source.request_stop(); });
      gtcp::NewPoolConn(address, 30s, {.MaxConns = max}, ignored, source.get_token());
    }
    return 0;
  }));
  for (int id = 0; id < 5; ++id) {
    threads.push_back(std::make_unique<background<int>>([&, id] {
      in_thread(id);
      return 0;
    }));
  }
  for (auto& thread : threads) thread->get();
  for (auto& coroutine : coroutines) {
    ASSERT_TRUE(comes(coroutine));
    coroutine.get();
  }
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GT(answered.load(), 5 * rounds);
  EXPECT_LE(Pool().idle_count(), max);
  EXPECT_EQ(Pool().waiting_count(), 0u);
}

TEST_F(PoolTest, EndsAConnectionOnceWhoeverClosesIt) {
  const gtcp::Server server = EchoPkgServer();
  const std::string address = server.GetListenedAddress();
  for (int round = 0; round < 50; ++round) {
    const PoolConn conn = gtcp::NewPoolConn(address, {.MaxConns = 1});
    std::latch start(4);
    const auto together = [&](auto what) {
      return std::jthread([&start, what] {
        start.arrive_and_wait();
        what();
      });
    };
    const std::jthread closing = together([&] { conn.Close(); });
    const std::jthread again = together([&, other = gtcp::Conn(conn)] { other.Close(); });
    const std::jthread sending = together([&] {
      std::error_code error;
      conn.SendPkg("x", error);
      if (!error) conn.RecvPkg(error);
    });
    const std::jthread last = together([&] {
      if (round % 2 == 0) {
        conn.Abort();
      } else {
        std::error_code error;
        conn.RecvPkgWithTimeout(0s, error);
      }
    });
  }
  EXPECT_EQ(gtcp::NewPoolConn(address, {.MaxConns = 1}).SendRecvPkg("the end"), "the end");
}

TEST_F(PoolTest, RenewsWhileOthersUseIt) {
  for (int round = 0; round < 30; ++round) {
    gtcp::NewPoolConn(address_).Close();
    raw_peer old = listener_.Accept();
    const PoolConn conn = gtcp::NewPoolConn(address_);
    std::latch start(4);
    const auto together = [&](auto what) {
      return std::jthread([&start, what] {
        start.arrive_and_wait();
        std::error_code error;
        what(error);
      });
    };
    {
      const std::jthread a = together([&](std::error_code& error) { conn.SendPkg("a", error); });
      const std::jthread b = together([&](std::error_code& error) { conn.SendPkg(std::string(20'000, 'b'), error); });
      const std::jthread c = together([&](std::error_code& error) {
        if (round % 3 == 0) conn.RecvPkgWithTimeout(1ms, error);
        if (round % 3 == 1) conn.Close();
        if (round % 3 == 2) gtcp_test::call_back<void>(error, [&](auto token) { conn.AsyncSendPkg("c", token); });
      });
      old.reset();
      start.arrive_and_wait();
    }
    conn.Close();
    while (listener_.HasAnother()) {
    }
    gtcp::CloseIdlePoolConns();
  }
}

// ---- The end of the process, and fork

#if defined(__linux__)

TEST_F(PoolTest, IsNotSharedWithAChildProcess) {
  const PoolConn lent = gtcp::NewPoolConn(address_, {.IdleTime = 0ms});
  raw_peer lent_peer = listener_.Accept();
  gtcp::NewPoolConn(address_, {.IdleTime = 0ms}).Close();
  raw_peer idle_peer = listener_.Accept();
  ASSERT_EQ(Pool().idle_count(), 1u);

  const pid_t child = ::fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    const PoolConn conn = gtcp::NewPoolConn(address_, {.IdleTime = 0ms});
    conn.SendPkg("child");
    conn.Flush();
    lent.Close();
    ::_exit(lent.IsClosed() && Pool().idle_count() == 0 ? 0 : 1);
  }
  raw_peer child_peer = listener_.Accept();
  EXPECT_EQ(child_peer.read_pkg(), "child");
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  Exchange(gtcp::NewPoolConn(address_, {.IdleTime = 0ms}), idle_peer, "the parent's");
  Exchange(lent, lent_peer, "the parent's");
}

TEST_F(PoolTest, LetsTheChildsCopiesGo) {
  gtcp::NewPoolConn(address_, {.IdleTime = 0ms}).Close();
  raw_peer idle_peer = listener_.Accept();
  const auto sockets = [] {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry.path(), gone).string().starts_with("socket:")) ++count;
    }
    return count;
  };
  const pid_t child = ::fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    const int before = sockets();
    gtcp::CloseIdlePoolConns();
    ::_exit(before - sockets());
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  Exchange(gtcp::NewPoolConn(address_, {.IdleTime = 0ms}), idle_peer, "the parent's");
}

TEST_F(PoolTest, IsThereUntilTheProcessEnds) {
  const auto leave_some = [&] {
    static PoolConn dropped_at_exit;
    dropped_at_exit = gtcp::NewPoolConn(address_);
    gtcp::NewPoolConn(address_).Close();
    std::exit(Pool().idle_count() == 1 ? 0 : 1);
  };
  gtcp_test::expect_well_in_child(leave_some);
}

#endif

}  // namespace
