// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_WATCH_HPP
#define GTCP_DETAIL_WATCH_HPP

// Waiting for a descriptor through Asio, without giving the descriptor to it.

#include <gtcp/detail/platform_base.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/generic/stream_protocol.hpp>

#include <memory>
#include <system_error>

namespace gtcp::detail {

/// A second object for the descriptor, through which Asio waits.
class watch {
 public:
  watch() noexcept {}
  ~watch() { release(); }
  watch(const watch&) = delete;
  watch& operator=(const watch&) = delete;

  /// Returns the object, made on the executor that `executor()` returns when there is none yet.
  template <class Executor>
  asio::generic::stream_protocol::socket& open(const Executor& executor, native_socket descriptor) {
    if (!is_open_) {
      std::construct_at(&socket_, executor());
      try {
        constexpr int any_family = 0;  // nobody asks for it
        socket_.assign(asio::generic::stream_protocol(any_family, 0), descriptor);
      } catch (...) {
        std::destroy_at(&socket_);  // nothing could be waited for through it
        throw;
      }
      is_open_ = true;
    }
    return socket_;
  }

  /// Ends all waits that are under way.
  void cancel() noexcept {
    if (!is_open_) return;
    std::error_code ignored;
    socket_.cancel(ignored);
  }

  /// Ends all waits for good, and leaves the descriptor open.
  void release() noexcept {
    if (!is_open_) return;
    std::error_code ignored;
    socket_.release(ignored);
    std::destroy_at(&socket_);
    is_open_ = false;
  }

  /// Forgets the object without destroying it, in a child process: threads of the parent may hold the reactor's locks.
  void abandon() noexcept { is_open_ = false; }

 private:
  union {
    asio::generic::stream_protocol::socket socket_;
  };
  bool is_open_ = false;
};

}  // namespace gtcp::detail

#endif
