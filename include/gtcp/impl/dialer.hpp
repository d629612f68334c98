// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_DIALER_HPP
#define GTCP_IMPL_DIALER_HPP

// How connecting is done, in a thread and as a coroutine.

#include <gtcp/detail/dialer.hpp>
#include <gtcp/detail/guarded_wait.hpp>
#include <gtcp/detail/platform_wait.hpp>
#include <gtcp/detail/tcp_settings.hpp>
#include <gtcp/detail/watch.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/socket_base.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace gtcp::detail {

GTCP_DECL std::error_code dialer::begin() {
  if (timeout_.count() < 0) {
    why_ = "the timeout is " + std::to_string(timeout_.count()) + " ns, allowed are 0 for no limit and more";
    return Errc::InvalidOption;
  }
  if (const auto ec = check(option_, why_)) return ec;
  if (const auto ec = parse_address(text_, address_, why_)) return ec;
  if (!option_.LocalAddress.empty()) {
    address local;
    if (const auto ec = parse_address(option_.LocalAddress, local, why_)) {
      why_ = "LocalAddress: " + why_;
      return ec;
    }
    std::error_code no_number;
    const auto host = local.host.empty() ? asio::ip::address() : asio::ip::make_address(local.host, no_number);
    if (local.is_unix || no_number) {
      why_ = "LocalAddress \"" + option_.LocalAddress + "\": it needs an IP address and a port";
      return Errc::InvalidAddress;
    }
    local_.push_back(to_socket_address({host, local.port}));
    if (local.host.empty()) local_.push_back(to_socket_address({asio::ip::address_v6::any(), local.port}));
  }
  deadline_ = timeout_.count() == 0 ? no_deadline : deadline_after(timeout_);
  if (address_.is_unix) {
    targets_.push_back(socket_address::of_unix(address_.path));
  } else {
    std::error_code no_number;
    const auto host = asio::ip::make_address(address_.host, no_number);
    if (!no_number)
      targets_.push_back(to_socket_address({host, address_.port}));
    else if (address_.host.empty())
      this_machine();
  }
  prefer_own_family();
  return {};
}

GTCP_DECL void dialer::add(const asio::ip::tcp::resolver::results_type& results) {
  for (const auto& result : results) targets_.push_back(to_socket_address(result.endpoint()));
  prefer_own_family();
}

GTCP_DECL std::error_code dialer::try_next(native_socket& descriptor) {
  const socket_address& target = targets_[next_++];
  why_.clear();
  const auto local = local_for(target);
  if (!local_.empty() && local == local_.end()) {
    why_ = "LocalAddress \"" + option_.LocalAddress + "\" is of another family than \"" + text_ + '"';
    return asio::error::address_family_not_supported;
  }
  std::error_code error;
  descriptor = open_socket(target.family(), error);
  if (error) return error;
  if (const auto ec = apply(option_, descriptor, target.is_unix())) return ec;
  if (local != local_.end()) {
    if (const auto ec = bind_socket(descriptor, *local)) {
      why_ = "LocalAddress \"" + option_.LocalAddress + '"';
      return ec;
    }
  }
  return connect_socket(descriptor, target);
}

GTCP_DECL clock::time_point dialer::try_deadline() const noexcept {
  if (deadline_ == no_deadline) return deadline_;
  const clock::time_point now = clock::now();
  const auto left = std::max(deadline_ - now, clock::duration(0));
  return now + left / static_cast<clock::rep>(targets_.size() - next_ + 1);
}

GTCP_DECL std::string dialer::describe(const char* name) const {
  return why_.empty() ? std::string(name) + " \"" + text_ + '"' : with_reason(name, why_);
}

GTCP_DECL std::vector<socket_address>::const_iterator dialer::local_for(const socket_address& target) const {
  return std::ranges::find(local_, target.family(), &socket_address::family);
}

