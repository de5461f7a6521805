#!/usr/bin/env bash
# The RabbitMQ of Debian's stable release (3.10 on bookworm) as a reference broker to compare with.
# It runs as a user of its own, without systemd, from a temporary data folder, next to any other RabbitMQ.
#   rabbitmq-debian.sh start [PORT]       install if missing (needs root), start with fresh data on
#                                         127.0.0.1:PORT (default 5674), print the AMQP URL once it answers;
#                                         the management API is at http://127.0.0.1:PORT+15000
#   rabbitmq-debian.sh ctl PORT ARGS...   rabbitmqctl against that node
#   rabbitmq-debian.sh pid [PORT]         its process id
#   rabbitmq-debian.sh stop [PORT]        stop it and remove its data
# Nothing is started twice: start on a port that answers already only prints the URL.
set -euo pipefail
cmd=${1:-}; port=${2:-5674}
dir=${TMPDIR:-/tmp}/rabbitmq-debian-$port
bin=/usr/lib/rabbitmq/bin

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

install_package() {
  [ -x "$bin/rabbitmq-server" ] && return
  # The package would start a service on the default ports: keep it from doing so, as image builders do.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; made=1; fi
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rabbitmq-server; } >&2
  if [ "$made" ]; then rm -f "$policy"; fi
}

# as_peer COMMAND... runs it as user rabbitmq (as ourselves when we are not root) in the node's environment.
as_peer() {
  local env=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME="$dir"
    RABBITMQ_NODENAME="peer$port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
    # An epmd and a distribution port of its own: other Erlang nodes on the machine stay untouched.
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$((port + 10000))" RABBITMQ_DIST_PORT="$((port + 20000))"
    RABBITMQ_MNESIA_BASE="$dir/mnesia" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_CONF_ENV_FILE="$dir/env.conf"
    RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins"
    RABBITMQ_PID_FILE="$dir/pid")
  cd "$dir"
  if [ "$(id -u)" = 0 ]; then setpriv --reuid rabbitmq --regid rabbitmq --clear-groups "${env[@]}" "$@"; else "${env[@]}" "$@"; fi
}

start() {
  answers && return
  install_package
  rm -rf "$dir"; mkdir -p "$dir/log"
  : > "$dir/env.conf"; echo '[rabbitmq_management].' > "$dir/enabled_plugins"
  printf 'loopback_users.guest = true\nlog.console = false\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n' $((port + 15000)) > "$dir/rabbitmq.conf"
  if [ "$(id -u)" = 0 ]; then chown -R rabbitmq:rabbitmq "$dir"; fi
  (as_peer setsid nohup "$bin/rabbitmq-server" > "$dir/out" 2>&1 < /dev/null &)
  for _ in $(seq 240); do answers && return; sleep 0.25; done
  echo "RabbitMQ did not answer on port $port within 60 s; its last words:" >&2
  tail -20 "$dir/out" >&2; exit 1
}

stop() {
  [ -d "$dir" ] || return 0
  as_peer "$bin/rabbitmqctl" -q shutdown >&2 || { [ -s "$dir/pid" ] && kill "$(cat "$dir/pid")"; } || true
  as_peer epmd -kill >/dev/null 2>&1 || true
  rm -rf "$dir"
}

case $cmd in
start) start; echo "amqp://guest:guest@127.0.0.1:$port/" ;;
stop)  stop ;;
pid)   cat "$dir/pid" ;;
ctl)   shift 2; as_peer "$bin/rabbitmqctl" -q "$@" ;;
*)     sed -n 2,10p "$0" >&2; exit 2 ;;
esac
