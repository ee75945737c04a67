"""Draw what ising_2d.py left: magnetisation against temperature beside Onsager's exact answer, and three lattices."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ising_2d import CRITICAL_TEMPERATURE


def onsager_magnetisation(temperature: np.ndarray) -> np.ndarray:
    """Return the exact magnetisation of the infinite lattice (Yang 1952)."""
    ordered = np.minimum(temperature, CRITICAL_TEMPERATURE)
    return np.maximum(1.0 - np.sinh(2.0 / ordered) ** -4.0, 0.0) ** 0.125


def draw(measured: np.ndarray, temperatures: np.ndarray, lattices: np.ndarray, picture: Path) -> None:
    """Draw the measured magnetisation with its errors, the exact one, and three lattices round the transition."""
    figure = plt.figure(figsize=(9.0, 6.6))
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1.0))
    curve = above.subplots()
    temperature = np.linspace(measured["temperature"].min(), measured["temperature"].max(), 600)
    curve.axvline(CRITICAL_TEMPERATURE, color="#999999", linewidth=1, linestyle="--")
    curve.text(CRITICAL_TEMPERATURE + 0.02, 0.5, "critical temperature", color="#666666")
    curve.plot(temperature, onsager_magnetisation(temperature), color="#c8442f", label="exact, infinite lattice")
    curve.errorbar(
        measured["temperature"],
        measured["magnetisation"],
        measured["magnetisation_error"],
        fmt="o",
        capsize=3,
        color="#1f5a8c",
        label=f"measured, {lattices.shape[1]} by {lattices.shape[2]} spins",
    )
    curve.set_xlabel("temperature (coupling / Boltzmann constant)")
    curve.set_ylabel("magnetisation per spin")
    curve.legend(loc="upper right")
    panels = below.subplots(1, 3)
    chosen = [np.abs(temperatures - wanted).argmin() for wanted in (1.8, 2.3, 3.0)]
    for axes, index in zip(panels, chosen):  # noqa: B905  # Python 3.9 has no strict
        axes.imshow(lattices[index], cmap=matplotlib.colors.ListedColormap(["#f0e6d6", "#1f5a8c"]), vmin=-1, vmax=1)
        axes.set_title(f"T = {temperatures[index]:.2f}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
    figure.suptitle("Two-dimensional Ising model: order is lost at one temperature", x=0.01, ha="left")
    figure.savefig(picture)
    plt.close(figure)


def main() -> None:
    """Draw the picture in the working directory."""
    plt.style.use("picture.mplstyle")
    measured = np.genfromtxt("magnetisation.csv", delimiter=",", names=True)
    with np.load("lattices.npz") as saved:
        draw(measured, saved["temperatures"], saved["lattices"], Path("phase_transition.png"))


if __name__ == "__main__":
    main()
