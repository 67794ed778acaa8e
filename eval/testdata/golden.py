"""Golden values of package eval: random features through torch-fidelity, pytorch-fid and prdc.

    pip install torch torchvision torch-fidelity==0.4.0 pytorch-fid==0.3.0 prdc==0.2 scikit-learn
    python golden.py        # writes features.npz, statistics.npz, golden.json beside it
"""
import contextlib
import io
import json
import pathlib

import numpy as np
import torch
from prdc import compute_prdc
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

here = pathlib.Path(__file__).parent
rng = np.random.RandomState(7)
mixing = rng.randn(16, 16)
reference = (rng.randn(280, 16) @ mixing).astype(np.float32)
generated = (0.8 * rng.randn(300, 16) @ mixing + 0.3).astype(np.float32)
generated[:5] = reference[:5]  # equal images
generated[290:] = generated[289]  # more equal images than neighbours: radius 0
few = generated[:10]  # fewer images than features: a singular covariance
logits = (3 * rng.randn(305, 10)).astype(np.float32)  # does not divide by 10


def statistics(x):
    x = x.astype(np.float64)
    return x.mean(axis=0), np.cov(x, rowvar=False)


np.savez(here / "features.npz", generated=generated, reference=reference, logits=logits)
mu, sigma = statistics(reference)
np.savez(here / "statistics.npz", mu=mu, sigma=sigma)
np.savez_compressed(here / "object.npz", mu=np.array([{"a": 1}], dtype=object), sigma=sigma)

G, R = torch.from_numpy(generated), torch.from_numpy(reference)
kid = kid_features_to_metric(G.double(), R.double(), kid_subsets=20, kid_subset_size=100, verbose=False, rng_seed=2020)
isc = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
prc = prc_features_to_metric(G.double(), R.double(), prc_neighborhood=3, verbose=False)
with contextlib.redirect_stdout(io.StringIO()):
    prdc = compute_prdc(reference.astype(np.float64), generated.astype(np.float64), nearest_k=5)
with contextlib.redirect_stdout(io.StringIO()):  # it says that it adds 1e-6 to a singular product
    fid_few = calculate_frechet_distance(*statistics(few), mu, sigma)
json.dump(
    {
        "fid": calculate_frechet_distance(*statistics(generated), mu, sigma),
        "fid_few": fid_few,
        "kid_mean": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "is_mean": isc["inception_score_mean"],
        "is_std": isc["inception_score_std"],
        "precision": prc["precision"],
        "recall": prc["recall"],
        "density": float(prdc["density"]),
        "coverage": float(prdc["coverage"]),
        "permutation": np.random.RandomState(2020).choice(300, 12, replace=False).tolist(),
    },
    open(here / "golden.json", "w"),
    indent=1,
)
