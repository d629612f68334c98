// SPDX-License-Identifier: MIT
//
// The examples as a user runs them: real processes on free ports, their output line by line.

#include "support/poll_until.hpp"
#include "support/process.hpp"

#include <gtcp/gtcp.hpp>

#include <gtest/gtest.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <string>
#include <system_error>
#include <vector>

#ifdef GTCP_EXAMPLES_DIR

namespace {

using gtcp_test::poll_until;
using gtcp_test::Process;
using namespace std::chrono_literals;

const std::string stamp = R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} )";

std::string Example(const std::string& name) { return std::string(GTCP_EXAMPLES_DIR) + "/" + name; }

bool Matches(const std::optional<std::string>& line, const std::string& pattern) {
  return line && std::regex_match(*line, std::regex(pattern));
}

/// For a text in a pattern.
std::string Quoted(const std::string& text) {
  static const std::regex special(R"([.\[\]{}()*+?^$|\\])");
  return std::regex_replace(text, special, R"(\$&)");
}

#define EXPECT_LINE(line, pattern)                                                                     \
  do {                                                                                                 \
    const std::optional<std::string> got = line;                                                       \
    EXPECT_TRUE(Matches(got, pattern)) << got.value_or("EOF") << "\nis not\n" << std::string(pattern); \
  } while (false)

/// A server of the examples on a free port.
class ServerProcess {
 public:
  ServerProcess(const std::string& name, std::vector<std::string> arguments = {}) {
    static std::atomic<int> count = 0;
    file_ = std::filesystem::temp_directory_path() /
            ("gtcp_port_" + std::to_string(::getpid()) + "_" + std::to_string(++count));
    for (const char* argument : {"--port", "0", "--port-file"}) arguments.emplace_back(argument);
    arguments.push_back(file_.string());
    process_.emplace(Example(name), arguments);
    EXPECT_TRUE(poll_until([&] {
      std::ifstream file(file_);
      return std::getline(file, port_) && !file.eof();  // the whole line
    })) << name
        << " does not listen";
  }

  ~ServerProcess() {
    process_.reset();
    std::error_code ignored;
    std::filesystem::remove(file_, ignored);
  }

  Process* operator->() { return &*process_; }
  const std::string& Port() const { return port_; }
  std::string Address() const { return "127.0.0.1:" + port_; }

 private:
  std::filesystem::path file_;
  std::optional<Process> process_;
  std::string port_;
};

// ---- hello

TEST(ExampleHello, ServerAnswersClient) {
  Process server(Example("hello_server"), {"127.0.0.1:0"});
  const std::string line = server.ReadLine().value_or("");
  const std::string prefix = "listening on ";
  ASSERT_TRUE(line.starts_with(prefix + "127.0.0.1:")) << line;

  Process client(Example("hello_client"), {line.substr(prefix.size())});
  EXPECT_EQ(client.ReadLine(), "Hello, World!");
  EXPECT_EQ(client.ReadLine(), std::nullopt);
  EXPECT_EQ(client.Wait(), 0);
}

// ---- heartbeat

class ExampleHeartbeatServer : public testing::TestWithParam<const char*> {};

TEST_P(ExampleHeartbeatServer, PrintsTheTalkWithItsClient) {
  ServerProcess server(GetParam(), {"--exit-ms", "1500", "--clients", "1"});
  Process client(Example("heartbeat_client"), {"--port", server.Port(), "--heartbeat-ms", "50", "--hello-ms", "120"});

  EXPECT_LINE(client.ReadLine(),
              stamp + R"(hello response message from \[127\.0\.0\.1:)" + server.Port() + R"(\]: Nice to meet you!)");
  EXPECT_LINE(client.ReadLine(), stamp + R"(exit command from \[127\.0\.0\.1:)" + server.Port() + R"(\])");
  EXPECT_EQ(client.ReadLine(), std::nullopt);
  EXPECT_EQ(client.Wait(), 0);

  const std::vector<std::string> lines = server->ReadLines();
  ASSERT_GE(lines.size(), 3u);
  std::smatch first;
  ASSERT_TRUE(std::regex_match(lines.front(), first, std::regex(stamp + R"(.* from \[(127\.0\.0\.1:\d+)\].*)")));
  const std::string peer = R"(\[)" + Quoted(first[1]) + R"(\])";
  std::size_t heartbeats = 0;
  std::size_t hellos = 0;
  for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
    if (Matches(lines[i], stamp + "heartbeat from " + peer))
      ++heartbeats;
    else if (Matches(lines[i], stamp + "hello message from " + peer + ": My name's John!"))
      ++hellos;
    else
      ADD_FAILURE() << lines[i];
  }
  EXPECT_GE(heartbeats, 1u);
  EXPECT_EQ(hellos, 1u);
  EXPECT_LINE(lines.back(), stamp + "client closed");
  EXPECT_EQ(server->ReadErrors(), "");
  EXPECT_EQ(server->Wait(), 0);
}

