// SPDX-License-Identifier: MIT
#ifndef GTCP_TIMER_HPP
#define GTCP_TIMER_HPP

// Callbacks after a while and in intervals, on threads of the Timer's own: SetTimeout, SetInterval and the functions of
// GoFrame's gtimer. What is bound to a Conn (Conn::SetTimeout, Conn::SetInterval) stands on this.

#include <gtcp/detail/per_process.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/detail/timer_entry.hpp>
#include <gtcp/detail/timer_service.hpp>
#include <gtcp/error.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp {

/// The status of a TimerEntry that waits for its next run.
inline constexpr int StatusReady = 0;
/// The status of a TimerEntry whose callback is running.
inline constexpr int StatusRunning = 1;
/// The status of a TimerEntry that was stopped: it can be started again.
inline constexpr int StatusStopped = 2;
/// The status of a TimerEntry that was closed or has had its last run.
inline constexpr int StatusClosed = -1;

/// Says how a Timer works; checked when the Timer is made.
///
/// Source: GoFrame: gtimer.TimerOptions.
/// Differs: there is no Interval, the tick to which Go's timer rounds: ours is exact to what the system's clock gives.
struct TimerOptions {
  /// With true, entries in intervals have their first run at once instead of after the first interval. False by
  /// default.
  bool Quick = false;
  /// The most threads, 1 or more; the default is 64. As many callbacks can block at once without delaying others.
  /// Threads are made when they are needed: none before the first entry, and usually one or two.
  int MaxThreads = 64;
  /// How long a thread that is not needed stays, 0 or more, at most an hour; the default is 10 s.
  std::chrono::milliseconds IdleTime{10'000};
};

class Timer;
class TimerEntry;

namespace detail {

template <class Job>
concept timer_callable = std::constructible_from<std::decay_t<Job>, Job> && std::invocable<std::decay_t<Job>&>;

/// How an entry is to run.
struct timer_spec {
  /// What errors name.
  const char* name = "";
  /// The time to the first run; zero or less is at once.
  std::chrono::nanoseconds first{0};
  /// The time from beat to beat; zero only for what runs once.
  std::chrono::nanoseconds interval{0};
  /// How many runs; zero or less is without a limit.
  int times = 0;
  bool singleton = true;
  int status = StatusReady;
};

template <class Callable>
struct may_be_empty : std::is_pointer<Callable> {};
template <class Signature>
struct may_be_empty<std::function<Signature>> : std::true_type {};

/// Whether there is nothing to call: a null pointer, or a std::function that holds nothing.
template <class Callable>
bool is_empty_callable(const Callable& callable) {
  if constexpr (may_be_empty<Callable>::value)
    return !callable;
  else
    return false;  // the name of a function, too
}

/// Returns a duration as ticks, zero for a negative one.
inline timer_ticks to_ticks(std::chrono::nanoseconds duration) noexcept {
  return duration.count() > 0 ? static_cast<timer_ticks>(duration.count()) : 0;
}

struct timer_access;

}  // namespace detail

/// A handle to a callback in a Timer; copies mean the same entry.
///
/// Destroying the handle does not end the entry. A default-constructed one refers to none: all its functions do
/// nothing, and its status is StatusClosed.
///
/// Thread safety: one entry may be used from any threads at once; one handle object as any object of the standard
/// library.
/// Lifetimes: the callback, and what it captured, is destroyed when the entry is closed or has had its last run, no
/// matter how many handles are left.
/// Source: GoFrame: gtimer.Entry.
/// Differs: no Job and no Ctx.
class TimerEntry {
 public:
  TimerEntry() = default;

  /// Starts a stopped entry again: it goes on with the next of its beats, as if it had not been stopped.
  void Start() const {
    change([](auto& core, auto& entry, auto now) { core.start(entry, now); });
  }

  /// Stops the entry: no run begins until Start. A run that is going on ends by itself; Stop does not wait.
  void Stop() const {
    change([](auto& core, auto& entry, auto) { core.stop(entry); });
  }

