"""Change one place of a module at a time (cosmic-ray), run its tests, and list the changes that no test notices.

    python tests/mutants.py stale_edge/paths.py --tests tests/test_paths.py [--most 40] [--seed 0]
    python tests/mutants.py --since "7 days ago"       # the files of stale_edge/ that were changed since then

The module is changed in place and put back after each run; one with changes that are not committed is refused.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 300


def changed_modules(since: str) -> list[str]:
    """List the modules of the package that commits changed, and that still exist."""
    command = ["git", "log", f"--since={since}", "--name-only", "--format=", "--", "stale_edge/*.py"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in set(names) if Path(name).exists() and not name.endswith("__init__.py"))


def tests_of(module: str) -> list[str]:
    """List the test files of the room that a module is in."""
    room = Path(module).parts[1].removesuffix(".py")
    return sorted(str(path) for path in Path("tests").glob(f"test_{room}*.py"))


def survivors(module: str, tests: Sequence[str], *, most: int, seed: int) -> tuple[int, list[str]]:
    """Run a sample of a module's mutants.

    Returns:
        Number of mutants that were run, and a text for each that lives: place and changed line.
    """
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", module], check=False).returncode:
        sys.exit(f"{module} has changes that are not committed; commit them first")
    with tempfile.TemporaryDirectory(prefix="mutants.") as folder:
        config, session = Path(folder) / "config.toml", Path(folder) / "session.sqlite"
        run_tests = json.dumps(f"{sys.executable} -m pytest -x -q -n 0 -p no:cacheprovider {' '.join(tests)}")
        config.write_text(
            f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {TIMEOUT_S}.0\nexcluded-modules = []\n'
            f'test-command = {run_tests}\n[cosmic-ray.distributor]\nname = "local"\n'
        )
        cosmic_ray = [sys.executable, "-m", "cosmic_ray.cli"]
        subprocess.run([*cosmic_ray, "init", str(config), str(session)], check=True)
        with use_db(str(session)) as database:
            jobs = [item.job_id for item in database.work_items]
            for job in random.Random(seed).sample(jobs, max(0, len(jobs) - most)):
                database.set_result(job, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
        try:
            subprocess.run([*cosmic_ray, "exec", str(config), str(session)], check=True)
        finally:
            subprocess.run(["git", "checkout", "--quiet", "--", module], check=True)
        dump = subprocess.run([*cosmic_ray, "dump", str(session)], check=True, capture_output=True, text=True).stdout
    lives, n_run = [], 0
    for item, result in map(json.loads, dump.splitlines()):
        if result is None or result["worker_outcome"] == WorkerOutcome.SKIPPED:
            continue
        n_run += 1
        if result["test_outcome"] == "survived":
            changed = [
                line
                for line in (result["diff"] or "").splitlines()
                if line[:1] in "+-" and line[:3] not in ("+++", "---")
            ]
            at = item["mutations"][0]["start_pos"][0]
            lives.append(f"{module}:{at}: {' -> '.join(line[1:].strip() for line in changed)}")
    return n_run, lives


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--tests", nargs="+", default=[], help="test files; those of the module's room unless given")
    parser.add_argument("--since", default="", help="take the modules that were changed since then")
    parser.add_argument("--most", type=int, default=40, help="mutants of a module, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for module in arguments.modules or changed_modules(arguments.since or "7 days ago"):
        tests = arguments.tests or tests_of(module)
        if not tests:
            print(f"{module}: no test file is called after its room")
            continue
        n_run, lives = survivors(module, tests, most=arguments.most, seed=arguments.seed)
        print(f"{module}: {n_run} mutants, {len(lives)} live", *lives, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
