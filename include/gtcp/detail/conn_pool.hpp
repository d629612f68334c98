// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONN_POOL_HPP
#define GTCP_DETAIL_CONN_POOL_HPP

// The connections that are idle, how many there are to each peer, and who waits for one. It knows nothing of dialing.
//
// Everything is counted by key, that is by what tells sockets apart: the address and the socket's options. A permit is
// the right to one connection; it comes with an idle one, or as the leave to open another one. While anybody waits
// for a permit nothing is idle, and permits are given in the order in which they were asked for.

#include <gtcp/conn_option.hpp>
#include <gtcp/detail/conn_lease.hpp>
#include <gtcp/detail/conn_state.hpp>
#include <gtcp/timer.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Ends a connection that nobody uses, gently: what the peer sends meanwhile must not cost it what was sent to it.
inline void close_gently(raw_connection connection, std::chrono::milliseconds linger) noexcept {
  if (!connection) return;
  try {
    ConnOption option;
    option.Linger = linger;
    const auto state = std::make_shared<conn_state>(connection.descriptor(), option, connection.take_layer());
    connection.release();
    state->close(false);
  } catch (const std::exception&) {
    // Short of memory: closed by `connection`.
  }
}

class conn_pool {
 public:
  struct group;

  /// Tells a coroutine that its permit was granted.
  class bell {
   public:
    virtual ~bell() = default;
    virtual void ring() noexcept = 0;

   private:
    friend class conn_pool;
    std::shared_ptr<bell> next_;
  };

  /// Asked for by a thread or a coroutine. Lives until it was granted or withdrawn.
  class permit {
   public:
    /// `max_conns`: how many connections there may be when another one is opened for this permit; 0 is no limit.
    explicit permit(std::size_t max_conns) : max_conns_(max_conns) {}

    /// Called under the pool's mutex. Returns who is to be told after the mutex was released, if anybody.
    virtual std::shared_ptr<bell> granted() noexcept = 0;

    conn_pool::group* group = nullptr;
    raw_connection connection;  ///< empty: another one is to be opened

   protected:
    ~permit() = default;

   private:
    friend class conn_pool;
    const std::size_t max_conns_;
    bool granted_ = false;
    permit* next_ = nullptr;
  };

  /// A thread's permit.
  class thread_permit final : public permit {
   public:
    using permit::permit;
    std::shared_ptr<bell> granted() noexcept override {
      came_.notify_all();
      return nullptr;
    }

   private:
    friend class conn_pool;
    std::condition_variable_any came_;
  };

  /// The connections with one key.
  struct group {
    struct idle_connection {
      raw_connection connection;
      std::chrono::milliseconds linger;
      clock::time_point expires;
    };
    const std::string* key = nullptr;
    std::list<idle_connection> idle;  ///< the one that was used last is at the end, and is used next
    std::size_t open = 0;             ///< idle, lent, or being opened
    permit* first = nullptr;
    permit* last = nullptr;
  };

  conn_pool() = default;
  conn_pool(const conn_pool&) = delete;
  conn_pool& operator=(const conn_pool&) = delete;

  /// After fork, in the child. The descriptors are the parent's connections, which must end when the parent ends them.
  void close_inherited() noexcept {
    if (!mutex_.try_lock()) return;  // a thread that is not here was changing it
    for (auto& [key, of] : groups_) {
      for (auto& idle : of.idle) {
        static_cast<void>(idle.connection.take_layer().release());
        close_socket(idle.connection.release(), false);
      }
    }
  }

  /// Returns whether the permit was granted at once; else it is queued.
  bool ask(const std::string& key, permit& wanted) {
    const std::lock_guard lock(mutex_);
    return ask_locked(key, wanted);
  }

  /// Asks, and waits in the calling thread.
  std::error_code ask_and_wait(const std::string& key, thread_permit& wanted, clock::time_point until,
                               const std::stop_token& stop) {
    bells ringing;
    std::unique_lock lock(mutex_);
    if (ask_locked(key, wanted)) return {};
    const auto is_granted = [&] { return wanted.granted_; };
    if (until == no_deadline)
      wanted.came_.wait(lock, stop, is_granted);
    else
      wanted.came_.wait_until(lock, stop, until, is_granted);
    if (!withdraw_locked(wanted, ringing)) return {};
    return stop.stop_requested() ? make_error_code(asio::error::operation_aborted) : make_error_code(Errc::Timeout);
  }

  /// Takes a permit out of the queue. False: it was granted meanwhile.
  bool withdraw(permit& wanted) noexcept {
    bells ringing;
    const std::lock_guard lock(mutex_);
    return withdraw_locked(wanted, ringing);
  }

  /// Takes another idle connection in place of one that was found dead. False: there is none, and the permit still is
  /// the permission to open another one.
  bool take_idle_instead(group& of, raw_connection& connection) {
    const std::lock_guard lock(mutex_);
    if (of.idle.empty()) return false;
    connection = take_last(of);
    --of.open;
    return true;
  }

