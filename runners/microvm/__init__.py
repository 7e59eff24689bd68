"""Virtual machines by small monitors, which emulate next to nothing: Firecracker, Cloud Hypervisor."""
