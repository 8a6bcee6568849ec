"""Cut jobs short in every way and compare what they make in the end with jobs that were left alone.

    python benchmarks/faults.py [--only random,kill-points,names,memory] [--images 20000] [--kills 100] [--seed 0]

All parts run the tiny model of the tests:

    random       kills, full disks and other faults at random instants of jobs over many images (faults_random.py)
    kill-points  a kill before every file-system call of small jobs (kill_points.py)
    names        links, FIFOs and the like at every name that a command writes (faults_names.py)
    memory       too little memory (faults_memory.py)

A part that is left out keeps the figures of its last run. Writes benchmarks/results/faults.json and faults.md.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import load, machine, save
from faults_memory import limits
from faults_names import attacks
from faults_page import page, totals
from faults_random import random_faults
from kill_points_jobs import JOBS, count_survived


def kill_points(work: Path, step: int = 1) -> Iterator[dict[str, Any]]:
    """Kill each job of kill_points_jobs.py at every `step`-th call; yields a row for each, with old output or not."""
    folder = work / "kill-points"
    for name, entry in JOBS.items():
        for old in (True,) if entry.old_needed else (False, True):
            began = time.monotonic()
            tried, unusable = count_survived(folder, name, old=old, step=step)
            if len(unusable) > entry.most_unusable:
                raise RuntimeError(f"{name}: no whole output after a kill at the calls {unusable}")
            row = {"output": name, "old_output": old, "kill_points": tried, "survived": tried}
            seconds = round(time.monotonic() - began, 1)
            shutil.rmtree(folder)
            yield row | {"without_output_until_next_job": len(unusable), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts to run, by comma (default: all)")
    parser.add_argument("--images", type=int, default=20_000, help="for the part random")
    parser.add_argument("--kills", type=int, default=100, help="for each form of output, in the part random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.work:
        Path(arguments.work).mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="aekit-faults-", dir=arguments.work))
    images = arguments.images
    parts = {  # kill points first: they fork, which a process that has run the model must not do
        "kill_points": kill_points(work),
        "names": attacks(work),
        "memory": limits(work / "memory"),
        "random": random_faults(work / "random", images, arguments.kills, arguments.seed),
    }
    results = load("faults")
    wanted = arguments.only.replace("-", "_").split(",") if arguments.only else parts
    for part, made in parts.items():
        if part in wanted:
            rows = []
            for row in made:
                print(json.dumps(row), flush=True)
                rows.append(row)
            results[part] = {"rows": rows, "total": totals(rows), "machine": machine()}
            if part == "random":
                results[part]["facts"] = {"images": images}
            save("faults", results, page(results))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
