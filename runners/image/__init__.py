"""The root filesystem in several forms (directory, initramfs) and the guest kernel, cached by digest."""
