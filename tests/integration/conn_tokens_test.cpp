// SPDX-License-Identifier: MIT

// One table: every asynchronous operation with every kind of completion token. The handler runs on its own executor,
// never from within the initiating function, and its memory comes from its allocator.

#include <gtcp/conn.hpp>
#include <gtcp/dial.hpp>

#include "support/conn_pair.hpp"
#include "support/forms.hpp"

#include <gtest/gtest.h>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/use_future.hpp>

#if __has_include(<asio/deferred.hpp>)
#include <asio/deferred.hpp>
namespace compat = asio;
#else
#include <asio/experimental/deferred.hpp>
namespace compat = asio::experimental;
#endif

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<asio/any_completion_handler.hpp>)
#include <asio/any_completion_handler.hpp>
#endif
#if __has_include(<asio/cancel_after.hpp>)
#include <asio/cancel_after.hpp>
#endif
#if __has_include(<asio/experimental/use_promise.hpp>)
#include <asio/experimental/promise.hpp>
#include <asio/experimental/use_promise.hpp>
#endif

namespace {

/// A token that asks for the operation's executor before it begins it, as some of Asio's adapters do.
template <class Handler>
struct asks_for_executor {
  asio::any_io_executor& executor;
  Handler handler;
};

template <class Handler>
asks_for_executor(asio::any_io_executor&, Handler) -> asks_for_executor<Handler>;

/// An executor that runs what it is given as it likes, and cannot be asked to do it later.
struct eager_executor {
  asio::io_context& context;

  template <class Function>
  void execute(Function&& function) const {
    asio::any_io_executor(context.get_executor()).execute(std::forward<Function>(function));
  }
  bool operator==(const eager_executor& other) const noexcept { return &context == &other.context; }
};

}  // namespace

template <class Handler, class... Results>
class asio::async_result<asks_for_executor<Handler>, void(std::error_code, Results...)> {
 public:
  using return_type = void;

  template <class Initiation, class... Args>
  static void initiate(Initiation initiation, asks_for_executor<Handler> token, Args&&... args) {
    const typename Initiation::executor_type executor = initiation.get_executor();
    token.executor = executor;
    std::move(initiation)(std::move(token.handler), std::forward<Args>(args)...);
  }
};

namespace {

using namespace gtcp_test;
using gtcp::Conn;
using gtcp::ConnOption;

// ---- The operations, each on a connection of its own that lives on `executor`. `Situations` are the states in which
// it is begun; a type for each operation, and not for each situation, keeps the compile time bearable.

class OnAConn {
 public:
  explicit OnAConn(asio::any_io_executor executor) : ends_(make_narrow({.Executor = std::move(executor)})) {}

 protected:
  const Conn& conn() const { return ends_.conn; }
  raw_peer& peer() { return ends_.peer; }
  /// Makes the connection hold a package already, so that receiving it needs no waiting.
  void buffer(const std::string& bytes) {
    peer().write(framed("before") + bytes);
    EXPECT_EQ(conn().RecvPkg(), "before");
  }
  void write_later(const std::string& bytes) {
    background_.emplace([this, bytes] { peer().write(bytes); });
  }
  void read_later(int full, const std::string& package, const std::string& last) {
    background_.emplace([this, full, package, last] {
      for (int i = 0; i < full; ++i) EXPECT_TRUE(peer().read_pkg() == package);
      EXPECT_EQ(peer().read_pkg(), last);
    });
  }

