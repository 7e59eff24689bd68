"""Single starts: how long each phase takes, and the layers that stand under the workload."""

from __future__ import annotations
