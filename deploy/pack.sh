#!/usr/bin/env bash
# Packs a static binary into an image: pack.sh BINARY [TAG]. Uses docker, podman or buildah, whichever is there;
# ENGINE="podman --root /x" names another, with its own options.
set -euo pipefail
binary=${1:?usage: pack.sh BINARY [TAG]}
tag=${2:-trilobite}
here=$(cd "$(dirname "$0")" && pwd)

# An image on scratch has no loader: a binary that asks for one would not start.
if command -v readelf >/dev/null && readelf -l "$binary" | grep -q INTERP; then
    echo "$binary is linked dynamically; \`make static\` builds one that is not" >&2
    exit 1
fi
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
if [ ! -r "$certificates" ]; then
    echo "$certificates is missing: install ca-certificates, or set SSL_CERT_FILE" >&2
    exit 1
fi
if [ -z "${ENGINE:-}" ]; then
    for ENGINE in docker podman buildah; do
        if command -v "$ENGINE" >/dev/null; then break; fi
    done
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/data"
cp "$certificates" "$context/ca-certificates.crt"
cp "$binary" "$context/trilobite"
chmod 755 "$context/trilobite"
read -ra engine <<<"$ENGINE"
options=()
# Only Docker's format has health checks, and these two ask for another one by default.
case $(basename "${engine[0]}") in
podman | buildah) options=(--format docker) ;;
esac
"${engine[@]}" build "${options[@]}" --target packed -t "$tag" -f "$here/Dockerfile" "$context"
