#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sh tests/run.sh [--preset dev|release|asan|tsan|clang] [arguments for ctest...]
#
# Installs what is missing, builds library tests and examples, and runs all tests. Says what it does, and is quick when
# there is nothing to install or to build. GTCP_CMAKE_ARGS are further arguments for CMake.
#   sh tests/run.sh -L unit            only the unit tests
#   sh tests/run.sh -R Errc --verbose  only the tests whose name matches, with their output
set -eu
cd "$(dirname "$0")/.."

preset=dev
if [ "${1:-}" = --preset ]; then
  preset=${2:?"--preset needs a name"}
  shift 2
fi

dependencies=build
case $preset in
  asan | tsan | clang) dependencies='build clang' ;;
esac
echo "== Dependencies: sh cmake/install-deps.sh $dependencies"
# shellcheck disable=SC2086 # several arguments are meant
sh cmake/install-deps.sh $dependencies

if command -v ninja >/dev/null 2>&1; then
  : "${CMAKE_GENERATOR:=Ninja}"
  export CMAKE_GENERATOR
fi
: "${CMAKE_BUILD_PARALLEL_LEVEL:=$(getconf _NPROCESSORS_ONLN)}"
export CMAKE_BUILD_PARALLEL_LEVEL

echo "== Configure: cmake --preset $preset"
# shellcheck disable=SC2086 # several arguments are meant
cmake --preset "$preset" ${GTCP_CMAKE_ARGS:-} </dev/null
echo "== Build: cmake --build --preset $preset"
cmake --build --preset "$preset" </dev/null
echo "== Test: ctest --preset $preset $*"
ctest --preset "$preset" "$@" </dev/null
