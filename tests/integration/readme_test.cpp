// SPDX-License-Identifier: MIT
//
// The C++ in README.md is compiled and run: each block is, word for word, a region between "// README: name" and
// "// README: end" of an example or of this file. What the documents link to exists.

#include <gtcp/gtcp.hpp>

#include <gtest/gtest.h>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/use_future.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;

/// A server in this process that gives each connection to `handler`.
gtcp::Server Serve(gtcp::Server::Handler handler) {
  gtcp::Server server("127.0.0.1:0", std::move(handler));
  server.Start();
  return server;
}

std::string AddressOf(const gtcp::Server& server) { return "127.0.0.1:" + std::to_string(server.GetListenedPort()); }

TEST(Readme, CoroutineHandler) {
  const std::string address = "127.0.0.1:0";
  // README: coroutine
  gtcp::Server server(address, [](gtcp::Conn conn) -> asio::awaitable<void> {
    for (;;) {
      std::string pkg = co_await conn.AsyncRecvPkg();
      co_await conn.AsyncSendPkg(std::move(pkg));
    }
  });
  server.Start();  // serves in the background; Run() serves until Close()
  // README: end
  EXPECT_EQ(gtcp::NewConn(AddressOf(server)).SendRecvPkg("hello"), "hello");
  server.Close();
}

TEST(Readme, PackageHandler) {
  const std::string address = "127.0.0.1:0";
  std::promise<std::string> logged;
  const auto log = [&](const std::string& line) { logged.set_value(line); };
  // README: package handler
  gtcp::Server server(address);
  server.SetPkgHandler([](gtcp::Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
  server.SetOnClose(
      [&](gtcp::Conn& conn, std::error_code reason) { log(conn.RemoteAddr() + ": " + reason.message()); });
  server.Start();
  // README: end
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  const std::string peer = conn.LocalAddr();
  EXPECT_EQ(conn.SendRecvPkg("hello"), "hello");
  conn.Close();
  EXPECT_EQ(logged.get_future().get(), peer + ": End of file");
  server.Close();
}

TEST(Readme, MessagesAndTimers) {
  gtcp::Server server = Serve([](gtcp::Conn conn) {
    gtcp::SendMsg(conn, {.Act = "hello", .Data = "Nice to meet you!"});
    gtcp::SendMsg(conn, {.Act = "doexit"});
    for (;;) conn.RecvPkg();
  });
  const std::string address = AddressOf(server);
  testing::internal::CaptureStdout();
  {
    // README: messages
    gtcp::Conn conn = gtcp::NewConn(address);
    conn.SetInterval(1s, [](gtcp::Conn peer) { gtcp::SendMsg(peer, {.Act = "heartbeat"}); });
    conn.SetTimeout(3s, [](gtcp::Conn peer) { gtcp::SendMsg(peer, {.Act = "hello", .Data = "My name's John!"}); });
    for (;;) {
      gtcp::Msg msg = gtcp::RecvMsg(conn);
      if (msg.Act == "hello") std::cout << msg.Data << std::endl;
      if (msg.Act == "doexit") break;
    }
    // README: end
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "Nice to meet you!\n");
  server.Close();
}

/// Sends what it is told, then ends the connection.
gtcp::Server ServeNumbers(int count) {
  return Serve([count](gtcp::Conn conn) {
    for (int i = 1; i <= count; ++i) conn.SendPkg(std::to_string(i));
  });
}

TEST(Readme, ThreeForms) {
  gtcp::Server server = ServeNumbers(4);
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  std::promise<std::string> third_came;
  const auto use = [&](std::string pkg) { third_came.set_value(std::move(pkg)); };
  // README: forms
  std::string first = conn.RecvPkg();  // throws std::system_error

  std::error_code ec;
  std::string second = conn.RecvPkg(ec);  // fills a std::error_code

  conn.AsyncRecvPkg([&](std::error_code error, std::string third) {  // any completion token: a callback ...
    if (!error) use(std::move(third));
  });
  std::future<std::string> fourth = conn.AsyncRecvPkg(asio::use_future);  // ... a future (<asio/use_future.hpp>), ...
  // README: end
  EXPECT_EQ(first, "1");
  EXPECT_FALSE(ec);
  EXPECT_EQ(second, "2");
  EXPECT_EQ(third_came.get_future().get(), "3");
  EXPECT_EQ(fourth.get(), "4");
  server.Close();
}

asio::awaitable<std::string> Await(gtcp::Conn conn) {
  // README: awaited
  std::string first = co_await conn.AsyncRecvPkg();  // throws, too

  std::error_code ec;
  std::string second = co_await conn.AsyncRecvPkg(ec);  // fills a std::error_code
  // README: end
  co_return first + second + (ec ? ec.message() : "");
}

TEST(Readme, AwaitedForms) {
  gtcp::Server server = ServeNumbers(2);
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  EXPECT_EQ(asio::co_spawn(conn.get_executor(), Await(conn), asio::use_future).get(), "12");
  server.Close();
}

TEST(Readme, Errors) {
  gtcp::Server server = ServeNumbers(2);
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  std::string got;
  std::string end;
  const auto use = [&](const std::string& pkg) { got += pkg; };
  testing::internal::CaptureStderr();
  // README: errors
  for (;;) {
    std::error_code ec;
    std::string pkg = conn.RecvPkgWithTimeout(30s, ec);
    if (!ec) {
      use(pkg);
    } else if (gtcp::IsFatal(ec)) {
      std::cerr << "over: " << ec.message() << std::endl;
      break;
    } else if (ec == gtcp::Errc::Timeout) {
      conn.SendPkg("Are you still there?");
    }
  }
  // README: end
  EXPECT_EQ(got, "12");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "over: " + std::error_code(asio::error::eof).message() + "\n");
  server.Close();
}

TEST(Readme, ErrorNamesOperationAndPeer) {
  gtcp::Server server = ServeNumbers(0);
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  try {
    conn.RecvPkg();
    FAIL() << "no error";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.what(), "RecvPkg [" + AddressOf(server) + "]: End of file");
  }
  server.Close();
}

