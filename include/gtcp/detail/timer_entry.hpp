// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_TIMER_ENTRY_HPP
#define GTCP_DETAIL_TIMER_ENTRY_HPP

// A timer entry with its callback: one allocation, counted references.

#include <gtcp/detail/timer_core.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

class timer_service;

/// An entry of a timer_service. The plan's part is guarded by the service's mutex. One reference is the service's,
/// until the entry is closed and its last run is over; each handle has another.
class timer_entry : public timer_plan {
 public:
  timer_entry(const timer_entry&) = delete;
  timer_entry& operator=(const timer_entry&) = delete;

  /// Runs the callback; false means that it does not want to run again.
  virtual bool run() = 0;
  /// Destroys the callback, once, after its last run.
  virtual void drop_job() noexcept = 0;

  void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  timer_service& service() const noexcept { return *service_; }

  /// How many threads wait in Close for a run to end.
  std::uint32_t closers = 0;

 protected:
  explicit timer_entry(std::shared_ptr<timer_service> service) noexcept : service_(std::move(service)) {}
  virtual ~timer_entry() = default;

 private:
  std::atomic<std::uint32_t> refs_{1};
  std::shared_ptr<timer_service> service_;
};

/// An entry with a callback of type Job. With EndsOnFalse the callback's result says whether to run again, else it
/// is ignored.
template <class Job, bool EndsOnFalse>
class timer_job final : public timer_entry {
 public:
  template <class J>
  timer_job(std::shared_ptr<timer_service> service, J&& job)
      : timer_entry(std::move(service)), job_(std::forward<J>(job)) {}

  bool run() override {
    if constexpr (EndsOnFalse) {
      return static_cast<bool>(job_());
    } else {
      static_cast<void>(job_());
      return true;
    }
  }

  void drop_job() noexcept override { job_.~Job(); }

 private:
  // The callback ends before the entry does: drop_job has always run when the destructor comes.
  ~timer_job() override {}

  union {
    Job job_;
  };
};

/// A counted reference to an entry, may be empty.
class timer_entry_ref {
 public:
  timer_entry_ref() = default;
  /// Takes over a reference that is already counted.
  explicit timer_entry_ref(timer_entry* entry) noexcept : entry_(entry) {}
  timer_entry_ref(const timer_entry_ref& other) noexcept : entry_(other.entry_) {
    if (entry_ != nullptr) entry_->add_ref();
  }
  timer_entry_ref(timer_entry_ref&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  timer_entry_ref& operator=(timer_entry_ref other) noexcept {
    std::swap(entry_, other.entry_);
    return *this;
  }
  ~timer_entry_ref() {
    if (entry_ != nullptr) entry_->release();
  }

  timer_entry* get() const noexcept { return entry_; }
  timer_entry* operator->() const noexcept { return entry_; }
  explicit operator bool() const noexcept { return entry_ != nullptr; }

 private:
  timer_entry* entry_ = nullptr;
};

}  // namespace gtcp::detail

#endif
