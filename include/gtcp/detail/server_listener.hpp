// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_LISTENER_HPP
#define GTCP_DETAIL_SERVER_LISTENER_HPP

// The descriptor that a server listens on. Whoever accepts does so under the listener's mutex and waits through it, so
// that close() can close the descriptor at once, from any thread, without anybody using it afterwards.

#include <gtcp/detail/address.hpp>
#include <gtcp/detail/dialer.hpp>
#include <gtcp/detail/freed_descriptors.hpp>
#include <gtcp/detail/platform_address.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_process.hpp>
#include <gtcp/detail/platform_socket.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/detail/rearm_gate.hpp>
#include <gtcp/detail/tcp_settings.hpp>
#include <gtcp/error.hpp>
#include <gtcp/server_option.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp::detail {

/// One who waits for connections asynchronously. Both are called under the listener's mutex.
class listener_watcher {
 public:
  /// Stops using the descriptor, which is about to be closed.
  virtual void leave_descriptor() noexcept = 0;
  /// Makes it look again.
  virtual void wake() noexcept = 0;

 protected:
  ~listener_watcher() = default;
};

/// A connection that a listener has taken.
struct accepted_socket {
  native_socket descriptor = invalid_native_socket;
  socket_address peer;
};

class server_listener {
 public:
  enum class outcome { accepted, none_waits, failed, closed };

  server_listener() = default;
  ~server_listener() { close(); }
  server_listener(const server_listener&) = delete;
  server_listener& operator=(const server_listener&) = delete;

  /// Begins to listen. On an error `why` says what was tried.
  std::error_code open(const std::string& text, const ServerOption& option, std::string& why) {
    address parsed;
    if (const auto ec = parse_address(text, parsed, why)) return ec;
    why = "cannot listen on address \"" + text + "\"";
    std::vector<socket_address> targets;
    if (const auto ec = find_targets(parsed, option, targets)) return ec;
    std::error_code error = asio::error::host_not_found;
    for (const socket_address& target : targets) {
      error = try_open(target, parsed, option);
      if (!error) {
        why.clear();
        return {};
      }
      if (!is_no_address_here(error)) break;
    }
    return error;
  }

  bool is_unix() const noexcept { return !path_.empty(); }
  /// -1 for a unix socket.
  int port() const noexcept { return port_; }

  /// Takes a connection that waits, without waiting for one. Right after another one it may not even look, and say that
  /// none waits: where connections come one by one that saves a system call for each.
  outcome accept(accepted_socket& accepted, std::error_code& error) {
    const std::lock_guard lock(mutex_);
    if (closed_) return outcome::closed;
    if (took_one_ && !further_.is_open()) {
      took_one_ = false;
      return outcome::none_waits;
    }
    accepted.descriptor = accept_socket(descriptor_, accepted.peer, error);
    if (took_one_) further_.note(!error);
    took_one_ = !error;
    if (!error) return outcome::accepted;
    if (accepted.descriptor != invalid_native_socket) close_socket(accepted.descriptor, false);
    return error == asio::error::would_block ? outcome::none_waits : outcome::failed;
  }

  /// Sets what a ConnOption says of the socket.
  std::error_code apply(const ConnOption& option, const accepted_socket& accepted) noexcept {
    if (is_unix()) return detail::apply(option, accepted.descriptor, true);
    return detail::apply(option, accepted.descriptor, false, birth_.of(accepted.descriptor));
  }

