// SPDX-License-Identifier: MIT

// Connecting: names and addresses of every kind, what is refused, timeouts, cancellation.

#include <gtcp/dial.hpp>
#include <gtcp/one_shot.hpp>
#include <gtcp/pool_conn.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/no_threads.hpp"

#include <gtest/gtest.h>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gtcp_test;
using asio::ip::tcp;
using gtcp::Conn;
using gtcp::ConnOption;
using gtcp::Errc;

Conn dial(form which, const std::string& address, std::chrono::nanoseconds timeout, const ConnOption& option,
          std::error_code& ec) {
  switch (which) {
    case form::blocking: return gtcp::NewConn(address, timeout, option, ec);
    case form::callback:
      return call_back<Conn>(ec,
                             [&](auto handler) { gtcp::AsyncNewConn(address, timeout, option, std::move(handler)); });
    case form::awaited: return run(gtcp::AsyncNewConn(address, timeout, option, ec));
  }
  return {};
}

tcp::acceptor listen_on(const char* address) {
  return tcp::acceptor(raw_context(), {asio::ip::make_address(address), 0});
}

std::string port_of(const tcp::acceptor& acceptor) { return std::to_string(acceptor.local_endpoint().port()); }

/// Whether a Conn, and what `acceptor` accepts, are two ends of one connection.
void expect_connected(const Conn& conn, tcp::acceptor& acceptor) {
  ASSERT_TRUE(conn);
  raw_peer peer{raw_peer::socket(acceptor.accept())};
  conn.SendPkg("hello");
  EXPECT_EQ(peer.read_pkg(), "hello");
  conn.Close();
  EXPECT_EQ(peer.read_to_end(), "");
}

/// A listener at which a connection attempt gets no answer, since its queue is full. Linux drops the SYN then.
class full_listener {
 public:
  full_listener() : acceptor_(raw_context()) {
    acceptor_.open(tcp::v4());
    acceptor_.bind({asio::ip::address_v4::loopback(), 0});
    acceptor_.listen(0);
    for (int i = 0; i < 16 && !full_; ++i) {
      tcp::socket& socket = waiting_.emplace_back(raw_context());
      socket.open(tcp::v4());
      // Asio's connect waits, whatever the mode of the socket.
      const tcp::endpoint endpoint = acceptor_.local_endpoint();
      EXPECT_FALSE(gtcp::detail::prepare_socket(socket.native_handle()));
      static_cast<void>(gtcp::detail::connect_socket(socket.native_handle(), {endpoint.data(), endpoint.size()}));
      // On loopback the answer, if there is one, has come at once.
      gtcp::detail::waker none;
      gtcp::detail::wait_descriptor(socket.native_handle(), gtcp::detail::wait_direction::write, none,
                                    std::chrono::steady_clock::now() + 50ms);
      full_ = !gtcp::detail::is_ready(socket.native_handle(), gtcp::detail::wait_direction::write);
    }
  }
  bool full() const { return full_; }
  std::string address() const { return gtcp::detail::to_text(acceptor_.local_endpoint()); }
  void make_room() {
    while (!waiting_.empty()) {
      std::error_code ignored;
      acceptor_.non_blocking(true);
      tcp::socket accepted = acceptor_.accept(ignored);
      waiting_.pop_back();
    }
  }

 private:
  tcp::acceptor acceptor_;
  std::vector<tcp::socket> waiting_;
  bool full_ = false;
};

TEST(NewConn, ConnectsToAnAddress) {
  for (const form which : forms) {
    tcp::acceptor acceptor = listen_on("127.0.0.1");
    std::error_code ec = Errc::Timeout;
    const Conn conn = dial(which, "127.0.0.1:" + port_of(acceptor), ceiling, {}, ec);
    ASSERT_FALSE(ec) << which << ": " << ec.message();
    EXPECT_EQ(conn.RemoteAddr(), "127.0.0.1:" + port_of(acceptor));
    expect_connected(conn, acceptor);
  }
}

