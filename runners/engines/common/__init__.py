"""What engines share: a place, a daemon, a client that stays attached, a cgroup of ours, an image's init."""
