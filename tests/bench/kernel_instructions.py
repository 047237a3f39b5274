#!/usr/bin/env python3
"""Counts the instructions of the CPU kernels with callgrind and holds them against a committed list.

usage: kernel_instructions.py PROGRAM BASELINE [--write]

Each line of the list is "KERNEL ISA INSTRUCTIONS". A count outside 3 % of its line fails, in either
direction: what became cheaper belongs into the list too (--write). Valgrind 3.19 has no AVX-512, so
those kernels are not counted here. Counts are of one compiler (g++ 12, RelWithDebInfo).
"""
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

BAND = 0.03
COLLECTED = re.compile(r"Collected : (\d+)")


def count(program: str, kernel: str, isa: str) -> int:
    run = subprocess.run(
        ["valgrind", "--tool=callgrind", "--toggle-collect=measured",
         "--callgrind-out-file=/dev/null", program, kernel, isa],
        capture_output=True, text=True, check=False)
    found = COLLECTED.search(run.stderr)
    if run.returncode != 0 or not found or int(found.group(1)) == 0:
        sys.exit(f"{kernel} {isa}: no count (exit code {run.returncode})\n{run.stderr}")
    return int(found.group(1))


def main() -> int:
    program, baseline = sys.argv[1:3]
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed: ci/setup installs it")
    with open(baseline, encoding="utf-8") as file:
        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
    if not lines:
        sys.exit(f"{baseline} lists no kernel")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(lambda line: count(program, line[0], line[1]), lines))
    if sys.argv[3:] == ["--write"]:
        with open(baseline, encoding="utf-8") as file:
            comments = [line for line in file if line.startswith("#")]
        with open(baseline, "w", encoding="utf-8") as file:
            file.writelines(comments)
            for line, found in zip(lines, counts):
                file.write(f"{line[0]} {line[1]} {found}\n")
        return 0
    failed = 0
    for (kernel, isa, expected), found in zip(lines, counts):
        change = found / int(expected) - 1
        outside = not abs(change) <= BAND
        failed += outside
        print(f"{'FAIL' if outside else 'ok  '} {kernel} {isa}: {found} instructions, "
              f"listed {expected} ({change:+.2%}, band {BAND:.0%})")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
