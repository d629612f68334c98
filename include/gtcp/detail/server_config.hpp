// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_CONFIG_HPP
#define GTCP_DETAIL_SERVER_CONFIG_HPP

// What a server is told, by any thread and at any time. A connection goes by what held when it came.

#include <gtcp/detail/peer_limits.hpp>
#include <gtcp/detail/server_handler.hpp>
#include <gtcp/detail/server_session.hpp>
#include <gtcp/server_option.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace gtcp::detail {

/// What a connection is served by.
struct service {
  server_handler handler;
  std::shared_ptr<const pkg_handlers> packages;  ///< where there is no handler
  std::shared_ptr<const ServerOption> option;
  std::shared_ptr<const server_layer> layer;  ///< may be none
  std::shared_ptr<receive_memory> memory;     ///< that its connections share, if it has a limit

  bool pumps() const noexcept { return packages != nullptr && packages->on_pkg; }
};

/// Thread safety: all members may be called by any thread. They lock the server's mutex, and what is replaced is
/// destroyed outside of it: that may hold the last handle of a server.
class server_config {
 public:
  server_config(std::mutex& mutex, std::string_view address, server_handler handler, const ServerOption& option)
      : mutex_(mutex),
        address_(address),
        handler_(std::move(handler)),
        option_(std::make_shared<const ServerOption>(option)) {}

  void set_address(std::string_view address) {
    const std::lock_guard lock(mutex_);
    address_ = address;
  }
  std::string address() const {
    const std::lock_guard lock(mutex_);
    return address_;
  }
  void set_handler(server_handler handler) {
    std::shared_ptr<const pkg_handlers> replaced;
    const std::lock_guard lock(mutex_);
    std::swap(handler_, handler);
    if (handler_) replaced = change_pkg_handlers([](pkg_handlers& all) { all.on_pkg = nullptr; });
  }
  /// Changes what package handlers consist of. One for packages takes the place of the handler.
  template <class Change>
  void set_pkg_handlers(const Change& change) {
    server_handler none;
    std::shared_ptr<const pkg_handlers> replaced;
    const std::lock_guard lock(mutex_);
    replaced = change_pkg_handlers(change);
    if (pkg_handlers_->on_pkg) std::swap(handler_, none);
  }
  /// To what `changed(layer)` makes of the one before; nullptr is none.
  template <class Changed>
  void change_layer(const Changed& changed) {
    std::shared_ptr<const server_layer> before;
    const std::lock_guard lock(mutex_);
    before = std::exchange(layer_, changed(layer_));
  }
  void set_option(const ServerOption& option) {
    auto fresh = std::make_shared<const ServerOption>(option);
    const std::lock_guard lock(mutex_);
    std::swap(option_, fresh);
  }
  void set_error_callback(ServerErrorCallback callback) {
    std::shared_ptr<const ServerOption> replaced;
    const std::lock_guard lock(mutex_);
    auto fresh = std::make_shared<ServerOption>(*option_);
    fresh->ErrorCallback = std::move(callback);
    replaced = std::exchange(option_, std::move(fresh));
  }
  std::shared_ptr<const ServerOption> option() const {
    const std::lock_guard lock(mutex_);
    return option_;
  }

  bool has_handler() const {
    const std::lock_guard lock(mutex_);
    return handler_ || pkg_handlers_->on_pkg;
  }

  /// Whether the handlers run on the io threads of the default Runtime, and not in threads of their own.
  bool serves_on_runtime() const {
    const std::lock_guard lock(mutex_);
    return !option_->Conn.Executor && (!handler_ || handler_.is_coroutine());
  }

  /// For a connection that has come.
  service now() {
    const std::lock_guard lock(mutex_);
    return {handler_, handler_ ? nullptr : pkg_handlers_, option_, layer_, shared_memory()};
  }

 private:
  /// Under the mutex.
  std::shared_ptr<receive_memory> shared_memory() {
    const std::size_t max = option_->MaxReceiveMemory;
    if (max == 0)
      memory_ = nullptr;
    else if (memory_ == nullptr || memory_->max != max)
      memory_ = std::make_shared<receive_memory>(max);
    return memory_;
  }

  /// Under the mutex; returns the old ones, which are to be destroyed outside of it.
  template <class Change>
  std::shared_ptr<const pkg_handlers> change_pkg_handlers(const Change& change) {
    auto fresh = std::make_shared<pkg_handlers>(*pkg_handlers_);
    change(*fresh);
    return std::exchange(pkg_handlers_, std::move(fresh));
  }

  std::mutex& mutex_;
  std::string address_;
  server_handler handler_;
  std::shared_ptr<const pkg_handlers> pkg_handlers_ = std::make_shared<pkg_handlers>();  ///< where there is no handler_
  std::shared_ptr<const ServerOption> option_;
  std::shared_ptr<const server_layer> layer_;
  std::shared_ptr<receive_memory> memory_;
};

}  // namespace gtcp::detail

#endif
