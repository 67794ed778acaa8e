"""Clip, AGR, Adan and moving average in PyTorch's foreach form: the twin of `agrdist bench optimizer`."""

import argparse

import torch

import common
import model


def layers(n):
    """Tensors as in `agrdist bench optimizer`: a 3x3 convolution of 256 channels and its bias, over and over."""
    sizes, i = (9 * 256 * 256, 256), 0
    while n > 0:
        size = min(n, sizes[i % 2])
        yield size
        n -= size
        i += 1


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--params", type=int, default=model.PARAMETERS["full"])
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--steps", type=int, default=10)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    now, clock = common.clock(a.threads)
    params = [torch.nn.Parameter(torch.randn(n)) for n in layers(a.params)]
    gradients = [torch.randn_like(q) for q in params]
    update = model.Update(params)
    times = []
    for i in range(a.steps + 1):
        for q, g in zip(params, gradients):
            q.grad = g.clone()  # the update changes it
        start = now()
        update.step()
        if i > 0:
            times.append(now() - start)
    seconds = common.median(times)
    common.emit(
        variant="foreach", parameters=a.params, threads=a.threads, time_ms=1e3 * seconds,
        gb_s=56 * a.params / seconds / 1e9, clock=clock, version="torch " + torch.__version__,
    )


if __name__ == "__main__":
    main()
