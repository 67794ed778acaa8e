"""Writes hub.tar.gz, a repository as google/ddpm-cifar10-32 is, and what its model computes.

    pip install torch diffusers numpy
    python golden.py

The repository has everything at the top, a pickle for weights, the constructor's fields
that were known in 2022, and attention under the names of then (query, key, value,
proj_attn). Weights repeat a few values, so that the file stays small.
"""
import io
import json
import pathlib
import tarfile

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel

here = pathlib.Path(__file__).parent
config = {
    "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
    "block_out_channels": [16, 32], "center_input_sample": False, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 1,
    "mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 8, "out_channels": 3, "sample_size": 8,
    "time_embedding_type": "positional", "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}
scheduler = {
    "_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear",
    "beta_start": 0.0001, "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_large",
}
model = UNet2DModel(**{k: v for k, v in config.items() if not k.startswith("_")}).eval()
rng = np.random.default_rng(1)
state = model.state_dict()
for name, old in state.items():
    few = rng.uniform(-1, 1, 61)
    if old.dim() > 1:
        few *= np.sqrt(3 / old[0].numel())
    elif "norm" in name and name.endswith("weight"):
        few = 1 + 0.2 * few
    else:
        few *= 0.1
    state[name] = torch.from_numpy(np.resize(few.astype(np.float32), old.numel())).view(old.shape)
model.load_state_dict(state)
old_names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def renamed(name):
    if ".attentions." in name:
        for new, old in old_names.items():
            name = name.replace(new, old)
    return name


weights = io.BytesIO()
torch.save({renamed(k): v for k, v in state.items()}, weights)
files = {
    "config.json": json.dumps(config, indent=2).encode(),
    "scheduler_config.json": json.dumps(scheduler, indent=2).encode(),
    "model_index.json": json.dumps({"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}).encode(),
    "diffusion_pytorch_model.bin": weights.getvalue(),
}
with tarfile.open(here / "hub.tar.gz", "w:gz", compresslevel=9) as tar:
    for name, data in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))

x = torch.from_numpy(np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype(np.float32))
t = torch.tensor([0, 1, 500, 999])
s = DDPMScheduler(**{k: v for k, v in scheduler.items() if not k.startswith("_")})
with torch.no_grad():
    out = model.double()(x.double(), t).sample
np.savez_compressed(here / "golden.npz", x=x.numpy(), t=t.numpy(), eps=out.numpy(), alphas_cumprod=s.alphas_cumprod.numpy())
