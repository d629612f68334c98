// SPDX-License-Identifier: MIT
#ifndef GTCP_RUNTIME_HPP
#define GTCP_RUNTIME_HPP

// The io threads on which asynchronous operations and the leftovers of blocking ones go on, unless the user brings an
// executor.

#include <gtcp/detail/asio_compat.hpp>
#include <gtcp/detail/block_pool.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/per_process.hpp>
#include <gtcp/detail/platform_process.hpp>
#include <gtcp/error.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/execution_context.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

#include <atomic>
#include <cstddef>
#include <mutex>
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
  static bool is_one(const asio::execution_context& context) noexcept;

  void start();

  bool started() const noexcept { return thread_.joinable(); }

  /// Ends the thread and destroys every handler that still waits.
  void end();

 private:
  /// The last one that was made. Through it, no leak checker takes those that ended for lost.
  static std::atomic<io_thread*>& all() noexcept {
    static std::atomic<io_thread*> last{nullptr};
    return last;
  }

  /// A completion handler threw: other connections depend on this thread, so it goes on.
  static void report(const char* what) noexcept;

  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
  bool abandoned_ = false;
  io_thread* next_ = nullptr;
};

/// Returns an executor on which things go on one after the other: `io` itself where it is that of an io thread, else a
/// strand. (That also is Asio's only way to make one that can't crash for want of memory.)
GTCP_DECL asio::any_io_executor serial_executor(const asio::any_io_executor& io);

}  // namespace detail

/// Owns io threads, each with an io_context of its own; a Conn stays on one of them. A thread starts when it is first
/// needed.
///
/// Thread safety: all members may be called from any thread.
/// Lifetimes: the default Runtime is never destroyed. Destroying another one ends its threads and destroys, without
/// calling them, the handlers that still wait on it; a Runtime may be destroyed on one of its own threads. In a child
/// process, destroying one of the parent's leaves all of that alone.
class Runtime {
 public:
  /// Makes a Runtime of `threads` io threads; 0, the default, means one for each processor.
  ///
  /// Errors: std::system_error with Errc::InvalidOption for a negative number.
  explicit Runtime(int threads = 0) { SetThreads(threads); }

  ~Runtime();

  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Returns the Runtime that serves everything that names no executor.
  static Runtime& Default() { return detail::per_process<Runtime>::instance(); }

  /// Sets the number of io threads; 0 means one for each processor. Threads that were started are kept, so a smaller
  /// number only limits which of them get further connections.
  ///
  /// Errors: std::system_error with Errc::InvalidOption for a negative number.
  void SetThreads(int threads);

  /// Returns the executor of one of the io threads, each in turn, and starts the thread if need be; if the system has
  /// nothing left for another one, it is one that runs already.
  ///
  /// Errors: the system's, when there is no thread at all.
  asio::any_io_executor get_executor();

 private:
  /// Under the mutex.
  detail::io_thread& io(std::size_t index);

  const detail::process_mark process_;
  std::mutex mutex_;
  std::size_t threads_ = 1;
  std::size_t next_ = 0;
  std::vector<detail::io_thread*> io_threads_;
};

}  // namespace gtcp

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/runtime.hpp>
#endif

#endif