GTCP_DECL void dialer::this_machine() {
  targets_.push_back(to_socket_address({asio::ip::address_v4::loopback(), address_.port}));
  targets_.push_back(to_socket_address({asio::ip::address_v6::loopback(), address_.port}));
}

GTCP_DECL void dialer::prefer_own_family() {
  const auto is_other = [this](const socket_address& target) { return local_for(target) == local_.end(); };
  if (!local_.empty() && !std::ranges::all_of(targets_, is_other)) std::erase_if(targets_, is_other);
}

/// Whether a connected socket is its own peer: the system may choose the very port for it that it connects to, if
/// nobody listens there.
inline bool is_own_peer(native_socket descriptor) noexcept {
  const socket_address own = socket_address::of(descriptor);
  return !own.is_unix() && !own.empty() && own == socket_address::of_peer(descriptor);
}

// ---- Blocking

/// Resolves a name within the dialer's deadline. The system's resolver can't be interrupted, so it runs in Asio's
/// thread, and an answer that comes too late is for nobody.
inline std::error_code resolve(dialer& dial, const std::stop_token& stop) {
  struct answer {
    explicit answer(const asio::any_io_executor& io) : resolver(io) {}
    asio::ip::tcp::resolver resolver;
    std::mutex mutex;
    std::condition_variable_any came;
    bool done = false;
    std::error_code error;
    asio::ip::tcp::resolver::results_type results;
  };
  const auto shared = std::make_shared<answer>(Runtime::Default().get_executor());
  shared->resolver.async_resolve(dial.host(), dial.port(), asio::ip::tcp::resolver::numeric_service,
                                 [shared](std::error_code error, asio::ip::tcp::resolver::results_type results) {
                                   const std::lock_guard lock(shared->mutex);
                                   shared->done = true;
                                   shared->error = error;
                                   shared->results = std::move(results);
                                   shared->came.notify_all();
                                 });
  std::unique_lock lock(shared->mutex);
  const auto is_done = [&] { return shared->done; };
  if (dial.deadline() == no_deadline)
    shared->came.wait(lock, stop, is_done);
  else
    shared->came.wait_until(lock, stop, dial.deadline(), is_done);
  if (!shared->done)
    return stop.stop_requested() ? make_error_code(asio::error::operation_aborted) : make_error_code(Errc::Timeout);
  if (!shared->error) dial.add(shared->results);
  return shared->error;
}

GTCP_DECL std::error_code dial_blocking(dialer& dial, const std::stop_token& stop, native_socket& connected) {
  if (on_runtime_thread()) return Errc::WouldDeadlock;
  if (dial.needs_resolver()) {
    if (const auto ec = resolve(dial, stop)) return ec;
  }
  waker& wake = waker::of_this_thread();
  const std::stop_callback on_stop(stop, [&wake] { wake.signal(); });
  std::error_code error = asio::error::host_not_found;
  while (dial.more()) {
    native_socket opened = invalid_native_socket;
    error = dial.try_next(opened);
    descriptor_guard descriptor(opened);
    if (error == asio::error::would_block) {
      const clock::time_point until = dial.try_deadline();
      while (error == asio::error::would_block) {
        if (stop.stop_requested()) return asio::error::operation_aborted;
        if (dial.must_try_again()) {
          std::this_thread::sleep_until(std::min(until, clock::now() + dialer::pause_between_tries));
          error = dial.try_again(opened);
        } else {
          wait_descriptor(opened, wait_direction::write, wake, until);
          if (is_ready(opened, wait_direction::write)) error = pending_error(opened);
        }
        const bool is_late = until != no_deadline && clock::now() >= until;
        if (error == asio::error::would_block && is_late) error = Errc::Timeout;
      }
    }
    if (!error && is_own_peer(opened)) error = asio::error::connection_refused;
    if (!error) {
      connected = descriptor.release();
      return {};
    }
  }
  return error;
}

// ---- Asynchronous

