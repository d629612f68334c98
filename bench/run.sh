#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sh bench/run.sh [--quick | --smoke] [--only text] [workloads...]
#
# Installs what is missing, builds with -O3, and measures gtcp beside what else could be used, all of them in turn in
# every round. Without names of workloads (W1, W2, ...) all of them, and the micro-benchmarks. Writes the tables of
# docs/performance.md, the charts beside it, and the raw numbers to bench/results.
#   --quick   5 rounds of half a second instead of two
#   --smoke   one very short round, which writes nothing: does it all still work?
#   --only    only contestants whose name has the text, beside the limit; writes nothing
set -eu
cd "$(dirname "$0")/.."

command="sh bench/run.sh${*:+ $*}"
rounds=5
seconds=2
smoke=''
only=''
workloads=''
while [ $# -gt 0 ]; do
  case $1 in
    --quick) seconds=0.5 ;;
    --smoke) smoke=--smoke ;;
    --only)
      only=${2:?"--only needs a text"}
      shift
      ;;
    -*)
      sed -n '4,13p' "$0" | cut -c 3- >&2
      exit 2
      ;;
    *) workloads="$workloads $1" ;;
  esac
  shift
done

echo "== Dependencies: sh cmake/install-deps.sh bench"
sh cmake/install-deps.sh bench

if command -v ninja >/dev/null 2>&1; then
  : "${CMAKE_GENERATOR:=Ninja}"
  export CMAKE_GENERATOR
fi
: "${CMAKE_BUILD_PARALLEL_LEVEL:=$(getconf _NPROCESSORS_ONLN)}"
export CMAKE_BUILD_PARALLEL_LEVEL
echo "== Build: cmake --preset bench, cmake --build --preset bench"
cmake --preset bench </dev/null >/dev/null
cmake --build --preset bench </dev/null
bin=build/bench/bench

goframe=$PWD/$bin/goframe
echo "== Build: GoFrame's gtcp, a Go module"
cmake -D "SOURCE=$PWD/bench/go" -D "OUTPUT=$goframe" -D "SKIPPED=$bin/goframe-skipped.txt" -P tests/interop/build_go.cmake
if [ ! -x "$goframe" ]; then
  echo "== Left out: GoFrame: $(cat "$bin/goframe-skipped.txt")"
  goframe=''
fi

set -- --rounds "$rounds" --seconds "$seconds" --command "$command"
[ -z "$smoke" ] || set -- "$@" --smoke
[ -z "$goframe" ] || set -- "$@" --goframe "$goframe"
if [ -n "$only" ]; then
  set -- "$@" --only "$only"
elif [ -z "$smoke" ]; then
  mkdir -p bench/results
  set -- "$@" --docs docs --results bench/results
fi
echo "== Run: gtcp_bench"
# shellcheck disable=SC2086 # several names are meant
"$bin/gtcp_bench" "$@" $workloads

if [ -z "$workloads$only" ]; then
  echo "== Run: micro, timer_bench"
  if [ -n "$smoke" ]; then
    "$bin/micro" --benchmark_min_time=0.001
    "$bin/timer_bench" 1000
  else
    "$bin/micro" --benchmark_out=bench/results/micro.json --benchmark_out_format=json
    sed -i '/"host_name"/d' bench/results/micro.json
    "$bin/timer_bench" | tee bench/results/timer.txt
  fi
fi
