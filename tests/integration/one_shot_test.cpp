// SPDX-License-Identifier: MIT

#include <gtcp/free_port.hpp>
#include <gtcp/one_shot.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"

#include <gtest/gtest.h>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/use_future.hpp>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <sys/resource.h>
#endif

using namespace std::chrono_literals;
using gtcp_test::framed;
using gtcp_test::pattern;
using gtcp_test::raw_peer;
using gtcp_test::text_of_error;

namespace {

using tcp = asio::ip::tcp;

/// Takes one connection after the other and hands each to `talk`, in one thread.
class PlainServer {
 public:
  using Talk = std::function<void(raw_peer&)>;

  explicit PlainServer(Talk talk, int connections = 1)
      : acceptor_(gtcp_test::raw_context(), {asio::ip::address_v4::loopback(), 0}) {
    thread_ = std::thread([this, talk = std::move(talk), connections] {
      for (int i = 0; i < connections; ++i) {
        std::error_code error;
        tcp::socket accepted = acceptor_.accept(error);
        if (error) return;
        raw_peer peer{raw_peer::socket(std::move(accepted))};
        talk(peer);
      }
    });
  }
  ~PlainServer() { Join(); }

  /// Returns when all connections were served.
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

  std::string Address() const { return "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }

 private:
  tcp::acceptor acceptor_;
  std::thread thread_;
};

/// Answers one package on each connection with the same package, then waits for the client's end of the stream.
PlainServer::Talk EchoPkg(std::size_t header_size = 2) {
  return [header_size](raw_peer& peer) {
    peer.write(framed(peer.read_pkg(header_size), header_size));
    EXPECT_EQ(peer.read_to_end(), "");
  };
}

PlainServer::Talk EchoBytes(std::size_t size) {
  return [size](raw_peer& peer) {
    peer.write(peer.read(size));
    EXPECT_EQ(peer.read_to_end(), "");
  };
}

/// A listening socket whose connections nobody accepts: connecting succeeds, and no reply ever comes.
class Mute {
 public:
  std::string Address() const { return "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
  tcp::acceptor& Acceptor() { return acceptor_; }

 private:
  tcp::acceptor acceptor_{gtcp_test::raw_context(), {asio::ip::address_v4::loopback(), 0}};
};

/// An address on which nobody listens.
std::string RefusingAddress() { return "127.0.0.1:" + std::to_string(gtcp::GetFreePort()); }

// ---- Bytes

TEST(OneShotSend, DeliversBytesAndEndsTheStream) {
  std::string got;
  PlainServer server([&](raw_peer& peer) { got = peer.read_to_end(); }, 3);
  gtcp::Send(server.Address(), "hello");
  gtcp::Send(server.Address(), "hello", {.Count = 1});
  gtcp::SendWithTimeout(server.Address(), pattern(3'000'000), 30s);
  server.Join();
  EXPECT_EQ(got, pattern(3'000'000));
}

TEST(OneShotSendRecv, ReturnsWhatComesBack) {
  PlainServer server(EchoBytes(5), 4);
  EXPECT_EQ(gtcp::SendRecv(server.Address(), "hello", 5), "hello");
  EXPECT_EQ(gtcp::SendRecv(server.Address(), "hello", -1), "hello");
  EXPECT_EQ(gtcp::SendRecv(server.Address(), "hello", 0, {.Count = 1}), "hello");
  EXPECT_EQ(gtcp::SendRecvWithTimeout(server.Address(), "hello", 5, 30s), "hello");
}

// ---- Packages

TEST(OneShotSendPkg, DeliversAPackageAndEndsTheStream) {
  std::string got;
  PlainServer server([&](raw_peer& peer) { got += peer.read_to_end(); }, 3);
  gtcp::SendPkg(server.Address(), "hello");
  gtcp::SendPkg(server.Address(), "", {.HeaderSize = 1});
  gtcp::SendPkgWithTimeout(server.Address(), std::string("world"), 30s, {.HeaderSize = 4});
  server.Join();
  EXPECT_EQ(got, framed("hello") + framed("", 1) + framed("world", 4));
}

TEST(OneShotSendRecvPkg, ReturnsThePackageThatComesBack) {
  for (int header = 1; header <= 4; ++header) {
    PlainServer server(EchoPkg(static_cast<std::size_t>(header)), 2);
    const std::string data = pattern(header == 1 ? 255 : 65535);
    EXPECT_EQ(gtcp::SendRecvPkg(server.Address(), data, {.HeaderSize = header}), data);
    EXPECT_EQ(gtcp::SendRecvPkgWithTimeout(server.Address(), data, 30s, {.HeaderSize = header}), data);
  }
}

TEST(OneShotSendPkg, IsDeliveredToAPeerThatSendsMeanwhile) {
  // Closing with unread input makes the system reset the connection and throw away what the peer has not read yet.
  std::string got;
  PlainServer server([&](raw_peer& peer) {
    peer.write(pattern(50'000));
    got = peer.read_to_end();
  });
  gtcp::SendPkg(server.Address(), pattern(60'000));
  server.Join();
  EXPECT_EQ(got, framed(pattern(60'000)));
}

// Runs in a process of its own, which ends right after the send: the address comes in the environment.
TEST(OneShotSendPkgDeathTest, ArrivesThoughTheProcessEnds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  constexpr const char* variable = "GTCP_ONE_SHOT_TEST_ADDRESS";
  const std::string data = pattern(8'000'000);
  std::promise<std::string> got;
  std::optional<PlainServer> server;
  if (std::getenv(variable) == nullptr) {
    server.emplace([&](raw_peer& peer) { got.set_value(peer.read_to_end()); });
    ::setenv(variable, server->Address().c_str(), 1);
  }
  EXPECT_EXIT(
      {
        gtcp::SendPkg(std::getenv(variable), data, {.HeaderSize = 4});
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
  ::unsetenv(variable);
  std::future<std::string> arrived = got.get_future();
  ASSERT_TRUE(gtcp_test::comes(arrived));
  EXPECT_EQ(arrived.get(), framed(data, 4));
}

// ---- Timeouts

TEST(OneShotTimeout, CoversWaitingForTheReply) {
  Mute mute;
  std::error_code error;
  EXPECT_EQ(gtcp::SendRecvPkgWithTimeout(mute.Address(), "hello", 1ms, error), "");
  EXPECT_EQ(error, gtcp::Errc::Timeout);
  EXPECT_EQ(gtcp::SendRecvWithTimeout(mute.Address(), "hello", 5, 1ms, error), "");
  EXPECT_EQ(error, gtcp::Errc::Timeout);
}

TEST(OneShotTimeout, CoversSending) {
  Mute mute;
  std::error_code error;
  // More than the system's buffers take; a part of it is out, so the error says so.
  gtcp::SendWithTimeout(mute.Address(), std::string(24 << 20, 'x'), 20ms, error);
  EXPECT_TRUE(error == gtcp::Errc::TimeoutPartlySent || error == gtcp::Errc::Timeout) << error.message();
  gtcp::SendPkgWithTimeout(mute.Address(), std::string(24 << 20, 'x'), 20ms, {.HeaderSize = 4}, error);
  EXPECT_TRUE(error == gtcp::Errc::TimeoutPartlySent || error == gtcp::Errc::Timeout) << error.message();
}

TEST(OneShotTimeout, CoversConnecting) {
  // A listening socket with a full backlog answers no further connection.
  asio::io_context context;
  tcp::acceptor acceptor(context);
  acceptor.open(tcp::v4());
  acceptor.bind({asio::ip::address_v4::loopback(), 0});
  acceptor.listen(0);
  std::vector<tcp::socket> waiting;
  for (int i = 0; i < 8; ++i) {
    // Begins to connect, and never says how it ended.
    waiting.emplace_back(context, tcp::v4()).async_connect(acceptor.local_endpoint(), [](std::error_code) {});
  }
  const std::string address = "127.0.0.1:" + std::to_string(acceptor.local_endpoint().port());
  std::error_code error;
  gtcp::SendPkgWithTimeout(address, "hello", 20ms, error);
  EXPECT_EQ(error, gtcp::Errc::Timeout);
  std::promise<std::error_code> result;
  gtcp::AsyncSendRecvPkgWithTimeout(address, "hello", 20ms,
                                    [&](std::error_code failed, std::string) { result.set_value(failed); });
  EXPECT_EQ(result.get_future().get(), gtcp::Errc::Timeout);
}

TEST(OneShotTimeout, OfZeroOrLessIsOneTry) {
  Mute mute;
  for (const auto timeout : {0ns, -5ns, std::chrono::nanoseconds::min()}) {
    std::error_code error;
    gtcp::SendRecvPkgWithTimeout(mute.Address(), "hello", timeout, error);
    EXPECT_EQ(error, gtcp::Errc::Timeout);
  }
}

TEST(OneShotTimeout, MayBeEndless) {
  PlainServer server(EchoPkg(), 2);
  EXPECT_EQ(gtcp::SendRecvPkgWithTimeout(server.Address(), "hello", std::chrono::nanoseconds::max()), "hello");
  auto reply =
      gtcp::AsyncSendRecvPkgWithTimeout(server.Address(), "hello", std::chrono::nanoseconds::max(), asio::use_future);
  ASSERT_TRUE(gtcp_test::comes(reply));
  EXPECT_EQ(reply.get(), "hello");
}

// ---- Bad input

TEST(OneShotErrors, QuoteABadAddress) {
  const auto expect = [](const char* name, const std::string& text) {
    EXPECT_TRUE(text.starts_with(name)) << text;
    EXPECT_NE(text.find("\"127.0.0.1:99999\""), std::string::npos) << text;
  };
  const char* const bad = "127.0.0.1:99999";
  const std::error_code code = gtcp::Errc::InvalidAddress;
  expect("Send: ", text_of_error(code, [&] { gtcp::Send(bad, "hello"); }));
  expect("SendWithTimeout: ", text_of_error(code, [&] { gtcp::SendWithTimeout(bad, "hello", 1s); }));
  expect("SendRecv: ", text_of_error(code, [&] { gtcp::SendRecv(bad, "hello", -1); }));
  expect("SendRecvWithTimeout: ", text_of_error(code, [&] { gtcp::SendRecvWithTimeout(bad, "hello", -1, 1s); }));
  expect("SendPkg: ", text_of_error(code, [&] { gtcp::SendPkg(bad, "hello"); }));
  expect("SendPkgWithTimeout: ", text_of_error(code, [&] { gtcp::SendPkgWithTimeout(bad, "hello", 1s); }));
  expect("SendRecvPkg: ", text_of_error(code, [&] { gtcp::SendRecvPkg(bad, "hello"); }));
  expect("SendRecvPkgWithTimeout: ", text_of_error(code, [&] { gtcp::SendRecvPkgWithTimeout(bad, "hello", 1s); }));
}

TEST(OneShotErrors, ComeBeforeAnythingIsConnected) {
  Mute mute;
  const std::string address = mute.Address();
  EXPECT_EQ(text_of_error(gtcp::Errc::InvalidOption, [&] { gtcp::SendPkg(address, "hello", {.HeaderSize = 5}); }),
            "SendPkg: package header size is 5, allowed are 1 to 4, and 0 for the default of 2: invalid option");
  EXPECT_EQ(text_of_error(gtcp::Errc::InvalidOption, [&] { gtcp::Send(address, "hello", {.Count = -1}); }),
            "Send: Retry.Count is -1, allowed are 0 and more: invalid option");
  EXPECT_EQ(text_of_error(gtcp::Errc::InvalidOption,
                          [&] { gtcp::SendRecvPkg(address, "hello", {.Retry = {.Interval = -1ms}}); }),
            "SendRecvPkg: Retry.Interval is -1 ms, allowed are 0 and more: invalid option");
  EXPECT_EQ(
      text_of_error(gtcp::Errc::DataTooLong, [&] { gtcp::SendRecvPkg(address, std::string(65536, 'x')); }),
      "SendRecvPkg: data size 65536 exceeds the allowed max data size 65535: data too long: more than the allowed "
      "max data size");
  mute.Acceptor().non_blocking(true);
  std::error_code error;
  mute.Acceptor().accept(error);
  EXPECT_EQ(error, asio::error::would_block) << "something was connected";
}

TEST(OneShotErrors, NameTheAddressThatRefuses) {
  const std::string address = RefusingAddress();
  std::error_code error;
  gtcp::SendPkg(address, "hello", error);
  EXPECT_EQ(error, asio::error::connection_refused);
  const std::string text = text_of_error(asio::error::connection_refused, [&] { gtcp::SendPkg(address, "hello"); });
  EXPECT_TRUE(text.starts_with("SendPkg \"" + address + "\": ")) << text;
}

TEST(OneShotErrors, NameThePeerThatLeft) {
  PlainServer server(
      [](raw_peer& peer) {
        static_cast<void>(peer.read_pkg());
        peer.write(std::string("\x00\x05he", 4));
      },
      2);
  std::error_code error;
  gtcp::SendRecvPkg(server.Address(), "hello", error);
  EXPECT_EQ(error, gtcp::Errc::PkgTruncated);
  EXPECT_EQ(text_of_error(gtcp::Errc::PkgTruncated, [&] { gtcp::SendRecvPkg(server.Address(), "hello"); }),
            "SendRecvPkg [" + server.Address() + "]: connection ended inside a package");
}

TEST(OneShotErrors, AreClearedOnSuccess) {
  PlainServer server(EchoPkg());
  std::error_code error = gtcp::Errc::Timeout;
  EXPECT_EQ(gtcp::SendRecvPkg(server.Address(), "hello", error), "hello");
  EXPECT_FALSE(error);
}

TEST(OneShotErrors, SayThatAnIoThreadMustNotBlock) {
  Mute mute;
  std::promise<std::error_code> result;
  asio::post(gtcp::Runtime::Default().get_executor(), [&] {
    std::error_code error;
    gtcp::SendPkg(mute.Address(), "hello", error);
    result.set_value(error);
  });
  std::future<std::error_code> error = result.get_future();
  ASSERT_TRUE(gtcp_test::comes(error));
  EXPECT_EQ(error.get(), gtcp::Errc::WouldDeadlock);
}

// ---- Asynchronous

/// Runs a coroutine in this thread; what it throws is thrown.
template <class Result>
Result RunCoroutine(asio::awaitable<Result> coroutine) {
  asio::io_context context;
  std::exception_ptr failure;
  std::string result;
  asio::co_spawn(context, std::move(coroutine), [&](std::exception_ptr thrown, auto... value) {
    failure = std::move(thrown);
    ((result = std::move(value)), ...);
  });
  context.run_for(gtcp_test::ceiling);
  if (failure) std::rethrow_exception(failure);
  if constexpr (!std::is_void_v<Result>) return result;
}

asio::awaitable<std::string> TalkInACoroutine(std::string address, std::error_code& refused) {
  auto sending = gtcp::AsyncSend(address, "hello");
  co_await std::move(sending);
  auto sending_late = gtcp::AsyncSendWithTimeout(address, std::string("hello"), 30s, gtcp::Retry{.Count = 1});
  co_await std::move(sending_late);
  auto sending_pkg = gtcp::AsyncSendPkg(address, "hel", gtcp::PkgOption{.HeaderSize = 2});
  co_await std::move(sending_pkg);
  auto sending_pkg_late = gtcp::AsyncSendPkgWithTimeout(address, "hel", 30s);
  co_await std::move(sending_pkg_late);
  auto asking = gtcp::AsyncSendRecv(address, "hello", 5);
  std::string all = co_await std::move(asking);
  auto asking_late = gtcp::AsyncSendRecvWithTimeout(address, "hello", -1, 30s);
  all += co_await std::move(asking_late);
  auto asking_pkg = gtcp::AsyncSendRecvPkg(address, "hel");
  all += co_await std::move(asking_pkg);
  auto asking_pkg_late = gtcp::AsyncSendRecvPkgWithTimeout(address, "hel", 30s, gtcp::PkgOption{});
  all += co_await std::move(asking_pkg_late);
  auto refusing = gtcp::AsyncSendPkg(RefusingAddress(), "hello", refused);
  co_await std::move(refusing);
  co_return all;
}

TEST(AsyncOneShot, CanBeAwaited) {
  PlainServer server(EchoBytes(5), 8);  // "hel" in a package is 5 bytes too
  std::error_code refused;
  EXPECT_EQ(RunCoroutine(TalkInACoroutine(server.Address(), refused)), "hellohellohelhel");
  EXPECT_EQ(refused, asio::error::connection_refused);
}

TEST(AsyncOneShot, AwaitedThrowsWithTheSameText) {
  EXPECT_EQ(text_of_error(gtcp::Errc::InvalidAddress,
                          [] { RunCoroutine(gtcp::AsyncSendRecvPkg("127.0.0.1:99999", "hello")); }),
            text_of_error(gtcp::Errc::InvalidAddress, [] {
              gtcp::SendRecvPkg("127.0.0.1:99999", "hello");
            }).insert(0, "Async"));
  EXPECT_EQ(
      text_of_error(
          gtcp::Errc::DataTooLong,
          [] { RunCoroutine(gtcp::AsyncSendPkg(":1", std::string(300, 'x'), gtcp::PkgOption{.HeaderSize = 1})); }),
      "AsyncSendPkg: data size 300 exceeds the allowed max data size 255: data too long: more than the allowed "
      "max data size");
}

TEST(AsyncOneShot, TakesDataOver) {
  PlainServer server(EchoPkg(), 3);
  const std::string data = pattern(5000);
  EXPECT_EQ(RunCoroutine(gtcp::AsyncSendRecvPkg(server.Address(), std::string(data))), data);
  EXPECT_EQ(
      RunCoroutine(gtcp::AsyncSendRecvPkgWithTimeout(server.Address(), std::vector(data.begin(), data.end()), 30s)),
      data);
  EXPECT_EQ(gtcp::AsyncSendRecvPkg(server.Address(), std::string(data), asio::use_future).get(), data);
}

TEST(AsyncOneShot, TakesCompletionTokens) {
  PlainServer server(EchoPkg(), 3);
  auto reply = gtcp::AsyncSendRecvPkg(server.Address(), "future", asio::use_future);
  ASSERT_TRUE(gtcp_test::comes(reply));
  EXPECT_EQ(reply.get(), "future");

  // A handler that can only be moved, on an executor of its own, never from within the function.
  asio::io_context context;
  std::string got;
  gtcp::AsyncSendRecvPkgWithTimeout(
      server.Address(), "handler", 30s, gtcp::PkgOption{},
      asio::bind_executor(context, [&, only_moved = std::make_unique<int>(1)](std::error_code error, std::string text) {
        EXPECT_FALSE(error) << error.message();
        EXPECT_TRUE(context.get_executor().running_in_this_thread());
        got = std::move(text);
      }));
  EXPECT_EQ(got, "");
  context.run_for(gtcp_test::ceiling);
  EXPECT_EQ(got, "handler");

  std::promise<std::error_code> sent;
  gtcp::AsyncSendPkg(server.Address(), "last", [&](std::error_code error) { sent.set_value(error); });
  EXPECT_FALSE(sent.get_future().get());
}

TEST(AsyncOneShot, CopiesAHandlerThatHasAName) {
  PlainServer server(EchoPkg(), 2);
  std::promise<void> called[2];
  const auto calls = std::make_shared<std::atomic<int>>(0);
  auto handler = [&called, calls](std::error_code error, const std::string& text) {
    EXPECT_FALSE(error) << error.message();
    EXPECT_EQ(text, "hello");
    called[calls->fetch_add(1)].set_value();
  };
  gtcp::AsyncSendRecvPkg(server.Address(), "hello", handler);
  gtcp::AsyncSendRecvPkg(server.Address(), "hello", handler);
  for (std::promise<void>& one : called) EXPECT_TRUE(gtcp_test::comes(one.get_future()));
}

TEST(AsyncOneShot, TellsErrorsToTheHandler) {
  const auto error_of = [](auto&&... arguments) {
    std::promise<std::error_code> result;
    gtcp::AsyncSendPkg(arguments..., [&](std::error_code error) { result.set_value(error); });
    return result.get_future().get();
  };
  EXPECT_EQ(error_of("nonsense", "hello"), gtcp::Errc::InvalidAddress);
  EXPECT_EQ(error_of(":1", "hello", gtcp::PkgOption{.HeaderSize = -1}), gtcp::Errc::InvalidOption);
  EXPECT_EQ(error_of(RefusingAddress(), "hello"), asio::error::connection_refused);
}

TEST(AsyncOneShot, CanBeCancelled) {
  Mute mute;
  for (const auto type : {asio::cancellation_type::total, asio::cancellation_type::terminal}) {
    asio::io_context context;
    asio::cancellation_signal signal;
    std::optional<std::error_code> result;
    gtcp::AsyncSendRecvPkg(
        mute.Address(), "hello",
        asio::bind_executor(context, asio::bind_cancellation_slot(
                                         signal.slot(), [&](std::error_code error, std::string) { result = error; })));
    // Only when the package is there is the reply being waited for; cancelling before would be a test of connecting.
    tcp::socket accepted = mute.Acceptor().accept();
    raw_peer peer{raw_peer::socket(std::move(accepted))};
    EXPECT_EQ(peer.read_pkg(), "hello");
    signal.emit(type);  // on a thread that is none of the operation's
    context.run_for(gtcp_test::ceiling);
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(*result, asio::error::operation_aborted);
    EXPECT_EQ(peer.read_to_end(), "");
  }
}

TEST(OneShot, ManyThreadsAtOnce) {
  constexpr int threads = 8;
  constexpr int each = 25;
  PlainServer server(EchoPkg(), threads * each);
  std::vector<std::thread> clients;
  for (int t = 0; t < threads; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < each; ++i) {
        const std::string data = pattern(static_cast<std::size_t>(i * 40), static_cast<unsigned>(t));
        if (i % 2 == 0)
          EXPECT_EQ(gtcp::SendRecvPkg(server.Address(), data), data);
        else
          EXPECT_EQ(gtcp::AsyncSendRecvPkg(server.Address(), data, asio::use_future).get(), data);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

// ---- Free ports

TEST(GetFreePort, ReturnsAPortThatCanBeBound) {
  const int port = gtcp::GetFreePort();
  ASSERT_GT(port, 0);
  asio::io_context context;
  EXPECT_NO_THROW(tcp::acceptor(context, {asio::ip::address_v4::loopback(), static_cast<unsigned short>(port)}));
  EXPECT_GT(gtcp::MustGetFreePort(), 0);
}

#if !defined(_WIN32)
TEST(MustGetFreePort, ThrowsWhereGoPanics) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  std::error_code error;
  const int port = gtcp::GetFreePort(error);
  std::error_code thrown;
  try {
    gtcp::MustGetFreePort();
  } catch (const std::system_error& failure) {
    thrown = failure.code();
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(port, 0);
  EXPECT_EQ(error, asio::error::no_descriptors);
  EXPECT_EQ(thrown, asio::error::no_descriptors);
}
#endif

TEST(GetFreePorts, ReturnsDifferentOnes) {
  const std::vector<int> ports = gtcp::GetFreePorts(100);
  EXPECT_EQ(std::set<int>(ports.begin(), ports.end()).size(), 100u);
  EXPECT_EQ(gtcp::GetFreePorts(0).size(), 0u);
}

TEST(GetFreePorts, RefusesANegativeCount) {
  EXPECT_EQ(text_of_error(gtcp::Errc::InvalidOption, [] { gtcp::GetFreePorts(-1); }),
            "GetFreePorts: the count is -1, allowed are 0 and more: invalid option");
  std::error_code error;
  EXPECT_TRUE(gtcp::GetFreePorts(-1, error).empty());
  EXPECT_EQ(error, gtcp::Errc::InvalidOption);
}

}  // namespace
