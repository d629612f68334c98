// SPDX-License-Identifier: MIT

// Two processes for each run, and what the clocks and counters of the system say of them.

#include "bench.hpp"
#include "content.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <thread>

namespace bench {

namespace {

constexpr unsigned longest_run = 120;  // seconds; what takes longer hangs

struct channel {
  int read = -1;
  int write = -1;

  channel() {
    int ends[2];
    if (::pipe(ends) != 0) fail("pipe");
    read = ends[0];
    write = ends[1];
  }
  ~channel() {
    close_write();
    ::close(read);
  }
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  void close_write() {
    if (write != -1) ::close(write);
    write = -1;
  }

  /// Everything that the other end writes before it closes, or until `enough(text)`.
  template <class Enough>
  std::string get(Enough enough) const {
    std::string text;
    char bytes[4096];
    const double until = seconds_now() + longest_run;
    while (!enough(text)) {
      pollfd waiting{read, POLLIN, 0};
      if (seconds_now() > until || ::poll(&waiting, 1, 1000) < 0) break;
      if (waiting.revents == 0) continue;
      const ssize_t n = ::read(read, bytes, sizeof bytes);
      if (n <= 0) break;
      text.append(bytes, static_cast<std::size_t>(n));
    }
    return text;
  }
};

/// A process of this program that ends, by itself if need be, with the program.
class child {
 public:
  template <class Job>
  explicit child(Job job) {
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) fail("fork");
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::alarm(longest_run);
    try {
      job();
    } catch (const std::exception& error) {
      fail(error.what());
    }
    ::_exit(0);
  }
  ~child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      static_cast<void>(wait());
    }
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;

  pid_t pid() const { return pid_; }

  /// Whether it ended well.
  bool wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  pid_t pid_ = -1;
};

void put(int fd, const std::string& text) {
  if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) fail("write to a pipe");
}

}  // namespace

void ready::operator()(unsigned port) const { put(fd, std::to_string(port) + "\n"); }

counters& sink_counters() {
  // Made before the first fork, so that all processes share it.
  static counters& shared = [&]() -> counters& {
    void* const memory = ::mmap(nullptr, sizeof(counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    return *new (memory) counters;
  }();
  return shared;
}

void fail(const std::string& why) {
  std::fprintf(stderr, "bench: %s\n", why.c_str());
  std::fflush(stderr);
  ::_exit(1);
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void sleep_seconds(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

double processor_seconds(pid_t pid) {
  clockid_t clock{};
  timespec now{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &now) != 0) fail("the other process is gone");
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::size_t resident_bytes(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  std::size_t all = 0;
  std::size_t resident = 0;
  if (!(file >> all >> resident)) fail("the other process is gone");
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

bool run_pair(const shape& how, const server_role& server, const client_role& client, outcome& result) {
  sink_counters().packages = 0;
  sink_counters().wrong = 0;
  channel port;
  child serving([&] {
    ::close(port.read);
    server(how, ready{port.write});
  });
  port.close_write();
  peer other{0, serving.pid()};
  other.port = static_cast<unsigned>(
      std::strtoul(port.get([](const std::string& text) { return text.ends_with('\n'); }).c_str(), nullptr, 10));
  if (other.port == 0) return false;

  channel values;
  child using_it([&] {
    const outcome got = client(how, other);
    if (sink_counters().wrong != 0) fail("the receiver got something else than was sent");
    std::string text;
    char number[64];
    std::snprintf(number, sizeof number, "%.9g", got.processor);
    text += number;
    for (const double value : got.values) {
      std::snprintf(number, sizeof number, " %.9g", value);
      text += number;
    }
    put(values.write, text);
  });
  values.close_write();
  const std::string text = values.get([](const std::string&) { return false; });
  if (!using_it.wait()) return false;
  result = {};
  const char* at = text.c_str();
  char* end = nullptr;
  result.processor = std::strtod(at, &end);
  for (at = end; *at != '\0'; at = end) result.values.push_back(std::strtod(at, &end));
  return true;
}

outcome measure_sink(const shape& how, pid_t sender) {
  const counters& seen = sink_counters();
  sleep_seconds(how.warm_up);
  const double begin = seconds_now();
  const double processor = processor_seconds(sender);
  const std::uint64_t before = seen.packages;
  sleep_seconds(how.seconds);
  const auto packages = static_cast<double>(seen.packages - before);
  const double took = seconds_now() - begin;
  if (packages == 0) fail("nothing came in");
  return {{packages / took}, (processor_seconds(sender) - processor) * 1e6 / packages};
}

outcome measure_ping(const shape& how, const peer& server, const std::function<void(std::uint64_t)>& one) {
  std::uint64_t number = 0;
  std::vector<double> samples;
  samples.reserve(static_cast<std::size_t>(how.seconds * 200'000));
  const double begin = seconds_now();
  while (seconds_now() - begin < how.warm_up) one(number++);
  const double processor = processor_seconds(server.pid);
  double last = seconds_now();
  for (const double end = last + how.seconds; last < end;) {
    one(number++);
    const double now = seconds_now();
    samples.push_back((now - last) * 1e6);
    last = now;
  }
  const double spent = processor_seconds(server.pid) - processor;
  const auto count = static_cast<double>(samples.size());
  return {{quantile(samples, 0.5), quantile(samples, 0.99)}, spent * 1e6 / count};
}

outcome measure_pipeline(const shape& how, const peer& server, const std::function<void(std::string&)>& send,
                         const std::function<std::size_t(std::string&)>& receive) {
  std::string package(how.payload, '\0');
  std::string reply = package;
  fill(package.data(), package.size(), {});
  std::uint64_t sent = 0;
  const auto send_next = [&] {
    put_stamp(package.data(), package.size(), {sent++, 0});
    send(package);
  };
  while (sent < how.in_flight) send_next();
  std::uint64_t received = 0;
  const auto go_on = [&](double seconds) {
    for (const double end = seconds_now() + seconds; received % 64 != 0 || seconds_now() < end; ++received) {
      if (receive(reply) != how.payload || !is_right(reply.data(), reply.size(), {received, 0})) {
        fail("something else came back than was sent");
      }
      send_next();
    }
  };
  go_on(how.warm_up);
  const double begin = seconds_now();
  const double processor = processor_seconds(server.pid);
  const std::uint64_t before = received;
  go_on(how.seconds);
  const auto count = static_cast<double>(received - before);
  return {{count / (seconds_now() - begin)}, (processor_seconds(server.pid) - processor) * 1e6 / count};
}

outcome measure_blast(const shape& how, const std::function<send_one(std::uint64_t)>& make) {
  for (std::uint64_t sender = 0; sender < how.threads; ++sender) {
    // Detached: the process ends by _exit while they send.
    std::thread([&make, sender] {
      try {
        const send_one send = make(sender);
        for (;;) send();
      } catch (const std::exception& error) {
        fail(error.what());
      }
    }).detach();
  }
  return measure_sink(how, ::getpid());
}

double quantile(std::vector<double>& samples, double share) {
  if (samples.empty()) return 0;
  const auto at = static_cast<std::size_t>(share * static_cast<double>(samples.size() - 1) + 0.5);
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(at), samples.end());
  return samples[at];
}

}  // namespace bench
