#!/usr/bin/env bash
# Records the results of this folder: bench/record.sh RABBITMQ_URL RABBITMQ_PID [FLAG...]
#
# Builds warren from a clone of HEAD, so that nothing uncommitted is measured, starts a fresh `warren serve`, and
# measures it in turns with the RabbitMQ that is running (start it fresh, too, with `ulimit -n 20000`; process id 0
# if it runs elsewhere). What bench/results has already is left out, so after Ctrl-C the same command goes on. In
# the end README.md and chart.svg are made of what is there.
#
#   bench/record.sh amqp://localhost:5673 "$(pgrep beam.smp)"                       everything: 5 rounds of 10 s
#   bench/record.sh amqp://localhost:5673 "$(pgrep beam.smp)" --only window,batched  some rows
#
# For a new recording remove the old one before: rm bench/results/*.json. WARREN_BENCH_DIR is a folder on the disk to
# measure (default: the home directory; not a memory disk). WARREN_BENCH_OUT is another folder for the runs, for a try:
# then only the table is printed.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
url=$1 pid=$2 out=$(realpath -m "${WARREN_BENCH_OUT:-$(dirname "${BASH_SOURCE[0]}")/results}")
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d "${WARREN_BENCH_DIR:-$HOME}/warren-record.XXXXXX")
serve=
cleanup() {
  trap - EXIT
  [ -z "$serve" ] || { kill "$serve" 2>/dev/null && wait "$serve"; } || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ulimit -n 20000 2>/dev/null || echo "no 20000 descriptors here: the row with idle connections will fail" >&2
git clone -q . "$work/source"
(cd "$work/source" && CGO_ENABLED=0 go build -buildvcs=true -o "$work/warren" ./cmd/warren)

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=5700
while answers "$port" || answers $((port + 10000)); do port=$((port + 1)); done
"$work/warren" serve --listen "127.0.0.1:$port" --management "127.0.0.1:$((port + 10000))" --data "$work/data" >"$work/serve.log" 2>&1 &
serve=$!
for _ in $(seq 100); do
  if answers "$port"; then break; fi
  kill -0 "$serve" 2>/dev/null || { cat "$work/serve.log" >&2; exit 1; }
  sleep 0.1
done

# A run that failed stands in the table: what is there is shown all the same.
code=0
"$work/warren" bench --suite --resume --out "$out" --disk "$work" \
  --url "amqp://guest:guest@127.0.0.1:$port" --pid "$serve" --url "$url" --pid "$pid" "$@" >/dev/null || code=$?
if [ -n "${WARREN_BENCH_OUT:-}" ]; then
  cat "$out/table.md"
  exit "$code"
fi
rm -f "$out/table.md" # README.md has it
WARREN_UPDATE_DOCS=1 go test -count 1 ./bench -run TestReadme
exit "$code"
