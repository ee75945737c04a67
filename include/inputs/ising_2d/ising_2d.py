"""The two-dimensional Ising model round its phase transition: Metropolis sweeps over a checkerboard, one node.

Units: the coupling and Boltzmann's constant are one, so a temperature is a number. In an infinite lattice the spins
lose their common direction at ``CRITICAL_TEMPERATURE`` exactly (Onsager 1944). Every temperature is a calculation of
its own with a random stream of its own: the result does not depend on how many processes share the work.

Runs on Python 3.9, the interpreter of Amazon Linux 2023, so it stays with that language.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

CRITICAL_TEMPERATURE = 2.0 / math.log(1.0 + math.sqrt(2.0))

SETTLING = 1.0 / 3.0
"""Share of the sweeps that lead to equilibrium and are not measured."""


@dataclass(frozen=True)
class Measurement:
    """Means per spin at one temperature; ``lattice`` is the last configuration of spins, +1 and -1."""

    temperature: float
    magnetisation: float
    magnetisation_error: float
    energy: float
    susceptibility: float
    lattice: np.ndarray


def checkerboard(size: int) -> np.ndarray:
    """Return the mask of the even cells: no two of them are neighbours, so they may turn at the same time."""
    rows, columns = np.indices((size, size))
    return (rows + columns) % 2 == 0


def neighbour_sum(spins: np.ndarray) -> np.ndarray:
    """Return for every spin the sum of its four neighbours; the lattice is periodic."""
    vertical = np.roll(spins, 1, axis=0) + np.roll(spins, -1, axis=0)
    return vertical + np.roll(spins, 1, axis=1) + np.roll(spins, -1, axis=1)


def sweep(spins: np.ndarray, even: np.ndarray, temperature: float, random: np.random.Generator) -> None:
    """Offer every spin one turn, in place: first the even cells, then the odd ones."""
    # Half the energy that a turn costs is spin times neighbour sum, from -4 to 4: entry 0 to 8 of the table.
    acceptance = np.exp(-2.0 * np.arange(-4, 5) / temperature).astype(np.float32)
    for colour in (even, ~even):
        cost = spins * neighbour_sum(spins)
        turning = colour & (random.random(spins.shape, dtype=np.float32) < acceptance[cost + 4])
        spins[turning] *= -1


def simulate(size: int, sweeps: int, seed: int, temperature: float) -> Measurement:
    """Measure one temperature, beginning with all spins up."""
    random = np.random.default_rng((seed, round(temperature * 1e6)))
    spins = np.ones((size, size), dtype=np.int8)
    even = checkerboard(size)
    magnetisations, energies = [], []
    for number in range(sweeps):
        sweep(spins, even, temperature, random)
        if number >= sweeps * SETTLING:
            magnetisations.append(abs(float(spins.mean())))
            energies.append(-0.5 * float((spins * neighbour_sum(spins)).mean()))
    m = np.array(magnetisations)
    return Measurement(
        temperature=temperature,
        magnetisation=float(m.mean()),
        magnetisation_error=blocked_error(m),
        energy=float(np.mean(energies)),
        susceptibility=float(size**2 * m.var() / temperature),
        lattice=spins,
    )


def blocked_error(series: np.ndarray, blocks: int = 10) -> float:
    """Return the standard error of the mean of a correlated series, from the means of its blocks."""
    means = [block.mean() for block in np.array_split(series, min(blocks, len(series)))]
    return float(np.std(means, ddof=1) / math.sqrt(len(means))) if len(means) > 1 else 0.0


def write_results(directory: Path, measurements: list[Measurement]) -> None:
    """Write ``magnetisation.csv`` and the last lattices, ``lattices.npz``."""
    with (directory / "magnetisation.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("temperature", "magnetisation", "magnetisation_error", "energy", "susceptibility"))
        for one in measurements:
            numbers = (one.temperature, one.magnetisation, one.magnetisation_error, one.energy, one.susceptibility)
            rows.writerow(f"{number:.6f}" for number in numbers)
    np.savez_compressed(
        directory / "lattices.npz",
        temperatures=np.array([one.temperature for one in measurements]),
        lattices=np.stack([one.lattice for one in measurements]),
    )


def print_numbers(one: Measurement) -> None:
    """Print what a point of a sweep reports, a line a number."""
    for name in ("magnetisation", "energy", "susceptibility"):
        print(f"{name}={getattr(one, name):.6f}")


def main() -> None:
    """Simulate what the command line says, the temperatures shared among processes, and write the results."""
    parser = argparse.ArgumentParser(description="The two-dimensional Ising model round its phase transition.")
    parser.add_argument("--size", type=int, required=True, help="spins along one side, an even number")
    parser.add_argument("--sweeps", type=int, required=True, help="turns offered to every spin")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--temperatures", type=int, help="how many temperatures, from 1.5 to 3.5")
    which.add_argument("--temperature", type=float, help="this one only: its numbers are printed, no file is written")
    parser.add_argument("--seed", type=int, required=True, help="of the random numbers")
    parser.add_argument("--processes", type=int, default=1, help="temperatures that are simulated at the same time")
    arguments = parser.parse_args()
    if arguments.size % 2:
        parser.error(f"--size {arguments.size} is odd: a checkerboard needs an even side")
    if arguments.temperature is not None:
        print_numbers(simulate(arguments.size, arguments.sweeps, arguments.seed, arguments.temperature))
        return
    side, temperatures = arguments.size, arguments.temperatures
    print(f"{side} x {side} spins, {temperatures} temperatures, {arguments.processes} processes", flush=True)
    at_temperature = partial(simulate, side, arguments.sweeps, arguments.seed)
    measurements: list[Measurement] = []
    with multiprocessing.Pool(arguments.processes) as pool:
        for one in pool.imap(at_temperature, np.linspace(1.5, 3.5, temperatures).tolist()):
            measurements.append(one)
            print(
                f"{len(measurements):>3} of {temperatures}  temperature {one.temperature:.3f}  "
                f"magnetisation {one.magnetisation:.3f}  energy {one.energy:+.3f}",
                flush=True,
            )
    write_results(Path(), measurements)


if __name__ == "__main__":
    main()
