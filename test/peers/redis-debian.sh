#!/usr/bin/env bash
# The Redis of Debian's stable release (7.0 on bookworm), for the tests of the stores.
# It runs as a user of its own, without systemd, from a temporary folder, next to any other Redis.
#   redis-debian.sh start [PORT]   install if missing (needs root), start empty on 127.0.0.1:PORT (default 6380),
#                                  print the URL once it answers
#   redis-debian.sh stop [PORT]    stop it and remove its data
# Nothing is started twice: start on a port that answers already only prints the URL.
set -euo pipefail
cmd=${1:-}; port=${2:-6380}
dir=${TMPDIR:-/tmp}/redis-debian-$port

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

install_package() {
  if command -v redis-server >/dev/null; then return; fi
  # The package would start a service on the default port: keep it from doing so, as image builders do.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; made=1; fi
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends redis-server; } >&2
  if [ "$made" ]; then rm -f "$policy"; fi
}

# as_peer COMMAND... runs it as user redis (as ourselves when we are not root).
as_peer() {
  local env=(env -i PATH=/usr/bin:/bin LANG=C.UTF-8 HOME="$dir")
  cd "$dir"
  if [ "$(id -u)" = 0 ]; then setpriv --reuid redis --regid redis --clear-groups "${env[@]}" "$@"; else "${env[@]}" "$@"; fi
}

start() {
  answers && return
  install_package
  rm -rf "$dir"; mkdir -p "$dir"
  if [ "$(id -u)" = 0 ]; then chown redis:redis "$dir"; fi
  # Every write is synced, and nothing is evicted: what docs/idempotency.md asks for.
  (as_peer setsid nohup redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --pidfile "$dir/pid" \
    --appendonly yes --appendfsync always --save '' --maxmemory-policy noeviction > "$dir/out" 2>&1 < /dev/null &)
  for _ in $(seq 120); do answers && return; sleep 0.25; done
  echo "Redis did not answer on port $port within 30 s; its last words:" >&2
  tail -20 "$dir/out" >&2; exit 1
}

stop() {
  [ -d "$dir" ] || return 0
  as_peer redis-cli -h 127.0.0.1 -p "$port" shutdown nosave >&2 || true
  for _ in $(seq 40); do answers || break; sleep 0.25; done
  rm -rf "$dir"
}

case $cmd in
start) start; echo "redis://127.0.0.1:$port/0" ;;
stop)  stop ;;
*)     sed -n 2,8p "$0" >&2; exit 2 ;;
esac
