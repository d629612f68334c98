// SPDX-License-Identifier: MIT

// Every operation of a connection, with each of its allocations failing once: what comes of it is std::bad_alloc or an
// error that says so, exactly one completion, and a connection that works or says that it does not. The peer gets whole
// packages in any case.

#include <gtcp/detail/conn_pool.hpp>
#include <gtcp/gtcp.hpp>

#include "support/allocation_sweep.hpp"
#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/running_server.hpp"

#include <asio/awaitable.hpp>
#include <asio/ip/tcp.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;

struct wish {
  whose threads;
  what_fails what;
  how_long lasting;
};

/// For operations in all forms.
class AllocationSweep : public testing::TestWithParam<wish> {
 protected:
  template <class Scenario>
  static void sweep(const Scenario& scenario) {
    sweep_allocations(GetParam().threads, GetParam().what, GetParam().lasting, scenario);
  }
};

std::string name_of(const testing::TestParamInfo<wish>& info) {
  return std::string(info.param.threads == whose::this_thread ? "InTheCallingThread" : "InAnyThread") +
         (info.param.what == what_fails::asio_too ? "AndAsio" : "") +
         (info.param.lasting == how_long::for_good ? "ForGood" : "");
}

INSTANTIATE_TEST_SUITE_P(Allocations, AllocationSweep,
                         testing::Values(wish{whose::this_thread, what_fails::operator_new, how_long::once},
                                         wish{whose::all_threads, what_fails::operator_new, how_long::once}),
                         name_of);

/// What Asio allocates too. Not for coroutines: what Asio allocates between suspending one and beginning what it waits
/// for must not fail (awaitable's await_suspend is noexcept).
class AllocationSweepWithAsio : public AllocationSweep {};

INSTANTIATE_TEST_SUITE_P(Allocations, AllocationSweepWithAsio,
                         testing::Values(wish{whose::this_thread, what_fails::operator_new, how_long::once},
                                         wish{whose::all_threads, what_fails::operator_new, how_long::once},
                                         wish{whose::this_thread, what_fails::asio_too, how_long::once},
                                         wish{whose::all_threads, what_fails::asio_too, how_long::once}),
                         name_of);

/// From one allocation on all of them fail, which an asynchronous operation has no other way to tell than by destroying
/// its handler.
class AllocationSweepWithoutEnd : public AllocationSweep {};

INSTANTIATE_TEST_SUITE_P(Allocations, AllocationSweepWithoutEnd,
                         testing::Values(wish{whose::this_thread, what_fails::asio_too, how_long::for_good}), name_of);

/// Reads packages in a thread of its own until the end of the stream.
class reading_peer {
 public:
  explicit reading_peer(raw_peer peer, std::size_t header_size = 2)
      : peer_(std::move(peer)), thread_([this, header_size] { read(header_size); }) {}

  /// The packages, all of them whole.
  const std::vector<std::string>& packages() {
    if (thread_.joinable()) thread_.join();
    return packages_;
  }
  bool is_torn() const noexcept { return torn_; }
  ~reading_peer() { packages(); }

 private:
  void read(std::size_t header_size) {
    const exempt_thread exempted;
    std::string all;
    try {
      all = peer_.read_to_end();
    } catch (const std::system_error&) {
      torn_ = true;  // a reset: the connection had lost something
    }
    std::string_view rest(all);
    while (rest.size() >= header_size) {
      std::size_t size = 0;
      for (std::size_t i = 0; i < header_size; ++i) size = size << 8 | static_cast<unsigned char>(rest[i]);
      if (rest.size() - header_size < size) break;
      packages_.emplace_back(rest.substr(header_size, size));
      rest.remove_prefix(header_size + size);
    }
    torn_ = torn_ || !rest.empty();
  }

  raw_peer peer_;
  std::vector<std::string> packages_;
  bool torn_ = false;
  std::thread thread_;
};

// ---- Connecting