TEST_P(ExampleHeartbeatServer, GoesOnAfterInvalidMessages) {
  ServerProcess server(GetParam(), {"--clients", "1"});
  gtcp::Conn conn = gtcp::NewConn(server.Address());
  const std::string peer = R"(\[)" + Quoted(conn.LocalAddr()) + R"(\])";

  gtcp::SendMsg(conn, {.Act = "dance", .Data = "tango"});
  EXPECT_LINE(server->ReadLine(), stamp + Quoted(R"(invalid message: {"Act":"dance","Data":"tango"})"));
  conn.SendPkg("no JSON");
  EXPECT_LINE(server->ReadLine(), stamp + "invalid message: invalid package structure");
  gtcp::SendMsg(conn, {.Act = "heartbeat"});
  EXPECT_LINE(server->ReadLine(), stamp + "heartbeat from " + peer);
  gtcp::SendMsg(conn, {.Act = "hello", .Data = "My name's Jane!"});
  EXPECT_LINE(server->ReadLine(), stamp + "hello message from " + peer + ": My name's Jane!");
  EXPECT_EQ(gtcp::RecvMsgWithTimeout(conn, 30s), (gtcp::Msg{.Act = "hello", .Data = "Nice to meet you!"}));
  conn.Close();
  EXPECT_LINE(server->ReadLine(), stamp + "client closed");
  EXPECT_EQ(server->Wait(), 0);
}

