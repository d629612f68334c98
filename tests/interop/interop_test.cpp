// SPDX-License-Identifier: MIT

// GoFrame's gtcp as the other end: go/main.go says what the program `gopeer` does.

#include <gtcp/gtcp.hpp>
#ifdef GTCP_INTEROP_TLS
#include <gtcp/tls.hpp>
#endif

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"
#include "support/process.hpp"
#ifdef GTCP_INTEROP_TLS
#include "support/tls_certificates.hpp"
#endif

#include <gtest/gtest.h>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/use_future.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using gtcp_test::ceiling;
using gtcp_test::pattern;
using gtcp_test::Process;

namespace {

/// Payload sizes that a header of `header` bytes can say; 0 is plain bytes.
std::vector<std::size_t> SizesFor(int header) {
  std::vector<std::size_t> sizes{0, 1, 255};
  if (header == 1) return sizes;
  sizes.insert(sizes.end(), {256, 65535});
  if (header == 2) return sizes;
  sizes.insert(sizes.end(), {65536, 1 << 20});
  return sizes;
}

std::string SizeList(int header) {
  std::string list;
  for (const std::size_t size : SizesFor(header)) list += (list.empty() ? "" : ",") + std::to_string(size);
  return list;
}

/// Texts that are hard for a JSON codec, as they go in and as they come out of Go's; the same as in go/client.go.
const std::vector<std::pair<std::string, std::string>>& Texts() {
  static const auto same = [](std::string text) { return std::pair(text, text); };
  static const std::vector<std::pair<std::string, std::string>> texts{
      same(""),
      same("My name's John!"),
      same("Gr\u00fc\u00dfe, \u4e16\u754c, \U0001F600"),
      same("a < b && c > d"),
      same("quote \" backslash \\ slash /"),
      same(std::string("control \x00\x01\t\n\r\x1f\x7f", 15)),
      same("separators \u2028\u2029"),
      {"not UTF-8: \xff\xfe \xc3( \xed\xa0\x80 \xf0\x9f\x98",
       "not UTF-8: \ufffd\ufffd \ufffd( \ufffd\ufffd\ufffd \ufffd\ufffd\ufffd"},
  };
  return texts;
}

class Interop : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream skipped(GTCP_GOPEER_SKIPPED);
    std::string reason;
    if (std::getline(skipped, reason)) GTEST_SKIP() << "skipped: " << reason;
    ASSERT_TRUE(std::filesystem::exists(GTCP_GOPEER)) << "run `ctest -L interop`, which builds it first";
  }

  /// The address of one of the echo servers of `gopeer serve`, which is started when first asked for.
  std::string GoServer(const std::string& name) {
    if (!servers_) {
      std::vector<std::string> arguments{"serve"};
      arguments.insert(arguments.end(), serve_options_.begin(), serve_options_.end());
      servers_.emplace(GTCP_GOPEER, arguments);
      while (const std::optional<std::string> line = servers_->ReadLine()) {
        std::istringstream words(*line);
        std::string server;
        std::string port;
        words >> server >> port;
        if (server == "ready") break;
        addresses_[server] = "127.0.0.1:" + port;
      }
    }
    return addresses_.at(name);
  }

  void ServeWith(std::vector<std::string> options) { serve_options_ = std::move(options); }

  /// Runs a client of gopeer to its end; returns what it printed, also on an error.
  static std::string RunGoClient(std::vector<std::string> arguments, int port) {
    arguments.insert(arguments.end(), {"-addr", "127.0.0.1:" + std::to_string(port)});
    Process client(GTCP_GOPEER, arguments);
    std::string output;
    for (const std::string& line : client.ReadLines()) output += line + "\n";
    output += client.ReadErrors();
    const int exit_code = client.Wait();
    if (exit_code != 0) output += "exit code " + std::to_string(exit_code) + "\n";
    return output;
  }

 private:
  std::vector<std::string> serve_options_;
  std::optional<Process> servers_;
  std::map<std::string, std::string> addresses_;
};

// ---- Our client, their server

class OurClient : public Interop, public testing::WithParamInterface<int> {};

