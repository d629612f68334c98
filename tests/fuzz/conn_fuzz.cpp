// SPDX-License-Identifier: MIT

// The way in of a whole connection: any options, any split of the bytes into reads, receives of every kind that wait,
// give up, or are asynchronous, and failures in between. None of them takes what is another one's.

#include <gtcp/conn.hpp>
#include <gtcp/detail/connector.hpp>

#include "fuzz_input.hpp"
#include "recv_script.hpp"

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

using gtcp::Conn;
using gtcp::Errc;
using gtcp_fuzz::expect;
using gtcp_fuzz::recv_script;
using gtcp_fuzz::wish;

/// Hands out the stream in the script's pieces.
class scripted_transport final : public gtcp::detail::transport {
 public:
  explicit scripted_transport(const recv_script& script)
      : script_(script), left_(script.stream.substr(script.received)) {}

  gtcp::detail::io_result read_some(asio::mutable_buffer buffer) override {
    // Memory follows what came, whatever was announced.
    FUZZ_CHECK(buffer.size() <= 256 * 1024 + 2 * given);
    if (left_.empty()) return {0, script_.end()};
    const std::uint8_t piece = next_ < script_.pieces.size() ? script_.pieces[next_++] : 254;
    if (piece == recv_script::nothing_yet) return {0, {}, gtcp::detail::wait_direction::read};
    if (piece == recv_script::no_memory) return ++failures, gtcp::detail::io_result{0, asio::error::no_buffer_space};
    const std::size_t size = std::min({static_cast<std::size_t>(piece), left_.size(), buffer.size()});
    std::memcpy(buffer.data(), left_.data(), size);
    left_.remove_prefix(size);
    given += size;
    return {size, {}, gtcp::detail::wait_direction::none, piece % 2 == 0};
  }
  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    return {asio::buffer_size(buffers)};
  }
  void end_of_sending() override {}

  std::size_t given = 0;
  std::size_t failures = 0;  ///< that nobody was told of

 private:
  const recv_script& script_;
  std::string_view left_;
  std::size_t next_ = 0;
};

asio::io_context& context() {
  static asio::io_context& instance = *new asio::io_context(1);
  return instance;
}

/// Starts a receive with a callback, and runs the context until it was called.
template <class Start>
std::string complete(std::error_code& error, const Start& start) {
  bool called = false;
  std::string bytes;
  start([&](std::error_code failure, std::string result) {
    called = true;
    error = failure;
    bytes = std::move(result);
  });
  FUZZ_CHECK(!called);
  context().restart();
  while (!called) FUZZ_CHECK(context().run_one() != 0);
  return bytes;
}

/// Receives in the way that is wanted. Nothing there for a TryRecvPkg is Errc::Timeout here, too.
std::string receive(const Conn& conn, const wish& wanted, std::error_code& error) {
  using namespace std::chrono_literals;
  const bool waits = wanted.how == wish::patience::waits;
  const bool async = wanted.how == wish::patience::asynchronous;
  switch (wanted.what) {
    case wish::kind::package: {
      if (waits) return conn.RecvPkg(wanted.option, error);
      if (async) return complete(error, [&](auto handler) { conn.AsyncRecvPkg(wanted.option, std::move(handler)); });
      if (wanted.how == wish::patience::one_try) return conn.RecvPkgWithTimeout(0ns, wanted.option, error);
      std::string into = "as it was";
      const bool received = conn.TryRecvPkg(into, wanted.option, error);
      FUZZ_CHECK(!received || !error);
      if (!received) FUZZ_CHECK(into == "as it was");
      if (!received && !error) error = Errc::Timeout;
      return into;
    }
    case wish::kind::till:
      if (wanted.is_line) {
        if (waits) return conn.RecvLine(error);
        if (async) return complete(error, [&](auto handler) { conn.AsyncRecvLine(std::move(handler)); });
        return conn.RecvLineWithTimeout(0ns, error);
      }
      if (waits) return conn.RecvTill(wanted.til, error);
      if (async) return complete(error, [&](auto handler) { conn.AsyncRecvTill(wanted.til, std::move(handler)); });
      return conn.RecvTillWithTimeout(wanted.til, 0ns, error);
    case wish::kind::exactly:
    case wish::kind::some:
    case wish::kind::all: break;
  }
  const int length = wanted.what == wish::kind::exactly ? wanted.length : wanted.what == wish::kind::some ? 0 : -1;
  if (waits) return conn.Recv(length, error);
  if (async) return complete(error, [&](auto handler) { conn.AsyncRecv(length, std::move(handler)); });
  return conn.RecvWithTimeout(length, 0ns, error);
}

