"""The cores that a process may use: its affinity, and the limits of control groups of both versions."""

import math
from pathlib import Path

import pytest

from aekit.cores import cores, quota


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "0::/user/job\n"
V1 = "4:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        (V2, {"user/job/cpu.max": "150000 100000"}, 1.5),
        (V2, {"user/job/cpu.max": "max 100000", "user/cpu.max": "50000 100000"}, 0.5),
        (V2, {"cpu.max": "200000 100000"}, 2.0),  # a container sees its own group as the root
        (V2, {"user/job/cpu.max": "max 100000"}, math.inf),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "150000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 1.5),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        (V2, {"user/job/cpu.max": "nonsense"}, math.inf),
    ],
)
def test_a_quota_is_the_least_of_all_groups(tmp_path: Path, lines: str, files: dict[str, str], expected: float) -> None:
    membership = written(tmp_path, {"membership": lines}) / "membership"
    assert quota(written(tmp_path / "groups", files), membership) == expected


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert quota(tmp_path, tmp_path / "none") == math.inf
    assert 1 <= cores() <= 4096
