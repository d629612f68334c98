// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_CONN_HPP
#define GTCP_IMPL_CONN_HPP

// What a Conn does besides sending and receiving.

#include <gtcp/conn.hpp>

#include <asio/system_executor.hpp>

#include <any>
#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp {

GTCP_DECL void Conn::SetDeadline(std::chrono::steady_clock::time_point at, OnError on_error) const {
  if (connected("SetDeadline", on_error)) {
    handle_->set_recv_deadline(at);
    handle_->set_send_deadline(at);
  }
}

GTCP_DECL void Conn::SetDeadlineRecv(std::chrono::steady_clock::time_point at, OnError on_error) const {
  if (connected("SetDeadlineRecv", on_error)) handle_->set_recv_deadline(at);
}

GTCP_DECL void Conn::SetDeadlineSend(std::chrono::steady_clock::time_point at, OnError on_error) const {
  if (connected("SetDeadlineSend", on_error)) handle_->set_send_deadline(at);
}

GTCP_DECL void Conn::SetBufferWaitRecv(std::chrono::nanoseconds wait, OnError on_error) const {
  if (!connected("SetBufferWaitRecv", on_error)) return;
  if (wait.count() < 0) {
    on_error.Report(Errc::InvalidOption, [&] {
      return "SetBufferWaitRecv: the wait is " + std::to_string(wait.count()) + " ns, allowed are 0 and more";
    });
    return;
  }
  handle_->set_buffer_wait(wait);
}

GTCP_DECL void Conn::SetSendMode(SendMode mode, OnError on_error) const {
  if (connected("SetSendMode", on_error)) handle_->set_mode(mode);
}

GTCP_DECL bool Conn::CloseAndWait(Timeout timeout, OnError on_error) const {
  const detail::prepared op = detail::prepare("CloseAndWait", handle_, Retry{});
  std::error_code error = op.error;
  bool delivered = false;
  if (!error) {
    handle_->close(false);
    delivered = handle_->wait_closed(detail::deadline_after(timeout), error);
  }
  op.report(on_error, error);
  return delivered;
}

GTCP_DECL void Conn::CloseWrite(OnError on_error) const {
  if (connected("CloseWrite", on_error)) handle_->close_write();
}

GTCP_DECL std::any& Conn::UserData() const {
  if (handle_ == nullptr) throw std::system_error(make_error_code(asio::error::not_connected), "UserData");
  return handle_->user_data();
}

GTCP_DECL Conn::executor_type Conn::get_executor() const {
  return handle_ != nullptr ? handle_->executor() : executor_type(asio::system_executor());
}

GTCP_DECL Conn::NativeHandle Conn::GetNativeHandle() const {
  NativeHandle handle = detail::invalid_native_socket;
  if (handle_ != nullptr) {
    handle_->keep_from_pool();
    static_cast<void>(handle_->with_descriptor([&](NativeHandle descriptor) {
      handle = descriptor;
      return std::error_code();
    }));
  }
  return handle;
}

GTCP_DECL void Conn::SetKeepAliveTimes(std::chrono::seconds idle, std::chrono::seconds interval, int count,
                                       OnError on_error) const {
  if (!connected("SetKeepAliveTimes", on_error)) return;
  std::string why;
  std::error_code error =
      detail::check(ConnOption{.KeepAliveIdle = idle, .KeepAliveInterval = interval, .KeepAliveCount = count}, why);
  if (!error) {
    handle_->keep_from_pool();
    error = handle_->with_descriptor([&](NativeHandle descriptor) {
      return detail::set(descriptor, detail::keep_alive_times(idle, interval, count));
    });
  }
  on_error.Report(error, [&] { return detail::with_reason("SetKeepAliveTimes", why); });
}

GTCP_DECL void Conn::SetLinger(std::chrono::milliseconds linger, OnError on_error) const {
  if (!connected("SetLinger", on_error)) return;
  std::string why;
  const std::error_code error = detail::check(ConnOption{.Linger = linger}, why);
  if (!error) handle_->set_linger(linger);
  on_error.Report(error, [&] { return "SetLinger: " + why; });
}

GTCP_DECL bool Conn::connected(const char* name, const OnError& on_error) const {
  const std::error_code error = handle_ == nullptr ? make_error_code(asio::error::not_connected) : std::error_code();
  on_error.Report(error, [&] { return std::string(name); });
  return !error;
}

GTCP_DECL void Conn::flush(const char* name, const detail::time_limit& until, const OnError& on_error) const {
  const detail::prepared op = detail::prepare(name, handle_, Retry{});
  op.report(on_error, op.error ? op.error : handle_->flush(until));
}

GTCP_DECL void Conn::set_option(const char* name, detail::socket_option option, std::size_t value,
                                const OnError& on_error) const {
  if (!connected(name, on_error)) return;
  handle_->keep_from_pool();
  constexpr std::size_t max_int = std::numeric_limits<int>::max();
  const std::error_code error =
      value > max_int ? make_error_code(Errc::InvalidOption) : handle_->with_descriptor([&](NativeHandle descriptor) {
        return detail::set_option(descriptor, option, static_cast<int>(value));
      });
  on_error.Report(error, [&] { return std::string(name) + "(" + std::to_string(value) + ")"; });
}

GTCP_DECL int Conn::get_option(const char* name, detail::socket_option option, const OnError& on_error) const {
  int value = 0;
  if (!connected(name, on_error)) return value;
  const std::error_code error =
      handle_->with_descriptor([&](NativeHandle descriptor) { return detail::get_option(descriptor, option, value); });
  on_error.Report(error, [&] { return std::string(name); });
  return value;
}

GTCP_DECL Conn detail::conn_access::make(std::shared_ptr<conn_state> state) {
  state->join_context();
  conn_state* const raw = state.get();
  return Conn(conn_handle(raw, [state = std::move(state)](conn_state*) noexcept { state->close_or_give_back(); }));
}

}  // namespace gtcp

#endif
