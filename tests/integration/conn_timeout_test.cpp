// SPDX-License-Identifier: MIT

// Timeouts, deadlines and cancellation: a receive that gives up loses nothing, a send that gives up never tears the
// stream, and neither disturbs another operation.

#include <gtcp/conn.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"

#include <gtest/gtest.h>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/io_context.hpp>
#include <asio/use_future.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;
using gtcp::ConnOption;
using gtcp::Errc;
using gtcp::PkgOption;
using gtcp::SendMode;
using clock = std::chrono::steady_clock;

void send_pkg_within(form which, const Conn& conn, const std::string& data, std::chrono::nanoseconds timeout,
                     PkgOption option, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.SendPkgWithTimeout(data, timeout, option, ec);
    case form::callback:
      return call_back<void>(
          ec, [&](auto handler) { conn.AsyncSendPkgWithTimeout(data, timeout, option, std::move(handler)); });
    case form::awaited: return run(conn.AsyncSendPkgWithTimeout(data, timeout, option, ec));
  }
}

/// An operation with a callback, which can be cancelled: the results come to a future.
template <class Result>
class cancellable {
 public:
  template <class Start>
  explicit cancellable(Start start) {
    start(asio::bind_cancellation_slot(signal_->slot(), [outcome = outcome_](std::error_code ec, auto... results) {
      outcome->set_value({ec, Result(std::move(results)...)});
    }));
  }
  void cancel(asio::cancellation_type type = asio::cancellation_type::all) { signal_->emit(type); }
  bool ended() const { return future_.wait_for(0s) == std::future_status::ready; }
  std::pair<std::error_code, Result> get() {
    if (!comes(future_)) throw std::runtime_error("the handler was not called");
    return future_.get();
  }

 private:
  std::shared_ptr<asio::cancellation_signal> signal_ = std::make_shared<asio::cancellation_signal>();
  std::shared_ptr<std::promise<std::pair<std::error_code, Result>>> outcome_ =
      std::make_shared<std::promise<std::pair<std::error_code, Result>>>();
  std::future<std::pair<std::error_code, Result>> future_ = outcome_->get_future();
};

struct nothing {};

cancellable<std::string> cancellable_recv(const Conn& conn) {
  return cancellable<std::string>([&](auto token) { conn.AsyncRecvPkg(std::move(token)); });
}
cancellable<std::string> cancellable_send_recv(const Conn& conn, std::string data) {
  return cancellable<std::string>([&](auto token) { conn.AsyncSendRecvPkg(std::move(data), std::move(token)); });
}
cancellable<nothing> cancellable_send(const Conn& conn, std::string data, PkgOption option) {
  return cancellable<nothing>([&](auto token) { conn.AsyncSendPkg(std::move(data), option, std::move(token)); });
}

// ---- A receive that gives up loses nothing

enum class which_forms { blocking, callback, awaited, mixed };

form form_of(which_forms which, std::size_t step) {
  return which == which_forms::mixed ? forms[step % forms.size()] : forms[static_cast<std::size_t>(which)];
}

TEST(RecvPkgThatTimesOut, AfterEveryByteStillGetsThePackageWhole) {
  for (const which_forms which :
       {which_forms::blocking, which_forms::callback, which_forms::awaited, which_forms::mixed}) {
    for (int header_size = 1; header_size <= 4; ++header_size) {
      const PkgOption option{.HeaderSize = header_size};
      auto [conn, peer] = make_conn_and_peer();
      const std::string stream = framed("hello", static_cast<std::size_t>(header_size));
      std::error_code ec;
      for (std::size_t came = 0; came < stream.size(); ++came) {
        if (came != 0) peer.write(stream.substr(came - 1, 1));
        for (const auto timeout : {0us, 500us}) {
          ASSERT_EQ(recv_pkg_within(form_of(which, came), conn, timeout, option, ec), "");
          ASSERT_EQ(ec, Errc::Timeout) << came << " of header size " << header_size;
        }
      }
      peer.write(stream.substr(stream.size() - 1) + framed("next", static_cast<std::size_t>(header_size)));
      ASSERT_EQ(recv_pkg_within(form_of(which, 0), conn, ceiling, option, ec), "hello");
      ASSERT_FALSE(ec);
      ASSERT_EQ(recv_pkg_within(form_of(which, 1), conn, ceiling, option, ec), "next");
    }
  }
}

