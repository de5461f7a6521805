# What rabbitmq-debian.sh and rabbitmq-forky.sh have in common; they source it. It runs RabbitMQ nodes as a user
# of their own, without systemd, each from a temporary folder, next to any other RabbitMQ. A node is named by its
# port P; the management API is at P+15000, epmd at P+10000 (that of a cluster's first node for all of them), the
# distribution at P+20000. With P below 12700 all of them stay out of the range that Linux gives to clients.
#
# Who sources it sets: here (the script's name), port (the default), bin (the folder of rabbitmqctl as the node
# sees it), and defines: install_package; seen_dir (the node's folder as the node sees it); enter COMMAND... (runs
# it where the node lives, as root, or as ourselves if we are not root).

answers() { (exec 3<>"/dev/tcp/127.0.0.1/${1:-$port}") 2>/dev/null; }
node_dir() { echo "${TMPDIR:-/tmp}/$here-$1"; }
url() { echo "amqp://guest:guest@127.0.0.1:$1/"; }

# as_peer COMMAND... runs it as user rabbitmq in the environment of node $port. The address and the port of epmd
# are its own: other Erlang nodes on the machine stay untouched.
as_peer() {
  local dir seen epmd
  dir=$(node_dir "$port"); seen=$(seen_dir); epmd=$((port + 10000))
  [ ! -s "$dir/epmd" ] || epmd=$(cat "$dir/epmd")
  local env=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME="$seen"
    RABBITMQ_NODENAME="peer$port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port"
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd" RABBITMQ_DIST_PORT="$((port + 20000))"
    RABBITMQ_MNESIA_BASE="$seen/mnesia" RABBITMQ_LOG_BASE="$seen/log" RABBITMQ_CONF_ENV_FILE="$seen/env.conf"
    RABBITMQ_CONFIG_FILE="$seen/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$seen/enabled_plugins"
    RABBITMQ_PID_FILE="$seen/pid")
  if [ "$(id -u)" = 0 ]; then
    enter setpriv --reuid rabbitmq --regid rabbitmq --clear-groups "${env[@]}" "$@"
  else
    enter "${env[@]}" "$@"
  fi
}
ctl() { as_peer "$bin/rabbitmqctl" -q "$@"; }

# prepare makes the folder of node $port, with no data.
prepare() {
  local dir
  dir=$(node_dir "$port")
  rm -rf "$dir"; mkdir -p "$dir/log"
  : > "$dir/env.conf"; echo '[rabbitmq_management].' > "$dir/enabled_plugins"
  printf 'loopback_users.guest = true\nlog.console = false\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n' \
    $((port + 15000)) > "$dir/rabbitmq.conf"
  echo WARRENPEERS > "$dir/.erlang.cookie"; chmod 400 "$dir/.erlang.cookie" # one for all: a cluster needs it
}

# launch starts node $port on the data it has. Its process group is noted, for kill.
launch() {
  local dir
  dir=$(node_dir "$port")
  if [ "$(id -u)" = 0 ]; then enter chown -R rabbitmq:rabbitmq "$(seen_dir)"; fi
  # shellcheck disable=SC2016 # the shell inside expands it
  (as_peer setsid sh -c 'echo $$ > "$HOME/group"; exec nohup "$0"' "$bin/rabbitmq-server" > "$dir/out" 2>&1 < /dev/null &)
}

# await waits until node $port answers.
await() {
  for _ in $(seq 480); do answers && return; sleep 0.25; done
  echo "RabbitMQ did not answer on port $port within 120 s; its last words:" >&2
  tail -20 "$(node_dir "$port")/out" >&2; exit 1
}

start() {
  answers && return
  install_package
  prepare; launch; await
}

# group prints the process group of node $port.
group() { cat "$(node_dir "$port")/group" 2>/dev/null; }
group_lives() { [ -n "$(group)" ] && kill -0 -- "-$(group)" 2>/dev/null; }

kill_node() {
  group_lives || return 0
  kill -9 -- "-$(group)" 2>/dev/null || true
  for _ in $(seq 200); do group_lives || return 0; sleep 0.05; done
  echo "node $port outlives kill -9" >&2; exit 1
}

