// SPDX-License-Identifier: MIT

// The workloads: which roles each needs, what the other end is, and what is measured.

#include "bench.hpp"
#include "content.hpp"
#include "net.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace bench {

namespace {

/// W7: what each of many idle connections holds, in bytes.
outcome measure_memory(const shape& how, const peer& server) {
  const auto settled = [&server] {
    // Freed memory comes back, and connections are accepted, a little later.
    std::size_t last = resident_bytes(server.pid);
    for (int same = 0; same < 4;) {
      sleep_seconds(0.05);
      const std::size_t now = resident_bytes(server.pid);
      same = now == last ? same + 1 : 0;
      last = now;
    }
    return static_cast<double>(last);
  };
  {
    // What the first connection needs once is not what each needs.
    shape one = how;
    one.connections = 1;
    load(one, server.port).exchange(32);
  }
  const double before = settled();
  const auto each = [&] { return (settled() - before) / static_cast<double>(how.connections); };
  load small(how, server.port);
  outcome result;
  result.values.push_back(each());
  small.exchange(1);
  result.values.push_back(each());
  small.exchange(32);
  result.values.push_back(each());
  small.exchange_one_by_one(60'000);
  result.values.push_back(each());
  return result;
}

/// W8: connect, one round trip, close.
outcome measure_connects(const shape& how, const peer& server) {
  std::string frame(how.frame(), '\0');
  std::string reply = frame;
  put_length(frame.data(), how.header, how.payload);
  fill(frame.data() + how.header, how.payload, {});
  std::uint64_t count = 0;
  const auto go_on = [&](double seconds) {
    for (const double end = seconds_now() + seconds; seconds_now() < end; ++count) {
      put_stamp(frame.data() + how.header, how.payload, {count, 0});
      const int fd = dial(server.port);
      write_all(fd, frame.data(), frame.size());
      read_all(fd, reply.data(), reply.size());
      ::close(fd);
      if (reply != frame) fail("something else came back than was sent");
    }
  };
  go_on(how.warm_up);
  const double begin = seconds_now();
  const double processor = processor_seconds(server.pid);
  const std::uint64_t before = count;
  go_on(how.seconds);
  const auto connects = static_cast<double>(count - before);
  const double spent = processor_seconds(server.pid) - processor;
  return {{connects / (seconds_now() - begin)}, spent * 1e6 / connects};
}

/// W9: round trips on many connections while one more connection, of another process, keeps the server busy.
outcome measure_beside_blast(const shape& how, const peer& server) {
  const pid_t parent = ::getpid();
  const pid_t blaster = ::fork();
  if (blaster == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    shape one = how;
    one.connections = 1;
    one.in_flight = 2048;
    load blast(one, server.port);
    for (;;) sink_counters().packages += static_cast<std::uint64_t>(blast.run(0.01));
  }
  if (blaster < 0) fail("fork");
  load pings(how, server.port);
  pings.run(how.warm_up);
  pings.keep_times();
  const double begin = seconds_now();
  const std::uint64_t before = sink_counters().packages;
  const double processor = processor_seconds(server.pid);
  const double round_trips = pings.run(how.seconds);
  const double spent = processor_seconds(server.pid) - processor;
  const auto blasted = static_cast<double>(sink_counters().packages - before);
  const double took = seconds_now() - begin;
  ::kill(blaster, SIGKILL);
  ::waitpid(blaster, nullptr, 0);
  if (round_trips == 0) fail("nothing came back");
  return {{quantile(pings.times(), 0.99), quantile(pings.times(), 0.5), blasted / took},
          spent * 1e6 / (round_trips + blasted)};
}

/// W11: processor time of the server for each message, with more and more connections.
outcome measure_growth(const shape& how, const peer& server) {
  outcome result;
  for (std::size_t connections = 1; connections <= how.connections; connections *= 10) {
    shape some = how;
    some.connections = connections;
    some.seconds = how.seconds / 2;
    result.values.push_back(measure_load(some, server).processor);
  }
  result.processor = result.values.back();
  result.values.push_back(result.values.back() / result.values.front());
  return result;
}

#ifdef GTCP_BENCH_CXX
/// Compiles a file of bench/echo as a user does, into `output`. Returns whether that went well.
bool run_compiler(const std::string& source, const std::filesystem::path& output,
                  const std::vector<std::string>& further = {}) {
  std::vector<std::string> words{GTCP_BENCH_CXX,
                                 "-std=c++20",
                                 "-O3",
                                 "-DNDEBUG",
                                 "-DASIO_STANDALONE",
                                 "-I" GTCP_BENCH_ROOT "/include",
                                 GTCP_BENCH_ROOT "/bench/echo/" + source,
                                 "-o",
                                 output.string()};
  words.insert(words.end(), further.begin(), further.end());
  std::vector<char*> command;
  for (std::string& word : words) command.push_back(word.data());
  command.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::execvp(command[0], command.data());
    ::_exit(127);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

/// A file that is removed in the end.
struct scratch_file {
  const std::filesystem::path path;
  explicit scratch_file(const std::string& name)
      : path(std::filesystem::temp_directory_path() / ("gtcp-bench-" + std::to_string(::getpid()) + name)) {}
  ~scratch_file() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

/// W12: compiles a one-file echo server, and returns what it took.
bool compile(const std::string& source, outcome& result, std::vector<std::string> further = {}) {
  const scratch_file output("");
  further.insert(further.end(), {"-pthread", "-s", "-Wl,--gc-sections"});
  const double begin = seconds_now();
  if (!run_compiler(source, output.path, further)) return false;
  const double took = seconds_now() - begin;
  result = {{took, static_cast<double>(std::filesystem::file_size(output.path)) / 1024}, 0};
  return true;
}

/// The same with the library compiled before.
bool compile_separately(outcome& result) {
  static const scratch_file library("-library.o");
  const std::string separate = "-DGTCP_SEPARATE_COMPILATION";
  static const bool is_there =
      run_compiler("library.cpp", library.path, {separate, "-c", "-ffunction-sections", "-fdata-sections"});
  return is_there && compile("gtcp.cpp", result, {separate, library.path.string()});
}
#endif

/// A workload whose server is `role` of a contestant, and whose client is common to all.
template <class Measure>
void add_echo(workload& to, const std::vector<contestant>& all, Measure measure, bool own_clients = false) {
  for (const contestant& one : all) {
    const client_role client = own_clients && one.pipeline ? one.pipeline : client_role(measure);
    if (!one.echo || one.max_connections < (one.pipeline && own_clients ? 0 : to.how.connections)) continue;
    if (one.pipeline && !own_clients) continue;  // another protocol
    to.entries.push_back({one.name, [one, client](const shape& how, outcome& result) {
                            return run_pair(how, one.echo, client, result);
                          }});
  }
}

}  // namespace

std::vector<workload> make_workloads(const std::vector<contestant>& all, bool smoke) {
  std::vector<workload> made;
  const std::size_t many = smoke ? 20 : 1000;
  const std::size_t crowd = smoke ? 20 : 10'000;
  const metric rate{"packages", "1/s", true};

  workload& w1 = made.emplace_back(workload{"W1", "Ping-pong, 64 B, one connection", {{"p50", "us"}, {"p99", "us"}}});
  for (const contestant& one : all) {
    if (!one.echo || !one.ping) continue;
    w1.entries.push_back(
        {one.name, [one](const shape& how, outcome& result) { return run_pair(how, one.echo, one.ping, result); }});
  }

  workload& w2 = made.emplace_back(workload{"W2", "64 B, 128 in flight on one connection", {rate}, {.in_flight = 128}});
  add_echo(w2, all, measure_load, true);

  workload& w3 = made.emplace_back(workload{
      "W3", std::to_string(many) + " connections, one 64 B package in flight on each", {rate}, {.connections = many}});
  add_echo(w3, all, measure_load);

  const auto add_blast = [&](const char* id, const char* title, std::size_t threads) {
    workload& added = made.emplace_back(workload{id, title, {rate}, {.threads = threads}});
    for (const contestant& one : all) {
      if (!one.blast) continue;
      added.entries.push_back({one.name, [one](const shape& how, outcome& result) {
                                 return run_pair(how, one.sink ? one.sink : serve_sink, one.blast, result);
                               }});
    }
  };
  add_blast("W4", "One thread sends 64 B packages without waiting", 1);

  workload& w5a =
      made.emplace_back(workload{"W5", "65,535 B, 16 in flight", {rate}, {.payload = 65'535, .in_flight = 16}});
  add_echo(w5a, all, measure_load);
  workload& w5b = made.emplace_back(workload{"W5-1M",
                                             "1 MiB with a header of 4 bytes, 4 in flight",
                                             {rate},
                                             {.payload = 1 << 20, .header = 4, .in_flight = 4}});
  add_echo(w5b, all, measure_load);

  add_blast("W6", "8 threads send 64 B packages on one connection", 8);

  workload& w7 = made.emplace_back(
      workload{"W7",
               "Resident memory of the server for each of " + std::to_string(crowd) + " idle connections",
               {{"fresh", "B"}, {"after a package", "B"}, {"after 32", "B"}, {"after 60 KB", "B"}},
               {.in_flight = 32, .connections = crowd}});
  add_echo(w7, all, measure_memory);

  workload& w8 = made.emplace_back(workload{"W8", "Connect, one round trip, close", {{"connections", "1/s", true}}});
  for (const contestant& one : all) {
    if (!one.echo || one.pipeline || one.max_connections == 1) continue;
    w8.entries.push_back({one.name, [one](const shape& how, outcome& result) {
                            return run_pair(how, one.echo, measure_connects, result);
                          }});
  }

  workload& w9 =
      made.emplace_back(workload{"W9",
                                 "Ping-pong on 100 connections while another one has 2,048 packages in flight",
                                 {{"p99", "us"}, {"p50", "us"}, {"the other one", "1/s", true}},
                                 {.connections = smoke ? 5u : 100u}});
  add_echo(w9, all, measure_beside_blast);

#ifdef GTCP_BENCH_TLS
  workload& w10 = made.emplace_back(
      workload{"W10",
               "TLS: new connections; 64 B, 128 in flight; 65,535 B, 16 in flight",
               {{"connections", "1/s", true}, {"64 B packages", "1/s", true}, {"65,535 B packages", "1/s", true}}});
  for (const contestant& one : all) {
    if (!one.tls_echo) continue;
    w10.entries.push_back({one.name, [one](const shape& how, outcome& result) {
                             return run_pair(how, one.tls_echo, measure_tls, result);
                           }});
  }
#endif

  std::vector<metric> growth;
  for (std::size_t n = 1; n <= crowd; n *= 10) growth.push_back({std::to_string(n), "us"});
  growth.push_back({"growth", ""});
  workload& w11 = made.emplace_back(
      workload{"W11", "Processor time of the server for each message, by connections", growth, {.connections = crowd}});
  add_echo(w11, all, measure_growth);

#ifdef GTCP_BENCH_CXX
  workload& w12 = made.emplace_back(workload{
      "W12", "A one-file echo server: compiling it with -O3, its stripped size", {{"compile", "s"}, {"size", "KiB"}}});
  w12.in_smoke = false;
  w12.entries.push_back({"raw Asio", [](const shape&, outcome& result) { return compile("asio.cpp", result); }});
  w12.entries.push_back({"gtcp", [](const shape&, outcome& result) { return compile("gtcp.cpp", result); }});
  w12.entries.push_back(
      {"gtcp, compiled separately", [](const shape&, outcome& result) { return compile_separately(result); }});
#endif
  return made;
}

}  // namespace bench
