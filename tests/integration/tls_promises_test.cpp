// SPDX-License-Identifier: MIT

// What connections promise, with TLS underneath: whole packages, nothing lost, nothing torn, everything delivered.

#include <gtcp/dial.hpp>
#include <gtcp/tls.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"
#include "support/tls_pair.hpp"

#include <asio/co_spawn.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <future>
#include <iterator>
#include <span>
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
using gtcp_test::background;
using gtcp_test::comes;
using gtcp_test::form;
using gtcp_test::forms;
using gtcp_test::framed;
using gtcp_test::make_conn_and_tls_end;
using gtcp_test::make_narrow_tls;
using gtcp_test::make_tls_conn_pair;
using gtcp_test::pattern;
using gtcp_test::poll_until;
using gtcp_test::recv_pkg_within;

void update_keys(const Conn& conn) {
  gtcp::detail::tls_of(conn)->with_ssl([](SSL* ssl) { SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED); });
}

// ---- Whole packages, in order (P1, P2)

/// A package of a sender: who, which, and bytes that follow from both.
std::string numbered(unsigned sender, unsigned number) {
  const std::size_t size = (sender * 131 + number * 977) % 3000;
  return std::to_string(sender) + ' ' + std::to_string(number) + ' ' + pattern(size, sender * 1000 + number);
}

/// Receives what `senders` senders send, each `count` packages; returns how many were not as they should be.
unsigned check_all(const Conn& conn, unsigned senders, unsigned count) {
  std::vector<unsigned> next(senders, 0);
  unsigned wrong = 0;
  for (unsigned left = senders * count; left > 0; --left) {
    std::error_code error;
    const std::string pkg = conn.RecvPkgWithTimeout(gtcp_test::ceiling, error);
    if (error) return wrong + left;
    const auto sender = static_cast<unsigned>(std::stoul(pkg));
    if (sender >= senders || pkg != numbered(sender, next[sender]++)) ++wrong;
  }
  return wrong;
}

asio::awaitable<void> send_numbered(const Conn& conn, unsigned sender, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    std::string pkg = numbered(sender, i);
    if (i % 64 == 7) update_keys(conn);
    auto sending = conn.AsyncSendPkg(std::move(pkg));
    co_await std::move(sending);
  }
}

TEST(TlsPromises, KeepsPackagesWholeFromThreadsAndCoroutinesBothWaysWithKeyUpdates) {
  constexpr unsigned threads = 4;
  constexpr unsigned coroutines = 4;
  constexpr unsigned count = 400;
  const gtcp_test::conn_pair pair = make_tls_conn_pair();
  const Conn ends[] = {pair.a, pair.b};
  std::vector<std::thread> senders;
  std::vector<std::future<void>> spawned;
  for (const Conn& conn : ends) {
    for (unsigned sender = 0; sender < threads; ++sender) {
      senders.emplace_back([&conn, sender] {
        for (unsigned i = 0; i < count; ++i) {
          if (i % 64 == 5) update_keys(conn);
          conn.SendPkg(numbered(sender, i));
        }
      });
    }
    for (unsigned sender = threads; sender < threads + coroutines; ++sender) {
      spawned.push_back(asio::co_spawn(conn.get_executor(), send_numbered(conn, sender, count), asio::use_future));
    }
  }
  auto other = std::async(std::launch::async, [&] { return check_all(pair.b, threads + coroutines, count); });
  EXPECT_EQ(check_all(pair.a, threads + coroutines, count), 0u);
  EXPECT_EQ(other.get(), 0u);
  for (std::thread& thread : senders) thread.join();
  for (auto& future : spawned) future.get();
}

asio::awaitable<void> receive_until_empty(const Conn& conn, std::vector<std::string>& came) {
  for (;;) {
    std::string pkg = co_await conn.AsyncRecvPkg();
    if (pkg.empty()) co_return;
    came.push_back(std::move(pkg));
  }
}

