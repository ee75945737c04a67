from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.errors import ConfigurationError
from hpc.head_node.shell import quote

ARGUMENT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


@given(st.lists(ARGUMENT, max_size=5))
def test_a_shell_splits_it_back(arguments: list[str]) -> None:
    command = quote(["printf", r"%s\0", *arguments])
    printed = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout.decode()
    assert printed.split("\0")[:-1] == (arguments or [""])


def test_nul_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NUL"):
        quote(["echo", "a\0b"])
