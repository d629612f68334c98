// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SCRIPTED_SINK_HPP
#define GTCP_TESTS_SUPPORT_SCRIPTED_SINK_HPP

// A transport without a socket, whose every write does what a script says, and a descriptor beside it that is writable
// when the test wants it to be.

#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_io.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/detail/transport.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <limits>
#include <mutex>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace gtcp_test {

/// Lets the step number `at` fail, counted from 0, and every other one pass.
///
/// Used with `at` from 0 until fired() says that the scenario ended before its step: then each step has failed once.
class fail_count {
 public:
  explicit fail_count(std::size_t at, std::error_code error = asio::error::connection_reset) : at_(at), error_(error) {}

  std::error_code next() { return count_++ == at_ ? error_ : std::error_code(); }
  bool fired() const { return count_ > at_; }
  const std::error_code& error() const noexcept { return error_; }

 private:
  std::size_t count_ = 0;
  const std::size_t at_;
  const std::error_code error_;
};

/// What one write does.
struct write_step {
  std::size_t take = std::numeric_limits<std::size_t>::max();  ///< bytes, at most what is offered
  std::error_code error{};
  gtcp::detail::wait_direction wait_for = gtcp::detail::wait_direction::write;  ///< when it takes less than all
  bool moves_held = false;         ///< the system took bytes of what the transport had taken before
  std::function<void()> during{};  ///< called in the middle of the write, by the writing thread

  static write_step everything() { return {}; }
  static write_step takes(std::size_t size) { return {.take = size}; }
  static write_step blocks(gtcp::detail::wait_direction wait_for = gtcp::detail::wait_direction::write) {
    return {.take = 0, .wait_for = wait_for};
  }
  static write_step fails(std::error_code why, std::size_t after = 0) { return {.take = after, .error = why}; }
  write_step with(std::function<void()> action) && {
    during = std::move(action);
    return std::move(*this);
  }
};

/// Thread safety: may be used by any thread.
class scripted_sink final : public gtcp::detail::transport {
 public:
  struct part {
    const void* data;
    std::size_t size;
  };

  /// The next writes do these steps, one each; those after them what `otherwise` says.
  void on_writes(std::vector<write_step> steps, write_step otherwise = write_step::everything()) {
    const std::lock_guard lock(mutex_);
    steps_.assign(steps.begin(), steps.end());
    otherwise_ = std::move(otherwise);
  }

  /// Forgets what was written.
  void clear() {
    const std::lock_guard lock(mutex_);
    written_.clear();
    parts_.clear();
  }

  /// Every write that would take a byte is a step that may fail.
  void fail_by(fail_count* counter) { fail_ = counter; }

  /// All bytes that were written.
  std::string written() const {
    const std::lock_guard lock(mutex_);
    return written_;
  }
  std::size_t writes() const {
    const std::lock_guard lock(mutex_);
    return parts_.size();
  }
  /// The buffers that write number `index` was given.
  std::vector<part> parts(std::size_t index) const {
    const std::lock_guard lock(mutex_);
    return parts_.at(index);
  }
  /// Whether two writes were ever under way at once.
  bool overlapped() const {
    const std::lock_guard lock(mutex_);
    return overlapped_;
  }

  gtcp::detail::io_result read_some(asio::mutable_buffer) override {
    return {0, {}, gtcp::detail::wait_direction::read, true};
  }

  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    using gtcp::detail::wait_direction;
    std::unique_lock lock(mutex_);
    write_step step = otherwise_;
    if (!steps_.empty()) {
      step = std::move(steps_.front());
      steps_.pop_front();
    }
    overlapped_ = overlapped_ || writing_;
    writing_ = true;
    std::vector<part>& parts = parts_.emplace_back();
    for (const asio::const_buffer& buffer : buffers) parts.push_back({buffer.data(), buffer.size()});
    lock.unlock();
    if (step.during) step.during();
    lock.lock();
    writing_ = false;

    if (step.take != 0 && fail_ != nullptr) {
      if (const std::error_code error = fail_->next()) return {0, error};
    }
    std::size_t left = step.take;
    std::size_t all = 0;
    std::size_t taken = 0;
    for (const asio::const_buffer& buffer : buffers) {
      const std::size_t size = std::min(left, buffer.size());
      written_.append(static_cast<const char*>(buffer.data()), size);
      all += buffer.size();
      taken += size;
      left -= size;
    }
    if (step.error) return {taken, step.error};
    return {
        .size = taken, .wait_for = taken < all ? step.wait_for : wait_direction::none, .moved_held = step.moves_held};
  }

  gtcp::detail::io_result write_more(std::span<const asio::const_buffer> buffers) override {
    {
      const std::lock_guard lock(mutex_);
      kept_ += "m";
    }
    return write_some(buffers);
  }
  void push() override {
    const std::lock_guard lock(mutex_);
    kept_ += "p";
  }

  /// What the system was told about what follows: an m for each write that more was to follow, a p for each push.
  std::string kept() const {
    const std::lock_guard lock(mutex_);
    return kept_;
  }

  void end_of_sending() override {}

 private:
  mutable std::mutex mutex_;
  std::string kept_;
  std::deque<write_step> steps_;
  write_step otherwise_;
  fail_count* fail_ = nullptr;
  std::string written_;
  std::deque<std::vector<part>> parts_;
  bool writing_ = false;
  bool overlapped_ = false;
};

/// A descriptor that is writable when it is open, for threads that wait for it.
class gate {
 public:
  gate() {
    asio::local::connect_pair(near_, far_);
    near_.non_blocking(true);
    far_.non_blocking(true);
  }

  gtcp::detail::native_socket descriptor() { return near_.native_handle(); }

  void close() {
    const std::array<char, 4096> bytes{};
    std::error_code error;
    while (!error) near_.write_some(asio::buffer(bytes), error);
  }
  void open() {
    std::array<char, 4096> bytes{};
    std::error_code error;
    while (!error) far_.read_some(asio::buffer(bytes), error);
  }

 private:
  asio::io_context context_;
  asio::local::stream_protocol::socket near_{context_};
  asio::local::stream_protocol::socket far_{context_};
};

}  // namespace gtcp_test

#endif
