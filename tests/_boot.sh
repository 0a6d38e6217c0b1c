# Boot systemd in a root folder of its own:  unshare --mount --pid --fork … sh _boot.sh ROOT [SOURCE TARGET rw|ro]…
# Nothing of the system outside is its own: a new /dev, /run, /tmp, /proc, /sys, and a cgroup hierarchy that ends with it.
set -e
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
while [ $# -gt 0 ]; do
    case $2 in
    /dev | /proc) ;;
    *)
        mount --bind "$1" "$root$2"
        [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
        ;;
    esac
    shift 3
done
mkdir -p "$root/sys" "$root/dev" "$root/old"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
ip link set lo up
mount --make-rprivate "$root"
cd "$root"
pivot_root . old
umount -l /old
# Credentials are mounted by a child, and have to be seen by its parent.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin SYSTEMD_UNIT_PATH=/etc/systemd/test /lib/systemd/systemd \
    --system --unit=test.target --log-target=console --show-status=no
