"""Changing moto: its classes are the only seam it has."""

from __future__ import annotations

from typing import Any


def replace(owner: type, name: str, implementation: Any) -> None:
    """Make `implementation` the attribute `name` of `owner`; raises when moto no longer has that attribute."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner.__name__}.{name} is gone from this version of moto")
    setattr(owner, name, implementation)


def add(owner: type, name: str, implementation: Any) -> None:
    """Give `owner` the attribute `name`; raises when moto has got one of its own."""
    if hasattr(owner, name):
        raise AttributeError(f"{owner.__name__}.{name} exists in this version of moto")
    setattr(owner, name, implementation)
