// SPDX-License-Identifier: MIT

// The allocation functions of this program: those of the system, but for the allocations that a test lets fail.

#include "support/allocation_faults.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace {

void* allocate(std::size_t size, std::size_t alignment = 0) {
  if (gtcp_test::allocation::fails(false)) throw std::bad_alloc();
  void* place = nullptr;
  if (alignment <= alignof(std::max_align_t))
    place = std::malloc(size != 0 ? size : 1);
  else if (::posix_memalign(&place, alignment, size) != 0)
    place = nullptr;
  if (place == nullptr) throw std::bad_alloc();
  return place;
}

}  // namespace

// The ones without exceptions, and those for arrays, call these.
void* operator new(std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* place) noexcept { std::free(place); }
void operator delete(void* place, std::size_t) noexcept { std::free(place); }
void operator delete(void* place, std::align_val_t) noexcept { std::free(place); }
void operator delete(void* place, std::size_t, std::align_val_t) noexcept { std::free(place); }
void operator delete[](void* place) noexcept { std::free(place); }
void operator delete[](void* place, std::size_t) noexcept { std::free(place); }
void operator delete[](void* place, std::align_val_t) noexcept { std::free(place); }
void operator delete[](void* place, std::size_t, std::align_val_t) noexcept { std::free(place); }

// Asio's.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  if (gtcp_test::allocation::fails(true)) return nullptr;
  void* place = nullptr;
  return ::posix_memalign(&place, alignment, size) == 0 ? place : nullptr;
}

bool gtcp_test::allocation::is_replaced() noexcept { return true; }

namespace {

using gtcp_test::exempt_thread;
using gtcp_test::failing_allocation;
using gtcp_test::how_long;
using gtcp_test::what_fails;
using gtcp_test::whose;

bool can_allocate() {
  try {
    std::unique_ptr<int> value(new int(1));
    return value != nullptr;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

TEST(AllocationFaults, LetOneAllocationFail) {
  failing_allocation failing(1, whose::this_thread);
  EXPECT_TRUE(can_allocate() && !can_allocate() && can_allocate());
  EXPECT_TRUE(failing.end());
}

TEST(AllocationFaults, LetAllFailUntilTheEnd) {
  bool first = false;
  bool second = true;
  bool exempted = false;
  {
    failing_allocation failing(1, whose::all_threads, what_fails::operator_new, how_long::for_good);
    first = can_allocate();
    second = can_allocate() || can_allocate();
    const exempt_thread looking;
    exempted = can_allocate();
  }
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  EXPECT_TRUE(exempted);
  EXPECT_TRUE(can_allocate());
}

TEST(AllocationFaults, ReachWhatAsioAllocatesWhenAsked) {
  bool counted = false;
  {
    failing_allocation failing(0, whose::this_thread);
    std::free(::aligned_alloc(16, 64));
    counted = failing.end();
  }
  EXPECT_FALSE(counted);
  failing_allocation failing(0, whose::this_thread, what_fails::asio_too);
  void* const place = ::aligned_alloc(16, 64);
  EXPECT_TRUE(failing.end());
  EXPECT_EQ(place, nullptr);
  std::free(place);
}

}  // namespace
