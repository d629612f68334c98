// SPDX-License-Identifier: MIT

// GoFrame's gtcp: a Go program in processes of its own.

#include "bench.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

namespace bench {

namespace {

/// Becomes that program, whose standard output goes to `output`.
[[noreturn]] void become(const std::vector<std::string>& command, int output) {
  ::dup2(output, STDOUT_FILENO);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(arguments.front(), arguments.data());
  fail("can't run " + command.front());
}

/// A Go client, which ends with this process.
pid_t start(const std::vector<std::string>& command, int output) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    become(command, output);
  }
  return child;
}

std::vector<std::string> words(const std::string& program, const char* command, std::initializer_list<double> numbers) {
  std::vector<std::string> made{program, command};
  for (const double one : numbers) made.push_back(std::to_string(one));
  return made;
}

outcome ping(const std::string& program, const shape& how, const peer& server) {
  int ends[2];
  if (::pipe(ends) != 0) fail("pipe");
  const double processor = processor_seconds(server.pid);
  const pid_t client = start(words(program, "ping",
                                   {static_cast<double>(server.port), static_cast<double>(how.header),
                                    static_cast<double>(how.payload), how.warm_up, how.seconds}),
                             ends[1]);
  ::close(ends[1]);
  std::FILE* const text = ::fdopen(ends[0], "r");
  double p50 = 0;
  double p99 = 0;
  double count = 0;
  const int read = std::fscanf(text, "%lf %lf %lf", &p50, &p99, &count);
  std::fclose(text);
  int status = 0;
  ::waitpid(client, &status, 0);
  if (read != 3 || status != 0) fail("the Go client failed");
  return {{p50, p99}, (processor_seconds(server.pid) - processor) * 1e6 / count};
}

outcome blast(const std::string& program, const shape& how, const peer& server) {
  const pid_t sender = start(words(program, "blast",
                                   {static_cast<double>(server.port), static_cast<double>(how.header),
                                    static_cast<double>(how.payload), static_cast<double>(how.threads)}),
                             STDERR_FILENO);
  const outcome result = measure_sink(how, sender);
  ::kill(sender, SIGKILL);
  ::waitpid(sender, nullptr, 0);
  return result;
}

}  // namespace

void add_goframe(std::vector<contestant>& to, const std::string& program) {
  to.push_back({.name = "GoFrame gtcp",
                .echo =
                    [program](const shape& how, const ready& tell) {
                      become(words(program, "echo", {static_cast<double>(how.header)}), tell.fd);
                    },
                .ping = [program](const shape& how, const peer& server) { return ping(program, how, server); },
                .blast = [program](const shape& how, const peer& server) { return blast(program, how, server); },
                .max_connections = 10'000});
}

}  // namespace bench
