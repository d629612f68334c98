// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_GUARDED_WAIT_HPP
#define GTCP_DETAIL_GUARDED_WAIT_HPP

// Waits of Asio's that a coroutine is suspended for. Without memory for one Asio throws where nothing may be thrown,
// and the process ends; here the wait ends with an error instead.

#include <gtcp/detail/async_op.hpp>
#include <gtcp/error.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <memory_resource>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// The handler of a guarded wait. Its memory is not of those blocks that io threads use again: it is larger than what a
/// connection waits with, which would get it, and may keep it for days.
template <class Pending>
struct guarded_handler {
  using allocator_type = std::pmr::polymorphic_allocator<std::byte>;
  std::shared_ptr<Pending> kept;

  allocator_type get_allocator() const noexcept { return std::pmr::new_delete_resource(); }
  void operator()(const std::error_code& error) const { std::move(*kept).complete(true, error); }
};

/// Waits by `begin(handler)`, which begins a wait of Asio's; the handler takes a std::error_code, and belongs to
/// `executor`. Completes with void(std::error_code).
template <class Begin, class Token>
auto async_guarded(asio::any_io_executor executor, Begin begin, Token&& token) {
  return asio::async_initiate<Token, void(std::error_code)>(
      [](auto handler, asio::any_io_executor io, Begin start) {
        using pending = pending_handler<decltype(handler)>;
        const auto slot = asio::get_associated_cancellation_slot(handler);
        std::shared_ptr<pending> kept;
        try {
          kept = std::make_shared<pending>(std::move(handler), io);
          start(asio::bind_cancellation_slot(slot, asio::bind_executor(io, guarded_handler<pending>{kept})));
        } catch (const std::exception&) {
          if (kept != nullptr) return std::move(*kept).complete(false, no_memory_error());
          refuse(
              handler, [&io] { return io; }, no_memory_error());
        }
      },
      token, std::move(executor), std::move(begin));
}

/// Lets others run that wait for the coroutine's executor.
inline asio::awaitable<void> await_others() {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  std::error_code ignored;
  const auto begin = [executor](auto&& handler) {
    asio::post(executor, [own = std::move(handler)]() mutable { own(std::error_code()); });
  };
  auto waiting = async_guarded(executor, begin, asio::redirect_error(asio::use_awaitable, ignored));
  co_await std::move(waiting);
}

}  // namespace gtcp::detail

#endif
