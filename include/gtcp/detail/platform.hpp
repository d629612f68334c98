// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_HPP
#define GTCP_DETAIL_PLATFORM_HPP

// What differs between operating systems, and nothing else: waiting for descriptors, waking a waiting thread,
// unacknowledged bytes, signals and processes. No other header of gtcp includes a system header.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/buffer.hpp>
#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#if !defined(ASIO_WINDOWS)
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/sockios.h>
#include <sys/eventfd.h>
#endif
#endif

namespace gtcp::detail {

using native_socket = asio::detail::socket_type;
inline constexpr native_socket invalid_native_socket = asio::detail::invalid_socket;

using clock = std::chrono::steady_clock;

/// The point in time that means "no deadline".
inline constexpr clock::time_point no_deadline = clock::time_point::max();

/// Some milliseconds behind clock::now(), and cheaper.
inline clock::time_point coarse_now() noexcept {
#if defined(__linux__)
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return clock::time_point(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
#else
  return clock::now();
#endif
}

inline std::error_code last_system_error() noexcept {
#if defined(ASIO_WINDOWS)
  return {::WSAGetLastError(), asio::error::get_system_category()};
#else
  return {errno, asio::error::get_system_category()};
#endif
}

/// Whether `error` is the system's `value`. By value, since the category of Asio before 1.26 knows no conditions: there
/// its codes never equal a std::errc.
inline bool is_system_error(const std::error_code& error, int value) noexcept {
  return error.value() == value && error.category() == asio::error::get_system_category();
}

/// Whether the system, or this process, is out of descriptors or memory for now.
inline bool is_shortage(const std::error_code& error) noexcept {
#if defined(ASIO_WINDOWS)
  return is_system_error(error, WSAEMFILE) || is_system_error(error, WSAENOBUFS);
#else
  return is_system_error(error, EMFILE) || is_system_error(error, ENFILE) || is_system_error(error, ENOBUFS) ||
         is_system_error(error, ENOMEM);
#endif
}

/// Whether this machine has no such address, or not its family.
inline bool is_no_address_here(const std::error_code& error) noexcept {
#if defined(ASIO_WINDOWS)
  return is_system_error(error, WSAEADDRNOTAVAIL) || is_system_error(error, WSAEAFNOSUPPORT);
#else
  return is_system_error(error, EADDRNOTAVAIL) || is_system_error(error, EAFNOSUPPORT);
#endif
}

/// Blocks all signals in the calling thread, so that the user's handlers run in the user's threads.
inline void block_signals() noexcept {
#if !defined(ASIO_WINDOWS)
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
#endif
}

inline void set_close_on_exec(native_socket descriptor) noexcept {
#if defined(ASIO_WINDOWS)
  ::SetHandleInformation(reinterpret_cast<HANDLE>(descriptor), HANDLE_FLAG_INHERIT, 0);
#else
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
#endif
}

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

/// The address of a stream socket as the system writes it, or none.
class socket_address {
 public:
  socket_address() = default;
  socket_address(const void* data, std::size_t size) noexcept : size_(size) { std::memcpy(&storage_, data, size); }

  /// The socket's own.
  static socket_address of(native_socket descriptor) noexcept { return ask(::getsockname, descriptor); }
  static socket_address of_peer(native_socket descriptor) noexcept { return ask(::getpeername, descriptor); }
  static socket_address of_unix([[maybe_unused]] const std::string& path) noexcept {
    socket_address result;
#if !defined(ASIO_WINDOWS)
    auto& address = reinterpret_cast<sockaddr_un&>(result.storage_);
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    result.size_ = offsetof(sockaddr_un, sun_path) + path.size() + 1;
#endif
    return result;
  }

  sockaddr* data() noexcept { return reinterpret_cast<sockaddr*>(&storage_); }
  const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  int family() const noexcept { return storage_.ss_family; }
  static constexpr std::size_t capacity() noexcept { return sizeof(sockaddr_storage); }
  /// After the system has written so many bytes to data().
  void resize(std::size_t size) noexcept { size_ = size; }

  bool is_unix() const noexcept {
#if defined(ASIO_WINDOWS)
    return false;
#else
    return family() == AF_UNIX;
#endif
  }

  /// The path of a unix address; empty for an unnamed one.
  std::string unix_path() const {
#if defined(ASIO_WINDOWS)
    return {};
#else
    const auto& address = reinterpret_cast<const sockaddr_un&>(storage_);
    const std::size_t offset = offsetof(sockaddr_un, sun_path);
    if (size_ <= offset) return {};
    return std::string(address.sun_path, ::strnlen(address.sun_path, size_ - offset));
#endif
  }

  friend bool operator==(const socket_address& left, const socket_address& right) noexcept {
    return left.size_ == right.size_ && std::memcmp(&left.storage_, &right.storage_, left.size_) == 0;
  }

 private:
  template <class Name>
  static socket_address ask(const Name& name, native_socket descriptor) noexcept {
    socket_address result;
    socklen_t size = capacity();
    if (name(descriptor, result.data(), &size) == 0) result.size_ = size;
    return result;
  }

  sockaddr_storage storage_ = {};
  std::size_t size_ = 0;
};

/// The longest path of a unix socket.
#if defined(ASIO_WINDOWS)
inline constexpr std::size_t max_unix_path = 0;
#else
inline constexpr std::size_t max_unix_path = sizeof(sockaddr_un::sun_path) - 1;
#endif

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

/// Tells those who have run out of descriptors that one was closed.
inline void note_freed_descriptor() noexcept;

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
  note_freed_descriptor();
}

/// Removes a unix socket's file if `path` is a socket that nobody can be listening on. Never touches other files.
inline void remove_socket_file([[maybe_unused]] const std::string& path) noexcept {
#if !defined(ASIO_WINDOWS)
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
#endif
}

/// Tells the file at a path from one that takes its place; invalid if there is none.
struct file_identity {
  unsigned long long device = 0;
  unsigned long long number = 0;

