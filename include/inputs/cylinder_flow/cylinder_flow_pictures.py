"""Draw what cylinder_flow.py left: the vortex street, and the drag and lift of the cylinder over time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def vorticity(velocity: np.ndarray) -> np.ndarray:
    """Return the curl of a velocity field of shape (2, nx, ny), per step of time."""
    ux, uy = velocity.astype(float)
    return np.gradient(uy, axis=0) - np.gradient(ux, axis=1)


def draw_vortex_street(velocity: np.ndarray, summary: dict[str, Any], picture: Path) -> None:
    """Draw the vorticity of the whole channel; lengths in diameters, from the cylinder's centre."""
    diameter, inflow = summary["diameter"], summary["inflow"]
    # The cylinder's own cells are at rest; the curl across its edge means nothing.
    solid = (velocity == 0.0).all(axis=0)
    field = np.ma.masked_array(vorticity(velocity) * diameter / inflow, solid)
    left, bottom = -0.25 * summary["nx"] - 0.5, -0.5 * summary["ny"] - 0.5
    edges = np.array([left, left + summary["nx"], bottom, bottom + summary["ny"]])
    figure, axes = plt.subplots(figsize=(9.0, 3.6))
    axes.grid(False)
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="#f7f7f7")
    image = axes.imshow(
        field.T, origin="lower", extent=tuple(edges / diameter), cmap=colours, vmin=-3, vmax=3, interpolation="bilinear"
    )
    axes.add_patch(plt.Circle((0.0, 0.0), 0.5 + 0.7 / diameter, color="#333333"))
    axes.set_xlabel("x / D")
    axes.set_ylabel("y / D")
    axes.set_title(f"vorticity after {summary['steps']:,} steps on {summary['nx']} by {summary['ny']} cells")
    figure.colorbar(image, ax=axes, label="vorticity · D / U", extend="both", shrink=0.85, pad=0.015)
    figure.suptitle(f"Vortex street behind a cylinder, Re = {summary['reynolds']:g}", x=0.01, ha="left")
    figure.savefig(picture)
    plt.close(figure)


def draw_forces(forces: np.ndarray, summary: dict[str, Any], picture: Path) -> None:
    """Draw drag and lift over time."""
    time = forces["step"] * summary["inflow"] / summary["diameter"]
    strouhal = summary["strouhal_number"]
    figure, axes = plt.subplots(figsize=(9.0, 3.9))
    axes.plot(time, forces["drag_coefficient"], label="drag")
    axes.plot(time, forces["lift_coefficient"], label="lift")
    # The start is a splash of sound that would hide the rest.
    settled = slice(len(time) // 10, None)
    shown = np.concatenate((forces["drag_coefficient"][settled], forces["lift_coefficient"][settled]))
    axes.set_ylim(shown.min() - 0.2, shown.max() + 0.4)
    axes.set_xlim(0.0, time[-1])
    axes.set_xlabel("time · U / D")
    axes.set_ylabel("force coefficient")
    frequency = "no steady shedding yet" if strouhal is None else f"Strouhal number {strouhal:.3f}"
    axes.set_title(f"mean drag coefficient {summary['mean_drag_coefficient']:.2f}, {frequency}")
    axes.legend(ncols=2, loc="upper right")
    figure.suptitle(f"Forces on the cylinder, Re = {summary['reynolds']:g}", x=0.01, ha="left")
    figure.savefig(picture)
    plt.close(figure)


def main() -> None:
    """Draw both pictures in the working directory."""
    plt.style.use("picture.mplstyle")
    summary = json.loads(Path("summary.json").read_text())
    draw_vortex_street(np.load("velocity.npy"), summary, Path("vortex_street.png"))
    draw_forces(np.genfromtxt("forces.csv", delimiter=",", names=True), summary, Path("forces.png"))


if __name__ == "__main__":
    main()
