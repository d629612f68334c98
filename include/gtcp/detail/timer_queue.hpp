// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TIMER_QUEUE_HPP
#define GTCP_DETAIL_TIMER_QUEUE_HPP

// The order of pending timers: an intrusive radix wheel. No clock, no thread, no lock, no allocation.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace gtcp::detail {

/// A point in time or a duration of a Timer: nanoseconds, points counted from the Timer's making.
using timer_ticks = std::uint64_t;

inline constexpr timer_ticks max_timer_ticks = std::numeric_limits<timer_ticks>::max();

/// What timer_queue and timer_list link: at most one of them at a time.
struct timer_node {
  timer_node* next = nullptr;
  timer_node* prev = nullptr;
  timer_ticks deadline = 0;
  /// Where the node is linked; timer_queue's business while it holds the node.
  std::uint16_t place = nowhere;

  static constexpr std::uint16_t nowhere = 0xFFFF;
};

/// A doubly linked list of nodes.
class timer_list {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  timer_node* front() const noexcept { return head_; }

  void push_back(timer_node& node) noexcept {
    node.next = nullptr;
    node.prev = tail_;
    (tail_ == nullptr ? head_ : tail_->next) = &node;
    tail_ = &node;
  }

  void erase(timer_node& node) noexcept {
    (node.prev == nullptr ? head_ : node.prev->next) = node.next;
    (node.next == nullptr ? tail_ : node.next->prev) = node.prev;
    node.next = node.prev = nullptr;
  }

 private:
  timer_node* head_ = nullptr;
  timer_node* tail_ = nullptr;
};

/// Hands out nodes in the order of their deadlines, equal ones mostly in the order of insertion.
///
/// A radix heap with 64 slots a level: a node is in the level of the highest base-64 digit in which its deadline
/// differs from `base_`, in the slot of that digit. As `base_`, which never passes `now`, reaches a slot, the slot's
/// nodes move to lower levels. So insert and erase cost a few list operations, and a node moves at most once a level
/// before it is due. Deadlines are exact to the nanosecond: unlike a hashed wheel there is no tick.
class timer_queue {
 public:
  timer_queue() = default;
  timer_queue(const timer_queue&) = delete;
  timer_queue& operator=(const timer_queue&) = delete;

  bool empty() const noexcept { return levels_ == 0; }

  void insert(timer_node& node) noexcept {
    const timer_ticks key = std::max(node.deadline, base_);
    const unsigned level = key == base_ ? 0 : (63u - static_cast<unsigned>(std::countl_zero(key ^ base_))) / digit_bits;
    const unsigned slot = digit(key, level);
    node.place = static_cast<std::uint16_t>(level * slots_per_level + slot);
    slots_[node.place].push_back(node);
    used_[level] |= std::uint64_t{1} << slot;
    levels_ |= 1u << level;
  }

  void erase(timer_node& node) noexcept {
    const unsigned place = node.place;
    slots_[place].erase(node);
    node.place = timer_node::nowhere;
    if (!slots_[place].empty()) return;
    const unsigned level = place / slots_per_level;
    used_[level] &= ~(std::uint64_t{1} << (place % slots_per_level));
    if (used_[level] == 0) levels_ &= ~(1u << level);
    if (moving_ == place) moving_ = 0;
  }

  /// Takes out the first node whose deadline is not after `now`, or returns nullptr. `now` never goes back.
  ///
  /// When it returns nullptr and moving() is true, it stopped in the middle of a long slot so that the caller may let
  /// others have the lock: call again.
  timer_node* pop_due(timer_ticks now) noexcept {
    for (;;) {
      if (moving_ != 0 && !move_down()) return nullptr;
      if (levels_ == 0) return nullptr;
      const unsigned place = first_place();
      const timer_ticks start = start_of(place);
      if (start > now) return nullptr;
      timer_node& node = *slots_[place].front();
      if (place < slots_per_level || node.next == nullptr) {
        if (node.deadline > now) return nullptr;
        erase(node);
        // All other nodes are later: those of this level differ from `start` in the same digit as before.
        base_ = place < slots_per_level ? start : node.deadline;
        return &node;
      }
      base_ = start;
      moving_ = place;
    }
  }

  bool moving() const noexcept { return moving_ != 0; }

  /// Returns the time at which to call pop_due again: the first deadline, or an earlier time at which nodes must move.
  /// Not for an empty queue.
  timer_ticks next() const noexcept {
    if (moving_ != 0) return base_;
    const unsigned place = first_place();
    const timer_ticks start = start_of(place);
    if (place < slots_per_level) return start;
    timer_ticks first = max_timer_ticks;
    std::size_t looked_at = 0;
    for (const timer_node* node = slots_[place].front(); node != nullptr; node = node->next) {
      if (++looked_at > few) return start;
      first = std::min(first, node->deadline);
    }
    return first;
  }

  /// Takes out any node; nullptr when there is none.
  timer_node* pop_any() noexcept {
    if (levels_ == 0) return nullptr;
    timer_node* node = slots_[first_place()].front();
    erase(*node);
    return node;
  }

 private:
  static constexpr unsigned digit_bits = 6;
  static constexpr unsigned slots_per_level = 1u << digit_bits;
  static constexpr unsigned level_count = (64 + digit_bits - 1) / digit_bits;
  static constexpr std::size_t few = 8;
  static constexpr std::size_t moves_at_once = 256;

  static unsigned digit(timer_ticks key, unsigned level) noexcept {
    return static_cast<unsigned>(key >> (level * digit_bits)) % slots_per_level;
  }

  unsigned first_place() const noexcept {
    const auto level = static_cast<unsigned>(std::countr_zero(levels_));
    return level * slots_per_level + static_cast<unsigned>(std::countr_zero(used_[level]));
  }

  /// Returns the earliest time that belongs to a slot.
  timer_ticks start_of(unsigned place) const noexcept {
    const unsigned shift = place / slots_per_level * digit_bits;
    const timer_ticks above = shift + digit_bits >= 64 ? 0 : base_ >> (shift + digit_bits) << (shift + digit_bits);
    return above | static_cast<timer_ticks>(place % slots_per_level) << shift;
  }

  /// Moves nodes of the slot that `base_` has reached to lower levels. Returns whether all are moved.
  bool move_down() noexcept {
    for (std::size_t moved = 0; moved < moves_at_once; ++moved) {
      timer_node& node = *slots_[moving_].front();
      erase(node);
      insert(node);
      if (moving_ == 0) return true;
    }
    return false;
  }

  std::array<timer_list, level_count * slots_per_level> slots_;
  std::array<std::uint64_t, level_count> used_{};
  std::uint32_t levels_ = 0;
  /// The place whose nodes are on their way down, 0 for none (a place of level 0 never is).
  unsigned moving_ = 0;
  /// Not after any deadline in the queue that was not late when inserted.
  timer_ticks base_ = 0;
};

}  // namespace gtcp::detail

#endif