TEST_P(OurClient, ExchangesPackagesWithGo) {
  const gtcp::PkgOption option{.HeaderSize = GetParam()};
  const std::string address = GoServer("packages" + std::to_string(GetParam()));
  const gtcp::Conn conn = gtcp::NewConn(address, {.Pkg = option});
  for (const std::size_t size : SizesFor(GetParam())) {
    SCOPED_TRACE(size);
    const std::string data = pattern(size);
    EXPECT_EQ(conn.SendRecvPkgWithTimeout(data, ceiling), data);
    conn.AsyncSendPkg(data, asio::use_future).get();
    auto received = conn.AsyncRecvPkgWithTimeout(ceiling, asio::use_future);
    EXPECT_EQ(received.get(), data);
    EXPECT_EQ(gtcp::SendRecvPkgWithTimeout(address, data, ceiling, option), data);
    auto answered = gtcp::AsyncSendRecvPkgWithTimeout(address, data, ceiling, option, asio::use_future);
    EXPECT_EQ(answered.get(), data);
  }
}

TEST_P(OurClient, KeepsPackagesApartInFullDuplex) {
  const gtcp::Conn conn =
      gtcp::NewConn(GoServer("packages" + std::to_string(GetParam())), {.Pkg = {.HeaderSize = GetParam()}});
  constexpr unsigned count = 2000;
  std::thread sender([&] {
    for (unsigned i = 0; i < count; ++i) conn.SendPkg(pattern(i % 200, i));
  });
  for (unsigned i = 0; i < count; ++i) {
    std::error_code error;
    const std::string got = conn.RecvPkgWithTimeout(ceiling, error);
    EXPECT_EQ(got, pattern(i % 200, i)) << error.message();
    if (error) break;
  }
  sender.join();
}

INSTANTIATE_TEST_SUITE_P(Header, OurClient, testing::Range(1, 5));

TEST_F(Interop, OurClientExchangesBytesWithGo) {
  const std::string address = GoServer("bytes");
  const gtcp::Conn conn = gtcp::NewConn(address);
  for (const std::size_t size : SizesFor(0)) {
    if (size == 0) continue;  // no bytes, no reply
    SCOPED_TRACE(size);
    const std::string data = pattern(size);
    EXPECT_EQ(conn.SendRecvWithTimeout(data, static_cast<int>(size), ceiling), data);
    EXPECT_EQ(gtcp::SendRecvWithTimeout(address, data, static_cast<int>(size), ceiling), data);
  }
  EXPECT_EQ(conn.SendRecvWithTimeout("hello", -1, ceiling), "hello");
  conn.Send("one;two;");
  EXPECT_EQ(conn.RecvTillWithTimeout(";", ceiling), "one;");
  EXPECT_EQ(conn.RecvTillWithTimeout(";", ceiling), "two;");
}

TEST_F(Interop, OurClientExchangesLinesWithGo) {
  const gtcp::Conn conn = gtcp::NewConn(GoServer("lines"));
  conn.Send("first\n\nthi");
  conn.Send("rd\n");
  for (const char* const line : {"first", "", "third"}) EXPECT_EQ(conn.RecvLineWithTimeout(ceiling), line);
}

asio::awaitable<unsigned> EchoInACoroutine(std::string address, unsigned seed, unsigned count) {
  auto connecting = gtcp::AsyncNewConn(address);
  const gtcp::Conn conn = co_await std::move(connecting);
  unsigned same = 0;
  for (unsigned i = 0; i < count; ++i) {
    const std::string data = pattern(i * 13 % 2000, seed + i);
    auto asking = conn.AsyncSendRecvPkgWithTimeout(data, ceiling);
    const std::string reply = co_await std::move(asking);
    if (reply == data) ++same;
  }
  co_return same;
}

