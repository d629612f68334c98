// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TIMER_SERVICE_HPP
#define GTCP_DETAIL_TIMER_SERVICE_HPP

// The threads of a Timer: who waits for the next beat, who runs callbacks, and when another thread joins.

#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_process.hpp>
#include <gtcp/detail/timer_core.hpp>
#include <gtcp/detail/timer_entry.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace gtcp::detail {

/// Says whether the calling thread belongs to a Timer.
inline bool& this_is_timer_thread() noexcept {
  static thread_local bool value = false;
  return value;
}

/// Runs entries on threads of its own. All functions may be called from any thread; no callback, and no destructor of
/// one, is called under the lock.
///
/// One thread, the leader, waits for the next beat and runs what is due itself: no hand-over, one wake-up. While it is
/// in a callback nobody leads; a second thread, the watcher, then looks a millisecond after the next beat whether it is
/// late because callbacks take long, and joins if so. Whoever comes back from a callback first leads again, the others
/// watch, idle, and end after a while. A thread is made only when one is missing, so a Timer with a single entry that
/// does not block has a single thread.
class timer_service : public std::enable_shared_from_this<timer_service> {
 public:
  using error_callback = std::function<void(std::exception_ptr)>;

  timer_service(std::size_t max_threads, std::chrono::nanoseconds idle_time)
      : max_threads_(max_threads), idle_time_(std::min(idle_time, longest_wait)), origin_(clock::now()) {}

  /// Whether the parent process made it. A child has neither its threads nor, maybe, its lock: all operations but this
  /// one do nothing there.
  bool inherited() const noexcept { return process_.is_inherited(); }

  /// Opens `entry`, first due `first` after now (its `planned` is set here), and takes over the caller's reference. Not
  /// if it is closed already, or the service is. Throws std::system_error if there is no thread to run it; then the
  /// entry is closed.
  void add(timer_entry* entry, timer_ticks first) {
    std::unique_lock lock(mutex_);
    if (closed_ || entry->closed) {
      entry->closed = true;
      lock.unlock();
      drop(entry);
      return;
    }
    const timer_ticks now = time();
    entry->planned = add_ticks(now, first);
    core_.add(*entry);
    try {
      attend(now, core_.due(*entry));
    } catch (...) {
      core_.close(*entry);
      lock.unlock();
      drop(entry);
      throw;
    }
  }

  /// Closes `entry`. With `wait`, and not on a timer thread, it returns when no run is going on.
  void close(timer_entry& entry, bool wait) {
    if (inherited()) return;
    std::unique_lock lock(mutex_);
    if (core_.close(entry) && entry.running == 0) {
      lock.unlock();
      drop(&entry);
      return;
    }
    if (!wait || entry.running == 0 || this_is_timer_thread()) return;
    ++entry.closers;
    quiet_.wait(lock, [&] { return entry.running == 0; });
    --entry.closers;
  }

  /// Changes an open entry's plan by `change(core, now)`.
  template <class Change>
  void change(timer_entry& entry, Change&& change) {
    if (inherited()) return;
    std::unique_lock lock(mutex_);
    if (entry.closed) return;
    const timer_ticks now = time();
    change(core_, now);
    attend(now, core_.due(entry));
  }

  /// Returns `look()`, called under the lock, or `otherwise` where the service is not this process's.
  template <class T, class Look>
  T look(T otherwise, Look&& look) {
    if (inherited()) return otherwise;
    const std::lock_guard lock(mutex_);
    return look();
  }

  void stop() {
    if (inherited()) return;
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    stopped_at_ = time();
    stopped_ = true;
  }

  /// Goes on after stop(): the time between does not count.
  void start() {
    if (inherited()) return;
    std::unique_lock lock(mutex_);
    if (!stopped_) return;
    stopped_ = false;
    origin_ += std::chrono::nanoseconds(time() - stopped_at_);
    attend(time(), 0);
  }

  /// Closes all entries, and ends the threads; waits for them unless called on a timer thread.
  void close_all() {
    if (inherited()) return;
    std::unique_lock lock(mutex_);
    closed_ = true;
    leader_.notify_all();
    watcher_.notify_all();
    idle_.notify_all();
    while (timer_plan* plan = core_.close_any()) {
      if (plan->running != 0) continue;  // its last run drops it
      lock.unlock();
      drop(static_cast<timer_entry*>(plan));
      lock.lock();
    }
    if (!this_is_timer_thread()) quiet_.wait(lock, [this] { return threads_ == 0; });
  }

