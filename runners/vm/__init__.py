"""Virtual machines by libvirt: the backend and its parts (domain, guest, acceleration, connection, leftovers)."""
