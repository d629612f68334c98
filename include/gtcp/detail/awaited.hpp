// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_AWAITED_HPP
#define GTCP_DETAIL_AWAITED_HPP

// The completion token behind the awaited form of operations: as asio::use_awaitable, but what the operation failed
// with is reported as the blocking form does it. The exception is made without being thrown, and no coroutine of ours
// is between the operation and the one that awaits it.

#include <gtcp/error.hpp>

#include <asio/associator.hpp>
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

/// Takes an error_code, and calls a handler that takes what is to be thrown.
template <class Handler, class Describe>
struct awaited_handler {
  Handler handler;
  awaited<Describe> token;

  template <class... Results>
  void operator()(const std::error_code& error, Results&&... results) {
    std::move(handler)(token.outcome(error), std::forward<Results>(results)...);
  }
};

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
          using adapted = gtcp::detail::awaited_handler<decltype(handler), Describe>;
          std::move(initiation)(adapted{std::move(handler), std::move(ending)}, std::move(given)...);
        },
        awaitable, std::forward<Token>(token), std::forward<Args>(args)...);
  }
};

/// What is associated with the handler inside.
template <template <class, class> class Associator, class Handler, class Describe, class Default>
struct asio::associator<Associator, gtcp::detail::awaited_handler<Handler, Describe>, Default>
    : Associator<Handler, Default> {
  using adapted = gtcp::detail::awaited_handler<Handler, Describe>;

  static typename Associator<Handler, Default>::type get(const adapted& outer) noexcept {
    return Associator<Handler, Default>::get(outer.handler);
  }
  static auto get(const adapted& outer, const Default& standard) noexcept
      -> decltype(Associator<Handler, Default>::get(outer.handler, standard)) {
    return Associator<Handler, Default>::get(outer.handler, standard);
  }
};

#endif
