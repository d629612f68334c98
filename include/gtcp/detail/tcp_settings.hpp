// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TCP_SETTINGS_HPP
#define GTCP_DETAIL_TCP_SETTINGS_HPP

// The socket options of a connection. Those of TCP are set on the listener where accepted sockets have them from there:
// that saves five system calls for each connection.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/platform.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <system_error>

namespace gtcp::detail {

inline constexpr std::array tcp_options{socket_option::no_delay, socket_option::keep_alive,
                                        socket_option::keep_alive_idle, socket_option::keep_alive_interval,
                                        socket_option::keep_alive_count};

/// The values of tcp_options. 0 leaves one as the system has it.
using tcp_settings = std::array<int, tcp_options.size()>;

/// When the first keep-alive probe is sent, the pause between probes, and how many stay unanswered before the
/// connection is given up.
inline tcp_settings keep_alive_times(std::chrono::seconds idle, std::chrono::seconds interval, int count) noexcept {
  const auto limited = [](auto value) { return static_cast<int>(std::min<std::chrono::seconds::rep>(value, 32767)); };
  return {0, 0, limited(idle.count()), limited(interval.count()), limited(count)};
}

inline tcp_settings tcp_settings_of(const ConnOption& option) noexcept {
  tcp_settings settings{};
  if (option.KeepAlive)
    settings = keep_alive_times(option.KeepAliveIdle, option.KeepAliveInterval, option.KeepAliveCount);
  settings[0] = option.NoDelay;
  settings[1] = option.KeepAlive;
  return settings;
}

/// What the system gives to a socket that was made just now.
struct tcp_birth {
  tcp_settings without_listener{};  ///< 0: not known
  tcp_settings has{};
};

/// Sets what is to be otherwise than the socket has it.
inline std::error_code set(native_socket descriptor, const tcp_settings& settings,
                           const tcp_birth& birth = {}) noexcept {
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const int wanted = settings[i] != 0 ? settings[i] : birth.without_listener[i];
    if (wanted == birth.has[i]) continue;
    if (const auto ec = set_option(descriptor, tcp_options[i], wanted)) return ec;
  }
  return {};
}

/// Sets on a listener what its connections are to have, where they get it from there, and returns what they have. What
/// can't be set there is left to each of them.
inline tcp_birth set_for_accepted([[maybe_unused]] native_socket listener,
                                  [[maybe_unused]] const ConnOption& option) noexcept {
  tcp_birth birth;
#if defined(__linux__)
  for (std::size_t i = 0; i < tcp_options.size(); ++i) {
    if (get_option(listener, tcp_options[i], birth.without_listener[i])) return {};
  }
  birth.has = birth.without_listener;
  const tcp_settings settings = tcp_settings_of(option);
  for (std::size_t i = 0; i < settings.size(); ++i) {
    if (settings[i] != 0 && !set_option(listener, tcp_options[i], settings[i])) birth.has[i] = settings[i];
  }
#endif
  return birth;
}

/// Sets what a ConnOption says of a socket that was made just now. Unix sockets have no TCP options.
inline std::error_code apply(const ConnOption& option, native_socket descriptor, bool is_unix,
                             const tcp_birth& birth = {}) noexcept {
  if (option.RecvBufferSize != 0) {
    if (const auto ec = set_option(descriptor, socket_option::recv_buffer, static_cast<int>(option.RecvBufferSize)))
      return ec;
  }
  if (option.SendBufferSize != 0) {
    if (const auto ec = set_option(descriptor, socket_option::send_buffer, static_cast<int>(option.SendBufferSize)))
      return ec;
  }
  return is_unix ? std::error_code() : set(descriptor, tcp_settings_of(option), birth);
}

}  // namespace gtcp::detail

#endif
