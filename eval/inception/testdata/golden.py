"""Golden values of package inception: pytorch-fid's network with weights made from a formula.

    pip install torch torchvision pytorch-fid==0.3.0
    python golden.py        # writes golden.npz beside it and checkpoint/pth/testdata/*.pth
"""
import collections
import os
import pathlib
import pickle

import numpy as np
import torch
import pytorch_fid.inception as pf

here = pathlib.Path(__file__).parent


def uniform(n, seed):
    """n values in [0, 1), a hash (splitmix64) of their index."""
    with np.errstate(over="ignore"):
        z = np.arange(n, dtype=np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**24).astype(np.float32)


def fill(name, shape, seed):
    n = int(np.prod(shape))
    u = uniform(n, seed)
    if name.endswith("running_var") or name.endswith("bn.weight"):
        v = 0.5 + u
    elif name.endswith("running_mean") or name.endswith("bias"):
        v = 0.2 * u - 0.1
    else:  # He: uniform with variance 2 / fan_in
        v = (2 * u - 1) * np.float32(np.sqrt(6 / (n / shape[0])))
    return v.astype(np.float32).reshape(shape)


pf.load_state_dict_from_url = lambda *a, **k: state
state = None
torch.nn.Module.load_state_dict_ = torch.nn.Module.load_state_dict
torch.nn.Module.load_state_dict = lambda self, s: None  # fid_inception_v3 loads nothing
net = pf.fid_inception_v3()
torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict_
names = sorted(k for k in net.state_dict() if not k.endswith("num_batches_tracked"))
state = {k: torch.from_numpy(fill(k, tuple(net.state_dict()[k].shape), i + 1)) for i, k in enumerate(names)}
net.load_state_dict(state, strict=False)
pf.fid_inception_v3 = lambda: net
model = pf.InceptionV3().eval()
with torch.no_grad():
    images = torch.from_numpy(np.stack([uniform(3 * 32 * 32, 1000 + i).reshape(32, 32, 3) for i in range(3)])).permute(0, 3, 1, 2)
    features = model(images)[0].squeeze(3).squeeze(2)
    logits = features @ net.fc.weight.T
print(features.mean(), features.std(), logits.std())
np.savez_compressed(here / "golden.npz", features=features.numpy(), logits=logits.numpy())

out = here.parents[2] / "checkpoint" / "pth" / "testdata"
out.mkdir(exist_ok=True)
small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
for i, k in enumerate(sorted(small)):
    if not k.endswith("num_batches_tracked"):
        small[k] = torch.from_numpy(uniform(small[k].numel(), i + 1).reshape(tuple(small[k].shape)))
torch.save(small, out / "zip.pth")
torch.save(small, out / "old.pth", _use_new_zipfile_serialization=False)
torch.save(collections.OrderedDict(w=torch.ones(3, 4).t()), out / "strided.pth")


class Evil:
    def __reduce__(self):
        return os.system, ("echo pwned",)


torch.save({"w": Evil()}, out / "evil.pth")
(out / "evil.pkl").write_bytes(pickle.dumps({"w": Evil()}, protocol=2))
