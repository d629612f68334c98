// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONN_LEASE_HPP
#define GTCP_DETAIL_CONN_LEASE_HPP

// What a connection and the pool that lent it know of each other.
//
// What a pool keeps, lends and gets back is the socket with its transport, never the state around it: every borrower
// has a state of their own. So a connection is as new each time by itself, its deadlines and settings too, and handles
// that a borrower kept name a closed connection, not the next borrower's.

#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_socket.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/detail/transport.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

namespace gtcp::detail {

class conn_state;

/// Owns a connected socket and what bytes go through.
class raw_connection {
 public:
  raw_connection() = default;
  raw_connection(native_socket descriptor, transport_ptr layer) : descriptor_(descriptor), layer_(std::move(layer)) {}
  raw_connection(raw_connection&& other) noexcept { swap(other); }
  raw_connection& operator=(raw_connection&& other) noexcept {
    raw_connection moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~raw_connection() {
    layer_.reset();
    if (descriptor_ != invalid_native_socket) close_socket(descriptor_, false);
  }

  explicit operator bool() const noexcept { return descriptor_ != invalid_native_socket; }

  void swap(raw_connection& other) noexcept { swap(other.descriptor_, other.layer_); }
  void swap(native_socket& descriptor, transport_ptr& layer) noexcept {
    std::swap(descriptor_, descriptor);
    layer_.swap(layer);
  }

  native_socket descriptor() const noexcept { return descriptor_; }
  transport& layer() const noexcept { return *layer_; }
  transport_ptr take_layer() noexcept { return std::move(layer_); }
  native_socket release() noexcept { return std::exchange(descriptor_, invalid_native_socket); }

 private:
  native_socket descriptor_ = invalid_native_socket;
  transport_ptr layer_;
};

/// Whether a try to read from `layer` found nothing, not even the beginning of a record, and the peer still there.
inline bool is_quiet(const transport& layer, const io_result& got) noexcept {
  return !got.error && got.size == 0 && got.wait_for == wait_direction::read && !layer.below().has_begun;
}

/// A connection's tie to its pool, and what it has to remember for it. The connection owns it.
///
/// Exactly one of give_back() and lose() is called, once, when the connection is closed. Thread safety: all members may
/// be called by any thread.
class conn_lease {
 public:
  /// `reused`: the connection was idle in the pool, and may have died there. `ignores_unanswered`: the peer does not
  /// reply.
  conn_lease(bool reused, bool ignores_unanswered) : ignores_unanswered_(ignores_unanswered), reused_(reused) {}
  virtual ~conn_lease() = default;

  /// The connection is as new and goes back.
  virtual void give_back(raw_connection connection) noexcept = 0;
  /// The connection ends.
  virtual void lose() noexcept = 0;

  /// Connects anew and has the connection take that. Returns whether it did.
  virtual bool renew(conn_state& conn, clock::time_point until) = 0;
  virtual void start_renewal(std::shared_ptr<conn_state> conn, clock::time_point until, std::function<void()> done) = 0;

  void keep_from_pool() noexcept { kept_.store(true); }

  /// False: a reply may come that would be there for the next borrower.
  bool may_go_back() const noexcept { return !kept_.load() && (ignores_unanswered_ || unanswered_.load() <= 0); }

  /// Each package has a reply of its own. Bytes that are sent in pieces, in a row, have one. Before they are sent: else
  /// the connection could go back in between. Returns whether one more reply is to come.
  bool note_send(bool is_package) noexcept {
    sends_.fetch_add(1);
    if (is_package) {
      unanswered_.fetch_add(1);
      return true;
    }
    int none = 0;
    return unanswered_.compare_exchange_strong(none, 1);
  }

  /// Nothing was sent after all. `has_reply`: what note_send returned.
  void take_back_send(bool has_reply) noexcept {
    sends_.fetch_sub(1);
    if (has_reply) await_one_less();
  }

  void note_receive() noexcept {
    received_.store(true);
    await_one_less();
  }

  /// For a send that failed: whether it was the first thing that was done with a connection out of the pool. Once.
  bool should_renew() noexcept {
    return !kept_.load() && !received_.load() && sends_.load() == 1 && reused_.exchange(false);
  }

 private:
  void await_one_less() noexcept {
    int left = unanswered_.load();
    while (left > 0 && !unanswered_.compare_exchange_weak(left, left - 1)) {
    }
  }

  const bool ignores_unanswered_;
  std::atomic<bool> reused_;
  std::atomic<bool> kept_{false};
  std::atomic<bool> received_{false};
  std::atomic<unsigned> sends_{0};
  std::atomic<int> unanswered_{0};
};

}  // namespace gtcp::detail

#endif