  void give_back(group& to, raw_connection connection, std::chrono::milliseconds idle_time,
                 std::chrono::milliseconds linger) noexcept {
    const clock::time_point expiry = idle_time.count() != 0 ? deadline_after(idle_time) : no_deadline;
    std::list<group::idle_connection> entry;
    try {
      entry.emplace_back();
    } catch (const std::bad_alloc&) {
      close_gently(std::move(connection), linger);
      return lose(to);
    }
    entry.back() = {std::move(connection), linger, expiry};
    bool sweeps = false;
    {
      bells ringing;
      const std::lock_guard lock(mutex_);
      if (to.first == nullptr) {
        to.idle.splice(to.idle.end(), entry);
        sweeps = expiry < next_sweep_;
        if (sweeps) next_sweep_ = expiry;
      } else {
        to.first->connection = std::move(entry.back().connection);
        grant(to, ringing);
      }
    }
    if (sweeps) plan_sweep(expiry);
  }

  /// A connection that was lent, or opened, has ended.
  void lose(group& of) noexcept {
    bells ringing;
    const std::lock_guard lock(mutex_);
    --of.open;
    serve(of, ringing);
    forget_if_empty(of);
  }

  /// Closes connections that are idle: all, or those whose time is over.
  void close_idle(bool all) noexcept {
    std::list<group::idle_connection> ended;
    clock::time_point next = no_deadline;
    {
      const std::lock_guard lock(mutex_);
      const clock::time_point now = all ? no_deadline : clock::now();
      for (auto entry = groups_.begin(); entry != groups_.end();) {
        group& of = (entry++)->second;
        for (auto idle = of.idle.begin(); idle != of.idle.end();) {
          const auto candidate = idle++;
          next = std::min(next, candidate->expires > now ? candidate->expires : no_deadline);
          if (candidate->expires > now) continue;
          ended.splice(ended.end(), of.idle, candidate);
          --of.open;
        }
        forget_if_empty(of);
      }
      next_sweep_ = next;
    }
    plan_sweep(next);
    for (auto& idle : ended) close_gently(std::move(idle.connection), idle.linger);
  }

  /// How many connections of all keys are idle.
  std::size_t idle_count() const {
    const std::lock_guard lock(mutex_);
    std::size_t count = 0;
    for (const auto& [key, of] : groups_) count += of.idle.size();
    return count;
  }

  /// How many permits are asked for and not granted.
  std::size_t waiting_count() const {
    const std::lock_guard lock(mutex_);
    std::size_t count = 0;
    for (const auto& [key, of] : groups_) {
      for (const permit* waiting = of.first; waiting != nullptr; waiting = waiting->next_) ++count;
    }
    return count;
  }

  /// How many keys are remembered: those with a connection, or with somebody who waits.
  std::size_t group_count() const {
    const std::lock_guard lock(mutex_);
    return groups_.size();
  }

 private:
  /// Those who are told when the mutex was released: made before it is taken.
  class bells {
   public:
    bells() = default;
    bells(const bells&) = delete;
    bells& operator=(const bells&) = delete;
    ~bells() {
      while (first_ != nullptr) std::exchange(first_, std::move(first_->next_))->ring();
    }
    void add(std::shared_ptr<bell> one) noexcept {
      if (one == nullptr) return;
      one->next_ = std::move(first_);
      first_ = std::move(one);
    }

   private:
    std::shared_ptr<bell> first_;
  };

  bool ask_locked(const std::string& key, permit& wanted) {
    const auto [found, is_new] = groups_.try_emplace(key);
    group& of = found->second;
    if (is_new) of.key = &found->first;
    wanted.group = &of;
    if (!of.idle.empty()) {
      wanted.connection = take_last(of);
      return wanted.granted_ = true;
    }
    const std::size_t max = wanted.max_conns_;
    if (max == 0 || (of.first == nullptr && of.open < max)) {
      ++of.open;
      return wanted.granted_ = true;
    }
    (of.last != nullptr ? of.last->next_ : of.first) = &wanted;
    of.last = &wanted;
    return false;
  }

  bool withdraw_locked(permit& wanted, bells& ringing) noexcept {
    if (wanted.granted_) return false;
    group& of = *wanted.group;
    permit* previous = nullptr;
    for (permit* waiting = of.first; waiting != &wanted; waiting = waiting->next_) previous = waiting;
    (previous != nullptr ? previous->next_ : of.first) = wanted.next_;
    if (of.last == &wanted) of.last = previous;
    serve(of, ringing);  // those behind it may be content with more connections
    return true;
  }

  /// Grants what the number of connections allows.
  static void serve(group& of, bells& ringing) noexcept {
    while (of.first != nullptr && of.open < of.first->max_conns_) {
      ++of.open;
      grant(of, ringing);
    }
  }

  static void grant(group& of, bells& ringing) noexcept {
    permit& next = *of.first;
    of.first = next.next_;
    if (of.first == nullptr) of.last = nullptr;
    next.granted_ = true;
    ringing.add(next.granted());
  }

  static raw_connection take_last(group& of) noexcept {
    raw_connection connection = std::move(of.idle.back().connection);
    of.idle.pop_back();
    return connection;
  }

  void forget_if_empty(group& of) noexcept {
    if (of.open == 0 && of.first == nullptr) groups_.erase(groups_.find(*of.key));
  }

  void plan_sweep(clock::time_point at) noexcept {
    if (at == no_deadline) return;
    try {
      SetTimeout(at - clock::now(), [this] { close_idle(false); });
    } catch (const std::exception&) {
      // No thread for it: the next connection that comes back tries again.
      const std::lock_guard lock(mutex_);
      next_sweep_ = no_deadline;
    }
  }

  mutable std::mutex mutex_;
  std::map<std::string, group> groups_;
  clock::time_point next_sweep_ = no_deadline;
};

}  // namespace gtcp::detail

#endif
