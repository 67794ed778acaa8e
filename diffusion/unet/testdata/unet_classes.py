"""Writes unet-classes.safetensors: diffusers' own UNet2DModel with num_class_embeds in
float64: prediction, loss and gradients of two samples, plain and with the samples'
squared errors weighted.

Run with diffusers 0.31.0 and PyTorch: python3 unet_classes.py
"""
import json
import struct

import torch
from diffusers import UNet2DModel

torch.manual_seed(3)
model = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 8),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=2, norm_eps=1e-5, freq_shift=0, flip_sin_to_cos=False, downsample_padding=1,
    attention_head_dim=None, num_class_embeds=5, dropout=0.0)
for p in model.parameters():  # exactly what the file will hold
    p.data = (p.data + 0.1 * torch.randn_like(p)).float()
model = model.double()

x = torch.randn(2, 1, 8, 8).float().double()
eps = torch.randn(2, 1, 8, 8).float().double()
t, labels = torch.tensor([37, 981]), torch.tensor([4, 1])
weights = torch.tensor([0.3, 2.0], dtype=torch.float64)
pred = model(x, t, class_labels=labels).sample
tensors = {"x_t": x, "eps": eps, "t": t, "labels": labels, "pred": pred, "weights": weights}
tensors.update({"weight." + k: v for k, v in model.named_parameters()})
for name, w in (("plain", torch.ones(2).double()), ("weighted", weights)):
    model.zero_grad()
    loss = (w[:, None, None, None] * (pred - eps) ** 2).mean()
    loss.backward(retain_graph=True)
    tensors[f"{name}.loss"] = loss.view(1)
    tensors.update({f"{name}.grad.{k}": v.grad.clone() for k, v in model.named_parameters()})

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
open("unet-classes.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + data)
open("unet-classes.json", "w").write(model.to_json_string())
