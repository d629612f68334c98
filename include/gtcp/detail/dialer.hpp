// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_DIALER_HPP
#define GTCP_DETAIL_DIALER_HPP

// Connecting: a name becomes addresses, each is tried in turn, and all of it has one deadline. Addresses that are left
// share the time that is left, so that one which does not answer can't eat it all.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/address.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/platform_address.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_socket.hpp>
#include <gtcp/detail/time_limit.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/ip/tcp.hpp>

#include <chrono>
#include <cstddef>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp::detail {

/// Owns a descriptor until it is handed on.
class descriptor_guard {
 public:
  explicit descriptor_guard(native_socket descriptor) : descriptor_(descriptor) {}
  descriptor_guard(descriptor_guard&& other) noexcept : descriptor_(other.release()) {}
  descriptor_guard& operator=(descriptor_guard&&) = delete;
  ~descriptor_guard() {
    if (descriptor_ != invalid_native_socket) close_socket(descriptor_, false);
  }
  native_socket get() const noexcept { return descriptor_; }
  native_socket release() noexcept { return std::exchange(descriptor_, invalid_native_socket); }

 private:
  native_socket descriptor_;
};

class dialer {
 public:
  dialer(std::string text, const ConnOption& option, std::chrono::nanoseconds timeout)
      : text_(std::move(text)), option_(option), timeout_(timeout) {}

  /// Checks everything that can be checked without a system call; begins the time.
  std::error_code begin();

  bool needs_resolver() const noexcept { return targets_.empty(); }
  std::string host() const { return address_.host; }
  std::string port() const { return std::to_string(address_.port); }
  clock::time_point deadline() const noexcept { return deadline_; }

  void add(const asio::ip::tcp::resolver::results_type& results);

  bool more() const noexcept { return next_ < targets_.size(); }

  /// Opens a socket and begins to connect to the next address. would_block: it is to be waited for until
  /// try_deadline(), see connect_socket.
  std::error_code try_next(native_socket& descriptor);

  /// Whether, behind would_block, it is to be tried again after a pause.
  bool must_try_again() const noexcept { return targets_[next_ - 1].is_unix(); }
  std::error_code try_again(native_socket descriptor) const { return connect_socket(descriptor, targets_[next_ - 1]); }

  static constexpr std::chrono::milliseconds pause_between_tries{5};

  /// When to give the address up that was begun last: its share of what is left.
  clock::time_point try_deadline() const noexcept;

  std::string describe(const char* name) const;

 private:
  std::vector<socket_address>::const_iterator local_for(const socket_address& target) const;

  /// Leaves out what the local address can't reach, unless that is all.
  void prefer_own_family();

  /// An empty host is this machine, by either family.
  void this_machine();

  std::string text_;
  ConnOption option_;
  std::chrono::nanoseconds timeout_;
  std::string why_;
  address address_;
  std::vector<socket_address> local_;  ///< none, or one, or one of each family
  clock::time_point deadline_ = no_deadline;
  std::vector<socket_address> targets_;
  std::size_t next_ = 0;
};

/// Connects, in the calling thread. Returns the descriptor, or an error.
GTCP_DECL std::error_code dial_blocking(dialer& dial, const std::stop_token& stop, native_socket& connected);

/// The same on a strand.
GTCP_DECL asio::awaitable<std::error_code> dial_async(dialer& dial, asio::any_io_executor strand,
                                                      native_socket& connected);

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/dialer.hpp>
#endif

#endif
