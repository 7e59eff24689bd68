# stop PLACE: kill the first process of the container. Fails where there is none yet, or none any more.
read -r pid <"/run/containers/$1/pid"
kill -9 "$pid"
