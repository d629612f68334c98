// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SIGNAL_STORM_HPP
#define GTCP_TESTS_SUPPORT_SIGNAL_STORM_HPP

// A signal every 100 microseconds to each of the threads that ask for it, and to whoever the system chooses; without
// SA_RESTART, so that what the thread waits in returns with EINTR.

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace gtcp_test {

/// The thread that makes it is one of those that are aimed at.
class signal_storm {
 public:
  signal_storm() {
    struct sigaction action = {};
    action.sa_handler = [](int) { received().fetch_add(1, std::memory_order_relaxed); };
    ::sigemptyset(&action.sa_mask);
    action.sa_flags = 0;
    ::sigaction(SIGUSR1, &action, &before_);
    {
      const std::lock_guard registry(living_mutex());
      living() = this;
    }
    aim_at_this_thread();
    thread_ = std::thread([this] {
      sigset_t own;
      ::sigemptyset(&own);
      ::sigaddset(&own, SIGUSR1);
      ::pthread_sigmask(SIG_BLOCK, &own, nullptr);
      auto next = std::chrono::steady_clock::now();
      while (!stop_) {
        next += std::chrono::microseconds(100);
        {
          const std::lock_guard lock(mutex_);
          for (const aim& one : threads_) ::pthread_kill(one.thread, SIGUSR1);
        }
        ::kill(::getpid(), SIGUSR1);
        std::this_thread::sleep_until(next);  // the scenario itself
      }
    });
  }
  ~signal_storm() {
    stop_ = true;
    thread_.join();
    {
      const std::lock_guard registry(living_mutex());
      living() = nullptr;
    }
    // One may still be on its way.
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &ignore, nullptr);
    ::sigaction(SIGUSR1, &before_, nullptr);
  }
  signal_storm(const signal_storm&) = delete;
  signal_storm& operator=(const signal_storm&) = delete;

  /// From now on the calling thread is hit, until it ends; it must not outlive the storm.
  void aim_at_this_thread() const {
    static thread_local leaver at_exit;
    if (std::exchange(at_exit.storm, number_) == number_) return;
    sigset_t own;
    ::sigemptyset(&own);
    ::sigaddset(&own, SIGUSR1);
    ::pthread_sigmask(SIG_UNBLOCK, &own, nullptr);
    const std::lock_guard lock(mutex_);
    threads_.push_back({::pthread_self()});
  }

  /// How many came.
  unsigned count() const noexcept { return received().load(std::memory_order_relaxed); }

 private:
  struct aim {
    ::pthread_t thread;
  };
  /// Takes a thread that ends out of the aim.
  struct leaver {
    unsigned storm = 0;
    ~leaver() {
      const std::lock_guard registry(living_mutex());
      signal_storm* const now = living();
      if (now == nullptr || now->number_ != storm) return;
      const std::lock_guard lock(now->mutex_);
      std::erase_if(now->threads_, [](const aim& one) { return ::pthread_equal(one.thread, ::pthread_self()) != 0; });
    }
  };

  static std::atomic<unsigned>& received() noexcept {
    static std::atomic<unsigned> count{0};
    return count;
  }
  static std::mutex& living_mutex() noexcept {
    static std::mutex mutex;
    return mutex;
  }
  static signal_storm*& living() noexcept {
    static signal_storm* storm = nullptr;
    return storm;
  }
  static unsigned next_number() noexcept {
    static std::atomic<unsigned> last{0};
    return ++last;
  }

  const unsigned number_ = next_number();
  struct sigaction before_ = {};
  mutable std::mutex mutex_;
  mutable std::vector<aim> threads_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace gtcp_test

#endif
