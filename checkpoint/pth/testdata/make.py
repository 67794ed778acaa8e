"""Writes ckpt.pt, ckpt-old.pt and ckpt-p4.pt (pickle protocol 4): a training script's checkpoint with every kind of tensor.

    pip install torch numpy
    python make.py
"""
import collections
import pathlib

import torch

here = pathlib.Path(__file__).parent

net = collections.OrderedDict(
    transposed=torch.arange(6.0).view(3, 2).t(),
    half=torch.tensor([1, -0.5, 65504, 2**-24], dtype=torch.half),
    bfloat16=torch.tensor([1.5, -3], dtype=torch.bfloat16),
    double=torch.tensor([0.1, 3], dtype=torch.double),
    parameter=torch.nn.Parameter(torch.tensor([7.0])),
    scalar=torch.tensor(8.0),
    num_batches_tracked=torch.tensor(5),
)
layer = torch.nn.Linear(2, 2)
optim = torch.optim.Adam(layer.parameters(), lr=1e-3)
sched = torch.optim.lr_scheduler.LambdaLR(optim, lr_lambda=lambda step: min(step, 5) / 5)
layer(torch.ones(1, 2)).sum().backward()
optim.step()
sched.step()
whole = {
    "net_model": net,
    "ema_model": layer.state_dict(),
    "sched": sched.state_dict(),
    "optim": optim.state_dict(),
    "step": 70000,
    "x_T": torch.zeros(2, 3, 4, 5),
}
torch.save(whole, here / "ckpt.pt")
torch.save(whole, here / "ckpt-p4.pt", pickle_protocol=4)
torch.save(whole, here / "ckpt-old.pt", _use_new_zipfile_serialization=False)
