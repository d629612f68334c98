// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_COUNTING_TRANSPORT_HPP
#define GTCP_TESTS_SUPPORT_COUNTING_TRANSPORT_HPP

// A plain transport that counts what is asked of the system, and remembers where the bytes came from.

#include <gtcp/detail/transport.hpp>
#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"

#include <asio/buffer.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace gtcp_test {

/// Thread safety: may be read by any thread; what was written last only while nobody writes.
struct calls {
  std::atomic<std::size_t> reads{0};        ///< that brought something
  std::atomic<std::size_t> empty_reads{0};  ///< that found nothing
  std::atomic<std::size_t> writes{0};
  std::atomic<std::size_t> bytes_read{0};
  std::atomic<std::size_t> bytes_written{0};

  /// Where the larger parts of the writes were, one after the other, as far as there is room.
  std::array<asio::const_buffer, 64> large_parts;
  std::size_t large_count = 0;
  static constexpr std::size_t large = 1024;

  void clear() { reads = empty_reads = writes = bytes_read = bytes_written = large_count = 0; }
};

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
    for (const asio::const_buffer& buffer : buffers) {
      const bool noted = buffer.size() >= calls::large && counted_->large_count < counted_->large_parts.size();
      if (noted) counted_->large_parts[counted_->large_count++] = buffer;
    }
    const gtcp::detail::io_result put = plain_.write_some(buffers);
    counted_->bytes_written += put.size;
    return put;
  }
  void end_of_sending() override { plain_.end_of_sending(); }

 private:
  gtcp::detail::plain_transport plain_;
  std::shared_ptr<calls> counted_;  // an io thread may close the connection when the test is over
};

struct counted_conn {
  std::shared_ptr<calls> count;
  gtcp::Conn conn;
  raw_peer peer;
};

inline counted_conn make_counted(const gtcp::ConnOption& option = {}, net kind = net::tcp, buffer_sizes sizes = {}) {
  auto [own, other] = connected_sockets(kind, sizes);
  const gtcp::detail::native_socket descriptor = own.release();
  EXPECT_FALSE(gtcp::detail::prepare_socket(descriptor));
  EXPECT_FALSE(gtcp::detail::apply(option, descriptor, kind == net::unix_socket));
  auto count = std::make_shared<calls>();
  gtcp::Conn conn =
      gtcp::detail::make_conn(descriptor, option, std::make_unique<counting_transport>(descriptor, count));
  return {std::move(count), std::move(conn), raw_peer(std::move(other))};
}

}  // namespace gtcp_test

#endif
