// SPDX-License-Identifier: MIT

// What the parts of the library cost that no system call hides: framing, sending into a transport that takes
// everything, receiving what is buffered, JSON, timers. What a million of those cost is in timer_bench.

#include <gtcp/dial.hpp>
#include <gtcp/msg.hpp>
#include <gtcp/timer.hpp>

#include <asio/bind_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <benchmark/benchmark.h>

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

constexpr std::size_t payload_size = 64;

std::string make_frame() { return std::string("\0\x40", 2) + std::string(payload_size, 'x'); }

/// Takes all that is written, and always has further packages to read.
class endless_transport final : public gtcp::detail::transport {
 public:
  gtcp::detail::io_result read_some(asio::mutable_buffer buffer) override {
    auto* out = static_cast<char*>(buffer.data());
    const std::size_t size = buffer.size();
    for (std::size_t left = size; left != 0;) {
      const std::size_t part = std::min(left, frames_.size() - at_);
      std::memcpy(out, frames_.data() + at_, part);
      out += part;
      left -= part;
      at_ = (at_ + part) % frames_.size();
    }
    return {size};
  }
  gtcp::detail::io_result write_some(std::span<const asio::const_buffer> buffers) override {
    return {asio::buffer_size(buffers)};
  }
  void end_of_sending() override {}

 private:
  static std::string make_frames() {
    std::string frames;
    while (frames.size() < 64 * 1024) frames += make_frame();
    return frames;
  }

  std::string frames_ = make_frames();
  std::size_t at_ = 0;
};

/// A Conn on such a transport; `context` is where its asynchronous operations go on.
gtcp::Conn make_conn(asio::io_context& context, gtcp::SendMode mode = gtcp::SendMode::Buffered) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  // The other end stays open as long as the process, and this one readable: what there is the transport says.
  if (::send(ends[1], "", 1, MSG_NOSIGNAL) != 1) std::abort();
  gtcp::ConnOption option;
  option.Executor = context.get_executor();
  option.Mode = mode;
  option.Linger = std::chrono::milliseconds(0);
  return gtcp::detail::make_conn(ends[0], option, std::make_unique<endless_transport>());
}

void Encode(benchmark::State& state) {
  const gtcp::detail::pkg_format format;
  std::size_t size = payload_size;
  for (auto _ : state) {
    benchmark::DoNotOptimize(size);
    gtcp::detail::pkg_header header = gtcp::detail::make_pkg_header(format, size);
    benchmark::DoNotOptimize(header);
  }
}
BENCHMARK(Encode);

void Decode(benchmark::State& state) {
  const std::string frame = make_frame();
  gtcp::detail::recv_goal goal = gtcp::detail::recv_goal::package({});
  for (auto _ : state) {
    std::string_view bytes = frame;
    benchmark::DoNotOptimize(bytes);
    gtcp::detail::recv_verdict verdict = goal.judge(bytes, false);
    benchmark::DoNotOptimize(verdict);
  }
}
BENCHMARK(Decode);

void SendPkg(benchmark::State& state, gtcp::SendMode mode) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context, mode);
  const std::string payload(payload_size, 'x');
  for (auto _ : state) conn.SendPkg(payload);
  conn.Abort();
}
BENCHMARK_CAPTURE(SendPkg, Buffered, gtcp::SendMode::Buffered);
BENCHMARK_CAPTURE(SendPkg, Direct, gtcp::SendMode::Direct);

void SendPkgCorked(benchmark::State& state) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context);
  const std::string payload(payload_size, 'x');
  {
    const gtcp::Cork together(conn);
    for (auto _ : state) conn.SendPkg(payload);
  }
  conn.Abort();
}
BENCHMARK(SendPkgCorked);

void RecvPkg(benchmark::State& state) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context);
  for (auto _ : state) {
    std::string package = conn.RecvPkg();
    benchmark::DoNotOptimize(package);
  }
  conn.Abort();
}
BENCHMARK(RecvPkg);