TEST_F(Interop, SixtyFourOfOurThreadsAndCoroutinesTalkWithGoAtOnce) {
  constexpr unsigned each = 50;
  const std::string address = GoServer("packages2");
  std::vector<std::future<unsigned>> talks;
  for (unsigned i = 0; i < 32; ++i) {
    talks.push_back(
        asio::co_spawn(gtcp::Runtime::Default().get_executor(), EchoInACoroutine(address, i, each), asio::use_future));
    talks.push_back(std::async(std::launch::async, [&, i] {
      const gtcp::Conn conn = gtcp::NewConn(address);
      unsigned same = 0;
      for (unsigned n = 0; n < each; ++n) {
        const std::string data = pattern(n * 13 % 2000, 1000 + i + n);
        if (conn.SendRecvPkgWithTimeout(data, ceiling) == data) ++same;
      }
      return same;
    }));
  }
  for (std::future<unsigned>& talk : talks) EXPECT_EQ(talk.get(), each);
}

TEST_F(Interop, OurMessagesAreThoseOfGo) {
  const gtcp::Conn conn = gtcp::NewConn(GoServer("messages"));
  for (const auto& [sent, expected] : Texts()) {
    SCOPED_TRACE(expected);
    gtcp::SendMsg(conn, {.Act = "hello", .Data = sent});
    const gtcp::Msg msg = gtcp::RecvMsgWithTimeout(conn, ceiling);
    EXPECT_EQ(msg.Act, "hello");
    EXPECT_EQ(msg.Data, expected);
    // Go has read it and written it anew, as we would.
    EXPECT_EQ(conn.SendRecvPkgWithTimeout(gtcp::MarshalMsg({.Act = "hello", .Data = sent}), ceiling),
              gtcp::MarshalMsg({.Act = "hello", .Data = expected}));
  }
}

// ---- Their client, our server

enum class Serving { threads, coroutines };

std::ostream& operator<<(std::ostream& out, Serving serving) {
  return out << (serving == Serving::threads ? "threads" : "coroutines");
}

asio::awaitable<void> EchoPkgs(gtcp::Conn conn) {
  for (;;) {
    auto receiving = conn.AsyncRecvPkg();
    std::string pkg = co_await std::move(receiving);
    auto sending = conn.AsyncSendPkg(std::move(pkg));
    co_await std::move(sending);
  }
}

asio::awaitable<void> EchoBytes(gtcp::Conn conn) {
  for (;;) {
    auto receiving = conn.AsyncRecv(0);
    std::string bytes = co_await std::move(receiving);
    auto sending = conn.AsyncSend(std::move(bytes));
    co_await std::move(sending);
  }
}

asio::awaitable<void> EchoMsgs(gtcp::Conn conn) {
  for (;;) {
    auto receiving = gtcp::AsyncRecvMsg(conn);
    const gtcp::Msg msg = co_await std::move(receiving);
    auto sending = gtcp::AsyncSendMsg(conn, msg);
    co_await std::move(sending);
  }
}

class OurServer : public Interop, public testing::WithParamInterface<Serving> {
 protected:
  /// Serves one or the other handler until the end of the test; what goes wrong there fails it.
  template <class Blocking, class Coroutine, class TlsConfig = std::nullptr_t>
  int Serve(Blocking blocking, Coroutine coroutine, const gtcp::PkgOption& option = {}, TlsConfig tls = {}) {
    gtcp::ServerOption server_option;
    server_option.Conn.Pkg = option;
    if (GetParam() == Serving::threads)
      server_ = gtcp::Server("127.0.0.1:0", blocking, server_option);
    else
      server_ = gtcp::Server("127.0.0.1:0", coroutine, server_option);
    if constexpr (!std::is_null_pointer_v<TlsConfig>) server_.SetTLSConfig(tls);
    server_.Start();
    return server_.GetListenedPort();
  }

  template <class TlsConfig = std::nullptr_t>
  int ServePkgs(int header, TlsConfig tls = {}) {
    return Serve(
        [](gtcp::Conn conn) {
          for (;;) conn.SendPkg(conn.RecvPkg());
        },
        EchoPkgs, {.HeaderSize = header}, tls);
  }

 private:
  gtcp::Server server_;
};

