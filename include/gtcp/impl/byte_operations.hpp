// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_BYTE_OPERATIONS_HPP
#define GTCP_IMPL_BYTE_OPERATIONS_HPP

// The operations on plain bytes.

#include <gtcp/byte_operations.hpp>

#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp {

GTCP_DECL std::string ByteOperations::receive(const detail::prepared& op, detail::recv_goal goal,
                                              const detail::time_limit& limit, const OnError& on_error) {
  std::string bytes;
  detail::receive(op, std::move(goal), limit, bytes, on_error);
  return bytes;
}

GTCP_DECL std::string ByteOperations::send_receive(const detail::prepared& op, const detail::pkg_header& header,
                                                   Payload data, detail::recv_goal goal,
                                                   const detail::time_limit& limit, const OnError& on_error) {
  std::error_code error;
  std::string reply;
  detail::send(op, header, data, limit, OnError(error));
  if (!error) detail::receive(op, std::move(goal), limit, reply, OnError(error));
  op.report(on_error, error);
  return reply;
}

GTCP_DECL detail::prepared ByteOperations::prepare(const char* name, const gtcp::Retry& retry) const {
  return detail::prepare(name, handle_, retry);
}

GTCP_DECL detail::prepared ByteOperations::prepare_till(const char* name, std::string_view til,
                                                        const gtcp::Retry& retry) const {
  detail::prepared op = prepare(name, retry);
  if (!op.error && til.empty()) {
    op.error = Errc::InvalidOption;
    op.why = "`til` is empty, it needs at least 1 byte";
  }
  return op;
}

GTCP_DECL detail::recv_goal ByteOperations::till(std::string_view til, bool keep) const {
  return detail::recv_goal::until(til, keep, handle_ != nullptr ? handle_->max_line_size() : 1);
}

}  // namespace gtcp

#endif
