"""One root filesystem, many shapes: a directory, an initramfs, a guest kernel beside it; all cached by digest."""
