// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TCP_SETTINGS_HPP
#define GTCP_DETAIL_TCP_SETTINGS_HPP

// The socket options of a connection. Those of TCP are set on the listener, too: where accepted sockets have them from
// there, that saves five system calls for each connection.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_socket.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <system_error>
#include <utility>

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
  return {0, 0, limited(idle.count()), limited(interval.count()), std::min(count, 127)};
}

inline tcp_settings tcp_settings_of(const ConnOption& option) noexcept {
  tcp_settings settings{};
  if (option.KeepAlive)
    settings = keep_alive_times(option.KeepAliveIdle, option.KeepAliveInterval, option.KeepAliveCount);
  settings[0] = option.NoDelay;
  settings[1] = option.KeepAlive;
  return settings;
}

/// Nothing where the system does not know all of them.
inline std::optional<tcp_settings> read_tcp_settings(native_socket descriptor) noexcept {
  tcp_settings settings{};
  for (std::size_t i = 0; i < settings.size(); ++i) {
    if (get_option(descriptor, tcp_options[i], settings[i])) return std::nullopt;
  }
  return settings;
}

/// What a socket has that was made just now.
struct tcp_birth {
  tcp_settings of_system{};  ///< 0: not known
  tcp_settings has{};
};

/// Sets what is to be otherwise than the socket has it.
inline std::error_code set(native_socket descriptor, const tcp_settings& settings,
                           const tcp_birth& birth = {}) noexcept {
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const int wanted = settings[i] != 0 ? settings[i] : birth.of_system[i];
    if (wanted == birth.has[i]) continue;
    if (const auto ec = set_option(descriptor, tcp_options[i], wanted)) return ec;
  }
  return {};
}

/// What the connections of a listener have. Not every system hands options on, so it is looked at on the first one.
class accepted_birth {
 public:
  /// Sets on the listener what its connections are to have. What can't be set there is set on each of them.
  void prepare(native_socket listener, const ConnOption& option) noexcept {
    of_system_ = read_tcp_settings(listener);
    if (of_system_) static_cast<void>(set(listener, tcp_settings_of(option)));
  }

  const tcp_birth& of(native_socket accepted) noexcept {
    if (!std::exchange(is_known_, true) && of_system_) {
      if (const auto has = read_tcp_settings(accepted)) birth_ = {*of_system_, *has};
    }
    return birth_;
  }

 private:
  std::optional<tcp_settings> of_system_;
  bool is_known_ = false;
  tcp_birth birth_;
};

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
