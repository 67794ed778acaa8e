"""Writes unet-odd.safetensors: a UNet2DModel with every switch that the other
reference leaves off, in float64, from its definition and independent of the Go code.

Run with PyTorch: python3 unet_odd.py
"""
import json
import math
import struct

import torch
import torch.nn.functional as F

C = dict(size=12, cin=3, cout=2, ch=[4, 8, 4], layers=2, attn=[0, 2], groups=2, eps=1e-3,
         freq_shift=1, flip=True, padding=0, head_dim=2)
W = {}
gen = torch.Generator().manual_seed(2)


def param(name, *shape):
    if name not in W:
        fan = math.prod(shape[1:]) if len(shape) > 1 else 4
        w = torch.randn(*shape, generator=gen, dtype=torch.float64) / math.sqrt(fan)
        if len(shape) == 1 and name.endswith("weight"):
            w = 1 + w
        W[name] = w.float().double().requires_grad_()  # exactly what the file will hold
    return W[name]


def conv(name, x, out, k=3, **kw):
    return F.conv2d(x, param(name + ".weight", out, x.shape[1], k, k), param(name + ".bias", out), **kw)


def linear(name, x, out):
    return F.linear(x, param(name + ".weight", out, x.shape[-1]), param(name + ".bias", out))


def norm(name, x):
    c = x.shape[1]
    return F.group_norm(x, C["groups"], param(name + ".weight", c), param(name + ".bias", c), C["eps"])


def resnet(name, x, emb, out):
    h = conv(name + ".conv1", F.silu(norm(name + ".norm1", x)), out, padding=1)
    h = h + linear(name + ".time_emb_proj", F.silu(emb), out)[:, :, None, None]
    h = conv(name + ".conv2", F.silu(norm(name + ".norm2", h)), out, padding=1)
    return h + (x if x.shape[1] == out else conv(name + ".conv_shortcut", x, out, 1))


def attention(name, x):
    n, c, height, width = x.shape
    heads = c // C["head_dim"]
    h = norm(name + ".group_norm", x).view(n, c, -1).transpose(1, 2)
    q, k, v = (linear(f"{name}.to_{w}", h, c).view(n, -1, heads, C["head_dim"]).transpose(1, 2) for w in "qkv")
    p = (q @ k.transpose(-1, -2) / math.sqrt(C["head_dim"])).softmax(-1)
    y = (p @ v).transpose(1, 2).reshape(n, -1, c)
    return x + linear(name + ".to_out.0", y, c).transpose(1, 2).view(n, c, height, width)


def unet(x, t):
    ch, levels = C["ch"], len(C["ch"])
    half = ch[0] // 2
    freq = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - C["freq_shift"]))
    angle = t.double()[:, None] * freq[None]
    parts = [angle.sin(), angle.cos()]
    emb = torch.cat(parts[::-1] if C["flip"] else parts, -1)
    emb = linear("time_embedding.linear_2", F.silu(linear("time_embedding.linear_1", emb, 4 * ch[0])), 4 * ch[0])
    h = conv("conv_in", x, ch[0], padding=1)
    skips = [h]
    for i, out in enumerate(ch):
        for j in range(C["layers"]):
            h = resnet(f"down_blocks.{i}.resnets.{j}", h, emb, out)
            if i in C["attn"]:
                h = attention(f"down_blocks.{i}.attentions.{j}", h)
            skips.append(h)
        if i < levels - 1:
            if C["padding"] == 0:
                h = conv(f"down_blocks.{i}.downsamplers.0.conv", F.pad(h, (0, 1, 0, 1)), out, stride=2)
            else:
                h = conv(f"down_blocks.{i}.downsamplers.0.conv", h, out, stride=2, padding=1)
            skips.append(h)
    h = resnet("mid_block.resnets.0", h, emb, ch[-1])
    h = attention("mid_block.attentions.0", h)
    h = resnet("mid_block.resnets.1", h, emb, ch[-1])
    for i, out in enumerate(reversed(ch)):
        for j in range(C["layers"] + 1):
            h = resnet(f"up_blocks.{i}.resnets.{j}", torch.cat([h, skips.pop()], 1), emb, out)
            if levels - 1 - i in C["attn"]:
                h = attention(f"up_blocks.{i}.attentions.{j}", h)
        if i < levels - 1:
            h = conv(f"up_blocks.{i}.upsamplers.0.conv", F.interpolate(h, scale_factor=2.0, mode="nearest"), out, padding=1)
    return conv("conv_out", F.silu(norm("conv_norm_out", h)), C["cout"], padding=1)


x = torch.randn(2, C["cin"], C["size"], C["size"], generator=gen).double()
eps = torch.randn(2, C["cout"], C["size"], C["size"], generator=gen).double()
t = torch.tensor([37, 981])
pred = unet(x, t)
loss = F.mse_loss(pred, eps)
loss.backward()

tensors = {"x_t": x, "eps": eps, "t": t, "pred": pred, "loss": loss.view(1)}
tensors.update({"weight." + k: v for k, v in W.items()})
tensors.update({"grad." + k: v.grad for k, v in W.items()})
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
open("unet-odd.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + data)
