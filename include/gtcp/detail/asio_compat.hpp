// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_ASIO_COMPAT_HPP
#define GTCP_DETAIL_ASIO_COMPAT_HPP

// The one place that knows versions of Asio, and types of executors.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/any_io_executor.hpp>
#include <asio/execution/outstanding_work.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/prefer.hpp>
#include <asio/strand.hpp>
#include <asio/thread_pool.hpp>
#include <asio/version.hpp>

#include <type_traits>
#include <typeinfo>
#include <utility>

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

/// An executor that keeps its context running while it exists.
template <class Executor>
using tracked_executor_t =
    std::decay_t<decltype(asio::prefer(std::declval<const Executor&>(), asio::execution::outstanding_work.tracked))>;

/// Whether a tracked executor is the plain one of an io_context, and the calling thread runs that: it would call at
/// once what it is given.
inline bool runs_here(const asio::any_io_executor& executor) noexcept {
  const auto* const plain = target_of<tracked_executor_t<asio::io_context::executor_type>>(executor);
  return plain != nullptr && plain->running_in_this_thread();
}

/// Posts to an executor. Naming the type of the usual one saves what any_io_executor takes to ask it for one that never
/// blocks.
template <class Handler>
void post_to(const asio::any_io_executor& executor, Handler&& handler) {
  if (const auto* const plain = target_of<asio::io_context::executor_type>(executor))
    asio::post(*plain, std::forward<Handler>(handler));
  else
    asio::post(executor, std::forward<Handler>(handler));
}

/// Returns the executor underneath a strand: what gtcp does inside must not queue behind the user's handlers, one of
/// which may be a blocking send that waits for it. Other executors are returned as they are.
inline asio::any_io_executor inner_executor(const asio::any_io_executor& executor) {
  if (target_of<asio::io_context::executor_type>(executor) != nullptr)
    return executor;  // asked for most, so asked first
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
