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
    sum=$(cd "$source" && find . -type f -print0 | sort -z | xargs -0 cat | cksum)
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

# Prometheus, from its Go modules and without the discovery that no test asks for.
if command -v go >/dev/null; then
    GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED=0 \
        make_once prometheus "$here/prometheus" go build -tags remove_all_sd -trimpath -ldflags='-s -w' \
        -o "$dir/prometheus" github.com/prometheus/prometheus/cmd/prometheus
else
    echo "no go: Prometheus' tests will not run" >&2
fi

# A page with the OpenTelemetry SDK for browsers, from npm's packages.
bundle() {
    local work
    work=$(mktemp -d) || return
    cp package.json package-lock.json page.js "$work" || return
    (
        cd "$work" || exit
        npm ci --no-audit --no-fund --ignore-scripts && mkdir "$dir/browser" &&
            npm run --silent bundle >"$dir/browser/page.js" &&
            printf '<!doctype html><meta charset=utf-8><title>page</title><script src=page.js></script>\n' >"$dir/browser/index.html"
    )
    local status=$?
    rm -rf "$work"
    return $status
}
if command -v npm >/dev/null; then
    export -f bundle
    export dir
    make_once browser "$here/browser" bash -c bundle
else
    echo "no npm: the browser's test will not run" >&2
fi

# Debian's node_exporter, unpacked and not installed: nothing is started but by its test.
unpack_node_exporter() {
    local work
    work=$(mktemp -d) || return
    (cd "$work" && apt-get download prometheus-node-exporter && dpkg -x ./*.deb tree &&
        cp tree/usr/bin/prometheus-node-exporter "$dir/node_exporter")
    local status=$?
    rm -rf "$work"
    return $status
}
if command -v apt-get >/dev/null; then
    export -f unpack_node_exporter
    export dir
    make_once node_exporter "$(mktemp -d)" bash -c unpack_node_exporter
else
    echo "no apt-get: node_exporter's test will not run" >&2
fi
exit 0
