// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CANCEL_RELAY_HPP
#define GTCP_DETAIL_CANCEL_RELAY_HPP

// Cancelling a coroutine from any thread: Asio's cancellation states belong to the coroutine's strand.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <gtcp/detail/config.hpp>
#include <gtcp/detail/scarce_memory.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/post.hpp>

#include <functional>
#include <memory>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Stands between the user's cancellation slot and that of a coroutine: what any thread says to the first reaches the
/// second on the coroutine's strand.
class cancel_relay : public std::enable_shared_from_this<cancel_relay> {
 public:
  explicit cancel_relay(asio::any_io_executor strand) : strand_(std::move(strand)) {}
  cancel_relay(const cancel_relay&) = delete;
  cancel_relay& operator=(const cancel_relay&) = delete;

  template <class Slot>
  static std::shared_ptr<cancel_relay> make(Slot slot, const asio::any_io_executor& strand) {
    const auto relay = std::make_shared<cancel_relay>(strand);
    if (slot.is_connected()) {
      slot.assign([weak = std::weak_ptr(relay)](asio::cancellation_type type) {
        const auto alive = weak.lock();
        if (alive == nullptr) return;
        insist([&alive, type] { asio::post(alive->strand_, [alive, type] { alive->signal_.emit(type); }); });
      });
    }
    return relay;
  }

  /// Runs the one coroutine; `ended` is called on the strand, with the code of the exception that left it, if one has:
  /// it was cancelled between two steps, or there was no memory. If it throws, nothing has begun.
  GTCP_DECL void spawn(asio::awaitable<void> coroutine, std::function<void(const std::error_code&)> ended);

 private:
  const asio::any_io_executor strand_;
  asio::cancellation_signal signal_;
};

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/cancel_relay.hpp>
#endif

#endif
