#!/usr/bin/env bash
# The PostgreSQL of Debian's stable release (15 on bookworm), for the tests of the stores and the outbox.
# It runs as a user of its own, without systemd, from a temporary data folder, next to any other PostgreSQL.
#   postgres-debian.sh start [PORT]   install if missing (needs root), start with fresh data on
#                                     127.0.0.1:PORT (default 5433), print the URL once it answers
#   postgres-debian.sh stop [PORT]    stop it and remove its data
# Nothing is started twice: start on a port that answers already only prints the URL.
set -euo pipefail
cmd=${1:-}; port=${2:-5433}
dir=${TMPDIR:-/tmp}/postgres-debian-$port

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# programs prints the folder of the newest version that is installed.
programs() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }

install_package() {
  local bin
  bin=$(programs)
  if [ -n "$bin" ] && [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ]; then return; fi
  # The package would make a cluster of its own and start it on the default port: keep it from both.
  local policy=/usr/sbin/policy-rc.d made= conf=/etc/postgresql-common/createcluster.d/none.conf
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; made=1; fi
  mkdir -p "${conf%/*}"; echo 'create_main_cluster = false' > "$conf"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql; } >&2
  rm -f "$conf"
  if [ "$made" ]; then rm -f "$policy"; fi
}

# as_peer COMMAND... runs it as user postgres (as ourselves when we are not root; PostgreSQL refuses root).
as_peer() {
  local env=(env -i PATH="$(programs):/usr/bin:/bin" LANG=C.UTF-8 HOME="$dir")
  cd "$dir"
  if [ "$(id -u)" = 0 ]; then setpriv --reuid postgres --regid postgres --clear-groups "${env[@]}" "$@"; else "${env[@]}" "$@"; fi
}

start() {
  answers && return
  install_package
  rm -rf "$dir"; mkdir -p "$dir"
  if [ "$(id -u)" = 0 ]; then chown postgres:postgres "$dir"; fi
  as_peer initdb -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 > "$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; exit 1; }
  as_peer pg_ctl -D "$dir/data" -l "$dir/data/out" -w -t 60 \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir" start > "$dir/start.log" 2>&1 < /dev/null ||
    { cat "$dir/start.log" "$dir/data/out" >&2; exit 1; }
  answers || { echo "PostgreSQL does not answer on port $port" >&2; exit 1; }
}

stop() {
  [ -d "$dir" ] || return 0
  if [ -s "$dir/data/postmaster.pid" ]; then as_peer pg_ctl -D "$dir/data" -m immediate -w stop >&2 || true; fi
  rm -rf "$dir"
}

case $cmd in
start) start; echo "postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable" ;;
stop)  stop ;;
*)     sed -n 2,8p "$0" >&2; exit 2 ;;
esac
