#!/bin/busybox sh
# The guest's first steps: its root is the machine's, read-only, below a writable layer in memory
# that is forgotten with the guest.  Then guest.sh goes on there.
set -e
export PATH=/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /job /machine /guest /layer /root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done
mount_9p() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576,$3" "$1" "$2"; }
mount_9p machine /machine ro,cache=loose
mount_9p guest /guest ro,cache=loose
mount_9p job /job rw
mount -t tmpfs tmpfs /layer
mkdir /layer/upper /layer/work
project=$(cat /job/project)
mount -t overlay -o "lowerdir=/guest:/machine,upperdir=/layer/upper,workdir=/layer/work" overlay /root
mkdir -p /root/job
for each in proc sys dev job; do mount -o move "/$each" "/root/$each"; done
exec switch_root /root /bin/sh "$project/tests/vm/guest.sh" "$project"