 private:
  conn_and_peer ends_;
  std::optional<background<void>> background_;
};

struct AsyncSendPkg : OnAConn {
  enum Situation { Idle, Full, TooLong };
  static constexpr std::array Situations = {Idle, Full, TooLong};
  AsyncSendPkg(const asio::any_io_executor& executor, Situation situation)
      : OnAConn(executor),
        expected(situation == TooLong ? make_error_code(gtcp::Errc::DataTooLong) : std::error_code()) {
    int before = 0;
    const std::string large = pattern(60'000);
    while (situation == Full && conn().TrySendPkg(large)) ++before;
    if (situation != TooLong) read_later(before, large, "hello");
  }
  template <class Token>
  auto start(Token&& token) {
    return conn().AsyncSendPkg(std::string("hello"), {.MaxDataSize = expected ? 4 : 0}, std::forward<Token>(token));
  }
  void check() {}
  const std::error_code expected;
};

struct AsyncRecvPkg : OnAConn {
  enum Situation { Buffered, NothingThere, Closed };
  static constexpr std::array Situations = {Buffered, NothingThere, Closed};
  AsyncRecvPkg(const asio::any_io_executor& executor, Situation situation)
      : OnAConn(executor), expected(situation == Closed ? make_error_code(gtcp::Errc::Closed) : std::error_code()) {
    if (situation == Buffered) buffer(framed("hello"));
    if (situation == NothingThere) write_later(framed("hello"));
    if (situation == Closed) conn().Close();
  }
  template <class Token>
  auto start(Token&& token) {
    return conn().AsyncRecvPkg(std::forward<Token>(token));
  }
  void check(const std::string& pkg) { EXPECT_EQ(pkg, expected ? "" : "hello"); }
  const std::error_code expected;
};

struct AsyncRecvPkgInto : OnAConn {
  enum Situation { Buffered, NothingThere };
  static constexpr std::array Situations = {Buffered, NothingThere};
  AsyncRecvPkgInto(const asio::any_io_executor& executor, Situation situation) : OnAConn(executor) {
    if (situation == Buffered) buffer(framed("hello"));
    if (situation == NothingThere) write_later(framed("hello"));
  }
  template <class Token>
  auto start(Token&& token) {
    return conn().AsyncRecvPkg(into_, std::forward<Token>(token));
  }
  void check() { EXPECT_EQ(into_, "hello"); }
  const std::error_code expected{};

 private:
  std::string into_;
};

struct AsyncSendRecvPkg : OnAConn {
  enum Situation { Buffered, NothingThere };
  static constexpr std::array Situations = {Buffered, NothingThere};
  AsyncSendRecvPkg(const asio::any_io_executor& executor, Situation situation) : OnAConn(executor) {
    if (situation == Buffered) buffer(framed("reply"));
    if (situation == NothingThere) write_later(framed("reply"));
  }
  template <class Token>
  auto start(Token&& token) {
    return conn().AsyncSendRecvPkg(std::string("request"), std::forward<Token>(token));
  }
  void check(const std::string& reply) {
    EXPECT_EQ(reply, "reply");
    EXPECT_EQ(peer().read_pkg(), "request");
  }
  const std::error_code expected{};
};

struct AsyncFlush : OnAConn {
  enum Situation { Nothing, Pending };
  static constexpr std::array Situations = {Nothing, Pending};
  AsyncFlush(const asio::any_io_executor& executor, Situation situation) : OnAConn(executor) {
    if (situation == Pending) {
      const std::string large = pattern(60'000);
      EXPECT_TRUE(conn().TrySendPkg(large));
      conn().SendPkg("hello");
      read_later(1, large, "hello");
    }
  }
  template <class Token>
  auto start(Token&& token) {
    return conn().AsyncFlush(std::forward<Token>(token));
  }
  void check() {}
  const std::error_code expected{};
};

struct AsyncClose : OnAConn {
  enum Situation { Open, Closed };
  static constexpr std::array Situations = {Open, Closed};
  AsyncClose(const asio::any_io_executor& executor, Situation situation) : OnAConn(executor) {
    if (situation == Open) return;
    peer().end_sending();
    EXPECT_TRUE(conn().CloseAndWait(ceiling));
  }
  template <class Token>
  auto start(Token&& token) {
    return conn().AsyncClose(std::forward<Token>(token));
  }
  void check(bool delivered) {
    EXPECT_TRUE(delivered);
    EXPECT_EQ(peer().read_to_end(), "");
  }
  const std::error_code expected{};
};

struct AsyncNewConn {
  enum Situation { Listening, NoAddress };
  static constexpr std::array Situations = {Listening, NoAddress};
  AsyncNewConn(asio::any_io_executor executor, Situation situation)
      : expected(situation == NoAddress ? make_error_code(gtcp::Errc::InvalidAddress) : std::error_code()),
        option_{.Executor = std::move(executor)},
        acceptor_(raw_context(), {asio::ip::address_v4::loopback(), 0}),
        address_(situation == NoAddress ? "nowhere" : gtcp::detail::to_text(acceptor_.local_endpoint())) {}
  template <class Token>
  auto start(Token&& token) {
    return gtcp::AsyncNewConn(address_, ceiling, option_, std::forward<Token>(token));
  }
  void check(const Conn& conn) { EXPECT_EQ(conn.RemoteAddr(), expected ? "" : address_); }
  const std::error_code expected;

