"""Writes unet-scale-shift.safetensors: diffusers' own UNet2DModel whose residual blocks scale and
shift by the time embedding (resnet_time_scale_shift "scale_shift"), in float64: prediction, loss and
gradients. Without attn_norm_num_groups the attention in the middle of such a model has no norm.

Run with diffusers 0.31.0 or newer and PyTorch: python3 unet_scale_shift.py
"""
import json
import struct

import torch
from diffusers import UNet2DModel

torch.manual_seed(5)
model = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 8),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=2, norm_eps=1e-5, freq_shift=0, flip_sin_to_cos=False, downsample_padding=1,
    attention_head_dim=None, resnet_time_scale_shift="scale_shift", attn_norm_num_groups=2, dropout=0.0)
for p in model.parameters():  # exactly what the file will hold
    p.data = (p.data + 0.1 * torch.randn_like(p)).float()
model = model.double()

x = torch.randn(3, 1, 8, 8).float().double()
eps = torch.randn(3, 1, 8, 8).float().double()
t = torch.tensor([3, 412, 981])
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
open("unet-scale-shift.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + data)
open("unet-scale-shift.json", "w").write(model.to_json_string())
