// SPDX-License-Identifier: MIT
#ifndef GTCP_ERROR_HPP
#define GTCP_ERROR_HPP

// What can go wrong in gtcp itself. Errors of the system and of Asio pass through untouched, in their own
// categories; everything that gtcp adds is an Errc in the category "gtcp".

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/error.hpp>

#include <new>
#include <string>
#include <system_error>

namespace gtcp {

/// Names what gtcp itself reports; each converts to std::error_code.
///
/// The values are stable: they may be logged and compared across versions.
enum class Errc {
  /// The operation's deadline passed. Not fatal: nothing was lost, and the operation may be tried again.
  /// Its condition is std::errc::timed_out. (A dead connection is the system's ETIMEDOUT, which is fatal.)
  Timeout = 1,
  /// A SendMode::Direct send reached its deadline, or was cancelled, after its first byte: the rest follows by
  /// itself, before any other package. Not fatal; sending the package again would double it.
  TimeoutPartlySent = 2,
  /// The Conn or Server was closed on this side. Fatal. Its condition is std::errc::operation_canceled.
  Closed = 3,
  /// The peer announced a package of more than PkgOption::MaxDataSize bytes. Fatal: there is no way to resynchronise.
  PkgTooLarge = 4,
  /// The peer ended the stream inside a package. Fatal.
  PkgTruncated = 5,
  /// The payload to send has more than PkgOption::MaxDataSize bytes. Not fatal: nothing was sent.
  DataTooLong = 6,
  /// An option is outside of what is allowed. Not fatal: it is checked before any input or output.
  InvalidOption = 7,
  /// The text is not an address. Not fatal.
  InvalidAddress = 8,
  /// The package is not the JSON that was asked for. Not fatal: the package was consumed, the next one can be read.
  InvalidMsg = 9,
  /// The call would block one of gtcp's own io threads, on which its own progress may depend. Not fatal.
  WouldDeadlock = 10,
  /// RecvLine or RecvTill found no end within the size limit. Not fatal: the bytes stay with the Conn.
  LineTooLong = 11,
  /// A Server was told to serve without a handler. Not fatal.
  NoHandler = 12,
  /// The peer ended the stream without TLS's close_notify, so something may be missing at its end. Fatal. (Inside a
  /// package it is PkgTruncated.)
  TlsTruncated = 13,
  /// The Server is shutting down: nothing more is received. Fatal for receiving; sends are still delivered.
  Draining = 14,
  /// The outbox has no room, and QueuePolicy says not to wait for it. Not fatal: nothing of the package was taken.
  /// Under QueuePolicy::Close the connection is reset as well, and what follows fails with Errc::Closed.
  QueueFull = 15,
  /// A Server's limit: no package came within ServerOption::FirstPkgTimeout. Fatal.
  FirstPkgTimeout = 16,
  /// A Server's limit: not a byte came within ServerOption::IdleTimeout. Fatal.
  IdleTimeout = 17,
  /// A Server's limit: a package that had begun was not whole within ServerOption::PkgTimeout. Fatal.
  PkgTimeout = 18,
  /// A Server's limit: the peer took not a byte of what waits for it within ServerOption::SendStallTimeout. Fatal.
  SendStalled = 19,
  /// A Server's limit: with what came, its connections would have held more than ServerOption::MaxReceiveMemory of
  /// unfinished packages and of what waits for a handler. Fatal.
  ReceiveMemoryFull = 20,
};

/// Returns the category "gtcp" of all Errc values.
inline const std::error_category& ErrorCategory() noexcept;

/// Makes Errc usable wherever a std::error_code is expected (found by argument-dependent look-up).
inline std::error_code make_error_code(Errc code) noexcept { return {static_cast<int>(code), ErrorCategory()}; }

}  // namespace gtcp

template <>
struct std::is_error_code_enum<gtcp::Errc> : std::true_type {};

