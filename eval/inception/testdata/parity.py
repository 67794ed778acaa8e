"""Compares agrdist's FID, KID and Inception Score with pytorch-fid's and torch-fidelity's.

    pip install torch numpy scipy pytorch-fid torch-fidelity
    python parity.py make [N]     # w.safetensors, a.npz, b.npz, features.npz in this directory
    agrdist eval --from a.npz --reference b.npz --inception w.safetensors --json
    python parity.py compare      # the same three from features.npz

The weights are by formula, as golden.py's; the images are N (1,000) smooth noises a set.
The network is pytorch-fid's own.
"""
import json
import struct
import sys

import numpy as np
import torch


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
    if name.endswith(("running_var", "bn.weight")):
        v = 0.5 + u
    elif name.endswith(("running_mean", "bias")):
        v = 0.2 * u - 0.1
    else:
        v = (2 * u - 1) * np.float32(np.sqrt(6 / (n / shape[0])))
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def network():
    import pytorch_fid.inception as pf

    load = torch.nn.Module.load_state_dict
    pf.load_state_dict_from_url = lambda *args, **options: None  # nothing is downloaded
    torch.nn.Module.load_state_dict = lambda self, state: None
    net = pf.fid_inception_v3()
    torch.nn.Module.load_state_dict = load
    names = sorted(k for k in net.state_dict() if not k.endswith("num_batches_tracked"))
    state = {k: fill(k, tuple(net.state_dict()[k].shape), i + 1) for i, k in enumerate(names)}
    net.load_state_dict(state, strict=False)
    pf.fid_inception_v3 = lambda: net
    return pf.InceptionV3().eval(), net, state


def save(path, state):
    header, at = {}, 0
    for k, v in state.items():
        size = 4 * v.numel()
        header[k] = {"dtype": "F32", "shape": list(v.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for v in state.values():
            f.write(v.contiguous().numpy().tobytes())


def images(n, seed, low):
    noise = torch.from_numpy(np.random.default_rng(seed).random((n, low, low, 3))).permute(0, 3, 1, 2)
    x = torch.nn.functional.interpolate(noise, size=32, mode="bicubic", align_corners=False)
    return (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def make(n):
    model, net, state = network()
    save("w.safetensors", state)
    out = {}
    with torch.no_grad():
        for name, x in (("a", images(n, 1, 4)), ("b", images(n, 2, 6))):
            np.savez(name + ".npz", x)
            parts = [torch.from_numpy(x[i : i + 20]).permute(0, 3, 1, 2).float() / 255 for i in range(0, n, 20)]
            out[name] = torch.cat([model(p)[0].squeeze(3).squeeze(2) for p in parts])
        out["logits"] = out["a"] @ net.fc.weight.T  # torch-fidelity's, without the bias
    np.savez("features.npz", **{k: v.numpy() for k, v in out.items()})


def compare():
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    f = np.load("features.npz")
    a, b = f["a"].astype(np.float64), f["b"].astype(np.float64)
    print("pytorch-fid", calculate_frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)))
    ta, tb = torch.from_numpy(f["a"]), torch.from_numpy(f["b"])
    print(fid_statistics_to_metric(fid_features_to_statistics(ta), fid_features_to_statistics(tb), False))
    print(kid_features_to_metric(
        ta, tb, kid_subset_size=min(1000, len(a)), kid_subsets=100, kid_degree=3, kid_gamma=None, kid_coef0=1, rng_seed=2020, verbose=False))
    print(isc_features_to_metric(torch.from_numpy(f["logits"]), splits=10, shuffle=False, rng_seed=2020))


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    else:
        compare()
