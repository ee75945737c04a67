"""Flow past a circular cylinder: a D2Q9 lattice-Boltzmann solver, divided in x over MPI ranks.

Everything is in lattice units: one cell long, one step of time, density near one. The flow enters on the left with
speed ``INFLOW``, leaves on the right without throwing sound back, and is periodic in y. Collisions relax with one rate
(BGK; Qian, d'Humieres and Lallemand 1992), the cylinder reflects half-way between cells, and its drag and lift come
from the momentum that the reflected populations hand over (Ladd 1994).

Runs on Python 3.9, the interpreter of Amazon Linux 2023, so it stays with that language.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

INFLOW = 0.12
"""Speed of the undisturbed flow in cells per step: a Mach number of 0.2, still nearly incompressible."""

SOUND = 1.0 / math.sqrt(3.0)
"""Speed of sound of the lattice."""

DIAMETERS_ACROSS = 8.0
"""Height of the channel in cylinder diameters; the cylinder stands a quarter of the channel's length from the inlet."""

SMALLEST_RELAXATION_TIME = 0.515
"""Closer to 1/2 than this the vortices are thinner than a cell and the solution becomes noise."""

SAMPLE_EVERY = 10
"""Steps between two samples of the forces and the mass."""

# Rest, then the three populations that move right, the three that move left, and the two that stay in their column.
VELOCITIES = np.array([(0, 0), (1, 0), (1, 1), (1, -1), (-1, 0), (-1, -1), (-1, 1), (0, 1), (0, -1)])
WEIGHTS = np.array([16, 4, 1, 1, 4, 1, 1, 4, 4]) / 36.0
RIGHTWARD = slice(1, 4)
LEFTWARD = slice(4, 7)
PAIRS = ((1, 4), (2, 5), (3, 6), (7, 8))
OPPOSITE = np.array([0, 4, 5, 6, 1, 2, 3, 8, 7])


