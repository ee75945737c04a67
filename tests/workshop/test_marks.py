from __future__ import annotations

import pytest

from workshop import marks

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.fixture
def {fixture}(): ...

@pytest.fixture
def built_on_it({fixture}): ...

def test_with_the_server({fixture}): ...

def test_with_what_is_built_on_it(built_on_it): ...

def test_alone(): ...
"""


@pytest.mark.parametrize(("fixture", "marker"), marks.MARKERS.items())
def test_a_test_that_uses_a_server_can_be_left_out(pytester: pytest.Pytester, fixture: str, marker: str) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(TESTS.format(fixture=fixture))
    result = pytester.runpytest_inprocess("-p", "workshop.marks", "-v", "-m", f"not {marker}")

    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["*::test_alone PASSED*"])
