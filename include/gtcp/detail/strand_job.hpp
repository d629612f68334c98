// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_STRAND_JOB_HPP
#define GTCP_DETAIL_STRAND_JOB_HPP

// Asynchronous operations that are a coroutine of ours: everything that connects.

#include <gtcp/detail/asio_compat.hpp>
#include <gtcp/detail/async_op.hpp>
#include <gtcp/detail/cancel_relay.hpp>
#include <gtcp/error.hpp>
#include <gtcp/runtime.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/associated_cancellation_slot.hpp>

#include <exception>
#include <memory>
#include <system_error>
#include <utility>

namespace gtcp::detail {

/// Runs the job's coroutine on a strand of `io`; in the end `complete(pending, job)` calls the handler. If it throws,
/// the handler is as it was. A Job has
///
///     std::error_code error;                              what it ends with
///     std::error_code begin();                            checks: after an error there is no coroutine
///     static asio::awaitable<void> run(std::shared_ptr<Job> self, asio::any_io_executor strand);
///     void fail(const std::error_code& why);              that was left by an exception
template <class Handler, class Job, class Complete>
void start_job(Handler& handler, const asio::any_io_executor& io, const std::shared_ptr<Job>& job, Complete complete) {
  const asio::any_io_executor strand = serial_executor(inner_executor(io));
  const auto relay = cancel_relay::make(asio::get_associated_cancellation_slot(handler), strand);
  job->error = job->begin();
  const auto pending = std::make_shared<pending_handler<Handler>>(std::move(handler), io);
  if (!job->error) {
    try {
      return relay->spawn(Job::run(job, strand), [pending, job, complete](const std::error_code& failure) {
        if (failure) job->fail(failure);
        complete(std::move(*pending), *job);
      });
    } catch (const std::exception&) {
      job->error = no_memory_error();
    }
  }
  complete(std::move(*pending), *job);
}

}  // namespace gtcp::detail

#endif
