// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONTEXT_END_HPP
#define GTCP_DETAIL_CONTEXT_END_HPP

// What waits in a user's execution context is told when that ends. The handlers that Asio holds then are destroyed by
// it; but who waits for room in an outbox, or for a connection to close, is known to the connection alone.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <gtcp/detail/platform_process.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/execution/context.hpp>
#include <asio/execution_context.hpp>
#include <asio/query.hpp>

#include <memory>
#include <mutex>
#include <utility>

namespace gtcp::detail {

/// Keeps somebody listed with an execution context, until that ends or this is destroyed.
class context_membership {
 public:
  /// `user->on_context_end()` is called when the context is being destroyed: its services are still there, but it runs
  /// nothing any more. Called once, under no lock; must not throw.
  ///
  /// Errors: std::bad_alloc. Without memory for it nobody is listed.
  template <class User>
  context_membership(const asio::any_io_executor& executor, const std::shared_ptr<User>& user)
      : list_(asio::use_service<service>(asio::query(executor, asio::execution::context)).members),
        user_(user),
        tell_([](void* told) noexcept { static_cast<User*>(told)->on_context_end(); }) {
    if (list_->process.is_inherited()) return;
    const std::lock_guard lock(list_->mutex);
    listed_ = true;
    next_ = list_->first;
    if (next_ != nullptr) next_->previous_ = this;
    list_->first = this;
  }
  ~context_membership() {
    if (list_->process.is_inherited()) return;
    const std::lock_guard lock(list_->mutex);
    list_->remove(*this);
  }
  context_membership(const context_membership&) = delete;
  context_membership& operator=(const context_membership&) = delete;

 private:
  struct list {
    const process_mark process;  ///< a child leaves it alone: a thread that it does not have may hold the mutex
    std::mutex mutex;
    context_membership* first = nullptr;

    /// Under the mutex.
    void remove(context_membership& member) noexcept {
      if (!std::exchange(member.listed_, false)) return;
      (member.previous_ != nullptr ? member.previous_->next_ : first) = member.next_;
      if (member.next_ != nullptr) member.next_->previous_ = member.previous_;
    }
  };

  class service final : public asio::execution_context::service {
   public:
    using key_type = service;
    inline static asio::execution_context::id id;

    explicit service(asio::execution_context& context) : asio::execution_context::service(context) {}

    /// Members may outlive the context.
    const std::shared_ptr<list> members = std::make_shared<list>();

   private:
    void shutdown() override {
      if (members->process.is_inherited()) return;
      std::unique_lock lock(members->mutex);
      while (context_membership* const member = members->first) {
        members->remove(*member);
        const auto tell = member->tell_;
        std::shared_ptr<void> user = member->user_.lock();  // none: it is being destroyed
        lock.unlock();
        if (user != nullptr) tell(user.get());
        user = nullptr;
        lock.lock();
      }
    }
  };

  const std::shared_ptr<list> list_;
  const std::weak_ptr<void> user_;
  void (*const tell_)(void*) noexcept;
  context_membership* next_ = nullptr;
  context_membership* previous_ = nullptr;
  bool listed_ = false;
};

}  // namespace gtcp::detail

#endif
