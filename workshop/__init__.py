"""Set-up, demo, tests and checks: what `make` calls. Nothing of it is part of the product."""

from pathlib import Path

#: The checkout. Everything that is made lies below its `.local/`.
ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
