"""Resolve the requirements and write the locks: `make lock`. No address of a package index gets into them."""

from __future__ import annotations

import os
import subprocess
import sys

from workshop import ROOT, setup

#: Which requirements become which lock, for the oldest Python that it has to install on. The order matters: the
#: development environment is what a deployer has, and more.
LOCKS = (
    ("requirements.txt", "requirements.lock", "3.11", ()),
    ("requirements-dev.in", "requirements-dev.lock", "3.11", ("-c", "requirements.lock")),
    ("requirements-parallelcluster.in", "requirements-parallelcluster.lock", "3.10", ()),
    ("workshop/requirements-tools.in", "workshop/requirements-tools.lock", "3.11", ()),
    ("benchmarks/requirements-export.in", "benchmarks/requirements-export.lock", "3.11", ()),
)
ONE_SITE_ONLY = ("UV_INDEX", "UV_FIND_LINKS", "UV_INDEX_STRATEGY")


def compile_command(source: str, lock: str, python: str, constraints: tuple[str, ...]) -> list[str]:
    """Return the command that writes one lock; what is in the old lock stays as far as it can."""
    options = (
        "--universal",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--no-header",
        "--quiet",
    )
    return [str(setup.UV), "pip", "compile", *options, "--python-version", python, *constraints, source, "-o", lock]


def main() -> int:
    """Write all locks."""
    told = setup.uv_environment(setup.pip_settings(), os.environ)
    # Extra indexes hold what one site has built: a lock is for everybody.
    environment = os.environ | {name: value for name, value in told.items() if name not in ONE_SITE_ONLY}
    for lock in LOCKS:
        print(f"{lock[0]} -> {lock[1]}", flush=True)
        subprocess.run(compile_command(*lock), cwd=ROOT, env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
