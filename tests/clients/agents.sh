#!/usr/bin/env bash
# Builds the programs of others that tests run, into DIR: agents.sh DIR. Each is built once for what it is made of; one that
# cannot be had here is named, and its tests say that they were not run.
set -uo pipefail
dir=${1:?usage: agents.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir"
export PATH=$PATH:/usr/local/go/bin

# make_once NAME SOURCE-FOLDER COMMAND...: runs the command in the folder unless its result for these sources is there.
make_once() {
    local name=$1 source=$2 sum
    shift 2
    sum=$(cd "$source" && find . -type f -not -path './node_modules/*' -print0 | sort -z | xargs -0 cat | cksum)
    [ -e "$dir/$name" ] && [ "$(cat "$dir/$name.sum" 2>/dev/null)" = "$sum" ] && return
    echo "building $name"
    rm -rf "${dir:?}/$name"
    if (cd "$source" && timeout 900 "$@") >"$dir/$name.log" 2>&1; then
        echo "$sum" >"$dir/$name.sum"
    else
        echo "$name cannot be built here ($dir/$name.log); its tests will not run" >&2
        rm -rf "${dir:?}/$name"
    fi
}

# The OpenTelemetry Collector, from its Go modules.
if command -v go >/dev/null; then
    GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED=0 \
        make_once collector "$here/collector" go build -trimpath -ldflags='-s -w' -o "$dir/collector" .
else
    echo "no go: the Collector's tests will not run" >&2
fi
exit 0
