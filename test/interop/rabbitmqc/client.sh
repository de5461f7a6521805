#!/usr/bin/env bash
# Checks a broker with the command line tools of rabbitmq-c, the C client.
#
# Reads AMQP_URL, prints one line per check and exits 0 only if all pass. The queue's name is random and
# it is deleted at the end. The tools know neither confirms, nacks nor transactions: what they can do is
# declare, publish, get, consume with a prefetch, delete, and say why the server closed on them.
set -uo pipefail

[ -n "${AMQP_URL:-}" ] || { echo "rabbitmq-c: set AMQP_URL, for example amqp://guest:guest@localhost:5672/" >&2; exit 2; }
# The library takes a lone slash at the end as the vhost with the empty name.
url=$AMQP_URL
case $url in amqp*://*/*/*) ;; */) url=${url%/} ;; esac
queue=interop.c.$$.$RANDOM
work=$(mktemp -d)
failed=0
# tool NAME ARGS... runs amqp-NAME against the broker; none of them may hang.
tool() { local name=$1; shift; timeout 20 "amqp-$name" --url="$url" "$@"; }
trap 'tool delete-queue -q "$queue" >/dev/null 2>&1; rm -rf "$work"' EXIT

# check NAME WANTED-EXIT-CODE WANTED-OUTPUT COMMAND... compares both streams, as one, and the exit code.
check() {
  local name=$1 want_code=$2 want=$3 got code
  shift 3
  got=$("$@" 2>&1 </dev/null)
  code=$?
  if [ "$code" = "$want_code" ] && [ "$got" = "$want" ]; then
    echo "ok   $name"
  else
    failed=$((failed + 1))
    printf 'FAIL %s: exit %s and "%s", want exit %s and "%s"\n' "$name" "$code" "$got" "$want_code" "$want"
  fi
}

publish_lines() { printf '%s\n' "$@" | tool publish -r "$queue" -p -l; }
consume() { tool consume -q "$queue" "$@" cat; }
# The queue exists from some moment after the consumer starts: publish until it has one message.
exclusive_consumer() {
  tool consume -x -e amq.topic -r "$queue.*" -c 1 cat 2>/dev/null &
  local consumer=$!
  while kill -0 $consumer 2>/dev/null; do
    tool publish -e amq.topic -r "$queue.x" -b routed
    sleep 0.05
  done
  wait $consumer
}
same_bytes() { tool get -q "$queue" | cmp - "$work/big"; }

check 'declare a durable queue' 0 "$queue" tool declare-queue -q "$queue" -d
check 'declare it again' 0 "$queue" tool declare-queue -q "$queue" -d
check 'get from the empty queue' 2 '' tool get -q "$queue"
check 'publish' 0 '' tool publish -r "$queue" -p -C text/plain -H 'origin: interop' -b hello
check 'get' 0 hello tool get -q "$queue"
check 'publish three lines' 0 '' publish_lines one two three
check 'consume two with prefetch 1' 0 $'one\ntwo' consume -c 2 -p 1
check 'the third is still there' 0 three consume -c 1 -A
check 'through an exchange to a queue of its own' 0 routed exclusive_consumer
head -c 1048576 /dev/urandom > "$work/big"
publish_big() { tool publish -r "$queue" -p < "$work/big"; }
check 'publish 1 MiB' 0 '' publish_big
check 'get 1 MiB unchanged' 0 '' same_bytes
check 'get from a missing queue closes with 404' 1 \
  "basic.get: server channel error 404, message: NOT_FOUND - no queue '$queue.missing' in vhost '/'" \
  tool get -q "$queue.missing"
check 'publish to a missing exchange closes with 404' 1 \
  "closing channel: server channel error 404, message: NOT_FOUND - no exchange '$queue.missing' in vhost '/'" \
  tool publish -e "$queue.missing" -b lost
check 'redeclare with other arguments closes with 406' 1 \
  "queue.declare: server channel error 406, message: PRECONDITION_FAILED - inequivalent arg 'durable' for queue '$queue' in vhost '/': received 'false' but current is 'true'" \
  tool declare-queue -q "$queue"
check 'delete the empty queue' 0 0 tool delete-queue -q "$queue" --if-unused --if-empty
check 'it is gone' 1 "basic.get: server channel error 404, message: NOT_FOUND - no queue '$queue' in vhost '/'" tool get -q "$queue"
[ "$failed" = 0 ] || { echo "$failed checks failed"; exit 1; }
