// SPDX-License-Identifier: MIT

// The operations that allocation_conn_test.cpp leaves out, against a server that sends all bytes back, with each
// allocation failing once: they are done, or std::bad_alloc or an error says why not, no descriptor is left, and the
// server serves the next client.

#include <gtcp/gtcp.hpp>

#include "support/allocation_sweep.hpp"
#include "support/conn_pair.hpp"
#include "support/running_server.hpp"

#include <asio/awaitable.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using gtcp::Conn;

/// Whether the other end had no memory: all that is seen of it is the end of the connection.
bool is_gone(const std::error_code& error) {
  return error == asio::error::eof || error == asio::error::connection_reset || error == asio::error::broken_pipe;
}

gtcp::Server make_server() {
  gtcp::ServerOption option;
  option.ErrorCallback = [](const Conn&, const std::exception_ptr&) {};
  gtcp::Server server(
      any_port,
      [](Conn conn) {
        for (;;) conn.Send(conn.Recv(0));
      },
      option);
  server.Start();
  return server;
}

class OperationAllocations : public testing::Test {
 protected:
  /// With what may fail, up to `most`, in the calling thread and in any.
  static void sweep(what_fails most, const std::function<bool(const injection&)>& scenario) {
    for (const what_fails what : {what_fails::operator_new, what_fails::asio_too}) {
      if (what == what_fails::asio_too && most != what) break;
      for (const whose threads : {whose::this_thread, whose::all_threads}) {
        SCOPED_TRACE(std::string(threads == whose::this_thread ? "in the calling thread" : "in any thread") +
                     (what == what_fails::asio_too ? ", and Asio's" : ""));
        sweep_allocations(threads, what, how_long::once, scenario);
        if (HasFailure()) return;
      }
    }
  }

  /// Returns whether it was done, which it must be unless somebody had no memory.
  static bool expect_done_or_short_of_memory(const injection& arm, const std::error_code& error) {
    if (arm.threads == whose::all_threads && is_gone(error)) return false;
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    return !error;
  }

  void expect_to_serve() const {
    const Conn conn = gtcp::NewConn(server_.GetListenedAddress());
    EXPECT_TRUE(answers(conn)) << "the next client is not served";
  }

  const gtcp::Server server_ = make_server();
};

/// What operations work on. The server sends back on `conn` what was sent before.
struct place {
  Conn conn;
  std::string address;
  gtcp::Server server;

  place(const gtcp::Server& echoing, std::string_view before)
      : conn(gtcp::NewConn(echoing.GetListenedAddress())), address(echoing.GetListenedAddress()), server(echoing) {
    if (!before.empty()) conn.Send(before);
  }
};

/// The result of a form that calls a handler.
template <class Result, class Start>
Result called_back(std::error_code& ec, const Start& start) {
  completion_note<Result> note;
  note.run(start);
  ec = note.wait();
  return std::move(note->value);
}

// Longer than what a std::string holds without an allocation, and than what the system takes or gives at once.
const std::string text = "some more letters than a short string has";
const std::string large_package = pattern(100'000);
const std::string lines = text + "\nand more";
const std::string msg_pkg = framed(R"({"Act":"hello","Data":")" + text + "\"}");
const std::string json = '"' + text + '"';
const std::vector<std::vector<std::string>> arrays = {{text, text}, {text}};
const std::string json_of_arrays = "[[" + json + ',' + json + "],[" + json + "]]";
const std::vector<std::string> pkgs = {text, pattern(15'000, 1), pattern(15'000, 2), "world"};

// ---- Blocking, and with a handler

struct operation {
  const char* name;
  std::string sent_before;
  std::string result;
  std::string (*run)(const place& at, std::error_code& ec);
  what_fails most = what_fails::asio_too;

  friend std::ostream& operator<<(std::ostream& out, const operation& one) { return out << one.name; }
};

