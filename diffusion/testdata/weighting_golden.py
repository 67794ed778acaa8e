#!/usr/bin/env python3
"""Writes weighting_golden.json: loss weights in float64, by diffusers' compute_snr and
the formulas of its training scripts (min-SNR) and of the P2 authors' code.

Made with diffusers 0.31.0.    python3 weighting_golden.py > weighting_golden.json
"""
import json

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

TIMES = [0, 1, 10, 100, 300, 500, 800, 999]
scheduler = DDPMScheduler(1000, 1e-4, 0.02, "linear")
betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
scheduler.alphas_cumprod = torch.cumprod(1 - betas, 0)




# compute_snr casts to float32; its formula in float64:
abar = scheduler.alphas_cumprod[TIMES]
snr = (abar ** 0.5 / (1 - abar) ** 0.5) ** 2
assert torch.allclose(snr.float(), compute_snr(scheduler, torch.tensor(TIMES)), rtol=1e-4)

cases = []
for gamma in (5.0, 1.0):
    clipped = torch.minimum(snr, torch.full_like(snr, gamma))
    for prediction, w in (("epsilon", clipped / snr), ("v_prediction", clipped / (snr + 1)), ("sample", clipped)):
        cases.append({"kind": "min_snr", "gamma": gamma, "prediction": prediction, "weights": w.tolist()})
for gamma in (1.0, 0.5):
    cases.append({"kind": "p2", "gamma": gamma, "prediction": "epsilon", "weights": (1 / (1 + snr) ** gamma).tolist()})
print(json.dumps({"times": TIMES, "cases": cases}, indent=1))
