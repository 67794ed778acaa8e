#!/usr/bin/env python3
"""Writes diffusers_golden.json: trajectories of diffusers' own schedulers.

Made with diffusers 0.27.2 and PyTorch 1.13.1. The schedulers run in float64
(their float32 tables are replaced), on a network that is a formula, with the
noise of package rng (Philox 4x32-10 and Box-Muller), so that the Go samplers
must arrive at the same images.

    python3 diffusers_golden.py > diffusers_golden.json
"""

import json
import math

import numpy as np
import torch
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

SEED, IDS, PIXELS = 0x123456789ABCDEF, [0, 7, 1 << 40], 6
STREAM_SAMPLE, STREAM_SAMPLER = 7, 8
MASK = 0xFFFFFFFF


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def normal(n, stream, draw):
    values = []
    for block in range((n + 3) // 4):
        w = philox([block, stream, draw & MASK, draw >> 32], [SEED & MASK, SEED >> 32])
        for a, b in ((w[0], w[1]), (w[2], w[3])):
            r = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
            angle = 2 * math.pi * (b / 2**32)
            values += [np.float32(r * math.cos(angle)), np.float32(r * math.sin(angle))]
    return [float(v) for v in values[:n]]


def noise(stream):
    return torch.tensor([normal(PIXELS, stream, i) for i in IDS], dtype=torch.float64)


def network(x, t):
    """The stand-in for a network: out[i, j] = 0.3 x[i, j] + 0.9 cos(0.01 t + j)."""
    j = torch.arange(PIXELS, dtype=torch.float64)
    return 0.3 * x + 0.9 * torch.cos(0.01 * t + j)


def run(cls, steps, eta, **config):
    scheduler = cls(**config)
    betas = scheduler.betas.double()
    if config.get("beta_schedule", "linear") == "linear":
        lo, hi = scheduler.config.beta_start, scheduler.config.beta_end
        betas = torch.linspace(lo, hi, len(betas), dtype=torch.float64)
    scheduler.betas, scheduler.alphas = betas, 1 - betas
    scheduler.alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if cls is DDIMScheduler:
        one = config.get("set_alpha_to_one", True)
        scheduler.final_alpha_cumprod = scheduler.one if one else scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    x = noise(STREAM_SAMPLE)
    for i, t in enumerate(scheduler.timesteps):
        z = noise(STREAM_SAMPLER | i << 8)
        scheduling_ddim.randn_tensor = scheduling_ddpm.randn_tensor = lambda *a, **k: z
        extra = {"eta": eta} if cls is DDIMScheduler else {}
        x = scheduler.step(network(x, t), t, x, **extra).prev_sample
    return {
        "config": {"_class_name": cls.__name__, **config},
        "steps": steps,
        "eta": eta,
        "timesteps": scheduler.timesteps.tolist(),
        "images": x.flatten().tolist(),
    }


def main():
    cases = []
    for clip in (True, False):
        for prediction in ("epsilon", "sample", "v_prediction"):
            c = {"clip_sample": clip, "prediction_type": prediction}
            cases.append(run(DDIMScheduler, 10, 0.0, **c))
            cases.append(run(DDIMScheduler, 8, 0.6, timestep_spacing="trailing", **c))
            cases.append(run(DDPMScheduler, 25, 0.0, variance_type="fixed_large", **c))
            cases.append(run(DDPMScheduler, 12, 0.0, variance_type="fixed_small", **c))
    cases.append(run(DDIMScheduler, 10, 1.0, steps_offset=1, set_alpha_to_one=False, clip_sample=False))
    cases.append(run(DDIMScheduler, 30, 0.0))
    small = {"num_train_timesteps": 50, "beta_start": 0.002, "beta_end": 0.4}
    cases.append(run(DDPMScheduler, 50, 0.0, variance_type="fixed_large", **small))
    cases.append(run(DDIMScheduler, 50, 1.0, **small))
    tables = {}
    for total in (100, 1000):
        for kind in ("linear", "squaredcos_cap_v2"):
            tables[f"{kind}/{total}"] = DDPMScheduler(
                num_train_timesteps=total, beta_schedule=kind, beta_start=0.1 / total, beta_end=20 / total
            ).betas.tolist()[:: total // 20]
    tables["scaled_linear/1000"] = DDPMScheduler(beta_schedule="scaled_linear").betas.tolist()[::50]
    tables["sigmoid/1000"] = DDPMScheduler(beta_schedule="sigmoid").betas.tolist()[::50]
    print(json.dumps({
        "seed": SEED, "ids": IDS, "pixels": PIXELS,
        "x_T": noise(STREAM_SAMPLE).flatten().tolist(),
        "betas_every_twentieth": tables,
        "cases": cases,
    }, indent=1))


main()
