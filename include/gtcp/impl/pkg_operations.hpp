// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_PKG_OPERATIONS_HPP
#define GTCP_IMPL_PKG_OPERATIONS_HPP

// The operations on packages: with the standard format first, since most have it.

#include <gtcp/pkg_operations.hpp>

#include <asio/awaitable.hpp>

#include <string>
#include <utility>

namespace gtcp {

GTCP_DECL bool PkgOperations::TrySendPkg(Payload data, PkgOption option, OnError on_error) const {
  detail::prepared op = prepare("TrySendPkg", option);
  const detail::pkg_header header = detail::frame(op, data.Size());
  return detail::try_send(op, header, data, on_error);
}

GTCP_DECL bool PkgOperations::TryRecvPkg(std::string& into, PkgOption option, OnError on_error) const {
  const detail::prepared op = prepare("TryRecvPkg", option);
  return detail::try_receive(op, detail::recv_goal::package(op.format), into, on_error);
}

GTCP_DECL void PkgOperations::send_pkg(const char* name, Payload data, const PkgOption& option, const limit& until,
                                       const OnError& on_error) const {
  if (is_standard(option) && handle_->append({data.Data(), data.Size()})) return on_error.Clear();
  detail::prepared op = prepare(name, option);
  const detail::pkg_header header = detail::frame(op, data.Size());
  detail::send(op, header, data, until, on_error);
}

GTCP_DECL asio::awaitable<void> PkgOperations::await_send_pkg(const char* name, AsyncPayload data,
                                                              const PkgOption& option, limit until,
                                                              OnError on_error) const {
  detail::prepared op = prepare(name, option);
  const detail::pkg_header header = detail::frame(op, data.Size());
  return detail::await_send(std::move(op), header, std::move(data), until, on_error);
}

GTCP_DECL asio::awaitable<void> PkgOperations::await_send_pkg(const char* name, AsyncPayload data, limit until,
                                                              OnError on_error) const {
  if (handle_ == nullptr || data.Size() >= detail::outbox::borrow_from) {
    return await_send_pkg(name, std::move(data), PkgOption{}, until, on_error);
  }
  return detail::await_send_pkg(name, detail::state_of(handle_), std::move(data), until, on_error);
}

GTCP_DECL std::string PkgOperations::receive(const char* name, const PkgOption& option, const limit& until,
                                             const OnError& on_error) const {
  std::string pkg;
  receive_into(name, option, until, pkg, on_error);
  return pkg;
}

GTCP_DECL void PkgOperations::receive_into(const char* name, const PkgOption& option, const limit& until,
                                           std::string& into, const OnError& on_error) const {
  const bool may_take = is_standard(option) && !detail::on_runtime_thread();
  if (may_take && handle_->take_buffered_pkg(into, detail::gathering::by_thread)) return on_error.Clear();
  const detail::prepared op = prepare(name, option);
  detail::receive(op, detail::recv_goal::package(op.format), until, into, on_error);
}

GTCP_DECL asio::awaitable<std::string> PkgOperations::await_receive(const char* name, const PkgOption& option,
                                                                    limit until, OnError on_error) const {
  detail::prepared op = prepare(name, option);
  const detail::recv_goal goal = detail::recv_goal::package(op.format);
  return detail::await_receive(std::move(op), goal, until, on_error);
}

GTCP_DECL asio::awaitable<std::string> PkgOperations::await_receive(const char* name, limit until,
                                                                    OnError on_error) const {
  if (handle_ == nullptr) return await_receive(name, PkgOption{}, until, on_error);
  return detail::await_receive_pkg(name, detail::state_of(handle_), until, on_error);
}

GTCP_DECL asio::awaitable<void> PkgOperations::await_receive_into(const char* name, const PkgOption& option,
                                                                  limit until, std::string& into,
                                                                  OnError on_error) const {
  detail::prepared op = prepare(name, option);
  const detail::recv_goal goal = detail::recv_goal::package(op.format);
  return detail::await_receive_into(std::move(op), goal, until, into, on_error);
}

GTCP_DECL asio::awaitable<void> PkgOperations::await_receive_into(const char* name, limit until, std::string& into,
                                                                  OnError on_error) const {
  if (handle_ == nullptr) return await_receive_into(name, PkgOption{}, until, into, on_error);
  return detail::await_receive_pkg_into(name, detail::state_of(handle_), until, into, on_error);
}

GTCP_DECL std::string PkgOperations::send_receive_pkg(const char* name, Payload data, const PkgOption& option,
                                                      const limit& until, const OnError& on_error) const {
  detail::prepared op = prepare(name, option);
  const detail::pkg_header header = detail::frame(op, data.Size());
  return send_receive(op, header, data, detail::recv_goal::package(op.format), until, on_error);
}

GTCP_DECL asio::awaitable<std::string> PkgOperations::await_send_receive_pkg(const char* name, AsyncPayload data,
                                                                             const PkgOption& option, limit until,
                                                                             OnError on_error) const {
  detail::prepared op = prepare(name, option);
  const detail::pkg_header header = detail::frame(op, data.Size());
  const detail::recv_goal goal = detail::recv_goal::package(op.format);
  return detail::await_send_receive(std::move(op), header, std::move(data), goal, until, on_error);
}

GTCP_DECL detail::prepared PkgOperations::prepare(const char* name, const PkgOption& option) const {
  return detail::prepare(name, handle_, option);
}

}  // namespace gtcp

#endif