namespace gtcp {

namespace detail {

class error_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "gtcp"; }

  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::Timeout: return "operation timed out";
      case Errc::TimeoutPartlySent:
        return "operation timed out with a part of the package sent; the rest follows by itself";
      case Errc::Closed: return "closed on this side";
      case Errc::PkgTooLarge: return "invalid package size: more than the allowed max data size";
      case Errc::PkgTruncated: return "connection ended inside a package";
      case Errc::DataTooLong: return "data too long: more than the allowed max data size";
      case Errc::InvalidOption: return "invalid option";
      case Errc::InvalidAddress:
        return "invalid address: expected \"host:port\", \"[ipv6]:port\", \":port\" or \"unix:/path\"";
      case Errc::InvalidMsg: return "invalid package structure";
      case Errc::WouldDeadlock: return "blocking call on an io thread would deadlock; use the asynchronous form";
      case Errc::LineTooLong: return "no end of line within the size limit";
      case Errc::NoHandler: return "no connection handler defined";
      case Errc::TlsTruncated: return "TLS connection ended without close_notify";
      case Errc::Draining: return "server is shutting down";
      case Errc::QueueFull: return "send queue is full";
      case Errc::FirstPkgTimeout: return "no package came in time";
      case Errc::IdleTimeout: return "nothing came for too long";
      case Errc::PkgTimeout: return "package was not whole in time";
      case Errc::SendStalled: return "peer took nothing for too long";
      case Errc::ReceiveMemoryFull: return "receive buffers of the server are full";
    }
    return "unknown gtcp error " + std::to_string(value);
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<Errc>(value)) {
      case Errc::Timeout:
      case Errc::TimeoutPartlySent:
      case Errc::FirstPkgTimeout:
      case Errc::IdleTimeout:
      case Errc::PkgTimeout:
      case Errc::SendStalled: return std::errc::timed_out;
      case Errc::Closed:
      case Errc::Draining: return std::errc::operation_canceled;
      case Errc::QueueFull: return std::errc::no_buffer_space;
      case Errc::ReceiveMemoryFull: return std::errc::not_enough_memory;
      case Errc::PkgTooLarge:
      case Errc::DataTooLong:
      case Errc::LineTooLong: return std::errc::message_size;
      case Errc::PkgTruncated:
      case Errc::TlsTruncated:
      case Errc::InvalidMsg: return std::errc::bad_message;
      case Errc::InvalidOption:
      case Errc::InvalidAddress:
      case Errc::NoHandler: return std::errc::invalid_argument;
      case Errc::WouldDeadlock: return std::errc::resource_deadlock_would_occur;
    }
    return {value, *this};
  }
};

// No local static variable, see per_process.
inline constinit const error_category the_error_category{};

/// What an operation fails with for which this process has no memory.
inline std::error_code no_memory_error() noexcept { return std::make_error_code(std::errc::not_enough_memory); }

/// Whether the same operation may succeed a little later: the system was short of memory for it, and no byte moved.
inline bool is_transient(const std::error_code& ec) noexcept {
  // Values, not conditions: the category of Asio 1.22 knows none.
  return ec == asio::error::no_buffer_space || ec == asio::error::no_memory;
}

}  // namespace detail

inline const std::error_category& ErrorCategory() noexcept { return detail::the_error_category; }

/// Says whether an error means that the connection can no longer be used for what failed.
///
/// False for success; for what is reported before any input or output (bad options, too long data, no room in the
/// outbox, a call that would block an io thread, a shortage of memory); for operations that timed out or were
/// cancelled; for a package that is not the JSON that was asked for, and a line that is too long. True for all else:
/// end of file, resets, Errc::Closed, broken framing. After end of file sending may still work.
///
/// Thread safety: may be called from any thread.
inline bool IsFatal(const std::error_code& ec) noexcept {
  if (!ec) return false;
  if (ec.category() == ErrorCategory()) {
    switch (static_cast<Errc>(ec.value())) {
      case Errc::Closed:
      case Errc::PkgTooLarge:
      case Errc::PkgTruncated:
      case Errc::TlsTruncated:
      case Errc::Draining:
      case Errc::FirstPkgTimeout:
      case Errc::IdleTimeout:
      case Errc::PkgTimeout:
      case Errc::SendStalled:
      case Errc::ReceiveMemoryFull: return true;
      default: return false;
    }
  }
  return ec != asio::error::would_block && ec != asio::error::try_again && ec != asio::error::operation_aborted &&
         ec != asio::error::interrupted && !detail::is_transient(ec) && ec != std::errc::not_enough_memory &&
         ec != std::errc::no_buffer_space;
}

namespace detail {

/// What a failed operation is called in its error, and why it failed if that is more than the error's own text.
inline std::string with_reason(std::string name, const std::string& why) {
  return why.empty() ? name : name + ": " + why;
}

/// The exception for an error; without what `describe()` says of it where there is no memory for that.
template <class Describe>
std::system_error described_error(const std::error_code& ec, const Describe& describe) {
  try {
    return std::system_error(ec, describe());
  } catch (const std::bad_alloc&) {
    return std::system_error(ec);
  }
}

}  // namespace detail

/// Says what a blocking operation, or an awaited one, does with its error: nothing given, it throws std::system_error,
/// whose what() names the operation, the peer and what was wrong; given a std::error_code, it fills that, and clears it
/// on success.
class OnError {
 public:
  OnError() = default;
  OnError(std::error_code& target) noexcept : target_(&target) {}  // implicit: the last argument of an operation

  bool Throws() const noexcept { return target_ == nullptr; }

  /// Fills the error_code, or throws if there is an error; `describe` makes the text in front of the error's own.
  template <class Describe>
  void Report(const std::error_code& ec, const Describe& describe) const {
    if (target_ != nullptr)
      *target_ = ec;
    else if (ec)
      throw detail::described_error(ec, describe);
  }

  /// Reports success.
  void Clear() const noexcept {
    if (target_ != nullptr) target_->clear();
  }

 private:
  std::error_code* target_ = nullptr;
};

}  // namespace gtcp

#endif
