# The first process of a node's namespaces. Makes the node a root of its own: the machine's programs, read-only; /etc from a
# few of the machine's files and the node's own; /var on disk; everything else empty, and gone with the node.
set -eu
exec 3>"$READY"
echo "$NAME" >/proc/sys/kernel/hostname

mount -t tmpfs -o mode=755 tmpfs "$DATA/root"
cd "$DATA/root"
mkdir dev etc home mnt opt proc root run srv sys tmp usr var
chmod 1777 tmp
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then
        cp -P "/$name" "$name"
    elif [ -d "/$name" ]; then
        mkdir "$name"
        mount --rbind "/$name" "$name"
        mount -o remount,bind,ro "$name"
    fi
done
mount --rbind /usr usr
mount -o remount,bind,ro usr

mount --bind "$DATA/var" var
mkdir -p var/lib var/log var/tmp
chmod 1777 var/tmp
ln -sfn /run var/run
mount -t tmpfs -o mode=755 tmpfs run
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mkdir -p ".$PARTS"
mount --bind "$PARTS" ".$PARTS"
mount -o remount,bind,ro ".$PARTS"

for name in alternatives ethertypes group iproute2 ld.so.cache ld.so.conf ld.so.conf.d localtime nsswitch.conf os-release \
    passwd protocols services ssl; do
    if [ -e "/etc/$name" ]; then
        cp -a "/etc/$name" etc/
    fi
done
cp -R "$DATA/etc/." etc/
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id

# A kubelet sets these for the whole machine. It finds them set, and leaves the machine's alone.
mkdir etc/sysctl
set_here() {
    echo "$2" >"etc/sysctl/$1"
    mount --bind "etc/sysctl/$1" "proc/sys/$(echo "$1" | tr . /)"
}
set_here vm.overcommit_memory 1
set_here vm.panic_on_oom 0
set_here kernel.panic 10
set_here kernel.panic_on_oops 1
set_here kernel.keys.root_maxkeys 1000000
set_here kernel.keys.root_maxbytes 25000000

ip link set lo up
ip link add eth0 type veth peer name "$CABLE" netns control
ip address add "$ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"
ip -n control link set "$CABLE" master nodes up
ip -n control route add "$PODS" via "$ADDRESS"
echo 1 >/proc/sys/net/ipv4/ip_forward

mkdir machine
pivot_root . machine
cd /
umount -l /machine
rmdir /machine
mount --make-rshared /
trap 'exit 0' TERM
echo ready >&3
exec 3>&-
while :; do
    sleep 1000000 &
    wait $! || :
done
