// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_EXCHANGE_HPP
#define GTCP_DETAIL_EXCHANGE_HPP

// A send and the receive of what it is answered with as one operation with a completion token.
//
// Both steps have their numbers from the beginning, and the handler's cancellation slot is filled once, before the
// first one: a slot that is filled anew between them, on an io thread, would race with a thread that emits.

#include <gtcp/detail/async_op.hpp>
#include <gtcp/payload.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/associator.hpp>
#include <asio/async_result.hpp>
#include <asio/cancellation_type.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// What completes the send: begins the receive, with the handler of both.
template <class Handler>
class exchange_step {
 public:
  exchange_step(Handler&& handler, const prepared& op, recv_goal&& goal, time_limit limit)
      : conn_(op.conn), goal_(std::move(goal)), limit_(limit), retry_(op.retry), handler_(std::move(handler)) {}

  const Handler& handler() const noexcept { return handler_; }

  /// If it throws, the step is as it was.
  void start(pkg_header header, AsyncPayload data) {
    const std::uint64_t send_id = conn_->next_operation_id();
    receive_id_ = conn_->next_operation_id();
    auto slot = asio::get_associated_cancellation_slot(handler_);
    if (slot.is_connected()) {
      cancelled_ = std::make_shared<std::atomic<bool>>(false);
      slot.assign([weak = std::weak_ptr(conn_), cancelled = cancelled_, send_id,
                   receive_id = receive_id_](asio::cancellation_type) {
        cancelled->store(true);  // first: a receive that begins meanwhile sees it, or is found
        const auto state = weak.lock();
        if (state == nullptr) return;
        state->out().stop(send_id, asio::error::operation_aborted);
        state->stop_receive(receive_id, asio::error::operation_aborted);
      });
    }
    const conn_ptr conn = conn_;
    const time_limit limit = limit_;
    const Retry retry = retry_;
    async_send_op<exchange_step, send_record>::start_as(send_id, std::move(*this), conn, std::move(data), limit, retry,
                                                        cancelled_, submits(*conn, header));
  }

  void operator()(std::error_code error) {
    if (!error && is_marked(cancelled_)) error = asio::error::operation_aborted;
    if (error) return std::move(handler_)(error, std::string());
    const auto begin = [this] {
      async_receive_op<Handler, true>::start_as(receive_id_, std::move(handler_), conn_, std::move(goal_), limit_,
                                                retry_, nullptr);
    };
    begin_or_refuse(
        handler_, [this] { return conn_->executor(); }, std::error_code(), begin, std::string());
    // Who cancelled while it began may have come too early to find it.
    if (is_marked(cancelled_)) conn_->stop_receive(receive_id_, asio::error::operation_aborted);
  }

 private:
  conn_ptr conn_;
  recv_goal goal_;
  time_limit limit_;
  Retry retry_;
  std::uint64_t receive_id_ = 0;
  cancel_mark cancelled_;
  Handler handler_;
};

/// Sends, then receives.
template <class Token>
auto async_send_receive(prepared op, pkg_header header, AsyncPayload data, recv_goal goal, time_limit limit,
                        Token&& token) {
  const auto initiate = [](auto handler, const prepared& checked, pkg_header head, AsyncPayload bytes, recv_goal wanted,
                           time_limit until) {
    exchange_step<decltype(handler)> first(std::move(handler), checked, std::move(wanted), until);
    const auto begin = [&] { first.start(head, std::move(bytes)); };
    begin_or_refuse(
        first, [&] { return checked.executor(); }, checked.error, begin);
  };
  return asio::async_initiate<Token, void(std::error_code, std::string)>(
      initiation_on(op, initiate), token, std::move(op), header, std::move(data), std::move(goal), limit);
}

}  // namespace gtcp::detail

/// What is associated with the handler of both steps.
template <template <class, class> class Associator, class Handler, class Default>
struct asio::associator<Associator, gtcp::detail::exchange_step<Handler>, Default> : Associator<Handler, Default> {
  using step = gtcp::detail::exchange_step<Handler>;

  static typename Associator<Handler, Default>::type get(const step& outer) noexcept {
    return Associator<Handler, Default>::get(outer.handler());
  }
  static auto get(const step& outer, const Default& standard) noexcept
      -> decltype(Associator<Handler, Default>::get(outer.handler(), standard)) {
    return Associator<Handler, Default>::get(outer.handler(), standard);
  }
};

#endif