bool is_no_memory(const std::error_code& error) { return error == asio::error::no_buffer_space; }

/// What is left goes to a package handler.
void pump(const Conn& conn, const recv_script& script, scripted_transport& transport, std::string_view& rest,
          std::size_t& packages, const std::error_code& first_fatal) {
  bool ended = false;
  conn.SetPkgHandler(
      [&](Conn&, std::string_view pkg) {
        gtcp_fuzz::check(expect({}, script, rest), {}, pkg, rest);
        ++packages;
      },
      [&](Conn&, std::error_code reason) {
        ended = true;
        if (first_fatal) {
          FUZZ_CHECK(reason == first_fatal);
        } else if (is_no_memory(reason)) {
          FUZZ_CHECK(transport.failures == 1);
        } else {
          gtcp_fuzz::check(expect({}, script, rest), reason, {}, rest);
          FUZZ_CHECK(reason);
        }
      });
  FUZZ_CHECK(!ended);
  context().restart();
  while (!ended) FUZZ_CHECK(context().run_one() != 0);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const recv_script script(data, size);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  // Readable for ever, so that a wait is over at once and the transport decides what there is.
  ::close(ends[1]);
  gtcp::ConnOption option;
  option.Pkg = script.option;
  option.Linger = {};
  option.MaxLineSize = script.max_line_size;
  option.Executor = context().get_executor();
  auto layer = std::make_unique<scripted_transport>(script);
  scripted_transport& transport = *layer;
  const auto state = std::make_shared<gtcp::detail::conn_state>(ends[0], option, std::move(layer));
  state->prime(script.stream.substr(0, script.received));
  const Conn conn = gtcp::detail::conn_access::make(state);
  conn.SetBufferWaitRecv(std::chrono::nanoseconds(0));

  std::string_view rest = script.stream;
  std::size_t packages = 0;
  std::error_code first_fatal;
  const auto check_one = [&](const wish& wanted) {
    const gtcp_fuzz::outcome expected = expect(wanted, script, rest);
    std::error_code error;
    const std::string got = receive(conn, wanted, error);
    if (is_no_memory(error)) {
      FUZZ_CHECK(transport.failures-- == 1);
    } else if (error == Errc::Timeout) {
      FUZZ_CHECK(wanted.how == wish::patience::one_try || wanted.how == wish::patience::try_only);
    } else {
      gtcp_fuzz::check(expected, error, got, rest);
      if (!error && wanted.what == wish::kind::package) ++packages;
    }
    if (!first_fatal && gtcp::IsFatal(error)) first_fatal = error;
    FUZZ_CHECK(conn.CloseReason() == first_fatal);
    return error;
  };
  for (const wish& wanted : script.wishes) check_one(wanted);
  if (script.is_pumped) {
    pump(conn, script, transport, rest, packages, first_fatal);
  } else {
    std::error_code error;
    do {
      error = check_one({});
    } while (!error || is_no_memory(error));
    FUZZ_CHECK(gtcp::IsFatal(error));
    // It stays what it was.
    FUZZ_CHECK(check_one({}) == error);
  }
  const gtcp::ConnStats stats = conn.Stats();
  FUZZ_CHECK(stats.PkgsIn == packages);
  // The end of the pump closes, and that reads what nobody wants.
  FUZZ_CHECK(script.is_pumped ? stats.BytesIn <= transport.given : stats.BytesIn == transport.given);
  conn.Abort();
  std::error_code closed;
  conn.RecvPkg(closed);
  FUZZ_CHECK(closed == Errc::Closed);
  context().restart();
  context().poll();
  return 0;
}
