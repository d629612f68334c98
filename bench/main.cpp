// SPDX-License-Identifier: MIT

// Runs workloads: in each round every contestant in turn, so that what else the machine does meets all alike.
//
//   gtcp_bench [--rounds 5] [--seconds 2] [--smoke] [--only text] [--goframe program] [--docs folder]
//              [--results folder] [--command text] [workloads...]
//
// --smoke: one short round of everything, and nothing is written. --only: contestants whose name has the text, beside
// the first. --docs and --results: where tables and charts, and the raw numbers, go; without them stdout only.

#include "bench.hpp"
#include "report.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

struct settings {
  bool smoke = false;
  std::map<std::string, std::string> named = {
      {"--rounds", "5"}, {"--seconds", "2"}, {"--only", ""},    {"--goframe", ""},
      {"--docs", ""},    {"--results", ""},  {"--command", ""},
  };
  std::vector<std::string> workloads;
};

bool read(int argc, char** argv, settings& to) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--smoke") {
      to.smoke = true;
    } else if (to.named.contains(word)) {
      if (++i == argc) return false;
      to.named[word] = argv[i];
    } else if (word.starts_with("-")) {
      return false;
    } else {
      to.workloads.push_back(word);
    }
  }
  return true;
}

/// Runs all rounds of a workload; false if one failed.
bool run(const bench::workload& what, int rounds, const std::string& only, bench::report& result) {
  bool good = true;
  std::vector<const bench::entry*> taking_part;
  for (const bench::entry& one : what.entries) {
    if (!taking_part.empty() && one.name.find(only) == std::string::npos) continue;
    taking_part.push_back(&one);
    result.contestants.push_back({one.name});
  }
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < taking_part.size(); ++i) {
      bench::outcome got;
      if (taking_part[i]->run(what.how, got) && got.values.size() == what.metrics.size()) {
        result.contestants[i].rounds.emplace_back(std::move(got));
      } else {
        std::fprintf(stderr, "bench: %s: %s: failed in round %d\n", what.id.c_str(), taking_part[i]->name.c_str(),
                     round + 1);
        result.contestants[i].rounds.emplace_back();
        good = false;
      }
    }
  }
  return good;
}

bool write(const std::string& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) std::fprintf(stderr, "bench: can't write %s\n", file.c_str());
  return !out.fail();
}

}  // namespace

int main(int argc, char** argv) {
  settings chosen;
  if (!read(argc, argv, chosen)) {
    std::fprintf(stderr, "gtcp_bench: wrong arguments; see the first lines of main.cpp\n");
    return 2;
  }
  // W7 and W11 need more than ten thousand descriptors in each process.
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  bench::sink_counters();

  std::vector<bench::contestant> contestants;
  bench::add_limit(contestants);
  bench::add_asio(contestants);
#ifdef GTCP_BENCH_ZMQ
  bench::add_zmq(contestants);
#endif
#ifdef GTCP_BENCH_NNG
  bench::add_nng(contestants);
#endif
  if (!chosen.named["--goframe"].empty()) bench::add_goframe(contestants, chosen.named["--goframe"]);
  bench::add_gtcp(contestants);
#ifdef GTCP_BENCH_TLS
  bench::add_tls(contestants);
#endif

  std::vector<bench::workload> all = bench::make_workloads(contestants, chosen.smoke);
  for (const std::string& id : chosen.workloads) {
    if (std::none_of(all.begin(), all.end(), [&](const bench::workload& one) { return one.id == id; })) {
      std::fprintf(stderr, "gtcp_bench: no workload %s; there are:", id.c_str());
      for (const bench::workload& one : all) std::fprintf(stderr, " %s", one.id.c_str());
      std::fprintf(stderr, "\n");
      return 2;
    }
  }

  const int rounds = chosen.smoke ? 1 : std::max(1, std::atoi(chosen.named["--rounds"].c_str()));
  const std::string machine = bench::describe_machine();
  bool good = true;
  for (bench::workload& what : all) {
    const auto& wanted = chosen.workloads;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), what.id) == wanted.end()) continue;
    if (chosen.smoke && !what.in_smoke) continue;
    what.how.seconds = chosen.smoke ? 0.05 : std::atof(chosen.named["--seconds"].c_str());
    what.how.warm_up = std::min(0.3, what.how.seconds / 4);
    bench::report result{.what = &what, .made_by = {}};
    good = run(what, rounds, chosen.named["--only"], result) && good;
    char rounds_text[64];
    std::snprintf(rounds_text, sizeof rounds_text, "%d rounds of %g s; ", rounds, what.how.seconds);
    result.made_by =
        chosen.named["--command"] + (chosen.named["--command"].empty() ? "" : "; ") + rounds_text + machine;
    const std::string table = bench::to_markdown(result);
    std::printf("\n%s: %s\n\n%s", what.id.c_str(), what.title.c_str(), table.c_str());
    std::fflush(stdout);
    if (chosen.smoke) continue;
    std::string name = what.id;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (const std::string& folder = chosen.named["--results"]; !folder.empty()) {
      good = write(folder + "/" + name + ".json", bench::to_json(result)) && good;
    }
    if (const std::string& folder = chosen.named["--docs"]; !folder.empty()) {
      good = write(folder + "/performance-" + name + ".svg", bench::to_svg(result)) && good;
      if (!bench::put_into_document(folder + "/performance.md", what.id, table)) {
        std::fprintf(stderr, "bench: performance.md has no marks for %s\n", what.id.c_str());
        good = false;
      }
    }
  }
  return good ? 0 : 1;
}
