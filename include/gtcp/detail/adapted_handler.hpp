// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ADAPTED_HANDLER_HPP
#define GTCP_DETAIL_ADAPTED_HANDLER_HPP

// A completion handler in front of another one.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/associator.hpp>

#include <utility>

namespace gtcp::detail {

/// A completion handler that puts its results through `Function` on their way to another one, whose executor,
/// allocator and cancellation slot are its own.
template <class Handler, class Function>
struct adapted_handler {
  Handler handler;
  Function function;

  template <class... Results>
  void operator()(Results&&... results) {
    function(std::move(handler), std::forward<Results>(results)...);
  }
};

template <class Handler, class Function>
adapted_handler<Handler, Function> adapt_handler(Handler handler, Function function) {
  return {std::move(handler), std::move(function)};
}

}  // namespace gtcp::detail

template <template <class, class> class Associator, class Handler, class Function, class Default>
struct asio::associator<Associator, gtcp::detail::adapted_handler<Handler, Function>, Default>
    : Associator<Handler, Default> {
  static decltype(auto) get(const gtcp::detail::adapted_handler<Handler, Function>& adapted) noexcept {
    return Associator<Handler, Default>::get(adapted.handler);
  }
  static decltype(auto) get(const gtcp::detail::adapted_handler<Handler, Function>& adapted,
                            const Default& fallback) noexcept {
    return Associator<Handler, Default>::get(adapted.handler, fallback);
  }
};

#endif