TEST(NewConn, ConnectsToThisMachineWithoutAHost) {
  for (const form which : forms) {
    tcp::acceptor acceptor = listen_on("127.0.0.1");
    std::error_code ec;
    expect_connected(dial(which, ":" + port_of(acceptor), ceiling, {}, ec), acceptor);
    EXPECT_FALSE(ec);
  }
}

TEST(NewConn, ResolvesNamesAndTriesEveryAddress) {
  // "localhost" may be ::1 and 127.0.0.1, in any order; only one of them is listened on.
  for (const form which : forms) {
    for (const char* const listened : {"127.0.0.1", "::1"}) {
      if (std::string(listened) == "::1" && !has_ipv6()) continue;
      tcp::acceptor acceptor = listen_on(listened);
      std::error_code ec;
      const Conn conn = dial(which, "localhost:" + port_of(acceptor), ceiling, {}, ec);
      if (ec && std::string(listened) == "::1") continue;  // a system whose localhost has no IPv6 address
      ASSERT_FALSE(ec) << ec.message();
      expect_connected(conn, acceptor);
    }
  }
}

TEST(NewConn, ConnectsToIpv6) {
  if (!has_ipv6()) GTEST_SKIP() << "no IPv6 here";
  for (const form which : forms) {
    tcp::acceptor acceptor = listen_on("::1");
    std::error_code ec;
    const Conn conn = dial(which, "[::1]:" + port_of(acceptor), ceiling, {}, ec);
    ASSERT_FALSE(ec) << ec.message();
    EXPECT_EQ(conn.RemoteAddr(), "[::1]:" + port_of(acceptor));
    expect_connected(conn, acceptor);
  }
}

TEST(NewConn, ConnectsToAUnixSocket) {
  for (const form which : forms) {
    const socket_path path;
    asio::local::stream_protocol::acceptor acceptor(raw_context(), asio::local::stream_protocol::endpoint(path.str()));
    std::error_code ec;
    const Conn conn = dial(which, "unix:" + path.str(), ceiling, {}, ec);
    ASSERT_FALSE(ec) << ec.message();
    EXPECT_EQ(conn.RemoteAddr(), path.str());
    raw_peer peer{raw_peer::socket(acceptor.accept())};
    conn.SendPkg("hello");
    EXPECT_EQ(peer.read_pkg(), "hello");
  }
}

#if defined(__linux__)  // elsewhere such a connection is refused
TEST(NewConn, WaitsForRoomInTheQueueOfAUnixSocket) {
  for (const form which : forms) {
    const socket_path path;
    asio::local::stream_protocol::acceptor acceptor(raw_context());
    acceptor.open();
    acceptor.bind(asio::local::stream_protocol::endpoint(path.str()));
    acceptor.listen(0);
    const std::string address = "unix:" + path.str();
    std::error_code ec;
    const Conn fills = dial(which, address, ceiling, {}, ec);
    ASSERT_FALSE(ec) << ec.message();
    EXPECT_FALSE(dial(which, address, 20ms, {}, ec));
    EXPECT_EQ(ec, Errc::Timeout) << which << ": " << ec.message();
    background dialing([&] {
      std::error_code error;
      const Conn conn = dial(which, address, ceiling, {}, error);
      if (!error) conn.SendPkg("hello", error);
      return error;
    });
    dialing.wait_until_waiting();
    const raw_peer filled{raw_peer::socket(acceptor.accept())};
    raw_peer peer{raw_peer::socket(acceptor.accept())};
    EXPECT_EQ(peer.read_pkg(), "hello") << which;
    EXPECT_EQ(dialing.get(), std::error_code()) << which;
  }
}
#endif

