// SPDX-License-Identifier: MIT
#ifndef GTCP_PAYLOAD_HPP
#define GTCP_PAYLOAD_HPP

// What can be sent: anything that is a row of bytes, without a copy.

// First: Asio must see the library's feature macros, and the same ones in every file.
#include <cstddef>

#include <asio/buffer.hpp>

#include <concepts>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace gtcp {

namespace detail {

template <class T>
concept byte_like = std::same_as<T, char> || std::same_as<T, signed char> || std::same_as<T, unsigned char> ||
                    std::same_as<T, std::byte> || std::same_as<T, char8_t>;

template <class T>
concept byte_range =
    std::ranges::contiguous_range<T> && std::ranges::sized_range<T> &&
    byte_like<std::remove_cv_t<std::ranges::range_value_t<T>>> && !std::is_array_v<std::remove_cvref_t<T>>;

}  // namespace detail

/// Bytes of the caller's, to be sent: a std::string, a string_view, a span or vector of bytes, an asio::const_buffer,
/// or a C string, which counts up to its NUL.
///
/// Lifetimes: it only points; what it was made of must stay until the call returns.
class Payload {
 public:
  Payload() = default;
  Payload(const char* text) noexcept : data_(text), size_(text != nullptr ? std::string_view(text).size() : 0) {}
  Payload(asio::const_buffer buffer) noexcept : data_(buffer.data()), size_(buffer.size()) {}
  Payload(asio::mutable_buffer buffer) noexcept : data_(buffer.data()), size_(buffer.size()) {}

  template <detail::byte_range Range>
    requires(!std::same_as<std::remove_cvref_t<Range>, Payload>)
  Payload(const Range& bytes) noexcept : data_(std::ranges::data(bytes)), size_(std::ranges::size(bytes)) {}

  const void* Data() const noexcept { return data_; }
  std::size_t Size() const noexcept { return size_; }

 private:
  const void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Bytes for an asynchronous send. A temporary std::string moves into the operation, a temporary std::vector is copied
/// into it; all else is borrowed and must stay as it is until the operation completes.
class AsyncPayload {
 public:
  AsyncPayload() = default;
  AsyncPayload(std::string&& owned) noexcept : owned_(std::move(owned)) {}

  template <detail::byte_like Byte>
  AsyncPayload(std::vector<Byte>&& owned)
      : owned_(std::in_place, reinterpret_cast<const char*>(owned.data()), owned.size()) {}

  template <class Bytes>
    requires(std::convertible_to<const Bytes&, Payload> && !std::same_as<std::remove_cvref_t<Bytes>, AsyncPayload>)
  AsyncPayload(const Bytes& borrowed) noexcept : borrowed_(borrowed) {}

  std::size_t Size() const noexcept { return owned_ ? owned_->size() : borrowed_.Size(); }

  /// The bytes, valid while this object stays where it is.
  asio::const_buffer Buffer() const noexcept {
    return owned_ ? asio::const_buffer(owned_->data(), owned_->size())
                  : asio::const_buffer(borrowed_.Data(), borrowed_.Size());
  }

 private:
  std::optional<std::string> owned_;  // to hand on what is borrowed costs nothing
  Payload borrowed_;
};

}  // namespace gtcp

#endif
