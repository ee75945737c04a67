"""Faults put into the whole life of runs, cluster included, on the real parts of a local region: `make
chaos-lifecycle`.
"""