TEST(Readme, Timeouts) {
  gtcp::Server server = Serve([](gtcp::Conn conn) {
    conn.Send(std::string("\0\5he", 4));
    conn.SetTimeout(200ms, [](gtcp::Conn client) { client.Send("llo"); });
    conn.RecvPkg();  // till the client leaves
  });
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  // README: timeouts
  std::error_code ec;
  std::string pkg = conn.RecvPkgWithTimeout(100ms, ec);
  if (ec == gtcp::Errc::Timeout) pkg = conn.RecvPkg();  // a package that had begun to come is whole all the same
  // README: end
  EXPECT_EQ(pkg, "hello");
  server.Close();
}

TEST(Readme, Closing) {
  std::promise<std::string> came;
  gtcp::Server server = Serve([&](gtcp::Conn client) { came.set_value(client.RecvPkg()); });
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server));
  // README: closing
  conn.SendPkg("the last one");
  bool delivered = conn.CloseAndWait(5s);  // true: the peer's system has acknowledged everything
  // README: end
  EXPECT_TRUE(delivered);
  EXPECT_EQ(came.get_future().get(), "the last one");
  server.Close();
}

// ---- The text of the README

using Blocks = std::vector<std::string>;

/// What stands between a line that `begins` and the first one after it that `ends`, without the common indentation.
template <class Begins, class Ends>
void CollectBlocks(const std::filesystem::path& file, const Begins& begins, const Ends& ends, Blocks& blocks) {
  std::ifstream in(file);
  ASSERT_TRUE(in) << file;
  std::vector<std::string> lines;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
    const std::string text = line.substr(indent);
    if (!inside) {
      inside = begins(text);
      lines.clear();
    } else if (ends(text)) {
      inside = false;
      std::size_t common = std::string::npos;
      for (const std::string& one : lines) common = std::min(common, one.find_first_not_of(' '));
      std::string block;
      for (const std::string& one : lines) block += (one.empty() ? one : one.substr(common)) + "\n";
      blocks.push_back(block);
    } else {
      lines.push_back(line);
    }
  }
  EXPECT_FALSE(inside) << file << ": a block has no end";
}

std::filesystem::path Root() { return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path(); }

