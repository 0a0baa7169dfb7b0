#!/usr/bin/env python3
"""Makes gpt2_golden.bin: what a GPT-2-style model computes, found without a backward pass (see
golden.py).

    python3 tests/golden/gpt2_golden.py tests/golden/gpt2_golden.bin
"""

import sys

import numpy as np

import golden

LAYERS, HEADS, CHANNELS, CONTEXT, VOCAB = 2, 3, 12, 9, 17


def parameter_shapes():
    c = CHANNELS
    shapes = {"wte.weight": (VOCAB, c), "wpe.weight": (CONTEXT, c)}
    for i in range(LAYERS):
        shapes |= {
            f"h.{i}.ln_1.weight": (c,), f"h.{i}.ln_1.bias": (c,),
            f"h.{i}.attn.c_attn.weight": (3 * c, c), f"h.{i}.attn.c_attn.bias": (3 * c,),
            f"h.{i}.attn.c_proj.weight": (c, c), f"h.{i}.attn.c_proj.bias": (c,),
            f"h.{i}.ln_2.weight": (c,), f"h.{i}.ln_2.bias": (c,),
            f"h.{i}.mlp.c_fc.weight": (4 * c, c), f"h.{i}.mlp.c_fc.bias": (4 * c,),
            f"h.{i}.mlp.c_proj.weight": (c, 4 * c), f"h.{i}.mlp.c_proj.bias": (c,),
        }
    return shapes | {"ln_f.weight": (c,), "ln_f.bias": (c,)}


def normalise(x, gain, shift):
    centred = x - x.sum(axis=-1, keepdims=True) / x.shape[-1]
    variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]
    return centred / np.sqrt(variance + 1e-5) * gain + shift


def attend(x, p, i):
    """One sequence x [T, C], head by head, with the whole T x T matrix."""
    time, size = len(x), CHANNELS // HEADS
    qkv = x @ p[f"h.{i}.attn.c_attn.weight"].T + p[f"h.{i}.attn.c_attn.bias"]
    future = np.triu(np.ones((time, time), dtype=bool), k=1)
    outs = []
    for head in range(HEADS):
        q, k, v = (qkv[:, part * CHANNELS + head * size:][:, :size] for part in range(3))
        scores = q @ k.T / np.sqrt(float(size))
        weights = np.where(future, 0.0, np.exp(scores))
        outs.append((weights / weights.sum(axis=1, keepdims=True)) @ v)
    both = np.concatenate(outs, axis=1)
    return both @ p[f"h.{i}.attn.c_proj.weight"].T + p[f"h.{i}.attn.c_proj.bias"]


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def logits_of(p, tokens):
    rows = []
    for sequence in tokens:
        x = p["wte.weight"][sequence] + p["wpe.weight"][:len(sequence)]
        for i in range(LAYERS):
            x = x + attend(normalise(x, p[f"h.{i}.ln_1.weight"], p[f"h.{i}.ln_1.bias"]), p, i)
            y = normalise(x, p[f"h.{i}.ln_2.weight"], p[f"h.{i}.ln_2.bias"])
            y = gelu(y @ p[f"h.{i}.mlp.c_fc.weight"].T + p[f"h.{i}.mlp.c_fc.bias"])
            x = x + y @ p[f"h.{i}.mlp.c_proj.weight"].T + p[f"h.{i}.mlp.c_proj.bias"]
        x = normalise(x, p["ln_f.weight"], p["ln_f.bias"])
        rows.append(x @ p["wte.weight"].T)
    return np.stack(rows)


if __name__ == "__main__":
    golden.write(sys.argv[1], [LAYERS, HEADS, CHANNELS, CONTEXT, VOCAB], parameter_shapes(),
                 logits_of, seed=20240611)
