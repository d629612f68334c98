// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_OUTBOX_HOST_HPP
#define GTCP_DETAIL_OUTBOX_HOST_HPP

// What the outbox asks of the connection around it, and how long it may hold packages back.

#include <gtcp/detail/platform_base.hpp>
#include <gtcp/detail/platform_wait.hpp>

namespace gtcp::detail {

/// Why a package is held back, so that it goes out together with those that follow, and until when at most. All are
/// let go by flush_held(), at outbox::cork_limit, and by everything that does not itself hold back.
enum class gathering : unsigned char {
  none,         ///< it is not
  by_thread,    ///< a thread replies and has more input to take: for about a millisecond
  by_task,      ///< the same for a coroutine or a handler: until its context has nothing else to do
  by_dispatch,  ///< within a package handler, which lets go itself and never waits; taken beyond the limit too
  by_burst      ///< so many are sent that writing them is what holds the sender up: until an io thread comes by
};

/// What the outbox needs of the connection around it. Called without the outbox's mutex, but for input_came() and
/// now().
class outbox_host {
 public:
  /// Calls outbox::on_writable() when the transport takes bytes again, from an io thread.
  virtual void await_writable(wait_direction direction) = 0;
  /// Calls outbox::on_turn() at the end of a turn, the time that `how` says, from an io thread. `again`: not the first
  /// time.
  virtual void await_turn(gathering how, bool again) = 0;
  /// Whether input came, or was waited for, since this was called last.
  virtual bool input_came() noexcept = 0;
  virtual clock::time_point now() const noexcept { return clock::now(); }
  /// A package was refused that QueuePolicy::Close ends the connection for.
  virtual void on_overflow() noexcept {}
  /// After outbox::end(): everything is with the system, once.
  virtual void on_outbox_drained() = 0;
  /// After outbox::leave_descriptor(): no thread writes or waits for the descriptor any more.
  virtual void on_descriptor_left() = 0;

 protected:
  ~outbox_host() = default;
};

}  // namespace gtcp::detail

#endif
