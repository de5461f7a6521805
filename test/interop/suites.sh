#!/usr/bin/env bash
# Runs client libraries' own test suites against the broker at AMQP_URL: AMQP_URL=amqp://… suites.sh
#
# Only libraries that publish their tests where their ordinary package comes from: amqp091-go does, in its
# Go module; pika's and amqplib's packages, and Debian's of Bunny and php-amqplib, come without. The tests
# leave queues behind, with fixed names: give them a broker that may be thrown away.
#
# A failing test fails the run, unless suites-known.txt says that it fails on RabbitMQ too.
# ALL=1 runs those as well (three minutes more) and says which of them passed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${AMQP_URL:?set AMQP_URL to a broker that may be thrown away}"
export AMQP_URL
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

known() { awk -v suite="$1" '$1 == suite { print $2 }' "$here/suites-known.txt"; }

# amqp091-go: the tests behind its build tag "integration" are those that talk to a broker.
suite=amqp091-go
module=$(cd "$here" && go mod download -json github.com/rabbitmq/amqp091-go@"$(go list -m -f '{{.Version}}' github.com/rabbitmq/amqp091-go)" |
  sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
cp -r "$module" "$work/$suite"
chmod -R u+w "$work/$suite"
cd "$work/$suite"
mapfile -t tests < <(grep -l '^//go:build integration' ./*_test.go | xargs sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p')
[ ${#tests[@]} -gt 50 ] || { echo "suites.sh: found only ${#tests[@]} tests in $suite" >&2; exit 1; }
pattern="^($(IFS='|'; echo "${tests[*]}"))\$"
skip=()
[ -n "${ALL:-}" ] || skip=(-skip "^($(known $suite | paste -sd'|'))\$")
CGO_ENABLED=0 go test -tags integration -count=1 -timeout 8m -v -run "$pattern" "${skip[@]}" . >"$work/log" 2>&1 </dev/null || true

passed=$(grep -c '^--- PASS' "$work/log" || true)
mapfile -t failures < <(sed -n 's/^--- FAIL: \([^ ]*\) .*/\1/p' "$work/log")
unexpected=()
for name in "${failures[@]}"; do
  if known $suite | grep -qx "$name"; then echo "$suite: $name fails, as on RabbitMQ"; else unexpected+=("$name"); fi
done
if [ -n "${ALL:-}" ]; then
  for name in $(known $suite); do
    if grep -q "^--- PASS: $name " "$work/log"; then echo "$suite: $name passes here"; fi
  done
fi
for name in "${unexpected[@]}"; do
  echo "FAIL $suite: $name"
  sed -n "/^=== RUN   $name\$/,/^--- FAIL: $name /p" "$work/log" | head -40 | sed 's/^/    /'
done
# A panic or a timeout ends the run before the tests do.
finished=$(grep -cE '^(ok|FAIL|PASS)' "$work/log" || true)
if grep -qE '^panic:|^fatal error:' "$work/log" || [ "$finished" = 0 ]; then
  echo "FAIL $suite: the run did not finish"
  tail -40 "$work/log" | sed 's/^/    /'
  exit 1
fi
echo "$suite: $passed passed, ${#unexpected[@]} failed, ${#failures[@]} failed in all"
[ ${#unexpected[@]} = 0 ] && [ "$passed" -gt 50 ]
