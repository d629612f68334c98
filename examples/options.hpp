// SPDX-License-Identifier: MIT
#ifndef GTCP_EXAMPLES_OPTIONS_HPP
#define GTCP_EXAMPLES_OPTIONS_HPP

// Command lines of the examples: "--name value" pairs, then plain arguments. Nothing of gtcp is in here.

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

/// The command line is wrong; what() quotes it.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Options {
 public:
  Options(int argc, char** argv) : arguments_(argv + 1, argv + argc) {}

  /// Takes "--name value" from the command line.
  std::string Text(std::string_view name, std::string otherwise) {
    known_ += (known_.empty() ? "" : ", ") + std::string(name);
    for (std::size_t i = 0; i < arguments_.size() && arguments_[i] != "--"; ++i) {
      if (arguments_[i] != name) continue;
      if (i + 1 == arguments_.size()) throw UsageError("\"" + arguments_[i] + "\" needs a value");
      otherwise = std::move(arguments_[i + 1]);
      arguments_.erase(arguments_.begin() + static_cast<std::ptrdiff_t>(i),
                       arguments_.begin() + static_cast<std::ptrdiff_t>(i + 2));
      return otherwise;
    }
    return otherwise;
  }

  int Number(std::string_view name, int otherwise, int min, int max) {
    const std::string text = Text(name, std::to_string(otherwise));
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < min || number > max) {
      throw UsageError(std::string(name) + " is \"" + text + "\", allowed are " + std::to_string(min) + " to " +
                       std::to_string(max));
    }
    return number;
  }

  std::chrono::milliseconds Milliseconds(std::string_view name, std::chrono::milliseconds otherwise) {
    constexpr int day = 24 * 60 * 60 * 1000;
    return std::chrono::milliseconds(Number(name, static_cast<int>(otherwise.count()), 1, day));
  }

  /// --host and --port as an address.
  std::string Address() {
    const std::string host = Text("--host", "127.0.0.1");
    const std::string port = std::to_string(Number("--port", 8999, 0, 65535));
    return (host.find(':') != std::string::npos ? "[" + host + "]:" : host + ":") + port;
  }

  /// What is left when all options are taken. An option among it is an unknown one; what follows "--" is none.
  std::vector<std::string> Arguments() {
    for (auto argument = arguments_.begin(); argument != arguments_.end(); ++argument) {
      if (*argument == "--") {
        arguments_.erase(argument);
        break;
      }
      if (argument->starts_with("--")) {
        throw UsageError("unknown option \"" + *argument + "\"; there are " + known_);
      }
    }
    return std::move(arguments_);
  }

  /// Says that there are no plain arguments.
  void NoArguments() {
    const std::vector<std::string> rest = Arguments();
    if (!rest.empty()) throw UsageError("unexpected argument \"" + rest.front() + "\"; options are " + known_);
  }

 private:
  std::vector<std::string> arguments_;
  std::string known_;
};

/// Tells whoever started the server with --port 0 and --port-file where it listens.
inline void WritePort(const std::string& file, int port) {
  if (file.empty()) return;
  std::ofstream out(file);
  out << port << std::endl;
  if (!out) throw std::runtime_error("cannot write \"" + file + "\"");
}

/// Runs an example, and says on stderr why it failed. Returns the exit code: 2 for a wrong command line, else 1.
template <class Example>
int RunExample(const char* name, int argc, char** argv, Example example) {
  try {
    Options options(argc, argv);
    example(options);
    return EXIT_SUCCESS;
  } catch (const UsageError& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return EXIT_FAILURE;
  }
}

#endif
