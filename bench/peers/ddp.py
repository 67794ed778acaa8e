"""Data-parallel training steps with DistributedDataParallel over gloo, a thread for
each process: the twin of `agrdist run --workers 2`."""

import argparse
import os
import socket
import time

import common


def work(rank, a, port):
    import torch
    from torch import distributed
    from torch.nn import functional as F
    from torch.nn.parallel import DistributedDataParallel

    import model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=a.world)
    layout = torch.channels_last if a.channels_last else torch.contiguous_format
    net = model.build(a.preset).to(memory_format=layout)
    parallel = DistributedDataParallel(net, gradient_as_bucket_view=True)
    update = model.Update(net.parameters())
    config = model.PRESETS[a.preset]
    each = a.batch // a.world
    x, noise = (torch.randn(each, config["images"], config["size"], config["size"]) for _ in range(2))
    x, noise = x.contiguous(memory_format=layout), noise.contiguous(memory_format=layout)
    t = torch.arange(each) * 997 % 1000
    steps = []
    for i in range(a.steps + 2):
        start = time.perf_counter()
        net.zero_grad(set_to_none=False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
            prediction = parallel(x, t)
        F.mse_loss(prediction.float(), noise).backward()
        update.step()
        if i > 1:
            steps.append(time.perf_counter() - start)
    if rank == 0:
        step = common.median(steps)
        common.emit(
            preset=a.preset, batch=a.batch, world=a.world, channels_last=a.channels_last,
            step_ms=1e3 * step, images_per_s=a.batch / step, version="torch " + torch.__version__,
        )
    distributed.destroy_process_group()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--preset", default="small")
    p.add_argument("--world", type=int, default=2)
    p.add_argument("--batch", type=int, default=32, help="images of all processes")
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--bf16", action="store_true", help="bf16 autocast")
    p.add_argument("--channels-last", action="store_true", help="NHWC activations and weights")
    a = p.parse_args()
    from torch import multiprocessing

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    multiprocessing.spawn(work, (a, port), nprocs=a.world)


if __name__ == "__main__":
    main()
