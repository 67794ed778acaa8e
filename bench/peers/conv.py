"""3x3 convolutions and their gradients through PyTorch's operators, at the shapes of `agrdist bench kernels`."""

import argparse

import torch

import common

SHAPES = [(8, 128, 32), (8, 256, 16), (16, 256, 8), (32, 32, 32), (32, 64, 16)]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--time", type=float, default=1.0, help="seconds to measure each operation")
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--channels-last", action="store_true", help="NHWC activations and weights")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    now, clock = common.clock(a.threads)
    dtype = torch.bfloat16 if a.bf16 else torch.float32
    layout = torch.channels_last if a.channels_last else torch.contiguous_format
    for n, c, size in SHAPES:
        x, dy = (torch.randn(n, c, size, size, dtype=dtype).contiguous(memory_format=layout) for _ in range(2))
        weight = torch.randn(c, c, 3, 3, dtype=dtype).contiguous(memory_format=layout)
        bias = torch.randn(c, dtype=dtype)

        def backward(mask):
            return torch.ops.aten.convolution_backward(
                dy, x, weight, [c], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)

        for name, run in (
            ("conv3x3", lambda: torch.conv2d(x, weight, bias, padding=1)),
            ("conv3x3.input_grad", lambda: backward([True, False, False])),
            ("conv3x3.weight_grad", lambda: backward([False, True, True])),
        ):
            with torch.no_grad():
                seconds = common.sample(run, now, a.time)
            common.emit(
                name=name, shape=f"{n}x{size}x{size}x{c}", threads=a.threads, time_ms=1e3 * seconds,
                gflops=2 * n * size * size * 9 * c * c / seconds / 1e9, dtype=str(dtype), channels_last=a.channels_last,
                clock=clock, version="torch " + torch.__version__,
            )


if __name__ == "__main__":
    main()
