// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PKG_PUMP_HPP
#define GTCP_DETAIL_PKG_PUMP_HPP

// The reader loop inside the library.

#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/config.hpp>

#include <memory>
#include <string_view>
#include <system_error>

namespace gtcp::detail {

/// Where the packages of a pump go. Called on the connection's executor, one call at a time.
class pkg_sink {
 public:
  virtual ~pkg_sink() = default;
  /// `pkg` is valid during the call. What it throws stays inside; it closes the connection then.
  virtual void on_pkg(std::string_view pkg) noexcept = 0;
  /// The last call: no package follows, because of `reason`. What it throws goes to the executor.
  virtual void on_end(std::error_code reason) = 0;
};

/// Reads packages of the standard format until the connection ends. Returns at once.
GTCP_DECL void start_pump(const conn_ptr& conn, std::unique_ptr<pkg_sink> sink);

/// The same for who is called on the connection's executor: hands on in this call what is there already.
GTCP_DECL void start_pump_here(const conn_ptr& conn, std::unique_ptr<pkg_sink> sink);

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/pkg_pump.hpp>
#endif

#endif