  /// Waits anew: the next run comes a whole interval (of SetTimeout: delay) from now.
  void Reset() const {
    change([](auto& core, auto& entry, auto now) { core.reset(entry, now); });
  }

  /// Ends the entry and destroys its callback. When Close has returned the callback runs no more and never again.
  ///
  /// It waits for a run that is going on, except on a timer's thread, that is in any timer's callback: there it returns
  /// at once, so that callbacks may close themselves and each other.
  ///
  /// Differs: Go's Close never waits.
  void Close() const {
    if (entry_) entry_->service().close(*entry_.get(), true);
  }

  /// Runs the callback once out of turn, on a timer's thread, as soon as possible; its beats stay as they are.
  ///
  /// It counts as one of the times that are left. An entry that does not overlap and is running runs when that is over;
  /// several calls before the run begins are one. A stopped entry runs too.
  void Run() const {
    change([](auto& core, auto& entry, auto now) { core.ask(entry, now); });
  }

  /// Returns StatusReady, StatusRunning, StatusStopped (also while the last run before the stop goes on) or
  /// StatusClosed.
  int Status() const {
    return look(StatusClosed, [](const auto& entry) {
      if (entry.closed) return StatusClosed;
      if (entry.stopped) return StatusStopped;
      return entry.running != 0 ? StatusRunning : StatusReady;
    });
  }

  /// Does what brings the entry to `status`: Start for StatusReady and StatusRunning, Stop, or Close. Returns the
  /// status before.
  ///
  /// Errors: throws std::system_error with Errc::InvalidOption for another status. A closed entry stays closed.
  int SetStatus(int status) const;

  /// Says whether runs of the entry do not overlap.
  bool IsSingleton() const {
    return look(true, [](const auto& entry) { return entry.singleton; });
  }

  /// Says whether runs of the entry may overlap (false) or a beat that comes while it runs is left out (true, the
  /// default).
  void SetSingleton(bool enabled) const {
    change([enabled](auto& core, auto& entry, auto now) { core.set_singleton(entry, enabled, now); });
  }

  /// Limits the entry to `times` further runs; zero or less ends it without waiting for a run that is going on.
  void SetTimes(int times) const {
    if (times <= 0) {
      if (entry_) entry_->service().close(*entry_.get(), false);
      return;
    }
    change([times](auto& core, auto& entry, auto now) { core.set_times(entry, times, now); });
  }

  /// Says whether the handle refers to an entry, which may be closed.
  explicit operator bool() const noexcept { return static_cast<bool>(entry_); }

  /// Says whether both handles refer to the same entry.
  friend bool operator==(const TimerEntry& a, const TimerEntry& b) noexcept { return a.entry_.get() == b.entry_.get(); }

 private:
  friend class Timer;
  friend struct detail::timer_access;

  template <class Change>
  void change(Change change) const {
    if (!entry_) return;
    entry_->service().change(*entry_.get(), [&](auto& core, auto now) { change(core, *entry_.get(), now); });
  }

  template <class T, class Look>
  T look(T otherwise, Look look) const {
    if (!entry_) return otherwise;
    return entry_->service().look(otherwise, [&] { return look(*entry_.get()); });
  }

  detail::timer_entry_ref entry_;
};

/// Runs callbacks after a while and in intervals, on threads of its own.
///
/// Most programs need none of their own: the free functions of the same names use DefaultTimer().
///
/// A job is anything that can be called without arguments, also if it can only be moved; its result is ignored. Entries
/// run at a fixed rate: each beat is planned from the one before, so that intervals do not drift. Beats that were
/// missed, because the callback took long or the machine was busy, are left out and not made up for. Runs of one entry
/// do not overlap unless asked for; different entries do not wait for each other: a callback may block, further threads
/// come up to TimerOptions::MaxThreads.
///
/// Errors: intervals of zero or less, empty jobs and unknown statuses throw std::system_error with Errc::InvalidOption;
/// what() quotes the value. Where no thread can be made the system's error is thrown. After Close the entry that is
/// returned is closed; in a child process after fork, Errc::Closed is thrown (the free functions work there: the child
/// gets a default timer of its own).
/// Thread safety: may be used from any threads at once. It may be destroyed in its own callbacks.
/// Source: GoFrame: gtimer.Timer.
/// Differs: no context argument. SetTimeout, SetInterval and DelayAdd* return their entries. Runs do not overlap by
/// default in any of the functions (in Go: only in AddSingleton, AddOnce and AddTimes); AddEntry and
/// TimerEntry::SetSingleton can allow it. There is no tick.
class Timer {
 public:
  using ErrorCallback = std::function<void(std::exception_ptr)>;

