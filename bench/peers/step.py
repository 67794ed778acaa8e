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
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--compile", action="store_true", help="torch.compile of the model, max-autotune, and of the update")
    a = p.parse_args()
    common.fair(torch)
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if a.channels_last else torch.contiguous_format
    net = model.build(a.preset).to(a.device, memory_format=layout)
    update = model.Update(net.parameters(), compiled=a.compile)
    run = torch.compile(net, mode="max-autotune") if a.compile else net
    config = model.PRESETS[a.preset]
    shape = (a.batch, config["images"], config["size"], config["size"])
    x, target = (torch.randn(shape).contiguous(memory_format=layout).to(a.device) for _ in range(2))
    t = torch.tensor([i * 997 % 1000 for i in range(a.batch)], device=a.device)

    def now():
        if a.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    steps, computes, updates, cpus = [], [], [], []
    warm = 1 if a.device == "cpu" else 10
    for i in range(a.steps + warm):
        cpu, start = time.process_time(), now()
        for q in update.params:
            q.grad = None
        with torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.bf16):
            prediction = run(x, t)
        F.mse_loss(prediction.float(), target).backward()
        computed = now() if a.device == "cpu" else start
        update.step()
        end = now()
        if i >= warm:
            steps.append(end - start)
            computes.append(computed - start)
            updates.append(end - computed)
            cpus.append(time.process_time() - cpu)
    step = common.median(steps)
    common.emit(
        preset=a.preset, parameters=model.PARAMETERS[a.preset], batch=a.batch, threads=a.threads,
        precision="bf16 autocast" if a.bf16 else "f32", channels_last=a.channels_last,
        device=torch.cuda.get_device_name() if a.device != "cpu" else "cpu", compiled=a.compile,
        step_ms=1e3 * step, compute_ms=1e3 * common.median(computes), update_ms=1e3 * common.median(updates),
        cpu_ms=1e3 * common.median(cpus), images_per_s=a.batch / step, rss_mb=common.peak_rss_mb(),
        version="torch " + torch.__version__,
    )


if __name__ == "__main__":
    main()
