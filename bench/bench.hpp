// SPDX-License-Identifier: MIT
#ifndef GTCP_BENCH_BENCH_HPP
#define GTCP_BENCH_BENCH_HPP

// The words of the benchmark. A contestant is a library with the roles that it can play: an echo server, a client that
// waits for each reply, a sender that never waits, ... A workload says which roles it needs, and what the other end is.
// Every run is two processes on loopback, a server and a client.

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// What a run is made of.
struct shape {
  std::size_t payload = 64;
  std::size_t header = 2;  ///< bytes of the length in front of a payload
  std::size_t in_flight = 1;
  std::size_t connections = 1;
  std::size_t threads = 1;
  double warm_up = 0.2;  ///< seconds before anything is measured
  double seconds = 2;

  std::size_t frame() const { return header + payload; }
};

/// What a receiver that does not answer has seen; in memory that both processes share.
struct counters {
  std::atomic<std::uint64_t> packages{0};
  std::atomic<std::uint64_t> wrong{0};
};

/// The other process, as a client sees it.
struct peer {
  unsigned port = 0;
  pid_t pid = 0;
};

/// What a run measured.
struct outcome {
  std::vector<double> values{};  ///< one for each metric of the workload
  double processor = 0;          ///< microseconds of processor time for each message, of the contestant's process
};

/// Tells the driver which port a server listens on.
struct ready {
  int fd = -1;
  void operator()(unsigned port) const;
};

/// Serves until the process is killed.
using server_role = std::function<void(const shape&, const ready&)>;
/// Runs for the time of the shape, and returns what it measured.
using client_role = std::function<outcome(const shape&, const peer&)>;
/// Makes a sender: what it returns sends one package, stamped with that sender and counted from 0, for each call.
using send_one = std::function<void()>;

struct contestant {
  std::string name;
  server_role echo = {};            ///< answers each package with the same
  client_role ping = {};            ///< one package at a time, to the own echo server; measures p50 and p99
  client_role pipeline = {};        ///< keeps many in flight; empty is the common load generator
  client_role blast = {};           ///< sends as fast as it can, by shape::threads threads on one connection
  server_role sink = {};            ///< what `blast` sends to; empty is the common one
  server_role tls_echo = {};        ///< `echo` over TLS
  std::size_t max_connections = 0;  ///< how many `echo` is for
};

/// Counts what a sink of this process receives, or the client's process reads from it.
counters& sink_counters();

/// Ends the process: this run does not count.
[[noreturn]] void fail(const std::string& why);

/// Seconds of processor time that a process took until now.
double processor_seconds(pid_t pid);

/// Bytes of memory that a process holds.
std::size_t resident_bytes(pid_t pid);

double seconds_now();
void sleep_seconds(double seconds);

/// Runs both roles in processes of their own; returns false, and says why on stderr, when one failed.
bool run_pair(const shape& how, const server_role& server, const client_role& client, outcome& result);

/// Measures for a sender what the sink gets of it.
outcome measure_sink(const shape& how, pid_t sender);

/// The roundtrip times of `one`, a call of which is one round trip: p50 and p99 in microseconds.
outcome measure_ping(const shape& how, const peer& server, const std::function<void(std::uint64_t)>& one);

/// Keeps shape::in_flight packages on their way, one call for each that goes out or comes back; `receive` returns the
/// size of what came.
outcome measure_pipeline(const shape& how, const peer& server, const std::function<void(std::string&)>& send,
                         const std::function<std::size_t(std::string&)>& receive);

/// Runs a sender for each thread until enough was measured. `make(sender)` is called in that sender's thread; what it
/// makes sends some packages each time.
outcome measure_blast(const shape& how, const std::function<send_one(std::uint64_t sender)>& make);

/// New connections, small packages and large ones over TLS, for each second.
outcome measure_tls(const shape& how, const peer& server);

/// A value that a share of the samples does not exceed.
double quantile(std::vector<double>& samples, double share);

struct metric {
  std::string name;
  std::string unit;
  bool more_is_better = false;
};

struct entry {
  std::string name;
  std::function<bool(const shape&, outcome&)> run;
};

struct workload {
  std::string id;
  std::string title;
  std::vector<metric> metrics;
  shape how = {};
  std::vector<entry> entries = {};  ///< the first one is what the others are compared with
  bool in_smoke = true;
};

/// Says which contestants take part in which workloads.
std::vector<workload> make_workloads(const std::vector<contestant>& contestants, bool smoke);

void add_limit(std::vector<contestant>& to);
void add_asio(std::vector<contestant>& to);
void add_gtcp(std::vector<contestant>& to);
void add_zmq(std::vector<contestant>& to);
void add_nng(std::vector<contestant>& to);
void add_tls(std::vector<contestant>& to);
void add_goframe(std::vector<contestant>& to, const std::string& program);

}  // namespace bench

#endif
