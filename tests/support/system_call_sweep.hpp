// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_SYSTEM_CALL_SWEEP_HPP
#define GTCP_TESTS_SUPPORT_SYSTEM_CALL_SWEEP_HPP

// A client that connects, talks to a server and closes while each system call of both fails once.

#include <gtcp/dial.hpp>

#include "support/forms.hpp"
#include "support/io_steps.hpp"
#include "support/running_server.hpp"
#include "support/system_call_faults.hpp"

#include <asio/awaitable.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>

namespace gtcp_test {

/// How to connect, in each of the forms.
template <class Blocking, class Started, class Awaited>
struct dial {
  dial(Blocking connect, Started start, Awaited await)
      : blocking(std::move(connect)), started(std::move(start)), awaited(std::move(await)) {}

  Blocking blocking;  ///< Conn(address, error)
  Started started;    ///< void(address, handler)
  Awaited awaited;    ///< awaitable<Conn>(address, error)

  Conn by(form which, const std::string& address, std::error_code& error) const {
    switch (which) {
      case form::blocking: return blocking(address, error);
      case form::callback: {
        completion_note<Conn> note;
        note.run([&](auto handler) { started(address, std::move(handler)); });
        error = note.wait();
        return note->value;
      }
      case form::awaited:
        return run(
            [](const Awaited& connect, const std::string& to, std::error_code& failure) -> asio::awaitable<Conn> {
              auto connecting = connect(to, failure);
              Conn conn = co_await std::move(connecting);
              co_return conn;
            }(awaited, address, error));
    }
    return {};
  }
};

class SystemCallSweep : public testing::TestWithParam<std::tuple<form, kind>> {
 public:
  static auto all_forms() {
    return testing::Combine(testing::ValuesIn(forms),
                            testing::Values(kind::thread, kind::coroutine, kind::user_executor));
  }
  static std::string name(const testing::TestParamInfo<ParamType>& one) {
    return testing::PrintToString(std::get<0>(one.param)) + "To" + name_of(std::get<1>(one.param));
  }

 protected:
  /// `prepare` is called with the server, before anybody connects.
  template <class Prepare, class Dial>
  static void each_fails_once(const Prepare& prepare, const Dial& dial) {
    const auto [which, by] = GetParam();
    for (const call_fault how : {call_fault::fails, call_fault::interrupted, call_fault::blocks, call_fault::little}) {
      SCOPED_TRACE("fault " + std::to_string(static_cast<int>(how)));
      running_server server(by, echo, async_echo);
      prepare(*server);
      const std::string address = server->GetListenedAddress();
      sweep_steps([&, form_of = which](long n) {
        conversation talk(form_of);
        std::size_t answers = 0;
        std::error_code error;
        bool fired = false;
        {
          Conn conn;
          failing_call failing(n, how);
          try {
            conn = dial.by(form_of, address, error);
            if (conn) answers = talk.run(conn);
          } catch (const std::system_error& failure) {
            error = failure.code();  // of a context that the test itself has made
          }
          fired = failing.end();
        }
        EXPECT_TRUE(fired || (!error && answers == talk.packages().size())) << error.message();
        if (how != call_fault::fails) {
          EXPECT_TRUE(!error && answers == talk.packages().size()) << error.message() << ' ' << answers;
        }
        std::error_code next_error;
        EXPECT_TRUE(gtcp_test::answers(dial.blocking(address, next_error))) << "the next client is not served";
        return fired;
      });
      if (HasFailure()) return;
      EXPECT_FALSE(server.has_ended());
    }
  }
};

}  // namespace gtcp_test

#endif
