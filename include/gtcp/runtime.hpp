// SPDX-License-Identifier: MIT
#ifndef GTCP_RUNTIME_HPP
#define GTCP_RUNTIME_HPP

// The io threads on which asynchronous operations and the leftovers of blocking ones go on, unless the user brings an
// executor.

#include <gtcp/detail/asio_compat.hpp>
#include <gtcp/detail/block_pool.hpp>
#include <gtcp/detail/per_process.hpp>
#include <gtcp/detail/platform.hpp>
#include <gtcp/error.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/execution/context.hpp>
#include <asio/execution_context.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/query.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace gtcp {

namespace detail {

inline bool& runtime_thread_flag() noexcept {
  thread_local bool flag = false;
  return flag;
}

/// Whether the calling thread is an io thread of any Runtime.
inline bool on_runtime_thread() noexcept { return runtime_thread_flag(); }

/// One io thread and its io_context. The context is never freed: connections may still name it when its Runtime is
/// gone.
class io_thread : public asio::io_context {
 public:
  io_thread() : asio::io_context(1), work_(get_executor()) {
    // Makes the reactor now: when the first connection waits there may be no descriptors left for it.
    const asio::steady_timer reactor(*this);
    next_ = all().load();
    while (!all().compare_exchange_weak(next_, this)) {
    }
  }

  /// Whether the context is that of an io thread.
  static bool is_one(const asio::execution_context& context) noexcept {
    for (const io_thread* lane = all().load(); lane != nullptr; lane = lane->next_) {
      if (static_cast<const asio::execution_context*>(lane) == &context) return true;
    }
    return false;
  }

  void start() {
    thread_ = std::thread([this] {
      block_signals();
      runtime_thread_flag() = true;
      const block_shelf blocks;
      for (;;) {
        try {
          run();
          break;
        } catch (const std::exception& error) {
          report(error.what());
        } catch (...) {
          report("unknown exception");
        }
      }
      if (abandoned_) shutdown();
    });
  }

  bool started() const noexcept { return thread_.joinable(); }

  /// Ends the thread and destroys every handler that still waits.
  void end() {
    abandoned_ = thread_.get_id() == std::this_thread::get_id();
    stop();
    if (!thread_.joinable()) return;
    if (abandoned_) {
      thread_.detach();  // it destroys its handlers itself, once the one that runs has returned
    } else {
      thread_.join();
      shutdown();
    }
  }

 private:
  /// The last one that was made. Through it, no leak checker takes those that ended for lost.
  static std::atomic<io_thread*>& all() noexcept {
    static std::atomic<io_thread*> last{nullptr};
    return last;
  }

  /// A completion handler threw: other connections depend on this thread, so it goes on.
  static void report(const char* what) noexcept {
    std::fprintf(stderr, "gtcp: exception left a completion handler: %s\n", what);
  }

  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
  bool abandoned_ = false;
  io_thread* next_ = nullptr;
};

/// Returns an executor on which things go on one after the other: `io` itself where it is that of an io thread, else a
/// strand. (That also is Asio's only way to make one that can't crash for want of memory.)
inline asio::any_io_executor serial_executor(const asio::any_io_executor& io) {
  const auto* const plain = target_of<asio::io_context::executor_type>(io);
  if (plain != nullptr && io_thread::is_one(asio::query(*plain, asio::execution::context))) return io;
  return asio::make_strand(io);
}

}  // namespace detail

/// Owns io threads, each with an io_context of its own; a Conn stays on one of them. A thread starts when it is first
/// needed.
///
/// Thread safety: all members may be called from any thread.
/// Lifetimes: the default Runtime is never destroyed. Destroying another one ends its threads and destroys, without
/// calling them, the handlers that still wait on it; a Runtime may be destroyed on one of its own threads.
class Runtime {
 public:
  /// Makes a Runtime of `threads` io threads; 0, the default, means one for each processor.
  ///
  /// Errors: std::system_error with Errc::InvalidOption for a negative number.
  explicit Runtime(int threads = 0) { SetThreads(threads); }

  ~Runtime() {
    for (detail::io_thread* lane : lanes_) lane->end();
  }

  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Returns the Runtime that serves everything that names no executor.
  static Runtime& Default() { return detail::per_process<Runtime>::instance(); }

  /// Sets the number of io threads; 0 means one for each processor. Threads that were started are kept, so a smaller
  /// number only limits which of them get further connections.
  ///
  /// Errors: std::system_error with Errc::InvalidOption for a negative number.
  void SetThreads(int threads) {
    if (threads < 0) {
      throw std::system_error(make_error_code(Errc::InvalidOption),
                              "number of io threads is " + std::to_string(threads) + ", allowed are 0 and more");
    }
    const std::lock_guard lock(mutex_);
    threads_ = threads != 0 ? static_cast<std::size_t>(threads) : std::max(1u, std::thread::hardware_concurrency());
  }

  /// Returns the executor of one of the io threads, each in turn, and starts the thread if need be; if the system has
  /// nothing left for another one, it is one that runs already.
  ///
  /// Errors: the system's, when there is no thread at all.
  asio::any_io_executor get_executor() {
    const std::lock_guard lock(mutex_);
    try {
      return lane(next_++ % threads_).get_executor();
    } catch (const std::exception&) {
      for (detail::io_thread* other : lanes_) {
        if (other->started()) return other->get_executor();
      }
      throw;
    }
  }

 private:
  /// Under the mutex.
  detail::io_thread& lane(std::size_t index) {
    lanes_.reserve(index + 1);
    while (lanes_.size() <= index) lanes_.push_back(new detail::io_thread);
    if (!lanes_[index]->started()) lanes_[index]->start();
    return *lanes_[index];
  }

  std::mutex mutex_;
  std::size_t threads_ = 1;
  std::size_t next_ = 0;
  std::vector<detail::io_thread*> lanes_;
};

}  // namespace gtcp

#endif