TEST(Readme, ConsistsOfCodeThatIsCompiledAndRun) {
  const std::filesystem::path root = Root();
  std::vector<std::filesystem::path> sources{__FILE__, root / "tests/integration/tls_conn_test.cpp"};
  for (const auto& entry : std::filesystem::directory_iterator(root / "examples")) {
    if (entry.path().extension() == ".cpp") sources.push_back(entry.path());
  }
  Blocks compiled;
  const std::string mark = std::string("// README") + ": ";
  for (const auto& source : sources) {
    CollectBlocks(
        source, [&](const std::string& line) { return line.starts_with(mark); },
        [&](const std::string& line) { return line == mark + "end"; }, compiled);
  }
  Blocks shown;
  CollectBlocks(
      root / "README.md", [](const std::string& line) { return line == "```cpp"; },
      [](const std::string& line) { return line == "```"; }, shown);
  EXPECT_FALSE(shown.empty());
  for (const std::string& block : shown) {
    EXPECT_NE(std::find(compiled.begin(), compiled.end(), block), compiled.end())
        << "README.md shows code that no example has:\n"
        << block;
  }
  for (const std::string& block : compiled) {
    EXPECT_NE(std::find(shown.begin(), shown.end(), block), shown.end()) << "README.md does not show:\n" << block;
  }
}

TEST(Readme, SpellsWhatAGoFrameUserTypes) {
  gtcp::Server server = Serve([](gtcp::Conn conn) {
    for (;;) conn.SendPkg(conn.RecvPkg({.HeaderSize = 4}), {.HeaderSize = 4});
  });
  gtcp::Conn conn = gtcp::NewConn(AddressOf(server), 30s);
  conn.SetDeadline(std::chrono::steady_clock::now() + 30s);
  conn.SendPkg("one", {.HeaderSize = 4});
  EXPECT_EQ(conn.RecvPkg({.HeaderSize = 4}), "one");
  EXPECT_EQ(conn.SendRecvPkg("two", gtcp::PkgOption{.HeaderSize = 4, .Retry = {.Count = 3}}), "two");
  conn.Close();
  EXPECT_EQ(gtcp::SendRecvPkg(AddressOf(server), "three", {.HeaderSize = 4}), "three");
  server.Close();
}

TEST(Readme, SaysTheDefaults) {
  // The table of limits, and the text around it.
  const gtcp::ConnOption option;
  EXPECT_EQ(option.Pkg, gtcp::PkgOption());
  EXPECT_EQ(gtcp::detail::pkg_format().header_size, 2u);
  EXPECT_EQ(gtcp::detail::pkg_format().max_data_size, 65'535u);
  EXPECT_EQ(option.MaxLineSize, 1024u * 1024);
  EXPECT_EQ(option.OutboxLimit, 256u * 1024);
  EXPECT_EQ(option.Linger, 5s);
  EXPECT_EQ(option.Mode, gtcp::SendMode::Buffered);
  EXPECT_EQ(gtcp::DefaultConnTimeout, 30s);
}

TEST(Documents, LinkToFilesAndSectionsThatExist) {
  const std::filesystem::path root = Root();
  const auto read = [](const std::filesystem::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  };
  // The name that a heading has as a link's target.
  const auto sections = [](const std::string& text) {
    std::vector<std::string> names;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with("#")) continue;
      std::string name;
      for (const char c : line.substr(line.find_first_not_of("# "))) {
        if (c == ' ') name += '-';
        if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-') {
          name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        }
      }
      names.push_back(name);
    }
    return names;
  };
  for (const char* document : {"README.md", "CHANGELOG.md", "docs/design.md", "docs/goframe.md"}) {
    const std::string text = read(root / document);
    ASSERT_FALSE(text.empty()) << document;
    const std::regex link(R"(\]\(([^)# ]*)(#([^) ]*))?\))");
    for (std::sregex_iterator found(text.begin(), text.end(), link), end; found != end; ++found) {
      const std::string target = (*found)[1];
      const std::string section = (*found)[3];
      if (target.starts_with("https://")) continue;
      const std::filesystem::path file = target.empty() ? root / document : (root / document).parent_path() / target;
      EXPECT_TRUE(std::filesystem::exists(file)) << document << " links to " << target;
      if (section.empty()) continue;
      const std::vector<std::string> names = sections(read(file));
      EXPECT_NE(std::find(names.begin(), names.end(), section), names.end())
          << document << " links to " << target << "#" << section;
    }
  }
}

}  // namespace
