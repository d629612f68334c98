#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sh tests/fuzz/run.sh [seconds]
#
# Builds the fuzzers with clang 16 under ASan and UBSan, and runs each for that many seconds (60), as many at a time as
# there are processors, from the inputs in tests/fuzz/corpus. Fails if one finds something, and leaves the input behind
# in build/fuzz; to replay it for ever, copy it to the corpus.
set -eu
cd "$(dirname "$0")/../.."

fuzz() { # fuzz <seconds> <name>
  inputs=build/fuzz/inputs/$2
  mkdir -p "$inputs"
  if build/fuzz/tests/fuzz/fuzz_"$2" -max_total_time="$1" -max_len=4096 -rss_limit_mb=2048 -timeout=30 \
    -artifact_prefix="$inputs-" -print_final_stats=1 "$inputs" "tests/fuzz/corpus/$2" </dev/null >"$inputs.log" 2>&1; then
    echo "fuzz: $2: $(sed -n 's/^stat::number_of_executed_units: *//p' "$inputs.log") runs," \
      "$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$inputs.log" | tail -1)"
  else
    tail -60 "$inputs.log"
    echo "fuzz: $2: FOUND SOMETHING; the input is $inputs-*"
    return 1
  fi
}

if [ "${1:-}" = --one ]; then # for xargs below
  fuzz "$2" "$3"
  exit
fi

seconds=${1:-60}
sh cmake/install-deps.sh build clang
if command -v ninja >/dev/null 2>&1; then
  : "${CMAKE_GENERATOR:=Ninja}"
  export CMAKE_GENERATOR
fi
: "${CMAKE_BUILD_PARALLEL_LEVEL:=$(getconf _NPROCESSORS_ONLN)}"
export CMAKE_BUILD_PARALLEL_LEVEL
cmake --preset fuzz </dev/null >/dev/null
cmake --build --preset fuzz --target gtcp_fuzzers </dev/null
printf '%s\n' server pkg_reader conn msg address |
  xargs -n 1 -P "$(getconf _NPROCESSORS_ONLN)" sh tests/fuzz/run.sh --one "$seconds"