/// Listens, and leaves who connects to the system.
class silent_listener {
 public:
  silent_listener() { acceptor_.non_blocking(true); }

  const std::string& address() const { return address_; }

  /// Who has connected since, the last one at the end.
  std::vector<raw_peer> accept_all() {
    std::vector<raw_peer> peers;
    for (;;) {
      std::error_code none_waits;
      asio::ip::tcp::socket peer = acceptor_.accept(none_waits);
      if (none_waits) return peers;
      peer.non_blocking(false);
      peers.emplace_back(raw_peer::socket(std::move(peer)));
    }
  }

 private:
  asio::ip::tcp::acceptor acceptor_{raw_context(), {asio::ip::address_v4::loopback(), 0}};
  std::string address_ = "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
};

TEST_P(AllocationSweepWithAsio, NewConn) {
  silent_listener listener;
  sweep([&](const injection& arm) {
    Conn conn;
    failing_allocation failing = arm();
    const std::error_code error =
        outcome_of([&](std::error_code& ec) { conn = gtcp::NewConn(listener.address(), ec); });
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    EXPECT_EQ(static_cast<bool>(conn), !error);
    std::vector<raw_peer> peers = listener.accept_all();
    if (!conn) return fired;
    conn.SendPkg("hello");
    EXPECT_EQ(peers.at(0).read_pkg(), "hello");
    return fired;
  });
}

TEST_P(AllocationSweep, AsyncNewConn) {
  silent_listener listener;
  sweep([&](const injection& arm) {
    completion_note<Conn> note;
    failing_allocation failing = arm();
    note.run([&](auto handler) { gtcp::AsyncNewConn(listener.address(), std::move(handler)); });
    const std::error_code error = note.wait();
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    EXPECT_EQ(static_cast<bool>(note->value), !error);
    listener.accept_all();
    return fired;
  });
}

TEST_P(AllocationSweep, AwaitedNewConn) {
  silent_listener listener;
  sweep([&](const injection& arm) {
    Conn conn;
    const bool fired = run_armed(arm, [&]() -> asio::awaitable<void> {
      auto connecting = gtcp::AsyncNewConn(listener.address());
      conn = co_await std::move(connecting);
    });
    listener.accept_all();
    return fired;
  });
}

// ---- Sending

struct sending {
  std::size_t packages;
  std::size_t size;
  bool peer_waits;  ///< until all was sent: so there is more than the system and the outbox take
};