  explicit operator bool() const noexcept { return number != 0; }
  friend bool operator==(const file_identity&, const file_identity&) = default;
};

inline file_identity file_identity_of([[maybe_unused]] const std::string& path) noexcept {
#if !defined(ASIO_WINDOWS)
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0) {
    return {static_cast<unsigned long long>(info.st_dev), static_cast<unsigned long long>(info.st_ino)};
  }
#endif
  return {};
}

/// Keeps others who take one from making and removing files in the directory of `path` meanwhile. Where the system
/// gives none, or somebody keeps it for a second, it does nothing.
class directory_lock {
 public:
  explicit directory_lock([[maybe_unused]] const std::string& path) {
#if !defined(ASIO_WINDOWS)
    const std::size_t name = path.rfind('/') + 1;
    descriptor_ = ::open(name == 0 ? "." : path.substr(0, name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int tries = 1000; descriptor_ != -1 && tries != 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0; --tries) {
      ::usleep(1000);
    }
#endif
  }
  ~directory_lock() {
#if !defined(ASIO_WINDOWS)
    if (descriptor_ == -1) return;
    ::flock(descriptor_, LOCK_UN);  // a child process may have a copy of the descriptor
    ::close(descriptor_);
#endif
  }
  directory_lock(const directory_lock&) = delete;
  directory_lock& operator=(const directory_lock&) = delete;

 private:
  int descriptor_ = -1;
};

#if !defined(ASIO_WINDOWS)
inline constinit std::atomic<unsigned> forks{0};
inline const int forks_are_counted =
    ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
#endif

/// Has `before` called before every fork from now on, and `after` after it, in both processes. Returns 0 if it can be.
inline int at_fork([[maybe_unused]] void (*before)(), [[maybe_unused]] void (*after)()) noexcept {
#if defined(ASIO_WINDOWS)
  return 0;
#else
  return ::pthread_atfork(before, after, after);
#endif
}

/// Counts the forks that led to this process: what was made under another number belongs to the parent.
inline unsigned fork_generation() noexcept {
#if defined(ASIO_WINDOWS)
  return 0;
#else
  return forks.load(std::memory_order_relaxed);
#endif
}

/// Tells the copy of an object that a child process has inherited from the object itself.
class process_mark {
 public:
  bool is_inherited() const noexcept { return process_.load(std::memory_order_relaxed) != fork_generation(); }

  /// Makes the copy the child's own.
  void adopt() noexcept { process_.store(fork_generation(), std::memory_order_relaxed); }

