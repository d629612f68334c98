// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_COUNTING_ANSWERER_HPP
#define GTCP_TESTS_COUNTING_ANSWERER_HPP

// Lets a connection answer packages in the calling thread alone, in one way or another: then what is counted cannot
// depend on how threads meet.

#include <gtcp/conn.hpp>
#include <gtcp/detail/rearm_gate.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>

#include <limits>
#include <string>
#include <string_view>
#include <utility>

namespace gtcp_test {

/// How packages are received and answered: blocking and coroutine use one string again and again.
enum class answer_kind { blocking, coroutine, owned_coroutine, callback };

inline const char* name_of(answer_kind which) {
  switch (which) {
    case answer_kind::blocking: return "Blocking";
    case answer_kind::coroutine: return "Coroutine";
    case answer_kind::owned_coroutine: return "OwnedCoroutine";
    case answer_kind::callback: return "Callback";
  }
  return "";
}

/// Looking once more before waiting is a guess that depends on how busy the thread was: here it always waits at once.
inline void switch_off_rearming() {
  gtcp::detail::rearm_gate::of_this_thread().close(std::numeric_limits<unsigned>::max());
}

/// `conn` has the context's executor.
class answerer {
 public:
  answerer(answer_kind which, gtcp::Conn conn, asio::io_context& context)
      : kind_(which), conn_(std::move(conn)), context_(context) {
    switch_off_rearming();
    if (which == answer_kind::coroutine) asio::co_spawn(context, echo(), asio::detached);
    if (which == answer_kind::owned_coroutine) asio::co_spawn(context, echo_owned(), asio::detached);
    if (which == answer_kind::callback) {
      conn_.SetPkgHandler([this](const gtcp::Conn& from, std::string_view pkg) {
        from.SendPkg(pkg);
        ++answered_;
      });
    }
    context.poll();  // now it waits for the first
  }
  ~answerer() {
    conn_.Abort();
    context_.restart();
    context_.poll();
  }
  answerer(const answerer&) = delete;
  answerer& operator=(const answerer&) = delete;

  /// Returns when so many further packages are answered and it has waited, or is about to wait, for the next.
  void answer(unsigned packages) {
    const unsigned until = answered_ + packages;
    if (kind_ == answer_kind::blocking) {
      for (; answered_ != until; ++answered_) {
        conn_.RecvPkg(pkg_);
        conn_.SendPkg(pkg_);
      }
    }
    while (answered_ != until) context_.run_one();
  }

  /// After packages that came together: the answers that are held back leave, as they do before the next wait.
  void let_go() {
    if (kind_ == answer_kind::blocking)
      conn_.TryRecvPkg(pkg_);
    else
      context_.poll();
  }

 private:
  asio::awaitable<void> echo() {
    for (;;) {
      auto receiving = conn_.AsyncRecvPkg(pkg_);
      co_await std::move(receiving);
      auto sending = conn_.AsyncSendPkg(pkg_);
      co_await std::move(sending);
      ++answered_;
    }
  }

  asio::awaitable<void> echo_owned() {
    for (;;) {
      std::string pkg = co_await conn_.AsyncRecvPkg();
      auto sending = conn_.AsyncSendPkg(std::move(pkg));
      co_await std::move(sending);
      ++answered_;
    }
  }

  const answer_kind kind_;
  const gtcp::Conn conn_;
  asio::io_context& context_;
  std::string pkg_;
  unsigned answered_ = 0;
};

}  // namespace gtcp_test

#endif
