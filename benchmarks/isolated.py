"""Calling a function in a process of its own, so that a crash or a hang ends nothing else."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def call_isolated(function: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
    """Calls a function in a new process with one thread.

    Args:
        function: `module:name` of a function in this folder that returns a dict of JSON values.
        timeout: Seconds after which the process is ended.
        arguments: JSON values, given by keyword.

    Returns:
        What it returned, or `{"error": ...}` with the last line of what went wrong; with the
        `wall_seconds` of the whole process.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, function, json.dumps(arguments), str(result)]
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, timeout=timeout, env=threads, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            found: dict[str, Any] = {"error": f"not done after {timeout:g} s"}
        else:
            if result.is_file():
                found = json.loads(result.read_text(encoding="utf-8"))
            else:
                lines = [line for line in done.stderr.splitlines() if line.strip()]
                found = {"error": (lines or [f"exit code {done.returncode}"])[-1]}
    return {**found, "wall_seconds": round(time.perf_counter() - start, 1)}


def _child() -> None:
    module, _, name = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _child()
