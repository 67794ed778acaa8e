"""Clocks and output, the same as those of `agrdist bench`."""

import json
import resource
import statistics
import sys
import time

median = statistics.median


def peak_rss_mb():
    """Largest resident set of the process, 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def clock(threads):
    """Processor time of the process on one thread, the wall's time on more."""
    return (time.process_time, "process CPU time") if threads == 1 else (time.perf_counter, "wall")


def sample(run, now, budget):
    """Median seconds of a call of run, over at least three samples of about 2 ms or more."""
    run()
    start = now()
    run()
    calls = int(0.002 / max(1e-9, now() - start)) + 1
    times, end = [], time.perf_counter() + budget
    while len(times) < 3 or time.perf_counter() < end:
        start = now()
        for _ in range(calls):
            run()
        times.append((now() - start) / calls)
    return median(times)


def emit(**fields):
    print(json.dumps(fields, separators=(",", ":")), flush=True)


def fair(torch):
    """What agrdist is compared with on a GPU: real f32 in f32, and cuDNN's fastest algorithms."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
