"""A container's network: interfaces, addresses and their leases, address translation."""