TEST_P(ExampleHeartbeatServer, ServesFurtherClientsAfterOneHasLeft) {
  ServerProcess server(GetParam(), {"--exit-ms", "1", "--clients", "3"});
  for (int client = 0; client < 3; ++client) {
    gtcp::Conn conn = gtcp::NewConn(server.Address());
    EXPECT_EQ(gtcp::RecvMsgWithTimeout(conn, 30s).Act, "doexit");
    client == 1 ? conn.Abort() : conn.Close();
    EXPECT_LINE(server->ReadLine(), stamp + "client closed");
  }
  EXPECT_EQ(server->ReadLine(), std::nullopt);
  EXPECT_EQ(server->ReadErrors(), "");
  EXPECT_EQ(server->Wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Threads, ExampleHeartbeatServer, testing::Values("heartbeat_server"));
INSTANTIATE_TEST_SUITE_P(Coroutines, ExampleHeartbeatServer, testing::Values("heartbeat_server_coro"));

TEST(ExampleHeartbeatClient, DispatchesOnActUntilToldToExit) {
  gtcp::Server server("127.0.0.1:0", [](gtcp::Conn conn) {
    bool heartbeat = false;
    bool hello = false;
    while (!heartbeat || !hello) {
      const gtcp::Msg msg = gtcp::RecvMsg(conn);
      heartbeat |= msg.Act == "heartbeat";
      hello |= msg == gtcp::Msg{.Act = "hello", .Data = "My name's John!"};
    }
    gtcp::SendMsg(conn, {.Act = "dance"});
    gtcp::SendMsg(conn, {.Act = "hello", .Data = "Welcome"});
    gtcp::SendMsg(conn, {.Act = "doexit"});
    for (;;) gtcp::RecvMsg(conn);
  });
  server.Start();
  const std::string port = std::to_string(server.GetListenedPort());
  const std::string peer = R"(\[127\.0\.0\.1:)" + port + R"(\])";

  Process client(Example("heartbeat_client"), {"--port", port, "--heartbeat-ms", "1", "--hello-ms", "1"});
  EXPECT_LINE(client.ReadLine(), stamp + Quoted(R"(invalid message: {"Act":"dance","Data":""})"));
  EXPECT_LINE(client.ReadLine(), stamp + "hello response message from " + peer + ": Welcome");
  EXPECT_LINE(client.ReadLine(), stamp + "exit command from " + peer);
  EXPECT_EQ(client.ReadLine(), std::nullopt);
  EXPECT_EQ(client.ReadErrors(), "");
  EXPECT_EQ(client.Wait(), 0);
  server.Close();
}

TEST(ExampleHeartbeatClient, SaysThatTheServerHasGone) {
  gtcp::Server server("127.0.0.1:0", [](gtcp::Conn conn) { conn.Close(); });
  server.Start();
  Process client(Example("heartbeat_client"), {"--port", std::to_string(server.GetListenedPort())});
  EXPECT_LINE(client.ReadLine(), stamp + "server closed");
  EXPECT_EQ(client.Wait(), 0);
  server.Close();
}

// ---- echo

TEST(ExampleEcho, GivesArgumentsAndLinesBack) {
  ServerProcess server("echo_server", {"--clients", "2"});

  Process arguments(Example("echo_client"), {"--port", server.Port(), "one", "two words", "", "--", "--three"});
  EXPECT_EQ(arguments.ReadLines(), (std::vector<std::string>{"one", "two words", "", "--three"}));
  EXPECT_EQ(arguments.Wait(), 0);

  Process lines(Example("echo_client"), {"--port", server.Port()});
  for (const std::string& line : {std::string("first"), std::string(60'000, 'x'), std::string("last")}) {
    lines.Write(line + "\n");
    EXPECT_EQ(lines.ReadLine(), line);
  }
  lines.CloseInput();
  EXPECT_EQ(lines.Wait(), 0);
  EXPECT_EQ(server->Wait(), 0);
}

// ---- a public server

TEST(ExamplePublicServer, EndsOnASignalAndLosesNothing) {
  for (const int signal : {SIGINT, SIGTERM}) {
    ServerProcess server("public_server");
    const gtcp::Conn conn = gtcp::NewConn(server.Address());
    EXPECT_EQ(conn.SendRecvPkgWithTimeout("hello", gtcp_test::ceiling), "hello");
    ::kill(server->Pid(), signal);
    std::error_code error;
    conn.RecvPkgWithTimeout(gtcp_test::ceiling, error);
    EXPECT_EQ(error, asio::error::eof);
    EXPECT_LINE(server->ReadLine(), "drained 1, cut off 0");
    const std::vector<std::string> lines = server->ReadLines();
    EXPECT_NE(std::find(lines.begin(), lines.end(), "gtcp_packages_in_total 1"), lines.end());
    EXPECT_EQ(server->Wait(), 0);
  }
}

// ---- chat

TEST(ExampleChat, TellsAllWhatOneSays) {
  ServerProcess server("chat_server", {"--clients", "2"});
  Process john(Example("chat_client"), {"--port", server.Port(), "--name", "John"});
  EXPECT_EQ(john.ReadLine(), "John joined");
  Process jane(Example("chat_client"), {"--port", server.Port(), "--name", "Jane"});
  EXPECT_EQ(jane.ReadLine(), "Jane joined");
  EXPECT_EQ(john.ReadLine(), "Jane joined");

  john.Write("Hello, everybody!\n");
  EXPECT_EQ(john.ReadLine(), "John: Hello, everybody!");
  EXPECT_EQ(jane.ReadLine(), "John: Hello, everybody!");
  jane.Write("I must go.\n");
  jane.CloseInput();
  EXPECT_EQ(jane.ReadLine(), "Jane: I must go.");
  EXPECT_EQ(jane.ReadLine(), std::nullopt);
  EXPECT_EQ(jane.Wait(), 0);
  EXPECT_EQ(john.ReadLine(), "Jane: I must go.");
  EXPECT_EQ(john.ReadLine(), "Jane left");
  john.CloseInput();
  EXPECT_EQ(john.ReadLine(), std::nullopt);
  EXPECT_EQ(john.Wait(), 0);

  EXPECT_EQ(server->ReadLines(), (std::vector<std::string>{"John joined", "Jane joined", "John: Hello, everybody!",
                                                           "Jane: I must go.", "Jane left", "John left"}));
  EXPECT_EQ(server->ReadErrors(), "");
  EXPECT_EQ(server->Wait(), 0);
}

TEST(ExampleChat, EndsAClientThatDoesNotReadAndHoldsNobodyUp) {
  ServerProcess server("chat_server", {"--clients", "2"});
  const gtcp::Conn slow = gtcp::NewConn(server.Address(), gtcp::ConnOption{.RecvBufferSize = 4096});
  slow.SendPkg("slow");
  EXPECT_EQ(slow.RecvPkgWithTimeout(30s), "slow joined");
  const gtcp::Conn quick = gtcp::NewConn(server.Address());
  quick.SendPkg("quick");
  EXPECT_EQ(quick.RecvPkgWithTimeout(30s), "quick joined");

  // The one reads all that it says, the other nothing. What the server and the systems keep for that one is bounded.
  const std::string text(4000, 'x');
  const std::string line = "quick: " + text;
  bool slow_left = false;
  for (int i = 0; i < 20'000 && !slow_left; ++i) {
    quick.SendPkg(text);
    std::string got = quick.RecvPkgWithTimeout(30s);
    if (got == "slow left") {
      slow_left = true;
      got = quick.RecvPkgWithTimeout(30s);
    }
    ASSERT_EQ(got, line);
    server->ReadLine();  // what it prints, so that its output is not full
  }
  EXPECT_TRUE(slow_left);
  quick.Close();
  EXPECT_EQ(server->Wait(), 0);
}

TEST(ExampleChat, ClientSaysThatTheServerHasGone) {
  ServerProcess server("chat_server");
  Process client(Example("chat_client"), {"--port", server.Port()});
  EXPECT_EQ(client.ReadLine(), "John joined");
  server->Kill();
  EXPECT_EQ(client.ReadErrors(), "chat_client: the server has closed the connection\n");
  EXPECT_EQ(client.Wait(), 1);
}

// ---- Errors

TEST(ExampleOptions, QuotesWhatIsWrong) {
  struct Case {
    std::vector<std::string> arguments;
    std::string error;
  };
  const std::vector<Case> cases = {
      {{"--port", "abc"}, "heartbeat_server: --port is \"abc\", allowed are 0 to 65535\n"},
      {{"--port", "65536"}, "heartbeat_server: --port is \"65536\", allowed are 0 to 65535\n"},
      {{"--port", "-1"}, "heartbeat_server: --port is \"-1\", allowed are 0 to 65535\n"},
      {{"--port", ""}, "heartbeat_server: --port is \"\", allowed are 0 to 65535\n"},
      {{"--port"}, "heartbeat_server: \"--port\" needs a value\n"},
      {{"--exit-ms", "0"}, "heartbeat_server: --exit-ms is \"0\", allowed are 1 to 86400000\n"},
      {{"--prot", "1"},
       "heartbeat_server: unknown option \"--prot\"; there are --host, --port, --port-file, --exit-ms, --clients\n"},
      {{"now"},
       "heartbeat_server: unexpected argument \"now\"; options are --host, --port, --port-file, --exit-ms, "
       "--clients\n"},
  };
  for (const Case& wrong : cases) {
    Process server(Example("heartbeat_server"), wrong.arguments);
    EXPECT_EQ(server.ReadErrors(), wrong.error);
    EXPECT_EQ(server.Wait(), 2);
  }
}

TEST(ExampleOptions, NamesTheAddressThatIsInUseOrRefuses) {
  std::string port;
  {
    ServerProcess first("echo_server");
    port = first.Port();
    Process second(Example("heartbeat_server"), {"--port", port});
    EXPECT_NE(second.ReadErrors().find("127.0.0.1:" + port), std::string::npos);
    EXPECT_EQ(second.Wait(), 1);
  }
  Process client(Example("heartbeat_client"), {"--port", port});
  EXPECT_NE(client.ReadErrors().find("127.0.0.1:" + port), std::string::npos);
  EXPECT_EQ(client.Wait(), 1);
}

}  // namespace

#endif