restart() {
  [ -d "$(node_dir "$port")" ] || { echo "there is no node $port to restart: start it" >&2; exit 1; }
  answers && return
  kill_node # what does not answer may still run
  launch; await
}

stop() {
  local dir
  dir=$(node_dir "$port")
  [ -d "$dir" ] || return 0
  if group_lives; then timeout 60 bash -c 'exec "$0" ctl "$@"' "$0" "$port" shutdown >&2 || true; fi
  kill_node
  as_peer epmd -kill >/dev/null 2>&1 || true # refuses while another node of the cluster is there
  rm -rf "$dir"
}

# cluster starts three nodes on ports P, P+1 and P+2 and joins them.
cluster() {
  local first=$port
  install_package
  for port in "$first" $((first + 1)) $((first + 2)); do
    answers && continue
    prepare
    echo $((first + 10000)) > "$(node_dir "$port")/epmd"
    launch
    if [ "$port" = "$first" ]; then await; fi # it starts epmd
  done
  for port in $((first + 1)) $((first + 2)); do
    await
    # A node that was there already may belong to it.
    if ctl cluster_status --formatter json | grep -q "\"peer$first@localhost\""; then continue; fi
    join "peer$first@localhost" > "$(node_dir "$port")/join.log" 2>&1 || { cat "$(node_dir "$port")/join.log" >&2; exit 1; }
  done
  port=$first
  ctl await_online_nodes 3 >&2
}
join() { ctl stop_app && ctl reset && ctl join_cluster "$1" && ctl start_app; }
stop_cluster() {
  local first=$port
  for port in "$first" $((first + 1)) $((first + 2)); do kill_node; done
  for port in "$first" $((first + 1)) $((first + 2)); do stop; done
}

# leader prints the port of the node that leads a quorum queue.
leader() { ctl list_queues name leader | awk -v queue="$1" '$1 == queue { sub(/^peer/, "", $2); sub(/@.*/, "", $2); print $2 }'; }

alarm() {
  case ${1:-} in
  on)  ctl set_vm_memory_high_watermark 0.00001 ;;
  off) ctl set_vm_memory_high_watermark 0.4 ;;
  *)   echo 'alarm PORT on|off' >&2; exit 2 ;;
  esac
}

peer_command() {
  local cmd=${1:-}
  port=${2:-$port}
  case $cmd in
  start)        start; url "$port" ;;
  stop)         stop ;;
  kill)         kill_node ;;
  restart)      restart; url "$port" ;;
  pid)          cat "$(node_dir "$port")/pid" ;;
  ctl)          shift 2; ctl "$@" ;;
  alarm)        alarm "${3:-}" ;;
  leader)       leader "$3" ;;
  cluster)      cluster; echo "$(url "$port"),$(url $((port + 1))),$(url $((port + 2)))" ;;
  stop-cluster) stop_cluster ;;
  *)            usage >&2; exit 2 ;;
  esac
}

usage() {
  cat <<TEXT
$here.sh start [PORT]         install if missing (needs root), start with fresh data on 127.0.0.1:PORT
$(printf "%${#here}s" '')                          (default $port), print the AMQP URL once it answers;
$(printf "%${#here}s" '')                          the management API is at http://127.0.0.1:PORT+15000
$here.sh stop [PORT]          stop it and remove its data
$here.sh kill PORT            kill -9 it; its data stays
$here.sh restart PORT         start it again, on its data
$here.sh pid PORT             its process id
$here.sh ctl PORT ARGS...     rabbitmqctl against that node
$here.sh alarm PORT on|off    raise its memory alarm, which blocks publishers, and end it
$here.sh leader PORT QUEUE    the port of the node that leads this quorum queue
$here.sh cluster [PORT]       a cluster of three nodes on PORT, PORT+1 and PORT+2; print their URLs
$here.sh stop-cluster [PORT]  stop the three and remove their data
Nothing is started twice: start on a port that answers already only prints the URL.
TEXT
}
