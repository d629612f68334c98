// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_BASE_HPP
#define GTCP_DETAIL_PLATFORM_BASE_HPP

// What the platform_* headers share: descriptors, the clock, and the system's errors. They hold what differs between
// operating systems, and nothing else; no other header of gtcp includes a system header.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>
#include <asio/error.hpp>

#include <cerrno>
#include <chrono>
#include <system_error>

#if defined(__linux__)
#include <time.h>
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

}  // namespace gtcp::detail

#endif
