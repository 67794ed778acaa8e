#!/usr/bin/env python3
"""Writes ode_golden.json: images of diffusers' DPMSolverMultistepScheduler and
HeunDiscreteScheduler in float64, on a network that is a formula.

Made with diffusers 0.31.0. The timesteps are agrdist's (the two classes space
theirs differently from DDIM's), the noise levels those of the schedule in float64;
the arithmetic of the steps is diffusers' own.

    python3 ode_golden.py > ode_golden.json
"""
import json
import math

import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

T, N, PIXELS = 1000, 2, 5
START = torch.tensor([[0.3, -1.2, 0.8, 2.0, -0.1], [1.5, 0.05, -0.7, -2.2, 0.6]], dtype=torch.float64)


def network(x, t):
    """out[i, j] = 0.3 x[i, j] + 0.9 cos(0.01 t + j)."""
    return 0.3 * x + 0.9 * torch.cos(0.01 * float(t) + torch.arange(PIXELS, dtype=torch.float64))


def abars():
    betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0)


def spaced(spacing, steps):
    if spacing == "leading":
        return [i * (T // steps) for i in range(steps)][::-1]
    return [round(T - i * (T / steps)) - 1 for i in range(steps)]


def case(method, spacing, steps, prediction, clip, final):
    ts = spaced(spacing, steps)
    abar = abars()
    sigma = lambda a: math.sqrt((1 - a) / a)
    end = 0.0 if final == "one" else sigma(float(abar[0]))
    sigmas = torch.tensor([sigma(float(abar[t])) for t in ts] + [end], dtype=torch.float64)
    if method == "dpmpp_2m":
        s = DPMSolverMultistepScheduler(
            T, 1e-4, 0.02, "linear", prediction_type=prediction, algorithm_type="dpmsolver++", solver_order=2,
            solver_type="midpoint", lower_order_final=True, final_sigmas_type="zero" if end == 0 else "sigma_min")
        s.set_timesteps(steps)
        s.sigmas, s.timesteps = sigmas, torch.tensor(ts)
        x = START.clone()
        for t in ts:
            x = s.step(network(x, t), t, x).prev_sample
    else:
        s = HeunDiscreteScheduler(T, 1e-4, 0.02, "linear", prediction_type=prediction, clip_sample=clip)
        s.set_timesteps(steps)
        s.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        times = torch.tensor(ts)
        s.timesteps = torch.cat([times[:1], times[1:].repeat_interleave(2)])
        s.prev_derivative, s.dt, s._step_index = None, None, 0
        x = START * math.sqrt(float(sigmas[0]) ** 2 + 1)
        for t in s.timesteps:
            scaled = s.scale_model_input(x, t)
            x = s.step(network(scaled, t), t, x).prev_sample
    return {"method": method, "spacing": spacing, "steps": steps, "prediction": prediction, "clip": clip, "final": final,
            "images": x.flatten().tolist()}


cases = []
for prediction in ("epsilon", "v_prediction", "sample"):
    for spacing, steps in (("leading", 5), ("leading", 20), ("trailing", 25)):
        cases.append(case("dpmpp_2m", spacing, steps, prediction, False, "one"))
        for clip in (False, True) if prediction != "sample" else ():
            cases.append(case("heun", spacing, steps, prediction, clip, "one"))
cases.append(case("dpmpp_2m", "trailing", 10, "epsilon", False, "first"))
cases.append(case("dpmpp_2m", "trailing", 20, "epsilon", False, "first"))
print(json.dumps({"start": START.flatten().tolist(), "pixels": PIXELS, "cases": cases}, indent=1))