TEST_P(OurServer, ExchangesPackagesOfEverySizeWithGo) {
  for (int header = 1; header <= 4; ++header) {
    const int port = ServePkgs(header);
    std::string expected;
    for (const std::size_t size : SizesFor(header)) {
      expected += "echo header " + std::to_string(header) + " size " + std::to_string(size) + "\n";
    }
    EXPECT_EQ(RunGoClient({"echo", "-header", std::to_string(header), "-sizes", SizeList(header)}, port), expected);
  }
}

TEST_P(OurServer, ExchangesBytesWithGo) {
  const int port = Serve(
      [](gtcp::Conn conn) {
        for (;;) conn.Send(conn.Recv(0));
      },
      EchoBytes);
  std::string expected;
  for (const std::size_t size : SizesFor(0)) expected += "echo header 0 size " + std::to_string(size) + "\n";
  EXPECT_EQ(RunGoClient({"echo", "-header", "0", "-sizes", SizeList(0)}, port), expected);
}

TEST_P(OurServer, TalksWithSixtyFourConnectionsOfGoAtOnce) {
  EXPECT_EQ(RunGoClient({"flood", "-header", "2", "-conns", "64", "-packages", "100"}, ServePkgs(2)),
            "flood header 2 conns 64 packages 100\n");
}

TEST_P(OurServer, ReadsAndWritesTheMessagesOfGo) {
  const int port = Serve(
      [](gtcp::Conn conn) {
        for (;;) gtcp::SendMsg(conn, gtcp::RecvMsg(conn));
      },
      EchoMsgs);
  EXPECT_EQ(RunGoClient({"msg"}, port), "msg texts " + std::to_string(Texts().size()) + "\n");
}

INSTANTIATE_TEST_SUITE_P(With, OurServer, testing::Values(Serving::threads, Serving::coroutines),
                         [](const auto& instance) {
                           return std::string(instance.param == Serving::threads ? "threads" : "coroutines");
                         });

// ---- Over TLS

#ifdef GTCP_INTEROP_TLS

TEST_F(Interop, OurClientTalksOverTlsWithGo) {
  const gtcp_test::scratch_folder folder;
  const auto& own = gtcp_test::test_certificate();
  ServeWith({"-crt", folder.write("own.crt", own.crt()), "-key", folder.write("own.key", own.key())});
  gtcp::TLSOption tls;
  tls.ServerName = "localhost";
  const gtcp::Conn conn = gtcp::NewConnTLS(GoServer("tls"), gtcp_test::client_context(), tls, {});
  for (const std::size_t size : SizesFor(4)) {
    const std::string data = pattern(size);
    EXPECT_EQ(conn.SendRecvPkgWithTimeout(data, ceiling, {.HeaderSize = 4}), data) << size;
  }
}

TEST_P(OurServer, TalksOverTlsWithGo) {
  const gtcp_test::scratch_folder folder;
  const std::string authority = folder.write("authority.crt", gtcp_test::test_authority().crt());
  const int port = ServePkgs(4, gtcp_test::server_context());
  std::string expected;
  for (const std::size_t size : SizesFor(4)) expected += "tls size " + std::to_string(size) + "\n";
  EXPECT_EQ(RunGoClient({"tls", "-ca", authority, "-sizes", SizeList(4)}, port), expected);
}

#endif

#ifdef GTCP_EXAMPLES_DIR

// ---- The heartbeat pair, in all combinations

struct Pair {
  const char* server;  // "go", or an example of ours
  const char* client;

  friend std::ostream& operator<<(std::ostream& out, const Pair& pair) {
    return out << pair.server << " with " << pair.client;
  }
};

class HeartbeatPair : public Interop, public testing::WithParamInterface<Pair> {
 protected:
  static constexpr const char* exit_ms = "1500";
  static constexpr const char* hello_ms = "350";
  static constexpr const char* heartbeat_ms = "100";