 private:
  ConnOption option_;
  asio::ip::tcp::acceptor acceptor_;
  std::string address_;
};

// ---- The tokens

template <class Operation>
class Tokens : public testing::Test {
 protected:
  /// Runs `test` with the operation in each of its situations.
  template <class Test>
  void in_every_situation(asio::any_io_executor executor, Test test) {
    for (const auto situation : Operation::Situations) {
      SCOPED_TRACE("situation " + std::to_string(situation));
      Operation operation(executor, situation);
      test(operation);
    }
  }
  void run_context() {
    context_.restart();
    context_.run_for(ceiling);
  }
  asio::io_context context_;
};

using Operations = testing::Types<AsyncSendPkg, AsyncRecvPkg, AsyncRecvPkgInto, AsyncSendRecvPkg, AsyncFlush,
                                  AsyncClose, AsyncNewConn>;

class OperationNames {
 public:
  template <class Operation>
  static std::string GetName(int) {
    std::string name = testing::internal::GetTypeName<Operation>();
    return name.substr(name.rfind(':') + 1);
  }
};

TYPED_TEST_SUITE(Tokens, Operations, OperationNames);

TYPED_TEST(Tokens, CallbackRunsOnTheConnsExecutorAndNeverInline) {
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    bool initiating = true;
    bool called = false;
    // Initiated on the very thread that runs the executor: the only place where calling inline would be possible.
    asio::post(this->context_, [&] {
      operation.start([&](std::error_code ec, auto... results) {
        EXPECT_FALSE(initiating) << "called from within the initiating function";
        EXPECT_TRUE(this->context_.get_executor().running_in_this_thread());
        EXPECT_EQ(ec, operation.expected) << ec.message();
        called = true;
        operation.check(results...);
      });
      initiating = false;
    });
    this->run_context();
    EXPECT_TRUE(called);
  });
}

TYPED_TEST(Tokens, CallbackRunsOnTheDefaultRuntimeWithoutAnExecutor) {
  this->in_every_situation(asio::any_io_executor{}, [&](TypeParam& operation) {
    const auto initiator = std::this_thread::get_id();
    std::error_code ec;
    call_back<void>(ec, [&](auto handler) {
      operation.start([&, handler = std::move(handler), initiator](std::error_code error, auto... results) mutable {
        EXPECT_NE(std::this_thread::get_id(), initiator);
        EXPECT_TRUE(gtcp::detail::on_runtime_thread());
        operation.check(results...);
        handler(error);
      });
    });
    EXPECT_EQ(ec, operation.expected) << ec.message();
  });
}

TYPED_TEST(Tokens, KeepTheExecutorRunningUntilTheHandlerWasCalled) {
  // The handler's executor is another one than the connection's: its run() must not return before.
  this->in_every_situation(asio::any_io_executor{}, [&](TypeParam& operation) {
    bool called = false;
    operation.start(asio::bind_executor(this->context_, [&](std::error_code, auto...) { called = true; }));
    this->run_context();
    EXPECT_TRUE(called);
  });
}

TYPED_TEST(Tokens, MayAskForTheExecutor) {
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    asio::any_io_executor executor;
    bool called = false;
    operation.start(asks_for_executor{executor, [&](std::error_code ec, auto... results) {
                                        EXPECT_EQ(ec, operation.expected) << ec.message();
                                        called = true;
                                        operation.check(results...);
                                      }});
    EXPECT_EQ(executor, asio::any_io_executor(this->context_.get_executor()));
    this->run_context();
    EXPECT_TRUE(called);
  });
}

