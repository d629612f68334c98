// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_SOCKET_HPP
#define GTCP_DETAIL_PLATFORM_SOCKET_HPP

// Sockets from their opening to their end, but for what moves bytes.

#include <gtcp/detail/freed_descriptors.hpp>
#include <gtcp/detail/platform_address.hpp>
#include <gtcp/detail/platform_base.hpp>

#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>
#include <asio/error.hpp>

#include <system_error>

#if !defined(ASIO_WINDOWS)
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>
#endif

namespace gtcp::detail {

inline void set_close_on_exec(native_socket descriptor) noexcept {
#if defined(ASIO_WINDOWS)
  ::SetHandleInformation(reinterpret_cast<HANDLE>(descriptor), HANDLE_FLAG_INHERIT, 0);
#else
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
#endif
}

/// Whether it is a stream socket that connects two ends, as opposed to a listener.
inline std::error_code check_stream_socket(native_socket descriptor) noexcept {
  int type = 0;
  int listens = 0;
#if defined(ASIO_WINDOWS)
  int size = sizeof(int);
#else
  socklen_t size = sizeof(int);
#endif
  if (::getsockopt(descriptor, SOL_SOCKET, SO_TYPE, reinterpret_cast<char*>(&type), &size) != 0)
    return last_system_error();
  if (type != SOCK_STREAM) return std::make_error_code(std::errc::wrong_protocol_type);
  const bool is_known =
      ::getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, reinterpret_cast<char*>(&listens), &size) == 0;
  return is_known && listens != 0 ? asio::error::not_connected : std::error_code();
}

/// Makes a descriptor fit for a connection: non-blocking, not inherited by programs that this one starts, no SIGPIPE.
inline std::error_code prepare_socket(native_socket descriptor) noexcept {
  set_close_on_exec(descriptor);
#if defined(ASIO_WINDOWS)
  u_long on = 1;
  if (::ioctlsocket(descriptor, FIONBIO, &on) != 0) return last_system_error();
#else
  const int flags = ::fcntl(descriptor, F_GETFL, 0);
  if (flags == -1 || ((flags & O_NONBLOCK) == 0 && ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == -1)) {
    return last_system_error();
  }
#if defined(SO_NOSIGPIPE)
  const int on = 1;
  ::setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
#endif
#endif
  return {};
}

/// Opens a stream socket that is fit for a connection; `error` says why there is none.
inline native_socket open_socket(int family, std::error_code& error) noexcept {
#if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
  const native_socket descriptor = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
  const native_socket descriptor = ::socket(family, SOCK_STREAM, 0);
#endif
  if (descriptor == invalid_native_socket) {
    error = last_system_error();
    return descriptor;
  }
#if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
  error.clear();
#else
  error = prepare_socket(descriptor);
#endif
  return descriptor;
}

/// Takes a connection that waits at `listener`, fit for a connection; `error` is would_block when there is none. Not
/// noexcept: a thread that is cancelled may end in it.
inline native_socket accept_socket(native_socket listener, socket_address& peer, std::error_code& error) {
  for (;;) {
    socklen_t size = socket_address::capacity();
#if defined(__linux__) || defined(__FreeBSD__)
    const native_socket descriptor = ::accept4(listener, peer.data(), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    error = descriptor == invalid_native_socket ? last_system_error() : std::error_code();
#else
    const native_socket descriptor = ::accept(listener, peer.data(), &size);
    error = descriptor == invalid_native_socket ? last_system_error() : prepare_socket(descriptor);
#endif
    if (error == asio::error::interrupted) continue;
    if (error == asio::error::try_again) error = asio::error::would_block;
    peer.resize(error ? 0 : size);
    return descriptor;
  }
}

/// Begins to connect; would_block when it goes on in the background (then wait for write and ask pending_error). With a
/// unix socket that is: its listener has no room now (then try again later; the system does not tell when).
inline std::error_code connect_socket(native_socket descriptor, const socket_address& address) noexcept {
  if (::connect(descriptor, address.data(), static_cast<socklen_t>(address.size())) == 0) return {};
  const std::error_code error = last_system_error();
  const bool goes_on = error == asio::error::in_progress || error == asio::error::interrupted;
  return goes_on ? make_error_code(asio::error::would_block) : error;
}

inline std::error_code bind_socket(native_socket descriptor, const socket_address& address) noexcept {
  if (::bind(descriptor, address.data(), static_cast<socklen_t>(address.size())) == 0) return {};
  return last_system_error();
}

/// Begins to take connections, of which the system holds `backlog` until they are accepted.
inline std::error_code listen_socket(native_socket descriptor, int backlog) noexcept {
  if (::listen(descriptor, backlog) == 0) return {};
  return last_system_error();
}

/// Returns, and clears, the error that the system noted at the socket; the result of a connect in the background.
inline std::error_code pending_error(native_socket descriptor) noexcept {
  int value = 0;
  socklen_t size = sizeof(value);
  if (::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, reinterpret_cast<char*>(&value), &size) != 0) {
    return last_system_error();
  }
  return value == 0 ? std::error_code() : std::error_code(value, asio::error::get_system_category());
}

