// SPDX-License-Identifier: MIT
#ifndef GTCP_TESTS_SUPPORT_PROCESS_HPP
#define GTCP_TESTS_SUPPORT_PROCESS_HPP

// A program that a test runs: its input, its output line by line, its exit code.

#include "support/poll_until.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

extern char** environ;

namespace gtcp_test {

/// Runs a program; what still runs when this is destroyed is killed.
class Process {
 public:
  Process(const std::string& program, const std::vector<std::string>& arguments) {
    Pipe in, out, error;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in.read_end, 0);
    posix_spawn_file_actions_adddup2(&actions, out.write_end, 1);
    posix_spawn_file_actions_adddup2(&actions, error.write_end, 2);
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    // A child that is gone must fail the test that writes to it, not end it. The children themselves get the default.
    ::signal(SIGPIPE, SIG_IGN);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const int failed = posix_spawn(&pid_, program.c_str(), &actions, &attributes, argv.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) throw std::system_error(failed, std::generic_category(), program);
    in_ = std::exchange(in.write_end, -1);
    out_.descriptor = std::exchange(out.read_end, -1);
    error_.descriptor = std::exchange(error.read_end, -1);
  }

  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  ~Process() {
    Kill();
    CloseInput();
    ::close(out_.descriptor);
    ::close(error_.descriptor);
  }

  pid_t Pid() const { return pid_; }

  void Write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(in_, text.data(), text.size());
      if (written < 0) throw std::system_error(errno, std::generic_category(), "write to a child");
      text.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  void CloseInput() {
    if (in_ != -1) ::close(std::exchange(in_, -1));
  }

  /// The next line of its standard output without the line's end; nothing at the end of it.
  std::optional<std::string> ReadLine() { return out_.Line(); }

  /// The rest of its standard output, a line each.
  std::vector<std::string> ReadLines() {
    std::vector<std::string> lines;
    while (std::optional<std::string> line = ReadLine()) lines.push_back(*std::move(line));
    return lines;
  }

  /// The rest of its standard error.
  std::string ReadErrors() {
    std::string all;
    while (const std::optional<std::string> line = error_.Line()) all += *line + "\n";
    return all;
  }

  /// Its exit code once it has ended; minus the signal that ended it.
  int Wait() {
    // The end of its output comes with its own.
    ReadLines();
    ReadErrors();
    if (!poll_until([this] { return Reap(WNOHANG); })) {
      ADD_FAILURE() << "a child does not end";
      Kill();
    }
    return exit_code_;
  }

  void Kill() {
    if (pid_ == -1) return;
    ::kill(pid_, SIGKILL);
    while (!Reap(0)) {
    }
  }

 private:
  struct Pipe {
    Pipe() {
      int ends[2];
      if (::pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
      for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
      read_end = ends[0];
      write_end = ends[1];
    }
    ~Pipe() {
      for (const int end : {read_end, write_end}) {
        if (end != -1) ::close(end);
      }
    }
    int read_end = -1;
    int write_end = -1;
  };

  struct Reader {
    int descriptor = -1;
    std::string buffer;
    bool ended = false;

    std::optional<std::string> Line() {
      const auto deadline = std::chrono::steady_clock::now() + ceiling;
      for (;;) {
        const std::size_t end = buffer.find('\n');
        if (end != std::string::npos || (ended && !buffer.empty())) {
          std::string line = buffer.substr(0, end);
          buffer.erase(0, end == std::string::npos ? end : end + 1);
          return line;
        }
        if (ended) return std::nullopt;
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd readable{descriptor, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0) {
          ADD_FAILURE() << "a child has neither written a line nor ended for 30 s";
          ended = true;  // no further wait
          return std::nullopt;
        }
        char block[4096];
        const ssize_t got = ::read(descriptor, block, sizeof block);
        if (got > 0) buffer.append(block, static_cast<std::size_t>(got));
        if (got == 0) ended = true;
      }
    }
  };

  /// Returns whether it has ended; with WNOHANG without waiting for that.
  bool Reap(int options) {
    if (pid_ == -1) return true;
    int status = 0;
    const pid_t reaped = ::waitpid(pid_, &status, options);
    if (reaped == 0 || (reaped == -1 && errno == EINTR)) return false;
    pid_ = -1;
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return true;
  }

  pid_t pid_ = -1;
  int exit_code_ = 0;
  int in_ = -1;
  Reader out_;
  Reader error_;
};

}  // namespace gtcp_test

#endif
