#!/bin/sh
# The guest's first process on its root.  Makes a node of it, makes /job/begun, runs /job/command with
# its output on the first port, leaves the exit code in /job/code and switches the machine off.
cd "$1" || exit
PATH=$(cat /job/path)
export PATH HOME=/root PYTHONUNBUFFERED=1 TESTS_PATIENCE=10

mkdir -p /dev/pts /dev/shm /var/lib/containerd
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/containerd # overlayfs wants no other below it
mount -t bpf bpf /sys/fs/bpf
mkdir -p /run/netns /run/lock
ip link set lo up
# Without duplicate address detection a link is settled as soon as it is set.
echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
# There is no udev to find drivers for the network cards.
for device in /sys/bus/pci/devices/*; do
    case $(cat "$device/class") in 0x02*) modprobe -b "$(cat "$device/modalias")" ;; esac
done
modprobe -a virtio_net igbvf vfio-pci tun # makes /dev/net/tun as well

: >/job/begun
sh /job/command </dev/null >"$(echo /dev/vport*p1)" 2>&1
echo $? >/job/code
busybox poweroff -f
