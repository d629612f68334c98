#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sh cmake/install-deps.sh [set...]
#
# Installs by apt what the sets need and this system lacks; says what to install where there is no apt. Sets:
#   run     compiler, CMake, Ninja or make, Asio, nlohmann/json: what examples/run.sh uses
#   build   run, GoogleTest and OpenSSL: what tests/run.sh uses (the default)
#   bench   build, and what bench/run.sh compares with or measures by: ZeroMQ, nng, Google Benchmark
#   clang   clang 16 and its sanitizers: what the presets clang, asan and tsan use beyond build
#   ci      what .ci/run uses beyond build and clang: clang-format 16, ccache, git, pkg-config
# Nothing is run as root, and no network is used, when nothing is missing.
set -eu

missing=''      # Debian packages
missing_what='' # the same in words, for systems without apt

have_command() {
  for c in "$@"; do
    if command -v "$c" >/dev/null 2>&1; then return 0; fi
  done
  return 1
}

have_header() {
  for d in /usr/include /usr/local/include /opt/homebrew/include /opt/local/include ${CMAKE_PREFIX_PATH:+"$CMAKE_PREFIX_PATH/include"}; do
    if [ -e "$d/$1" ]; then return 0; fi
  done
  return 1
}

need() { # need <Debian package> <in words>
  missing="$missing $1"
  missing_what="$missing_what
  - $2"
}

[ $# -gt 0 ] || set -- build
for set_name in "$@"; do
  case $set_name in
    run | build | bench)
      if [ -z "${CXX:-}" ]; then have_command c++ g++ clang++ || need g++ "a C++20 compiler (g++ 11 or newer, clang++ 16 or newer)"; fi
      have_command cmake || need cmake "CMake 3.22 or newer"
      have_command ninja make || need ninja-build "Ninja or make"
      have_header asio.hpp || need libasio-dev "standalone Asio 1.22.1 or newer"
      have_header nlohmann/json.hpp || need nlohmann-json3-dev "nlohmann/json 3.9 or newer"
      if [ "$set_name" != run ]; then
        have_header gtest/gtest.h || need libgtest-dev "GoogleTest"
        have_header openssl/ssl.h || need libssl-dev "OpenSSL 3.0 or newer, for gtcp::tls"
      fi
      if [ "$set_name" = bench ]; then
        have_header zmq.h || need libzmq3-dev "ZeroMQ 4"
        have_header nng/nng.h || need libnng-dev "nng"
        have_header benchmark/benchmark.h || need libbenchmark-dev "Google Benchmark"
      fi
      ;;
    clang)
      have_command clang++-16 || need clang-16 "clang 16"
      [ -e /usr/lib/llvm-16/lib/clang/16/lib/linux ] || need libclang-rt-16-dev "clang 16's sanitizers"
      have_command llvm-symbolizer-16 || need llvm-16 "clang 16's symbolizer"
      ;;
    ci)
      have_command clang-format-16 || need clang-format-16 "clang-format 16"
      have_command ccache || need ccache "ccache"
      have_command git || need git "git"
      have_command pkg-config || need pkg-config "pkg-config"
      ;;
    *)
      echo "install-deps: unknown set \"$set_name\"; there are: run build bench clang ci" >&2
      exit 2
      ;;
  esac
done

if [ -z "$missing" ]; then
  exit 0
fi

if ! have_command apt-get; then
  cat >&2 <<END
install-deps: missing:$missing_what
This system has no apt-get. Install them by hand, for example
  Fedora:  dnf install gcc-c++ cmake ninja-build asio-devel json-devel gtest-devel openssl-devel
  Arch:    pacman -S gcc cmake ninja asio nlohmann-json gtest openssl
  macOS:   brew install cmake ninja asio nlohmann-json googletest openssl
or let CMake download the libraries: cmake -B build -DGTCP_FETCH_DEPS=ON
END
  exit 1
fi

as_root=''
if [ "$(id -u)" != 0 ]; then
  if ! have_command sudo; then
    echo "install-deps: needs root or sudo for: apt-get install$missing" >&2
    exit 1
  fi
  as_root=sudo
fi

apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null; }

echo "install-deps: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt update && apt install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "install-deps: apt-get could not install$missing" >&2
  exit 1
fi