TEST(RecvPkgThatTimesOut, AtEveryByteLeavesTheRestToTheNextOne) {
  // The rest comes at once, while the next one waits.
  const std::string stream = framed("hello");
  for (std::size_t cut = 0; cut < stream.size(); ++cut) {
    for (std::size_t step = 0; step < 9; ++step) {
      auto [conn, peer] = make_conn_and_peer();
      peer.write(stream.substr(0, cut));
      std::error_code ec;
      EXPECT_EQ(recv_pkg_within(forms[step % 3], conn, 300us, {}, ec), "");
      EXPECT_EQ(ec, Errc::Timeout);
      background rest([&, &to = peer] { to.write(stream.substr(cut)); });
      EXPECT_EQ(recv_pkg_within(forms[step / 3], conn, ceiling, {}, ec), "hello") << cut;
      EXPECT_FALSE(ec);
      rest.get();
    }
  }
}

TEST(RecvPkgThatTimesOut, LeavesTheBytesToOtherKindsOfReceives) {
  for (const form which : forms) {
    const auto half_then = [which](auto next) {
      auto [conn, peer] = make_conn_and_peer();
      peer.write(std::string("\0\5he", 4));
      std::error_code ec;
      // Timed out with the half package taken from the system, and not before it came.
      do recv_pkg_within(which, conn, 1ms, {}, ec);
      while (ec == Errc::Timeout && !has_read_all(conn));
      EXPECT_EQ(ec, Errc::Timeout);
      next(conn, peer);
    };
    half_then([](const Conn& conn, raw_peer&) { EXPECT_EQ(conn.Recv(-1), std::string("\0\5he", 4)); });
    half_then([](const Conn& conn, raw_peer&) { EXPECT_EQ(conn.Recv(0), std::string("\0\5he", 4)); });
    half_then([](const Conn& conn, raw_peer& peer) {
      EXPECT_EQ(conn.Recv(3), std::string("\0\5h", 3));
      peer.write("!");
      EXPECT_EQ(conn.Recv(2), "e!");
    });
    half_then([](const Conn& conn, raw_peer& peer) {
      peer.write("\nx");
      EXPECT_EQ(conn.RecvLine(), std::string("\0\5he", 4));
    });
    half_then([](const Conn& conn, raw_peer& peer) {
      EXPECT_EQ(conn.RecvPkg({.HeaderSize = 1}), "") << "the first byte says an empty package";
      peer.write("llo");
      EXPECT_EQ(conn.RecvPkg({.HeaderSize = 1}), "hello");
    });
    half_then([](const Conn& conn, raw_peer& peer) {
      peer.end_sending();
      std::error_code ec;
      conn.RecvPkg(ec);
      EXPECT_EQ(ec, Errc::PkgTruncated);
    });
  }
}

TEST(RecvPkgThatTimesOut, KeepsALargeHalfPackage) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    const std::string payload = pattern(2 << 20);
    const std::string stream = framed(payload, 4);
    background writing([&, &to = peer] { to.write(stream); });
    std::error_code ec = Errc::Timeout;
    std::string got;
    int tries = 0;
    while (ec == Errc::Timeout && ++tries < 1'000'000) got = recv_pkg_within(which, conn, 50us, {.HeaderSize = 4}, ec);
    EXPECT_FALSE(ec) << ec.message();
    EXPECT_TRUE(got == payload) << which;
    writing.get();
  }
}

