#!/bin/sh
# Becomes a machine: runs as the first process of new mount, host name, IPC and process-id namespaces.
#   boot.sh ROOT DISKS HOSTNAME UID GID PROGRAM [ARGUMENT...]
# ROOT is the directory tree that all machines of a cluster share, DISKS what belongs to this one alone (tmp, run, var).
# UID and GID are those of the login user; where we are not root they map to the user who started the region.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1 disks=$2 name=$3 uid=$4 gid=$5
shift 5

hostname "$name"
mount --rbind "$root" "$root"
for directory in usr bin sbin lib lib32 lib64 libx32; do
    if [ -d "$root/$directory" ] && [ ! -L "$root/$directory" ]; then
        mount --rbind "/$directory" "$root/$directory"
    fi
done
mount --rbind /etc "$root/.host/etc"
if [ -d "$root/opt/software" ]; then
    mount --rbind "$(readlink "$root/.host/software")" "$root/opt/software"
fi
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
for directory in tmp run var; do
    mount --rbind "$disks/$directory" "$root/$directory"
done
while read -r directory; do # mounts of their own, as FSx and NFS are on AWS
    mount --bind "$root/$directory" "$root/$directory"
done <"$root/.host/shared-storage"

cd "$root"
pivot_root . .
umount -l .
cd /
if [ "$(cat /proc/self/setgroups)" = deny ]; then # a user namespace: we are not really root
    exec unshare --user --map-user="$uid" --map-group="$gid" "$@"
fi
# A change of user clears the signal by which this machine dies with the region, so it is set again.
exec setpriv --pdeathsig KILL --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs "$@"
