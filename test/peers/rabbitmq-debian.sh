#!/usr/bin/env bash
# The RabbitMQ of Debian's stable release (3.10 on bookworm) as a reference broker to compare with.
# Without arguments it says what it can do; rabbitmq-node.sh says how.
set -euo pipefail
here=rabbitmq-debian port=5674 bin=/usr/lib/rabbitmq/bin
# shellcheck source=test/peers/rabbitmq-node.sh
. "$(dirname "${BASH_SOURCE[0]}")/rabbitmq-node.sh"

install_package() {
  [ -x "$bin/rabbitmq-server" ] && return
  # The package would start a service on the default ports: keep it from doing so, as image builders do.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; made=1; fi
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rabbitmq-server; } >&2
  if [ "$made" ]; then rm -f "$policy"; fi
}

seen_dir() { node_dir "$port"; }
enter() { (cd "$(seen_dir)" && exec "$@"); }

peer_command "$@"
