// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONN_LEDGER_HPP
#define GTCP_DETAIL_CONN_LEDGER_HPP

// The sum of what a server's connections count: each counts for itself, and leaves its counts behind when it goes.

#include <gtcp/stats.hpp>

#include <memory>
#include <mutex>
#include <utility>

namespace gtcp::detail {

class conn_ledger;

/// One that counts.
class ledger_entry {
 public:
  virtual ConnStats counted() const = 0;

 protected:
  ~ledger_entry() = default;

 private:
  friend class conn_ledger;
  ledger_entry* next_ = nullptr;
  ledger_entry* previous_ = nullptr;
};

/// Thread safety: all members may be called by any thread.
class conn_ledger {
 public:
  void add(ledger_entry& entry) {
    const std::lock_guard lock(mutex_);
    entry.previous_ = nullptr;
    entry.next_ = first_;
    if (first_ != nullptr) first_->previous_ = &entry;
    first_ = &entry;
  }

  void remove(ledger_entry& entry) {
    const std::lock_guard lock(mutex_);
    ConnStats last = entry.counted();
    last.OutboxBytes = 0;  // lost
    gone_ += last;
    (entry.previous_ != nullptr ? entry.previous_->next_ : first_) = entry.next_;
    if (entry.next_ != nullptr) entry.next_->previous_ = entry.previous_;
  }

  ConnStats sum() const {
    const std::lock_guard lock(mutex_);
    ConnStats total = gone_;
    for (const ledger_entry* entry = first_; entry != nullptr; entry = entry->next_) total += entry->counted();
    return total;
  }

 private:
  mutable std::mutex mutex_;
  ledger_entry* first_ = nullptr;
  ConnStats gone_;
};

}  // namespace gtcp::detail

#endif
