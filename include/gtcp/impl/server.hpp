// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_SERVER_HPP
#define GTCP_IMPL_SERVER_HPP

// What a Server does: nearly all of it is its state's.

#include <gtcp/detail/awaited.hpp>
#include <gtcp/detail/background_thread.hpp>
#include <gtcp/detail/platform_process.hpp>
#include <gtcp/detail/server_accept.hpp>
#include <gtcp/detail/server_state.hpp>
#include <gtcp/detail/short_mutex.hpp>
#include <gtcp/server.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

namespace detail {

GTCP_DECL void close_server(server_state& server) noexcept { server.close(); }

GTCP_DECL void start_run(const std::shared_ptr<server_state>& server, const asio::any_io_executor& io,
                         const asio::any_io_executor& serves_on, std::string* why,
                         const std::function<void(std::error_code)>& ended) noexcept {
  std::shared_ptr<server_listener> listener;
  try {
    const asio::any_io_executor strand = serial_executor(inner_executor(io));
    std::string ignored;
    const std::error_code error = server->begin_run(listener, false, why != nullptr ? *why : ignored);
    if (listener == nullptr) return ended(error);
    // What a coroutine is spawned with must not throw when it is moved.
    auto call = [own = ended](const std::exception_ptr& failure) {
      own(failure ? no_memory_error() : std::error_code());
    };
    static_assert(std::is_nothrow_move_constructible_v<decltype(call)>);
    start_accepting(server, listener, strand, serves_on, std::move(call));
  } catch (const std::exception&) {
    if (listener != nullptr) {
      server->close();
      server->end_run();
    }
    ended(no_memory_error());
  }
}

GTCP_DECL void start_shutdown(const std::shared_ptr<server_state>& server, clock::time_point until,
                              const std::function<void(std::error_code, ShutdownResult)>& ended) noexcept {
  std::error_code error = no_memory_error();
  try {
    error = start_background_thread([server, until, own = ended] {
      ShutdownResult result;
      std::error_code failure;
      try {
        result = server->shutdown(until);
      } catch (const std::bad_alloc&) {
        failure = no_memory_error();
      }
      own(failure, result);
    });
  } catch (const std::bad_alloc&) {
  }
  if (error) ended(error, ShutdownResult());
}

}  // namespace detail

GTCP_DECL Server::Server(std::string_view address, Handler handler, const ServerOption& option)
    : state_(make(std::make_shared<detail::server_state>(address, std::move(handler), option))) {}

GTCP_DECL void Server::Listen(OnError on_error) const {
  std::string why;
  report("Listen", state()->listen(true, why), why, on_error);
}

GTCP_DECL void Server::Run(OnError on_error) const {
  const std::shared_ptr<detail::server_state> server = state();
  std::string why;
  std::error_code error;
  std::shared_ptr<detail::server_listener> listener;
  if (server->would_deadlock())
    error = Errc::WouldDeadlock;
  else
    error = server->begin_run(listener, true, why);
  if (listener != nullptr) detail::serve_until_closed(server, listener);
  report("Run", error, why, on_error);
}

GTCP_DECL void Server::Start(OnError on_error) const {
  const std::shared_ptr<detail::server_state> server = state();
  std::string why;
  std::shared_ptr<detail::server_listener> listener;
  std::error_code error = server->begin_run(listener, true, why);
  if (!error && listener == nullptr) error = Errc::Closed;
  if (!error) {
    error = detail::start_background_thread([server, listener] { detail::serve_until_closed(server, listener); });
    if (error) {
      server->end_accepting();
      server->end_run();
    }
  }
  report("Start", error, why, on_error);
}

GTCP_DECL void Server::Close() const noexcept { state_->close(); }

GTCP_DECL bool Server::CloseAndWait(Timeout timeout, OnError on_error) const {
  bool delivered = false;
  const std::error_code error = state()->close_and_wait(detail::deadline_after(timeout), delivered);
  report("CloseAndWait", error, {}, on_error);
  return delivered && !error;
}

GTCP_DECL ShutdownResult Server::Shutdown(Timeout grace) const {
  return state()->shutdown(detail::deadline_after(grace));
}

GTCP_DECL ServerStats Server::Stats() const { return state_->stats(); }

GTCP_DECL void Server::SetAddress(std::string_view address) const { state_->config().set_address(address); }

GTCP_DECL std::string Server::GetAddress() const { return state_->config().address(); }

GTCP_DECL void Server::SetHandler(Handler handler) const { state_->config().set_handler(std::move(handler)); }

