// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SESSION_LIST_HPP
#define GTCP_DETAIL_SESSION_LIST_HPP

// The connections of a server: those that are being served, and those that still deliver what their handlers have left.

#include <gtcp/detail/conn_state.hpp>
#include <gtcp/detail/server_session.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace gtcp::detail {

/// Under the server's mutex.
class session_list {
 public:
  void add(server_session& session) noexcept {
    session.next_ = first_;
    session.previous_ = nullptr;
    (first_ != nullptr ? first_->previous_ : last_) = &session;
    first_ = &session;
  }

  void remove(server_session& session) noexcept {
    (session.previous_ != nullptr ? session.previous_->next_ : first_) = session.next_;
    (session.next_ != nullptr ? session.next_->previous_ : last_) = session.previous_;
  }

  /// Returns the connection of a session for which this was not called yet; nullptr: there is none.
  std::shared_ptr<conn_state> next_to_close() noexcept {
    if (first_ == nullptr || first_->closed_by_server_) return nullptr;
    server_session& session = *first_;
    session.closed_by_server_ = true;
    remove(session);
    session.next_ = nullptr;
    session.previous_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = &session;
    last_ = &session;
    return session.state_;
  }

  /// A handler has ended, and its connection may still deliver.
  void add_leaving(const std::shared_ptr<conn_state>& conn) noexcept {
    if (leaving_.size() >= look_at_leaving_) {  // what has expired keeps the memory of its connection
      std::erase_if(leaving_, [](const std::weak_ptr<conn_state>& weak) { return weak.expired(); });
      look_at_leaving_ = 2 * leaving_.size() + 16;
    }
    try {
      leaving_.push_back(conn);
    } catch (const std::bad_alloc&) {  // nobody will wait for this one
    }
  }

  /// In a child process: they are the parent's.
  void forget_leaving() noexcept {
    leaving_.clear();
    look_at_leaving_ = 0;
  }

  std::vector<std::shared_ptr<conn_state>> all() const {
    std::vector<std::shared_ptr<conn_state>> conns;
    for (const server_session* session = first_; session != nullptr; session = session->next_) {
      conns.push_back(session->state_);
    }
    for (const std::weak_ptr<conn_state>& weak : leaving_) {
      if (auto conn = weak.lock()) conns.push_back(std::move(conn));
    }
    return conns;
  }

 private:
  // Those that the server has closed stand behind the others.
  server_session* first_ = nullptr;
  server_session* last_ = nullptr;
  std::vector<std::weak_ptr<conn_state>> leaving_;
  std::size_t look_at_leaving_ = 0;  ///< when there are so many of them
};

}  // namespace gtcp::detail

#endif
