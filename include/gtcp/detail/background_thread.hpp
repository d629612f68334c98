// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_BACKGROUND_THREAD_HPP
#define GTCP_DETAIL_BACKGROUND_THREAD_HPP

#include <gtcp/detail/platform_process.hpp>
#include <gtcp/error.hpp>

#include <new>
#include <system_error>
#include <thread>
#include <utility>

namespace gtcp::detail {

/// Runs `work` in a thread that nobody joins. The error is that there is none to be had.
template <class Work>
std::error_code start_background_thread(Work work) noexcept {
  try {
    std::thread([own = std::move(work)]() mutable {
      block_signals();
      own();
    }).detach();
    return {};
  } catch (const std::system_error& failure) {
    return failure.code();
  } catch (const std::bad_alloc&) {
    return no_memory_error();
  }
}

}  // namespace gtcp::detail

#endif
