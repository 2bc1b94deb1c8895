#!/usr/bin/env bash
# Gets what build, tests and benches need beyond cargo. Idempotent; says nothing when there is nothing to do.
#   runtime  the ONNX Runtime library into target/onnxruntime/, hash checked
#   test     runtime, redis-server, postgresql, clickhouse-server, haproxy, chromium, promtool, target/venv with the Python packages of scripts/requirements-test.txt, target/s3 with an S3 server of
#            scripts/requirements-s3.txt, and target/http-cache with the suite of HTTP cache tests of scripts/http-cache-suite.integrity
#   bench    runtime, and the peers of the load bench
#   full     test and bench
# What cannot be had goes into target/deps-missing.txt, one line with the reason each; with STRICT=1 that is a failure.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore DEBIAN_FRONTEND=noninteractive

group=${1:-test}
case $group in runtime | test | bench | full) ;; *)
  echo "usage: scripts/deps.sh [runtime|test|bench|full]" >&2
  exit 2
  ;;
esac

mkdir -p target
missing=target/deps-missing.txt
if command -v flock >/dev/null; then
  exec 9>target/.deps.lock
  flock 9 # two makes at once must not unpack into each other
fi
: >"$missing"

say() { echo "deps: $*" >&2; }
lacks() { echo "$1: $2" | tee -a "$missing" | sed 's/^/deps: missing: /' >&2; }
last_line() { tail -n 1 "$1" 2>/dev/null | cut -c1-200; }

# Prints the python to call pip with: the one at hand, or one in an environment of ours where it comes without pip.
python_with_pip() {
  command -v python3 >/dev/null || return 1
  if python3 -m pip --version >/dev/null 2>&1; then
    echo python3
  elif [ -x target/pip/bin/python ] || python3 -m venv target/pip >/dev/null 2>&1; then
    echo target/pip/bin/python
  else
    return 1
  fi
}

