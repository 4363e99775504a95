"""A PyTorch twin of mlx-vlm's ``qwen3_vl``: same parameter names, same arithmetic, float32.

Training runs here because PyTorch has fast gradients on any CPU; ``convert.py`` writes the weights
as the checkpoint that mlx-vlm loads, and ``check_twin.py`` shows that both give the same logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Patch 16, temporal patch 2 and merge 2 are those of Qwen3-VL."""

    vocabulary: int = 1024
    hidden: int = 160
    layers: int = 5
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 32
    feed_forward: int = 448
    rope_theta: float = 10000.0
    rope_sections: tuple[int, int, int] = (6, 5, 5)
    vision_hidden: int = 96
    vision_layers: int = 4
    vision_heads: int = 3
    vision_feed_forward: int = 384
    deepstack: tuple[int, ...] = (1,)
    position_grid: int = 8


FIND_LAYER = 2  # in this layer of the language model a question's noun is taught to look at what it names
PATCH_VALUES = 3 * 2 * 16 * 16  # channels, frames, rows, columns


def rotate_half(x):
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


# ------------------------------------------------------------------------------------------------ vision
class VisionAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, cos, sin):
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q = q * cos + rotate_half(q) * sin
        k = k * cos + rotate_half(k) * sin
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class VisionMLP(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.linear_fc1 = nn.Linear(width, inner)
        self.linear_fc2 = nn.Linear(inner, width)

    def forward(self, x):
        return self.linear_fc2(F.gelu(self.linear_fc1(x), approximate="tanh"))


class VisionBlock(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.norm1 = nn.LayerNorm(s.vision_hidden, 1e-6)
        self.norm2 = nn.LayerNorm(s.vision_hidden, 1e-6)
        self.attn = VisionAttention(s.vision_hidden, s.vision_heads)
        self.mlp = VisionMLP(s.vision_hidden, s.vision_feed_forward)

    def forward(self, x, cos, sin):
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    """Four neighbouring patches become one token of the language model."""

    def __init__(self, s: Shape, after_shuffle: bool):
        super().__init__()
        self.after_shuffle, self.inner = after_shuffle, 4 * s.vision_hidden
        self.norm = nn.LayerNorm(self.inner if after_shuffle else s.vision_hidden, 1e-6)
        self.linear_fc1 = nn.Linear(self.inner, self.inner)
        self.linear_fc2 = nn.Linear(self.inner, s.hidden)

    def forward(self, x):
        n, t, _ = x.shape
        if self.after_shuffle:
            x = self.norm(x.reshape(n, t // 4, self.inner))
        else:
            x = self.norm(x).reshape(n, t // 4, self.inner)
        return self.linear_fc2(F.gelu(self.linear_fc1(x)))


class PatchEmbed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(PATCH_VALUES, width)  # a Conv3d whose stride is its kernel


class VisionTower(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.patch_embed = PatchEmbed(s.vision_hidden)
        self.pos_embed = nn.Embedding(s.position_grid**2, s.vision_hidden)
        self.blocks = nn.ModuleList(VisionBlock(s) for _ in range(s.vision_layers))
        self.merger = Merger(s, after_shuffle=False)
        self.deepstack_merger_list = nn.ModuleList(Merger(s, after_shuffle=True) for _ in s.deepstack)
        self.tables: dict[tuple[int, int], tuple] = {}

    def position_tables(self, rows, columns):
        """Indices and weights of the interpolated position embedding, and the rotary angles, in patch order."""
        if (rows, columns) not in self.tables:
            side = self.s.position_grid
            y, x = torch.linspace(0, side - 1, rows), torch.linspace(0, side - 1, columns)
            y0, x0 = y.int().long(), x.int().long()
            y1, x1 = (y0 + 1).clamp(max=side - 1), (x0 + 1).clamp(max=side - 1)
            dy, dx = y - y0, x - x0
            corners = ((y0, x0), (y0, x1), (y1, x0), (y1, x1))
            weights = ((1 - dy, 1 - dx), (1 - dy, dx), (dy, 1 - dx), (dy, dx))
            index = torch.stack([(a[:, None] * side + b).reshape(-1) for a, b in corners])
            weight = torch.stack([(a[:, None] * b).reshape(-1) for a, b in weights])
            order = torch.arange(rows * columns).view(rows // 2, 2, columns // 2, 2).permute(0, 2, 1, 3).reshape(-1)
            half = self.s.vision_hidden // self.s.vision_heads // 2
            pace = 1 / (10000.0 ** (torch.arange(0, half, 2).float() / half))
            angle = torch.cat([(order // columns)[:, None] * pace, (order % columns)[:, None] * pace], -1)
            angle = torch.cat([angle, angle], -1)
            self.tables[rows, columns] = (index[:, order], weight[:, order, None], angle.cos(), angle.sin())
        return self.tables[rows, columns]

    def forward(self, patches, rows, columns, keep=()):
        """``patches`` (pictures, rows*columns, PATCH_VALUES) -> tokens, deepstack features, and the kept block outputs."""
        index, weight, cos, sin = self.position_tables(rows, columns)
        x = self.patch_embed.proj(patches) + (self.pos_embed(index) * weight).sum(0)
        deep, kept = [], []
        for number, block in enumerate(self.blocks):
            x = block(x, cos, sin)
            if number in self.s.deepstack:
                deep.append(self.deepstack_merger_list[self.s.deepstack.index(number)](x))
            if number in keep:
                kept.append(x)
        return self.merger(x), deep, kept


# ------------------------------------------------------------------------------------------------ language
class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-6)


class Attention(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.q_proj = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)
        self.q_norm, self.k_norm = RMSNorm(s.head_dim), RMSNorm(s.head_dim)

    def forward(self, x, cos, sin, mask, look=None, trunk=0):
        """``look`` is None, or (rows, columns): also give the log of what these queries' first head of each group attends to."""
        b, t, _ = x.shape
        s = self.s
        q = self.q_norm(self.q_proj(x).view(b, t, s.heads, s.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(b, t, s.kv_heads, s.head_dim)).transpose(1, 2)
        v = self.v_proj(x).view(b, t, s.kv_heads, s.head_dim).transpose(1, 2)
        q = q * cos + rotate_half(q) * sin
        k = k * cos + rotate_half(k) * sin
        share = s.heads // s.kv_heads
        if look is not None:
            rows, columns = look
            found = []
            for row in rows.unique().tolist():  # the queries come row by row
                asked = columns[rows == row]
                scores = q[row, ::share].index_select(1, asked) @ k[row].transpose(1, 2) / math.sqrt(s.head_dim)
                found.append(scores.masked_fill(~mask[row, :, asked], -1e9).log_softmax(-1).transpose(0, 1))
            look = torch.cat(found)
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        if trunk > 1 and mask is not None:  # plain causal attention is twice as fast as a mask
            first = F.scaled_dot_product_attention(q[:, :, :trunk], k[:, :, :trunk], v[:, :, :trunk], is_causal=True)
            rest = F.scaled_dot_product_attention(q[:, :, trunk:], k, v, attn_mask=mask[:, :, trunk:])
            out = torch.cat([first, rest], 2)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1)), look


class MLP(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden, s.feed_forward, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.feed_forward, bias=False)
        self.down_proj = nn.Linear(s.feed_forward, s.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.self_attn, self.mlp = Attention(s), MLP(s)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(s.hidden), RMSNorm(s.hidden)

    def forward(self, x, cos, sin, mask, look=None, trunk=0):
        step, look = self.self_attn(self.input_layernorm(x), cos, sin, mask, look, trunk)
        x = x + step
        return x + self.mlp(self.post_attention_layernorm(x)), look


class TextModel(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocabulary, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.hidden)


class LanguageModel(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.model = TextModel(s)


class Network(nn.Module):
    def __init__(self, s: Shape = Shape()):
        super().__init__()
        self.s = s
        self.vision_tower = VisionTower(s)
        self.language_model = LanguageModel(s)
        # interleaved M-RoPE: which of (time, row, column) turns each frequency
        axis = torch.zeros(s.head_dim // 2, dtype=torch.long)
        for number in (1, 2):
            axis[number : min(3 * s.rope_sections[number], s.head_dim // 2) : 3] = number
        pace = 1 / (s.rope_theta ** (torch.arange(0, s.head_dim, 2).float() / s.head_dim))
        self.register_buffer("axis", axis, persistent=False)
        self.register_buffer("pace", pace, persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.8 / math.sqrt(p.shape[1])
                if name.endswith(("embed_tokens.weight", "pos_embed.weight")):
                    std = 0.04
                if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")):
                    std /= math.sqrt(8)
                nn.init.normal_(p, 0, std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        start_vision(self.vision_tower)

    def forward(self, ids, positions, groups, where, mask=None, cut_vision=False, look=None, trunk=0):
        """Hidden states of every token, the visual tokens of every group, what the queries in ``look`` attend to, and the
        hidden states after the layer that looks for what a question names.

        ``ids`` (rows, length); ``positions`` (3, rows, length); ``groups`` a list of (patches, rows, columns)
        whose visual tokens go, in this order, to the flat places ``where``; ``mask`` a boolean attention mask.
        ``cut_vision`` keeps the language model's gradient out of the vision tower. ``look`` maps a layer to the (rows,
        columns) of queries. The first ``trunk`` tokens of every row see all tokens before them.
        """
        text = self.language_model.model
        x = text.embed_tokens(ids)
        b, t, width = x.shape
        seen, deep = [], [[] for _ in self.s.deepstack]
        for patches, rows, columns in groups:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not cut_vision):
                tokens, features, _ = self.vision_tower(patches, rows, columns)
            seen.append(tokens)
            for store, feature in zip(deep, features):
                store.append(feature.reshape(-1, width))
        if seen:
            flat = torch.cat([tokens.reshape(-1, width) for tokens in seen])
            x = x.reshape(b * t, width).index_copy(0, where, flat).view(b, t, width)
            deep = [torch.cat(store) for store in deep]
        angle = torch.gather(positions.permute(1, 2, 0).float(), 2, self.axis.expand(b, t, -1)) * self.pace
        angle = torch.cat([angle, angle], -1)[:, None]
        cos, sin = angle.cos(), angle.sin()
        look, looked = look or {}, {}
        for number, layer in enumerate(text.layers):
            x, looked[number] = layer(x, cos, sin, mask, look.get(number), trunk)
            if number == FIND_LAYER:
                found = F.rms_norm(x, (width,))
            if seen and number < len(deep):
                x = x.reshape(b * t, width).index_add(0, where, deep[number]).view(b, t, width)
        return text.norm(x), seen, looked, found


def start_vision(tower: VisionTower):
    """Low frequencies in the patch embedding, smooth positions, silent deepstack: saves minutes of training."""
    g = torch.Generator().manual_seed(5)
    n = 16
    grid = torch.arange(n).float()
    basis = torch.stack([torch.cos(math.pi * (grid + 0.5) * k / n) * math.sqrt((1 if k == 0 else 2) / n) for k in range(n)])
    order = sorted(((a, b) for a in range(8) for b in range(8)), key=lambda ab: (sum(ab), ab[0]))
    colours = torch.tensor([[0.58, 0.58, 0.58], [0.71, 0, -0.71], [-0.41, 0.82, -0.41]])
    rows = []
    for frames, count, scale in (((0.707, 0.707), 22, 1 / 16), ((-0.707, 0.707), 10, 2 / 16)):
        for a, b in order[:count]:
            plane = basis[a][:, None] * basis[b]
            gain = scale * (1 if (a, b) == (0, 0) and count == 22 else 2)
            for mix in colours:
                rows.append((mix[:, None, None, None] * torch.tensor(frames)[None, :, None, None] * plane * gain).reshape(-1))
    weight = torch.stack(rows)[: tower.s.vision_hidden]
    turn = torch.linalg.qr(torch.randn(len(weight), len(weight), generator=g))[0]
    tower.patch_embed.proj.weight.data[: len(weight)] = turn @ weight
    side = tower.s.position_grid
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    waves = []
    for u in (x, y):
        waves += [u, u * u - 0.4] + [f(math.pi * k * u / 1.1) for k in (1, 2, 3) for f in (torch.sin, torch.cos)]
    waves = torch.stack([w.reshape(-1) for w in waves], -1)
    mixed = waves @ (torch.randn(waves.shape[1], tower.s.vision_hidden, generator=g) * 0.18)
    tower.pos_embed.weight.data.copy_(mixed)
    for merger in tower.deepstack_merger_list:
        merger.linear_fc2.weight.data.zero_()
