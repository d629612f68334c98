// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_REARM_GATE_HPP
#define GTCP_DETAIL_REARM_GATE_HPP

// With many busy connections on one io thread the next package of a connection is usually there by the time that all
// others were served. Looking once more then costs one system call; waiting at once costs two, the wait's and the
// read's. With few connections it is the other way round. So it is found out, again and again, what pays.

namespace gtcp::detail {

/// Says whether looking once more pays on an io thread. Used by that thread alone.
class rearm_gate {
 public:
  static rearm_gate& of_this_thread() noexcept {
    thread_local rearm_gate gate;
    return gate;
  }

  bool is_open() noexcept {
    if (closed_for_ == 0) return true;
    --closed_for_;
    return false;
  }

  /// Does not look for so many waits.
  void close(unsigned waits) noexcept { closed_for_ = waits; }

  /// A look found input, or did not.
  void note(bool found) noexcept {
    constexpr unsigned looks_in_all = 64;
    constexpr unsigned pause = 512;
    if (found) ++found_;
    if (++looks_ < looks_in_all) return;
    if (found_ < looks_in_all / 2) close(pause);
    looks_ = found_ = 0;
  }

 private:
  unsigned looks_ = 0;
  unsigned found_ = 0;
  unsigned closed_for_ = 0;
};

}  // namespace gtcp::detail

#endif
