"""``python -m benchmarks [NAME ...]``: ask the named problems, print ratios, keep the JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.problems import PROBLEMS

RESULTS = Path(__file__).parent / "results"


def _processor() -> str:
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Ask, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROBLEMS))
    parser.add_argument("--size", type=int, default=512, help="pixels along a side of a tile")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    unknown = set(options.names) - set(PROBLEMS)
    if unknown:
        parser.error(f"no problem {', '.join(sorted(unknown))}; there are {', '.join(PROBLEMS)}")
    answers = []
    print("| problem | ratio | goal | of what | figures |\n|---|---|---|---|---|", flush=True)
    for name in options.names or PROBLEMS:
        answer = PROBLEMS[name].ask(options.size, options.rounds)
        answers.append(asdict(answer))
        figures = ", ".join(f"{key} {value:.4g}" for key, value in answer.figures.items())
        cells = name, f"{answer.ratio:.3f}", answer.goal, answer.question, figures
        print(f"| {' | '.join(cells)} |", flush=True)
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    record = {
        "date": now.date().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "command": f"python -m benchmarks --size {options.size} --rounds {options.rounds}",
        "answers": answers,
    }
    (RESULTS / f"{now:%Y-%m-%d}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