constexpr sending small_packages{3, 20, false};
constexpr sending large_packages{3, 200'000, false};
constexpr sending too_many_packages{40, 3'000, true};

const gtcp::ConnOption wide_option = [] {
  gtcp::ConnOption option;
  option.Pkg = {.HeaderSize = 3};
  option.OutboxLimit = 32 * 1024;
  option.SendBufferSize = 4096;
  return option;
}();

/// Sends by `send(conn, package, error)`, which says what came of each, and compares that with what the peer got.
template <class Send>
bool send_all(const injection& arm, const sending& what, const Send& send) {
  auto [conn, other] = make_conn_and_peer(wide_option, net::tcp, {.peer_recv = 4096});
  std::optional<reading_peer> peer;
  if (!what.peer_waits) peer.emplace(std::move(other), 3);
  std::vector<std::string> packages;
  for (std::size_t i = 0; i < what.packages; ++i) packages.push_back(pattern(what.size, static_cast<unsigned>(i)));
  std::vector<std::error_code> results(what.packages);

  failing_allocation failing = arm();
  for (std::size_t i = 0; i < what.packages; ++i) results[i] = send(conn, packages[i]);
  const bool fired = failing.end();

  if (what.peer_waits) peer.emplace(std::move(other), 3);
  std::error_code ignored;
  conn.CloseAndWait(ceiling, ignored);
  EXPECT_FALSE(ignored) << ignored.message();
  std::size_t at = 0;
  bool fatal = false;
  const std::vector<std::string>& got = peer->packages();
  for (std::size_t i = 0; i < what.packages; ++i) {
    EXPECT_DONE_OR_SHORT_OF_MEMORY(results[i] == asio::error::would_block ? std::error_code() : results[i]);
    const bool is_there = at < got.size() && got[at] == packages[i];
    if (is_there) ++at;
    fatal = fatal || (!results[i] && !is_there);
    EXPECT_FALSE(results[i] && is_there) << "package " << i << " came, though its send has failed";
  }
  EXPECT_EQ(at, got.size()) << "a package came that nobody has sent, or twice";
  // Losing what was accepted is allowed only where it is said: by the connection's end.
  if (fatal || peer->is_torn()) {
    EXPECT_TRUE(is_short_of_memory(conn.CloseReason())) << conn.CloseReason().message();
  }
  return fired;
}

auto blocking_send(bool may_wait = true) {
  return [may_wait](const Conn& conn, const std::string& package) {
    bool sent = false;
    std::error_code error = outcome_of([&](std::error_code& ec) {
      if (may_wait)
        conn.SendPkg(package, ec);
      else
        sent = conn.TrySendPkg(package, ec);
    });
    return !error && !may_wait && !sent ? make_error_code(asio::error::would_block) : error;
  };
}

TEST_P(AllocationSweepWithAsio, SendPkgSmall) {
  sweep([&](const injection& arm) { return send_all(arm, small_packages, blocking_send()); });
}
TEST_P(AllocationSweepWithAsio, SendPkgLarge) {
  sweep([&](const injection& arm) { return send_all(arm, large_packages, blocking_send()); });
}
TEST_P(AllocationSweepWithAsio, TrySendPkgOverTheLimit) {
  sweep([&](const injection& arm) { return send_all(arm, too_many_packages, blocking_send(false)); });
}
TEST_P(AllocationSweepWithAsio, SendPkgInASendModeThatWaits) {
  sweep([&](const injection& arm) {
    return send_all(arm, large_packages, [](const Conn& conn, const std::string& package) {
      conn.SetSendMode(gtcp::SendMode::Direct);
      return blocking_send()(conn, package);
    });
  });
}
TEST_P(AllocationSweepWithAsio, CorkAndFlush) {
  sweep([&](const injection& arm) {
    return send_all(arm, small_packages, [](const Conn& conn, const std::string& package) {
      std::error_code error;
      {
        const gtcp::Cork cork(conn);
        error = blocking_send()(conn, package);
      }
      const std::error_code flushed = outcome_of([&](std::error_code& ec) { conn.Flush(ec); });
      EXPECT_DONE_OR_SHORT_OF_MEMORY(flushed);
      return error;
    });
  });
}

/// Asynchronous sends, all begun before one is waited for.
bool async_send_all(const injection& arm, const sending& what) {
  auto [conn, other] = make_conn_and_peer(wide_option, net::tcp, {.peer_recv = 4096});
  std::optional<reading_peer> peer;
  if (!what.peer_waits) peer.emplace(std::move(other), 3);
  std::vector<std::string> packages;
  for (std::size_t i = 0; i < what.packages; ++i) packages.push_back(pattern(what.size, static_cast<unsigned>(i)));
  std::vector<completion_note<int>> notes(what.packages);
  completion_note<int> flushed;
  completion_note<bool> closed;

  failing_allocation failing = arm();
  for (std::size_t i = 0; i < what.packages; ++i) {
    notes[i].run([&, &c = conn](auto handler) { c.AsyncSendPkg(packages[i], std::move(handler)); });
  }
  flushed.run([&c = conn](auto handler) { c.AsyncFlush(std::move(handler)); });
  if (what.peer_waits) {
    const exempt_thread exempted;
    peer.emplace(std::move(other), 3);
  }
  std::vector<std::error_code> results;
  {
    const exempt_thread exempted;
    for (auto& note : notes) results.push_back(note.wait());
  }
  EXPECT_DONE_OR_SHORT_OF_MEMORY(flushed.wait());
  closed.run([&c = conn](auto handler) { c.AsyncClose(std::move(handler)); });
  EXPECT_DONE_OR_SHORT_OF_MEMORY(closed.wait());
  const bool fired = failing.end();
  std::error_code ignored;
  conn.CloseAndWait(ceiling, ignored);

  const std::vector<std::string>& got = peer->packages();
  std::size_t at = 0;
  bool fatal = false;
  for (std::size_t i = 0; i < what.packages; ++i) {
    EXPECT_DONE_OR_SHORT_OF_MEMORY(results[i]);
    const bool is_there = at < got.size() && got[at] == packages[i];
    if (is_there) ++at;
    fatal = fatal || (!results[i] && !is_there);
    EXPECT_FALSE(results[i] && is_there) << "package " << i << " came, though its send has failed";
  }
  EXPECT_EQ(at, got.size());
  if (fatal || peer->is_torn()) {
    EXPECT_TRUE(is_short_of_memory(conn.CloseReason())) << conn.CloseReason().message();
  }
  return fired;
}

TEST_P(AllocationSweepWithAsio, AsyncSendPkgSmall) {
  sweep([&](const injection& arm) { return async_send_all(arm, small_packages); });
}
TEST_P(AllocationSweepWithAsio, AsyncSendPkgLarge) {
  sweep([&](const injection& arm) { return async_send_all(arm, large_packages); });
}
TEST_P(AllocationSweepWithAsio, AsyncSendPkgOverTheLimit) {
  sweep([&](const injection& arm) { return async_send_all(arm, too_many_packages); });
}

/// Sends more than the system takes, by `send(conn, package)`, which returns what it throws: of a package that goes on
/// nevertheless, that is always what says so.
template <class Send>
void send_partly(const injection& arm, const Send& send, bool& fired) {
  auto [conn, peer] = make_narrow({.Mode = gtcp::SendMode::Direct});
  const std::error_code outcome = send(arm, conn, pattern(60'000), fired);
  EXPECT_TRUE(outcome == gtcp::Errc::TimeoutPartlySent || is_short_of_memory(outcome)) << outcome.message();
  reading_peer reading(std::move(peer));
  std::error_code ignored;
  conn.CloseAndWait(ceiling, ignored);
  EXPECT_EQ(reading.packages().size(), outcome == gtcp::Errc::TimeoutPartlySent ? 1u : 0u);
}

TEST_P(AllocationSweep, SendThatEndsInTheMiddleSaysSoWithoutMemoryForTheText) {
  sweep([&](const injection& arm) {
    bool fired = false;
    const auto send = [](const injection& inject, const Conn& conn, const std::string& package, bool& has_fired) {
      failing_allocation failing = inject();
      const std::error_code outcome = outcome_of([&](std::error_code&) { conn.SendPkgWithTimeout(package, 1ms); });
      has_fired = failing.end();
      return outcome;
    };
    send_partly(arm, send, fired);
    return fired;
  });
}

TEST_P(AllocationSweep, AwaitedSendThatEndsInTheMiddleSaysSoWithoutMemoryForTheText) {
  sweep([&](const injection& arm) {
    bool fired = false;
    const auto send = [](const injection& inject, const Conn& conn, const std::string& package, bool& has_fired) {
      std::error_code outcome = std::make_error_code(std::errc::not_enough_memory);
      has_fired = run_armed(inject, [&]() -> asio::awaitable<void> {
        auto sending = conn.AsyncSendPkgWithTimeout(package, 1ms);
        try {
          co_await std::move(sending);
        } catch (const std::system_error& failure) {
          outcome = failure.code();
        }
      });
      return outcome;
    };
    send_partly(arm, send, fired);
    return fired;
  });
}

// ---- Receiving

/// The package comes when the receive waits already.
template <class Receive>
bool receive_late(const injection& arm, const std::string& package, const Receive& receive) {
  auto [conn, peer] = make_conn_and_peer(wide_option);
  std::promise<void> begun;
  std::thread writer([&, &other = peer] {
    const exempt_thread exempted;
    begun.get_future().wait();
    other.write(framed(package, 3));
  });
  failing_allocation failing = arm();
  std::string got;
  std::error_code error = receive(conn, got, [&] {
    const exempt_thread exempted;
    begun.set_value();
  });
  const bool fired = failing.end();
  EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
  if (!error) {
    EXPECT_TRUE(got == package);
  }
  writer.join();
  // Nothing is lost: a receive that has failed for want of memory may be tried again.
  if (error) {
    EXPECT_TRUE(conn.RecvPkgWithTimeout(ceiling) == package);
  }
  peer.write(framed("next", 3));
  EXPECT_EQ(conn.RecvPkgWithTimeout(ceiling), "next");
  return fired;
}

TEST_P(AllocationSweepWithAsio, RecvPkg) {
  for (const std::size_t size : {std::size_t{20}, std::size_t{300'000}}) {
    const std::string package = pattern(size);
    sweep([&](const injection& arm) {
      return receive_late(arm, package, [](const Conn& conn, std::string& got, auto begin) {
        begin();
        return outcome_of([&](std::error_code& ec) { got = conn.RecvPkgWithTimeout(ceiling, ec); });
      });
    });
  }
}

TEST_P(AllocationSweepWithAsio, AsyncRecvPkg) {
  for (const std::size_t size : {std::size_t{20}, std::size_t{300'000}}) {
    const std::string package = pattern(size);
    sweep([&](const injection& arm) {
      completion_note<std::string> note;
      return receive_late(arm, package, [&note](const Conn& conn, std::string& got, auto begin) {
        note.run([&](auto handler) { conn.AsyncRecvPkgWithTimeout(ceiling, std::move(handler)); });
        begin();
        const std::error_code error = note.wait();
        const exempt_thread exempted;
        got = note->value;
        return error;
      });
    });
  }
}

TEST_P(AllocationSweepWithAsio, QueuedAsyncRecvPkg) {
  // Three of them, which hand the lane on, and a deadline that changes meanwhile.
  sweep([&](const injection& arm) {
    auto [conn, peer] = make_conn_and_peer();
    std::vector<completion_note<std::string>> notes(3);
    failing_allocation failing = arm();
    for (auto& note : notes) {
      note.run([&c = conn](auto handler) { c.AsyncRecvPkg(std::move(handler)); });
    }
    const std::error_code set =
        outcome_of([&c = conn](std::error_code& ec) { c.SetDeadline(std::chrono::steady_clock::now() + 1h, ec); });
    {
      const exempt_thread exempted;
      for (int i = 0; i < 3; ++i) peer.write(framed("package " + std::to_string(i)));
    }
    std::vector<std::error_code> results;
    for (auto& note : notes) {
      const exempt_thread exempted;
      results.push_back(note.wait());
    }
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(set);
    int next = 0;
    for (std::size_t i = 0; i < notes.size(); ++i) {
      EXPECT_DONE_OR_SHORT_OF_MEMORY(results[i]);
      if (!results[i]) {
        EXPECT_EQ(notes[i]->value, "package " + std::to_string(next++));
      }
    }
    for (; next < 3; ++next) EXPECT_EQ(conn.RecvPkgWithTimeout(ceiling), "package " + std::to_string(next));
    return fired;
  });
}

TEST_P(AllocationSweep, AwaitedSendAndReceive) {
  sweep([&](const injection& arm) {
    auto [conn, peer] = make_conn_and_peer();
    std::thread answering([&other = peer] {
      const exempt_thread exempted;
      for (std::string got = other.read(7); got.size() == 7; got = other.read(7)) other.write(got);
    });
    bool armed_fired = run_armed(arm, [&c = conn]() -> asio::awaitable<void> {
      for (int i = 0; i < 3; ++i) {
        auto sending = c.AsyncSendPkg("hello");
        co_await std::move(sending);
        auto receiving = c.AsyncRecvPkg();
        const std::string got = co_await std::move(receiving);
        EXPECT_EQ(got, "hello");
      }
      auto asking = c.AsyncSendRecvPkg("hallo");
      const std::string got = co_await std::move(asking);
      EXPECT_EQ(got, "hallo");
      auto sending = c.AsyncSendPkgWithTimeout("hello", ceiling);
      co_await std::move(sending);
      auto receiving = c.AsyncRecvPkgWithTimeout(ceiling);
      co_await std::move(receiving);
      auto flushing = c.AsyncFlush();
      co_await std::move(flushing);
      auto closing = c.AsyncClose();
      static_cast<void>(co_await std::move(closing));
    });
    conn.Close();
    answering.join();
    return armed_fired;
  });
}

TEST_P(AllocationSweepWithAsio, AsyncSendRecvPkg) {
  sweep([&](const injection& arm) {
    auto [conn, peer] = make_conn_and_peer();
    std::thread answering([&other = peer] {
      const exempt_thread exempted;
      for (std::string got = other.read(7); got.size() == 7; got = other.read(7)) other.write(got);
    });
    completion_note<std::string> note;
    failing_allocation failing = arm();
    note.run([&c = conn](auto handler) { c.AsyncSendRecvPkg("hello", std::move(handler)); });
    const std::error_code error = note.wait();
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    if (!error) {
      EXPECT_EQ(note->value, "hello");
    }
    conn.Close();
    answering.join();
    return fired;
  });
}

TEST_P(AllocationSweepWithAsio, Messages) {
  sweep([&](const injection& arm) {
    auto [a, b] = make_conn_pair();
    failing_allocation failing = arm();
    const std::error_code sent = outcome_of([&c = a](std::error_code& ec) {
      gtcp::SendMsg(c, {.Act = "hello with some more letters", .Data = std::string(100, 'x')}, ec);
    });
    gtcp::Msg msg;
    std::error_code received;
    if (!sent) received = outcome_of([&c = b, &msg](std::error_code& ec) { msg = gtcp::RecvMsg(c, ec); });
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(sent);
    EXPECT_DONE_OR_SHORT_OF_MEMORY(received);
    if (!sent && !received) {
      EXPECT_EQ(msg.Data, std::string(100, 'x'));
    }
    a.SendPkg("next");
    std::string next = b.RecvPkgWithTimeout(ceiling);
    if (next != "next") next = b.RecvPkgWithTimeout(ceiling);  // the message is still there
    EXPECT_EQ(next, "next");
    return fired;
  });
}

// ---- Timers

TEST_P(AllocationSweepWithAsio, Timers) {
  sweep([&](const injection& arm) {
    auto [conn, peer] = make_conn_and_peer();
    const auto calls = std::make_shared<std::atomic<int>>(0);
    std::vector<gtcp::TimerEntry> entries(4);
    failing_allocation failing = arm();
    const auto add = [&](std::size_t index, const auto& make) {
      return outcome_of([&](std::error_code&) { entries[index] = make(); });
    };
    const std::error_code results[] = {
        add(0, [&] { return gtcp::SetTimeout(1us, [calls] { ++*calls; }); }),
        add(1, [&] { return gtcp::SetInterval(1h, [calls] { ++*calls; }); }),
        add(2, [&, &c = conn] { return c.SetTimeout(1us, [calls](const Conn&) { ++*calls; }); }),
        add(3, [&, &c = conn] { return c.SetInterval(1h, [calls](const Conn&) { ++*calls; }); }),
    };
    const bool fired = failing.end();
    for (const std::error_code& result : results) EXPECT_DONE_OR_SHORT_OF_MEMORY(result);
    const int wanted = (results[0] ? 0 : 1) + (results[2] ? 0 : 1);
    EXPECT_TRUE(poll_until([&] { return *calls >= wanted; }));
    conn.Close();
    entries[1].Close();
    entries.clear();
    EXPECT_TRUE(poll_until([&] { return calls.use_count() == 1; })) << "a job is left";
    return fired;
  });
}

// ---- Closing

enum class ending { close, drop, abort, close_and_wait, async_close };

/// Ends a connection with everything under way: receives and sends that wait, timers, an outbox that is not empty.
bool end_busy(const injection& arm, ending how, bool peer_reads) {
  gtcp::ConnOption option;
  option.SendBufferSize = 4096;
  option.Linger = peer_reads ? 10s : 20ms;
  auto [conn, other] = make_conn_and_peer(option, net::tcp, {.peer_recv = 4096});
  std::optional<reading_peer> peer;
  std::vector<completion_note<std::string>> receives(2);
  for (auto& note : receives) note.run([&c = conn](auto handler) { c.AsyncRecvPkg(std::move(handler)); });
  std::vector<completion_note<int>> sends(3);
  int accepted = 0;
  const std::string package = pattern(60'000);
  while (conn.TrySendPkg(package)) ++accepted;
  for (auto& note : sends) {
    note.run([&c = conn, &package](auto handler) { c.AsyncSendPkg(std::string(package), std::move(handler)); });
  }
  const auto job = std::make_shared<int>(0);
  conn.SetInterval(1h, [job] {});
  background receiver([c = conn] {
    const exempt_thread exempted;
    std::error_code error;
    c.RecvPkg(error);
    return error;
  });
  completion_note<bool> closed;
  if (peer_reads) peer.emplace(std::move(other));

  bool delivered = false;
  std::error_code error;
  failing_allocation failing = arm();
  switch (how) {
    case ending::close: conn.Close(); break;
    case ending::drop: {
      // The thread keeps the state, not the connection; the handle is the last one.
      conn.Close();
      conn = Conn();
      break;
    }
    case ending::abort: conn.Abort(); break;
    case ending::close_and_wait:
      error = outcome_of([&, &c = conn](std::error_code& ec) { delivered = c.CloseAndWait(ceiling, ec); });
      break;
    case ending::async_close:
      error = closed.run([&c = conn](auto handler) { c.AsyncClose(std::move(handler)); });
      if (!error) error = closed.wait();
      delivered = closed->value;
      break;
  }
  EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
  const std::error_code received = receiver.get();
  EXPECT_TRUE(received == gtcp::Errc::Closed) << received.message();
  for (auto& note : receives) EXPECT_TRUE(note.wait() == gtcp::Errc::Closed);
  for (auto& note : sends) note.wait();
  EXPECT_TRUE(poll_until([&] { return job.use_count() == 1; })) << "a timer is left";
  const exempt_thread exempted;
  if (conn) {
    conn.Close();
    std::error_code ignored;
    EXPECT_TRUE(conn.CloseAndWait(ceiling, ignored) || ignored || !peer_reads || how == ending::abort ||
                is_short_of_memory(conn.CloseReason()) || arm.lasting == how_long::for_good || failing.end());
    EXPECT_FALSE(ignored) << ignored.message();
  }
  const bool fired = failing.end();
  if (peer && how != ending::abort) {
    const auto got = static_cast<int>(peer->packages().size());
    if (delivered) {
      EXPECT_GE(got, accepted);
    }
    if (!fired) {
      EXPECT_GE(got, accepted);
    }
  }
  return fired;
}

TEST_P(AllocationSweepWithAsio, CloseWithEverythingUnderWay) {
  for (const ending how : {ending::close, ending::drop, ending::abort, ending::close_and_wait, ending::async_close}) {
    for (const bool peer_reads : {true, false}) {
      SCOPED_TRACE(std::to_string(static_cast<int>(how)) +
                   (peer_reads ? ", a peer that reads" : ", one that does not"));
      sweep([&](const injection& arm) { return end_busy(arm, how, peer_reads); });
      if (HasFailure()) return;
    }
  }
}

TEST_P(AllocationSweepWithoutEnd, BlockingCallsAndClosing) {
  silent_listener listener;
  sweep([&](const injection& arm) {
    Conn conn;
    std::vector<raw_peer> peers;
    failing_allocation failing = arm();
    std::error_code error = outcome_of([&](std::error_code& ec) { conn = gtcp::NewConn(listener.address(), ec); });
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    {
      const exempt_thread exempted;
      peers = listener.accept_all();
      if (conn) peers.at(0).write(framed("hello"));
    }
    std::string got;
    if (conn) error = outcome_of([&](std::error_code& ec) { conn.RecvPkgWithTimeout(got, ceiling, ec); });
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    if (conn) error = outcome_of([&](std::error_code& ec) { conn.SendPkg("hello", ec); });
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    peers.clear();
    if (conn) error = outcome_of([&](std::error_code& ec) { conn.CloseAndWait(ceiling, ec); });
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    return failing.end();
  });
}

TEST_P(AllocationSweepWithAsio, SetDeadlineForThoseThatWait) {
  sweep([&](const injection& arm) {
    auto [conn, peer] = make_narrow();
    completion_note<std::string> receive;
    receive.run([&c = conn](auto handler) { c.AsyncRecvPkg(std::move(handler)); });
    const std::string package = pattern(60'000);
    while (conn.TrySendPkg(package)) {
    }
    completion_note<int> send;
    send.run([&c = conn, &package](auto handler) { c.AsyncSendPkg(std::string(package), std::move(handler)); });
    std::error_code error;
    failing_allocation failing = arm();
    error = outcome_of([&c = conn](std::error_code& ec) { c.SetDeadline(std::chrono::steady_clock::now() + 1ms, ec); });
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    // One who is told that it did not work, tries again.
    if (error) conn.SetDeadline(std::chrono::steady_clock::now() + 1ms);
    const std::error_code received = receive.wait();
    EXPECT_TRUE(received == gtcp::Errc::Timeout || (fired && is_short_of_memory(received))) << received.message();
    const std::error_code sent = send.wait();
    EXPECT_TRUE(sent == gtcp::Errc::Timeout || (fired && is_short_of_memory(sent))) << sent.message();
    conn.Abort();
    return fired;
  });
}

// ---- Pooled connections

TEST_P(AllocationSweep, PoolConn) {
  running_server server(kind::thread, echo, {});
  sweep([&](const injection& arm) {
    completion_note<gtcp::PoolConn> note;
    failing_allocation failing = arm();
    for (int i = 0; i < 2; ++i) {
      gtcp::PoolConn conn;
      std::error_code error =
          outcome_of([&](std::error_code& ec) { conn = gtcp::NewPoolConn(server->GetListenedAddress(), ec); });
      EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
      if (error) continue;
      std::string reply;
      error = outcome_of([&](std::error_code& ec) { reply = conn.SendRecvPkgWithTimeout("hello", ceiling, ec); });
      // Its server's thread may have been the one without memory.
      const bool is_gone = error == asio::error::eof || error == asio::error::connection_reset;
      EXPECT_TRUE(!error || is_short_of_memory(error) || (is_gone && arm.threads == whose::all_threads))
          << error.message();
      if (!error) {
        EXPECT_EQ(reply, "hello");
      }
    }
    note.run([&](auto handler) { gtcp::AsyncNewPoolConn(server->GetListenedAddress(), std::move(handler)); });
    EXPECT_DONE_OR_SHORT_OF_MEMORY(note.wait());
    note->value = {};
    const bool fired = failing.end();
    gtcp::CloseIdlePoolConns();
    EXPECT_TRUE(poll_until([] {
      return gtcp::detail::per_process<gtcp::detail::conn_pool>::instance().group_count() == 0;
    })) << "a key is left";
    return fired;
  });
}

}  // namespace