  /// Starts the server, which ends when one client has left; returns it with its port.
  static std::unique_ptr<Process> StartServer(const std::string& name, std::string& port) {
    if (name == "go") {
      auto server =
          std::make_unique<Process>(GTCP_GOPEER, std::vector<std::string>{"heartbeat-server", "-exit-ms", exit_ms});
      const std::string line = server->ReadLine().value_or("");
      EXPECT_TRUE(line.starts_with("listening ")) << line;
      port = line.substr(std::min<std::size_t>(line.size(), 10));
      return server;
    }
    const std::string file =
        (std::filesystem::temp_directory_path() / ("gtcp-interop-port-" + std::to_string(::getpid()))).string();
    std::filesystem::remove(file);
    auto server = std::make_unique<Process>(
        std::string(GTCP_EXAMPLES_DIR "/") + name,
        std::vector<std::string>{"--port", "0", "--port-file", file, "--exit-ms", exit_ms, "--clients", "1"});
    EXPECT_TRUE(gtcp_test::poll_until([&] {
      std::ifstream in(file);
      return std::getline(in, port) && !in.eof();  // the line's end is there too
    }));
    std::filesystem::remove(file);
    return server;
  }

  static std::unique_ptr<Process> StartClient(const std::string& name, const std::string& port) {
    if (name == "go") {
      return std::make_unique<Process>(
          GTCP_GOPEER, std::vector<std::string>{"heartbeat-client", "-addr", "127.0.0.1:" + port, "-heartbeat-ms",
                                                heartbeat_ms, "-hello-ms", hello_ms});
    }
    return std::make_unique<Process>(
        std::string(GTCP_EXAMPLES_DIR "/") + name,
        std::vector<std::string>{"--port", port, "--heartbeat-ms", heartbeat_ms, "--hello-ms", hello_ms});
  }

  /// Takes the time off each line, which must have one.
  static std::vector<std::string> WithoutTime(const std::vector<std::string>& lines) {
    static const std::regex form(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (.*))");
    std::vector<std::string> texts;
    for (const std::string& line : lines) {
      std::smatch parts;
      EXPECT_TRUE(std::regex_match(line, parts, form)) << line;
      texts.push_back(parts.empty() ? line : parts[1].str());
    }
    return texts;
  }
};

TEST_P(HeartbeatPair, SaysTheSameInEveryLanguage) {
  std::string port;
  const std::unique_ptr<Process> server = StartServer(GetParam().server, port);
  const std::unique_ptr<Process> client = StartClient(GetParam().client, port);

  const std::string peer = "[127.0.0.1:" + port + "]";
  EXPECT_EQ(WithoutTime(client->ReadLines()),
            (std::vector<std::string>{"hello response message from " + peer + ": Nice to meet you!",
                                      "exit command from " + peer}));
  EXPECT_EQ(client->ReadErrors(), "");
  EXPECT_EQ(client->Wait(), 0);

  // As many heartbeats as there was time for, each from the same client; between them the hello, and the end.
  const std::vector<std::string> lines = WithoutTime(server->ReadLines());
  ASSERT_FALSE(lines.empty());
  std::smatch parts;
  ASSERT_TRUE(std::regex_match(lines.front(), parts, std::regex(R"(heartbeat from (\[127\.0\.0\.1:\d+\]))")))
      << lines.front();
  const std::string heartbeat = lines.front();
  std::vector<std::string> others;
  std::vector<int> heartbeats{0};  // before each of the others
  for (const std::string& line : lines) {
    if (line == heartbeat) {
      ++heartbeats.back();
    } else {
      others.push_back(line);
      heartbeats.push_back(0);
    }
  }
  EXPECT_GE(heartbeats.front(), 2) << "before the hello";
  EXPECT_GE(heartbeats.at(1), 2) << "behind it";
  EXPECT_EQ(others,
            (std::vector<std::string>{"hello message from " + parts[1].str() + ": My name's John!", "client closed"}));
  EXPECT_EQ(lines.back(), "client closed");
  EXPECT_EQ(server->ReadErrors(), "");
  EXPECT_EQ(server->Wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Of, HeartbeatPair,
                         testing::Values(Pair{"heartbeat_server", "heartbeat_client"}, Pair{"go", "heartbeat_client"},
                                         Pair{"heartbeat_server", "go"}, Pair{"heartbeat_server_coro", "go"},
                                         Pair{"go", "go"}),
                         [](const auto& instance) {
                           return std::string(instance.param.server) + "_with_" + instance.param.client;
                         });

#endif

}  // namespace
