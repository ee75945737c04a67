from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from workshop import ROOT, schema

SIMULATIONS = sorted((ROOT / "config" / "simulations").glob("*.yaml"))
MODELINE = "# yaml-language-server: $schema="


@pytest.mark.parametrize("file", SIMULATIONS, ids=lambda file: file.stem)
def test_an_editor_finds_the_schema_and_has_nothing_to_underline(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix(MODELINE)

    assert (file.parent / named).resolve() == schema.FILE
    jsonschema.validate(yaml.safe_load(text), json.loads(schema.FILE.read_text(encoding="utf-8")))


def test_an_editor_underlines_a_key_that_is_misspelled() -> None:
    simulation = yaml.safe_load(SIMULATIONS[0].read_text(encoding="utf-8"))

    with pytest.raises(jsonschema.ValidationError, match="walltimes"):
        jsonschema.validate(
            simulation | {"resources": {"walltimes": "01:00:00"}}, json.loads(schema.FILE.read_text(encoding="utf-8"))
        )