TYPED_TEST(Tokens, CallbackIsNeverInlineWhateverItsExecutorDoes) {
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    bool initiating = true;
    bool called = false;
    asio::post(this->context_, [&] {
      operation.start(asio::bind_executor(eager_executor{this->context_}, [&](std::error_code ec, auto... results) {
        EXPECT_FALSE(initiating) << "called from within the initiating function";
        EXPECT_EQ(ec, operation.expected) << ec.message();
        called = true;
        operation.check(results...);
      }));
      initiating = false;
    });
    this->run_context();
    EXPECT_TRUE(called);
  });
}

#if __has_include(<asio/any_completion_handler.hpp>)
TEST(Token, MayBeAnyCompletionHandler) {
  auto [conn, peer] = make_conn_and_peer();
  std::promise<std::string> came;
  asio::any_completion_handler<void(std::error_code, std::string)> handler(
      [&](std::error_code, std::string pkg) { came.set_value(std::move(pkg)); });
  conn.AsyncRecvPkg(std::move(handler));
  peer.write(framed("hello"));
  auto future = came.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), "hello");
}
#endif

#if __has_include(<asio/cancel_after.hpp>)
TEST(Token, MayBeCancelAfter) {
  auto [conn, peer] = make_conn_and_peer();
  std::promise<std::error_code> ended;
  conn.AsyncRecvPkg(asio::cancel_after(std::chrono::milliseconds(1),
                                       [&](std::error_code ec, const std::string&) { ended.set_value(ec); }));
  auto future = ended.get_future();
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), asio::error::operation_aborted);
  peer.write(framed("hello"));
  EXPECT_EQ(conn.RecvPkg(), "hello");
}
#endif

#if __has_include(<asio/experimental/use_promise.hpp>)
TEST(Token, MayBeAPromise) {
  auto [conn, peer] = make_conn_and_peer();
  auto promise = conn.AsyncRecvPkg(asio::experimental::use_promise);
  peer.write(framed("hello"));
  auto future = std::move(promise)(asio::use_future);
  ASSERT_TRUE(comes(future));
  EXPECT_EQ(future.get(), "hello");
}
#endif

TYPED_TEST(Tokens, FutureGetsTheResult) {
  this->in_every_situation(asio::any_io_executor{}, [&](TypeParam& operation) {
    if (operation.expected) return;  // see the callback; an exception through a future alarms the thread sanitizer
    auto future = operation.start(asio::use_future);
    ASSERT_TRUE(comes(future));
    if constexpr (std::is_void_v<decltype(future.get())>) {
      future.get();
      operation.check();
    } else {
      operation.check(future.get());
    }
  });
}

TYPED_TEST(Tokens, AwaitableGetsTheResultOnTheCoroutinesExecutor) {
  this->in_every_situation(asio::any_io_executor{}, [&](TypeParam& operation) {
    const auto thread = std::this_thread::get_id();
    std::error_code ec;
    const auto coroutine = [&]() -> asio::awaitable<void> {
      auto started = operation.start(asio::use_awaitable);
      if constexpr (std::is_same_v<decltype(started), asio::awaitable<void>>) {
        co_await std::move(started);
        operation.check();
      } else {
        const auto result = co_await std::move(started);
        operation.check(result);
      }
      EXPECT_EQ(std::this_thread::get_id(), thread);
    };
    try {
      run(coroutine());
    } catch (const std::system_error& error) {
      ec = error.code();
    }
    EXPECT_EQ(ec, operation.expected) << ec.message();
  });
}

TYPED_TEST(Tokens, DeferredStartsWhenItIsTold) {
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    auto deferred = operation.start(compat::deferred);
    bool called = false;
    std::move(deferred)([&](std::error_code ec, auto... results) {
      EXPECT_EQ(ec, operation.expected) << ec.message();
      called = true;
      operation.check(results...);
    });
    EXPECT_FALSE(called);
    this->run_context();
    EXPECT_TRUE(called);
  });
}

TYPED_TEST(Tokens, HandlerMayBeMoveOnly) {
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    auto calls = std::make_unique<int>(0);
    int* const count = calls.get();
    std::unique_ptr<int> kept;
    operation.start([&, calls = std::move(calls)](std::error_code, auto...) mutable {
      ++*calls;
      kept = std::move(calls);
    });
    this->run_context();
    ASSERT_TRUE(kept);
    EXPECT_EQ(*count, 1);
  });
}