/// Runs `cancel` at a deadline, unless it is destroyed before. Used on one strand.
class deadline_timer {
 public:
  deadline_timer(const asio::any_io_executor& strand, clock::time_point at, std::function<void()> cancel) {
    if (at == no_deadline) return;
    timer_.emplace(strand, at);
    timer_->async_wait([expired = expired_, cancel = std::move(cancel)](std::error_code error) {
      if (error || *expired) return;
      *expired = true;
      cancel();
    });
  }
  /// A timer that has fired already may have its handler queued; it must find nothing to do.
  ~deadline_timer() { *expired_ = true; }
  deadline_timer(const deadline_timer&) = delete;
  deadline_timer& operator=(const deadline_timer&) = delete;

  bool expired() const noexcept { return *expired_; }

 private:
  std::shared_ptr<bool> expired_ = std::make_shared<bool>(false);
  std::optional<asio::steady_timer> timer_;
};

/// What the system's resolver says. It can't be interrupted, not by Asio either, so what waits is a timer that the
/// answer ends.
struct async_answer {
  async_answer(const asio::any_io_executor& strand, clock::time_point deadline)
      : resolver(strand), came(strand, deadline) {}
  asio::ip::tcp::resolver resolver;
  asio::steady_timer came;
  bool done = false;
  std::error_code error;
  asio::ip::tcp::resolver::results_type results;
};

inline void begin_resolving(const dialer& dial, const std::shared_ptr<async_answer>& answer) {
  answer->resolver.async_resolve(dial.host(), dial.port(), asio::ip::tcp::resolver::numeric_service,
                                 [answer](std::error_code error, asio::ip::tcp::resolver::results_type results) {
                                   answer->done = true;
                                   answer->error = error;
                                   answer->results = std::move(results);
                                   answer->came.cancel();
                                 });
}

GTCP_DECL asio::awaitable<std::error_code> dial_async(dialer& dial, asio::any_io_executor strand,
                                                      native_socket& connected) {
  std::error_code error;
  if (dial.needs_resolver()) {
    const auto answer = std::make_shared<async_answer>(strand, dial.deadline());
    begin_resolving(dial, answer);
    const auto begin = [answer](auto&& handler) { answer->came.async_wait(std::move(handler)); };
    auto waiting = async_guarded(strand, begin, asio::redirect_error(asio::use_awaitable, error));
    co_await std::move(waiting);
    if (!answer->done) co_return error ? error : make_error_code(Errc::Timeout);
    if (answer->error) co_return answer->error;
    dial.add(answer->results);
  }
  error = asio::error::host_not_found;
  while (dial.more()) {
    native_socket opened = invalid_native_socket;
    error = dial.try_next(opened);
    descriptor_guard descriptor(opened);
    const clock::time_point until = dial.try_deadline();
    while (error == asio::error::would_block && dial.must_try_again()) {
      if (clock::now() >= until) {
        error = Errc::Timeout;
        break;
      }
      asio::steady_timer pause(strand, std::min(until, clock::now() + dialer::pause_between_tries));
      const auto begin = [&pause](auto&& handler) { pause.async_wait(std::move(handler)); };
      auto waiting = async_guarded(strand, begin, asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(waiting);
      if (error) co_return error;
      error = dial.try_again(opened);
    }
    if (error == asio::error::would_block) {
      watch connecting;
      auto& socket = connecting.open([&strand] { return strand; }, opened);
      const deadline_timer timer(strand, until, [&connecting] { connecting.cancel(); });
      const auto begin = [&socket](auto&& handler) {
        socket.async_wait(asio::socket_base::wait_write, std::move(handler));
      };
      auto waiting = async_guarded(strand, begin, asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(waiting);
      if (!error)
        error = pending_error(opened);
      else if (timer.expired())
        error = Errc::Timeout;
      else
        co_return error;
    }
    if (!error && is_own_peer(opened)) error = asio::error::connection_refused;
    if (!error) {
      connected = descriptor.release();
      co_return error;
    }
  }
  co_return error;
}

}  // namespace gtcp::detail

#endif
