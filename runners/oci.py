"""Runners of OCI runtimes: "crun", "runc", our own program "container-cold", and "oci" for any other by its path.

The last but one is ``tare-oci``, of which each start is a fresh Python. What they share, which is all, stands in
:mod:`runners.launch.oci_runtime`.
"""

from __future__ import annotations

from tare.runners.launch.oci_runtime import Oci

TARE = Oci("container-cold", typical_s=0.1, ours="tare-oci")
CRUN = Oci("crun", typical_s=0.05)
RUNC = Oci("runc", typical_s=0.1)
#: Any other: youki, Kata, or a second build of one of these.
ANY = Oci("oci", typical_s=0.1, asks=True)
