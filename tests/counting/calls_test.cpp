// SPDX-License-Identifier: MIT

// What packages cost in system calls, counted at the transport: no clock, no luck.

#include <gtcp/detail/transport.hpp>
#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"
#include "support/poll_until.hpp"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/use_future.hpp>

#include <gtest/gtest.h>

#include <sys/socket.h>

#include <atomic>
#include <cstddef>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace {

using gtcp::Conn;
using gtcp_test::ceiling;
using gtcp_test::comes;
using gtcp_test::connected_sockets;
using gtcp_test::framed;
using gtcp_test::pattern;
using gtcp_test::raw_peer;

struct calls {
  std::atomic<std::size_t> reads{0};        ///< that brought something
  std::atomic<std::size_t> empty_reads{0};  ///< that found nothing
  std::atomic<std::size_t> writes{0};
  std::atomic<std::size_t> bytes_read{0};
  std::atomic<const void*> last_written{nullptr};  ///< the last buffer of the last write

  void clear() { reads = empty_reads = writes = bytes_read = 0; }
};

/// A plain transport whose calls are counted.
class counting_transport final : public gtcp::detail::transport {
 public:
  counting_transport(gtcp::detail::native_socket descriptor, std::shared_ptr<calls> counted)
      : plain_(descriptor), counted_(std::move(counted)) {}

  gtcp::detail::io_result read_some(asio::mutable_buffer buffer) override {
    const gtcp::detail::io_result got = plain_.read_some(buffer);
    ++(got.size != 0 ? counted_->reads : counted_->empty_reads);
    counted_->bytes_read += got.size;
    return got;
  }
  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    ++counted_->writes;
    counted_->last_written = buffers.back().data();
    return plain_.write_some(buffers);
  }
  void end_of_sending() override { plain_.end_of_sending(); }

 private:
  gtcp::detail::plain_transport plain_;
  std::shared_ptr<calls> counted_;  // an io thread may close the connection when the test is over
};

struct counted_conn {
  std::shared_ptr<calls> count;
  Conn conn;
  raw_peer peer;
};

counted_conn make_counted(const gtcp::ConnOption& option = {}) {
  auto [own, other] = connected_sockets(gtcp_test::net::tcp);
  const gtcp::detail::native_socket descriptor = own.release();
  EXPECT_FALSE(gtcp::detail::prepare_socket(descriptor));
  EXPECT_FALSE(gtcp::detail::apply(option, descriptor, false));
  auto count = std::make_shared<calls>();
  Conn conn = gtcp::detail::make_conn(descriptor, option, std::make_unique<counting_transport>(descriptor, count));
  return {std::move(count), std::move(conn), raw_peer(std::move(other))};
}

asio::awaitable<void> echo(Conn conn, unsigned packages) {
  std::string pkg;
  for (unsigned i = 0; i < packages; ++i) {
    auto receiving = conn.AsyncRecvPkg(pkg);
    co_await std::move(receiving);
    auto sending = conn.AsyncSendPkg(pkg);
    co_await std::move(sending);
  }
}

/// Lets the connection answer that many packages, in one way or another.
enum class kind { blocking, coroutine, callback };

std::future<void> answer(const Conn& conn, kind which, unsigned packages) {
  switch (which) {
    case kind::blocking:
      return std::async(std::launch::async, [conn, packages] {
        std::string pkg;
        for (unsigned i = 0; i < packages; ++i) {
          conn.RecvPkg(pkg);
          conn.SendPkg(pkg);
        }
        // About to wait for the next one.
        conn.TryRecvPkg(pkg);
      });
    case kind::coroutine: return asio::co_spawn(conn.get_executor(), echo(conn, packages), asio::use_future);
    case kind::callback: {
      auto done = std::make_shared<std::promise<void>>();
      std::future<void> future = done->get_future();
      conn.SetPkgHandler([done, packages, count = 0u](Conn& from, std::string_view pkg) mutable {
        from.SendPkg(pkg);
        if (++count == packages) done->set_value();
      });
      return future;
    }
  }
  return {};
}

class Calls : public testing::TestWithParam<kind> {};

TEST_P(Calls, OfARoundTripAreOneReadAndOneWrite) {
  constexpr unsigned round_trips = 200;
  counted_conn it = make_counted();
  auto answering = answer(it.conn, GetParam(), round_trips);
  for (unsigned i = 0; i < round_trips; ++i) {
    it.peer.write(framed("hello"));
    ASSERT_EQ(it.peer.read_pkg(), "hello");
  }
  ASSERT_TRUE(comes(answering));
  EXPECT_EQ(it.count->writes, round_trips);
  EXPECT_EQ(it.count->reads, round_trips);
  // A blocking reader looks once and then waits each time; asynchronous ones may look once more before each wait, as
  // long as that pays.
  EXPECT_LE(it.count->empty_reads, GetParam() == kind::blocking ? 2u : round_trips + 2);
}

TEST_P(Calls, OfAThousandPipelinedRequestsAreAFewWrites) {
  constexpr unsigned requests = 1'000;
  counted_conn it = make_counted();
  std::string all;
  for (unsigned i = 0; i < requests; ++i) all += framed(pattern(64, i));
  it.peer.write(all);
  // All of them are there before the first is answered.
  ASSERT_TRUE(gtcp_test::poll_until([&] {
    std::string seen(all.size(), '\0');
    return ::recv(it.conn.GetNativeHandle(), seen.data(), seen.size(), MSG_PEEK) == static_cast<ssize_t>(all.size());
  }));
  auto answering = answer(it.conn, GetParam(), requests);
  EXPECT_TRUE(it.peer.read(all.size()) == all);
  ASSERT_TRUE(comes(answering));
  EXPECT_LE(it.count->writes, 20u);
  EXPECT_LE(it.count->reads, 3u);
  EXPECT_EQ(it.count->bytes_read, all.size()) << "nothing is read twice";
}

INSTANTIATE_TEST_SUITE_P(Of, Calls, testing::Values(kind::blocking, kind::coroutine, kind::callback),
                         [](const auto& each) {
                           return each.param == kind::blocking    ? "Blocking"
                                  : each.param == kind::coroutine ? "Coroutine"
                                                                  : "Callback";
                         });

TEST(SendPkg, OfABlastTakesFewWrites) {
  constexpr unsigned count = 10'000;
  counted_conn it = make_counted({.SendBufferSize = 4 << 20});
  const std::string pkg = pattern(64);
  auto reading = std::async(std::launch::async, [&] { return it.peer.read(count * framed(pkg).size()); });
  {
    const gtcp::Cork together(it.conn);
    for (unsigned i = 0; i < count; ++i) it.conn.SendPkg(pkg);
  }
  const std::string bytes = reading.get();
  EXPECT_EQ(bytes.size(), count * framed(pkg).size());
  EXPECT_LE(it.count->writes, 100u);
}

TEST(SendPkg, OfALargePayloadCopiesNothing) {
  counted_conn it = make_counted({.SendBufferSize = 4 << 20});
  const std::string large = pattern(60'000);
  it.conn.SendPkg(large);
  EXPECT_EQ(it.count->last_written, large.data());
  EXPECT_EQ(it.peer.read_pkg(), large);
  EXPECT_EQ(it.count->writes, 1u);
}

}  // namespace