TEST(NewConn, SaysThatTheConnectionWasRefused) {
  const std::string address = "127.0.0.1:" + port_of(listen_on("127.0.0.1"));  // closed again
  EXPECT_EQ(text_of_error(asio::error::connection_refused, [&] { gtcp::NewConn(address); }),
            "NewConn \"" + address + "\": " + make_error_code(asio::error::connection_refused).message());
  EXPECT_EQ(text_of_error(asio::error::connection_refused, [&] { run(gtcp::AsyncNewConn(address)); }),
            "AsyncNewConn \"" + address + "\": " + make_error_code(asio::error::connection_refused).message());
  for (const form which : forms) {
    std::error_code ec;
    EXPECT_FALSE(dial(which, address, ceiling, {}, ec));
    EXPECT_EQ(ec, asio::error::connection_refused) << which << ": " << ec.message();
    EXPECT_FALSE(dial(which, "unix:/nonexistent/socket", ceiling, {}, ec));
    EXPECT_EQ(ec.value(), static_cast<int>(std::errc::no_such_file_or_directory)) << ec.message();
  }
}

TEST(NewConn, QuotesAnAddressThatIsNone) {
  const std::string invalid = ": " + make_error_code(Errc::InvalidAddress).message();
  const auto text = [](auto operation) { return text_of_error(Errc::InvalidAddress, operation); };
  EXPECT_EQ(text([] { gtcp::NewConn("localhost"); }), "NewConn: address \"localhost\": the port is missing" + invalid);
  EXPECT_EQ(text([] { gtcp::NewConn("localhost:99999"); }),
            "NewConn: address \"localhost:99999\": the port is out of range, allowed are 0 to 65535" + invalid);
  EXPECT_EQ(text([] { run(gtcp::AsyncNewConn("::1:80")); }),
            "AsyncNewConn: address \"::1:80\": too many colons; an IPv6 address stands in brackets" + invalid);
  for (const form which : forms) {
    std::error_code ec;
    EXPECT_FALSE(dial(which, "localhost:http", ceiling, {}, ec));
    EXPECT_EQ(ec, Errc::InvalidAddress);
    EXPECT_FALSE(gtcp::IsFatal(ec));
  }
}

TEST(NewConn, SaysThatANameIsUnknown) {
  for (const form which : forms) {
    std::error_code ec;
    EXPECT_FALSE(dial(which, "no-such-host.invalid:1", ceiling, {}, ec));
    EXPECT_TRUE(ec) << which;
  }
}

TEST(NewConn, RefusesBadOptionsAndQuotesThem) {
  const std::string invalid = ": " + make_error_code(Errc::InvalidOption).message();
  const auto text = [](const ConnOption& option) {
    return text_of_error(Errc::InvalidOption, [&] { gtcp::NewConn("127.0.0.1:1", option); });
  };
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [] { gtcp::NewConn("127.0.0.1:1", -1ns); }),
            "NewConn: the timeout is -1 ns, allowed are 0 for no limit and more" + invalid);
  EXPECT_EQ(text_of_error(Errc::InvalidOption, [] { run(gtcp::AsyncNewConn("127.0.0.1:1", -1s)); }),
            "AsyncNewConn: the timeout is -1000000000 ns, allowed are 0 for no limit and more" + invalid);
  EXPECT_EQ(text({.KeepAliveIdle = -1s}), "NewConn: KeepAliveIdle is -1, allowed are 0 s and more" + invalid);
  EXPECT_EQ(text({.KeepAliveInterval = -2s}), "NewConn: KeepAliveInterval is -2, allowed are 0 s and more" + invalid);
  EXPECT_EQ(text({.KeepAliveCount = -3}), "NewConn: KeepAliveCount is -3, allowed are 0 and more" + invalid);
  EXPECT_EQ(text({.Linger = -4ms}), "NewConn: Linger is -4, allowed are 0 ms and more" + invalid);
  EXPECT_EQ(text({.BusyWait = -5us}), "NewConn: BusyWait is -5, allowed are 0 us and more" + invalid);
  EXPECT_EQ(text({.OutboxLimit = 0}), "NewConn: OutboxLimit is 0, allowed are 1 byte and more" + invalid);
  EXPECT_EQ(text({.MaxLineSize = 0}), "NewConn: MaxLineSize is 0, allowed are 1 byte and more" + invalid);
  EXPECT_EQ(text({.RecvBufferSize = std::size_t{1} << 31}),
            "NewConn: socket buffer size is 2147483648, allowed are 0 to 2147483647 bytes" + invalid);
  EXPECT_EQ(text({.Pkg = {.HeaderSize = 5}}),
            "NewConn: package header size is 5, allowed are 1 to 4, and 0 for the default of 2" + invalid);
  EXPECT_EQ(
      text({.Pkg = {.MaxDataSize = -1}}),
      "NewConn: package max data size is -1, allowed are 1 to 2147483647, and 0 for what the header can say" + invalid);
  EXPECT_EQ(text({.Pkg = {.Retry = {.Interval = -5ms}}}),
            "NewConn: Retry.Interval is -5 ms, allowed are 0 and more" + invalid);
  for (const form which : forms) {
    std::error_code ec;
    EXPECT_FALSE(dial(which, "127.0.0.1:1", ceiling, {.Linger = -1ms}, ec));
    EXPECT_EQ(ec, Errc::InvalidOption);
  }
}

