// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_POOL_DIAL_HPP
#define GTCP_DETAIL_POOL_DIAL_HPP

// How one gets a connection out of the pool: wait for a permit, take the idle connection that came with it if it is
// alive, else open another one. All of it has one deadline, the connector's.

#include <gtcp/conn.hpp>
#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/config.hpp>
#include <gtcp/detail/connector.hpp>
#include <gtcp/detail/strand_job.hpp>
#include <gtcp/error.hpp>
#include <gtcp/pool_option.hpp>
#include <gtcp/runtime.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace gtcp::detail {

/// What the connections of a pool speak above the socket.
class pool_layer {
 public:
  virtual ~pool_layer() = default;
  /// Connections with different texts are different ones.
  virtual std::string identity() const = 0;
  virtual std::shared_ptr<connector> connect(std::string address, std::chrono::nanoseconds timeout,
                                             const ConnOption& option) const = 0;
};

/// What somebody wants of the pool.
struct pool_request {
  std::string address;
  std::chrono::nanoseconds timeout;
  PoolOption option;
  std::shared_ptr<const pool_layer> layer = nullptr;  ///< nullptr: packages are on the socket itself

  /// Connections with the same key are as good as each other.
  std::string key() const;

  std::shared_ptr<connector> connect(std::chrono::nanoseconds within) const;
};

/// A request, until it is answered.
struct pool_job {
  explicit pool_job(pool_request wanted);

  std::error_code begin();

  /// Takes a connection.
  GTCP_DECL static asio::awaitable<void> run(std::shared_ptr<pool_job> self, asio::any_io_executor strand);

  void fail(const std::error_code& reason) {
    if (!lent) error = reason;
  }

  void set_executor(const asio::any_io_executor& executor) {
    request.option.Conn.Executor = executor;
    connecting->set_executor(executor);
  }

  std::string describe(const char* name) const;

  pool_request request;
  std::shared_ptr<connector> connecting;
  std::string why;
  std::error_code error;
  Conn lent;
};

/// Takes a connection, in the calling thread.
GTCP_DECL Conn take_from_pool(pool_request request, const char* name, const OnError& on_error,
                              const std::stop_token& stop);

/// What PoolConn lets make one.
struct pool_conn_access {
  template <class Result>
  static Result make(Conn lent) {
    return Result(std::move(lent));
  }
};

/// Completes with void(std::error_code, Result), where Result is a PoolConn.
template <class Result>
struct initiate_from_pool {
  template <class Handler>
  void operator()(Handler&& handler, std::shared_ptr<pool_job> job) const {
    std::decay_t<Handler> own(std::forward<Handler>(handler));
    const auto io = [&job] { return job->connecting->executor_or_default(); };
    const auto begin = [&] {
      if (!job->connecting->executor()) job->set_executor(io());
      start_job(own, job->connecting->executor(), job, [](auto&& pending, pool_job& ended) {
        auto lent = pool_conn_access::make<Result>(std::exchange(ended.lent, {}));
        std::move(pending).complete(false, ended.error, std::move(lent));
      });
    };
    begin_or_refuse(own, io, std::error_code(), begin, Result());
  }
};

template <class Result, class Token>
auto async_from_pool(std::shared_ptr<pool_job> job, Token&& token) {
  const auto where = [job] { return job->connecting->executor_or_default(); };
  return asio::async_initiate<Token, void(std::error_code, Result)>(initiation(initiate_from_pool<Result>(), where),
                                                                    token, std::move(job));
}

template <class Result>
asio::awaitable<Result> await_from_pool(std::shared_ptr<pool_job> job, const char* name, OnError on_error) {
  std::error_code error;
  if (!job->connecting->executor()) {
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    job->set_executor(executor);
  }
  auto taking = async_from_pool<Result>(job, asio::redirect_error(asio::use_awaitable, error));
  Result conn = co_await std::move(taking);
  on_error.Report(error, [&] { return job->describe(name); });
  co_return conn;
}

}  // namespace gtcp::detail

#ifndef GTCP_SEPARATE_COMPILATION
#include <gtcp/impl/pool_dial.hpp>
#endif

#endif
