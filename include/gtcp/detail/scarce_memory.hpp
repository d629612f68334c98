// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SCARCE_MEMORY_HPP
#define GTCP_DETAIL_SCARCE_MEMORY_HPP

// What has to be done although there is no memory for it just now: closing, and telling how an operation ended. It is
// tried again for a while; an operation that only begins is told so instead.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/associated_allocator.hpp>
#include <asio/bind_executor.hpp>
#include <asio/dispatch.hpp>
#include <asio/execution/blocking.hpp>
#include <asio/post.hpp>
#include <asio/require.hpp>

#include <chrono>
#include <exception>
#include <optional>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

namespace gtcp::detail {

/// How often what must be done is tried: twice at once, then for about a second.
inline constexpr int scarce_tries = 12;

inline void pause_before_try(int number) noexcept {
  if (number > 1) std::this_thread::sleep_for(std::chrono::milliseconds(1 << (number - 2)));
}

/// Calls `attempt` until it does not throw, for a while. Returns whether it was done. Under no lock.
template <class Attempt>
bool insist(const Attempt& attempt) noexcept {
  for (int number = 0; number < scarce_tries; ++number) {
    pause_before_try(number);
    try {
      attempt();
      return true;
    } catch (const std::exception&) {
    }
  }
  return false;
}

/// The same without pauses, for where a lock is held.
template <class Attempt>
bool try_twice(const Attempt& attempt) noexcept {
  for (int number = 0; number < 2; ++number) {
    try {
      attempt();
      return true;
    } catch (const std::exception&) {
    }
  }
  return false;
}

/// Whether an executor can be told not to run what it is given at once. (asio::any_completion_executor can't.)
template <class Executor>
inline constexpr bool can_post_to = asio::can_require<Executor, asio::execution::blocking_t::never_t>::value;

/// A handler with its results, on its way through an executor. An executor that has no memory for it drops it; then it
/// comes back to the one who passes it on.
template <class Handler, class... Results>
class completion {
 public:
  using allocator_type = asio::associated_allocator_t<Handler>;

  completion(Handler&& handler, Results... results) : handler_(std::move(handler)), results_(std::move(results)...) {}
  completion(completion&& other)
      : handler_(std::move(other.handler_)),
        results_(std::move(other.results_)),
        is_here_(std::exchange(other.is_here_, false)) {}
  completion& operator=(completion&&) = delete;
  ~completion() {
    if (is_here_ && home() != nullptr) home()->emplace(std::move(*this));
  }

  allocator_type get_allocator() const noexcept { return asio::get_associated_allocator(handler_); }

  void operator()() {
    is_here_ = false;
    home() = nullptr;  // what the handler destroys is not on its way
    std::apply([this](Results&... results) { std::move(handler_)(std::move(results)...); }, results_);
  }

  /// Calls it through the executor, at once if `may_dispatch` and already there. `io`: where it comes from.
  template <class Executor, class Io>
  static void pass_on(const Executor& through, const Io& io, completion first, bool may_dispatch) {
    std::optional<completion> current(std::move(first));
    std::optional<completion> back;
    for (int number = 0; number < scarce_tries; ++number) {
      pause_before_try(number);
      try {
        const home_scope scope(back);
        if (may_dispatch)
          asio::dispatch(through, std::move(*current));
        else if constexpr (can_post_to<Executor>)
          asio::post(through, std::move(*current));
        else
          asio::post(io, asio::bind_executor(through, std::move(*current)));
        return;
      } catch (const std::exception&) {
        if (!back && !current->is_here_) throw;  // it was called
      }
      if (!back) continue;
      current.emplace(std::move(*back));
      back.reset();
    }
  }

 private:
  /// Where the one returns to that the calling thread passes on.
  static std::optional<completion>*& home() noexcept {
    static thread_local std::optional<completion>* place = nullptr;
    return place;
  }

  struct home_scope {
    explicit home_scope(std::optional<completion>& back) noexcept : outer(std::exchange(home(), &back)) {}
    ~home_scope() { home() = outer; }
    home_scope(const home_scope&) = delete;
    home_scope& operator=(const home_scope&) = delete;
    std::optional<completion>* const outer;
  };

  Handler handler_;
  std::tuple<Results...> results_;
  bool is_here_ = true;
};

}  // namespace gtcp::detail

#endif
