"""Writes torch_golden.json: the optimizers of torch.optim in float64.

    python3 optim/testdata/make_golden.py > optim/testdata/torch_golden.json

Made with PyTorch 1.13. Inputs are exactly representable in float32. Every case
starts from `params` and takes one step per row of `grads`; `lr` is the learning
rate of each step. `after` is the parameters after each step, `state` the state
after each step, under PyTorch's own names.
"""

import json
import sys

import torch

STEPS, SIZE = 13, 17

# (name of the case, class, its arguments, the same settings as optim.Config has them)
CASES = [
    ("adam", torch.optim.Adam, {}, {"Name": "adam"}),
    ("adam_l2", torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-4},
     {"Name": "adam", "WeightDecay": 0.1, "Beta1": 0.8, "Beta2": 0.95, "Eps": 1e-4}),
    ("adamw", torch.optim.AdamW, {}, {"Name": "adamw"}),
    ("adamw_decay", torch.optim.AdamW, {"weight_decay": 0.5}, {"Name": "adamw", "WeightDecay": 0.5}),
    ("rmsprop", torch.optim.RMSprop, {}, {"Name": "rmsprop"}),
    ("rmsprop_momentum", torch.optim.RMSprop, {"momentum": 0.9, "weight_decay": 0.05},
     {"Name": "rmsprop", "Momentum": 0.9, "WeightDecay": 0.05}),
    ("rmsprop_centered", torch.optim.RMSprop, {"centered": True, "alpha": 0.9},
     {"Name": "rmsprop", "Centered": True, "Alpha": 0.9}),
    ("rmsprop_centered_momentum", torch.optim.RMSprop, {"centered": True, "momentum": 0.5, "eps": 1e-3},
     {"Name": "rmsprop", "Centered": True, "Momentum": 0.5, "Eps": 1e-3}),
    ("sgd", torch.optim.SGD, {"weight_decay": 0.1}, {"Name": "sgdm", "Momentum": 0, "WeightDecay": 0.1}),
    ("sgd_momentum", torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
     {"Name": "sgdm", "Momentum": 0.9, "Dampening": 0.3, "WeightDecay": 0.1}),
    ("sgd_nesterov", torch.optim.SGD, {"momentum": 0.9, "nesterov": True},
     {"Name": "sgdm", "Momentum": 0.9, "Nesterov": True}),
]


def main():
    torch.manual_seed(0)
    params = torch.randn(SIZE)
    grads = torch.randn(STEPS, SIZE) * torch.logspace(-4, 2, SIZE)
    grads[:, 3] = 0  # an element that never sees a gradient
    lrs = [0.01 * min(t, 4) / 4 for t in range(1, STEPS + 1)]
    doc = {
        "params": params.tolist(),
        "grads": grads.tolist(),
        "lr": lrs,
        "cases": [],
    }
    for name, cls, kwargs, config in CASES:
        w = params.double().requires_grad_()
        o = cls([w], lr=lrs[0], **kwargs)
        after, state = [], {}
        for lr, g in zip(lrs, grads):
            o.param_groups[0]["lr"] = lr
            w.grad = g.double()
            o.step()
            after.append(w.tolist())
            for k, v in o.state[w].items():
                if torch.is_tensor(v) and v.shape == w.shape:
                    state.setdefault(k, []).append(v.tolist())
        doc["cases"].append({"name": name, "config": config, "after": after, "state": state})
    json.dump(doc, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
