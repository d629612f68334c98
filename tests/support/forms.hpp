// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_FORMS_HPP
#define GTCP_TESTS_SUPPORT_FORMS_HPP

// Every operation exists in several forms. Here each becomes a plain call, so that one test covers them all.

#include <gtcp/conn.hpp>

#include "support/poll_until.hpp"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace gtcp_test {

enum class form { blocking, callback, awaited };
inline constexpr std::array forms = {form::blocking, form::callback, form::awaited};

inline std::ostream& operator<<(std::ostream& out, form which) {
  return out << (which == form::blocking ? "blocking" : which == form::callback ? "callback" : "awaited");
}

/// Runs a coroutine to its end, in the calling thread, and returns its result or throws its exception.
template <class T>
T run(asio::awaitable<T> coroutine) {
  // No future: an exception that changes threads through one is a false alarm of the thread sanitizer.
  bool ended = false;
  std::exception_ptr failure;
  std::optional<std::conditional_t<std::is_void_v<T>, char, T>> value;
  asio::io_context context;
  asio::co_spawn(context, std::move(coroutine), [&](std::exception_ptr thrown, auto... result) {
    ended = true;
    failure = std::move(thrown);
    if constexpr (!std::is_void_v<T>) value.emplace(std::move(result)...);
  });
  context.run_for(ceiling);
  if (!ended) throw std::runtime_error("the coroutine did not end");
  if (failure) std::rethrow_exception(failure);
  if constexpr (!std::is_void_v<T>) return std::move(*value);
}

/// Starts an operation with a callback and waits for it. Returns what the callback got behind its error code.
template <class Result, class Start>
Result call_back(std::error_code& error, Start start) {
  using value = std::conditional_t<std::is_void_v<Result>, char, Result>;
  struct shared_state {
    std::promise<std::pair<std::error_code, value>> promise;
  };
  const auto shared = std::make_shared<shared_state>();
  auto future = shared->promise.get_future();
  start([shared](std::error_code ec, auto... results) {
    if constexpr (std::is_void_v<Result>)
      shared->promise.set_value({ec, 0});
    else
      shared->promise.set_value({ec, std::move(results)...});
  });
  if (!comes(future)) throw std::runtime_error("the handler was not called");
  std::pair<std::error_code, value> outcome = future.get();
  error = outcome.first;
  if constexpr (!std::is_void_v<Result>) return std::move(outcome.second);
}

inline std::string recv_pkg_within(form which, const gtcp::Conn& conn, std::chrono::nanoseconds timeout,
                                   gtcp::PkgOption option, std::error_code& ec) {
  switch (which) {
    case form::blocking: return conn.RecvPkgWithTimeout(timeout, option, ec);
    case form::callback:
      return call_back<std::string>(
          ec, [&](auto handler) { conn.AsyncRecvPkgWithTimeout(timeout, option, std::move(handler)); });
    case form::awaited: return run(conn.AsyncRecvPkgWithTimeout(timeout, option, ec));
  }
  return {};
}

#if defined(__linux__)
/// What a thread of this process does, as ps says it: 'S' when it sleeps in the system; 0: there is no such thread.
inline char thread_state(int thread_id) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread_id) + "/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');
  return name_end != std::string::npos && name_end + 2 < line.size() ? line[name_end + 2] : '\0';
}
#endif

/// A thread whose function returns a T, and which tells when it waits for something.
template <class T>
class background {
 public:
  template <class Function>
  explicit background(Function function) {
    std::packaged_task<T()> task([this, function = std::move(function)] {
      note_thread();
      return function();
    });
    result_ = task.get_future();
    thread_ = std::jthread(std::move(task));
  }

  /// Returns when the thread sleeps in the system, or has ended. Where the system can't tell, lets it run a while.
  void wait_until_waiting() const {
#if defined(__linux__)
    poll_until([&] {
      if (result_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) return true;
      const int id = id_.load();
      return id != 0 && thread_state(id) == 'S';
    });
#else
    for (int i = 0; i < 10'000; ++i) std::this_thread::yield();
#endif
  }

  bool ended() const { return result_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }

  T get() {
    if (!comes(result_)) {
      // Its thread would be joined for ever.
      std::terminate();
    }
    return result_.get();
  }

 private:
  void note_thread() {
#if defined(__linux__)
    id_ = static_cast<int>(::gettid());
#endif
  }

  std::atomic<int> id_{0};
  std::future<T> result_;
  std::jthread thread_;
};

template <class Function>
background(Function) -> background<std::invoke_result_t<Function&>>;

}  // namespace gtcp_test

#endif
