"""Draw what lj_melt.lammps left: the atoms before and after, and how temperature, energy and structure changed."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import EllipseCollection

ATOM_DIAMETER = 1.05
"""In sigma: a little less than the distance of nearest neighbours, so that the atoms almost touch."""

COLOURED_DISTANCE = 1.2
"""In sigma: atoms that came this far or farther have the last colour."""


def read_atoms(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Read a LAMMPS dump of one step: positions, distances from the start, and the side of the cubic box."""
    with path.open() as file:
        head = [next(file) for _ in range(9)]
        table = np.loadtxt(file)
    low, high = (float(number) for number in head[5].split())
    return table[:, 1:4], table[:, 4], high - low


def read_pair_correlation(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read distance and pair correlation from LAMMPS's averages of ``compute rdf``."""
    table = np.loadtxt(path, skiprows=4)
    return table[:, 1], table[:, 2]


def project(positions: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Look at the box along its diagonal: positions on the page, and nearness to the eye."""
    centred = positions % side - side / 2.0
    right = np.array([-1.0, 1.0, 0.0]) / np.sqrt(2.0)
    up = np.array([-1.0, -1.0, 2.0]) / np.sqrt(6.0)
    toward = np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0)
    return centred @ np.column_stack((right, up)), centred @ toward


def draw_box(axes: plt.Axes, positions: np.ndarray, distances: np.ndarray, side: float) -> EllipseCollection:
    """Draw the atoms on the three faces of the box that look at the reader, the nearest last."""
    seen = (positions % side).max(axis=1) > side - 2.5
    page, nearness = project(positions[seen], side)
    order = np.argsort(nearness)
    spheres = EllipseCollection(
        *(np.full(len(order), number) for number in (ATOM_DIAMETER, ATOM_DIAMETER, 0.0)),
        units="xy",
        offsets=page[order],
        offset_transform=axes.transData,
        array=distances[seen][order],
        cmap="YlGnBu",
        clim=(0.0, COLOURED_DISTANCE),
        edgecolors="#00000090",
        linewidths=0.3,
    )
    axes.add_collection(spheres)
    reach = 0.86 * side
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.axis("off")
    return spheres


def draw_atoms(thermo: np.ndarray, picture: Path) -> None:
    """Draw the box before and after."""
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 5.0))
    states = (("crystal", Path("atoms_crystal.txt"), thermo[0]), ("liquid", Path("atoms_liquid.txt"), thermo[-1]))
    for axes, (name, path, record) in zip(panels, states):  # noqa: B905  # Python 3.9 has no strict
        positions, distances, side = read_atoms(path)
        spheres = draw_box(axes, positions, distances, side)
        axes.set_title(rf"{name}: t = {record['time']:g} $\tau$, T = {record['temperature']:.2f} $\epsilon/k$")
    figure.colorbar(
        spheres,
        ax=panels,
        label=r"distance from its place in the crystal ($\sigma$)",
        orientation="horizontal",
        extend="max",
        shrink=0.5,
        aspect=35,
        pad=0.01,
    )
    figure.suptitle(f"A Lennard-Jones crystal of {len(positions):,} atoms melts", x=0.01, ha="left")
    figure.savefig(picture)
    plt.close(figure)


def draw_thermodynamics(thermo: np.ndarray, picture: Path) -> None:
    """Draw temperature, energy and displacement over time, and the structure before and after."""
    figure, ((temperature, energy), (structure, spread)) = plt.subplots(2, 2, figsize=(9.0, 6.2))
    time = thermo["time"]
    temperature.plot(time, thermo["temperature"])
    temperature.set_title(r"temperature ($\epsilon/k$)")
    for name in ("total", "potential", "kinetic"):
        energy.plot(time, thermo[f"{name}_energy"] - thermo[f"{name}_energy"][0], label=name)
    energy.set_title(r"energy per atom, change ($\epsilon$)")
    energy.legend(ncols=3, loc="center right", bbox_to_anchor=(1.0, 0.7))
    crystal, liquid = (read_pair_correlation(Path(f"rdf_{state}.txt")) for state in ("crystal", "liquid"))
    structure.fill_between(*crystal, color="#bbbbbb", label="crystal")
    structure.plot(*liquid, color="#c8442f", label="liquid")
    structure.set_xlim(0.0, liquid[0][-1])
    structure.set_ylim(0.0, 1.5 * liquid[1].max())
    structure.set_title("pair correlation g(r)")
    structure.set_xlabel(r"distance r ($\sigma$)")
    structure.legend(loc="upper right")
    spread.plot(time, thermo["mean_square_displacement"], color="#4c8f5a")
    spread.set_title(r"mean square displacement ($\sigma^2$)")
    for axes in (temperature, energy, spread):
        axes.set_xlabel(r"time ($\tau$)")
        axes.set_xlim(0.0, time[-1])
    figure.suptitle("Melting of a Lennard-Jones crystal at constant energy", x=0.01, ha="left")
    figure.savefig(picture)
    plt.close(figure)


def main() -> None:
    """Draw both pictures in the working directory."""
    plt.style.use("picture.mplstyle")
    thermo = np.genfromtxt("thermo.csv", delimiter=",", names=True)
    draw_atoms(thermo, Path("atoms.png"))
    draw_thermodynamics(thermo, Path("thermodynamics.png"))


if __name__ == "__main__":
    main()
