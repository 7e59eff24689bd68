#!/bin/sh
# tare-oci, as it is installed: start Python without its site module (3 ms) and run the package's own front door.
# A console script made by an installer would import site, re and the table of all runners first: some 30 ms more.
# -X utf8: configurations are UTF-8, whatever the caller's locale.
here=$0
while [ -L "$here" ]; do
    link=$(readlink "$here")
    case $link in
        /*) here=$link ;;
        *) here=${here%/*}/$link ;;
    esac
done
bin=${here%/*}
if [ -x "$bin/python3" ]; then
    # Beside the interpreter of a virtual environment. An editable installation is one line in a .pth file.
    for lib in "$bin"/../lib/python3*/site-packages; do
        main=$lib/tare/runners/container/__main__.py root=
        if [ ! -f "$main" ] && [ -f "$lib/_tarebench.pth" ]; then
            read -r root <"$lib/_tarebench.pth" || : # the line has no end
            main=$root/runners/container/__main__.py
        fi
        [ -f "$main" ] && exec "$bin/python3" -I -S -X utf8 "$main" "$@"
    done
fi
# Installed into the system's Python: it knows where.
exec python3 -X utf8 -m tare.runners.container "$@"
