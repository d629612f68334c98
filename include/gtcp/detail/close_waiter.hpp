// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CLOSE_WAITER_HPP
#define GTCP_DETAIL_CLOSE_WAITER_HPP

// Who waits for the end of closing.

namespace gtcp::detail {

/// One that waits for the end of closing.
class close_waiter {
 public:
  /// Called under the connection's mutex when nothing can change any more. A thread wakes itself here and returns
  /// false; of what returns true complete() is called after the mutex was released.
  virtual bool finished(bool delivered) = 0;
  virtual void complete() = 0;
  virtual bool is_thread() const noexcept { return false; }
  /// Instead of complete(), when its context has ended: frees the operation without calling its handler.
  virtual void destroy() noexcept {}

 protected:
  ~close_waiter() = default;

 private:
  friend class conn_state;
  close_waiter* next_ = nullptr;
};

}  // namespace gtcp::detail

#endif
