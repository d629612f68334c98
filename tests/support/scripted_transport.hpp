// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SCRIPTED_TRANSPORT_HPP
#define GTCP_TESTS_SUPPORT_SCRIPTED_TRANSPORT_HPP

// A transport over a real socket that counts, that takes and gives only a little at a time, and that fails when told
// to.

#include <gtcp/conn.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/transport.hpp>

#include "support/conn_pair.hpp"

#include <asio/buffer.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

namespace gtcp_test {

struct script {
  std::atomic<int> reads{0};
  std::atomic<int> writes{0};
  std::atomic<std::size_t> bytes_a_read{std::numeric_limits<std::size_t>::max()};
  std::atomic<std::size_t> bytes_a_write{std::numeric_limits<std::size_t>::max()};
  std::atomic<int> reads_to_fail{0};  ///< as if the system were short of memory
  std::atomic<int> writes_to_fail{0};
  std::function<void()> when_write_fails = [] {};  ///< set before the first of them
  std::function<void()> at_end_of_read = [] {};    ///< called when bytes were taken; set before the first read
  std::function<void()> at_end_of_partial_write = [] {};
};

class scripted_transport final : public gtcp::detail::transport {
 public:
  scripted_transport(gtcp::detail::native_socket descriptor, std::shared_ptr<script> rules)
      : plain_(descriptor), rules_(std::move(rules)) {}

  gtcp::detail::io_result read_some(asio::mutable_buffer buffer) override {
    ++rules_->reads;
    if (take_one(rules_->reads_to_fail)) return short_of_memory();
    const gtcp::detail::io_result got = plain_.read_some(asio::buffer(buffer, rules_->bytes_a_read));
    if (got.size != 0) rules_->at_end_of_read();
    return got;
  }

  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    ++rules_->writes;
    if (take_one(rules_->writes_to_fail)) {
      rules_->when_write_fails();
      return short_of_memory();
    }
    const std::size_t most = rules_->bytes_a_write;
    if (asio::buffer_size(buffers) <= most) return plain_.write_some(buffers);
    // As a system does whose buffer is nearly full: takes a part, and says that one must wait.
    for (const asio::const_buffer& part : buffers) {
      if (part.size() == 0) continue;
      const asio::const_buffer little = asio::buffer(part, most);
      gtcp::detail::io_result put = plain_.write_some({&little, 1});
      rules_->at_end_of_partial_write();
      if (!put.error) put.wait_for = gtcp::detail::wait_direction::write;
      return put;
    }
    return {};
  }

  void end_of_sending() override { plain_.end_of_sending(); }

 private:
  static bool take_one(std::atomic<int>& left) {
    int value = left.load();
    while (value > 0 && !left.compare_exchange_weak(value, value - 1)) {
    }
    return value > 0;
  }

  static gtcp::detail::io_result short_of_memory() {
    return {0, asio::error::no_buffer_space, gtcp::detail::wait_direction::none, false};
  }

  gtcp::detail::plain_transport plain_;
  std::shared_ptr<script> rules_;
};

struct scripted_conn {
  gtcp::Conn conn;
  raw_peer peer;
  std::shared_ptr<script> rules;
};

inline scripted_conn make_scripted(const gtcp::ConnOption& option = {}) {
  auto rules = std::make_shared<script>();
  auto [own, other] = connected_sockets(net::tcp);
  const gtcp::detail::native_socket descriptor = own.release();
  std::error_code error = gtcp::detail::prepare_socket(descriptor);
  if (error) throw std::system_error(error);
  auto state = std::make_shared<gtcp::detail::conn_state>(descriptor, option,
                                                          std::make_unique<scripted_transport>(descriptor, rules));
  return {gtcp::detail::conn_access::make(std::move(state)), raw_peer(std::move(other)), std::move(rules)};
}

}  // namespace gtcp_test

#endif
