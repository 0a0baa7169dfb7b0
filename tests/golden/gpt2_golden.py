#!/usr/bin/env python3
"""Makes gpt2_golden.bin: what a GPT-2-style model computes, found without a backward pass.

Everything is plain NumPy in float64. Gradients come from the complex step (Squire & Trapp 1998):
for an analytic f, df/dx = Im f(x + ih) / h, exact to rounding for h = 1e-40, so that no derivative
is derived by hand anywhere in this file and none can share a mistake with the library's. The step
is itself checked against central finite differences before anything is written.

    python3 tests/golden/gpt2_golden.py tests/golden/gpt2_golden.bin

The file: the line "trimtab golden 1\n", then records until the end, each a name (64 bytes, padded
with NULs), a count (uint64, little-endian) and as many float64.
"""

import struct
import sys

import numpy as np

LAYERS, HEADS, CHANNELS, CONTEXT, VOCAB = 2, 3, 12, 9, 17
BATCH, TIME, STEPS = 2, 7, 3
LEARNING_RATE, MINIMUM_RATE, WARMUP, TOTAL = 3e-3, 3e-4, 2, 5
# A key bias has no gradient but rounding, which a small epsilon would turn into full steps.
BETA1, BETA2, EPSILON, WEIGHT_DECAY, CLIP = 0.9, 0.95, 1e-3, 0.1, 1.0


def make_parameters(rng):
    """Values far from initialisation, so that every term matters."""
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
    shapes |= {"ln_f.weight": (c,), "ln_f.bias": (c,)}
    values = {}
    for name, shape in shapes.items():
        draw = rng.standard_normal(shape)
        if ".ln_" in name or name.startswith("ln_f"):
            values[name] = (1.0 if name.endswith("weight") else 0.0) + 0.2 * draw
        else:
            values[name] = (0.4 if len(shape) == 2 else 0.2) * draw
    return values


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


def loss_of(p, tokens, targets):
    logits = logits_of(p, tokens)
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (np.log(np.exp(logits).sum(axis=-1)) - picked).mean()


def gradients_of(p, tokens, targets, step=1e-40):
    complex_p = {name: value.astype(np.complex128) for name, value in p.items()}
    gradients = {}
    for name, value in complex_p.items():
        flat = value.reshape(-1)
        gradient = np.empty(flat.size)
        for i in range(flat.size):
            flat[i] += 1j * step
            gradient[i] = loss_of(complex_p, tokens, targets).imag / step
            flat[i] = flat[i].real
        gradients[name] = gradient.reshape(value.shape)
    return gradients


def check_gradients(p, gradients, tokens, targets, rng):
    """The complex step against central differences (error about h^2)."""
    for name, value in p.items():
        flat = value.reshape(-1)
        for i in rng.integers(flat.size, size=5):
            kept, h = flat[i], 1e-5
            flat[i] = kept + h
            above = loss_of(p, tokens, targets)
            flat[i] = kept - h
            below = loss_of(p, tokens, targets)
            flat[i] = kept
            numeric = (above - below) / (2 * h)
            exact = gradients[name].reshape(-1)[i]
            assert abs(numeric - exact) < 1e-8 * max(1.0, abs(exact)), (name, i, numeric, exact)


def learning_rate(step):
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    share = (step - WARMUP) / (TOTAL - WARMUP)
    return MINIMUM_RATE + (LEARNING_RATE - MINIMUM_RATE) * (1 + np.cos(np.pi * share)) / 2


def update(p, m, v, gradients, step):
    """AdamW as in Loshchilov & Hutter 2019, algorithm 2, on gradients clipped by global norm."""
    norm = np.sqrt(sum((g * g).sum() for g in gradients.values()))
    rate = learning_rate(step)
    for name in p:
        g = gradients[name] * min(1.0, CLIP / norm)
        m[name] = BETA1 * m[name] + (1 - BETA1) * g
        v[name] = BETA2 * v[name] + (1 - BETA2) * g * g
        corrected_m = m[name] / (1 - BETA1 ** (step + 1))
        corrected_v = v[name] / (1 - BETA2 ** (step + 1))
        decay = WEIGHT_DECAY if p[name].ndim == 2 else 0.0
        p[name] = p[name] - rate * (corrected_m / (np.sqrt(corrected_v) + EPSILON)
                                    + decay * p[name])
    return norm


def main():
    records = []

    def record(name, values):
        flat = np.asarray(values, dtype="<f8").reshape(-1)
        records.append(name.encode().ljust(64, b"\0") + struct.pack("<Q", flat.size)
                       + flat.tobytes())

    rng = np.random.default_rng(20240611)
    p = make_parameters(rng)
    m = {name: np.zeros_like(value) for name, value in p.items()}
    v = {name: np.zeros_like(value) for name, value in p.items()}
    record("dims", [LAYERS, HEADS, CHANNELS, CONTEXT, VOCAB, BATCH, TIME, STEPS])
    record("optim", [LEARNING_RATE, MINIMUM_RATE, WARMUP, TOTAL, BETA1, BETA2, EPSILON,
                     WEIGHT_DECAY, CLIP])
    for name, value in p.items():
        record(f"param.{name}", value)
    for step in range(STEPS):
        tokens = rng.integers(VOCAB, size=(BATCH, TIME))
        targets = rng.integers(VOCAB, size=(BATCH, TIME))
        gradients = gradients_of(p, tokens, targets)
        check_gradients(p, gradients, tokens, targets, rng)
        record(f"{step}.tokens", tokens)
        record(f"{step}.targets", targets)
        record(f"{step}.loss", loss_of(p, tokens, targets))
        if step == 0:
            record("0.logits", logits_of(p, tokens))
            for name, gradient in gradients.items():
                record(f"grad.{name}", gradient)
        record(f"{step}.norm", update(p, m, v, gradients, step))
    for name in p:
        record(f"after.{name}", p[name])
        record(f"m.{name}", m[name])
        record(f"v.{name}", v[name])
    with open(sys.argv[1], "wb") as out:
        out.write(b"trimtab golden 1\n" + b"".join(records))


if __name__ == "__main__":
    main()
