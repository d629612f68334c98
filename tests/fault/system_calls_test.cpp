// SPDX-License-Identifier: MIT

// The system calls of this program: those of the system, but for the one that a test lets fail; and a client that talks
// to a server of each kind while each of them fails once. Left out is what fails only for a descriptor that is none, or
// for a connection that is dead already: close and shutdown.

#include <gtcp/gtcp.hpp>

#include "support/sanitizers.hpp"
#include "support/system_call_faults.hpp"
#include "support/system_call_sweep.hpp"

#include <gtest/gtest.h>

#include <string>
#include <system_error>

// The thread sanitizer has to see the real ones.
#if defined(__linux__) && !GTCP_TESTS_TSAN

#include <dlfcn.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdarg>

namespace {

using gtcp_test::call_fault;

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

#define GTCP_REAL(name) static auto* const real = next<decltype(::name)>(#name)

/// Whether this call fails now; `error` is what it may fail with. EINTR and EAGAIN only where `waits`.
bool fails(int error, bool waits = false) {
  const call_fault how = gtcp_test::system_calls::how.load(std::memory_order_relaxed);
  const bool can = how == call_fault::fails ? error != 0 : waits && how != call_fault::little;
  if (!gtcp_test::system_calls::is_now(can)) return false;
  errno = how == call_fault::fails ? error : how == call_fault::interrupted ? EINTR : EAGAIN;
  return true;
}

bool gives_little() {
  return gtcp_test::system_calls::how.load(std::memory_order_relaxed) == call_fault::little &&
         gtcp_test::system_calls::is_now(true);
}

bool interrupts() { return gtcp_test::system_calls::how.load(std::memory_order_relaxed) == call_fault::interrupted; }

}  // namespace

extern "C" {

int socket(int domain, int type, int protocol) noexcept {
  GTCP_REAL(socket);
  return fails(EMFILE) ? -1 : real(domain, type, protocol);
}

int connect(int descriptor, const sockaddr* address, socklen_t size) {
  GTCP_REAL(connect);
  if (interrupts() && fails(0, true)) {
    // It goes on in the background.
    real(descriptor, address, size);
    errno = EINTR;
    return -1;
  }
  return !interrupts() && fails(ECONNREFUSED) ? -1 : real(descriptor, address, size);
}

int accept4(int descriptor, sockaddr* address, socklen_t* size, int flags) {
  GTCP_REAL(accept4);
  return fails(EMFILE, true) ? -1 : real(descriptor, address, size, flags);
}

ssize_t sendmsg(int descriptor, const msghdr* message, int flags) {
  GTCP_REAL(sendmsg);
  if (fails(ECONNRESET, true)) return -1;
  if (gives_little()) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(message->msg_iovlen); ++i) {
      if (message->msg_iov[i].iov_len != 0) return ::send(descriptor, message->msg_iov[i].iov_base, 1, flags);
    }
  }
  return real(descriptor, message, flags);
}

ssize_t recv(int descriptor, void* buffer, std::size_t size, int flags) {
  GTCP_REAL(recv);
  if (fails(ECONNRESET, true)) return -1;
  return real(descriptor, buffer, size != 0 && gives_little() ? 1 : size, flags);
}

int poll(pollfd* entries, nfds_t count, int timeout) {
  GTCP_REAL(poll);
  if (interrupts() && fails(0, true)) return -1;
  return real(entries, count, timeout);
}

int eventfd(unsigned value, int flags) noexcept {
  GTCP_REAL(eventfd);
  return fails(EMFILE) ? -1 : real(value, flags);
}

int epoll_ctl(int descriptor, int operation, int target, epoll_event* event) noexcept {
  GTCP_REAL(epoll_ctl);
  return operation == EPOLL_CTL_ADD && fails(ENOSPC) ? -1 : real(descriptor, operation, target, event);
}

int setsockopt(int descriptor, int level, int name, const void* value, socklen_t size) noexcept {
  GTCP_REAL(setsockopt);
  return fails(ENOBUFS) ? -1 : real(descriptor, level, name, value, size);
}

int getsockopt(int descriptor, int level, int name, void* value, socklen_t* size) noexcept {
  GTCP_REAL(getsockopt);
  return fails(ENOBUFS) ? -1 : real(descriptor, level, name, value, size);
}

int ioctl(int descriptor, unsigned long request, ...) noexcept {
  GTCP_REAL(ioctl);
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  return request == SIOCOUTQ && fails(ENOTTY) ? -1 : real(descriptor, request, argument);
}

int getsockname(int descriptor, sockaddr* address, socklen_t* size) noexcept {
  GTCP_REAL(getsockname);
  return fails(ENOBUFS) ? -1 : real(descriptor, address, size);
}

int getpeername(int descriptor, sockaddr* address, socklen_t* size) noexcept {
  GTCP_REAL(getpeername);
  return fails(ENOTCONN) ? -1 : real(descriptor, address, size);
}

}  // extern "C"

namespace {

using namespace gtcp_test;
using gtcp::Conn;

class SystemCalls : public SystemCallSweep {};

INSTANTIATE_TEST_SUITE_P(Forms, SystemCalls, SystemCallSweep::all_forms(), SystemCallSweep::name);

TEST_P(SystemCalls, EachFailsOnce) {
  // Not on the context of the coroutine that connects, which is gone before the connection.
  const gtcp::ConnOption option{.Executor = gtcp::Runtime::Default().get_executor()};
  each_fails_once(
      [](const gtcp::Server&) {},
      dial([](const std::string& address, std::error_code& error) { return gtcp::NewConn(address, error); },
           [](const std::string& address, auto handler) { gtcp::AsyncNewConn(address, std::move(handler)); },
           [&option](const std::string& address, std::error_code& error) {
             return gtcp::AsyncNewConn(address, gtcp::DefaultConnTimeout, option, error);
           }));
}

}  // namespace

#endif
