#!/usr/bin/env bash
# RabbitMQ 4.3, of Debian's release "forky", as a reference broker to compare with. Its Erlang does not run on
# Debian 12, so it lives in a system folder of its own, that debootstrap makes (about two minutes, 500 MB) and that
# is kept: $WARREN_RABBITMQ_CACHE, by default ~/.cache/warren-rabbitmq. It takes root. Nothing is mounted outside
# of the processes that need it, so that the folder can be removed at any time.
#   rabbitmq-forky.sh install     make that folder unless it is there; start does it, too
# Without arguments it says what else it can do; rabbitmq-node.sh says how.
#   WARREN_DEBIAN_MIRROR=URL      where the packages come from (default http://deb.debian.org/debian)
set -euo pipefail
here=rabbitmq-forky port=5673 bin=/usr/lib/rabbitmq/bin
# shellcheck source=test/peers/rabbitmq-node.sh
. "$(dirname "${BASH_SOURCE[0]}")/rabbitmq-node.sh"
cache=${WARREN_RABBITMQ_CACHE:-${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}/.cache/warren-rabbitmq}
root=$cache/forky

# inside ROOT FOLDER COMMAND... runs COMMAND with ROOT as its file system, and FOLDER (if not empty) at /mnt.
# The mounts are in a namespace of its own and go with its last process.
inside() {
  # shellcheck disable=SC2016 # the shell inside expands it
  unshare --mount --propagation private bash -c '
    set -e
    root=$1 folder=$2; shift 2
    mount --bind /dev "$root/dev"; mount --bind /proc "$root/proc"; mount --bind /sys "$root/sys"
    [ -z "$folder" ] || mount --bind "$folder" "$root/mnt"
    exec chroot "$root" /usr/bin/env -C /mnt "$@"' inside "$@"
}
seen_dir() { echo /mnt; }
enter() { inside "$root" "$(node_dir "$port")" "$@"; }

version() { inside "$root" '' /usr/bin/dpkg-query -W -f '${Version}\n' rabbitmq-server; }

install_package() {
  [ "$(id -u)" = 0 ] || { echo "$here.sh needs root, for chroot" >&2; exit 1; }
  mkdir -p "$cache"
  (
    flock 9 # several may want it at the same time
    [ -x "$root/usr/lib/rabbitmq/bin/rabbitmq-server" ] || install_root
  ) 9>"$cache/lock" >&2
  case $(version) in
  4.3.*) ;;
  *) echo "forky has RabbitMQ $(version) now, not 4.3" >&2; exit 1 ;;
  esac
}

# install_root makes the folder elsewhere first, so that half of one is never taken for it.
install_root() {
  local made=$cache/forky.new mirror=${WARREN_DEBIAN_MIRROR:-http://deb.debian.org/debian}
  command -v debootstrap >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends debootstrap; }
  rm -rf "$made"
  # Older debootstraps do not know the name; the script for it is that of every newer release.
  debootstrap --variant=minbase --merged-usr forky "$made" "$mirror" /usr/share/debootstrap/scripts/sid || { tail -5 "$made/debootstrap/debootstrap.log"; return 1; }
  cp -L /etc/resolv.conf "$made/etc/resolv.conf"
  cp -r /etc/apt/apt.conf.d/. "$made/etc/apt/apt.conf.d/" 2>/dev/null || true # a proxy may be set there
  echo "127.0.0.1 localhost $(hostname)" > "$made/etc/hosts"
  printf '#!/bin/sh\nexit 101\n' > "$made/usr/sbin/policy-rc.d"; chmod +x "$made/usr/sbin/policy-rc.d" # start no service
  inside "$made" '' /bin/sh -c 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rabbitmq-server && apt-get clean'
  mv -T "$made" "$root"
}

if [ "${1:-}" = install ]; then install_package; version; exit; fi
peer_command "$@"