runtime_library() {
  [ -z "${FARTHING_ONNXRUNTIME:-}" ] || return 0 # the operator brings their own
  local machine dir=target/onnxruntime line wanted name library
  machine=$(uname -m)
  line=$(awk -v m="$machine/" 'index($2, m) == 1' scripts/onnxruntime.sha256)
  if [ "$(uname -s)" != Linux ] || [ -z "$line" ]; then
    lacks "onnxruntime library" "none is pinned for $(uname -s) $machine; set FARTHING_ONNXRUNTIME to one of version 1.24 to 1.28, or newer with ORT_DISABLE_TELEMETRY=1"
    return 0
  fi
  wanted=${line%% *}
  name=${line##*/}
  library=$dir/$name
  if ! echo "$wanted  $library" | sha256sum --check --status 2>/dev/null; then
    rm -f "$library" # never load what is not the pinned file
    fetch_library "$machine" "$wanted" "$name" || return 0
  fi
  [ "$(cat "$dir/path" 2>/dev/null)" = "$PWD/$library" ] || echo "$PWD/$library" >"$dir/path"
}

# The library inside the Python package is the same for every Python version, so one is asked for whatever Python runs here.
fetch_library() {
  local machine=$1 wanted=$2 name=$3 version=${3##*.so.} dir=target/onnxruntime python
  if ! python=$(python_with_pip); then
    lacks "onnxruntime library" "needs python3 with pip or venv (Debian: python3-venv)"
    return 1
  fi
  say "fetching the ONNX Runtime library $version"
  rm -rf "$dir.new"
  mkdir -p "$dir.new" "$dir"
  if ! "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform "manylinux_2_28_$machine" --dest "$dir.new" "onnxruntime==$version" >"$dir.new/log" 2>&1; then
    lacks "onnxruntime library" "pip download failed: $(last_line "$dir.new/log")"
    return 1
  fi
  "$python" - "$dir.new" "$name" <<'PY'
import glob, shutil, sys, zipfile
folder, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    with wheel.open("onnxruntime/capi/" + name) as source, open(folder + "/" + name, "wb") as target:
        shutil.copyfileobj(source, target)
PY
  if ! echo "$wanted  $dir.new/$name" | sha256sum --check --status; then
    lacks "onnxruntime library" "the downloaded $name has not the SHA-256 in scripts/onnxruntime.sha256"
    rm -rf "$dir.new"
    return 1
  fi
  rm -f "$dir"/libonnxruntime.so.* # those of earlier pins
  mv "$dir.new/$name" "$dir/$name"
  rm -rf "$dir.new"
}

# A Python environment in target/$1 with the packages of scripts/$2, for $3.
python_environment() {
  local dir=target/$1 list=scripts/$2 stamp
  stamp=$dir/.installed-$(sha256sum "$list" | cut -c1-16)
  [ ! -e "$stamp" ] || return 0
  if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    lacks "$3" "needs python3 with venv (Debian: python3-venv)"
    return 0
  fi
  say "installing the Python packages of $3 into $dir"
  rm -rf "$dir"
  if python3 -m venv "$dir" >"$dir.log" 2>&1 &&
    "$dir/bin/python" -m pip install -q --only-binary=:all: -r "$list" >>"$dir.log" 2>&1; then
    touch "$stamp"
    rm -f "$dir.log"
  else
    lacks "$3" "pip install failed: $(last_line "$dir.log")"
    rm -rf "$dir"
  fi
}

# The public suite of HTTP cache tests and the HTTP client it runs with, each package held to its digest. They are unpacked by themselves:
# npm would install much that the suite needs for its web pages only.
http_cache_suite() {
  local list=scripts/http-cache-suite.integrity dir=target/http-cache stamp name version wanted
  stamp=$dir/.installed-$(sha256sum "$list" | cut -c1-16)
  [ ! -e "$stamp" ] || return 0
  servers node=nodejs npm=npm
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    lacks "HTTP cache suite" "needs node and npm (Debian: nodejs, npm)"
    return 0
  fi
  say "fetching the suite of HTTP cache tests"
  rm -rf "$dir"
  mkdir -p "$dir/packed"
  while read -r name version wanted; do
    if ! npm pack --silent --pack-destination "$dir/packed" "$name@$version" >"$dir/log" 2>&1; then
      lacks "HTTP cache suite" "npm pack $name failed: $(last_line "$dir/log")"
      return 0
    fi
    if ! node -e 'const [file, wanted] = process.argv.slice(1)
      const digest = require("crypto").createHash("sha512").update(require("fs").readFileSync(file)).digest("base64")
      process.exit(wanted === "sha512-" + digest ? 0 : 1)' "$dir/packed/$name-$version.tgz" "$wanted"; then
      lacks "HTTP cache suite" "$name $version has not the digest in $list"
      return 0
    fi
    mkdir -p "$dir/node_modules/$name"
    tar -xzf "$dir/packed/$name-$version.tgz" -C "$dir/node_modules/$name" --strip-components=1
  done <"$list"
  rm -rf "$dir/packed" "$dir/log"
  touch "$stamp"
}

# Each argument is program=package. What PATH lacks comes from Debian, when we may install.
servers() {
  local pair program package wanted=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || wanted+=("${pair#*=}")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  install_packages "${wanted[@]}" || true
  for pair in "$@"; do
    program=${pair%%=*} package=${pair#*=}
    command -v "$program" >/dev/null || lacks "$program" "not on PATH and $install_problem (Debian: $package)"
  done
}

# Debian's redis-server, whose program is in redis-tools: installed where we may, else unpacked into target/redis/, where the tests look, too.
redis_server() {
  if command -v redis-server >/dev/null || [ -x target/redis/usr/bin/redis-server ]; then
    return 0
  fi
  if [ "$(id -u)" = 0 ]; then
    servers redis-server=redis-server
    return 0
  fi
  local dir=target/redis package
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    lacks "redis-server" "not on PATH and there is no apt-get (Debian: redis-server)"
    return 0
  fi
  say "unpacking Debian's redis-server into $dir"
  rm -rf "$dir.new"
  mkdir -p "$dir.new"
  # Its libraries come along where the machine has not got them; apt-get knows which.
  if (cd "$dir.new" && apt-get download -qq redis-server redis-tools $(redis_libraries)) >target/apt.log 2>&1 &&
    for package in "$dir.new"/*.deb; do dpkg -x "$package" "$dir.new" || exit 1; done; then
    rm -f "$dir.new"/*.deb
    rm -rf "$dir"
    mv "$dir.new" "$dir"
    wrap_redis "$dir"
  else
    rm -rf "$dir.new"
    lacks "redis-server" "not on PATH and it cannot be unpacked: $(last_line target/apt.log)"
    return 0
  fi
  "$dir/usr/bin/redis-server" --version >target/apt.log 2>&1 || lacks "redis-server" "unpacked, but does not run: $(last_line target/apt.log)"
}

redis_libraries() {
  local library
  for library in libjemalloc2 liblua5.1-0 liblzf1 lua-bitop lua-cjson libatomic1 libssl3 libsystemd0; do
    dpkg -s "$library" >/dev/null 2>&1 || ! apt-cache show "$library" >/dev/null 2>&1 || echo "$library"
  done
}

# The program finds the libraries beside it.
wrap_redis() {
  local dir=$PWD/$1 libraries
  libraries=$(find "$dir/usr/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd: -)
  [ -n "$libraries" ] || return 0
  mv "$dir/usr/bin/redis-check-rdb" "$dir/usr/bin/redis-program"
  rm -f "$dir/usr/bin/redis-server"
  # Its own name tells the program what to be.
  printf '#!/bin/bash\nLD_LIBRARY_PATH=%q exec -a redis-server %q "$@"\n' "$libraries" "$dir/usr/bin/redis-program" >"$dir/usr/bin/redis-server"
  chmod +x "$dir/usr/bin/redis-server"
}

# Debian's PostgreSQL, which keeps its programs off PATH; the tests make servers of their own.
postgresql() {
  if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then
    return 0
  fi
  install_packages postgresql || true
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || lacks "postgresql" "initdb is not there and $install_problem (Debian: postgresql)"
}

install_problem="its package does not bring it"
install_packages() {
  if ! command -v apt-get >/dev/null; then
    install_problem="there is no apt-get"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    install_problem="apt-get needs root"
    return 1
  fi
  say "installing Debian packages: $*"
  # Debian starts a server when it installs it; nothing may be left running.
  local policy=/usr/sbin/policy-rc.d ours=no status=0
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    ours=yes
  fi
  { apt-get install -qq -y --no-install-recommends "$@" ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@"; }; } >target/apt.log 2>&1 </dev/null || status=1
  [ $ours = no ] || rm -f $policy
  [ $status = 0 ] || install_problem="apt-get failed: $(last_line target/apt.log)"
  return $status
}

runtime_library
case $group in
  test | full)
    python_environment venv requirements-test.txt "interoperability tests"
    # By itself: it wants older packages than the others.
    python_environment s3 requirements-s3.txt "tests with an S3 server"
    http_cache_suite
    redis_server
    postgresql
    # ClickHouse of 2018 is small, and real: 16 MB with what it needs.
    servers clickhouse-server=clickhouse-server haproxy=haproxy chromium=chromium chromedriver=chromium-driver promtool=prometheus
    ;;
esac
case $group in bench | full) servers nginx=nginx haproxy=haproxy varnishd=varnish wrk=wrk ;; esac

if [ "${STRICT:-0}" = 1 ] && [ -s "$missing" ]; then
  say "STRICT=1: the above must not be missing"
  exit 1
fi
