// SPDX-License-Identifier: MIT
#ifndef GTCP_BENCH_NET_HPP
#define GTCP_BENCH_NET_HPP

// Sockets without any library: for the limit, and for the ends that all contestants share.

#include "bench.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace bench {

/// Listens on a free port of 127.0.0.1.
int listen_on_loopback(unsigned& port);
int accept_one(int listener);

/// Connects, blocking, with TCP_NODELAY.
int dial(unsigned port);

void set_blocking(int fd, bool blocking);

/// Blocking: all of it or the end of the process.
void read_all(int fd, char* data, std::size_t size);
void write_all(int fd, const char* data, std::size_t size);
/// Blocking: at least one byte; ends the process at the end of the stream.
std::size_t read_some(int fd, char* data, std::size_t size);

/// Receives packages from one connection and checks and counts them.
void serve_sink(const shape& how, const ready& tell);

/// Many connections with a fixed number of packages in flight on each, in one thread. The echo has to be what was
/// sent, byte by byte.
class load {
 public:
  load(const shape& how, unsigned port);
  ~load();
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  /// Goes on until `seconds` have passed. Returns how many packages came back.
  double run(double seconds);

  /// Sends so many on each connection and waits for the last reply of all.
  void exchange(std::size_t packages_each);

  /// Sends one package of that size on one connection after the other, as the last thing. Nothing may be in flight.
  void exchange_one_by_one(std::size_t payload);

  /// From now on the roundtrip times are kept, in microseconds; for one in flight.
  void keep_times() { keeps_times_ = true; }
  std::vector<double>& times() { return times_; }

 private:
  struct connection {
    int fd = -1;
    bool wants_write = false;
    std::size_t allowed = 0;  // packages that may be sent until now
    std::size_t sent = 0;     // bytes
    std::size_t received = 0;
    double sent_at = 0;
    std::vector<char> ring;  // the packages in flight as they were sent, each in its slot
  };

  void make_ring(connection& one) const;
  void allow(connection& one, std::size_t packages);
  void send(connection& one);
  void receive(connection& one);
  void serve_ready(int wait_ms);

  shape how_;
  int epoll_ = -1;
  std::vector<connection> connections_;
  std::vector<char> bytes_;
  std::size_t limit_each_ = 0;  // packages that may be sent on a connection in all; 0: no limit
  std::size_t done_ = 0;
  bool keeps_times_ = false;
  std::vector<double> times_;
};

/// The common client of echo servers.
outcome measure_load(const shape& how, const peer& server);

}  // namespace bench

#endif
