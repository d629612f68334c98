// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_WAIT_HPP
#define GTCP_DETAIL_PLATFORM_WAIT_HPP

// Waiting for descriptors in the calling thread, and waking a thread that does.

#include <gtcp/detail/freed_descriptors.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_process.hpp>

#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>

#include <algorithm>
#include <chrono>
#include <optional>

#if !defined(ASIO_WINDOWS)
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/eventfd.h>
#endif
#endif

namespace gtcp::detail {

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
    if (read_end_ != -1) freed_descriptors::of_this_process().note();
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

#endif
