"""Writes ckpt.pt.gz, as pytorch-ddpm's main.py saves it, and what its model computes.

    git clone https://github.com/w86763777/pytorch-ddpm
    pip install torch numpy
    python golden.py pytorch-ddpm

Weights repeat a few values, so that the file stays small.
"""
import gzip
import io
import pathlib
import sys

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
from model import UNet  # noqa: E402

here = pathlib.Path(__file__).parent
PERIOD = 61


def fill(model, seed):
    state = model.state_dict()
    rng = np.random.default_rng(seed)
    for name, old in state.items():
        if name == "time_embedding.timembedding.0.weight":
            continue
        few = rng.uniform(-1, 1, PERIOD)
        if old.dim() > 1:
            few *= np.sqrt(3 / old[0].numel())
        elif name.endswith("weight"):  # of a normalisation
            few = 1 + 0.2 * few
        else:
            few *= 0.1
        values = np.resize(few.astype(np.float32), old.numel())
        state[name] = torch.from_numpy(values).view(old.shape)
    model.load_state_dict(state)
    return model.eval()


def build(seed):
    return fill(UNet(T=1000, ch=32, ch_mult=[1, 2], attn=[1], num_res_blocks=1, dropout=0.1), seed)


net, ema = build(1), build(2)
optim = torch.optim.Adam(net.parameters(), lr=2e-4)
sched = torch.optim.lr_scheduler.LambdaLR(optim, lr_lambda=lambda step: min(step, 5000) / 5000)
for p in net.parameters():
    p.grad = torch.zeros_like(p)
optim.step()
sched.step()
file = io.BytesIO()
torch.save({
    "net_model": net.state_dict(),
    "ema_model": ema.state_dict(),
    "sched": sched.state_dict(),
    "optim": optim.state_dict(),
    "step": 1,
    "x_T": torch.zeros(64, 3, 8, 8),
}, file)
(here / "ckpt.pt.gz").write_bytes(gzip.compress(file.getvalue(), 9, mtime=0))

x = np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype(np.float32)
t = np.array([0, 1, 370, 999])
with torch.no_grad():
    out = {name: m.double()(torch.from_numpy(x).double(), torch.from_numpy(t)).numpy() for name, m in (("net", net), ("ema", ema))}
np.savez_compressed(here / "golden.npz", x=x, t=t, **out)
