// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_HPP
#define GTCP_DETAIL_PLATFORM_HPP

// What differs between operating systems, and nothing else: waiting for descriptors, waking a waiting thread,
// unacknowledged bytes, signals and processes. No other header of gtcp includes a system header.

#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <system_error>

#if defined(ASIO_WINDOWS)
#include <process.h>
#else
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

inline std::error_code last_system_error() noexcept {
#if defined(ASIO_WINDOWS)
  return {::WSAGetLastError(), std::system_category()};
#else
  return {errno, std::system_category()};
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

/// Returns the id of this process; it tells a child after fork from its parent.
inline long current_pid() noexcept {
#if defined(ASIO_WINDOWS)
  return ::_getpid();
#else
  return static_cast<long>(::getpid());
#endif
}

inline void set_close_on_exec(native_socket descriptor) noexcept {
#if defined(ASIO_WINDOWS)
  ::SetHandleInformation(reinterpret_cast<HANDLE>(descriptor), HANDLE_FLAG_INHERIT, 0);
#else
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
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

/// Sets when the first keep-alive probe is sent, the pause between probes, and how many stay unanswered before the
/// connection is given up. Zero leaves a value at the system's default.
inline std::error_code set_keep_alive_times([[maybe_unused]] native_socket descriptor,
                                            [[maybe_unused]] std::chrono::seconds idle,
                                            [[maybe_unused]] std::chrono::seconds interval, [[maybe_unused]] int count) {
#if !defined(ASIO_WINDOWS)
  const auto set = [descriptor](int name, long long value) -> std::error_code {
    const int number = static_cast<int>(std::min<long long>(value, 32767));
    if (number == 0 || ::setsockopt(descriptor, IPPROTO_TCP, name, &number, sizeof(number)) == 0) return {};
    return last_system_error();
  };
#if defined(TCP_KEEPIDLE)
  if (const auto ec = set(TCP_KEEPIDLE, idle.count())) return ec;
#elif defined(TCP_KEEPALIVE)
  if (const auto ec = set(TCP_KEEPALIVE, idle.count())) return ec;
#endif
  if (const auto ec = set(TCP_KEEPINTVL, interval.count())) return ec;
  if (const auto ec = set(TCP_KEEPCNT, count)) return ec;
#endif
  return {};
}

/// Removes a unix socket's file if `path` is a socket that nobody can be listening on. Never touches other files.
inline void remove_socket_file([[maybe_unused]] const std::string& path) noexcept {
#if !defined(ASIO_WINDOWS)
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
#endif
}

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
    thread_local waker instance;
    return instance;
  }

 private:
  int read_end_ = -1;
  [[maybe_unused]] int write_end_ = -1;
};

enum class wait_direction : unsigned { none = 0, read = 1, write = 2, both = 3 };

constexpr bool includes(wait_direction set, wait_direction part) noexcept {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(part)) != 0;
}

/// Blocks until `descriptor` is ready for one of `directions`, `wake` is signalled, or `deadline` has passed; it may
/// also return early for no reason, so every caller loops. Where there is no descriptor left for a waker it looks
/// up every 10 ms instead.
inline void wait_descriptor(native_socket descriptor, wait_direction directions, waker& wake, clock::time_point deadline) {
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

}  // namespace gtcp::detail

#endif