void RecvPkgInto(benchmark::State& state) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context);
  std::string package;
  for (auto _ : state) conn.RecvPkg(package);
  conn.Abort();
}
BENCHMARK(RecvPkgInto);

void TryRecvPkg(benchmark::State& state) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context);
  std::string package;
  conn.RecvPkg(package);
  for (auto _ : state) {
    if (!conn.TryRecvPkg(package)) conn.RecvPkg(package);
  }
  conn.Abort();
}
BENCHMARK(TryRecvPkg);

asio::awaitable<void> recv_owned(benchmark::State& state, gtcp::Conn conn) {
  for (auto _ : state) {
    std::string package = co_await conn.AsyncRecvPkg();
    benchmark::DoNotOptimize(package);
  }
}

asio::awaitable<void> recv_into(benchmark::State& state, gtcp::Conn conn) {
  std::string package;
  for (auto _ : state) co_await conn.AsyncRecvPkg(package);
}

asio::awaitable<void> recv_by_token(benchmark::State& state, gtcp::Conn conn) {
  std::string package;
  for (auto _ : state) {
    auto receiving = conn.AsyncRecvPkg(package, asio::use_awaitable);
    co_await std::move(receiving);
  }
}

template <class Coroutine>
void Await(benchmark::State& state, Coroutine coroutine) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context);
  asio::co_spawn(context, coroutine(state, conn), [&](std::exception_ptr) {
    conn.Abort();
    context.stop();
  });
  context.run();
}
BENCHMARK_CAPTURE(Await, AsyncRecvPkg, recv_owned);
BENCHMARK_CAPTURE(Await, AsyncRecvPkgInto, recv_into);
BENCHMARK_CAPTURE(Await, AsyncRecvPkgIntoUseAwaitable, recv_by_token);

/// The form with a callback, which begins the next receive.
void AwaitCallback(benchmark::State& state) {
  asio::io_context context(1);
  const gtcp::Conn conn = make_conn(context);
  std::string package;
  struct next {
    benchmark::State& state;
    const gtcp::Conn& conn;
    std::string& package;
    void operator()(std::error_code) {
      if (state.KeepRunning()) conn.AsyncRecvPkg(package, next{state, conn, package});
    }
  };
  asio::post(context, [&] { next{state, conn, package}({}); });
  context.run();
  conn.Abort();
}
BENCHMARK(AwaitCallback)->Name("Await/AsyncRecvPkgIntoCallback");

const gtcp::Msg message{.Act = "hello", .Data = "Nice to meet you, 世界! <b>\"quoted\"</b>"};

void MsgEncode(benchmark::State& state) {
  for (auto _ : state) {
    std::string text = gtcp::MarshalMsg(message);
    benchmark::DoNotOptimize(text);
  }
}
BENCHMARK(MsgEncode);

void MsgDecode(benchmark::State& state) {
  const std::string text = gtcp::MarshalMsg(message);
  for (auto _ : state) {
    gtcp::Msg read = gtcp::UnmarshalMsg(text);
    benchmark::DoNotOptimize(read);
  }
}
BENCHMARK(MsgDecode);

void TimerAddAndClose(benchmark::State& state) {
  gtcp::Timer timer;
  for (auto _ : state) {
    const gtcp::TimerEntry entry = timer.SetTimeout(std::chrono::minutes(1), [] {});
    entry.Close();
  }
}
BENCHMARK(TimerAddAndClose);

/// Adds timers that are due, while they fire, and waits for them.
void TimerAddAndFire(benchmark::State& state) {
  constexpr int batch = 1024;
  std::atomic<int> left{0};  // outlives the timer, whose end waits for the last callback
  gtcp::Timer timer;
  while (state.KeepRunningBatch(batch)) {
    left = batch;
    for (int i = 0; i < batch; ++i) {
      timer.SetTimeout(std::chrono::nanoseconds(1), [&left] {
        if (left.fetch_sub(1) == 1) left.notify_one();
      });
    }
    for (int now = left; now != 0; now = left) left.wait(now);
  }
}
BENCHMARK(TimerAddAndFire)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
