"""The UNet of DDPM in PyTorch, layer for layer the one of diffusion/unet, and the
update of this project (clip, AGR, Adan, moving average) in PyTorch's foreach form.

Written for speed the way a PyTorch user would: library operators, attention through
scaled_dot_product_attention where this PyTorch has it, one foreach call for all
tensors.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

PRESETS = {
    "digits": dict(size=8, images=1, channels=(32, 64), layers=1, attention=(1,), groups=8, dropout=0.0),
    "small": dict(size=32, images=3, channels=(32, 64, 64), layers=1, attention=(1,), groups=8, dropout=0.1),
    "full": dict(size=32, images=3, channels=(128, 256, 256, 256), layers=2, attention=(1,), groups=32, dropout=0.1),
}

# What the counts of diffusion/unet are: a peer that differs measures another model.
PARAMETERS = {"digits": 701345, "small": 1113955, "full": 35746307}


class Norm(nn.GroupNorm):
    """GroupNorm in float32: autocast leaves its input in bf16, which old versions refuse."""

    def forward(self, x):
        return super().forward(x.float())


def timestep_embedding(t, dim):
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = t[:, None].float() * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.norm = Norm(groups, channels, eps=1e-5)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x):
        n, c, h, w = x.shape
        rows = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = self.q(rows), self.k(rows), self.v(rows)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        else:
            y = torch.bmm(F.softmax(torch.bmm(q, k.transpose(1, 2)) * c**-0.5, dim=-1), v)
        return x + self.out(y).reshape(n, h, w, c).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    def __init__(self, channels_in, channels_out, embedding, groups, dropout, attention):
        super().__init__()
        self.norm1 = Norm(groups, channels_in, eps=1e-5)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.project = nn.Linear(embedding, channels_out)
        self.norm2 = Norm(groups, channels_out, eps=1e-5)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.attention = Attention(channels_out, groups) if attention else nn.Identity()

    def forward(self, x, embedding):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.project(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.attention(h + self.shortcut(x))


class UNet(nn.Module):
    def __init__(self, size, images, channels, layers, attention, groups, dropout):
        super().__init__()
        self.width = channels[0]
        embedding = 4 * self.width
        self.embed = nn.Sequential(nn.Linear(self.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.conv_in = nn.Conv2d(images, self.width, 3, padding=1)

        def block(channels_in, channels_out, attends):
            return ResBlock(channels_in, channels_out, embedding, groups, dropout, attends)

        now, skips = self.width, [self.width]
        self.down = nn.ModuleList()
        for level, out in enumerate(channels):
            for _ in range(layers):
                self.down.append(block(now, out, level in attention))
                now = out
                skips.append(now)
            if level < len(channels) - 1:
                self.down.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                skips.append(now)
        self.mid = nn.ModuleList([block(now, now, True), block(now, now, False)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(channels))):
            for _ in range(layers + 1):
                self.up.append(block(now + skips.pop(), channels[level], level in attention))
                now = channels[level]
            if level > 0:
                self.up.append(nn.Conv2d(now, now, 3, padding=1))
        self.norm_out = Norm(groups, now, eps=1e-5)
        self.conv_out = nn.Conv2d(now, images, 3, padding=1)

    def forward(self, x, t):
        embedding = F.silu(self.embed(timestep_embedding(t, self.width)))
        h = self.conv_in(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, ResBlock) else layer(h)
            skips.append(h)
        for layer in self.mid:
            h = layer(h, embedding)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                h = layer(torch.cat([h, skips.pop()], dim=1), embedding)
            else:
                h = layer(F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(h)))


def build(preset):
    net = UNet(**PRESETS[preset])
    count = sum(p.numel() for p in net.parameters())
    if count != PARAMETERS[preset]:
        raise SystemExit(f"{preset} has {count} parameters here, {PARAMETERS[preset]} in diffusion/unet")
    return net


class Update:
    """Clip by global norm, AGR (arXiv 2407.16944), Adan (arXiv 2208.06677), moving average.

    compiled has torch.compile fuse it. What changes from step to step is then in
    tensors, for a number in the code would be compiled into it, again at every step.
    """

    def __init__(self, params, lr=1e-4, betas=(0.98, 0.92, 0.99), eps=1e-8, decay=0.02, ema=0.999, compiled=False):
        self.params = list(params)
        self.lr, self.betas, self.eps, self.decay, self.ema_decay, self.t = lr, betas, eps, decay, ema, 0
        self.m, self.v, self.n, self.previous = ([torch.zeros_like(p) for p in self.params] for _ in range(4))
        self.ema = [p.detach().clone() for p in self.params]
        self.compiled = torch.compile(self._apply, dynamic=False) if compiled else None

    @torch.no_grad()
    def step(self):
        self.t += 1
        b1, b2, b3 = self.betas
        g = [p.grad for p in self.params]
        corrections = (-self.lr / (1 - b1**self.t), -self.lr * b2 / (1 - b2**self.t), math.sqrt(1 - b3**self.t))
        if self.compiled is None or self.t == 1:
            self._apply(g, self.t == 1, *corrections)
        else:
            self.compiled(g, False, *(torch.tensor(c, device=g[0].device) for c in corrections))

    def _apply(self, g, first, rate, rate_v, root_n):
        b1, b2, b3 = self.betas
        norm = torch.stack(torch._foreach_norm(g)).norm()
        clip = (1 / (norm + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_, without a wait for the device
        torch._foreach_mul_(g, clip)

        share = torch._foreach_abs(g)
        torch._foreach_div_(share, torch._foreach_add(torch._foreach_norm(g, 1), 1e-38))
        torch._foreach_mul_(share, g)
        torch._foreach_sub_(g, share)

        if first:
            torch._foreach_copy_(self.previous, g)
        torch._foreach_mul_(self.previous, -1.0)
        torch._foreach_add_(self.previous, g)  # the difference to the gradient before
        torch._foreach_mul_(self.m, b1)
        torch._foreach_add_(self.m, g, alpha=1 - b1)
        torch._foreach_mul_(self.v, b2)
        torch._foreach_add_(self.v, self.previous, alpha=1 - b2)
        torch._foreach_mul_(self.previous, b2)
        torch._foreach_add_(self.previous, g)
        torch._foreach_mul_(self.n, b3)
        torch._foreach_addcmul_(self.n, self.previous, self.previous, value=1 - b3)
        root = torch._foreach_sqrt(self.n)
        torch._foreach_div_(root, root_n)
        torch._foreach_add_(root, self.eps)
        change = torch._foreach_mul(self.m, rate)
        torch._foreach_add_(change, torch._foreach_mul(self.v, rate_v))
        torch._foreach_div_(change, root)
        torch._foreach_add_(self.params, change)
        torch._foreach_div_(self.params, 1 + self.lr * self.decay)
        torch._foreach_copy_(self.previous, g)

        torch._foreach_mul_(self.ema, self.ema_decay)
        torch._foreach_add_(self.ema, self.params, alpha=1 - self.ema_decay)
