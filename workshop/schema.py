"""The JSON Schema of a simulation file, for editors: `python -m workshop.schema` writes it, `--check` compares."""

from __future__ import annotations

import json
import sys

from workshop import ROOT

FILE = ROOT / "config" / "schema" / "simulation.schema.json"


def schema_text() -> str:
    """Return the schema of the model as it is now."""
    sys.path.insert(0, str(ROOT / "plugins"))
    from hpc.config import SimulationConfig

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SimulationConfig.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the file."""
    text = schema_text()
    if "--check" not in sys.argv:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text, encoding="utf-8")
        return 0
    if FILE.exists() and FILE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{FILE.relative_to(ROOT)} is not what the model says. Write it anew with: python -m workshop.schema")
    return 1


if __name__ == "__main__":
    sys.exit(main())
