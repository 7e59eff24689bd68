#!/bin/sh
# tare, as it is installed: start Python with the signals that end a command blocked. A tenth of a second passes until
# tare's own handlers are there; Python's would answer a Ctrl-C meanwhile with a traceback. tare.main unblocks them.
# -P: a directory that happens to hold a bench/ is none of ours.
trap 'exit 130' INT TERM HUP
here=$0
while [ -L "$here" ]; do
    link=$(readlink "$here")
    case $link in
        /*) here=$link ;;
        *) here=${here%/*}/$link ;;
    esac
done
python=${here%/*}/python3
[ -x "$python" ] || python=python3 # installed into the system's Python
blocking="--block-signal=INT --block-signal=TERM --block-signal=HUP"
# shellcheck disable=SC2086
if env $blocking true 2>/dev/null; then # GNU's, from coreutils 8.31
    exec env $blocking "$python" -P -m tare "$@"
fi
exec "$python" -P -m tare "$@"
