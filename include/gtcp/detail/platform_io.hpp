// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_IO_HPP
#define GTCP_DETAIL_PLATFORM_IO_HPP

// Moving bytes through a socket, without waiting, and what the system says of those that move.

#include <gtcp/detail/platform_base.hpp>

#include <asio/buffer.hpp>
#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <system_error>

#if !defined(ASIO_WINDOWS)
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#if defined(__linux__)
#include <linux/sockios.h>
#endif
#endif

namespace gtcp::detail {

/// Whether the peer has reset the connection, also when the error was taken already. Knows it of TCP on Linux only.
inline bool is_reset([[maybe_unused]] native_socket descriptor) noexcept {
#if defined(__linux__)
  tcp_info info{};
  socklen_t size = sizeof(info);
  return ::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
#else
  return false;
#endif
}

/// Returns how many sent bytes the peer's system has not acknowledged yet, or nothing where the system can't say.
inline std::optional<std::size_t> unacknowledged_bytes([[maybe_unused]] native_socket descriptor) noexcept {
#if defined(__linux__)
  int bytes = 0;
  if (::ioctl(descriptor, SIOCOUTQ, &bytes) == 0) return static_cast<std::size_t>(bytes);
#elif defined(__APPLE__)
  int bytes = 0;
  socklen_t size = sizeof(bytes);
  if (::getsockopt(descriptor, SOL_SOCKET, SO_NWRITE, &bytes, &size) == 0) return static_cast<std::size_t>(bytes);
#endif
  return std::nullopt;
}

/// How many bytes the system holds that were not read yet.
inline std::size_t unread_bytes(native_socket descriptor) noexcept {
#if defined(ASIO_WINDOWS)
  u_long bytes = 0;
  return ::ioctlsocket(descriptor, FIONREAD, &bytes) == 0 ? bytes : 0;
#else
  int bytes = 0;
  return ::ioctl(descriptor, FIONREAD, &bytes) == 0 ? static_cast<std::size_t>(bytes) : 0;
#endif
}

struct io_count {
  std::size_t size = 0;
  std::error_code error;  ///< asio::error::would_block when nothing moved and waiting may help
};

/// Makes a system's call that moves bytes, again if a signal came in between.
template <class Call>
io_count transfer(const Call& call) noexcept {
  for (;;) {
    const auto moved = call();
    if (moved >= 0) return {static_cast<std::size_t>(moved), {}};
    const std::error_code error = last_system_error();
    if (error == asio::error::interrupted) continue;
    return {0, error == asio::error::try_again ? make_error_code(asio::error::would_block) : error};
  }
}

/// Copies buffers one behind the other into `space`. Returns them as one; nothing if they do not fit.
inline asio::const_buffer join(std::span<const asio::const_buffer> buffers, std::span<char> space) noexcept {
  std::size_t size = 0;
  for (const asio::const_buffer& buffer : buffers) {
    if (buffer.size() > space.size() - size) return {};
    if (buffer.size() != 0) std::memcpy(space.data() + size, buffer.data(), buffer.size());
    size += buffer.size();
  }
  return {space.data(), size};
}

/// Reads what is there, without waiting. Zero bytes without an error is the end of the stream.
inline io_count read_some(native_socket descriptor, asio::mutable_buffer buffer) noexcept {
  return transfer([&] {
#if defined(ASIO_WINDOWS)
    return ::recv(descriptor, static_cast<char*>(buffer.data()),
                  static_cast<int>(std::min<std::size_t>(buffer.size(), 0x7FFFFFFF)), 0);
#else
    return ::recv(descriptor, buffer.data(), buffer.size(), 0);
#endif
  });
}

/// How many buffers write_some takes in one call.
inline constexpr std::size_t max_gather = 64;

/// Buffers for one call. Most have one, so the others are not even made empty.
class gather_list {
 public:
  gather_list() noexcept {}
  ~gather_list() { std::destroy_n(buffers_, size_); }
  gather_list(const gather_list&) = delete;
  gather_list& operator=(const gather_list&) = delete;

  void push_back(asio::const_buffer buffer) noexcept { std::construct_at(buffers_ + size_++, buffer); }
  std::size_t size() const noexcept { return size_; }
  std::span<const asio::const_buffer> view() const noexcept { return {buffers_, size_}; }

 private:
  std::size_t size_ = 0;
  union {
    asio::const_buffer buffers_[max_gather];
  };
};

/// Writes what the system takes of `buffers`, in one call, without waiting and without SIGPIPE. With `more_follows` it
/// may keep a part that does not fill a segment for a moment.
inline io_count write_some(native_socket descriptor, std::span<const asio::const_buffer> buffers,
                           [[maybe_unused]] bool more_follows = false) noexcept {
  const std::size_t count = std::min(buffers.size(), max_gather);
#if defined(ASIO_WINDOWS)
  WSABUF parts[max_gather];
  for (std::size_t i = 0; i < count; ++i) {
    parts[i].buf = const_cast<char*>(static_cast<const char*>(buffers[i].data()));
    parts[i].len = static_cast<ULONG>(std::min<std::size_t>(buffers[i].size(), 0x7FFFFFFF));
  }
  DWORD sent = 0;
  if (::WSASend(descriptor, parts, static_cast<DWORD>(count), &sent, 0, nullptr, nullptr) == 0) return {sent, {}};
  return {0, last_system_error()};
#else
  int flags = 0;
#if defined(MSG_NOSIGNAL)
  flags |= MSG_NOSIGNAL;  // elsewhere SO_NOSIGPIPE was set when the socket was prepared
#endif
#if defined(MSG_MORE)
  if (more_follows) flags |= MSG_MORE;
#endif
  // Several buffers cost the system a fifth of a small send more than one does, and that is more than copying them.
  char together[2048];
  const asio::const_buffer one = count == 1 ? buffers[0] : join(buffers.first(count), together);
  if (one.size() != 0) return transfer([&] { return ::send(descriptor, one.data(), one.size(), flags); });

  iovec parts[max_gather];
  for (std::size_t i = 0; i < count; ++i) {
    parts[i].iov_base = const_cast<void*>(buffers[i].data());
    parts[i].iov_len = buffers[i].size();
  }
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(count);
  return transfer([&] { return ::sendmsg(descriptor, &message, flags); });
#endif
}

/// Sends what was kept since more was to follow.
inline void push_out([[maybe_unused]] native_socket descriptor) noexcept {
#if defined(TCP_CORK)
  const int no = 0;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_CORK, &no, sizeof no);
#endif
}

}  // namespace gtcp::detail

#endif