TEST(RecvPkgThatIsCancelled, LosesNothing) {
  const std::string stream = framed("hello");
  for (std::size_t cut = 0; cut < stream.size(); ++cut) {
    for (const auto type :
         {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
      auto [conn, peer] = make_conn_and_peer();
      auto cancelled = cancellable_recv(conn);
      auto queued = cancellable_recv(conn);
      auto next = cancellable_recv(conn);
      peer.write(stream.substr(0, cut));
      EXPECT_TRUE(poll_until([&, &on = conn] { return has_read_all(on); }));
      queued.cancel(type);
      EXPECT_EQ(queued.get().first, asio::error::operation_aborted);
      cancelled.cancel(type);
      EXPECT_EQ(cancelled.get().first, asio::error::operation_aborted);
      EXPECT_FALSE(next.ended());
      peer.write(stream.substr(cut));
      const auto [ec, got] = next.get();
      EXPECT_FALSE(ec) << ec.message();
      EXPECT_EQ(got, "hello");
    }
  }
}

TEST(RecvPkgThatIsCancelled, WhileItCompletesIsDoneOrNotButNeverHalf) {
  for (int round = 0; round < 300; ++round) {
    auto [conn, peer] = make_conn_and_peer();
    auto receiving = cancellable_recv(conn);
    background writing([&to = peer] { to.write(framed("hello")); });
    if (round % 2 == 0) writing.wait_until_waiting();
    receiving.cancel();
    const auto [ec, got] = receiving.get();
    if (ec) {
      EXPECT_EQ(ec, asio::error::operation_aborted) << ec.message();
      EXPECT_EQ(conn.RecvPkg(), "hello");
    } else {
      EXPECT_EQ(got, "hello");
    }
    writing.get();
  }
}

TEST(RecvPkgThatTimesOut, ManyAtOnceNeverLoseOrTearAPackage) {
  auto [conn, peer] = make_conn_and_peer();
  constexpr int count = 1500;
  background writing([&to = peer] {
    std::string stream;
    for (int i = 0; i < count; ++i) stream += framed(pattern(static_cast<std::size_t>(i) % 50) + std::to_string(i));
    for (std::size_t at = 0; at < stream.size(); at += 7) to.write(std::string_view(stream).substr(at, 7));
    to.end_sending();
  });
  const auto receive_all = [from = conn](form which) {
    std::vector<std::string> got;
    for (;;) {
      std::error_code ec;
      std::string pkg = recv_pkg_within(which, from, 100us, {}, ec);
      if (ec == Errc::Timeout) continue;
      if (ec) {
        EXPECT_EQ(ec, asio::error::eof) << ec.message();
        return got;
      }
      got.push_back(std::move(pkg));
    }
  };
  std::vector<std::unique_ptr<background<std::vector<std::string>>>> receivers;
  for (const form which : {form::blocking, form::callback, form::awaited, form::blocking}) {
    receivers.push_back(std::make_unique<background<std::vector<std::string>>>([=] { return receive_all(which); }));
  }
  std::multimap<std::string, int> missing;
  for (int i = 0; i < count; ++i) {
    missing.emplace(pattern(static_cast<std::size_t>(i) % 50) + std::to_string(i), i);
  }
  for (auto& receiver : receivers) {
    for (const std::string& pkg : receiver->get()) {
      const auto found = missing.find(pkg);
      ASSERT_NE(found, missing.end()) << "torn or doubled";
      missing.erase(found);
    }
  }
  EXPECT_TRUE(missing.empty()) << missing.size() << " lost";
  writing.get();
}

// ---- A send that gives up never tears the stream

/// Sends packages to a peer that does not read until some have given up, then lets it read, and compares: what was
/// reported as sent came, in order, and nothing else.
template <class Send>
void expect_clean_stream(const ConnOption& option, std::size_t size, Send send) {
  const PkgOption pkg{.HeaderSize = 4};
  auto [conn, peer] = make_narrow(option);
  std::vector<std::string> expected;
  int gave_up = 0;
  for (unsigned i = 0; gave_up < 4 && i < 100'000; ++i) {
    const std::string data = pattern(size + i % 3, i);
    const std::error_code ec = send(conn, data, pkg, i);
    if (!ec || ec == Errc::TimeoutPartlySent) {
      expected.push_back(data);
    } else {
      ASSERT_TRUE(ec == Errc::Timeout || ec == asio::error::operation_aborted) << ec.message();
      ASSERT_FALSE(gtcp::IsFatal(ec));
    }
    if (ec) ++gave_up;
  }
  ASSERT_GE(gave_up, 4) << "nothing gave up, so nothing was tested";
  background reading([&from = peer, count = expected.size() + 3] {
    std::vector<std::string> got;
    for (std::size_t i = 0; i < count; ++i) got.push_back(from.read_pkg(4));
    return got;
  });
  // Sent after the ones that gave up, in each form.
  for (const form which : forms) {
    std::error_code ec;
    send_pkg_within(which, conn, "after", ceiling, pkg, ec);
    EXPECT_FALSE(ec) << ec.message();
    expected.push_back("after");
  }
  const std::vector<std::string> got = reading.get();
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(got[i] == expected[i]) << "package " << i << " of " << got.size() << ": " << got[i].size()
                                       << " bytes instead of " << expected[i].size();
  }
  conn.Close();
  EXPECT_EQ(peer.read_to_end(), "") << "and nothing behind it";
}

class SendThatGivesUp : public testing::TestWithParam<std::tuple<SendMode, std::size_t, std::size_t>> {
 protected:
  ConnOption option() const { return {.OutboxLimit = std::get<2>(GetParam()), .Mode = std::get<0>(GetParam())}; }
  std::size_t size() const { return std::get<1>(GetParam()); }
};

