"""Draw how small lattices blur the transition: a sweep of the Ising model over lattice sizes and temperatures.

Reads ``summary.csv``, which sweep_summary.py made; any number of sizes and temperatures will do, missing points too.
The exact curve is that of ising_2d_pictures.py.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ising_2d import CRITICAL_TEMPERATURE
from ising_2d_pictures import onsager_magnetisation
from matplotlib.axes import Axes

MARKERS = "os^Dv<>P"


def draw(table: np.ndarray, picture: Path) -> None:
    """Draw magnetisation and susceptibility, each as measured and with the lattice's size scaled away."""
    figure, ((order, order_scaled), (response, response_scaled)) = plt.subplots(2, 2, figsize=(9.0, 7.4))
    sizes = np.unique(table["size"])
    shades = plt.get_cmap("viridis")(np.linspace(0.85, 0.0, len(sizes)))
    for index, size in enumerate(sizes):
        rows = np.sort(table[table["size"] == size], order="temperature")
        style = {"color": shades[index], "marker": MARKERS[index % len(MARKERS)], "markersize": 4.5, "linewidth": 1.2}
        temperature, magnetisation, susceptibility = (
            rows[name] for name in ("temperature", "magnetisation", "susceptibility")
        )
        order.plot(temperature, magnetisation, label=f"{size:.0f} by {size:.0f}", **style)
        response.plot(temperature, susceptibility, **style)
        # Critical exponents of the two-dimensional Ising model: nu = 1, beta = 1/8, gamma = 7/4.
        scaled = size * (temperature / CRITICAL_TEMPERATURE - 1.0)
        order_scaled.plot(scaled, size ** (1 / 8) * magnetisation, **style)
        response_scaled.plot(scaled, size ** (-7 / 4) * susceptibility, **style)
    add_exact(order, table["temperature"])
    response.axvline(CRITICAL_TEMPERATURE, color="#999999", linewidth=1, linestyle="--")
    response.set_yscale("log")
    name(order, "Magnetisation per spin", "temperature")
    name(response, "Susceptibility per spin", "temperature")
    name(order_scaled, "Magnetisation, scaled: one curve", "size (T / critical T $-$ 1)")
    name(response_scaled, "Susceptibility, scaled: one curve", "size (T / critical T $-$ 1)")
    for axes in (order_scaled, response_scaled):
        axes.set_xlim(-6, 10)
    figure.suptitle("Ising model: a small lattice blurs the transition", x=0.01, ha="left")
    figure.savefig(picture)
    plt.close(figure)


def add_exact(axes: Axes, temperatures: np.ndarray) -> None:
    """Draw Onsager's and Yang's answer for the infinite lattice, and the critical temperature."""
    temperature = np.linspace(temperatures.min(), temperatures.max(), 600)
    axes.plot(temperature, onsager_magnetisation(temperature), color="#c8442f", label="infinite, exact", zorder=1)
    axes.axvline(CRITICAL_TEMPERATURE, color="#999999", linewidth=1, linestyle="--")
    axes.legend(loc="upper right", fontsize=9)


def name(axes: Axes, title: str, along: str) -> None:
    """Name a panel and what is along it."""
    axes.set_title(title)
    axes.set_xlabel(along)


def main() -> None:
    """Draw the picture in the working directory."""
    plt.style.use("picture.mplstyle")
    table = np.atleast_1d(np.genfromtxt("summary.csv", delimiter=",", names=True))
    draw(table[np.isfinite(table["magnetisation"])], Path("finite_size.png"))


if __name__ == "__main__":
    main()
