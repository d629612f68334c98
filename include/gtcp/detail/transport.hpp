// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TRANSPORT_HPP
#define GTCP_DETAIL_TRANSPORT_HPP

// What bytes go through: reading and writing that never waits, and says plainly what to wait for. A layer on top of
// a plain socket (TLS, a counting one for tests) is another transport.

#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_io.hpp>
#include <gtcp/detail/platform_socket.hpp>
#include <gtcp/detail/platform_wait.hpp>

#include <asio/buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>

namespace gtcp::detail {

struct io_result {
  std::size_t size = 0;                            ///< bytes that moved
  std::error_code error{};                         ///< asio::error::eof at the end of the stream
  wait_direction wait_for = wait_direction::none;  ///< what to wait for before the next try
  bool drained = false;                            ///< read: the next try would find nothing, so wait first
  bool holds = false;                              ///< write: a part of what was taken is not with the system yet
  bool moved_held = false;                         ///< write: the system took bytes of what was held before
};

/// What came and is not there to be read yet, since a layer needs more of it.
struct input_below {
  std::uint64_t bytes = 0;  ///< all that ever came
  bool has_begun = false;   ///< some of it waits for the rest
};

/// Thread safety: one thread may read while one other writes; the calls of one direction need an order of their own.
class transport {
 public:
  virtual ~transport() = default;

  /// Goes on with what must be agreed before the first byte; done when there is nothing to wait for.
  virtual io_result handshake() { return {}; }

  virtual io_result read_some(asio::mutable_buffer buffer) = 0;

  /// As it was after the last read, for who reads.
  virtual input_below below() const noexcept { return {}; }

  /// What the transport holds of what it took, it goes on with at every further call, also one without bytes.
  virtual io_result write_some(std::span<const asio::const_buffer> buffers) = 0;

  /// The same, when more is written at once, or push() is called: the system may wait for it.
  virtual io_result write_more(std::span<const asio::const_buffer> buffers) { return write_some(buffers); }
  /// Nothing followed write_more().
  virtual void push() {}

  /// Writes what a layer itself says at the end; done when there is nothing to wait for.
  virtual io_result finish_stream() { return {}; }

  /// Tells the peer that no more will be sent. Nothing of what was written may be pending.
  virtual void end_of_sending() = 0;

  /// Reads, when closing, bytes that nobody wants any more.
  virtual io_result discard_some(asio::mutable_buffer buffer) { return read_some(buffer); }

  /// Its owner needs it no longer. A layer that others may look at stays until they have.
  virtual void release() noexcept { delete this; }
};

/// How a connection, and a pool, own a transport.
struct release_transport {
  release_transport() = default;
  template <class T>
  release_transport(const std::default_delete<T>&) noexcept {}  // implicit: what was just made becomes a connection's
  void operator()(transport* owned) const noexcept { owned->release(); }
};
using transport_ptr = std::unique_ptr<transport, release_transport>;

/// A TCP or unix socket.
class plain_transport final : public transport {
 public:
  explicit plain_transport(native_socket descriptor) : descriptor_(descriptor) {}

  io_result read_some(asio::mutable_buffer buffer) override {
    const io_count got = detail::read_some(descriptor_, buffer);
    if (got.error == asio::error::would_block) return {0, {}, wait_direction::read, true};
    if (got.error) return {0, got.error, wait_direction::none, false};
    if (got.size == 0) {
      ended_ = true;
      return {0, asio::error::eof, wait_direction::none, false};
    }
    return {got.size, {}, wait_direction::none, got.size < buffer.size()};
  }

  io_result write_some(std::span<const asio::const_buffer> buffers) override { return write(buffers, false); }
  io_result write_more(std::span<const asio::const_buffer> buffers) override { return write(buffers, true); }
  void push() override { push_out(descriptor_); }

  void end_of_sending() override { shutdown_send(descriptor_); }

  io_result discard_some(asio::mutable_buffer buffer) override {
    return ended_ ? io_result{.error = asio::error::eof} : read_some(buffer);
  }

 private:
  io_result write(std::span<const asio::const_buffer> buffers, bool more_follows) {
    const io_count put = detail::write_some(descriptor_, buffers, more_follows);
    if (put.error == asio::error::would_block) return {0, {}, wait_direction::write, false};
    const bool took_all = put.size == asio::buffer_size(buffers);
    return {put.size, put.error, took_all || put.error ? wait_direction::none : wait_direction::write, false};
  }

  native_socket descriptor_;
  bool ended_ = false;  ///< of the peer's stream
};

}  // namespace gtcp::detail

#endif
