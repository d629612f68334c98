// SPDX-License-Identifier: MIT
#ifndef GTCP_DETAIL_PLATFORM_ADDRESS_HPP
#define GTCP_DETAIL_PLATFORM_ADDRESS_HPP

// The addresses of sockets as the system writes them, and the files of unix sockets.

#include <gtcp/detail/platform_base.hpp>

#include <asio/detail/config.hpp>
#include <asio/detail/socket_types.hpp>

#include <cstddef>
#include <cstring>
#include <string>

#if !defined(ASIO_WINDOWS)
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#endif

namespace gtcp::detail {

/// The address of a stream socket as the system writes it, or none.
class socket_address {
 public:
  socket_address() = default;
  socket_address(const void* data, std::size_t size) noexcept : size_(size) { std::memcpy(&storage_, data, size); }

  /// The socket's own.
  static socket_address of(native_socket descriptor) noexcept { return ask(::getsockname, descriptor); }
  static socket_address of_peer(native_socket descriptor) noexcept { return ask(::getpeername, descriptor); }
  static socket_address of_unix([[maybe_unused]] const std::string& path) noexcept {
    socket_address result;
#if !defined(ASIO_WINDOWS)
    auto& address = reinterpret_cast<sockaddr_un&>(result.storage_);
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    result.size_ = offsetof(sockaddr_un, sun_path) + path.size() + 1;
#endif
    return result;
  }

  sockaddr* data() noexcept { return reinterpret_cast<sockaddr*>(&storage_); }
  const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  int family() const noexcept { return storage_.ss_family; }
  static constexpr std::size_t capacity() noexcept { return sizeof(sockaddr_storage); }
  /// After the system has written so many bytes to data().
  void resize(std::size_t size) noexcept { size_ = size; }

  bool is_unix() const noexcept {
#if defined(ASIO_WINDOWS)
    return false;
#else
    return family() == AF_UNIX;
#endif
  }

  /// The path of a unix address; empty for an unnamed one.
  std::string unix_path() const {
#if defined(ASIO_WINDOWS)
    return {};
#else
    const auto& address = reinterpret_cast<const sockaddr_un&>(storage_);
    const std::size_t offset = offsetof(sockaddr_un, sun_path);
    if (size_ <= offset) return {};
    return std::string(address.sun_path, ::strnlen(address.sun_path, size_ - offset));
#endif
  }

  friend bool operator==(const socket_address& left, const socket_address& right) noexcept {
    return left.size_ == right.size_ && std::memcmp(&left.storage_, &right.storage_, left.size_) == 0;
  }

 private:
  template <class Name>
  static socket_address ask(const Name& name, native_socket descriptor) noexcept {
    socket_address result;
    socklen_t size = capacity();
    if (name(descriptor, result.data(), &size) == 0) result.size_ = size;
    return result;
  }

  sockaddr_storage storage_ = {};
  std::size_t size_ = 0;
};

/// The longest path of a unix socket.
#if defined(ASIO_WINDOWS)
inline constexpr std::size_t max_unix_path = 0;
#else
inline constexpr std::size_t max_unix_path = sizeof(sockaddr_un::sun_path) - 1;
#endif

/// Removes a unix socket's file if `path` is a socket that nobody can be listening on. Never touches other files.
inline void remove_socket_file([[maybe_unused]] const std::string& path) noexcept {
#if !defined(ASIO_WINDOWS)
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
#endif
}

/// Tells the file at a path from one that takes its place; invalid if there is none.
struct file_identity {
  unsigned long long device = 0;
  unsigned long long number = 0;

  explicit operator bool() const noexcept { return number != 0; }
  friend bool operator==(const file_identity&, const file_identity&) = default;
};

inline file_identity file_identity_of([[maybe_unused]] const std::string& path) noexcept {
#if !defined(ASIO_WINDOWS)
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0) {
    return {static_cast<unsigned long long>(info.st_dev), static_cast<unsigned long long>(info.st_ino)};
  }
#endif
  return {};
}

/// Keeps others who take one from making and removing files in the directory of `path` meanwhile. Where the system
/// gives none, or somebody keeps it for a second, it does nothing.
class directory_lock {
 public:
  explicit directory_lock([[maybe_unused]] const std::string& path) {
#if !defined(ASIO_WINDOWS)
    const std::size_t name = path.rfind('/') + 1;
    descriptor_ = ::open(name == 0 ? "." : path.substr(0, name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int tries = 1000; descriptor_ != -1 && tries != 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0; --tries) {
      ::usleep(1000);
    }
#endif
  }
  ~directory_lock() {
#if !defined(ASIO_WINDOWS)
    if (descriptor_ == -1) return;
    ::flock(descriptor_, LOCK_UN);  // a child process may have a copy of the descriptor
    ::close(descriptor_);
#endif
  }
  directory_lock(const directory_lock&) = delete;
  directory_lock& operator=(const directory_lock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace gtcp::detail

#endif
