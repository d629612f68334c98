#!/bin/sh
# SPDX-License-Identifier: MIT
#
# sh examples/run.sh
#
# Installs what is missing, builds heartbeat_server and heartbeat_client, and runs them side by side, each line labelled
# with who said it. Ends by itself after about ten seconds, when the server has told the client to exit. The
# server listens on 127.0.0.1:8999, or on a free port if that one is in use.
set -eu
cd "$(dirname "$0")/.."

echo "== Dependencies: sh cmake/install-deps.sh run"
sh cmake/install-deps.sh run

if command -v ninja >/dev/null 2>&1; then
  : "${CMAKE_GENERATOR:=Ninja}"
  export CMAKE_GENERATOR
fi
: "${CMAKE_BUILD_PARALLEL_LEVEL:=$(getconf _NPROCESSORS_ONLN)}"
export CMAKE_BUILD_PARALLEL_LEVEL

echo "== Build: cmake --preset examples, cmake --build --preset examples --target heartbeat_server heartbeat_client"
cmake --preset examples </dev/null >/dev/null
cmake --build --preset examples --target heartbeat_server heartbeat_client </dev/null
bin=build/examples/examples

work=$(mktemp -d)
server=''
client=''
stop() { # ends what this script started, by its process id
  for pid in $client $server; do
    kill "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Labels each line as it comes, and keeps it. A fifo each, so that $! is the program and not the labelling.
label() {
  while IFS= read -r line; do
    printf '%s | %s\n' "$1" "$line"
    printf '%s\n' "$line" >>"$work/$1.log"
  done
}
mkfifo "$work/server" "$work/client"

start_server() { # start_server <port>
  rm -f "$work/port"
  label server <"$work/server" &
  server_label=$!
  "$bin/heartbeat_server" --host 127.0.0.1 --port "$1" --port-file "$work/port" >"$work/server" 2>&1 </dev/null &
  server=$!
  # It writes its port when it listens; it is gone if it cannot.
  while [ ! -s "$work/port" ] && kill -0 "$server" 2>/dev/null; do sleep 0.05; done
  [ -s "$work/port" ]
}

if ! start_server 8999; then
  wait "$server_label" || true
  echo "== Port 8999 is in use; taking a free one"
  start_server 0
fi
port=$(cat "$work/port")

echo "== Run: heartbeat_server and heartbeat_client on 127.0.0.1:$port, for about ten seconds"
label client <"$work/client" &
client_label=$!
"$bin/heartbeat_client" --host 127.0.0.1 --port "$port" >"$work/client" 2>&1 </dev/null &
client=$!
rc=0
wait "$client" || rc=$?
client=''
wait "$client_label" || true

# The server goes on for the next client. Once it has said that this one is gone, the show is over.
tries=100
while [ "$tries" -gt 0 ] && ! grep -q 'client closed' "$work/server.log" 2>/dev/null; do
  sleep 0.05
  tries=$((tries - 1))
done
kill "$server" 2>/dev/null || true
wait "$server" 2>/dev/null || true
server=''
wait "$server_label" || true
if [ "$rc" -ne 0 ]; then
  echo "== heartbeat_client failed with exit code $rc" >&2
  exit "$rc"
fi
echo "== Done: the client left when the server told it to"
