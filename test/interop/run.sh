#!/usr/bin/env bash
# Runs other people's AMQP clients against the broker at AMQP_URL: AMQP_URL=amqp://… run.sh [NAME…]
#
# Without names it runs all of them. What a client needs is installed first: Debian packages as root,
# everything else into $WARREN_CACHE (default ~/.cache/warren-interop), where the next run finds it.
# Nothing is skipped: a client that cannot be installed has failed. VERBOSE=1 shows each check.
set -euo pipefail

all=(amqp091-go pika seed java amqplib bunny php-amqplib rabbitmq-c)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WARREN_CACHE:-$HOME/.cache/warren-interop}
: "${AMQP_URL:?set AMQP_URL to the broker to check, for example amqp://guest:guest@localhost:5672/}"
export AMQP_URL
limit_seconds=${LIMIT_SECONDS:-120}

# debian PROBE PACKAGE... installs the packages unless the probe, a command, says that they are there.
debian() {
  local probe=$1
  shift
  if bash -c "$probe" >/dev/null 2>&1; then return; fi
  if [ "$(id -u)" != 0 ]; then
    echo "needs the Debian packages $*: install them, or run as root" >&2
    return 1
  fi
  # Runs inside a client's subshell: the update is not repeated while its stamp is fresh.
  if [ -z "$(find "$cache/apt-updated" -mmin -60 2>/dev/null)" ]; then
    apt-get update -q && touch "$cache/apt-updated"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
  bash -c "$probe" >/dev/null
}

# once FOLDER FILE COMMAND... runs the command unless it already ran for this content of FILE.
once() {
  local folder=$1 file=$2 stamp
  shift 2
  stamp=$folder/.installed-$(sha256sum < "$file" | cut -c1-16)
  if [ -e "$stamp" ]; then return; fi
  rm -rf "$folder"
  mkdir -p "$folder"
  "$@"
  touch "$stamp"
}

pip_install() {
  python3 -m venv "$cache/python"
  "$cache/python/bin/pip" install -q -r "$here/python/requirements.txt"
}
npm_install() {
  cp "$here/amqplib/package.json" "$cache/node/"
  (cd "$cache/node" && npm install --no-audit --no-fund --no-package-lock --loglevel=error)
}
mvn_fetch() {
  mvn -q -B -f "$here/java/pom.xml" -Dmaven.repo.local="$cache/java/repository" \
    dependency:build-classpath -Dmdep.outputFile="$cache/java/classpath"
}

# Each client has two halves: install_NAME brings what it needs, run_NAME runs it.
install_amqp091_go() { (cd "$here" && go build -o "$cache/amqp091-go" ./amqp091go); }
run_amqp091_go() { "$cache/amqp091-go"; }

install_pika() {
  debian 'python3 -c "import venv, ensurepip"' python3 python3-venv
  once "$cache/python" "$here/python/requirements.txt" pip_install
}
run_pika() { "$cache/python/bin/python" "$here/python/client.py"; }

install_seed() { install_pika; }
run_seed() { "$cache/python/bin/python" "$here/seed.py"; }

install_java() {
  debian 'command -v javac && command -v mvn' default-jdk-headless maven
  once "$cache/java" "$here/java/pom.xml" mvn_fetch
}
run_java() { java -cp "$(cat "$cache/java/classpath")" "$here/java/Interop.java"; }

install_amqplib() {
  debian 'command -v node && command -v npm' nodejs npm
  once "$cache/node" "$here/amqplib/package.json" npm_install
}
run_amqplib() { NODE_PATH="$cache/node/node_modules" node "$here/amqplib/client.js"; }

install_bunny() { debian '/usr/bin/ruby -e "require %q(bunny)"' ruby ruby-bunny; }
run_bunny() { /usr/bin/ruby "$here/bunny/client.rb"; }

install_php_amqplib() { debian 'command -v php && test -e /usr/share/php/PhpAmqpLib/autoload.php' php-cli php-amqplib; }
run_php_amqplib() { php "$here/phpamqplib/client.php"; }

install_rabbitmq_c() { debian 'command -v amqp-publish amqp-get amqp-consume amqp-declare-queue amqp-delete-queue' amqp-tools; }
run_rabbitmq_c() { "$here/rabbitmqc/client.sh"; }

# --half runs one half of one client in a shell of its own, so that set -e holds inside it too.
if [ "${1:-}" = --half ]; then
  "$2"
  exit
fi

names=("$@")
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
for name in "${names[@]}"; do
  case " ${all[*]} " in
  *" $name "*) ;;
  *) echo "run.sh: no client is called $name; there are: ${all[*]}" >&2; exit 2 ;;
  esac
done

mkdir -p "$cache"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
for name in "${names[@]}"; do
  started=$(date +%s%N)
  verdict=ok
  if ! bash "${BASH_SOURCE[0]}" --half "install_${name//-/_}" >"$log" 2>&1 </dev/null; then
    verdict='FAIL (could not be installed)'
  elif ! timeout "$limit_seconds" bash "${BASH_SOURCE[0]}" --half "run_${name//-/_}" >"$log" 2>&1 </dev/null; then
    verdict=FAIL
  fi
  checks=$(grep -c '^ok ' "$log" || true)
  if [ "$verdict" = ok ] && [ "$checks" = 0 ]; then verdict='FAIL (checked nothing)'; fi
  printf '%-12s %-5s %2d checks, %d ms\n' "$name" "$verdict" "$checks" $((($(date +%s%N) - started) / 1000000))
  if [ "$verdict" = ok ]; then
    passed=$((passed + 1))
    if [ -n "${VERBOSE:-}" ]; then sed 's/^/    /' "$log"; fi
  else
    failed=$((failed + 1))
    sed 's/^/    /' "$log"
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
