# What a machine runs until its end: it makes room for containers, and says that they may come.
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/kit /run/image /run/containers
mount -t ext4 -o ro /dev/vdb /run/kit
mount -t ext4 -o ro /dev/vdc /run/image
mount -t cgroup2 cgroup2 /sys/fs/cgroup
read -r controllers </sys/fs/cgroup/cgroup.controllers
for one in $controllers; do
    echo "+$one" >/sys/fs/cgroup/cgroup.subtree_control
done
echo "tare ready"
exec sleep infinity
