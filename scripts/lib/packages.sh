# shellcheck shell=bash
# Debian and Ubuntu packages, installed only when what they bring is missing.

APT_UPDATED=

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root: $* (become root, or install sudo)"
  fi
}

# apt_install PACKAGE…
apt_install() {
  command -v apt-get >/dev/null || die "missing: $*. Without apt-get, install these yourself and run this again"
  say "installing: $*"
  if [[ -z $APT_UPDATED ]]; then
    run_logged "$STATE/logs/apt-update.log" as_root apt-get update -q || die "apt-get update failed"
    APT_UPDATED=yes
  fi
  run_logged "$STATE/logs/apt-install.log" as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "$@" || die "apt-get install failed"
}

# The library itself, not its C++ sister or its runtimes, and the headers that it brings its own copy of.
have_libclang() {
  local library header
  [[ -z ${LIBCLANG_PATH:-} ]] || return 0
  library=$(find /usr/lib \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) -print -quit 2>/dev/null)
  header=$(find -L /usr/lib/clang /usr/lib/llvm* -path '*/clang/*/include/stddef.h' -print -quit 2>/dev/null)
  [[ -n $library && -n $header ]]
}

# What building and running needs.
install_build_packages() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v g++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  command -v ccache >/dev/null || missing+=(ccache)
  command -v curl >/dev/null || missing+=(curl)
  command -v setpriv >/dev/null || missing+=(util-linux)
  have_libclang || missing+=(libclang-dev)
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
  command -v python3 >/dev/null || missing+=(python3)
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
}

# What testing needs besides.
install_test_packages() {
  local missing=()
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if [[ -z $(postgres_bin) ]]; then
    keep_apt_from_starting_a_database
    missing+=(postgresql)
  fi
  if ! command -v redis-server >/dev/null; then
    keep_apt_from_starting_redis
    missing+=(redis-server)
  fi
  [[ -n $(compose_command) ]] || missing+=("$(compose_package)")
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
}

# The tests start a throw-away server of their own; a standing one that nobody asked for would be left behind.
keep_apt_from_starting_a_database() {
  local config=/etc/postgresql-common/createcluster.conf
  [[ -e $config ]] && return
  as_root mkdir -p "$(dirname "$config")"
  echo 'create_main_cluster = false' | as_root tee "$config" >/dev/null
}

# The same for Redis, whose package starts one on its usual port.
keep_apt_from_starting_redis() {
  [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null || return 0
  as_root systemctl mask --quiet redis-server.service 2>/dev/null || true
}

# Prints how to call compose, or nothing when it is not there.
compose_command() {
  if docker compose version >/dev/null 2>&1; then
    echo "docker compose"
  elif docker-compose version >/dev/null 2>&1; then
    echo "docker-compose"
  fi
}

# Ubuntu ships compose v2 under a name of its own.
compose_package() {
  if [[ -n $(apt-cache policy docker-compose-v2 2>/dev/null | sed -n '/Candidate: [0-9]/p') ]]; then
    echo docker-compose-v2
  else
    echo docker-compose
  fi
}
