#!/usr/bin/env bash
# "warren serve" as the other peers are run: a process that tests can kill and start again on its data.
#   warren.sh start [PORT]         start with fresh data on 127.0.0.1:PORT (default 5675), print the URL once it
#                                  answers; the management API is at http://127.0.0.1:PORT+15000
#   warren.sh stop [PORT]          SIGTERM, and remove its data; fails if it does not end with status 0
#   warren.sh kill PORT            kill -9 it; its data stays
#   warren.sh restart PORT         start it again, on its data
#   warren.sh alarm PORT on|off    have it run with a full disk, which blocks publishers, and without. It is
#                                  killed for that, because nothing else fills a disk for one process only
#   WARREN_BINARY=FILE             what to run; else it is built
set -euo pipefail
cmd=${1:-}; port=${2:-5675}
dir=${TMPDIR:-/tmp}/warren-peer-$port
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
lives() { [ -s "$dir/pid" ] && [ ! -e "$dir/status" ]; }

launch() {
  rm -f "$dir/status" "$dir/pid"
  # shellcheck disable=SC2016 # the shell inside expands it
  (setsid bash -c '"$@" & echo $! > "$0/pid"; wait $!; echo $? > "$0/status"' "$dir" \
    env -u AMQP_URL "$(cat "$dir/binary")" serve --listen "127.0.0.1:$port" --management "127.0.0.1:$((port + 15000))" \
    --data "$dir/data" "$@" > "$dir/out" 2>&1 < /dev/null &)
  for _ in $(seq 600); do
    answers && return
    [ ! -e "$dir/status" ] || break
    sleep 0.05
  done
  echo "warren serve does not answer on port $port; its last words:" >&2
  tail -20 "$dir/out" >&2; exit 1
}

start() {
  answers && return
  rm -rf "$dir"; mkdir -p "$dir"
  echo "${WARREN_BINARY:-$dir/warren}" > "$dir/binary"
  [ -n "${WARREN_BINARY:-}" ] || (cd "$tree" && CGO_ENABLED=0 go build -o "$dir/warren" ./cmd/warren)
  launch
}

# finish SIGNAL ends the process, and waits until it has ended.
finish() {
  lives || return 0
  kill "-$1" "$(cat "$dir/pid")" 2>/dev/null || true
  for _ in $(seq 400); do lives || return 0; sleep 0.05; done
  echo "warren serve on port $port outlives SIG$1" >&2; exit 1
}

stop() {
  [ -d "$dir" ] || return 0
  local status=0
  if lives; then finish TERM; status=$(cat "$dir/status"); fi
  [ "$status" = 0 ] || { tail -20 "$dir/out" >&2; echo "warren serve ended with $status on SIGTERM, want 0" >&2; exit 1; }
  rm -rf "$dir"
}

case $cmd in
start)   start; echo "amqp://guest:guest@127.0.0.1:$port/" ;;
stop)    stop ;;
kill)    finish KILL ;;
restart) lives || launch; echo "amqp://guest:guest@127.0.0.1:$port/" ;;
alarm)
  finish KILL
  case ${3:-} in
  on)  launch --disk-free-limit 1000000000000000 ;;
  off) launch ;;
  *)   sed -n 9,10p "$0" >&2; exit 2 ;;
  esac ;;
*)     sed -n 2,11p "$0" >&2; exit 2 ;;
esac