GTCP_DECL void Server::SetPkgHandler(std::function<void(Conn& conn, std::string_view pkg)> handler) const {
  state_->config().set_pkg_handlers([&](detail::pkg_handlers& all) { all.on_pkg = std::move(handler); });
}

GTCP_DECL void Server::SetOnOpen(std::function<void(Conn& conn)> handler) const {
  state_->config().set_pkg_handlers([&](detail::pkg_handlers& all) { all.on_open = std::move(handler); });
}

GTCP_DECL void Server::SetOnClose(std::function<void(Conn& conn, std::error_code reason)> handler) const {
  state_->config().set_pkg_handlers([&](detail::pkg_handlers& all) { all.on_close = std::move(handler); });
}

GTCP_DECL void Server::SetOption(const ServerOption& option, OnError on_error) const {
  std::string why;
  const std::error_code error = detail::check(option, why);
  if (!error) state_->config().set_option(option);
  report("SetOption", error, why, on_error);
}

GTCP_DECL void Server::SetErrorCallback(ServerErrorCallback callback) const {
  state_->config().set_error_callback(std::move(callback));
}

GTCP_DECL std::string Server::GetListenedAddress() const { return state_->listened_address(); }

GTCP_DECL int Server::GetListenedPort() const { return state_->listened_port(); }

GTCP_DECL std::shared_ptr<detail::server_state> Server::make(std::shared_ptr<detail::server_state> state) {
  detail::server_state* const raw = state.get();
  return {raw, [state = std::move(state)](detail::server_state*) noexcept { state->abandon(); }};
}

GTCP_DECL std::shared_ptr<detail::server_state> Server::state() const { return state_->shared_from_this(); }

GTCP_DECL asio::any_io_executor Server::handlers_executor() const { return state_->config().option()->Conn.Executor; }

GTCP_DECL void Server::report(const char* name, const std::error_code& error, const std::string& why,
                              const OnError& on_error) {
  on_error.Report(error, [&] { return detail::with_reason(std::string("Server::") + name, why); });
}

GTCP_DECL asio::awaitable<ShutdownResult> Server::await_shutdown(std::shared_ptr<detail::server_state> server,
                                                                 Timeout grace, OnError on_error) {
  const detail::awaited ending([](const std::error_code&) { return std::string("Server::AsyncShutdown"); }, on_error);
  return detail::async_shutdown(std::move(server), detail::deadline_after(grace), ending);
}

GTCP_DECL asio::awaitable<void> Server::await_run(std::shared_ptr<detail::server_state> server, OnError on_error) {
  asio::any_io_executor executor = server->config().option()->Conn.Executor;
  if (!executor) executor = co_await asio::this_coro::executor;
  std::error_code error;
  std::string why;
  auto running = detail::async_run(server, executor, executor, &why, asio::redirect_error(asio::use_awaitable, error));
  co_await std::move(running);
  report("AsyncRun", error, why, on_error);
}

namespace detail {

/// The servers that have a name. They stay until the process ends; a child process has its parent's.
class server_registry {
 public:
  static Server get(std::string_view name) {
    const std::lock_guard lock(mutex_);
    return place_for(name);
  }

  static void set(std::string_view name, const Server& server) {
    Server replaced = server;
    const std::lock_guard lock(mutex_);
    std::swap(place_for(name), replaced);
  }

  static void lock() { mutex_.lock(); }
  static void unlock() { mutex_.unlock(); }

 private:
  static Server& place_for(std::string_view name) {
    // Made when it is needed, since a global server may have a name; never destroyed: nothing must wait for it at exit.
    if (servers_ == nullptr) servers_ = new std::map<std::string, Server>;
    return (*servers_)[std::string(name)];
  }

  inline static constinit short_mutex mutex_;  // needs no destructor: threads may ask until the very end
  inline static constinit std::map<std::string, Server>* servers_ = nullptr;
};

// A fork waits until nobody changes them: else the child would find the mutex locked for ever.
inline const int forks_wait_for_server_names = at_fork(&server_registry::lock, &server_registry::unlock);

GTCP_DECL void name_server(std::string_view name, const Server& server) { server_registry::set(name, server); }

}  // namespace detail

GTCP_DECL Server NewServer(std::string_view address, Server::Handler handler, std::string_view name,
                           const ServerOption& option) {
  const Server server(address, std::move(handler), option);
  if (!name.empty()) detail::name_server(name, server);
  return server;
}

GTCP_DECL Server GetServer(std::string_view name) {
  constexpr std::string_view default_name = "default";
  return detail::server_registry::get(name.empty() ? default_name : name);
}

}  // namespace gtcp

#endif
