// SPDX-License-Identifier: MIT

#include <gtcp/detail/transport.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using gtcp::detail::io_result;
using gtcp::detail::plain_transport;
using gtcp::detail::wait_direction;
using gtcp_test::net;
using gtcp_test::pattern;
using gtcp_test::poll_until;
using gtcp_test::raw_peer;

class PlainTransport : public testing::TestWithParam<net> {
 protected:
  PlainTransport() : PlainTransport(gtcp_test::connected_sockets(GetParam())) {}

  io_result write(const std::string& bytes) {
    const asio::const_buffer buffer = asio::buffer(bytes);
    return transport.write_some({&buffer, 1});
  }

  raw_peer::socket own;
  raw_peer peer;
  plain_transport transport;

 private:
  explicit PlainTransport(std::pair<raw_peer::socket, raw_peer::socket> sockets)
      : own(std::move(sockets.first)), peer(std::move(sockets.second)), transport(own.native_handle()) {
    EXPECT_FALSE(gtcp::detail::prepare_socket(own.native_handle()));
  }
};

TEST_P(PlainTransport, SaysThatThereIsNothingToRead) {
  std::array<char, 10> into{};
  const io_result got = transport.read_some(asio::buffer(into));
  EXPECT_EQ(got.size, 0u);
  EXPECT_FALSE(got.error);
  EXPECT_EQ(got.wait_for, wait_direction::read);
  EXPECT_TRUE(got.drained);
}

TEST_P(PlainTransport, SaysWhetherMoreMayBeThere) {
  peer.write("0123456789");
  ASSERT_TRUE(poll_until([&] { return own.available() == 10; }));
  std::array<char, 6> into{};
  const io_result full = transport.read_some(asio::buffer(into));
  EXPECT_EQ(full.size, 6u);
  EXPECT_EQ(full.wait_for, wait_direction::none);
  EXPECT_FALSE(full.drained) << "all of the buffer was filled";
  const io_result rest = transport.read_some(asio::buffer(into));
  EXPECT_EQ(rest.size, 4u);
  EXPECT_EQ(rest.wait_for, wait_direction::none);
  EXPECT_TRUE(rest.drained);
  EXPECT_EQ(std::string(into.data(), 4), "6789");
}

TEST_P(PlainTransport, ReadsTheEndOfTheStreamBehindItsLastByte) {
  peer.write("end");
  peer.end_sending();
  std::array<char, 3> into{};
  std::size_t have = 0;
  io_result got;
  ASSERT_TRUE(poll_until([&] {
    got = transport.read_some(asio::buffer(into) + have);
    have += got.size;
    return have == into.size() || got.error;
  }));
  EXPECT_FALSE(got.error);
  ASSERT_TRUE(poll_until([&] {
    got = transport.read_some(asio::buffer(into));
    return got.wait_for == wait_direction::none;
  }));
  EXPECT_EQ(got.error, asio::error::eof);
}

TEST_P(PlainTransport, GathersWhatItWrites) {
  const std::string parts[] = {"one", "", " and ", "two"};
  std::vector<asio::const_buffer> buffers;
  for (const std::string& part : parts) buffers.push_back(asio::buffer(part));
  const io_result put = transport.write_some(buffers);
  EXPECT_EQ(put.size, 11u);
  EXPECT_FALSE(put.error);
  EXPECT_EQ(put.wait_for, wait_direction::none);
  EXPECT_EQ(peer.read(11), "one and two");
}

TEST_P(PlainTransport, TakesAsManyBuffersAsOneWriteCan) {
  const std::string bytes = pattern(gtcp::detail::max_gather);
  std::vector<asio::const_buffer> buffers;
  for (const char& byte : bytes) buffers.emplace_back(&byte, 1);
  const io_result put = transport.write_some(buffers);
  EXPECT_EQ(put.size, bytes.size());
  EXPECT_EQ(put.wait_for, wait_direction::none);
  EXPECT_EQ(peer.read(bytes.size()), bytes);
}

TEST_P(PlainTransport, WritesUntilTheSystemTakesNoMoreAndThenAsksToWait) {
  const std::string bytes = pattern(256 * 1024);
  std::size_t written = 0;
  io_result put;
  do {
    put = write(bytes);
    ASSERT_FALSE(put.error);
    written += put.size;
    EXPECT_EQ(put.wait_for == wait_direction::none, put.size == bytes.size());
  } while (put.size != 0);
  EXPECT_EQ(put.wait_for, wait_direction::write);
  EXPECT_EQ(peer.read(written).size(), written) << "nothing is lost";
  ASSERT_TRUE(poll_until([&] { return write("x").size == 1; }));
}

TEST_P(PlainTransport, WritesNothing) {
  EXPECT_EQ(write("").size, 0u);
  EXPECT_FALSE(write("").error);
  EXPECT_EQ(write("").wait_for, wait_direction::none);
}

TEST_P(PlainTransport, EndsSendingAndGoesOnReading) {
  write("last");
  transport.end_of_sending();
  EXPECT_EQ(peer.read_to_end(), "last");
  const io_result put = write("more");
  EXPECT_EQ(put.error, asio::error::broken_pipe);
  EXPECT_EQ(put.size, 0u);
  peer.write("answer");
  std::array<char, 6> into{};
  std::size_t have = 0;
  ASSERT_TRUE(poll_until([&] {
    have += transport.read_some(asio::buffer(into) + have).size;
    return have == into.size();
  }));
}

TEST_P(PlainTransport, FailsWithoutASignalWhenThePeerIsGone) {
  peer.reset();
  io_result put;
  ASSERT_TRUE(poll_until([&] {
    put = write("anybody there?");
    return static_cast<bool>(put.error);
  }));
  EXPECT_TRUE(put.error == asio::error::broken_pipe || put.error == asio::error::connection_reset) << put.error;
  EXPECT_EQ(put.wait_for, wait_direction::none);
}

INSTANTIATE_TEST_SUITE_P(Sockets, PlainTransport, testing::Values(net::tcp, net::unix_socket),
                         [](const auto& kind) { return kind.param == net::tcp ? "Tcp" : "Unix"; });

}  // namespace