  /// Makes a timer; its threads begin with the first entry.
  ///
  /// Errors: throws std::system_error with Errc::InvalidOption if an option is not allowed.
  explicit Timer(const TimerOptions& options = {});

  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Does what Close does.
  ~Timer() { Close(); }

  /// Runs `job` once, `delay` from now; zero or less is at once, but never from within this function.
  template <detail::timer_callable Job>
  TimerEntry SetTimeout(std::chrono::nanoseconds delay, Job&& job) {
    const auto wait = std::max(delay, std::chrono::nanoseconds(0));
    return push<false>({.name = "SetTimeout", .first = wait, .interval = wait, .times = 1}, std::forward<Job>(job));
  }

  /// Runs `job` every `interval`, the first time an interval from now.
  template <detail::timer_callable Job>
  TimerEntry SetInterval(std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(every("SetInterval", {}, interval), std::forward<Job>(job));
  }

  /// Does what SetInterval does.
  template <detail::timer_callable Job>
  TimerEntry Add(std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(every("Add", {}, interval), std::forward<Job>(job));
  }

  /// Runs `job` in intervals, `times` in all (zero or less is without a limit), with overlapping runs if not
  /// `is_singleton`. With StatusStopped it waits for TimerEntry::Start, with StatusClosed it never runs.
  template <detail::timer_callable Job>
  TimerEntry AddEntry(std::chrono::nanoseconds interval, Job&& job, bool is_singleton, int times, int status) {
    return push<false>(every("AddEntry", {}, interval, times, is_singleton, status), std::forward<Job>(job));
  }

  /// Does what Add does, as runs do not overlap there either.
  template <detail::timer_callable Job>
  TimerEntry AddSingleton(std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(every("AddSingleton", {}, interval), std::forward<Job>(job));
  }

  /// Runs `job` once, an interval from now.
  template <detail::timer_callable Job>
  TimerEntry AddOnce(std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(once("AddOnce", {}, interval), std::forward<Job>(job));
  }

  /// Runs `job` in intervals, `times` in all; zero or less is without a limit.
  template <detail::timer_callable Job>
  TimerEntry AddTimes(std::chrono::nanoseconds interval, int times, Job&& job) {
    return push<false>(every("AddTimes", {}, interval, times), std::forward<Job>(job));
  }

  /// Does what Add does, beginning after `delay`: the first run is a delay and an interval from now. A delay of zero
  /// or less is none.
  template <detail::timer_callable Job>
  TimerEntry DelayAdd(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(every("DelayAdd", delay, interval), std::forward<Job>(job));
  }

  /// Does what AddEntry does, beginning after `delay`.
  template <detail::timer_callable Job>
  TimerEntry DelayAddEntry(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job,
                           bool is_singleton, int times, int status) {
    return push<false>(every("DelayAddEntry", delay, interval, times, is_singleton, status), std::forward<Job>(job));
  }

  /// Does what AddSingleton does, beginning after `delay`.
  template <detail::timer_callable Job>
  TimerEntry DelayAddSingleton(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(every("DelayAddSingleton", delay, interval), std::forward<Job>(job));
  }

  /// Does what AddOnce does, beginning after `delay`.
  template <detail::timer_callable Job>
  TimerEntry DelayAddOnce(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job) {
    return push<false>(once("DelayAddOnce", delay, interval), std::forward<Job>(job));
  }

  /// Does what AddTimes does, beginning after `delay`.
  template <detail::timer_callable Job>
  TimerEntry DelayAddTimes(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, int times, Job&& job) {
    return push<false>(every("DelayAddTimes", delay, interval, times), std::forward<Job>(job));
  }

