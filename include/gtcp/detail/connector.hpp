// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_CONNECTOR_HPP
#define GTCP_DETAIL_CONNECTOR_HPP

// What every function that connects has in common, blocking and asynchronous; what differs is a connector.

#include <gtcp/conn.hpp>
#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/dialer.hpp>
#include <gtcp/detail/strand_job.hpp>
#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

namespace gtcp::detail {

GTCP_DECL Conn make_conn(native_socket descriptor, const ConnOption& option, std::unique_ptr<transport> layer = nullptr,
                         const socket_address& peer = {});

/// Opens one connection.
class connector {
 public:
  connector(std::string address, std::chrono::nanoseconds timeout, const ConnOption& option)
      : dial_(std::move(address), option, timeout), option_(option) {}
  virtual ~connector() = default;
  connector(const connector&) = delete;
  connector& operator=(const connector&) = delete;

  /// Checks what can be checked without a system call; begins the time.
  GTCP_DECL virtual std::error_code begin();

  GTCP_DECL virtual std::error_code run(const std::stop_token& stop, Conn& conn);

  /// The same on a strand.
  GTCP_DECL virtual asio::awaitable<std::error_code> run(asio::any_io_executor strand, Conn& conn);

  GTCP_DECL virtual std::string describe(const char* name) const;

  clock::time_point deadline() const noexcept { return dial_.deadline(); }
  const asio::any_io_executor& executor() const noexcept { return option_.Executor; }
  asio::any_io_executor executor_or_default() const {
    return option_.Executor ? option_.Executor : Runtime::Default().get_executor();
  }
  void set_executor(const asio::any_io_executor& executor) { option_.Executor = executor; }

 protected:
  /// What bytes go through; nullptr is the socket itself.
  virtual std::unique_ptr<transport> layer(native_socket) { return nullptr; }

  dialer& dial() noexcept { return dial_; }

 private:
  std::error_code make(native_socket descriptor, Conn& conn);

  dialer dial_;
  ConnOption option_;
};

/// An asynchronous connect, until its handler is called.
struct connect_job {
  std::shared_ptr<connector> connecting;
  std::error_code error = {};
  Conn conn = {};

  std::error_code begin() { return connecting->begin(); }
  GTCP_DECL static asio::awaitable<void> run(std::shared_ptr<connect_job> self, asio::any_io_executor strand);
  GTCP_DECL void fail(const std::error_code& why);
};

/// Connects and completes with void(std::error_code, Conn).
template <class Token>
auto async_connect(std::shared_ptr<connector> connecting, Token&& token) {
  const auto initiate = [](auto handler, std::shared_ptr<connector> one) {
    const auto io = [&one] { return one->executor_or_default(); };
    const auto begin = [&] {
      one->set_executor(io());
      start_job(
          handler, one->executor(), std::make_shared<connect_job>(connect_job{one}),
          [](auto&& pending, connect_job& job) { std::move(pending).complete(false, job.error, std::move(job.conn)); });
    };
    begin_or_refuse(handler, io, std::error_code(), begin, Conn());
  };
  const auto where = [connecting] { return connecting->executor_or_default(); };
  return asio::async_initiate<Token, void(std::error_code, Conn)>(initiation(initiate, where), token,
                                                                  std::move(connecting));
}

GTCP_DECL asio::awaitable<Conn> await_connect(std::shared_ptr<connector> connecting, const char* name,
                                              OnError on_error);

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/connector.hpp>
#endif

#endif
