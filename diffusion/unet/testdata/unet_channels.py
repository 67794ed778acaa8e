"""Writes unet-channels.safetensors: diffusers' own UNet2DModel of four channels and without
attention in the middle (add_attention false), in float64: prediction, loss and gradients.

Run with diffusers 0.31.0 or newer and PyTorch: python3 unet_channels.py
"""
import json
import struct

import torch
from diffusers import UNet2DModel

torch.manual_seed(4)
model = UNet2DModel(
    sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(4, 8),
    down_block_types=("AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D"),
    norm_num_groups=2, norm_eps=1e-5, freq_shift=0, flip_sin_to_cos=False, downsample_padding=1,
    attention_head_dim=None, add_attention=False, dropout=0.0)
for p in model.parameters():  # exactly what the file will hold
    p.data = (p.data + 0.1 * torch.randn_like(p)).float()
model = model.double()

x = torch.randn(2, 4, 8, 8).float().double()
eps = torch.randn(2, 4, 8, 8).float().double()
t = torch.tensor([37, 981])
pred = model(x, t).sample
loss = ((pred - eps) ** 2).mean()
loss.backward()
tensors = {"x_t": x, "eps": eps, "t": t, "pred": pred, "loss": loss.view(1)}
tensors.update({"weight." + k: v for k, v in model.named_parameters()})
tensors.update({"grad." + k: v.grad for k, v in model.named_parameters()})

header, data = {}, b""
for name in sorted(tensors, key=lambda k: (tensors[k].dtype != torch.int64, k)):
    v = tensors[name].detach()
    v = v if v.dtype == torch.int64 else v.float()
    raw = v.contiguous().numpy().tobytes()
    header[name] = dict(dtype="I64" if v.dtype == torch.int64 else "F32", shape=list(v.shape),
                        data_offsets=[len(data), len(data) + len(raw)])
    data += raw
head = json.dumps(header).encode()
head += b" " * (-len(head) % 8)
open("unet-channels.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + data)
open("unet-channels.json", "w").write(model.to_json_string())