@dataclass(frozen=True)
class Channel:
    """What is simulated; lengths in cells, ``viscosity`` in cells squared per step."""

    nx: int
    ny: int
    reynolds: float

    @property
    def diameter(self) -> float:
        """The cylinder's diameter."""
        return self.ny / DIAMETERS_ACROSS

    @property
    def viscosity(self) -> float:
        """The kinematic viscosity that gives the Reynolds number."""
        return INFLOW * self.diameter / self.reynolds

    @property
    def relaxation_time(self) -> float:
        """Steps in which the populations relax: the viscosity as the lattice has it."""
        return 3.0 * self.viscosity + 0.5

    def check(self) -> None:
        """Raise ValueError when the grid is too coarse for the Reynolds number."""
        if self.relaxation_time < SMALLEST_RELAXATION_TIME:
            viscosity = (SMALLEST_RELAXATION_TIME - 0.5) / 3.0
            needed = math.ceil(viscosity * self.reynolds / INFLOW * DIAMETERS_ACROSS)
            raise ValueError(
                f"a Reynolds number of {self.reynolds:g} needs ny of at least {needed} (it is {self.ny}): "
                f"raise ny or lower the Reynolds number"
            )

    def solid(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Tell which of the cells at column ``x`` and row ``y`` lie in the cylinder."""
        dx = x - self.nx / 4.0
        dy = y - self.ny / 2.0
        return dx**2 + dy**2 < (self.diameter / 2.0) ** 2


def equilibrium(density: np.ndarray, ux: np.ndarray, uy: np.ndarray) -> np.ndarray:
    """Return the nine Maxwellian populations, expanded to second order in the velocity."""
    shape = (9,) + (1,) * np.ndim(density)
    cu = VELOCITIES[:, 0].reshape(shape) * ux + VELOCITIES[:, 1].reshape(shape) * uy
    return WEIGHTS.reshape(shape) * density * (1.0 + 3.0 * cu + 4.5 * cu**2 - 1.5 * (ux**2 + uy**2))


def moments(f: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return density and velocity (x and y) of the populations ``f``."""
    density = f.sum(axis=0)
    ux = (f[1] + f[2] + f[3] - f[4] - f[5] - f[6]) / density
    uy = (f[2] - f[3] - f[5] + f[6] + f[7] - f[8]) / density
    return density, ux, uy


def stress(f: np.ndarray) -> np.ndarray:
    """Return the even part of what is not at equilibrium; the odd part, extrapolated, makes an open end unstable."""
    rest = f - equilibrium(*moments(f))
    return 0.5 * (rest + rest[OPPOSITE])


def collide(f: np.ndarray, relaxation_time: float) -> None:
    """Relax ``f`` towards equilibrium in place; opposite directions differ in the sign of the odd part only."""
    rate = 1.0 / relaxation_time
    density, ux, uy = moments(f)
    still = density * (1.0 - 1.5 * (ux**2 + uy**2))
    f[0] += rate * (WEIGHTS[0] * still - f[0])
    for k, opposite in PAIRS:
        cu = VELOCITIES[k, 0] * ux + VELOCITIES[k, 1] * uy
        momentum = density * cu
        even = WEIGHTS[k] * (still + 4.5 * momentum * cu)
        odd = 3.0 * WEIGHTS[k] * momentum
        f[k] += rate * (even + odd - f[k])
        f[opposite] += rate * (even - odd - f[opposite])


def stream(f: np.ndarray, out: np.ndarray) -> None:
    """Move every population one cell along its velocity: ghost columns in x, periodic in y."""
    columns = f.shape[1] - 2
    for k, (cx, cy) in enumerate(VELOCITIES):
        source = f[k, 1 - cx : 1 - cx + columns]
        target = out[k, 1:-1]
        if cy == 0:
            target[:] = source
        elif cy == 1:
            target[:, 1:] = source[:, :-1]
            target[:, 0] = source[:, -1]
        else:
            target[:, :-1] = source[:, 1:]
            target[:, -1] = source[:, 0]


class Slab:
    """The columns of the channel that one rank computes, with one ghost column on each side.

    ``line`` is a one-dimensional Cartesian communicator. Where it has no neighbour stands the inlet or the outlet; a
    periodic one has neither.
    """

    def __init__(self, channel: Channel, line: MPI.Cartcomm) -> None:
        self.channel = channel
        self.line = line
        self.left, self.right = line.Shift(0, 1)
        edges = np.linspace(0, channel.nx, line.size + 1).astype(int)
        self.first, self.end = int(edges[line.rank]), int(edges[line.rank + 1])
        self.f = self._initial_flow()
        self._streamed = self.f.copy()
        self._find_links()

    def _initial_flow(self) -> np.ndarray:
        """Potential flow round the cylinder, which starts without a bang, and a push to set the wake swinging."""
        x, y = self._coordinates()
        channel = self.channel
        dx, dy = x - channel.nx / 4.0, y - channel.ny / 2.0
        dipole = (channel.diameter / 2.0) ** 2 / np.maximum(dx**2 + dy**2, (channel.diameter / 2.0) ** 2) ** 2
        ux = INFLOW * (1.0 - dipole * (dx**2 - dy**2))
        uy = -2.0 * INFLOW * dipole * dx * dy
        # The push depends on x alone: it has no divergence, so it makes no sound.
        uy = uy + 0.5 * INFLOW * np.exp(-((dx / channel.diameter - 2.0) ** 2))
        return equilibrium(np.ones(x.shape), ux, uy)

    def _coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        return np.meshgrid(np.arange(self.first - 1, self.end + 1), np.arange(self.channel.ny), indexing="ij")

    def _find_links(self) -> None:
        """List the links that join a fluid cell of this slab to a cell of the cylinder, as indices into ``f``."""
        x, y = self._coordinates()
        outgoing, incoming, directions = [], [], []
        for k, (cx, cy) in enumerate(VELOCITIES):
            hits = self.channel.solid(x + cx, y + cy) & ~self.channel.solid(x, y)
            hits[0] = hits[-1] = False
            cells = np.flatnonzero(hits)
            outgoing.append(k * hits.size + cells)
            incoming.append(OPPOSITE[k] * hits.size + cells)
            directions.append(np.full(cells.size, k))
        self._outgoing = np.concatenate(outgoing)
        self._incoming = np.concatenate(incoming)
        self._link_velocities = VELOCITIES[np.concatenate(directions)]
        self._resting = np.flatnonzero(self.channel.solid(x, y))

    def step(self) -> None:
        """Advance by one unit of time."""
        collide(self.f, self.channel.relaxation_time)
        self._exchange()
        stream(self.f, self._streamed)
        self._streamed.reshape(-1)[self._incoming] = self.f.reshape(-1)[self._outgoing]
        # What went into the cylinder has been reflected; left to themselves its cells would grow without bound.
        self._streamed.reshape(9, -1)[:, self._resting] = WEIGHTS[:, np.newaxis]
        self.f, self._streamed = self._streamed, self.f
        self._open_ends()

    def _exchange(self) -> None:
        """Fill the ghost columns with what the neighbours send this way."""
        from_left = np.empty((3, self.channel.ny))
        from_right = np.empty((3, self.channel.ny))
        to_right = np.ascontiguousarray(self.f[RIGHTWARD, -2])
        to_left = np.ascontiguousarray(self.f[LEFTWARD, 1])
        self.line.Sendrecv(to_right, self.right, recvbuf=from_left, source=self.left)
        self.line.Sendrecv(to_left, self.left, recvbuf=from_right, source=self.right)
        if self.left != MPI.PROC_NULL:
            self.f[RIGHTWARD, 0] = from_left
        if self.right != MPI.PROC_NULL:
            self.f[LEFTWARD, -1] = from_right

    def _open_ends(self) -> None:
        """Set velocity at the inlet and density at the outlet; the stress is that of the next column inside.

        The mean speed through the outlet differs from the inflow only by sound; the density follows it as in a wave
        that leaves, so that sound is not thrown back.
        """
        if self.left == MPI.PROC_NULL:
            density, ux, uy = moments(self.f[:, 2])
            inflow = equilibrium(density, np.full_like(ux, INFLOW), np.zeros_like(uy))
            self.f[:, 1] = inflow + stress(self.f[:, 2])
        if self.right == MPI.PROC_NULL:
            density, ux, uy = moments(self.f[:, -3])
            leaving = 1.0 + (ux.mean() - INFLOW) / SOUND
            self.f[:, -2] = equilibrium(np.full_like(density, leaving), ux, uy) + stress(self.f[:, -3])

    def mass(self) -> float:
        """Return the mass in the whole channel."""
        return float(self.line.allreduce(float(self.f[:, 1:-1].sum())))

    def force_coefficients(self) -> tuple[float, float]:
        """Return the cylinder's drag and lift, divided by the dynamic pressure times the diameter.

        Must be called right after ``step``.
        """
        handed_over = 2.0 * self.f.reshape(-1)[self._incoming]
        force = self.line.allreduce(handed_over @ self._link_velocities)
        drag, lift = force / (0.5 * INFLOW**2 * self.channel.diameter)
        return float(drag), float(lift)

    def velocity(self) -> np.ndarray | None:
        """Gather the velocity of the whole channel, shape (2, nx, ny), zero in the cylinder; None but on rank 0."""
        _, ux, uy = moments(self.f[:, 1:-1])
        x, y = self._coordinates()
        own = np.where(self.channel.solid(x, y)[1:-1], 0.0, np.stack((ux, uy)))
        slabs = self.line.gather(own)
        return None if slabs is None else np.concatenate(slabs, axis=1)


def strouhal_number(steps: np.ndarray, lift: np.ndarray, diameter: float) -> float | None:
    """Return the shedding frequency times diameter over speed, from the zero crossings of the second half of ``lift``.

    None when the lift crossed zero fewer than three times: the wake does not swing (yet).
    """
    half = len(lift) // 2
    t, signal = np.asarray(steps[half:], float), np.asarray(lift[half:], float)
    signal = signal - signal.mean()
    before = np.flatnonzero((signal[:-1] < 0.0) & (signal[1:] >= 0.0))
    if len(before) < 3:
        return None
    crossings = t[before] - signal[before] * (t[before + 1] - t[before]) / (signal[before + 1] - signal[before])
    period = (crossings[-1] - crossings[0]) / (len(crossings) - 1)
    return float(diameter / (INFLOW * period))


def run(channel: Channel, steps: int, line: MPI.Cartcomm) -> tuple[np.ndarray | None, np.ndarray]:
    """Simulate ``steps`` steps; return the last velocity field and the samples (step, drag, lift, mass).

    Raises FloatingPointError as soon as a sample is not finite.
    """
    slab = Slab(channel, line)
    samples = []
    started = time.perf_counter()
    for step in range(1, steps + 1):
        slab.step()
        if step % SAMPLE_EVERY == 0:
            drag, lift = slab.force_coefficients()
            samples.append((step, drag, lift, slab.mass()))
            if not math.isfinite(drag + lift):
                raise FloatingPointError(f"unstable at step {step}: raise ny or lower the Reynolds number")
        if line.rank == 0 and (step % max(1, steps // 20) == 0 or step == steps):
            rate = channel.nx * channel.ny * step / (time.perf_counter() - started) / 1e6
            print(
                f"step {step:>7} of {steps}  {100 * step // steps:>3} %  drag {samples[-1][1]:6.3f}  "
                f"lift {samples[-1][2]:+6.3f}  {rate:6.1f} million cells/s",
                flush=True,
            )
    return slab.velocity(), np.array(samples)


def write_results(directory: Path, channel: Channel, velocity: np.ndarray, samples: np.ndarray, ranks: int) -> None:
    """Write ``velocity.npy`` (single precision), ``forces.csv`` and ``summary.json``."""
    np.save(directory / "velocity.npy", velocity.astype(np.float32))
    with (directory / "forces.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("step", "drag_coefficient", "lift_coefficient", "mass"))
        rows.writerows((int(step), f"{drag:.6f}", f"{lift:.6f}", f"{mass:.3f}") for step, drag, lift, mass in samples)
    half = len(samples) // 2
    summary = {
        "nx": channel.nx,
        "ny": channel.ny,
        "reynolds": channel.reynolds,
        "inflow": INFLOW,
        "diameter": channel.diameter,
        "steps": int(samples[-1, 0]),
        "mean_drag_coefficient": float(samples[half:, 1].mean()),
        "strouhal_number": strouhal_number(samples[:, 0], samples[:, 2], channel.diameter),
        "ranks": ranks,
    }
    (directory / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def main() -> None:
    """Simulate what the command line says, on all ranks, and write the results on the first."""
    parser = argparse.ArgumentParser(description="Flow past a circular cylinder.")
    parser.add_argument("--nx", type=int, required=True, help="length of the channel in cells")
    parser.add_argument("--ny", type=int, required=True, help="height of the channel in cells")
    parser.add_argument("--reynolds", type=float, required=True, help="speed times diameter over viscosity")
    parser.add_argument("--steps", type=int, required=True, help="steps of time")
    arguments = parser.parse_args()
    channel = Channel(arguments.nx, arguments.ny, arguments.reynolds)
    try:
        channel.check()
    except ValueError as error:
        sys.exit(f"cylinder_flow: {error}")
    world = MPI.COMM_WORLD
    line = world.Create_cart([world.size], periods=[False])
    if line.rank == 0:
        print(
            f"{channel.nx} x {channel.ny} cells, cylinder of {channel.diameter:g} cells, "
            f"Reynolds number {channel.reynolds:g}, {line.size} ranks",
            flush=True,
        )
    hosts = line.gather(MPI.Get_processor_name())
    if hosts is not None:
        print("ranks on " + ", ".join(hosts), flush=True)
    try:
        velocity, samples = run(channel, arguments.steps, line)
    except FloatingPointError as error:
        sys.exit(f"cylinder_flow: {error}")
    if velocity is not None:
        write_results(Path(), channel, velocity, samples, line.size)


if __name__ == "__main__":
    main()