  /// Goes on after Stop.
  void Start() { service_->start(); }

  /// Halts the timer: no run begins, and the time until Start does not count for any entry. Does not wait for runs that
  /// are going on.
  void Stop() { service_->stop(); }

  /// Closes all entries and ends the threads. Waits for callbacks that are running, except on a timer's thread.
  void Close() { service_->close_all(); }

  /// Sets what is called with an exception that left a job, on the timer's thread; an empty one restores the default, a
  /// line on stderr. The entry goes on.
  void SetErrorCallback(ErrorCallback callback) { service_->set_error_callback(std::move(callback)); }

 private:
  friend struct detail::timer_access;

  detail::timer_spec every(const char* name, std::chrono::nanoseconds delay, std::chrono::nanoseconds interval,
                           int times = 0, bool singleton = true, int status = StatusReady) const;
  static detail::timer_spec once(const char* name, std::chrono::nanoseconds delay, std::chrono::nanoseconds interval);

  /// Adds an entry. With EndsOnFalse the job's result says whether it wants to run again.
  template <bool EndsOnFalse, class Job>
  TimerEntry push(const detail::timer_spec& spec, Job&& job);

  const std::shared_ptr<detail::timer_service> service_;
  const bool quick_;
};

/// Returns the Timer of the free functions. It is never destroyed: close an entry whose callback uses what ends before
/// the process does. A child process gets a new one after fork.
Timer& DefaultTimer();

/// Does what Timer::SetTimeout does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry SetTimeout(std::chrono::nanoseconds delay, Job&& job) {
  return DefaultTimer().SetTimeout(delay, std::forward<Job>(job));
}

/// Does what Timer::SetInterval does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry SetInterval(std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().SetInterval(interval, std::forward<Job>(job));
}

/// Does what Timer::Add does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry Add(std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().Add(interval, std::forward<Job>(job));
}

/// Does what Timer::AddEntry does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry AddEntry(std::chrono::nanoseconds interval, Job&& job, bool is_singleton, int times, int status) {
  return DefaultTimer().AddEntry(interval, std::forward<Job>(job), is_singleton, times, status);
}

/// Does what Timer::AddSingleton does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry AddSingleton(std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().AddSingleton(interval, std::forward<Job>(job));
}

/// Does what Timer::AddOnce does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry AddOnce(std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().AddOnce(interval, std::forward<Job>(job));
}

/// Does what Timer::AddTimes does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry AddTimes(std::chrono::nanoseconds interval, int times, Job&& job) {
  return DefaultTimer().AddTimes(interval, times, std::forward<Job>(job));
}

/// Does what Timer::DelayAdd does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry DelayAdd(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().DelayAdd(delay, interval, std::forward<Job>(job));
}

/// Does what Timer::DelayAddEntry does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry DelayAddEntry(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job,
                         bool is_singleton, int times, int status) {
  return DefaultTimer().DelayAddEntry(delay, interval, std::forward<Job>(job), is_singleton, times, status);
}

/// Does what Timer::DelayAddSingleton does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry DelayAddSingleton(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().DelayAddSingleton(delay, interval, std::forward<Job>(job));
}

/// Does what Timer::DelayAddOnce does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry DelayAddOnce(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, Job&& job) {
  return DefaultTimer().DelayAddOnce(delay, interval, std::forward<Job>(job));
}

/// Does what Timer::DelayAddTimes does, on DefaultTimer().
template <detail::timer_callable Job>
TimerEntry DelayAddTimes(std::chrono::nanoseconds delay, std::chrono::nanoseconds interval, int times, Job&& job) {
  return DefaultTimer().DelayAddTimes(delay, interval, times, std::forward<Job>(job));
}

namespace detail {

/// What the rest of the library needs of timers beyond what users see.
struct timer_access {
  /// Adds an entry whose job says with its result whether it wants to run again: false closes the entry. So a job that
  /// holds its owner weakly ends with it. The spec's interval must be more than zero unless it runs once; it is not
  /// checked.
  template <class Job>
    requires std::same_as<std::invoke_result_t<std::decay_t<Job>&>, bool>
  static TimerEntry add(Timer& timer, const timer_spec& spec, Job&& job) {
    return timer.push<true>(spec, std::forward<Job>(job));
  }