  void set_error_callback(error_callback callback) {
    if (inherited()) return;
    auto made = callback ? std::make_shared<error_callback>(std::move(callback)) : nullptr;
    const std::lock_guard lock(mutex_);
    on_error_.swap(made);
  }

 private:
  using lock_type = std::unique_lock<std::mutex>;

  /// How late a beat must be before another thread joins, and how few runs in that time say that callbacks take long.
  static constexpr timer_ticks patience = 1'000'000;
  static constexpr std::uint64_t few_runs = 16;
  /// No single wait is longer: some standard libraries overflow on points in the far future.
  static constexpr std::chrono::nanoseconds longest_wait = std::chrono::hours(1);

  timer_ticks time() const noexcept {
    return stopped_ ? stopped_at_ : static_cast<timer_ticks>(std::chrono::nanoseconds(clock::now() - origin_).count());
  }

  /// Returns the point in time of `ticks`, or an earlier one after which to look again.
  clock::time_point point(timer_ticks ticks) const noexcept {
    const timer_ticks latest = time() + static_cast<timer_ticks>(longest_wait.count());
    return origin_ + std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(ticks, latest)));
  }

  static void drop(timer_entry* entry) noexcept {
    entry->drop_job();
    entry->release();
  }

  /// Says whether some thread will look at the queue in time by itself.
  bool attended() const noexcept { return leading_ || coming_ > 0 || called_; }

  void tell_leader(timer_ticks deadline) {
    if (deadline >= leader_until_) return;
    leader_until_ = deadline;
    leader_.notify_one();
  }

  /// Sees to it that a beat at `deadline` is noticed.
  void attend(timer_ticks now, timer_ticks deadline) {
    if (stopped_) return;  // start() does it
    if (leading_) {
      tell_leader(deadline);
    } else if (!attended()) {
      if (running_ != 0) return watch(now);
      if (core_.idle()) return;
      if (!watching_) return call();
      called_ = true;
      watcher_.notify_one();
    }
  }

  /// Calls one more thread to look at the queue at once.
  void call() {
    if (idling_ > called_idle_) {
      ++called_idle_;
      ++coming_;
      idle_.notify_one();
    } else if (threads_ < max_threads_) {
      make_thread();
    }
  }

  /// The same where a failure leaves no more than a wait for the threads that are there.
  void try_call() noexcept {
    try {
      call();
    } catch (const std::exception&) {
    }
  }

  /// Sees to it that a thread looks after the beats while all others are in callbacks.
  void watch(timer_ticks now) {
    if (core_.idle() || stopped_) return;
    if (!watching_) return try_call();
    if (watcher_until_ <= now + patience) return;
    const timer_ticks until = add_ticks(std::max(now, core_.next()), patience);
    if (watcher_until_ <= until) return;
    watcher_until_ = until;
    watcher_.notify_one();
  }

  void make_thread() {
    std::thread([self = shared_from_this()] { self->work(); }).detach();
    ++threads_;
    ++coming_;
  }

  /// A thread of the service.
  void work() {
    block_signals();
    this_is_timer_thread() = true;
    lock_type lock(mutex_);
    --coming_;
    for (bool stay = true; stay && !closed_;) {
      run_due(lock);
      if (closed_) break;
      if (core_.unfinished() && !stopped_) {
        ++coming_;
        lock.unlock();
        lock.lock();
        --coming_;
      } else if (!leading_) {
        stay = lead(lock);
      } else {
        // What ran here may have its next beat before the one that the leader waits for.
        if (!core_.idle()) tell_leader(core_.next());
        stay = watching_ ? idle(lock) : stand_by(lock);
      }
    }
    leave();
  }

  /// The last thing that a thread does under the lock.
  void leave() {
    --threads_;
    quiet_.notify_all();
  }

  void run_due(lock_type& lock) {
    timer_ticks now = time();
    while (!stopped_ && !closed_) {
      auto* entry = static_cast<timer_entry*>(core_.begin(now));
      if (entry == nullptr) return;
      now = run(lock, entry, now);
    }
  }

#if defined(__GNUC__)
  // UBSan takes a caught abi::__forced_unwind, which is no object at all, for a null reference.
  __attribute__((no_sanitize("null")))