  /// Waits in the calling thread for a connection, or for close(); may return early.
  void wait() {
    struct unlisted_at_exit {
      server_listener& listener;
      ~unlisted_at_exit() {
        const std::lock_guard lock(listener.mutex_);
        listener.waiting_ = nullptr;
        listener.changed_.notify_all();
      }
    };
    waker& wake = waker::of_this_thread();
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      waiting_ = &wake;
    }
    const unlisted_at_exit guard{*this};  // also when the thread is cancelled
    wait_descriptor(descriptor_, wait_direction::read, wake, no_deadline);
  }

  /// Waits in the calling thread for `until`, a descriptor that is freed (after `seen` of them were), or close().
  void pause(clock::time_point until, std::uint64_t seen) {
    freed_descriptors::of_this_process().wait(seen, until, [this] { return closed_.load(); });
  }

  void set_watcher(listener_watcher* watcher) {
    const std::lock_guard lock(mutex_);
    watcher_ = watcher;
  }

  /// Calls `use` with the descriptor, while nobody closes it. False: it is closed.
  template <class Use>
  bool with_descriptor(const Use& use) {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    use(descriptor_);
    return true;
  }

  /// Stops listening; when it returns the address is free. Any number of times, from any thread.
  void close() noexcept {
    if (abandoned_) return;
    std::unique_lock lock(mutex_);
    if (closed_.exchange(true)) return;
    freed_descriptors::of_this_process().wake();
    if (watcher_ != nullptr) {
      watcher_->leave_descriptor();
      watcher_->wake();
    }
    changed_.notify_all();
    // The system holds the port while a thread waits for the descriptor, and its number must not be used again under
    // that thread. No user's code runs in there.
    while (waiting_ != nullptr) {
      waiting_->signal();
      changed_.wait(lock);
    }
    if (descriptor_ == invalid_native_socket) return;
    // The file goes first, while nobody else can have the path. In a child process it is the parent's.
    if (file_ && !process_.is_inherited() && file_ == file_identity_of(path_)) remove_socket_file(path_);
    close_socket(std::exchange(descriptor_, invalid_native_socket), false);
  }

  /// Closes a child process's copy of a descriptor that its parent uses: the mutex may be locked for ever.
  void abandon() noexcept {
    if (std::exchange(abandoned_, true)) return;
    if (descriptor_ != invalid_native_socket) close_socket(std::exchange(descriptor_, invalid_native_socket), false);
  }

 private:
  static std::error_code find_targets(const address& parsed, const ServerOption& option,
                                      std::vector<socket_address>& targets) {
    if (parsed.is_unix) {
      targets.push_back(socket_address::of_unix(parsed.path));
      return {};
    }
    if (parsed.host.empty()) {
      targets.push_back(to_socket_address({asio::ip::address_v6::any(), parsed.port}));
      if (!option.V6Only) targets.push_back(to_socket_address({asio::ip::address_v4::any(), parsed.port}));
      return {};
    }
    std::error_code error;
    const auto host = asio::ip::make_address(parsed.host, error);
    if (!error) {
      targets.push_back(to_socket_address({host, parsed.port}));
      return {};
    }
    asio::io_context unused;
    asio::ip::tcp::resolver resolver(unused);
    const auto results =
        resolver.resolve(parsed.host, std::to_string(parsed.port), asio::ip::tcp::resolver::numeric_service, error);
    if (error) return error;
    // As in Go: a name stands for its first IPv4 address, if it has one. (No stable_partition: clang 19 warns of what
    // libstdc++ 12 has in it.)
    for (const bool v4 : {true, false}) {
      for (const auto& result : results) {
        if (result.endpoint().address().is_v4() == v4) targets.push_back(to_socket_address(result.endpoint()));
      }
    }
    return {};
  }

  std::error_code try_open(const socket_address& target, const address& parsed, const ServerOption& option) {
    std::error_code error;
    descriptor_guard opened(open_socket(target.family(), error));
    if (error) return error;
    if (!parsed.is_unix) {
#if !defined(ASIO_WINDOWS)  // where it would let two servers share a port
      if (option.ReuseAddress) {
        if (const auto ec = set_option(opened.get(), socket_option::reuse_address, 1)) return ec;
      }
#endif
      if (target.family() == asio::ip::tcp::v6().family()) {
        if (const auto ec = set_option(opened.get(), socket_option::v6_only, option.V6Only ? 1 : 0)) return ec;
      }
      birth_.prepare(opened.get(), option.Conn);
    }
    {
      // Else, of two servers that begin at once, one could take the other one's file for a stale one.
      std::optional<directory_lock> others_wait;
      if (parsed.is_unix) others_wait.emplace(parsed.path);
      error = bind_socket(opened.get(), target);
      if (error == asio::error::address_in_use && parsed.is_unix && is_stale(target)) {
        remove_socket_file(parsed.path);
        error = bind_socket(opened.get(), target);
      }
      if (!error) error = listen_socket(opened.get(), option.Backlog);
      if (error) return error;
    }
    if (parsed.is_unix) {
      path_ = parsed.path;
      file_ = file_identity_of(path_);
    } else {
      const socket_address bound = socket_address::of(opened.get());
      if (bound.empty()) return last_system_error();
      port_ = to_endpoint(bound).port();
    }
    descriptor_ = opened.release();
    return {};
  }

  /// Whether nobody listens on a unix socket's file.
  static bool is_stale(const socket_address& target) {
    std::error_code error;
    const descriptor_guard probe(open_socket(target.family(), error));
    if (error) return false;
    return connect_socket(probe.get(), target) == asio::error::connection_refused;
  }

  const process_mark process_;
  std::mutex mutex_;
  std::condition_variable changed_;
  native_socket descriptor_ = invalid_native_socket;
  std::string path_;  ///< of a unix socket
  file_identity file_;
  int port_ = -1;
  rearm_gate further_;  ///< whether others wait behind one that was taken
  bool took_one_ = false;
  accepted_birth birth_;
  std::atomic<bool> closed_{false};  ///< written under the mutex
  bool abandoned_ = false;
  waker* waiting_ = nullptr;
  listener_watcher* watcher_ = nullptr;
};

}  // namespace gtcp::detail

#endif