// ---- The local end

TEST(NewConn, BindsTheLocalAddress) {
  for (const form which : forms) {
    tcp::acceptor acceptor = listen_on("127.0.0.1");
    std::error_code ec;
    const Conn conn =
        dial(which, gtcp::detail::to_text(acceptor.local_endpoint()), ceiling, {.LocalAddress = "127.0.0.1:0"}, ec);
    ASSERT_FALSE(ec) << ec.message();
    EXPECT_EQ(conn.LocalAddr().substr(0, 10), "127.0.0.1:");
    expect_connected(conn, acceptor);
  }
#if defined(__linux__)
  tcp::acceptor acceptor = listen_on("127.0.0.1");
  const Conn conn = gtcp::NewConn(gtcp::detail::to_text(acceptor.local_endpoint()), {.LocalAddress = "127.0.0.2:0"});
  EXPECT_EQ(conn.LocalAddr().substr(0, 10), "127.0.0.2:") << "all of 127/8 is this machine";
#endif
}

TEST(NewConn, RefusesALocalAddressThatIsNone) {
  const std::string invalid = ": " + make_error_code(Errc::InvalidAddress).message();
  const auto text = [](const char* local) {
    return text_of_error(Errc::InvalidAddress, [&] { gtcp::NewConn("127.0.0.1:1", {.LocalAddress = local}); });
  };
  EXPECT_EQ(text("127.0.0.1"), "NewConn: LocalAddress: address \"127.0.0.1\": the port is missing" + invalid);
  EXPECT_EQ(text("localhost:0"), "NewConn: LocalAddress \"localhost:0\": it needs an IP address and a port" + invalid);
  EXPECT_EQ(text("unix:/tmp/x"), "NewConn: LocalAddress \"unix:/tmp/x\": it needs an IP address and a port" + invalid);
}

TEST(NewConn, ConnectsFromTheLocalAddressOrNotAtAll) {
  tcp::acceptor acceptor = listen_on("127.0.0.1");
  const std::string address = gtcp::detail::to_text(acceptor.local_endpoint());
  const std::string text = text_of_error(asio::error::address_family_not_supported,
                                         [&] { gtcp::NewConn(address, {.LocalAddress = "[::1]:0"}); });
  EXPECT_EQ(text.find("NewConn: LocalAddress \"[::1]:0\" is of another family than \"" + address + "\""), 0u) << text;
  const std::string port = port_of(acceptor);
  for (const std::string& remote : {":" + port, "localhost:" + port, address}) {
    for (const char* const local : {"127.0.0.1:0", ":0"}) {
      const Conn conn = gtcp::NewConn(remote, {.LocalAddress = local});
      expect_connected(conn, acceptor);
    }
  }
}

