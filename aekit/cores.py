"""How many processor cores this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups, which limit containers and services."""
_MEMBERSHIP = Path("/proc/self/cgroup")
"""Where Linux names the control groups of this process."""


def cores() -> int:
    """Return the number of cores: those of the process's affinity, or the limit of its control groups if that is less.

    A limit of 1.5 cores counts as 2.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, quota())))


def quota(groups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float:
    """Return the number of cores whose time the control groups allow: infinity without a limit, and outside Linux."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    return min(_limits(groups, lines), default=math.inf)


def _limits(groups: Path, lines: list[str]) -> Iterator[float]:
    """Yield the limits of the groups that these lines name, and of their parents. A container sees only some."""
    for line in lines:
        _, controllers, name = line.split(":", 2)
        root = groups if not controllers else groups / "cpu" if "cpu" in controllers.split(",") else None
        inside = PurePosixPath(name.lstrip("/"))
        for folder in (inside, *inside.parents) if root else ():
            assert root is not None
            try:
                if controllers:  # version 1 of control groups: -1 is no limit
                    allowed = (root / folder / "cpu.cfs_quota_us").read_text().strip()
                    period = (root / folder / "cpu.cfs_period_us").read_text()
                else:
                    allowed, period = (root / folder / "cpu.max").read_text().split()
                if allowed not in ("max", "-1"):
                    yield int(allowed) / int(period)
            except (OSError, ValueError):
                continue  # not visible from here, or not limited
