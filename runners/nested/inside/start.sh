# start PLACE: a private root, and in it a container, whose runtime stays in the foreground as its monitor.
set -e
own=/run/containers/$1
mkdir -p "$own/upper" "$own/work" "$own/rootfs"
echo $$ >"$own/monitor"
mount -t overlay -o "lowerdir=/run/image,upperdir=$own/upper,workdir=$own/work" overlay "$own/rootfs"
exec @RUN@
