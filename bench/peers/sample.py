"""DDIM sampling in PyTorch: the twin of `agrdist sample`. It times the model's work
alone, without the start of Python and without writing images."""

import argparse
import math
import time

import torch

import common
import model


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--preset", choices=sorted(model.PRESETS), default="full")
    p.add_argument("--count", type=int, default=1000, help="images")
    p.add_argument("--batch", type=int, default=250)
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--bf16", action="store_true", help="bf16 autocast")
    p.add_argument("--device", default="cuda", help="cpu or cuda")
    p.add_argument("--compile", action="store_true", help="torch.compile, max-autotune")
    a = p.parse_args()
    common.fair(torch)
    torch.manual_seed(0)
    layout = torch.channels_last
    net = model.build(a.preset).to(a.device, memory_format=layout).eval()
    run = torch.compile(net, mode="max-autotune") if a.compile else net
    config = model.PRESETS[a.preset]
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).tolist()
    times = [i * 1000 // a.steps for i in range(a.steps)]

    @torch.no_grad()
    def draw(count):
        x = torch.randn(count, config["images"], config["size"], config["size"], device=a.device)
        x = x.contiguous(memory_format=layout)
        for i in reversed(range(a.steps)):
            now, before = kept[times[i]], kept[times[i - 1]] if i > 0 else 1.0
            t = torch.full((count,), times[i], device=a.device)
            with torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.bf16):
                eps = run(x, t).float()
            clean = ((x - math.sqrt(1 - now) * eps) / math.sqrt(now)).clamp(-1, 1)
            x = math.sqrt(before) * clean + math.sqrt(1 - before) * eps
        return x.cpu()

    draw(a.batch)  # compiles, picks algorithms
    start = time.perf_counter()
    for first in range(0, a.count, a.batch):
        draw(min(a.batch, a.count - first))
    seconds = time.perf_counter() - start
    common.emit(
        preset=a.preset, images=a.count, batch=a.batch, steps=a.steps, seconds=seconds,
        images_per_s=a.count / seconds, precision="bf16 autocast" if a.bf16 else "f32",
        compiled=a.compile, version="torch " + torch.__version__,
    )


if __name__ == "__main__":
    main()
