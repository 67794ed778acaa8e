"""All-reduce of f32 sums on this machine: the twin of `agrdist bench allreduce`.

gloo over loopback by torch.distributed, in processes of its own, or MPI, to be
started by mpirun:

    python allreduce.py --world 2 --bytes 142985228
    mpirun -n 2 python allreduce.py --mpi --bytes 142985228
"""

import argparse
import os
import socket
import time

import common


def report(a, world, times, backend, version):
    seconds = common.median(times)
    algbw = a.bytes / seconds / 1e9
    common.emit(
        bytes=a.bytes, world=world, backend=backend, time_ms=1e3 * seconds, algbw_gb_s=algbw,
        busbw_gb_s=algbw * 2 * (world - 1) / world, version=version,
    )


def gloo(rank, a, port):
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=a.world)
    times = []
    for i in range(a.iterations + 1):
        x = torch.full((a.bytes // 4,), float(rank + 1))
        distributed.barrier()
        start = time.perf_counter()
        distributed.all_reduce(x)
        if i > 0:
            times.append(time.perf_counter() - start)
    want = a.world * (a.world + 1) / 2
    if x[0].item() != want or x[-1].item() != want:
        raise SystemExit(f"rank {rank} has {x[0].item()}, expected the sum {want}")
    if rank == 0:
        report(a, a.world, times, "gloo", "torch " + torch.__version__)
    distributed.destroy_process_group()


def mpi(a):
    import numpy
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    x = numpy.full(a.bytes // 4, world.rank + 1, dtype=numpy.float32)
    y = numpy.zeros_like(x)
    times = []
    for i in range(a.iterations + 1):
        world.Barrier()
        start = time.perf_counter()
        world.Allreduce(x, y)
        if i > 0:
            times.append(time.perf_counter() - start)
    want = world.size * (world.size + 1) / 2
    if y[0] != want or y[-1] != want:
        raise SystemExit(f"rank {world.rank} has {y[0]}, expected the sum {want}")
    if world.rank == 0:
        report(a, world.size, times, "mpi", MPI.Get_library_version().split(",")[0])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--world", type=int, default=2)
    p.add_argument("--bytes", type=int, default=4 << 20)
    p.add_argument("--iterations", type=int, default=10)
    p.add_argument("--mpi", action="store_true")
    a = p.parse_args()
    if a.mpi:
        mpi(a)
        return
    from torch import multiprocessing

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    multiprocessing.spawn(gloo, (a, port), nprocs=a.world)


if __name__ == "__main__":
    main()
