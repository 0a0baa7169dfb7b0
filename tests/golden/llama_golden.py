#!/usr/bin/env python3
"""Makes llama_golden.bin: what a Llama-style model computes, found without a backward pass (see
golden.py). RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), grouped-query
attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020), no biases, a head of its own.

    python3 tests/golden/llama_golden.py tests/golden/llama_golden.bin
"""

import sys

import numpy as np

import golden

LAYERS, HEADS, CHANNELS, CONTEXT, VOCAB = 2, 4, 16, 9, 17
KV_HEADS, MLP_WIDTH, THETA = 2, 20, 50.0
SIZE = CHANNELS // HEADS


def parameter_shapes():
    c, w = CHANNELS, MLP_WIDTH
    shapes = {"wte.weight": (VOCAB, c)}
    for i in range(LAYERS):
        shapes |= {
            f"h.{i}.ln_1.weight": (c,),
            f"h.{i}.attn.c_attn.weight": (c + 2 * KV_HEADS * SIZE, c),
            f"h.{i}.attn.c_proj.weight": (c, c),
            f"h.{i}.ln_2.weight": (c,),
            f"h.{i}.mlp.c_fc.weight": (2 * w, c),
            f"h.{i}.mlp.c_proj.weight": (c, w),
        }
    return shapes | {"ln_f.weight": (c,), "lm_head.weight": (VOCAB, c)}


def normalise(x, gain):
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) / x.shape[-1] + 1e-5) * gain


def rotate(x):
    """Rows x [T, size], one for each position: each pair (i, i + size/2) as a complex number, whose
    real and imaginary part may be complex themselves."""
    half = SIZE // 2
    angle = np.arange(len(x))[:, None] * THETA ** (-np.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                           a * np.sin(angle) + b * np.cos(angle)], axis=1)


def attend(x, p, i):
    """One sequence x [T, C], head by head, with the whole T x T matrix."""
    weight = p[f"h.{i}.attn.c_attn.weight"]
    queries, keys, values = np.split(weight, [CHANNELS, CHANNELS + KV_HEADS * SIZE])
    future = np.triu(np.ones((len(x), len(x)), dtype=bool), k=1)
    outs = []
    for head in range(HEADS):
        mine = slice(head * SIZE, (head + 1) * SIZE)
        group = head // (HEADS // KV_HEADS)
        shared = slice(group * SIZE, (group + 1) * SIZE)
        q, k, v = rotate(x @ queries[mine].T), rotate(x @ keys[shared].T), x @ values[shared].T
        weights = np.where(future, 0.0, np.exp(q @ k.T / np.sqrt(float(SIZE))))
        outs.append((weights / weights.sum(axis=1, keepdims=True)) @ v)
    return np.concatenate(outs, axis=1) @ p[f"h.{i}.attn.c_proj.weight"].T


def swiglu(x, weight):
    gate, up = x @ weight[:MLP_WIDTH].T, x @ weight[MLP_WIDTH:].T
    return gate / (1 + np.exp(-gate)) * up


def logits_of(p, tokens):
    rows = []
    for sequence in tokens:
        x = p["wte.weight"][sequence]
        for i in range(LAYERS):
            x = x + attend(normalise(x, p[f"h.{i}.ln_1.weight"]), p, i)
            y = swiglu(normalise(x, p[f"h.{i}.ln_2.weight"]), p[f"h.{i}.mlp.c_fc.weight"])
            x = x + y @ p[f"h.{i}.mlp.c_proj.weight"].T
        rows.append(normalise(x, p["ln_f.weight"]) @ p["lm_head.weight"].T)
    return np.stack(rows)


if __name__ == "__main__":
    golden.write(sys.argv[1], [LAYERS, HEADS, CHANNELS, CONTEXT, VOCAB, KV_HEADS, MLP_WIDTH, THETA],
                 parameter_shapes(), logits_of, seed=20261127)