TYPED_TEST(Tokens, HandlerRunsOnTheExecutorThatIsBoundToIt) {
  asio::io_context own;
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    const auto strand = asio::make_strand(own);
    bool called = false;
    bool initiating = true;
    asio::post(strand, [&] {
      operation.start(asio::bind_executor(strand, [&](std::error_code ec, auto... results) {
        EXPECT_FALSE(initiating);
        EXPECT_TRUE(strand.running_in_this_thread());
        EXPECT_EQ(ec, operation.expected) << ec.message();
        called = true;
        operation.check(results...);
      }));
      initiating = false;
    });
    auto work = asio::make_work_guard(this->context_);
    std::thread connection([this] { this->run_context(); });
    own.restart();
    own.run_for(ceiling);
    work.reset();
    connection.join();
    EXPECT_TRUE(called);
  });
}

struct allocations {
  std::atomic<int> made{0};
  std::atomic<int> freed{0};
};

template <class T>
class counting_allocator {
 public:
  using value_type = T;
  explicit counting_allocator(allocations& counts) noexcept : counts_(&counts) {}
  template <class U>
  counting_allocator(const counting_allocator<U>& other) noexcept : counts_(other.counts()) {}
  T* allocate(std::size_t count) {
    ++counts_->made;
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, std::size_t count) {
    ++counts_->freed;
    std::allocator<T>().deallocate(memory, count);
  }
  allocations* counts() const noexcept { return counts_; }
  friend bool operator==(const counting_allocator&, const counting_allocator&) = default;

 private:
  allocations* counts_;
};

template <class Function>
struct handler_with_allocator {
  using allocator_type = counting_allocator<void>;
  allocations* counts;
  Function function;
  allocator_type get_allocator() const noexcept { return allocator_type(*counts); }
  void operator()(std::error_code ec, auto... results) { function(ec, results...); }
};

TYPED_TEST(Tokens, MemoryComesFromTheHandlersAllocatorAndIsFreedBeforeTheHandler) {
  allocations counts;
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    bool called = false;
    auto function = [&](std::error_code, auto...) {
      EXPECT_EQ(counts.made, counts.freed) << "a handler that starts the next operation gets the same memory again";
      called = true;
    };
    operation.start(handler_with_allocator<decltype(function)>{&counts, function});
    this->run_context();
    EXPECT_TRUE(called);
    // Dialing is a coroutine, whose memory is its own.
    EXPECT_TRUE(counts.made > 0 || (std::is_same_v<TypeParam, AsyncNewConn>));
  });
  EXPECT_EQ(counts.made, counts.freed);
}

TYPED_TEST(Tokens, SlotIsUsedAndEmittingAfterTheEndDoesNothing) {
  this->in_every_situation(this->context_.get_executor(), [&](TypeParam& operation) {
    asio::cancellation_signal signal;
    int calls = 0;
    operation.start(asio::bind_cancellation_slot(signal.slot(), [&](std::error_code ec, auto...) {
      EXPECT_EQ(ec, operation.expected) << ec.message();
      ++calls;
    }));
    this->run_context();
    signal.emit(asio::cancellation_type::all);
    this->run_context();
    EXPECT_EQ(calls, 1);
  });
}

// ---- What handlers throw

TEST(Handlers, MayThrowAnythingIntoTheirContext) {
  const std::error_code closed = gtcp::Errc::Closed;
  const std::vector<std::function<void()>> throws = {[&] { throw std::system_error(closed, "thrown"); },
                                                     [] { throw std::bad_alloc(); }, [] { throw 42; }};
  for (const auto& throw_one : throws) {
    asio::io_context context;
    auto [conn, peer] = make_conn_and_peer({.Executor = context.get_executor()});
    int calls = 0;
    conn.AsyncRecvPkg([&](std::error_code, const std::string&) {
      ++calls;
      throw_one();
    });
    context.poll();  // it waits
    peer.write(framed("one") + framed("two"));
    EXPECT_ANY_THROW(context.run_for(ceiling));
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(run(conn.AsyncRecvPkg()), "two");
  }
}

}  // namespace
