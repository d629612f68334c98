// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_HANDLER_HPP
#define GTCP_DETAIL_SERVER_HANDLER_HPP

// What a server does with a connection: any callable that takes a Conn. Its return type says how it is run.

#include <gtcp/conn.hpp>

#include <asio/awaitable.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

/// Calls with an lvalue, which lives as long as the connection is served, or with a copy where that is asked for.
template <class Callable>
decltype(auto) call_server_handler(Callable& callable, Conn& conn) {
  if constexpr (std::invocable<Callable&, Conn&>)
    return callable(conn);
  else
    return callable(Conn(conn));
}

template <class Callable, class Result>
concept server_handler_returning =
    (std::invocable<Callable&, Conn&> || std::invocable<Callable&, Conn>)&&requires(Callable& callable, Conn& conn) {
      { call_server_handler(callable, conn) } -> std::same_as<Result>;
    };

template <class Callable>
concept server_callable =
    server_handler_returning<Callable, void> || server_handler_returning<Callable, asio::awaitable<void>>;

/// Is called for every package; `pkg` is valid during the call.
using pkg_handler = std::function<void(Conn& conn, std::string_view pkg)>;
/// Is called before the first package.
using open_handler = std::function<void(Conn& conn)>;
/// Is called after the last package; `reason` as Conn::CloseReason says it.
using close_handler = std::function<void(Conn& conn, std::error_code reason)>;

/// What a package handler is made of. The empty ones are not called.
struct pkg_handlers {
  pkg_handler on_pkg;
  open_handler on_open;
  close_handler on_close;
};

/// A handler that is called for every connection, from several threads at once. Copies share the callable.
class server_handler {
 public:
  server_handler() = default;
  server_handler(std::nullptr_t) {}

  template <class Callable>
    requires(!std::same_as<std::remove_cvref_t<Callable>, server_handler> && server_callable<std::decay_t<Callable>>)
  server_handler(Callable&& callable) {
    using stored = std::decay_t<Callable>;
    if constexpr (std::constructible_from<stored, std::nullptr_t> && std::constructible_from<bool, stored&>) {
      // An empty std::function and a null pointer are no handlers. Looked at as a variable: that the name of a function
      // is never null needs no warning.
      stored given(std::forward<Callable>(callable));
      if (!static_cast<bool>(given)) return;
      holder_ = std::make_shared<holder_of<stored>>(std::move(given));
    } else {
      holder_ = std::make_shared<holder_of<stored>>(std::forward<Callable>(callable));
    }
  }

  explicit operator bool() const noexcept { return holder_ != nullptr; }
  bool is_coroutine() const noexcept { return holder_ != nullptr && holder_->is_coroutine; }

  /// Serves the connection in the calling thread. Only if it is no coroutine.
  void run(Conn& conn) const { holder_->run(conn); }
  /// Makes the coroutine that serves the connection. Only if it is one.
  asio::awaitable<void> make(Conn& conn) const { return holder_->make(conn); }

 private:
  struct holder {
    explicit holder(bool coroutine) : is_coroutine(coroutine) {}
    virtual ~holder() = default;
    virtual void run(Conn& conn) = 0;
    virtual asio::awaitable<void> make(Conn& conn) = 0;
    const bool is_coroutine;
  };

  template <class Callable>
  struct holder_of final : holder {
    static constexpr bool makes_coroutine = server_handler_returning<Callable, asio::awaitable<void>>;

    template <class From>
    explicit holder_of(From&& from) : holder(makes_coroutine), callable(std::forward<From>(from)) {}

    void run([[maybe_unused]] Conn& conn) override {
      if constexpr (!makes_coroutine) call_server_handler(callable, conn);
    }
    asio::awaitable<void> make([[maybe_unused]] Conn& conn) override {
      if constexpr (makes_coroutine)
        return call_server_handler(callable, conn);
      else
        return {};
    }

    Callable callable;
  };

  std::shared_ptr<holder> holder_;
};

}  // namespace gtcp::detail

#endif
