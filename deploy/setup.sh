#!/usr/bin/env bash
# Installs what is missing to build (`setup.sh build`) or to test (`setup.sh test`) on Debian or Ubuntu.
# Does nothing, and needs neither root nor network, when everything is there.
set -euo pipefail

missing=()
need() { # check, package...
    if ! eval "$1" >/dev/null 2>&1; then missing+=("${@:2}"); fi
}

case ${1:-build} in
build)
    need 'command -v g++ && command -v make' build-essential
    need 'command -v curl' curl ca-certificates
    # RocksDB's bindings are generated with libclang, which needs its own headers as well.
    need 'ls /usr/lib/llvm-*/lib/libclang*.so*' libclang-dev
    need 'ls -d /usr/lib/llvm-*/lib/clang/*/include/stdbool.h' libclang-dev
    ;;
test)
    need 'command -v curl' curl ca-certificates
    need 'command -v jq' jq
    need 'python3 -c "import venv, ensurepip"' python3-venv
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac

if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "this is not Debian or Ubuntu; please install the counterparts of: ${missing[*]}" >&2
        exit 1
    fi
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq || { echo "apt-get update failed: is there a network?" >&2; exit 1; }
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ "${1:-build}" = build ] && ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    echo "installing a Rust toolchain with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
fi
