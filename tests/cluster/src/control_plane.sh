# The first process of the control plane's namespaces. The machine's file system is as it is, but for /run.
set -eu
exec 4<&0 </dev/null
mount -t tmpfs -o mode=755 tmpfs /run
# The nodes' scripts find this network by its name.
mkdir /run/netns
touch /run/netns/control
mount --bind /proc/self/ns/net /run/netns/control

ip link set lo up
ip link add nodes type bridge
ip link set nodes up
ip address add "$ADDRESS/24" dev nodes
ip address add "$API_SERVICE/32" dev nodes
echo 1 >/proc/sys/net/ipv4/ip_forward

# The other end of this pipe closes when the cluster's owner ends, however it ends.
if [ "$WITH_OWNER" = true ]; then
    (cat <&4 >/dev/null; kill -TERM 1) &
fi
exec 4<&-
trap 'exit 0' TERM
echo ready >"$READY"
while :; do
    sleep 1000000 &
    wait $! || :
done