TEST(NewConn, SaysThatTheLocalAddressIsInUse) {
  tcp::acceptor acceptor = listen_on("127.0.0.1");
  const std::string address = gtcp::detail::to_text(acceptor.local_endpoint());
  std::error_code ec;
  EXPECT_FALSE(gtcp::NewConn(address, ceiling, {.LocalAddress = address}, ec));
  EXPECT_EQ(ec, asio::error::address_in_use) << ec.message();
  const std::string text =
      text_of_error(asio::error::address_in_use, [&] { gtcp::NewConn(address, {.LocalAddress = address}); });
  EXPECT_EQ(text.find("NewConn: LocalAddress \"" + address + "\""), 0u) << text;
}

TEST(NewConn, DoesNotConnectToItself) {
  for (const form which : forms) {
    // As the system may choose it where nobody listens.
    const std::string own = "127.0.0.1:" + port_of(listen_on("127.0.0.1"));
    std::error_code ec;
    EXPECT_FALSE(dial(which, own, ceiling, {.LocalAddress = own}, ec));
    EXPECT_EQ(ec, asio::error::connection_refused) << which << ": " << ec.message();
  }
}

TEST(NewConn, SetsTheOptionsOfTheSocket) {
  for (const form which : forms) {
    tcp::acceptor acceptor = listen_on("127.0.0.1");
    const std::string address = gtcp::detail::to_text(acceptor.local_endpoint());
    std::error_code ec;
    const Conn standard = dial(which, address, ceiling, {}, ec);
    EXPECT_TRUE(standard.NoDelay());
    EXPECT_TRUE(standard.KeepAlive());
    const Conn other =
        dial(which, address, ceiling,
             {.NoDelay = false, .KeepAlive = false, .RecvBufferSize = 10'000, .SendBufferSize = 10'000}, ec);
    EXPECT_FALSE(other.NoDelay());
    EXPECT_FALSE(other.KeepAlive());
    EXPECT_GE(other.RecvBufferSize(), 10'000u);
    EXPECT_LT(other.RecvBufferSize(), 60'000u);
    EXPECT_GE(other.SendBufferSize(), 10'000u);
    EXPECT_LT(other.SendBufferSize(), 60'000u);
  }
}

// ---- Time

TEST(NewConn, GivesUpAtItsTimeout) {
  const full_listener listener;
  if (!listener.full()) GTEST_SKIP() << "this system answers though the queue is full";
  for (const form which : forms) {
    std::error_code ec;
    EXPECT_FALSE(dial(which, listener.address(), 20ms, {}, ec));
    EXPECT_EQ(ec, Errc::Timeout) << which << ": " << ec.message();
    EXPECT_FALSE(gtcp::IsFatal(ec));
  }
  EXPECT_EQ(text_of_error(Errc::Timeout, [&] { gtcp::NewConn(listener.address(), 1ms); }),
            "NewConn \"" + listener.address() + "\": " + make_error_code(Errc::Timeout).message());
}

TEST(NewConn, HasNoLimitForATimeoutOfZero) {
  full_listener listener;
  if (!listener.full()) GTEST_SKIP() << "this system answers though the queue is full";
  background dialing([&] { return gtcp::NewConn(listener.address(), 0s); });
  dialing.wait_until_waiting();
  EXPECT_FALSE(dialing.ended());
  listener.make_room();
  EXPECT_TRUE(dialing.get());
}

TEST(NewConn, IsEndedByAStopToken) {
  const full_listener listener;
  if (!listener.full()) GTEST_SKIP() << "this system answers though the queue is full";
  std::stop_source stop;
  background dialing([&] {
    std::error_code ec;
    EXPECT_FALSE(gtcp::NewConn(listener.address(), 0s, {}, ec, stop.get_token()));
    return ec;
  });
  dialing.wait_until_waiting();
  EXPECT_FALSE(dialing.ended());
  stop.request_stop();
  EXPECT_EQ(dialing.get(), asio::error::operation_aborted);
  std::error_code ec;
  EXPECT_FALSE(gtcp::NewConn(listener.address(), 0s, {}, ec, stop.get_token()));
  EXPECT_EQ(ec, asio::error::operation_aborted) << "a stop that was requested before counts too";
}

TEST(AsyncNewConn, IsCancelledByItsSlot) {
  const full_listener listener;
  if (!listener.full()) GTEST_SKIP() << "this system answers though the queue is full";
  for (const auto type :
       {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
    for (const bool at_once : {true, false}) {
      asio::io_context context;
      asio::cancellation_signal signal;
      std::optional<std::error_code> result;
      gtcp::AsyncNewConn(listener.address(), 0s, {.Executor = context.get_executor()},
                         asio::bind_cancellation_slot(signal.slot(), [&](std::error_code ec, const Conn& conn) {
                           EXPECT_FALSE(conn);
                           result = ec;
                         }));
      if (!at_once) {
        while (context.poll() != 0) {
        }
      }
      EXPECT_FALSE(result);
      signal.emit(type);
      context.run_for(ceiling);
      ASSERT_TRUE(result);
      EXPECT_EQ(*result, asio::error::operation_aborted) << result->message();
    }
  }
}

TEST(AsyncNewConn, LeavesNothingBehindWhenItsContextIsDestroyed) {
  const full_listener listener;
  if (!listener.full()) GTEST_SKIP() << "this system answers though the queue is full";
  for (int round = 0; round < 10; ++round) {
    auto context = std::make_unique<asio::io_context>();
    const auto alive = std::make_shared<int>();
    gtcp::AsyncNewConn(listener.address(), 1h, {.Executor = context->get_executor()},
                       [alive](std::error_code, const Conn&) { ADD_FAILURE() << "its context is gone"; });
    while (context->poll() != 0) {
    }
    // A descriptor that is closed twice may by then be another one's.
    std::atomic<bool> stop{false};
    background other([&] {
      while (!stop) {
        tcp::socket socket(raw_context());
        socket.open(tcp::v4());
        std::error_code ec;
        socket.close(ec);
        EXPECT_FALSE(ec) << ec.message();
      }
    });
    context.reset();
    stop = true;
    other.get();
    EXPECT_EQ(alive.use_count(), 1);
  }
}

TEST(AsyncNewConn, GivesAConnOnTheCoroutinesExecutor) {
  tcp::acceptor acceptor = listen_on("127.0.0.1");
  asio::io_context context;
  std::optional<Conn> conn;
  asio::co_spawn(
      context,
      [&]() -> asio::awaitable<void> {
        auto dialing = gtcp::AsyncNewConn("127.0.0.1:" + port_of(acceptor));
        conn = co_await std::move(dialing);
      },
      [](std::exception_ptr failure) { EXPECT_FALSE(failure); });
  context.run_for(ceiling);
  ASSERT_TRUE(conn);
  EXPECT_EQ(conn->get_executor(), asio::any_io_executor(context.get_executor()));
  expect_connected(*conn, acceptor);
}

TEST(AsyncNewConn, TakesATokenInEachPlace) {
  tcp::acceptor acceptor = listen_on("127.0.0.1");
  const std::string address = "127.0.0.1:" + port_of(acceptor);
  std::error_code ec = Errc::Timeout;
  EXPECT_TRUE(call_back<Conn>(ec, [&](auto handler) { gtcp::AsyncNewConn(address, std::move(handler)); }));
  EXPECT_TRUE(call_back<Conn>(ec, [&](auto handler) { gtcp::AsyncNewConn(address, ceiling, std::move(handler)); }));
  EXPECT_TRUE(call_back<Conn>(
      ec, [&](auto handler) { gtcp::AsyncNewConn(address, ceiling, ConnOption{}, std::move(handler)); }));
  EXPECT_TRUE(run(gtcp::AsyncNewConn(address)));
  EXPECT_TRUE(run(gtcp::AsyncNewConn(address, ec)));
  EXPECT_TRUE(run(gtcp::AsyncNewConn(address, ceiling)));
  EXPECT_TRUE(run(gtcp::AsyncNewConn(address, ceiling, {.NoDelay = false})));
  EXPECT_TRUE(run(gtcp::AsyncNewConn(address, ceiling, {}, ec)));
  EXPECT_TRUE(gtcp::NewConn(address));
  EXPECT_TRUE(gtcp::NewConn(address, ec));
  EXPECT_TRUE(gtcp::NewConn(address, ceiling));
  EXPECT_TRUE(gtcp::NewConn(address, ceiling, ec));
  EXPECT_TRUE(gtcp::NewConn(address, {.NoDelay = false}));
  EXPECT_TRUE(gtcp::NewConn(address, {.NoDelay = false}, ec));
  EXPECT_FALSE(ec);
}

TEST(NewConn, IsRefusedOnAnIoThread) {
  tcp::acceptor acceptor = listen_on("127.0.0.1");
  std::promise<std::error_code> result;
  asio::post(gtcp::Runtime::Default().get_executor(), [&] {
    std::error_code ec;
    gtcp::NewConn("127.0.0.1:" + port_of(acceptor), ec);
    result.set_value(ec);
  });
  auto future = result.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), Errc::WouldDeadlock);
}

// ---- Without threads

#if defined(__linux__)

[[noreturn]] void dial_without_threads() {
  asio::io_context context;
  asio::ip::tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  const std::string port = ":" + std::to_string(acceptor.local_endpoint().port());
  const std::string name = "localhost" + port;
  const auto is_refused = [](const std::error_code& error) {  // the standard library's, or Asio's
    return error == std::errc::resource_unavailable_try_again || error == asio::error::try_again;
  };
  {
    const no_threads none;
    std::error_code error;
    CHILD_CHECK(!gtcp::NewConn(name, error) && is_refused(error));
    CHILD_CHECK(!gtcp::NewPoolConn(name, error) && is_refused(error));
    gtcp::SendPkg(name, "x", error);
    CHILD_CHECK(is_refused(error));
    bool quotes_it = false;
    try {
      gtcp::NewConn(name);
    } catch (const std::system_error& failure) {
      quotes_it = is_refused(failure.code()) && std::string(failure.what()).starts_with("NewConn \"" + name);
    }
    CHILD_CHECK(quotes_it);

    run(gtcp::AsyncNewConn(name, error));
    CHILD_CHECK(is_refused(error));
    run(gtcp::AsyncNewPoolConn(name, error));
    CHILD_CHECK(is_refused(error));
    run(gtcp::AsyncSendPkg(name, "x", error));
    CHILD_CHECK(is_refused(error));
    int refused = 0;
    const auto count = [&](std::error_code ec, auto&&...) { refused += is_refused(ec); };
    gtcp::AsyncNewConn(name, asio::bind_executor(context, count));
    gtcp::AsyncNewPoolConn(name, asio::bind_executor(context, count));
    gtcp::AsyncSendPkg(name, "x", asio::bind_executor(context, count));
    context.run_for(ceiling);
    CHILD_CHECK(refused == 3);

    CHILD_CHECK(gtcp::NewConn("127.0.0.1" + port, error) && !error);
  }
  CHILD_CHECK(gtcp::NewConn(name));
  std::_Exit(0);
}

TEST(DialDeathTest, SaysThatThereIsNoThreadToResolveAName) { expect_well_without_threads(dial_without_threads); }

#endif

}  // namespace
