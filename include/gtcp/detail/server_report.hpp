// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_REPORT_HPP
#define GTCP_DETAIL_SERVER_REPORT_HPP

// What is said of exceptions that leave a handler.

#include <gtcp/conn.hpp>

#include <cstdio>
#include <exception>
#include <string>

namespace gtcp::detail {

/// For catch (...): returns what was caught, and passes on what is no exception of C++: a thread that ends itself, by
/// pthread_exit or because it is cancelled, unwinds its stack in the same way and must not be held up.
inline std::exception_ptr caught_exception() {
  std::exception_ptr exception = std::current_exception();
  if (!exception) throw;
  return exception;
}

inline std::string text_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "exception of unknown type";
  }
}

/// Writes a line where nobody has asked for the exception; `conn` may be none.
inline void print_failure(const Conn& conn, const char* failed, const std::exception_ptr& failure) noexcept {
  try {
    const std::string peer = conn ? "[" + conn.RemoteAddr() + "] " : std::string();
    std::fprintf(stderr, "gtcp: %s%s%s\n", peer.c_str(), failed, text_of(failure).c_str());
  } catch (const std::exception&) {  // no memory for the line
  }
}

}  // namespace gtcp::detail

#endif