const operation operations[] = {
    {"Send", "", "",
     [](const place& at, std::error_code& ec) {
       at.conn.Send(large_package, ec);
       return std::string();
     }},
    {"AsyncSend", "", "",
     [](const place& at, std::error_code& ec) {
       called_back<int>(ec, [&](auto handler) { at.conn.AsyncSend(large_package, std::move(handler)); });
       return std::string();
     }},
    {"Recv", large_package, large_package,
     [](const place& at, std::error_code& ec) { return at.conn.Recv(100'000, ec); }},
    {"RecvWhatIsThere", text, text, [](const place& at, std::error_code& ec) { return at.conn.Recv(0, ec); }},
    {"RecvUntilQuiet", text, text, [](const place& at, std::error_code& ec) { return at.conn.Recv(-1, ec); }},
    {"RecvWithTimeout", large_package, large_package,
     [](const place& at, std::error_code& ec) { return at.conn.RecvWithTimeout(100'000, ceiling, ec); }},
    {"AsyncRecv", large_package, large_package,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(ec, [&](auto handler) { at.conn.AsyncRecv(100'000, std::move(handler)); });
     }},
    {"AsyncRecvUntilQuiet", text, text,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(ec, [&](auto handler) { at.conn.AsyncRecv(-1, std::move(handler)); });
     }},
    {"AsyncRecvWithTimeout", large_package, large_package,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(
           ec, [&](auto handler) { at.conn.AsyncRecvWithTimeout(100'000, ceiling, std::move(handler)); });
     }},
    {"RecvLine", lines, text, [](const place& at, std::error_code& ec) { return at.conn.RecvLine(ec); }},
    {"AsyncRecvLine", lines, text,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(ec, [&](auto handler) { at.conn.AsyncRecvLine(std::move(handler)); });
     }},
    {"RecvTill", lines, text + "\nand",
     [](const place& at, std::error_code& ec) { return at.conn.RecvTill("\nand", ec); }},
    {"AsyncRecvTill", lines, text + "\nand",
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(ec, [&](auto handler) { at.conn.AsyncRecvTill("\nand", std::move(handler)); });
     }},
    {"SendRecv", "", large_package,
     [](const place& at, std::error_code& ec) { return at.conn.SendRecv(large_package, 100'000, ec); }},
    {"AsyncSendRecv", "", large_package,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(
           ec, [&](auto handler) { at.conn.AsyncSendRecv(large_package, 100'000, std::move(handler)); });
     }},
    {"SendPkgs", "", text,
     [](const place& at, std::error_code& ec) {
       at.conn.SendPkgs(pkgs, ec);
       return ec ? std::string() : at.conn.RecvPkg(ec);
     }},

    {"AsyncSendMsg", "", "",
     [](const place& at, std::error_code& ec) {
       const gtcp::Msg msg{.Act = "hello", .Data = text};
       called_back<int>(ec, [&](auto handler) { gtcp::AsyncSendMsg(at.conn, msg, std::move(handler)); });
       return std::string();
     }},
    {"AsyncRecvMsg", msg_pkg, text,
     [](const place& at, std::error_code& ec) {
       return called_back<gtcp::Msg>(ec, [&](auto handler) { gtcp::AsyncRecvMsg(at.conn, std::move(handler)); }).Data;
     }},
    {"SendJson", "", json,
     [](const place& at, std::error_code& ec) {
       gtcp::SendJson(at.conn, text, ec);
       return ec ? std::string() : at.conn.RecvPkg(ec);
     }},
    {"SendJsonOfArrays", "", json_of_arrays,
     [](const place& at, std::error_code& ec) {
       gtcp::SendJson(at.conn, arrays, ec);
       return ec ? std::string() : at.conn.RecvPkg(ec);
     }},
    {"AsyncSendJson", "", "",
     [](const place& at, std::error_code& ec) {
       called_back<int>(ec, [&](auto handler) { gtcp::AsyncSendJson(at.conn, text, std::move(handler)); });
       return std::string();
     }},
    {"RecvJson", framed(json), text,
     [](const place& at, std::error_code& ec) { return gtcp::RecvJson<std::string>(at.conn, ec); }},
    {"RecvJsonOfObjects", framed("{\"key\":{\"inner\":" + json + "}}"), text,
     [](const place& at, std::error_code& ec) {
       const auto got = gtcp::RecvJson<std::map<std::string, std::map<std::string, std::string>>>(at.conn, ec);
       return ec ? std::string() : got.at("key").at("inner");
     }},
    {"AsyncRecvJson", framed(json), text,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(
           ec, [&](auto handler) { gtcp::AsyncRecvJson<std::string>(at.conn, std::move(handler)); });
     }},

    {"OneShotSend", "", "",
     [](const place& at, std::error_code& ec) {
       gtcp::Send(at.address, large_package, ec);
       return std::string();
     }},
    {"OneShotSendRecv", "", large_package,
     [](const place& at, std::error_code& ec) { return gtcp::SendRecv(at.address, large_package, 100'000, ec); }},
    {"OneShotSendRecvWithTimeout", "", large_package,
     [](const place& at, std::error_code& ec) {
       return gtcp::SendRecvWithTimeout(at.address, large_package, 100'000, ceiling, ec);
     }},
    {"OneShotSendPkg", "", "",
     [](const place& at, std::error_code& ec) {
       gtcp::SendPkg(at.address, text, ec);
       return std::string();
     }},
    {"OneShotSendRecvPkg", "", text,
     [](const place& at, std::error_code& ec) { return gtcp::SendRecvPkg(at.address, text, ec); }},
    {"OneShotSendRecvPkgThatThrows", "", text,
     [](const place& at, std::error_code&) { return gtcp::SendRecvPkg(at.address, text); }},
    // Coroutines are inside of these.
    {"OneShotAsyncSend", "", "",
     [](const place& at, std::error_code& ec) {
       called_back<int>(ec, [&](auto handler) { gtcp::AsyncSend(at.address, large_package, std::move(handler)); });
       return std::string();
     },
     what_fails::operator_new},
    {"OneShotAsyncSendRecv", "", large_package,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(
           ec, [&](auto handler) { gtcp::AsyncSendRecv(at.address, large_package, 100'000, std::move(handler)); });
     },
     what_fails::operator_new},
    {"OneShotAsyncSendRecvPkg", "", text,
     [](const place& at, std::error_code& ec) {
       return called_back<std::string>(
           ec, [&](auto handler) { gtcp::AsyncSendRecvPkg(at.address, text, std::move(handler)); });
     },
     what_fails::operator_new},
    {"AsyncNewPoolConn", "", text,
     [](const place& at, std::error_code& ec) {
       const auto conn = called_back<gtcp::PoolConn>(
           ec, [&](auto handler) { gtcp::AsyncNewPoolConn(at.address, std::move(handler)); });
       return ec ? std::string() : conn.SendRecvPkg(text, ec);
     },
     what_fails::operator_new},

    {"GetFreePort", "", "a port",
     [](const place&, std::error_code& ec) { return std::string(gtcp::GetFreePort(ec) > 0 ? "a port" : "none"); }},
    {"GetFreePorts", "", "3",
     [](const place&, std::error_code& ec) { return std::to_string(gtcp::GetFreePorts(3, ec).size()); }},
    {"NewConnByNetConn", "", text,
     [](const place&, std::error_code& ec) {
       const auto connected = [] {
         const exempt_thread exempted;
         auto [own, other] = connected_sockets(net::tcp);
         return own.release();
       };
       return gtcp::NewConnByNetConn(connected(), text).Recv(0, ec);
     }},
    {"StatsAndFormatPrometheus", "", "# HELP tests_accepted_total",
     [](const place& at, std::error_code&) {
       const std::string metrics = gtcp::FormatPrometheus(at.server.Stats(), "tests");
       return metrics.substr(0, metrics.find(' ', 7));
     }},
};

class CalledOperations : public OperationAllocations, public testing::WithParamInterface<operation> {};

INSTANTIATE_TEST_SUITE_P(Allocations, CalledOperations, testing::ValuesIn(operations),
                         [](const auto& one) { return one.param.name; });

TEST_P(CalledOperations, AreDoneOrShortOfMemory) {
  const operation& one = GetParam();
  sweep(one.most, [&](const injection& arm) {
    const place at(server_, one.sent_before);
    std::string result;
    failing_allocation failing = arm();
    const std::error_code error = outcome_of([&](std::error_code& ec) { result = one.run(at, ec); });
    const bool fired = failing.end();
    if (expect_done_or_short_of_memory(arm, error)) {
      EXPECT_TRUE(result == one.result) << result.substr(0, 100);
    }
    gtcp::CloseIdlePoolConns();
    expect_to_serve();
    return fired;
  });
}

// ---- Awaited

asio::awaitable<std::string> no_result(asio::awaitable<void> sending) {
  co_await std::move(sending);
  co_return std::string();
}

asio::awaitable<std::string> data_of(asio::awaitable<gtcp::Msg> receiving) {
  co_return (co_await std::move(receiving)).Data;
}

asio::awaitable<std::string> reply_over(asio::awaitable<gtcp::PoolConn> connecting) {
  const gtcp::PoolConn conn = co_await std::move(connecting);
  auto asking = conn.AsyncSendRecvPkg(text);
  co_return co_await std::move(asking);
}

struct awaited_operation {
  const char* name;
  std::string sent_before;
  std::string result;
  asio::awaitable<std::string> (*begin)(const place& at);

  friend std::ostream& operator<<(std::ostream& out, const awaited_operation& one) { return out << one.name; }
};

const awaited_operation awaited_operations[] = {
    {"AsyncSend", "", "", [](const place& at) { return no_result(at.conn.AsyncSend(large_package)); }},
    {"AsyncSendWithTimeout", "", "",
     [](const place& at) { return no_result(at.conn.AsyncSendWithTimeout(large_package, ceiling)); }},
    {"AsyncRecv", large_package, large_package, [](const place& at) { return at.conn.AsyncRecv(100'000); }},
    {"AsyncRecvUntilQuiet", text, text, [](const place& at) { return at.conn.AsyncRecv(-1); }},
    {"AsyncRecvWithTimeout", large_package, large_package,
     [](const place& at) { return at.conn.AsyncRecvWithTimeout(100'000, ceiling); }},
    {"AsyncRecvLine", lines, text, [](const place& at) { return at.conn.AsyncRecvLine(); }},
    {"AsyncRecvTill", lines, text + "\nand", [](const place& at) { return at.conn.AsyncRecvTill("\nand"); }},
    {"AsyncSendRecv", "", large_package, [](const place& at) { return at.conn.AsyncSendRecv(large_package, 100'000); }},

    {"AsyncSendMsg", "", "",
     [](const place& at) { return no_result(gtcp::AsyncSendMsg(at.conn, gtcp::Msg{.Act = "hello", .Data = text})); }},
    {"AsyncRecvMsg", msg_pkg, text, [](const place& at) { return data_of(gtcp::AsyncRecvMsg(at.conn)); }},
    {"AsyncSendJson", "", "", [](const place& at) { return no_result(gtcp::AsyncSendJson(at.conn, text)); }},
    {"AsyncRecvJson", framed(json), text, [](const place& at) { return gtcp::AsyncRecvJson<std::string>(at.conn); }},

    {"OneShotAsyncSend", "", "", [](const place& at) { return no_result(gtcp::AsyncSend(at.address, large_package)); }},
    {"OneShotAsyncSendRecv", "", large_package,
     [](const place& at) { return gtcp::AsyncSendRecv(at.address, large_package, 100'000); }},
    {"OneShotAsyncSendPkg", "", "", [](const place& at) { return no_result(gtcp::AsyncSendPkg(at.address, text)); }},
    {"OneShotAsyncSendRecvPkg", "", text, [](const place& at) { return gtcp::AsyncSendRecvPkg(at.address, text); }},
    {"AsyncNewPoolConn", "", text, [](const place& at) { return reply_over(gtcp::AsyncNewPoolConn(at.address)); }},
};

class AwaitedOperations : public OperationAllocations, public testing::WithParamInterface<awaited_operation> {};

INSTANTIATE_TEST_SUITE_P(Allocations, AwaitedOperations, testing::ValuesIn(awaited_operations),
                         [](const auto& one) { return one.param.name; });

TEST_P(AwaitedOperations, AreDoneOrShortOfMemory) {
  const awaited_operation& one = GetParam();
  sweep(what_fails::operator_new, [&](const injection& arm) {
    const place at(server_, one.sent_before);
    std::error_code error;
    const bool fired = run_armed(arm, [&]() -> asio::awaitable<void> {
      try {
        auto running = one.begin(at);
        const std::string result = co_await std::move(running);
        EXPECT_TRUE(result == one.result) << result.substr(0, 100);
      } catch (const std::system_error& failure) {
        error = failure.code();
      }
    });
    expect_done_or_short_of_memory(arm, error);
    gtcp::CloseIdlePoolConns();
    expect_to_serve();
    return fired;
  });
}

// ---- What is more than one result

TEST_F(OperationAllocations, BytesOfAReceiveThatHasFailedAreStillThere) {
  const std::string line = text + '\n';
  using receive = std::string (*)(const Conn& conn, std::error_code& ec);
  const receive receives[] = {
      [](const Conn& conn, std::error_code& ec) { return conn.Recv(static_cast<int>(text.size()) + 1, ec); },
      [](const Conn& conn, std::error_code& ec) {
        std::string got = conn.RecvLine(ec);
        const exempt_thread exempted;
        return got += '\n';
      },
      [](const Conn& conn, std::error_code& ec) { return conn.RecvTill("\n", ec); },
      [](const Conn& conn, std::error_code& ec) {
        return called_back<std::string>(ec, [&](auto handler) { conn.AsyncRecvTill("\n", std::move(handler)); });
      },
  };
  for (const receive one : receives) {
    sweep(what_fails::asio_too, [&](const injection& arm) {
      auto [conn, peer] = make_conn_and_peer();
      peer.write(line + "world\n");
      std::string got;
      failing_allocation failing = arm();
      const std::error_code error = outcome_of([&, &c = conn](std::error_code& ec) { got = one(c, ec); });
      const bool fired = failing.end();
      EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
      if (error) got = conn.RecvTillWithTimeout("\n", ceiling);
      EXPECT_EQ(got, line);
      EXPECT_EQ(conn.RecvLineWithTimeout(ceiling), "world");
      return fired;
    });
    if (HasFailure()) return;
  }
}

TEST_F(OperationAllocations, SendPkgsSendsThoseBeforeTheOneThatHasFailed) {
  sweep(what_fails::asio_too, [](const injection& arm) {
    auto [conn, peer] = make_narrow();
    failing_allocation failing = arm();
    const std::error_code error = outcome_of([&c = conn](std::error_code& ec) { c.SendPkgs(pkgs, ec); });
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    conn.Close();
    std::string all;
    for (const std::string& pkg : pkgs) all += framed(pkg);
    std::string got;
    try {
      got = peer.read_to_end();
    } catch (const std::system_error&) {
      // A reset: the connection had lost something.
    }
    EXPECT_TRUE(all.starts_with(got));
    EXPECT_TRUE(error || got == all || is_short_of_memory(conn.CloseReason())) << conn.CloseReason().message();
    return fired;
  });
}

TEST_F(OperationAllocations, SetPkgHandler) {
  struct seen {
    std::atomic<int> packages{0};
    std::error_code reason;
    std::atomic<int> ends{0};
  };
  sweep(what_fails::asio_too, [this](const injection& arm) {
    const Conn conn = gtcp::NewConn(server_.GetListenedAddress());
    const auto calls = std::make_shared<seen>();
    failing_allocation failing = arm();
    const std::error_code error = outcome_of([&](std::error_code&) {
      conn.SetPkgHandler([calls](Conn&, std::string_view) { ++calls->packages; },
                         [calls](Conn&, std::error_code reason) {
                           calls->reason = reason;
                           ++calls->ends;
                         });
    });
    std::error_code sent;
    {
      const exempt_thread exempted;
      conn.SendPkg("hello", sent);
    }
    if (!error) {
      EXPECT_TRUE(poll_until([&] { return calls->packages != 0 || calls->ends != 0; })) << "neither called nor ended";
    }
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    if (calls->ends != 0) {
      expect_done_or_short_of_memory(arm, calls->reason);
      EXPECT_TRUE(fired);
    } else {
      EXPECT_FALSE(sent) << sent.message();
    }
    if (error) {
      EXPECT_EQ(conn.RecvPkgWithTimeout(ceiling), "hello") << "receiving goes on as before";
    }
    conn.Close();
    EXPECT_TRUE(poll_until([&] { return calls.use_count() == 1; })) << "the handler is left";
    EXPECT_EQ(calls->ends, error ? 0 : 1);
    expect_to_serve();
    return fired;
  });
}

TEST_F(OperationAllocations, AddOnceAndAddTimes) {
  sweep(what_fails::asio_too, [](const injection& arm) {
    const auto calls = std::make_shared<std::atomic<int>>(0);
    gtcp::TimerEntry once;
    gtcp::TimerEntry times;
    const auto job = [calls] { ++*calls; };
    failing_allocation failing = arm();
    const std::error_code added_once = outcome_of([&](std::error_code&) { once = gtcp::AddOnce(1us, job); });
    const std::error_code added_times = outcome_of([&](std::error_code&) { times = gtcp::AddTimes(1us, 3, job); });
    const int wanted = (added_once ? 0 : 1) + (added_times ? 0 : 3);
    EXPECT_TRUE(poll_until([&] { return *calls >= wanted; })) << *calls << " of " << wanted << " calls";
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(added_once);
    EXPECT_DONE_OR_SHORT_OF_MEMORY(added_times);
    once = {};
    times = {};
    EXPECT_TRUE(poll_until([&] { return calls.use_count() == 2; })) << "a job is left";
    EXPECT_EQ(*calls, wanted);
    return fired;
  });
}

TEST_F(OperationAllocations, AsyncShutdown) {
  sweep(what_fails::asio_too, [](const injection& arm) {
    const gtcp::Server server = make_server();
    const Conn conn = gtcp::NewConn(server.GetListenedAddress());
    EXPECT_TRUE(answers(conn));
    completion_note<gtcp::ShutdownResult> note;
    failing_allocation failing = arm();
    note.run([&](auto handler) { server.AsyncShutdown(ceiling, std::move(handler)); });
    const std::error_code error = note.wait();
    const bool fired = failing.end();
    EXPECT_DONE_OR_SHORT_OF_MEMORY(error);
    // One who is told that it did not work, tries again.
    const gtcp::ShutdownResult result = error ? server.Shutdown(ceiling) : note->value;
    EXPECT_TRUE(result.Complete);
    EXPECT_EQ(result.Drained + result.Cut, 1u);
    EXPECT_TRUE(has_ended(conn));
    return fired;
  });
}

}  // namespace
