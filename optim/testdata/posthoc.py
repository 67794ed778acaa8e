"""Writes posthoc.json: post-hoc averages in numpy, float64, from explicit profiles.

    pip install numpy
    python posthoc.py
"""
import json
import pathlib

import numpy as np


def gamma_of(length):
    return max(np.roots([1, 7, 16 - length**-2, 12 - length**-2]).real)


def exponential(at, total, decay):
    p = np.zeros(total + 1)
    average = np.zeros(total + 1)
    average[0] = 1
    for s in range(1, at + 1):  # the recursion itself, on the unit vectors
        average[: s + 1] *= decay
        average[s] += 1 - decay
    p[: at + 1] = average[: at + 1]
    return p


def power(total, gamma):
    average = np.zeros(total + 1)
    average[0] = 1
    for s in range(1, total + 1):
        b = (1 - 1 / s) ** (gamma + 1)
        average *= b
        average[s] += 1 - b
    return average


cases = []
for at, decay, length in [
    ([50 * k for k in range(1, 13)], 0.98, 0.05),
    ([50 * k for k in range(1, 13)], 0.98, 0.2),
    ([40, 90, 100, 170, 260, 300], 0.99, 0.1),
    ([300], 0.99, 0.1),
]:
    gamma = gamma_of(length)
    p = np.array([exponential(a, at[-1], decay) for a in at])
    want = power(at[-1], gamma)
    n = len(at)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = p @ p.T
    system[n, n] = 0
    x = np.linalg.solve(system, np.append(p @ want, 1))[:n]
    # A training of one weight, and its average by the recursion and by the combination.
    w = np.cumsum(np.random.default_rng(1).standard_normal(at[-1] + 1))
    cases.append({
        "at": at, "decay": decay, "length": length, "gamma": float(gamma), "weights": x.tolist(),
        "residual": float(np.linalg.norm(x @ p - want) / np.linalg.norm(want)),
        "path": w.tolist(), "power": float(want @ w), "combined": float(x @ (p @ w)),
    })
(pathlib.Path(__file__).parent / "posthoc.json").write_text(json.dumps(cases) + "\n")
for c in cases:
    print(c["length"], c["residual"], c["power"], c["combined"], np.std(c["path"]))
