# remove PLACE [all]: remove what a start made. With "all" its runtime was killed, and what that left is killed and removed.
own=/run/containers/$1
group=/sys/fs/cgroup/$1
tries=100
if [ "$2" = all ]; then
    # The machine's init kills it, too, when it hears that the host has gone; until then it could make something.
    if read -r monitor <"$own/monitor"; then
        kill -9 "$monitor"
        while kill -0 "$monitor" && [ $tries -gt 0 ]; do
            sleep 0.05
            tries=$((tries - 1))
        done
    fi 2>/dev/null
    [ ! -d "$group" ] || echo 1 >"$group/cgroup.kill"
    @DELETE@ >/dev/null 2>&1 || :
fi
until umount "$own/rootfs" 2>/dev/null; do
    grep -q " $own/rootfs " /proc/mounts || break
    if [ $tries -le 0 ]; then
        echo "$own/rootfs is in use" >&2
        exit 1
    fi
    sleep 0.05
    tries=$((tries - 1))
done
rm -rf "$own"
# podman removes its own cgroups, and not the one that they are in.
[ ! -d "$group" ] || rmdir "$group"/*/ "$group" 2>/dev/null || rmdir "$group"
