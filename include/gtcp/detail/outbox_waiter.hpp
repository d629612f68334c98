// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_OUTBOX_WAITER_HPP
#define GTCP_DETAIL_OUTBOX_WAITER_HPP

// Who waits for the outbox, in which list, and how a thread does it.

#include <gtcp/detail/copy_bytes.hpp>
#include <gtcp/detail/pkg_writer.hpp>
#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_wait.hpp>

#include <asio/buffer.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// A blocked thread's side of waiting. Lives on its stack.
class thread_wait {
 public:
  /// Waits for a wake() since the last one that was waited for. Called without the outbox's mutex.
  void wait_until(clock::time_point until) {
    std::unique_lock lock(mutex_);
    const auto is_woken = [this] { return is_woken_; };
    if (until == no_deadline)
      woken_.wait(lock, is_woken);
    else
      woken_.wait_until(lock, until, is_woken);
    is_woken_ = false;
  }

  /// Called under the outbox's mutex, so that it ends before the thread can go away.
  void wake() {
    if (waker != nullptr) waker->signal();
    const std::lock_guard lock(mutex_);
    is_woken_ = true;
    woken_.notify_one();
  }

  detail::waker* waker = nullptr;  ///< set while the thread waits in the system for the descriptor
  bool drains = false;             ///< this thread drains the outbox while it waits
  thread_wait* next = nullptr;

 private:
  std::mutex mutex_;
  std::condition_variable woken_;
  bool is_woken_ = false;
};

/// One that waits for the outbox: a package with a sender, or a flush. Owned by the sender; the outbox only links it.
class outbox_waiter {
 public:
  std::uint64_t id = 0;     ///< names an asynchronous operation that can be cancelled
  std::error_code error{};  ///< the result, when it is done
  bool done = false;

  /// Called under the outbox's mutex when it is done. A thread wakes itself here and returns false; of what returns
  /// true complete() is called after the mutex was released.
  virtual bool finished() = 0;
  virtual void complete() = 0;

  /// Called under the outbox's mutex when the default deadline of sends has changed, and of an asynchronous one when it
  /// is queued: it looks at its deadline (again).
  virtual void deadline_changed() = 0;

  /// Whether it waits in an execution context, and not in a thread of its own. Called under the outbox's mutex.
  virtual bool is_asynchronous() const noexcept { return false; }
  /// Instead of complete(), when that context has ended: frees the operation without calling its handler.
  virtual void destroy() noexcept {}

 protected:
  explicit outbox_waiter(bool is_flush) : is_flush_(is_flush) {}
  ~outbox_waiter() = default;

 private:
  friend class outbox;
  friend class outbox_list;
  const bool is_flush_;
  bool is_abandoned_ = false;  ///< its context has ended
  outbox_waiter* next_ = nullptr;
  outbox_waiter* previous_ = nullptr;
};

class outbox_list {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  outbox_waiter* first() const noexcept { return first_; }
  static outbox_waiter* next(const outbox_waiter& waiter) noexcept { return waiter.next_; }

  void push_back(outbox_waiter& waiter) noexcept {
    waiter.next_ = nullptr;
    waiter.previous_ = std::exchange(last_, &waiter);
    (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = &waiter;
  }

  void push_front(outbox_waiter& waiter) noexcept {
    waiter.previous_ = nullptr;
    waiter.next_ = std::exchange(first_, &waiter);
    (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = &waiter;
  }

  void remove(outbox_waiter& waiter) noexcept {
    (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
    (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
  }

 private:
  outbox_waiter* first_ = nullptr;
  outbox_waiter* last_ = nullptr;
};

/// A package, or raw bytes, to be sent. What it points to must stay as it is until it is done.
class send_record : public outbox_waiter {
 public:
  pkg_header header{};
  asio::const_buffer payload{};
  bool direct = false;  ///< done only when it is with the system

  std::size_t size() const noexcept { return header.size + payload.size(); }

 protected:
  send_record() : outbox_waiter(false) {}
  ~send_record() = default;

 private:
  friend class outbox;

  /// How it waits until nobody else writes: not at all, its thread asleep, told to wake up, or awake.
  enum class claim : unsigned char { none, asleep, called, awake };

  std::size_t written_ = 0;
  std::error_code stop_{};  ///< its sender gave up while a write of it was under way
  bool in_flight_ = false;  ///< part of the write that is under way
  bool is_kept_ = false;    ///< a kept_package
  claim claim_ = claim::none;
  thread_wait* thread_ = nullptr;  ///< of claim_
};

/// A package in the queue whose sender does not wait for it: it was accepted, with a copy of its bytes. Frees itself.
class kept_package final : public send_record {
 public:
  /// The copy; nullptr without memory for it.
  static kept_package* make(const send_record& record) noexcept {
    try {
      auto kept = std::make_unique<kept_package>();
      assign_bytes(kept->bytes_, static_cast<const char*>(record.payload.data()), record.payload.size());
      kept->header = record.header;
      kept->payload = asio::buffer(kept->bytes_);
      return kept.release();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  bool finished() override { return true; }
  void complete() override { delete this; }
  void deadline_changed() override {}

 private:
  std::string bytes_;
};

/// Done when everything that was accepted before it is with the system.
class flush_record : public outbox_waiter {
 protected:
  flush_record() : outbox_waiter(true) {}
  ~flush_record() = default;

 private:
  friend class outbox;
  std::uint64_t target_ = 0;
  std::uint64_t kept_target_ = 0;
  std::uint64_t take_ = 0;  ///< the write that took the last byte before it; 0: not yet
};

}  // namespace gtcp::detail

#endif
