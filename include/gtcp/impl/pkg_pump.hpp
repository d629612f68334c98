// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_PKG_PUMP_HPP
#define GTCP_IMPL_PKG_PUMP_HPP

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/pkg_pump.hpp>
#include <gtcp/detail/scarce_memory.hpp>
#include <gtcp/impl/conn_wait.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/execution/outstanding_work.hpp>
#include <asio/post.hpp>
#include <asio/prefer.hpp>

#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// A receive that never completes, but hands each package to its owner.
class pkg_pump final : public async_receiver {
 public:
  /// Makes one that is yet to be started.
  static pkg_pump& make(const conn_ptr& conn, std::unique_ptr<pkg_sink> sink) {
    auto* const pump = new pkg_pump(conn, std::move(sink));
    pump->id = conn->next_operation_id();
    return *pump;
  }

  void deliver(std::string_view pkg) override { sink_->on_pkg(pkg); }

  /// Goes on, on the connection's executor.
  lane_waiter* resume() override {
    const conn_ptr state = conn();
    const bool goes_on = try_twice([this] {
      conn_state::entrust(*this,
                          [this](conn_state::wait_handler&& handler) { asio::post(executor_, std::move(handler)); });
    });
    return goes_on ? nullptr : state->give_up(*this);
  }

  const asio::any_io_executor* strand() const noexcept override { return is_strand_ ? &executor_ : nullptr; }

  void complete(std::error_code error, bool may_dispatch) override {
    auto end = [sink = std::move(sink_), reason = error]() mutable {
      const std::unique_ptr<pkg_sink> last = std::move(sink);
      last->on_end(reason);
    };
    const asio::any_io_executor executor = std::move(executor_);
    delete this;
    using bound = completion<decltype(end)>;
    bound::pass_on(executor, executor, bound(std::move(end)), may_dispatch);
  }

  void destroy() noexcept override { delete this; }

 private:
  pkg_pump(const conn_ptr& conn, std::unique_ptr<pkg_sink> sink)
      : async_receiver(conn, recv_goal::package(conn->format()), {}, nullptr),
        executor_(asio::prefer(conn->executor(), asio::execution::outstanding_work.tracked)),
        sink_(std::move(sink)),
        is_strand_(inner_executor(conn->executor()) != conn->executor()) {
    is_pump_ = true;
  }
  ~pkg_pump() = default;

  asio::any_io_executor executor_;
  std::unique_ptr<pkg_sink> sink_;
  const bool is_strand_;
};

GTCP_DECL void start_pump(const conn_ptr& conn, std::unique_ptr<pkg_sink> sink) {
  lane::run(pkg_pump::make(conn, std::move(sink)).resume());
}

GTCP_DECL void start_pump_here(const conn_ptr& conn, std::unique_ptr<pkg_sink> sink) {
  conn->start(pkg_pump::make(conn, std::move(sink)));
}

}  // namespace gtcp::detail

#endif
