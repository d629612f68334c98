// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_SERVER_SESSION_HPP
#define GTCP_DETAIL_SERVER_SESSION_HPP

// A connection that a server serves, with its handler; what it does is in server_serve.hpp.

#include <gtcp/conn.hpp>
#include <gtcp/detail/operation.hpp>
#include <gtcp/detail/server_gate.hpp>
#include <gtcp/detail/server_handler.hpp>
#include <gtcp/detail/time_limit.hpp>
#include <gtcp/detail/transport.hpp>

#include <asio/awaitable.hpp>

#include <exception>
#include <memory>
#include <system_error>
#include <utility>

namespace gtcp::detail {

class server_state;

/// What a server puts between the sockets and the packages of its connections. Thread safety: used by several threads.
class server_layer {
 public:
  virtual ~server_layer() = default;
  virtual std::unique_ptr<transport> wrap(native_socket descriptor) const = 0;
  /// For the handshake of one connection that was accepted just now.
  virtual time_limit handshake_limit() const = 0;
};

/// The server whose handler, or whose accept loop, runs in the calling thread.
inline const server_state*& server_of_this_thread() noexcept {
  thread_local const server_state* server = nullptr;
  return server;
}

/// A connection with its handler. Made when it was accepted; destroyed, in whichever way, when its handler has ended.
class server_session {
 public:
  /// From here on it is the session that leaves the server's gate.
  server_session(std::shared_ptr<server_state> server, server_handler handler,
                 std::shared_ptr<const pkg_handlers> pkg_handlers, Conn conn, std::shared_ptr<const server_layer> layer,
                 const source_address& source, bool waited_for)
      : server_(std::move(server)),
        handler_(std::move(handler)),
        pkg_handlers_(std::move(pkg_handlers)),
        conn_(std::move(conn)),
        state_(conn_access::state(conn_)),
        layer_(std::move(layer)),
        handshake_limit_(layer_ != nullptr ? layer_->handshake_limit() : time_limit()),
        source_(source),
        waited_for_(waited_for) {}
  ~server_session();
  server_session(const server_session&) = delete;
  server_session& operator=(const server_session&) = delete;

  /// Serves in the calling thread.
  void run();
  /// Serves as a coroutine.
  static asio::awaitable<void> serve(std::unique_ptr<server_session> self);
  /// Serves by calling a package handler on the connection's executor. Returns at once.
  static void pump(std::unique_ptr<server_session> self);

 private:
  friend class server_state;
  friend class session_list;
  class pkg_session;

  /// Calls `call`, reports what it throws, and returns whether it threw nothing.
  template <class Call>
  bool reported(const Call& call) const;

  /// What the handler ended with, while that is caught.
  void report(const std::system_error& caught) const;
  void report(std::exception_ptr failure) const;
  void end_handshake(const std::error_code& error) const;

  std::shared_ptr<server_state> server_;
  server_handler handler_;
  std::shared_ptr<const pkg_handlers> pkg_handlers_;  ///< instead of handler_
  Conn conn_;
  const std::shared_ptr<conn_state> state_;
  const std::shared_ptr<const server_layer> layer_;
  const time_limit handshake_limit_;  ///< counts from accept on
  const source_address source_;
  const bool waited_for_;  ///< by the server's destructor

  // The server's, under its mutex.
  bool entered_ = false;
  bool closed_by_server_ = false;
  server_session* next_ = nullptr;
  server_session* previous_ = nullptr;
};

/// Serves connections asynchronously; told what may let it go on.
class server_runner {
 public:
  /// Called under the server's mutex.
  virtual void sessions_ended() noexcept = 0;

 protected:
  ~server_runner() = default;
};

}  // namespace gtcp::detail

#endif
