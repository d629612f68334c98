// SPDX-License-Identifier: MIT
#ifndef GTCP_BENCH_REPORT_HPP
#define GTCP_BENCH_REPORT_HPP

// What was measured, as text for people (Markdown, SVG) and as numbers for programs (JSON).

#include "bench.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace bench {

/// All rounds of one contestant; a round that failed has no outcome.
struct series {
  std::string name;
  std::vector<std::optional<outcome>> rounds = {};
};

struct report {
  const workload* what = nullptr;
  std::vector<series> contestants = {};
  std::string made_by;  ///< the command, the rounds and the machine
};

/// The processor, its number, the kernel and the compiler; nothing that names this very machine.
std::string describe_machine();

std::string to_markdown(const report& all);
std::string to_json(const report& all);
/// Bars of the first metric's medians, with the range of all rounds.
std::string to_svg(const report& all);

/// Puts the table between the marks of its workload; what is around them stays. Returns whether the marks were there.
bool put_into_document(const std::string& file, const std::string& id, const std::string& table);

}  // namespace bench

#endif
