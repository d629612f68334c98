// SPDX-License-Identifier: MIT

// The way from bytes to packages, and to all else that is received, without socket, clock and thread: any options, any
// split of the bytes, and receives that give up in between.

#include <gtcp/detail/byte_buffer.hpp>
#include <gtcp/detail/recv_goal.hpp>
#include <gtcp/pkg_option.hpp>

#include "fuzz_input.hpp"
#include "recv_script.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace {

using gtcp::detail::byte_buffer;
using gtcp::detail::recv_goal;
using gtcp::detail::recv_verdict;
using gtcp_fuzz::recv_script;
using gtcp_fuzz::wish;

/// The options that are left when those of a call and of its connection are put together; false: they are refused.
bool resolve(gtcp::PkgOption option, const gtcp::PkgOption& of_conn, gtcp::detail::pkg_format& format) {
  std::string why;
  if (option == gtcp::PkgOption() || option.HeaderSize == 0) {
    if (option.MaxDataSize == 0) option.MaxDataSize = of_conn.MaxDataSize;
    option.HeaderSize = of_conn.HeaderSize;
  }
  const std::error_code error = gtcp::detail::check(option, format, why);
  FUZZ_CHECK(static_cast<bool>(error) != why.empty());
  return !error;
}

/// The stream as it comes, and what came and was not taken.
class source {
 public:
  explicit source(const recv_script& script) : script_(script), left_(script.stream) {
    held.append(left_.data(), script.received);
    left_.remove_prefix(script.received);
  }

  byte_buffer held;

  bool ended() const { return left_.empty() && told_; }

  /// Lets some more come, or the end; false: nothing yet.
  bool go_on() {
    if (left_.empty()) return told_ = true;
    const std::uint8_t piece = next_ < script_.pieces.size() ? script_.pieces[next_++] : 254;
    if (piece == recv_script::nothing_yet || piece == recv_script::no_memory) return false;
    const std::size_t size = std::min<std::size_t>(piece, left_.size());
    held.append(left_.data(), size);
    left_.remove_prefix(size);
    return true;
  }

 private:
  const recv_script& script_;
  std::string_view left_;
  std::size_t next_ = 0;
  bool told_ = false;
};

/// False: it gave up, or has failed.
bool receive(source& from, const wish& wanted, const recv_script& script, std::string_view& rest) {
  gtcp_fuzz::outcome expected = gtcp_fuzz::expect(wanted, script, rest);
  if (expected.error == asio::error::connection_reset)  // the connection says what ended the stream, not the goal
    expected.error = wanted.what == wish::kind::package && !rest.empty() ? make_error_code(gtcp::Errc::PkgTruncated)
                                                                         : make_error_code(asio::error::eof);
  gtcp::detail::pkg_format format;
  if (wanted.what == wish::kind::package && !resolve(wanted.option, script.option, format)) {
    FUZZ_CHECK(expected.error == gtcp::Errc::InvalidOption);
    return false;
  }
  recv_goal goal = wanted.what == wish::kind::package ? recv_goal::package(format)
                   : wanted.what == wish::kind::till
                       ? recv_goal::until(wanted.til, !wanted.is_line, script.max_line_size)
                   : wanted.what == wish::kind::all  ? recv_goal::bytes(-1)
                   : wanted.what == wish::kind::some ? recv_goal::bytes(0)
                                                     : recv_goal::bytes(wanted.length);
  bool quiet = false;
  for (;;) {
    const recv_verdict verdict = goal.judge(from.held.view(), from.ended(), quiet);
    FUZZ_CHECK(from.held.view() == rest.substr(0, from.held.size()));
    switch (verdict.what) {
      case recv_verdict::kind::take: {
        const std::size_t taken = verdict.skip + verdict.size + verdict.drop;
        FUZZ_CHECK(taken <= from.held.size());
        const std::string_view before = rest;
        gtcp_fuzz::check(expected, {}, from.held.view().substr(verdict.skip, verdict.size), rest);
        FUZZ_CHECK(before.size() - rest.size() == taken);
        from.held.consume(taken);
        return true;
      }
      case recv_verdict::kind::ended: gtcp_fuzz::check(expected, asio::error::eof, {}, rest); return false;
      case recv_verdict::kind::fail: gtcp_fuzz::check(expected, verdict.error, {}, rest); return false;
      case recv_verdict::kind::need_more: break;
    }
    FUZZ_CHECK(!from.ended());
    FUZZ_CHECK(verdict.size > from.held.size());
    // It never asks for more than what it wants: a reader for a package leaves the next one to others.
    if (!expected.error && !expected.may_be_a_part)
      FUZZ_CHECK(verdict.size <= std::max(expected.taken, from.held.size() + 1));
    if (!from.go_on()) {
      if (wanted.how != wish::patience::waits) return false;
      quiet = goal.ends_when_quiet();
    }
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const recv_script script(data, size);
  source from(script);
  std::string_view rest = script.stream;
  for (const wish& wanted : script.wishes) {
    receive(from, wanted, script, rest);
    // What an idle connection does.
    from.held.shrink();
    FUZZ_CHECK(from.held.empty() == (from.held.capacity() == 0));
    FUZZ_CHECK(from.held.capacity() <= std::max<std::size_t>(4096, 8 * from.held.size()));
  }
  while (receive(from, {}, script, rest)) {
  }
  return 0;
}
