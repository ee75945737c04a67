"""All checks that need no test: `make check`. All run, each tells its seconds; the exit code counts the failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workshop import ROOT
from workshop.stopwatch import Stopwatch

BIN = Path(sys.executable).parent
#: Hashes of packages, and captured output of programs: full of what looks like a secret.
NOT_OURS = r"\.lock$|^tests/(\w+/)?data/"


def files_of_the_project() -> list[str]:
    """Return what is in the repository or would be with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def checks() -> dict[str, list[str]]:
    """Return the commands by their names."""
    python = sys.executable
    return {
        "lint": [f"{BIN}/ruff", "check", "--quiet", "."],
        "format": [f"{BIN}/ruff", "format", "--check", "--quiet", "."],
        "types": [
            f"{BIN}/mypy",
            "--no-error-summary",
            "plugins/hpc",
            "local_aws",
            "workshop",
            "dags",
            "chaos",
            "benchmarks",
        ],
        "schema of simulations": [python, "-m", "workshop.schema", "--check"],
        "links of the pages": [python, "-m", "workshop.docs_links"],
        "secrets": [f"{BIN}/detect-secrets-hook", "--exclude-files", NOT_OURS, *files_of_the_project()],
    }


def main() -> int:
    """Run the checks that are named on the command line, or all, and print what the failing ones say."""
    watch = Stopwatch()
    commands = checks()
    failed = []
    for name in sys.argv[1:] or commands:
        with watch.part(name):
            done = subprocess.run(
                commands[name], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
        if done.returncode != 0:
            failed.append(name)
            print(done.stdout)
    print(f"Failed: {', '.join(failed)}" if failed else "All checks passed.")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
