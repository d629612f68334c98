// SPDX-License-Identifier: MIT

#include "counting/counters.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

#if GTCP_TESTS_COUNT_WAITS
#include <poll.h>
#include <sys/epoll.h>
#endif

namespace gtcp_test {
namespace {

thread_local counts own;
std::atomic<std::size_t> all_allocations{0};

void* allocate(std::size_t size, std::size_t alignment) {
  ++own.allocations;
  all_allocations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t least = size != 0 ? size : 1;
  const bool special = alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__;
  const std::size_t rounded = (least + alignment - 1) / alignment * alignment;
  if (void* const memory = special ? std::aligned_alloc(alignment, rounded) : std::malloc(least)) return memory;
  throw std::bad_alloc();
}

}  // namespace

counts counts_of_this_thread() noexcept { return own; }

std::size_t allocations_of_all_threads() noexcept { return all_allocations; }

}  // namespace gtcp_test

// The other forms of new and delete call these.

void* operator new(std::size_t size) { return gtcp_test::allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return gtcp_test::allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#if GTCP_TESTS_COUNT_WAITS

// The linker's --wrap lets calls of poll go to __wrap_poll, and those of __real_poll to the system's.

extern "C" {

int __real_poll(pollfd* entries, nfds_t count, int timeout);
int __real_epoll_wait(int epoll, epoll_event* events, int count, int timeout);
int __real_epoll_ctl(int epoll, int what, int descriptor, epoll_event* event);

int __wrap_poll(pollfd* entries, nfds_t count, int timeout) {
  ++gtcp_test::own.polls;
  return __real_poll(entries, count, timeout);
}

int __wrap_epoll_wait(int epoll, epoll_event* events, int count, int timeout) {
  ++(timeout != 0 ? gtcp_test::own.epoll_waits : gtcp_test::own.epoll_looks);
  return __real_epoll_wait(epoll, events, count, timeout);
}

int __wrap_epoll_ctl(int epoll, int what, int descriptor, epoll_event* event) {
  ++gtcp_test::own.epoll_orders;
  return __real_epoll_ctl(epoll, what, descriptor, event);
}

}  // extern "C"

#endif