 private:
  std::atomic<unsigned> process_{fork_generation()};
};

/// Lets one thread wake another one that waits in wait_descriptor. Non-copyable; signal() may be called by any thread.
class waker {
 public:
  waker() noexcept {
#if defined(__linux__)
    read_end_ = write_end_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
#elif !defined(ASIO_WINDOWS)
    int ends[2];
    if (::pipe(ends) == 0) {
      for (const int end : ends) {
        ::fcntl(end, F_SETFL, O_NONBLOCK);
        ::fcntl(end, F_SETFD, FD_CLOEXEC);
      }
      read_end_ = ends[0];
      write_end_ = ends[1];
    }
#endif
  }

  ~waker() {
#if !defined(ASIO_WINDOWS)
    if (read_end_ != -1) ::close(read_end_);
    if (write_end_ != -1 && write_end_ != read_end_) ::close(write_end_);
    if (read_end_ != -1) note_freed_descriptor();
#endif
  }

  waker(const waker&) = delete;
  waker& operator=(const waker&) = delete;

  /// Wakes the waiting thread, or the next wait.
  void signal() noexcept {
#if !defined(ASIO_WINDOWS)
    if (write_end_ == -1) return;
    const unsigned long long one = 1;
    [[maybe_unused]] const auto written = ::write(write_end_, &one, sizeof(one));
#endif
  }

  /// Forgets earlier signals.
  void reset() noexcept {
#if !defined(ASIO_WINDOWS)
    unsigned long long ignored = 0;
    while (read_end_ != -1 && ::read(read_end_, &ignored, sizeof(ignored)) > 0) {
    }
#endif
  }

  int native_handle() const noexcept { return read_end_; }

  /// The waker of the calling thread.
  static waker& of_this_thread() {
    thread_local std::optional<waker> instance;
    thread_local unsigned generation = 0;
    const bool works = instance && instance->read_end_ != -1;  // there may be a descriptor for it by now
    if (!works || generation != fork_generation()) {
      instance.emplace();  // a child must not share its parent's
      generation = fork_generation();
    }
    return *instance;
  }

 private:
  int read_end_ = -1;
  [[maybe_unused]] int write_end_ = -1;
};

/// `moment`: for what the system does not tell of, as when it is short of memory.
enum class wait_direction : unsigned { none = 0, read = 1, write = 2, both = 3, moment = 4 };

/// How long to wait for a wait_direction::moment.
inline constexpr std::chrono::milliseconds moment_length{5};

constexpr bool includes(wait_direction set, wait_direction part) noexcept {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(part)) != 0;
}

/// Blocks until `descriptor` is ready for one of `directions`, `wake` is signalled, or `deadline` has passed; it may
/// also return early for no reason, so every caller loops. Where there is no descriptor left for a waker it looks
/// up every 10 ms instead.
inline void wait_descriptor(native_socket descriptor, wait_direction directions, waker& wake,
                            clock::time_point deadline) {
  using std::chrono::milliseconds;
  constexpr milliseconds longest{60'000};
  const bool can_be_woken = wake.native_handle() != -1;
  milliseconds timeout = can_be_woken ? longest : milliseconds(10);
  if (deadline != no_deadline) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - clock::now());
    timeout = std::clamp(left, milliseconds(0), timeout);
  }
  const short events = static_cast<short>((includes(directions, wait_direction::read) ? POLLIN : 0) |
                                          (includes(directions, wait_direction::write) ? POLLOUT : 0));
#if defined(ASIO_WINDOWS)
  WSAPOLLFD entry = {descriptor, events, 0};
  ::WSAPoll(&entry, 1, static_cast<int>(timeout.count()));
#else
  pollfd entries[2] = {{descriptor, events, 0}, {wake.native_handle(), POLLIN, 0}};
  const int ready = ::poll(entries, can_be_woken ? 2 : 1, static_cast<int>(timeout.count()));
  if (ready > 0 && can_be_woken && entries[1].revents != 0) wake.reset();
#endif
}

/// Whether the descriptor is ready for one of `directions` right now.
inline bool is_ready(native_socket descriptor, wait_direction directions) {
  const short events = static_cast<short>((includes(directions, wait_direction::read) ? POLLIN : 0) |
                                          (includes(directions, wait_direction::write) ? POLLOUT : 0));
#if defined(ASIO_WINDOWS)
  WSAPOLLFD entry = {descriptor, events, 0};
  return ::WSAPoll(&entry, 1, 0) > 0;
#else
  pollfd entry = {descriptor, events, 0};
  return ::poll(&entry, 1, 0) > 0;
#endif
}

}  // namespace gtcp::detail

#include <gtcp/detail/freed_descriptors.hpp>

#endif
