// SPDX-License-Identifier: MIT
#ifndef GTCP_IMPL_SERVER_SERVE_HPP
#define GTCP_IMPL_SERVER_SERVE_HPP

// How a session runs its handler, of each of the three kinds, and how it ends.

#include <gtcp/detail/pkg_pump.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/detail/server_report.hpp>
#include <gtcp/detail/server_state.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL server_session::~server_session() {
  if (!entered_ || server_->inherited()) return;  // in a child process: of the thread that has forked
  const bool closes = !state_->detached();
  if (closes) conn_.Close();
  // What the handler and the handle own is destroyed before the server counts this one out.
  handler_ = {};
  pkg_handlers_ = nullptr;
  server_->leave(*this, closes);
  conn_ = {};
  server_->left(waited_for_);
}

GTCP_DECL void server_session::run() {
  const server_state*& current = server_of_this_thread();
  current = server_.get();
  reported([this] {
    if (layer_ != nullptr) {
      std::string nothing;
      end_handshake(state_->receive(recv_goal::handshake(), handshake_limit_, nothing));
    }
    handler_.run(conn_);
  });
}

GTCP_DECL asio::awaitable<void> server_session::serve(std::unique_ptr<server_session> self) {
  try {
    if (self->layer_ != nullptr) {
      std::error_code error;
      auto waiting = async_receive(prepared{"handshake", self->state_}, recv_goal::handshake(), self->handshake_limit_,
                                   asio::redirect_error(asio::use_awaitable, error));
      co_await std::move(waiting);
      self->end_handshake(error);
    }
    auto handling = self->handler_.make(self->conn_);
    co_await std::move(handling);
  } catch (const std::system_error& failure) {
    self->report(failure);
  } catch (...) {
    self->report(caught_exception());
  }
}

/// A session whose packages a pump brings.
class server_session::pkg_session final : public pkg_sink {
 public:
  explicit pkg_session(std::unique_ptr<server_session> session) : session_(std::move(session)) {}

  /// Serves; false: not, since the handler for its beginning failed.
  bool open() noexcept {
    const open_handler& on_open = session_->pkg_handlers_->on_open;
    return call([&] {
      if (on_open) on_open(session_->conn_);
    });
  }

  void on_pkg(std::string_view pkg) noexcept override {
    call([&] { session_->pkg_handlers_->on_pkg(session_->conn_, pkg); });
  }

  void on_end(std::error_code reason) override {
    const std::error_code first = session_->conn_.CloseReason();
    const close_handler& on_close = session_->pkg_handlers_->on_close;
    call([&] {
      if (on_close) on_close(session_->conn_, first ? first : reason);
    });
  }

 private:
  /// In the server's handler: returns whether it did not throw; else the connection is closed and the error reported.
  template <class Call>
  bool call(const Call& what) noexcept {
    const server_state*& current = server_of_this_thread();
    const server_state* const outer = std::exchange(current, session_->server_.get());
    const bool done = session_->reported(what);
    if (!done) session_->conn_.Close();
    current = outer;
    return done;
  }

  std::unique_ptr<server_session> session_;
};

GTCP_DECL void server_session::pump(std::unique_ptr<server_session> self) {
  const std::shared_ptr<conn_state> conn = self->state_;
  const asio::any_io_executor executor = conn->executor();
  const auto begin = [](const std::shared_ptr<conn_state>& state, std::unique_ptr<server_session> session) {
    const std::shared_ptr<server_state> server = session->server_;
    const Conn served = session->conn_;
    try {
      auto sink = std::make_unique<pkg_session>(std::move(session));
      if (sink->open())
        start_pump_here(state, std::move(sink));
      else
        sink->on_end(Errc::Closed);
    } catch (const std::bad_alloc&) {
      server->report(served, std::current_exception());
    }
  };
  if (self->layer_ == nullptr) {
    asio::post(executor, [begin, conn, self = std::move(self)]() mutable { begin(conn, std::move(self)); });
    return;
  }
  const time_limit limit = self->handshake_limit_;
  auto waiting = [begin, conn, self = std::move(self)](std::error_code error, const std::string&) mutable {
    if (self->reported([&] { self->end_handshake(error); })) begin(conn, std::move(self));
  };
  async_receive(prepared{"handshake", conn}, recv_goal::handshake(), limit, std::move(waiting));
}

template <class Call>
bool server_session::reported(const Call& call) const {
  try {
    call();
    return true;
  } catch (const std::system_error& failure) {
    report(failure);
  } catch (...) {
    report(caught_exception());
  }
  return false;
}

/// Throws if the connection can't be served. What the layer says of the reason is still delivered, but not to a peer
/// that takes too long.
GTCP_DECL void server_session::end_handshake(const std::error_code& error) const {
  if (error == Errc::Timeout) state_->close(true, error);
  if (error) throw std::system_error(error, "handshake [" + conn_.RemoteAddr() + "]");
}

/// The end of the own connection is how a handler normally ends.
GTCP_DECL void server_session::report(const std::system_error& caught) const {
  const std::error_code& code = caught.code();
  const bool is_end = code == asio::error::eof || code == Errc::Closed || code == asio::error::connection_reset ||
                      code == asio::error::connection_aborted || code == asio::error::broken_pipe ||
                      code == Errc::TlsTruncated || code == Errc::Draining;
  if (!is_end || !(conn_.IsClosed() || conn_.CloseReason())) report(std::current_exception());
}

GTCP_DECL void server_session::report(std::exception_ptr failure) const { server_->report(conn_, std::move(failure)); }

}  // namespace gtcp::detail

#endif