TEST_P(SendThatGivesUp, AtItsTimeoutLeavesACleanStream) {
  for (const which_forms which :
       {which_forms::blocking, which_forms::callback, which_forms::awaited, which_forms::mixed}) {
    SCOPED_TRACE(static_cast<int>(which));
    expect_clean_stream(option(), size(), [=](const Conn& conn, const std::string& data, PkgOption pkg, unsigned i) {
      std::error_code ec;
      send_pkg_within(form_of(which, i), conn, data, i % 2 == 0 ? 1ms : 0ms, pkg, ec);
      return ec;
    });
  }
}

TEST_P(SendThatGivesUp, WhenCancelledLeavesACleanStream) {
  expect_clean_stream(option(), size(), [](const Conn& conn, const std::string& data, PkgOption pkg, unsigned i) {
    auto sending = cancellable_send(conn, data, pkg);
    // Some are cancelled at once, some when they are known to wait.
    for (int yields = 0; i % 2 == 0 && yields < 1000 && !sending.ended(); ++yields) std::this_thread::yield();
    sending.cancel();
    return sending.get().first;
  });
}

TEST_P(SendThatGivesUp, AtTheDeadlineOfTheConnLeavesACleanStream) {
  for (const form which : forms) {
    expect_clean_stream(option(), size(), [=](const Conn& conn, const std::string& data, PkgOption pkg, unsigned) {
      conn.SetDeadlineSend(clock::now() + 1ms);
      std::error_code ec;
      switch (which) {
        case form::blocking: conn.SendPkg(data, pkg, ec); break;
        case form::callback:
          call_back<void>(ec, [&](auto handler) { conn.AsyncSendPkg(data, pkg, std::move(handler)); });
          break;
        case form::awaited: run(conn.AsyncSendPkg(data, pkg, ec)); break;
      }
      conn.SetDeadlineSend({});
      return ec;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Of, SendThatGivesUp,
                         testing::Combine(testing::Values(SendMode::Buffered, SendMode::Direct),
                                          testing::Values(10u, 3000u, 16384u, 100'000u, 1u << 20),
                                          testing::Values(1u, 20'000u)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) == SendMode::Direct ? "Direct" : "Buffered") +
                                  std::to_string(std::get<1>(test.param)) + "With" +
                                  std::to_string(std::get<2>(test.param));
                         });

TEST(SendModeDirect, SaysThatTheRestFollowsWhenAPartIsOut) {
  for (const form which : forms) {
    auto [conn, peer] = make_narrow({.Mode = SendMode::Direct});
    const std::string large = pattern(1 << 20);
    std::error_code ec;
    send_pkg_within(which, conn, large, 5ms, {.HeaderSize = 4}, ec);
    EXPECT_EQ(ec, Errc::TimeoutPartlySent) << which << ": " << ec.message();
    EXPECT_FALSE(gtcp::IsFatal(ec));
    EXPECT_EQ(ec, std::errc::timed_out);
    send_pkg_within(which, conn, large, 5ms, {.HeaderSize = 4}, ec);
    EXPECT_EQ(ec, Errc::Timeout) << which << ": nothing of this one is out: " << ec.message();
    EXPECT_TRUE(peer.read_pkg(4) == large);
    conn.SendPkg("next");
    EXPECT_EQ(peer.read_pkg(), "next");
  }
}

TEST(SendModeDirect, ReturnsWhenTheSystemHasAllOfIt) {
  auto [conn, peer] = make_narrow({.Mode = SendMode::Direct});
  const std::string large = pattern(1 << 20);
  background sending([&, to = conn] { to.SendPkg(large, {.HeaderSize = 4}); });
  sending.wait_until_waiting();
  EXPECT_FALSE(sending.ended());
  EXPECT_TRUE(peer.read_pkg(4) == large);
  sending.get();
}

TEST(SendThatGivesUpAmongOthers, LeavesThePackagesOfAllSendersWholeAndInOrder) {
  for (const SendMode mode : {SendMode::Buffered, SendMode::Direct}) {
    auto [conn, peer] = make_narrow({.OutboxLimit = 8192, .Mode = mode});
    constexpr int senders = 4;
    constexpr unsigned count = 300;
    std::vector<std::unique_ptr<background<std::vector<unsigned>>>> threads;
    for (int sender = 0; sender < senders; ++sender) {
      threads.push_back(std::make_unique<background<std::vector<unsigned>>>([sender, to = conn] {
        std::vector<unsigned> sent;
        for (unsigned i = 0; i < count; ++i) {
          std::string data = pattern(i % 7 == 0 ? 20'000 : i % 300, i);
          data.insert(0, std::to_string(sender) + ":" + std::to_string(i) + ":");
          std::error_code ec;
          send_pkg_within(forms[(static_cast<unsigned>(sender) + i) % 3], to, data, i % 5 == 0 ? 10us : 2ms, {}, ec);
          if (!ec || ec == Errc::TimeoutPartlySent)
            sent.push_back(i);
          else
            EXPECT_EQ(ec, Errc::Timeout) << ec.message();
        }
        return sent;
      }));
    }
    background reading([&from = peer] {
      std::vector<std::vector<unsigned>> got(senders);
      for (;;) {
        const std::string header = from.read(2);
        if (header.empty()) return got;
        const std::string data = from.read(static_cast<std::size_t>(static_cast<unsigned char>(header[0])) << 8 |
                                           static_cast<unsigned char>(header[1]));
        const std::size_t first = data.find(':');
        const std::size_t second = data.find(':', first + 1);
        const auto sender = static_cast<std::size_t>(std::stoi(data.substr(0, first)));
        const auto i = static_cast<unsigned>(std::stoi(data.substr(first + 1, second - first - 1)));
        EXPECT_TRUE(data.substr(second + 1) == pattern(i % 7 == 0 ? 20'000 : i % 300, i)) << "torn";
        got[sender].push_back(i);
      }
    });
    std::vector<std::vector<unsigned>> sent;
    for (auto& thread : threads) sent.push_back(thread->get());
    conn.Close();
    EXPECT_TRUE(reading.get() == sent);
  }
}

// ---- An exchange that is cancelled, in each of its steps

constexpr std::array cancellation_types = {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                                           asio::cancellation_type::total};

TEST(SendRecvPkgThatIsCancelled, BeforeItIsSentIsWithdrawn) {
  for (const auto type : cancellation_types) {
    auto [conn, peer] = make_narrow({.Mode = SendMode::Direct});
    const std::string large = pattern(60'000);
    int before = 0;
    while (conn.TrySendPkg(large)) ++before;
    auto asking = cancellable_send_recv(conn, "request");
    EXPECT_FALSE(asking.ended());
    asking.cancel(type);
    EXPECT_EQ(asking.get().first, asio::error::operation_aborted);
    background reading([&from = peer, &large, before] {
      for (int i = 0; i < before; ++i) EXPECT_TRUE(from.read_pkg() == large);
      return from.read_pkg();
    });
    conn.SendPkg("next");
    EXPECT_EQ(reading.get(), "next");
  }
}

TEST(SendRecvPkgThatIsCancelled, BetweenItsStepsReceivesNothing) {
  for (const auto type : cancellation_types) {
    auto [conn, peer] = make_conn_and_peer();
    asio::io_context handlers;  // does not run yet, so that the second step does not begin
    cancellable<std::string> asking([&, &on = conn](auto token) {
      on.AsyncSendRecvPkg(std::string("request"), asio::bind_executor(handlers, std::move(token)));
    });
    EXPECT_EQ(peer.read_pkg(), "request");
    peer.write(framed("reply"));
    asking.cancel(type);
    handlers.run_for(ceiling);
    const auto [ec, got] = asking.get();
    EXPECT_EQ(ec, asio::error::operation_aborted) << ec.message();
    EXPECT_EQ(got, "");
    EXPECT_EQ(conn.RecvPkg(), "reply");
  }
}

TEST(SendRecvPkgThatIsCancelled, WhileItWaitsForTheReplyLosesNothing) {
  for (const auto type : cancellation_types) {
    auto [conn, peer] = make_conn_and_peer();
    auto asking = cancellable_send_recv(conn, "request");
    EXPECT_EQ(peer.read_pkg(), "request");
    peer.write(framed("reply").substr(0, 4));
    EXPECT_TRUE(poll_until([&on = conn] { return has_read_all(on); }));
    EXPECT_FALSE(asking.ended());
    asking.cancel(type);
    EXPECT_EQ(asking.get().first, asio::error::operation_aborted);
    peer.write(framed("reply").substr(4));
    EXPECT_EQ(conn.RecvPkg(), "reply");
  }
}

TEST(SendRecvPkgThatIsCancelled, FromAnotherThreadAtAnyTimeIsDoneOrNotButNeverHalf) {
  for (int round = 0; round < 300; ++round) {
    auto [conn, peer] = make_conn_and_peer();
    const auto type = cancellation_types[static_cast<std::size_t>(round) % cancellation_types.size()];
    auto asking = cancellable_send_recv(conn, "request");
    background answering([&with = peer] {
      EXPECT_EQ(with.read_pkg(), "request");
      with.write(framed("reply"));
    });
    for (int yields = 0; yields < round % 20; ++yields) std::this_thread::yield();
    asking.cancel(type);
    const auto [ec, got] = asking.get();
    if (ec) {
      EXPECT_EQ(ec, asio::error::operation_aborted) << ec.message();
      EXPECT_EQ(conn.RecvPkg(), "reply");
    } else {
      EXPECT_EQ(got, "reply");
    }
    answering.get();
  }
}

// ---- Timeouts belong to one operation

TEST(Timeouts, OfOneReceiverDoNotDisturbAnother) {
  auto [conn, peer] = make_conn_and_peer();
  background patient([from = conn] { return from.RecvPkg(); });
  patient.wait_until_waiting();
  std::future<std::string> patient_too = conn.AsyncRecvPkg(asio::use_future);
  for (const form which : forms) {
    std::error_code ec;
    recv_pkg_within(which, conn, 1ms, {}, ec);
    EXPECT_EQ(ec, Errc::Timeout) << which;
  }
  EXPECT_FALSE(patient.ended());
  EXPECT_NE(patient_too.wait_for(0s), std::future_status::ready);
  peer.write(framed("one") + framed("two"));
  EXPECT_EQ(patient.get(), "one");
  ASSERT_TRUE(comes(patient_too));
  EXPECT_EQ(patient_too.get(), "two");
}

TEST(Timeouts, OfAHolderPassTheLaneOn) {
  for (const form first : forms) {
    for (const form second : forms) {
      auto [conn, peer] = make_conn_and_peer();
      background holder([from = conn, first] {
        std::error_code ec;
        recv_pkg_within(first, from, 20ms, {}, ec);
        return ec;
      });
      holder.wait_until_waiting();
      background next([from = conn, second] {
        std::error_code ec;
        return recv_pkg_within(second, from, ceiling, {}, ec);
      });
      EXPECT_EQ(holder.get(), Errc::Timeout);
      peer.write(framed("for the next"));
      EXPECT_EQ(next.get(), "for the next") << first << ", " << second;
    }
  }
}

TEST(Timeouts, OfOneSenderDoNotDisturbAnother) {
  auto [conn, peer] = make_narrow({.OutboxLimit = 1});
  const std::string large = pattern(60'000);
  ASSERT_TRUE(conn.TrySendPkg(large));  // which does not wait, but copies what the system does not take
  background patient([to = conn] { to.SendPkg("patient"); });
  patient.wait_until_waiting();
  std::error_code ec;
  for (const form which : forms) {
    send_pkg_within(which, conn, "hasty", 1ms, {}, ec);
    EXPECT_EQ(ec, Errc::Timeout) << which;
  }
  EXPECT_FALSE(patient.ended());
  EXPECT_TRUE(peer.read_pkg() == large);
  EXPECT_EQ(peer.read_pkg(), "patient");
  patient.get();
}

// ---- Deadlines of the connection

TEST(SetDeadlineRecv, IsForLaterReceivesUntilItIsTakenBack) {
  for (const form which : forms) {
    auto [conn, peer] = make_conn_and_peer();
    conn.SetDeadlineRecv(clock::now() - 1s);
    std::error_code ec;
    const auto recv = [&, &from = conn](std::error_code& error) {
      switch (which) {
        case form::blocking: return from.RecvPkg(error);
        case form::callback:
          return call_back<std::string>(error, [&](auto handler) { from.AsyncRecvPkg(std::move(handler)); });
        case form::awaited: return run(from.AsyncRecvPkg(error));
      }
      return std::string();
    };
    recv(ec);
    EXPECT_EQ(ec, Errc::Timeout) << which;
    conn.SendPkg("a deadline of receives is none of sends");
    peer.write(framed("hello"));
    EXPECT_EQ(recv_pkg_within(which, conn, ceiling, {}, ec), "hello") << "a timeout given with the call wins";
    conn.SetDeadlineRecv({});
    background later([&to = peer] { to.write(framed("again")); });
    EXPECT_EQ(recv(ec), "again");
    EXPECT_FALSE(ec);
    later.get();
  }
}

TEST(SetDeadline, MayBeLongAgo) {
  for (const clock::time_point at : {clock::time_point::min(), clock::time_point(-1ns)}) {
    auto [conn, peer] = make_narrow();
    conn.SetDeadline(at);
    auto asynchronous = cancellable_recv(conn);
    EXPECT_EQ(asynchronous.get().first, Errc::Timeout);
    background blocking([from = conn] {
      std::error_code ec;
      from.RecvPkg(ec);
      return ec;
    });
    EXPECT_TRUE(poll_until([&] { return blocking.ended(); }));
    background sending([to = conn] {
      std::error_code ec;
      for (int i = 0; i < 100 && !ec; ++i) to.SendPkg(pattern(60'000), ec);
      return ec;
    });
    EXPECT_TRUE(poll_until([&] { return sending.ended(); }));
    conn.Abort();
    EXPECT_EQ(blocking.get(), Errc::Timeout);
    EXPECT_EQ(sending.get(), Errc::Timeout);
  }
}

TEST(SetDeadlineRecv, WakesThoseThatWait) {
  auto [conn, peer] = make_conn_and_peer();
  const auto recv = [from = conn] {
    std::error_code ec;
    from.RecvPkg(ec);
    return ec;
  };
  background holder(recv);
  holder.wait_until_waiting();
  background queued(recv);
  queued.wait_until_waiting();
  auto queued_too = cancellable_recv(conn);
  conn.SetDeadlineRecv(clock::now() + 1h);
  EXPECT_FALSE(holder.ended() || queued.ended() || queued_too.ended());
  conn.SetDeadlineRecv(clock::now());
  EXPECT_EQ(holder.get(), Errc::Timeout);
  EXPECT_EQ(queued.get(), Errc::Timeout);
  EXPECT_EQ(queued_too.get().first, Errc::Timeout);

  conn.SetDeadline({});
  auto async_holder = cancellable_recv(conn);
  background behind(recv);
  behind.wait_until_waiting();
  conn.SetDeadline(clock::now() + 1ms);
  EXPECT_EQ(async_holder.get().first, Errc::Timeout);
  EXPECT_EQ(behind.get(), Errc::Timeout);
}

TEST(SetDeadlineRecv, ThatMovesAwayKeepsThoseThatWait) {
  auto [conn, peer] = make_conn_and_peer();
  for (int round = 0; round < 50; ++round) {
    conn.SetDeadlineRecv(clock::now() + 1ms);
    auto waiting = cancellable_recv(conn);
    conn.SetDeadlineRecv({});
    peer.write(framed("hello"));
    const auto [ec, got] = waiting.get();
    // It may have fired before it was moved; what it must not do is to fire later.
    if (ec) {
      EXPECT_EQ(ec, Errc::Timeout);
      EXPECT_EQ(conn.RecvPkg(), "hello");
    }
  }
}

TEST(SetDeadlineSend, WakesThoseThatWait) {
  auto [conn, peer] = make_narrow({.OutboxLimit = 1});
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  background small([to = conn] {
    std::error_code ec;
    to.SendPkg("small", ec);
    return ec;
  });
  small.wait_until_waiting();
  background large([to = conn] {
    std::error_code ec;
    to.SendPkg(pattern(20'000), ec);
    return ec;
  });
  large.wait_until_waiting();
  auto asynchronous = cancellable_send(conn, "asynchronous", {});
  background flushing([to = conn] {
    std::error_code ec;
    to.Flush(ec);
    return ec;
  });
  flushing.wait_until_waiting();
  cancellable<nothing> async_flushing([&on = conn](auto token) { on.AsyncFlush(std::move(token)); });
  conn.SetDeadlineSend(clock::now() + 1h);
  EXPECT_FALSE(small.ended() || large.ended() || asynchronous.ended() || flushing.ended() || async_flushing.ended());
  conn.SetDeadlineSend(clock::now());
  EXPECT_EQ(small.get(), Errc::Timeout);
  EXPECT_EQ(large.get(), Errc::Timeout);
  EXPECT_EQ(asynchronous.get().first, Errc::Timeout);
  EXPECT_EQ(flushing.get(), Errc::Timeout);
  EXPECT_EQ(async_flushing.get().first, Errc::Timeout);
  conn.SetDeadlineSend({});
  conn.Close();
  EXPECT_TRUE(peer.read_to_end() == framed(pattern(60'000)));
}

// ---- Flush

TEST(Flush, WaitsUntilTheSystemHasAllOfIt) {
  auto [conn, peer] = make_narrow();
  const std::string large = pattern(60'000);
  ASSERT_TRUE(conn.TrySendPkg(large));
  conn.SendPkg("small");
  background flushing([to = conn] { to.Flush(); });
  cancellable<nothing> async_flushing([&on = conn](auto token) { on.AsyncFlush(std::move(token)); });
  flushing.wait_until_waiting();
  EXPECT_FALSE(flushing.ended() || async_flushing.ended());
  EXPECT_TRUE(peer.read_pkg() == large);
  flushing.get();
  EXPECT_FALSE(async_flushing.get().first);
  EXPECT_EQ(peer.read_pkg(), "small");
  conn.Flush();
  run(conn.AsyncFlush());
}

TEST(Flush, HasATimeoutAndCanBeCancelled) {
  auto [conn, peer] = make_narrow();
  ASSERT_TRUE(conn.TrySendPkg(pattern(60'000)));
  EXPECT_EQ(text_of_error(Errc::Timeout, [&, &on = conn] { on.FlushWithTimeout(1ms); }),
            "FlushWithTimeout [" + conn.RemoteAddr() + "]: " + make_error_code(Errc::Timeout).message());
  std::error_code ec;
  run(conn.AsyncFlushWithTimeout(1ms, ec));
  EXPECT_EQ(ec, Errc::Timeout);
  cancellable<nothing> flushing([&on = conn](auto token) { on.AsyncFlush(std::move(token)); });
  flushing.cancel();
  EXPECT_EQ(flushing.get().first, asio::error::operation_aborted);
  EXPECT_TRUE(peer.read_pkg() == pattern(60'000)) << "giving up waiting takes nothing back";
}

TEST(Flush, AmongSendersAlwaysEnds) {
  auto [conn, peer] = make_conn_and_peer();
  constexpr int rounds = 3000;
  background reading([&from = peer] { return from.read_to_end().size(); });
  background sending([to = conn] {
    for (int i = 0; i < rounds; ++i) to.SendPkg("x");
  });
  background flushing([to = conn] {
    for (int i = 0; i < rounds; ++i) to.Flush();
  });
  for (int i = 0; i < rounds / 10; ++i) {
    std::error_code ec;
    call_back<void>(ec, [&, &on = conn](auto handler) { on.AsyncFlush(std::move(handler)); });
    ASSERT_FALSE(ec);
  }
  sending.get();
  flushing.get();
  conn.Close();
  EXPECT_EQ(reading.get(), rounds * 3u);
}

// ---- Looking again before sleeping

TEST(BusyWait, ReceivesWhatComesMeanwhileAndAfterwards) {
  for (const auto time : {1us, 1'000'000us, std::chrono::microseconds::max()}) {
    auto [conn, peer] = make_conn_and_peer({.BusyWait = time});
    auto receiving = std::async(std::launch::async, [&from = conn] {
      std::vector<std::string> got;
      for (int i = 0; i < 3; ++i) got.push_back(from.RecvPkg());
      return got;
    });
    for (const char* text : {"one", "two", "three"}) peer.write(framed(text));
    ASSERT_TRUE(comes(receiving));
    EXPECT_EQ(receiving.get(), (std::vector<std::string>{"one", "two", "three"}));
  }
}

TEST(BusyWait, EndsWithTheTimeoutAndWithTheConnection) {
  auto [conn, peer] = make_conn_and_peer({.BusyWait = 1'000'000'000us});
  std::error_code error;
  conn.RecvPkgWithTimeout(1ms, error);
  EXPECT_EQ(error, Errc::Timeout);
  auto receiving = std::async(std::launch::async, [&from = conn] {
    std::error_code ended;
    from.RecvPkg(ended);
    return ended;
  });
  conn.Close();
  ASSERT_TRUE(comes(receiving));
  EXPECT_EQ(receiving.get(), Errc::Closed);
}

TEST(BusyWait, EndsWithADeadlineThatIsSetMeanwhile) {
  auto [conn, peer] = make_conn_and_peer({.BusyWait = std::chrono::microseconds::max()});
  auto receiving = std::async(std::launch::async, [&from = conn] {
    std::error_code ended;
    from.RecvPkg(ended);
    return ended;
  });
  std::this_thread::yield();
  conn.SetDeadlineRecv(clock::now());
  ASSERT_TRUE(comes(receiving));
  EXPECT_EQ(receiving.get(), Errc::Timeout);
  peer.write(framed("x"));
  conn.SetDeadlineRecv({});
  EXPECT_EQ(conn.RecvPkg(), "x");
}

TEST(BusyWait, EndsANegativeLengthWhenItIsQuiet) {
  for (const auto time : {1'000us, std::chrono::microseconds::max()}) {
    auto [conn, peer] = make_conn_and_peer({.BusyWait = time});
    auto receiving = std::async(std::launch::async, [&from = conn] { return from.RecvWithTimeout(-1, ceiling); });
    peer.write("ab");
    ASSERT_TRUE(comes(receiving));
    EXPECT_EQ(receiving.get(), "ab");
  }
}

}  // namespace
