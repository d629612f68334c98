// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ASIO_COMPAT_HPP
#define GTCP_DETAIL_ASIO_COMPAT_HPP

// The one place that knows versions of Asio, and types of executors.

// Before Asio, which asks it what the library has (aligned_alloc) and must get the same answer in every file.
#include <cstddef>

#include <asio/any_io_executor.hpp>
#include <asio/io_context.hpp>
#include <asio/strand.hpp>
#include <asio/thread_pool.hpp>
#include <asio/version.hpp>

#include <typeinfo>

#if ASIO_VERSION < 102201
#error "gtcp needs Asio 1.22.1 or newer"
#endif
#if !defined(ASIO_HAS_CO_AWAIT)
#error \
    "this Asio does not see the compiler's coroutines: define ASIO_HAS_CO_AWAIT (clang with Asio before 1.26; gtcp's CMake does)"
#endif

namespace gtcp::detail {

/// Returns what an executor holds if it is a `T`, else nullptr. Asio before 1.26 does not compare the types itself.
template <class T>
const T* target_of(const asio::any_io_executor& executor) {
  return executor && executor.target_type() == typeid(T) ? executor.target<T>() : nullptr;
}

/// Returns the executor underneath a strand: what gtcp does inside must not queue behind the user's handlers, one of
/// which may be a blocking send that waits for it. Other executors are returned as they are.
inline asio::any_io_executor inner_executor(const asio::any_io_executor& executor) {
  if (const auto* strand = target_of<asio::strand<asio::any_io_executor>>(executor)) {
    return inner_executor(strand->get_inner_executor());
  }
  if (const auto* strand = target_of<asio::strand<asio::io_context::executor_type>>(executor)) {
    return strand->get_inner_executor();
  }
  if (const auto* strand = target_of<asio::strand<asio::thread_pool::executor_type>>(executor)) {
    return strand->get_inner_executor();
  }
  return executor;
}

}  // namespace gtcp::detail

#endif
