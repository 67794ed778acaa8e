"""Forward, backward and update of one worker in PyTorch: the twin of `agrdist bench step`."""

import argparse
import time

import torch
from torch.nn import functional as F

import common
import model


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--preset", choices=sorted(model.PRESETS), default="digits")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--bf16", action="store_true", help="bf16 autocast")
    p.add_argument("--channels-last", action="store_true", help="NHWC activations and weights")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if a.channels_last else torch.contiguous_format
    net = model.build(a.preset).to(memory_format=layout)
    update = model.Update(net.parameters())
    config = model.PRESETS[a.preset]
    shape = (a.batch, config["images"], config["size"], config["size"])
    x, target = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    t = torch.tensor([i * 997 % 1000 for i in range(a.batch)])

    steps, computes, updates, cpus = [], [], [], []
    for i in range(a.steps + 1):
        cpu, start = time.process_time(), time.perf_counter()
        for q in update.params:
            q.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
            prediction = net(x, t)
        F.mse_loss(prediction.float(), target).backward()
        computed = time.perf_counter()
        update.step()
        end = time.perf_counter()
        if i > 0:
            steps.append(end - start)
            computes.append(computed - start)
            updates.append(end - computed)
            cpus.append(time.process_time() - cpu)
    step = common.median(steps)
    common.emit(
        preset=a.preset, parameters=model.PARAMETERS[a.preset], batch=a.batch, threads=a.threads,
        precision="bf16 autocast" if a.bf16 else "f32", channels_last=a.channels_last,
        step_ms=1e3 * step, compute_ms=1e3 * common.median(computes), update_ms=1e3 * common.median(updates),
        cpu_ms=1e3 * common.median(cpus), images_per_s=a.batch / step, rss_mb=common.peak_rss_mb(),
        version="torch " + torch.__version__,
    )


if __name__ == "__main__":
    main()
