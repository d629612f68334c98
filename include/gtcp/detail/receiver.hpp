// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_RECEIVER_HPP
#define GTCP_DETAIL_RECEIVER_HPP

// A receive that cannot be done at once: what it wants, until when, and where it waits.

#include <gtcp/detail/config.hpp>
#include <gtcp/detail/lane.hpp>
#include <gtcp/detail/outbox.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/pkg_option.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/steady_timer.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp::detail {

class async_receiver;
class conn_state;

/// A receive that waits: for the lane, or as its holder for input. A blocked thread or an asynchronous operation.
class receiver : public lane_waiter {
 public:
  receiver(recv_goal&& wanted, time_limit give_up_at) : goal(std::move(wanted)), limit(give_up_at) {}

  recv_goal goal;
  time_limit limit;
  std::error_code stop{};  ///< why it is to give up; under the connection's mutex

  /// Under the connection's mutex: the default deadline changed, or `stop` was set; look at them again.
  virtual void deadline_changed() = 0;
  virtual async_receiver* asynchronous() noexcept { return nullptr; }

 protected:
  ~receiver() = default;

 private:
  friend class conn_state;
  receiver* next_ = nullptr;
  receiver* previous_ = nullptr;
  bool listed_ = false;
};

/// Lets a receive that pauses go on when the outbox has room again.
class room_waiter final : public flush_record {
 public:
  explicit room_waiter(async_receiver& op) : op_(op) {}
  bool finished() override { return true; }
  GTCP_DECL void complete() override;
  bool is_asynchronous() const noexcept override { return true; }
  GTCP_DECL void destroy() noexcept override;
  void deadline_changed() override {}

 private:
  async_receiver& op_;
};

/// An asynchronous receive without its handler, which only the template on top of it knows.
class async_receiver : public receiver {
 public:
  /// `into`: where the result goes; nullptr if it is_pump_.
  async_receiver(std::shared_ptr<conn_state> conn, recv_goal&& wanted, time_limit give_up_at, std::string* into)
      : receiver(std::move(wanted), give_up_at), conn_(std::move(conn)), into_(into) {}

  std::uint64_t id = 0;
  Retry retry{};

  /// Is given a package, if it is_pump_.
  virtual void deliver(std::string_view) {}

  /// The strand on which it goes on, if it needs one.
  virtual const asio::any_io_executor* strand() const noexcept { return nullptr; }

  /// Frees the operation and calls its handler: from an io thread's wait at once, else through its executor.
  virtual void complete(std::error_code error, bool may_dispatch) = 0;
  /// Frees the operation without calling its handler, whose execution context is gone.
  virtual void destroy() noexcept = 0;

  GTCP_DECL bool granted() override;
  GTCP_DECL lane_waiter* resume() override;
  GTCP_DECL void deadline_changed() override;
  async_receiver* asynchronous() noexcept override { return this; }

 protected:
  ~async_receiver() = default;

  bool is_pump_ = false;  ///< wants package after package, and never completes with one
  const std::shared_ptr<conn_state>& conn() const noexcept { return conn_; }

 private:
  friend class conn_state;
  enum class stage : unsigned char { stepping, queued, waiting };

  std::shared_ptr<conn_state> conn_;
  std::string* const into_;
  stage stage_ = stage::stepping;
  bool holds_lane_ = false;
  bool last_try_ = false;
  bool may_end_quietly_ = false;
  bool is_abandoned_ = false;  ///< its context has ended
  bool tried_again_ = false;   ///< it waited for others instead of for input
  bool wants_write_ = false;   ///< the wait is over, too, when the transport takes bytes
  std::unique_ptr<asio::steady_timer> timer_;
  std::unique_ptr<asio::steady_timer> pause_;  ///< between tries
  std::unique_ptr<room_waiter> room_;          ///< for the outbox
};

inline void room_waiter::complete() { lane::run(op_.resume()); }

}  // namespace gtcp::detail

#endif
