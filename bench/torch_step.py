"""A GPT-2 training step in PyTorch on the CPU: what train_rivals holds ours against.

    torch_step.py --layers 12 --heads 12 --channels 768 --vocab 50304 --batch 8 --time 128
                  --precision f32|bf16 --optimizer fused|foreach|plain [--compile] [--steps N]

Prints one JSON object: the median step after two that warm up (and compile), tokens per second, the
largest resident set. Exit code 3: this PyTorch has no such optimizer or compiler. Gradients are not
clipped, and nothing is checked: less work than ours.
"""

import argparse
import json
import math
import os
import resource
import statistics
import sys
import time
import warnings

import torch
from torch import nn
from torch.nn import functional

WARM_UP = 2


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("layers", "heads", "channels", "vocab", "batch", "time"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--optimizer", choices=("fused", "foreach", "plain"), default="plain")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def attention(q, k, v):
    """Causal; the library's own where it has one."""
    if hasattr(functional, "scaled_dot_product_attention"):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    time = q.shape[2]
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[3])
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    return functional.softmax(scores.masked_fill(future, float("-inf")), -1) @ v


class Block(nn.Module):
    def __init__(self, heads, channels):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.fc, self.fc_proj = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        batch, time, channels = x.shape
        parts = self.qkv(self.ln_1(x)).split(channels, 2)
        q, k, v = (
            p.view(batch, time, self.heads, channels // self.heads).transpose(1, 2) for p in parts
        )
        y = attention(q, k, v).transpose(1, 2).contiguous().view(batch, time, channels)
        x = x + self.proj(y)
        hidden = functional.gelu(self.fc(self.ln_2(x)), approximate="tanh")
        return x + self.fc_proj(hidden)


class Gpt(nn.Module):
    def __init__(self, given):
        super().__init__()
        self.wte = nn.Embedding(given.vocab, given.channels)
        self.wpe = nn.Embedding(given.time, given.channels)
        self.blocks = nn.ModuleList(
            [Block(given.heads, given.channels) for _ in range(given.layers)]
        )
        self.ln_f = nn.LayerNorm(given.channels)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.ln_f(x), self.wte.weight)
        return functional.cross_entropy(
            logits.view(-1, logits.shape[-1]).float(), targets.view(-1)
        )


def make_optimizer(model, flavour):
    kind = {} if flavour == "plain" else {flavour: True}
    return torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, **kind
    )


def main():
    given = arguments()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    model = Gpt(given)
    run = model
    if given.compile:
        if not hasattr(torch, "compile"):
            print("no torch.compile in PyTorch " + torch.__version__, file=sys.stderr)
            return 3
        run = torch.compile(model)
    try:
        optimizer = make_optimizer(model, given.optimizer)
    except (RuntimeError, TypeError) as error:
        print(error, file=sys.stderr)
        return 3
    seconds = []
    for step in range(WARM_UP + given.steps):
        tokens, targets = torch.randint(0, given.vocab, (2, given.batch, given.time))
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=given.precision == "bf16"):
            loss = run(tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        try:
            optimizer.step()
        except RuntimeError as error:  # some versions refuse fused AdamW only here
            print(error, file=sys.stderr)
            return 3
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    print(
        json.dumps(
            {
                "version": torch.__version__,
                "seconds": median,
                "tokens_per_second": given.batch * given.time / median,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "loss": loss.item(),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
