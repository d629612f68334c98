// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_RUNNING_SERVER_HPP
#define GTCP_TESTS_SUPPORT_RUNNING_SERVER_HPP

// A server that runs while a test does, with handlers of each kind, and what its clients ask of it.

#include <gtcp/dial.hpp>
#include <gtcp/server.hpp>

#include "support/conn_pair.hpp"
#include "support/poll_until.hpp"

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace gtcp_test {

using gtcp::Conn;

inline const std::string any_port = "127.0.0.1:0";

/// A name that no server has yet.
inline std::string fresh_name() {
  static int count = 0;
  return "server " + std::to_string(count++);
}

using coroutine_handler = std::function<asio::awaitable<void>(Conn)>;

enum class kind { thread, coroutine, user_executor };

inline std::string name_of(kind which) {
  return which == kind::thread ? "Thread" : which == kind::coroutine ? "Coroutine" : "UserExecutor";
}

/// The kinds of handlers.
enum class serving { thread, coroutine, pkg_handler };
inline constexpr serving all_kinds[] = {serving::thread, serving::coroutine, serving::pkg_handler};

inline std::string name_of(serving which) {
  return which == serving::thread ? "Thread" : which == serving::coroutine ? "Coroutine" : "PkgHandler";
}

/// Runs a server of one kind of handler.
class running_server {
 public:
  explicit running_server(kind which, std::function<void(Conn)> blocking, coroutine_handler awaited,
                          gtcp::ServerOption option = {}) {
    if (which == kind::user_executor) option.Conn.Executor = context_.get_executor();
    option.ErrorCallback = [this](const Conn& conn, std::exception_ptr error) { note(conn, error); };
    server_ = which == kind::thread ? gtcp::Server(any_port, std::move(blocking), option)
                                    : gtcp::Server(any_port, std::move(awaited), option);
    if (which == kind::user_executor) {
      server_.Listen();
      server_.AsyncRun([this](std::error_code error) { ended_.set_value(error); });
      thread_ = std::jthread([this] { context_.run(); });
    } else {
      server_.Listen();
      thread_ = std::jthread([this] {
        std::error_code error;
        server_.Run(error);
        ended_.set_value(error);
      });
    }
  }
  ~running_server() { end(); }

  const gtcp::Server& operator*() const { return server_; }
  const gtcp::Server* operator->() const { return &server_; }
  Conn connect() const { return gtcp::NewConn(server_.GetListenedAddress()); }

  /// Closes and waits for the end of Run.
  std::error_code end() {
    server_.Close();
    if (!result_) result_ = comes(future_) ? future_.get() : std::make_error_code(std::errc::timed_out);
    return *result_;
  }
  bool has_ended() const { return result_ || future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  bool ends() const { return result_ || comes(future_); }

  std::vector<std::string> errors() const {
    const std::lock_guard lock(mutex_);
    return errors_;
  }

 private:
  void note(const Conn& conn, const std::exception_ptr& error) {
    std::string text;
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& known) {
      text = known.what();
    } catch (int number) {
      text = "int " + std::to_string(number);
    }
    const std::lock_guard lock(mutex_);
    errors_.push_back((conn ? "conn: " : "no conn: ") + text);
  }

  mutable std::mutex mutex_;
  std::vector<std::string> errors_;
  asio::io_context context_;
  gtcp::Server server_;
  std::promise<std::error_code> ended_;
  std::future<std::error_code> future_ = ended_.get_future();
  std::optional<std::error_code> result_;
  std::jthread thread_;
};

inline void echo(Conn conn) {
  for (;;) conn.SendPkg(conn.RecvPkg());
}

inline asio::awaitable<void> async_echo(Conn conn) {
  for (;;) {
    std::string pkg = co_await conn.AsyncRecvPkg();
    co_await conn.AsyncSendPkg(std::move(pkg));
  }
}

/// A coroutine that calls a function which does not wait.
inline coroutine_handler awaited(std::function<void(Conn)> function) {
  return [function = std::move(function)](Conn conn) -> asio::awaitable<void> {
    function(conn);
    co_return;
  };
}

inline bool has_ended(const Conn& conn) {
  std::error_code error;
  conn.RecvPkgWithTimeout(ceiling, error);
  return error == asio::error::eof || error == asio::error::connection_reset;
}

inline bool refuses_connections(const std::string& address) {
  std::error_code error;
  gtcp::NewConn(address, error);
  return error == asio::error::connection_refused;
}

inline bool answers(const Conn& conn, const std::string& text = "ping") {
  std::error_code error;
  conn.SendPkg(text, error);
  return !error && conn.RecvPkgWithTimeout(ceiling, error) == text;
}

/// Whether the other end closed or reset the connection.
inline bool is_over(raw_peer& peer) {
  try {
    return peer.read(1).empty();
  } catch (const std::system_error& error) {
    return error.code() == asio::error::connection_reset;
  }
}

/// How a server accepts.
enum class accepting { in_thread, asynchronously };

/// An echo server of one kind.
class echo_server {
 public:
  /// `prepare` is called before it serves.
  explicit echo_server(serving which, const gtcp::ServerOption& option = {},
                       const std::function<void(const gtcp::Server&)>& prepare = {},
                       accepting accepts = accepting::in_thread)
      : server_(any_port, nullptr, option) {
    switch (which) {
      case serving::thread: server_.SetHandler(echo); break;
      case serving::coroutine: server_.SetHandler(async_echo); break;
      case serving::pkg_handler:
        server_.SetPkgHandler([](Conn& conn, std::string_view pkg) { conn.SendPkg(pkg); });
        break;
    }
    if (prepare) prepare(server_);
    if (accepts == accepting::in_thread) {
      server_.Start();
    } else {
      server_.Listen();
      server_.AsyncRun([](std::error_code) {});
    }
  }
  ~echo_server() { server_.CloseAndWait(ceiling); }
  echo_server(const echo_server&) = delete;
  echo_server& operator=(const echo_server&) = delete;

  const gtcp::Server* operator->() const { return &server_; }
  int port() const { return server_.GetListenedPort(); }
  Conn connect() const { return gtcp::NewConn(server_.GetListenedAddress()); }
  raw_peer connect_raw() const { return gtcp_test::connect_raw(port()); }

  /// Whether a further connection is reset, which may happen before it is quite made.
  bool turns_away() const {
    std::error_code error;
    const Conn conn = gtcp::NewConn(server_.GetListenedAddress(), error);
    return error == asio::error::connection_reset || (!error && has_ended(conn));
  }

  std::uint64_t closed(const char* reason) const { return of(server_.Stats().Closed, reason); }
  std::uint64_t refused(const char* reason) const { return of(server_.Stats().Refused, reason); }

 private:
  static std::uint64_t of(const std::map<std::string, std::uint64_t>& counts, const char* reason) {
    const auto found = counts.find(reason);
    return found == counts.end() ? 0 : found->second;
  }

  gtcp::Server server_;
};

}  // namespace gtcp_test

#endif
