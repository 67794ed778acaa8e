"""Features of the FID Inception: the twin of `go test ./eval/inception -bench Extract`.

    pip install torch torchvision pytorch-fid==0.3.0
    python inception.py --batch 4 --passes 6

pytorch-fid's network without its weights: the time does not depend on them. It prints
images per second, of the wall clock and of CPU time.
"""

import argparse
import json
import time

import pytorch_fid.inception as inception
import torch

p = argparse.ArgumentParser()
p.add_argument("--batch", type=int, default=4)
p.add_argument("--passes", type=int, default=6)
p.add_argument("--threads", type=int, default=1)
a = p.parse_args()
torch.set_num_threads(a.threads)
load = torch.nn.Module.load_state_dict
inception.load_state_dict_from_url = lambda *args, **kwargs: None
torch.nn.Module.load_state_dict = lambda self, state: None
model = inception.InceptionV3().eval()
torch.nn.Module.load_state_dict = load
x = torch.rand(a.batch, 3, 32, 32)
with torch.inference_mode():
    model(x)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(a.passes):
        model(x)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
n = a.batch * a.passes
print(json.dumps({"images_per_s": n / wall, "images_per_cpu_s": n / cpu, "torch": torch.__version__}))
