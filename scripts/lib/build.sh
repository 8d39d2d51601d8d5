# shellcheck shell=bash
# Builds. The worker is always built by this one command, alone, in release: other packages in the same command could
# switch features of shared dependencies, and llama.cpp (minutes) would be compiled once more.

# cargo_step LOG ARGUMENT…: on a terminal cargo draws its own progress, elsewhere run_logged keeps it short.
cargo_step() {
  local log=$1
  shift
  if [[ -t 2 && -z ${CI:-} ]]; then
    cargo "$@"
  else
    run_logged "$log" cargo "$@"
  fi
}

build_worker() {
  say "building the worker (the first time this compiles llama.cpp: several minutes)"
  cargo_step "$STATE/logs/build-worker.log" build --locked --release -p cluster-worker || die "the worker did not build"
}

build_gateway() {
  say "building the gateway"
  cargo_step "$STATE/logs/build-gateway.log" build --locked --release -p caprock-gateway ||
    die "the gateway did not build"
}
