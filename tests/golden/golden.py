"""What the makers of golden files share: gradients, AdamW, the file.

Everything is plain NumPy in float64. Gradients come from the complex step (Squire & Trapp 1998):
for an analytic f, df/dx = Im f(x + ih) / h, exact to rounding for h = 1e-40, so that no derivative
is derived by hand anywhere in these files and none can share a mistake with the library's. The step
is itself checked against central finite differences before anything is written.

The file: the line "trimtab golden 1\n", then records until the end, each a name (64 bytes, padded
with NULs), a count (uint64, little-endian) and as many float64.
"""

import struct

import numpy as np

BATCH, TIME, STEPS = 2, 7, 3
LEARNING_RATE, MINIMUM_RATE, WARMUP, TOTAL = 3e-3, 3e-4, 2, 5
# A key bias has no gradient but rounding, which a small epsilon would turn into full steps.
BETA1, BETA2, EPSILON, WEIGHT_DECAY, CLIP = 0.9, 0.95, 1e-3, 0.1, 1.0


def draw_parameters(rng, shapes):
    """Values far from initialisation, so that every term matters."""
    values = {}
    for name, shape in shapes.items():
        draw = rng.standard_normal(shape)
        if ".ln_" in name or name.startswith("ln_f"):
            values[name] = (1.0 if name.endswith("weight") else 0.0) + 0.2 * draw
        else:
            values[name] = (0.4 if len(shape) == 2 else 0.2) * draw
    return values


def loss_of(logits_of, p, tokens, targets):
    logits = logits_of(p, tokens)
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (np.log(np.exp(logits).sum(axis=-1)) - picked).mean()


def gradients_of(logits_of, p, tokens, targets, step=1e-40):
    complex_p = {name: value.astype(np.complex128) for name, value in p.items()}
    gradients = {}
    for name, value in complex_p.items():
        flat = value.reshape(-1)
        gradient = np.empty(flat.size)
        for i in range(flat.size):
            flat[i] += 1j * step
            gradient[i] = loss_of(logits_of, complex_p, tokens, targets).imag / step
            flat[i] = flat[i].real
        gradients[name] = gradient.reshape(value.shape)
    return gradients


def check_gradients(logits_of, p, gradients, tokens, targets, rng):
    """The complex step against central differences of fourth order."""
    h = 1e-4
    for name, value in p.items():
        flat = value.reshape(-1)
        for i in rng.integers(flat.size, size=5):
            kept, numeric = flat[i], 0.0
            for at, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                flat[i] = kept + at * h
                numeric += weight * loss_of(logits_of, p, tokens, targets) / (12 * h)
            flat[i] = kept
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


def write(path, dims, shapes, logits_of, seed):
    """`dims`: what the reader makes its model of; batch, time and steps come after the first five."""
    records = []

    def record(name, values):
        flat = np.asarray(values, dtype="<f8").reshape(-1)
        records.append(name.encode().ljust(64, b"\0") + struct.pack("<Q", flat.size)
                       + flat.tobytes())

    rng = np.random.default_rng(seed)
    p = draw_parameters(rng, shapes)
    m = {name: np.zeros_like(value) for name, value in p.items()}
    v = {name: np.zeros_like(value) for name, value in p.items()}
    record("dims", dims[:5] + [BATCH, TIME, STEPS] + dims[5:])
    record("optim", [LEARNING_RATE, MINIMUM_RATE, WARMUP, TOTAL, BETA1, BETA2, EPSILON,
                     WEIGHT_DECAY, CLIP])
    for name, value in p.items():
        record(f"param.{name}", value)
    for step in range(STEPS):
        tokens = rng.integers(dims[4], size=(BATCH, TIME))
        targets = rng.integers(dims[4], size=(BATCH, TIME))
        gradients = gradients_of(logits_of, p, tokens, targets)
        check_gradients(logits_of, p, gradients, tokens, targets, rng)
        record(f"{step}.tokens", tokens)
        record(f"{step}.targets", targets)
        record(f"{step}.loss", loss_of(logits_of, p, tokens, targets))
        if step == 0:
            record("0.logits", logits_of(p, tokens))
            for name, gradient in gradients.items():
                record(f"grad.{name}", gradient)
        record(f"{step}.norm", update(p, m, v, gradients, step))
    for name in p:
        record(f"after.{name}", p[name])
        record(f"m.{name}", m[name])
        record(f"v.{name}", v[name])
    with open(path, "wb") as out:
        out.write(b"trimtab golden 1\n" + b"".join(records))