TEST(TlsPromises, GivesEachOfManyReceiversWholePackagesOnceAndInOrder) {
  constexpr unsigned threads = 2;
  constexpr unsigned receivers = 4;
  constexpr unsigned senders = 3;
  constexpr unsigned count = 500;
  const gtcp_test::conn_pair pair = make_tls_conn_pair();
  std::vector<std::vector<std::string>> came(receivers);
  std::vector<std::future<void>> ended;
  for (unsigned i = 0; i < receivers; ++i) {
    if (i >= threads) {
      ended.push_back(asio::co_spawn(pair.a.get_executor(), receive_until_empty(pair.a, came[i]), asio::use_future));
      continue;
    }
    ended.push_back(std::async(std::launch::async, [&from = pair.a, &mine = came[i]] {
      for (std::string pkg = from.RecvPkg(); !pkg.empty(); pkg = from.RecvPkg()) mine.push_back(std::move(pkg));
    }));
  }
  std::vector<std::thread> sending;
  for (unsigned sender = 0; sender < senders; ++sender) {
    sending.emplace_back([&to = pair.b, sender] {
      for (unsigned i = 0; i < count; ++i) to.SendPkg(numbered(sender, i));
    });
  }
  for (std::thread& thread : sending) thread.join();
  for (unsigned i = 0; i < receivers; ++i) pair.b.SendPkg("");
  for (std::future<void>& one : ended) {
    ASSERT_TRUE(comes(one));
    one.get();
  }
  std::vector<std::string> all;
  for (const std::vector<std::string>& mine : came) {
    std::vector<int> last(senders, -1);
    for (const std::string& pkg : mine) {
      const auto sender = static_cast<std::size_t>(std::stoul(pkg));
      ASSERT_LT(sender, senders);
      const int number = std::stoi(pkg.substr(pkg.find(' ')));
      EXPECT_GT(number, std::exchange(last[sender], number)) << "of one sender, to one receiver";
    }
    all.insert(all.end(), mine.begin(), mine.end());
  }
  std::vector<std::string> sent;
  for (unsigned sender = 0; sender < senders; ++sender) {
    for (unsigned i = 0; i < count; ++i) sent.push_back(numbered(sender, i));
  }
  std::sort(all.begin(), all.end());
  std::sort(sent.begin(), sent.end());
  EXPECT_TRUE(all == sent) << all.size() << " of " << sent.size();
}

// ---- A receive that times out loses nothing (P3)

TEST(TlsPromises, LosesNothingWhenReceivesTimeOut) {
  auto [conn, peer] = make_conn_and_tls_end();
  const std::string bytes = framed("hello, world") + framed("") + framed(pattern(300));
  std::vector<std::string> came;
  unsigned count = 0;
  const auto receive = [&, &from = conn](std::chrono::nanoseconds timeout) {
    std::error_code error;
    std::string pkg = recv_pkg_within(forms[count++ % std::size(forms)], from, timeout, {}, error);
    if (!error) came.push_back(std::move(pkg));
    EXPECT_TRUE(!error || error == Errc::Timeout) << error.message();
  };
  for (const char& byte : bytes) {
    peer.write({&byte, 1});  // a record of its own
    receive(0s);
    receive(1us);
  }
  while (came.size() < 3) receive(gtcp_test::ceiling);
  EXPECT_EQ(came, (std::vector<std::string>{"hello, world", "", pattern(300)}));
}

