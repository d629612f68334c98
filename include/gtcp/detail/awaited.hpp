// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_AWAITED_HPP
#define GTCP_DETAIL_AWAITED_HPP

// The completion token behind the awaited form of operations: as asio::use_awaitable, but what the operation failed
// with is reported as the blocking form does it. The exception is made without being thrown, and no coroutine of ours
// is between the operation and the one that awaits it.

#include <gtcp/detail/adapted_handler.hpp>
#include <gtcp/error.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/use_awaitable.hpp>

#include <exception>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// The token. `describe(error)` makes the text in front of the error's own.
template <class Describe>
struct awaited {
  Describe describe;
  OnError on_error;

  /// Between an operation's handler, which takes an error_code, and one that takes what is to be thrown.
  template <class Handler, class... Results>
  void operator()(Handler&& handler, const std::error_code& error, Results&&... results) const {
    std::forward<Handler>(handler)(outcome(error), std::forward<Results>(results)...);
  }

  /// Fills the error_code, or returns what is to be thrown, if anything.
  std::exception_ptr outcome(const std::error_code& error) const noexcept {
    try {
      if (error && on_error.Throws())
        return std::make_exception_ptr(described_error(error, [&] { return describe(error); }));
      on_error.Report(error, [] { return std::string(); });
      return nullptr;
    } catch (...) {
      return std::current_exception();  // there is no memory for the exception
    }
  }
};

template <class Describe>
awaited(Describe, OnError) -> awaited<Describe>;

}  // namespace gtcp::detail

template <class Describe, class... Results>
class asio::async_result<gtcp::detail::awaited<Describe>, void(std::error_code, Results...)> {
  using signature = void(std::exception_ptr, Results...);

 public:
  using return_type = typename async_result<use_awaitable_t<>, signature>::return_type;

  template <class Initiation, class Token, class... Args>
  static return_type initiate(Initiation initiation, Token&& token, Args&&... args) {
    use_awaitable_t<> awaitable;
    return asio::async_initiate<use_awaitable_t<>, signature>(
        [initiation = std::move(initiation)](auto handler, gtcp::detail::awaited<Describe> ending,
                                             auto... given) mutable {
          using adapted = gtcp::detail::adapted_handler<decltype(handler), gtcp::detail::awaited<Describe>>;
          std::move(initiation)(adapted{std::move(handler), std::move(ending)}, std::move(given)...);
        },
        awaitable, std::forward<Token>(token), std::forward<Args>(args)...);
  }
};

#endif