#endif
  timer_ticks
  run(lock_type& lock, timer_entry* entry, timer_ticks now) {
    ++runs_;
    ++running_;
    if (!attended()) watch(now);
    lock.unlock();
    bool again = true;
    try {
      again = entry->run();
#if defined(__GLIBCXX__)
    } catch (const abi::__forced_unwind&) {
      // The callback ends its thread (pthread_exit): leave everything in order behind it.
      lock.lock();
      end_run(lock, entry, true);
      leave();
      if (!attended() && running_ == 0 && !core_.idle() && !closed_) try_call();
      lock.unlock();
      throw;
#endif
    } catch (...) {
      report(std::current_exception());
    }
    lock.lock();
    return end_run(lock, entry, again);
  }

  timer_ticks end_run(lock_type& lock, timer_entry* entry, bool again) {
    timer_ticks now = time();
    const bool last = core_.end(*entry, now, again);
    if (last) {
      lock.unlock();
      entry->drop_job();
      lock.lock();
      core_.ended(*entry);
      now = time();
    }
    --running_;
    if (entry->closers != 0) quiet_.notify_all();
    if (last) entry->release();
    return now;
  }

  /// Waits for the next beat; false if there was none for so long that the thread may end.
  bool lead(lock_type& lock) {
    const bool nothing = stopped_ || core_.idle();
    leading_ = true;
    leader_until_ = nothing ? max_timer_ticks : core_.next();
    const auto status = leader_.wait_until(lock, nothing ? after_idle_time() : point(leader_until_));
    leading_ = false;
    return !(nothing && status == std::cv_status::timeout && (stopped_ || core_.idle()));
  }

  /// Waits as the watcher until there is something to do; false if the thread may end.
  bool stand_by(lock_type& lock) {
    watching_ = true;
    bool stay = true;
    for (;;) {
      const timer_ticks now = time();
      const bool nothing = stopped_ || core_.idle();
      const std::uint64_t runs_before = runs_;
      watcher_until_ = nothing ? max_timer_ticks : add_ticks(std::max(now, core_.next()), patience);
      const auto status = watcher_.wait_until(lock, nothing ? after_idle_time() : point(watcher_until_));
      if (called_ || closed_) break;
      if (stopped_ || core_.idle()) {
        stay = !(nothing && status == std::cv_status::timeout);
        if (!stay) break;
      } else if (!attended() && runs_ - runs_before < few_runs && add_ticks(core_.next(), patience) <= time()) {
        // As many more as are in callbacks already, so that many that block at once are met by many soon.
        for (std::size_t more = 1; more < running_; ++more) try_call();
        break;
      }
    }
    watching_ = false;
    called_ = false;
    return stay;
  }

  /// Waits until it is needed; false if it was not for so long that the thread may end.
  bool idle(lock_type& lock) {
    ++idling_;
    idle_.wait_until(lock, after_idle_time(), [this] { return called_idle_ != 0 || closed_; });
    --idling_;
    if (called_idle_ == 0) return closed_;
    --called_idle_;
    --coming_;
    return true;
  }

  clock::time_point after_idle_time() const noexcept { return clock::now() + idle_time_; }

  void report(std::exception_ptr error) noexcept {
    std::shared_ptr<error_callback> callback;
    {
      const std::lock_guard lock(mutex_);
      callback = on_error_;
    }
    try {
      if (callback) {
        (*callback)(std::move(error));
      } else {
        std::rethrow_exception(std::move(error));
      }
    } catch (const std::exception& e) {
      std::fprintf(stderr, "gtcp: exception in a timer's %s: %s\n", callback ? "error callback" : "callback", e.what());
    } catch (...) {
      std::fprintf(stderr, "gtcp: exception of unknown type in a timer's %s\n",
                   callback ? "error callback" : "callback");
    }
  }

  const std::size_t max_threads_;
  const std::chrono::nanoseconds idle_time_;
  std::mutex mutex_;
  timer_core core_;
  clock::time_point origin_;
  timer_ticks stopped_at_ = 0;
  bool stopped_ = false;
  bool closed_ = false;

  // Each thread is one of: leading, watching, idling, in a callback, or coming (made or called, not yet here).
  std::condition_variable leader_;
  std::condition_variable watcher_;
  std::condition_variable idle_;
  /// Those who wait for a run or for all threads to end.
  std::condition_variable quiet_;
  timer_ticks leader_until_ = 0;
  timer_ticks watcher_until_ = 0;
  std::uint64_t runs_ = 0;
  std::size_t threads_ = 0;
  std::size_t running_ = 0;
  std::size_t coming_ = 0;
  std::size_t idling_ = 0;
  std::size_t called_idle_ = 0;
  bool leading_ = false;
  bool watching_ = false;
  bool called_ = false;

  std::shared_ptr<error_callback> on_error_;
  const process_mark process_;
};

}  // namespace gtcp::detail

#endif
