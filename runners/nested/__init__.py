"""Containers inside a virtual machine: one machine by the runner ``vm``, in which a runtime starts several."""
