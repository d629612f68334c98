// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_RUNTIME_HPP
#define GTCP_IMPL_RUNTIME_HPP

// How io threads begin, run and end.

#include <gtcp/runtime.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/execution/context.hpp>
#include <asio/execution_context.hpp>
#include <asio/io_context.hpp>
#include <asio/query.hpp>
#include <asio/strand.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

namespace gtcp {

GTCP_DECL Runtime::~Runtime() {
  if (process_.is_inherited()) return;  // the threads are not here, and what they had locked stays so
  for (detail::io_thread* thread : io_threads_) thread->end();
}

GTCP_DECL void Runtime::SetThreads(int threads) {
  if (threads < 0) {
    throw std::system_error(make_error_code(Errc::InvalidOption),
                            "number of io threads is " + std::to_string(threads) + ", allowed are 0 and more");
  }
  const std::lock_guard lock(mutex_);
  threads_ = threads != 0 ? static_cast<std::size_t>(threads) : std::max(1u, std::thread::hardware_concurrency());
}

GTCP_DECL asio::any_io_executor Runtime::get_executor() {
  const std::lock_guard lock(mutex_);
  try {
    return io(next_++ % threads_).get_executor();
  } catch (const std::exception&) {
    for (detail::io_thread* other : io_threads_) {
      if (other->started()) return other->get_executor();
    }
    throw;
  }
}

GTCP_DECL detail::io_thread& Runtime::io(std::size_t index) {
  io_threads_.reserve(index + 1);
  while (io_threads_.size() <= index) io_threads_.push_back(new detail::io_thread);
  if (!io_threads_[index]->started()) io_threads_[index]->start();
  return *io_threads_[index];
}

GTCP_DECL void detail::io_thread::start() {
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

GTCP_DECL void detail::io_thread::end() {
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

GTCP_DECL void detail::io_thread::report(const char* what) noexcept {
  std::fprintf(stderr, "gtcp: exception left a completion handler: %s\n", what);
}

GTCP_DECL bool detail::io_thread::is_one(const asio::execution_context& context) noexcept {
  for (const io_thread* thread = all().load(); thread != nullptr; thread = thread->next_) {
    if (static_cast<const asio::execution_context*>(thread) == &context) return true;
  }
  return false;
}

GTCP_DECL asio::any_io_executor detail::serial_executor(const asio::any_io_executor& io) {
  const auto* const plain = target_of<asio::io_context::executor_type>(io);
  if (plain != nullptr && io_thread::is_one(asio::query(*plain, asio::execution::context))) return io;
  return asio::make_strand(io);
}

}  // namespace gtcp

#endif