TEST(TlsPromises, NeverWaitsForWhatIsDecryptedAlready) {
  auto [conn, peer] = make_conn_and_tls_end();
  std::string many;
  for (int i = 0; i < 100; ++i) many += framed(std::to_string(i));
  for (const form which : forms) {
    peer.write(many);  // one record
    std::error_code error;
    EXPECT_EQ(recv_pkg_within(which, conn, gtcp_test::ceiling, {}, error), "0");
    for (int i = 1; i < 100; ++i) EXPECT_EQ(recv_pkg_within(which, conn, 0s, {}, error), std::to_string(i)) << which;
  }
  // More than is read at once, so that OpenSSL keeps a part.
  const std::string large = pattern(200'000);
  auto writing = std::async(std::launch::async, [&, &to = peer] { to.write(large); });
  EXPECT_TRUE(conn.RecvWithTimeout(200'000, gtcp_test::ceiling) == large);
  writing.get();
}

TEST(TlsPromises, HandsOverWhatIsDecryptedAlready) {
  auto [conn, peer] = make_conn_and_tls_end();
  std::promise<void> all;
  auto done = all.get_future();
  int next = 0;
  conn.SetPkgHandler([&](Conn&, std::string_view pkg) {
    EXPECT_EQ(pkg, std::to_string(next));
    if (++next == 3000) all.set_value();
  });
  std::string many;
  for (int i = 0; i < 3000; ++i) many += framed(std::to_string(i));
  peer.write(many);  // two records, and then nothing more
  EXPECT_TRUE(comes(done)) << next;
  conn.Close();
}

// ---- One's timeout is nobody else's, and a deadline wakes those that wait (P5)

TEST(TlsPromises, EndsOnlyTheReceiveWhoseTimeIsOver) {
  auto [conn, peer] = make_conn_and_tls_end();
  const auto receive = [&from = conn] {
    return [from] {
      std::error_code error;
      std::string pkg = from.RecvPkg(error);
      return error ? error.message() : pkg;
    };
  };
  background<std::string> first(receive());
  first.wait_until_waiting();
  for (const form which : forms) {
    std::error_code error;
    recv_pkg_within(which, conn, 1ms, {}, error);
    EXPECT_EQ(error, Errc::Timeout) << which;
  }
  EXPECT_FALSE(first.ended());
  peer.write(framed("for the first"));
  EXPECT_EQ(first.get(), "for the first");

  background<std::string> second(receive());
  second.wait_until_waiting();
  std::promise<std::error_code> told;
  auto third = told.get_future();
  conn.AsyncRecvPkg([&](std::error_code error, const std::string&) { told.set_value(error); });
  conn.SetDeadlineRecv(std::chrono::steady_clock::now());
  EXPECT_EQ(second.get(), make_error_code(Errc::Timeout).message());
  ASSERT_TRUE(comes(third));
  EXPECT_EQ(third.get(), Errc::Timeout);
  conn.SetDeadlineRecv({});
  peer.write(framed("for the next"));
  EXPECT_EQ(conn.RecvPkgWithTimeout(gtcp_test::ceiling), "for the next");
}

// ---- Memory follows what is really there (P7)

#if defined(__linux__)
TEST(TlsPromises, TakesNoMemoryForALengthThatIsOnlyAnnounced) {
  constexpr std::size_t announced = 0x7FFFFFFF;
  const auto reserved = [] {
    std::ifstream file("/proc/self/statm");
    std::size_t pages = 0;
    file >> pages;
    return pages * 4096;
  };
  gtcp::ConnOption option;
  option.Pkg.HeaderSize = 4;
  auto [conn, peer] = make_conn_and_tls_end(option);
  peer.write(std::string("\x7f\xff\xff\xff", 4) + pattern(1000));
  const std::size_t before = reserved();
  for (const form which : forms) {
    std::error_code error;
    recv_pkg_within(which, conn, 5ms, {}, error);
    EXPECT_EQ(error, Errc::Timeout);
    const std::size_t now = reserved();
    EXPECT_LT(now - std::min(now, before), announced / 4) << which;
  }
}
#endif

// ---- A send that times out does not tear the stream (P4), and done means done

TEST(TlsPromises, SendsThatTimeOutLeaveACleanStream) {
  gtcp::ConnOption option;
  option.OutboxLimit = 1;
  auto [conn, peer] = make_narrow_tls(option);
  std::vector<std::string> sent;
  int timeouts = 0;
  // Until several sends have failed, the peer does not read.
  for (unsigned i = 0; timeouts < 5; ++i) {
    std::string pkg = std::to_string(i) + ' ' + pattern(i % 2 == 0 ? 40'000 : 500, i);
    std::error_code error;
    conn.SendPkgWithTimeout(pkg, 1ms, error);
    if (!error)
      sent.push_back(std::move(pkg));
    else
      ++timeouts;
    ASSERT_TRUE(!error || error == Errc::Timeout) << error.message();
  }
  auto last = std::async(std::launch::async, [&from = conn] { from.SendPkg("last"); });
  sent.emplace_back("last");
  for (const std::string& pkg : sent) EXPECT_TRUE(peer.read_pkg() == pkg);
  last.get();
}

TEST(TlsPromises, FlushAndDirectWaitForTheCiphertext) {
  auto [conn, peer] = make_narrow_tls();
  std::error_code error;
  const std::string pkg = pattern(8'000);
  std::size_t sent = 0;
  while (conn.TrySendPkg(pkg)) ++sent;
  conn.FlushWithTimeout(1ms, error);
  EXPECT_EQ(error, Errc::Timeout);
  conn.SetSendMode(gtcp::SendMode::Direct);
  conn.SendPkgWithTimeout("direct", 1ms, error);
  EXPECT_EQ(error, Errc::Timeout);
  auto flushing = std::async(std::launch::async, [&from = conn] { from.FlushWithTimeout(gtcp_test::ceiling); });
  for (std::size_t i = 0; i < sent; ++i) EXPECT_TRUE(peer.read_pkg() == pkg);
  flushing.get();
  conn.SendPkg("direct");
  EXPECT_EQ(peer.read_pkg(), "direct");
}

TEST(TlsPromises, SendsTheRestOfTheCiphertextByItself) {
  // A send is done as soon as TLS has taken it; from there on nobody calls anything.
  for (int i = 0; i < 20; ++i) {
    auto [conn, peer] = make_narrow_tls();
    const std::string pkg = pattern(15'000, static_cast<unsigned>(i));
    conn.SendPkg(pkg);
    EXPECT_TRUE(peer.read_pkg() == pkg);
  }
}

// ---- Closing (P6)

TEST(TlsPromises, CloseDeliversEverythingAndEndsWithCloseNotify) {
  for (const bool narrow : {false, true}) {
    gtcp::ConnOption option;
    option.Linger = gtcp_test::ceiling;
    auto [conn, peer] = narrow ? make_narrow_tls(option) : make_conn_and_tls_end(option);
    const std::string pkg = pattern(1'500);
    for (int i = 0; i < 100; ++i) conn.SendPkg(pkg);
    auto closing = std::async(std::launch::async, [&from = conn] { return from.CloseAndWait(gtcp_test::ceiling); });
    // The peer goes on sending meanwhile, which must not reset what it has not read yet.
    for (int i = 0; i < 100; ++i) {
      if (i % 10 == 0) peer.write("still here");
      EXPECT_TRUE(peer.read_pkg() == pkg);
    }
    std::error_code error;
    EXPECT_EQ(peer.read(1, error), "");
    EXPECT_EQ(error, asio::error::eof);  // close_notify, else TlsTruncated
    peer.finish();
    peer.close();
    EXPECT_TRUE(closing.get());
  }
}

TEST(TlsPromises, CloseWriteSendsCloseNotifyAndGoesOnReceiving) {
  auto [conn, peer] = make_conn_and_tls_end();
  conn.SendPkg("last");
  conn.CloseWrite();
  EXPECT_EQ(peer.read_pkg(), "last");
  std::error_code error;
  peer.read(1, error);
  EXPECT_EQ(error, asio::error::eof);
  peer.write(framed("answer"));
  EXPECT_EQ(conn.RecvPkg(), "answer");
  conn.SendPkg("late", error);
  EXPECT_EQ(error, asio::error::shut_down);
}

TEST(TlsPromises, CloseWakesWhoWaits) {
  auto [conn, peer] = make_narrow_tls();
  auto blocked = std::async(std::launch::async, [&from = conn] {
    std::error_code error;
    from.RecvPkg(error);
    return error;
  });
  std::error_code received;
  auto waiting = conn.AsyncRecvPkg(asio::redirect_error(asio::use_future, received));
  std::error_code sent;
  std::thread sending([&sent, &from = conn] {
    while (!sent) from.SendPkg(pattern(20'000), sent);
  });
  EXPECT_TRUE(poll_until(
      [&] { return gtcp::detail::is_ready(conn.GetNativeHandle(), gtcp::detail::wait_direction::write) == false; }));
  conn.Close();
  EXPECT_EQ(blocked.get(), Errc::Closed);
  waiting.get();
  EXPECT_EQ(received, Errc::Closed);
  sending.join();
  EXPECT_EQ(sent, Errc::Closed);
}

TEST(TlsPromises, TellsWhereTheStreamWasCut) {
  {
    auto [conn, peer] = make_conn_and_tls_end();
    peer.write(framed("whole"));
    peer.close();
    EXPECT_EQ(conn.RecvPkg(), "whole");
    std::error_code error;
    conn.RecvPkg(error);
    EXPECT_EQ(error, Errc::TlsTruncated);
    EXPECT_TRUE(gtcp::IsFatal(error));
    EXPECT_EQ(conn.CloseReason(), Errc::TlsTruncated);
  }
  {
    auto [conn, peer] = make_conn_and_tls_end();
    peer.write(framed("not whole").substr(0, 5));
    peer.close();
    std::error_code error;
    conn.RecvPkg(error);
    EXPECT_EQ(error, Errc::PkgTruncated);
  }
  {
    auto [conn, peer] = make_conn_and_tls_end();
    peer.write(framed("not whole").substr(0, 5));
    peer.finish();
    std::error_code error;
    conn.RecvPkg(error);
    EXPECT_EQ(error, Errc::PkgTruncated);
  }
  {
    auto [conn, peer] = make_conn_and_tls_end();
    peer.finish();
    std::error_code error;
    conn.RecvPkg(error);
    EXPECT_EQ(error, asio::error::eof);
  }
}

// ---- Key updates that ask for answers

std::future<std::string> receive(const Conn& conn, form how) {
  if (how == form::blocking) return std::async(std::launch::async, [conn] { return conn.RecvPkg(); });
  return conn.AsyncRecvPkg(asio::use_future);
}

void count_key_updates(int is_sent, int, int kind, const void* bytes, std::size_t size, SSL*, void* count) {
  const bool is_update =
      kind == SSL3_RT_HANDSHAKE && size > 0 && *static_cast<const char*>(bytes) == SSL3_MT_KEY_UPDATE;
  if (is_sent == 0 && is_update) ++*static_cast<std::size_t*>(count);
}

TEST(TlsPromises, AReceiverAloneAnswersKeyUpdates) {
  for (const form how : {form::blocking, form::callback}) {
    SCOPED_TRACE(how == form::blocking ? "blocking" : "asynchronous");
    auto [conn, peer] = make_narrow_tls();
    auto received = receive(conn, how);
    std::size_t answers = 0;
    peer.tls().with_ssl([&](SSL* ssl) {
      SSL_set_msg_callback(ssl, &count_key_updates);
      SSL_set_msg_callback_arg(ssl, &answers);
    });
    // Answers pile up in the connection (but for the last one, which OpenSSL keeps back), since this end does not read
    // them; then it does, and nobody sends.
    std::size_t updates = 0;
    EXPECT_TRUE(poll_until([&, &to = peer] {
      if (to.tls().write_some({}).wait_for == gtcp::detail::wait_direction::none && to.update_keys()) ++updates;
      return updates == 1'000;
    }));
    std::string byte(1, '\0');
    EXPECT_TRUE(poll_until([&, &to = peer] {
      return to.tls().read_some(asio::buffer(byte)).error || answers + 1 >= updates;
    })) << answers;
    peer.write(framed("done"));
    ASSERT_TRUE(comes(received));
    EXPECT_EQ(received.get(), "done");
    conn.SendPkg("and back");
    EXPECT_EQ(peer.read_pkg(), "and back");
  }
}

TEST(TlsPromises, GoesOnWhenAFloodOfKeyUpdatesIsReadAtLast) {
  gtcp::ConnOption option;
  option.RecvBufferSize = 4096;
  for (const form how : {form::blocking, form::callback}) {
    SCOPED_TRACE(how == form::blocking ? "blocking" : "asynchronous");
    auto [conn, peer] = make_narrow_tls(option);
    peer.narrow_sending();
    auto received = receive(conn, how);
    // Until the connection stops reading, and the system's buffers in between are full.
    int stuck = 0;
    EXPECT_TRUE(poll_until([&, &to = peer] {
      const bool took_all = to.update_keys();
      stuck = took_all ? 0 : stuck + 1;
      return stuck > 200;
    }));
    std::string bytes(4096, '\0');
    const std::string done = framed("done");
    std::string_view left = done;
    EXPECT_TRUE(poll_until([&, &to = peer] {
      to.tls().read_some(asio::buffer(bytes));
      const asio::const_buffer part(left.data(), left.size());
      left.remove_prefix(to.tls().write_some(std::span(&part, 1)).size);
      return received.wait_for(0s) == std::future_status::ready;
    }));
    EXPECT_EQ(received.get(), "done");
    conn.SendPkg("and back");
    EXPECT_EQ(peer.read_pkg(), "and back");
  }
}

}  // namespace