  /// Closes without waiting for a run that is going on. If there is none, the callback is destroyed here and now: call
  /// it under no lock that the destructors of what it captured may take.
  static void close_without_waiting(const TimerEntry& entry) {
    if (entry.entry_) entry.entry_->service().close(*entry.entry_.get(), false);
  }
};

[[noreturn]] inline void throw_invalid_timer(const char* name, const std::string& what) {
  throw std::system_error(Errc::InvalidOption, std::string(name) + ": " + what);
}

}  // namespace detail

inline int TimerEntry::SetStatus(int status) const {
  const int before = Status();
  switch (status) {
    case StatusReady:
    case StatusRunning: Start(); break;
    case StatusStopped: Stop(); break;
    case StatusClosed: Close(); break;
    default: detail::throw_invalid_timer("SetStatus", "status is " + std::to_string(status) + ", allowed are -1 to 2");
  }
  return before;
}

inline Timer::Timer(const TimerOptions& options)
    : service_([&options] {
        if (options.MaxThreads < 1) {
          detail::throw_invalid_timer(
              "Timer", "MaxThreads is " + std::to_string(options.MaxThreads) + ", allowed are 1 and more");
        }
        if (options.IdleTime.count() < 0) {
          detail::throw_invalid_timer(
              "Timer", "IdleTime is " + std::to_string(options.IdleTime.count()) + " ms, allowed are 0 and more");
        }
        return std::make_shared<detail::timer_service>(static_cast<std::size_t>(options.MaxThreads),
                                                       detail::clock_duration(options.IdleTime));
      }()),
      quick_(options.Quick) {}

inline detail::timer_spec Timer::once(const char* name, std::chrono::nanoseconds delay,
                                      std::chrono::nanoseconds interval) {
  if (interval.count() <= 0) {
    detail::throw_invalid_timer(name,
                                "interval is " + std::to_string(interval.count()) + " ns, allowed is more than 0");
  }
  delay = std::max(delay, std::chrono::nanoseconds(0));
  const auto first =
      delay > std::chrono::nanoseconds::max() - interval ? std::chrono::nanoseconds::max() : delay + interval;
  return {.name = name, .first = first, .interval = interval, .times = 1};
}

inline detail::timer_spec Timer::every(const char* name, std::chrono::nanoseconds delay,
                                       std::chrono::nanoseconds interval, int times, bool singleton, int status) const {
  detail::timer_spec spec = once(name, delay, interval);
  if (status < StatusClosed || status > StatusStopped) {
    detail::throw_invalid_timer(name, "status is " + std::to_string(status) + ", allowed are -1 to 2");
  }
  if (quick_) spec.first = delay;
  spec.times = times;
  spec.singleton = singleton;
  spec.status = status;
  return spec;
}

template <bool EndsOnFalse, class Job>
TimerEntry Timer::push(const detail::timer_spec& spec, Job&& job) {
  using job_type = std::decay_t<Job>;
  if (service_->inherited()) {
    throw std::system_error(Errc::Closed, std::string(spec.name) + ": the timer belongs to the parent process");
  }
  if (detail::is_empty_callable(job)) detail::throw_invalid_timer(spec.name, "the job is empty");
  auto* entry = new detail::timer_job<job_type, EndsOnFalse>(service_, std::forward<Job>(job));
  entry->interval = detail::to_ticks(spec.interval);
  if (spec.times > 0) entry->left = spec.times;
  entry->singleton = spec.singleton;
  entry->stopped = spec.status == StatusStopped;
  entry->closed = spec.status == StatusClosed;
  entry->add_ref();
  TimerEntry handle;
  handle.entry_ = detail::timer_entry_ref(entry);
  service_->add(entry, detail::to_ticks(spec.first));
  return handle;
}

inline Timer& DefaultTimer() { return detail::per_process<Timer>::instance(); }

}  // namespace gtcp

#endif
