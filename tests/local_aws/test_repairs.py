"""Repairs of moto that no client sees unless two calls meet."""

from __future__ import annotations

import subprocess
import sys

from workshop import ROOT

TWO_ANSWERS = """
from moto.ec2.responses import EC2Response
from local_aws.repairs import install
install()
one, another = EC2Response(), EC2Response()
written = iter(another.RESPONSE_KEY_PATH_TO_TRANSFORMER.items())
next(written)
one._include_in_response("KeyPairs.KeyPair.PublicKey")
assert "KeyPairs.KeyPair.PublicKey" in one.RESPONSE_KEY_PATH_TO_TRANSFORMER
list(written)
print("both are written")
"""


def test_what_one_answer_says_of_itself_changes_no_other_that_is_being_written() -> None:
    """In a process of its own, for the tests' own moto stays as it is."""
    done = subprocess.run([sys.executable, "-c", TWO_ANSWERS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "both are written\n", done.stderr
