#!/usr/bin/env bash
# Makes .build/vm from Debian packages that it unpacks and does not install, so that the machine
# stays as it is:
#   emulator/   qemu, on bookworm from its backports
#   guest/      the kernel's modules, kmod and iw, laid over the machine's root in the guest
#   kernel, initramfs, release
# Does nothing twice.
set -euo pipefail

cd "$(dirname "$0")/../.."
here=tests/vm
vm=.build/vm

say() { printf 'setup: %s\n' "$*"; }

fail() {
    say "$*; VM=no skips the tests in the virtual machine"
    exit 1
}

# --- packages --------------------------------------------------------------------------------

# apt with sources, lists and archives of its own, and the machine's knowledge of what is installed.
apt=$PWD/$vm/apt
apt_here() {
    local tool=$1
    shift
    "$tool" -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/sources" \
        -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" \
        -o APT::Sandbox::User=root "$@"
}

# The Debian archives that the machine has: address and release.
archives() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' \
        'Component: main' | sort -u
}

write_sources() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed="" uri release
    [ ! -e "$keyring" ] || signed="[signed-by=$keyring]"
    mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/cache/archives/partial"
    archives | while read -r uri release; do
        echo "deb $signed $uri $release main"
        # Its own qemu has no igb.
        [ "$release" != bookworm ] || echo "deb $signed $uri bookworm-backports main"
    done >"$apt/sources/debian.list"
    [ -s "$apt/sources/debian.list" ] || fail "the machine has no Debian archive among its sources"
}

pinned() { sed -n "s/^\($1[^ ]*\) \(.*\)/\1=\2/p" "$here/versions"; }

available() { [ -n "$(apt_here apt-cache show "$1" 2>/dev/null)" ]; }

kernel_package() {
    local wanted newest
    wanted=$(pinned linux-image)
    if available "$wanted"; then
        echo "$wanted"
        return
    fi
    newest=$(apt_here apt-cache pkgnames linux-image-6.12 |
        grep -E '^linux-image-6\.12\.[0-9]+[^-]*-amd64$' | sort -V | tail -n 1)
    [ -n "$newest" ] || fail "the mirror has no Linux 6.12"
    say "$wanted is not on the mirror any more: taking $newest" >&2
    echo "$newest"
}

# Unpack what was downloaded.  Usage: unpack DIRECTORY
unpack() {
    local package each
    rm -rf "$1"
    # Debian's packages still write to /lib and /bin, which are links on the machine.
    for each in bin sbin lib; do
        mkdir -p "$1/usr/$each"
        ln -s "usr/$each" "$1/$each"
    done
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$1"
        rm "$package"
    done
    rm -rf "$1"/{bin,sbin,lib,etc,var} "$1/usr/share/doc"
}

# Packages, and those that they need and the machine lacks.  Usage: download [APT OPTION ...] PACKAGE ...
download() {
    apt_here apt-get install --yes --download-only --reinstall --no-install-recommends "$@" >/dev/null
}

unpack_emulator() {
    local wanted from=()
    wanted=$(pinned qemu-system-x86)
    ! grep -q bookworm-backports "$apt/sources/debian.list" || from=(--target-release bookworm-backports)
    if ! available "$wanted"; then
        say "$wanted is not on the mirror any more: taking the newest"
        wanted=qemu-system-x86
    fi
    say "fetching $wanted"
    download "${from[@]}" "$wanted" qemu-system-common qemu-system-data seabios
    unpack "$vm/emulator"
    emulator -device help | grep -q '"igb"' || fail "this qemu is too old to emulate an igb"
}

# --- what is booted --------------------------------------------------------------------------

emulator() {
    LD_LIBRARY_PATH=$vm/emulator/usr/lib/x86_64-linux-gnu "$vm/emulator/usr/bin/qemu-system-x86_64" "$@"
}

# One of kmod's commands, on the guest's modules.
kmod() (
    export LD_LIBRARY_PATH=$vm/guest/usr/lib/x86_64-linux-gnu
    exec -a "$1" "$vm/guest/usr/bin/kmod" "${@:2}"
)

unpack_kernel() {
    local package
    package=$(kernel_package)
    say "fetching $package"
    download kmod libkmod2 iw
    (cd "$apt/cache/archives" && apt_here apt-get download "$package") # its initramfs-tools are not needed
    unpack "$vm/guest"
    mv "$vm"/guest/boot/vmlinuz-* "$vm/kernel"
    rm -rf "$vm/guest/boot"
    basename "$vm"/guest/usr/lib/modules/* >"$vm/release"
    kmod depmod --basedir "$vm/guest/usr" "$(cat "$vm/release")"
}

# The modules that it takes to reach the root, in the order of loading.
modules_of_the_root() {
    local name
    for name in 9pnet_virtio 9p overlay; do
        kmod modprobe --dirname "$vm/guest/usr" --set-version "$(cat "$vm/release")" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

make_initramfs() {
    local tree number=10 module
    tree=$(mktemp -d)
    mkdir "$tree/bin" "$tree/modules"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    install -m 755 "$here/initramfs.sh" "$tree/init"
    while read -r module; do
        busybox unxz -c "$module" >"$tree/modules/$number.ko" 2>/dev/null || cp "$module" "$tree/modules/$number.ko"
        number=$((number + 1))
    done < <(modules_of_the_root)
    (cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null) >"$vm/initramfs"
    rm -rf "$tree"
}

sum=$(cat "$here/setup.sh" "$here/versions" "$here/initramfs.sh" | sha256sum)
[ "$(cat "$vm/stamp" 2>/dev/null)" != "$sum" ] || exit 0
[ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null || fail "the virtual machine needs Debian on x86-64"
mkdir -p "$vm"
rm -f "$vm/stamp"
say "making a virtual machine in $vm"
apt-get update -qq
write_sources
apt_here apt-get update
unpack_emulator
unpack_kernel
make_initramfs
rm -rf "$apt"
printf '%s\n' "$sum" >"$vm/stamp"