enum class socket_option {
  no_delay,
  keep_alive,
  keep_alive_idle,
  keep_alive_interval,
  keep_alive_count,
  recv_buffer,
  send_buffer,
  reuse_address,
  v6_only
};

struct socket_option_name {
  int level;
  int name;
  bool is_known = true;  ///< on this system
};

inline socket_option_name name_of(socket_option option) noexcept {
  switch (option) {
    case socket_option::no_delay: return {IPPROTO_TCP, TCP_NODELAY};
    case socket_option::keep_alive: return {SOL_SOCKET, SO_KEEPALIVE};
#if defined(ASIO_WINDOWS)
    case socket_option::keep_alive_idle:
    case socket_option::keep_alive_interval:
    case socket_option::keep_alive_count: return {0, 0, false};
#else
#if defined(TCP_KEEPIDLE)
    case socket_option::keep_alive_idle: return {IPPROTO_TCP, TCP_KEEPIDLE};
#else
    case socket_option::keep_alive_idle: return {IPPROTO_TCP, TCP_KEEPALIVE};
#endif
    case socket_option::keep_alive_interval: return {IPPROTO_TCP, TCP_KEEPINTVL};
    case socket_option::keep_alive_count: return {IPPROTO_TCP, TCP_KEEPCNT};
#endif
    case socket_option::recv_buffer: return {SOL_SOCKET, SO_RCVBUF};
    case socket_option::send_buffer: return {SOL_SOCKET, SO_SNDBUF};
    case socket_option::reuse_address: return {SOL_SOCKET, SO_REUSEADDR};
    case socket_option::v6_only: return {IPPROTO_IPV6, IPV6_V6ONLY};
  }
  return {0, 0, false};
}

/// Does nothing where the system does not know the option.
inline std::error_code set_option(native_socket descriptor, socket_option option, int value) noexcept {
  const auto [level, name, is_known] = name_of(option);
  if (!is_known || ::setsockopt(descriptor, level, name, reinterpret_cast<const char*>(&value), sizeof(value)) == 0)
    return {};
  return last_system_error();
}

inline std::error_code get_option(native_socket descriptor, socket_option option, int& value) noexcept {
  const auto [level, name, is_known] = name_of(option);
  if (!is_known) return asio::error::operation_not_supported;
  socklen_t size = sizeof(value);
  if (::getsockopt(descriptor, level, name, reinterpret_cast<char*>(&value), &size) == 0) return {};
  return last_system_error();
}

/// Ends the sending direction: the peer sees the end of the stream behind what was sent.
inline void shutdown_send(native_socket descriptor) noexcept {
#if defined(ASIO_WINDOWS)
  ::shutdown(descriptor, SD_SEND);
#else
  ::shutdown(descriptor, SHUT_WR);
#endif
}

/// Closes the descriptor; `hard`: what the peer did not get is thrown away and it sees a reset.
inline void close_socket(native_socket descriptor, bool hard) noexcept {
  if (hard) {
    ::linger option = {1, 0};
    ::setsockopt(descriptor, SOL_SOCKET, SO_LINGER, reinterpret_cast<const char*>(&option), sizeof(option));
  }
#if defined(ASIO_WINDOWS)
  ::closesocket(descriptor);
#else
  ::close(descriptor);
#endif
  freed_descriptors::of_this_process().note();
}

}  // namespace gtcp::detail

#endif
