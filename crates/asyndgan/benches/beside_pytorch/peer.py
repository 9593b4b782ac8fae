#!/usr/bin/env python3
"""The workloads of `main.rs`, as a PyTorch user would write them: one process, default threads. Prints one JSON line.

    peer.py round [--size 64] [--width 16] [--sites 10] [--batch 1] [--rounds 10] [--first 3] [--device cpu|cuda]
    peer.py segmenter [--steps 60]
    peer.py segment

Without `--how`, everything is eager. `--how` has the ways of a user who cares for speed, separated by commas:
batched (all sites' batches through the generator in one pass, real and synthetic images through a discriminator in one
pass, all windows of 32 slices at once, fused Adam), channels_last, bfloat16 (autocast), compile (torch.compile).

The networks, losses and updates are those of asyndgan-models (crates/asyndgan-models/tests/pytorch.rs compares outputs); needs torch 2.13.0.
"""
import argparse
import json
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(layer, channels, activation):
    return [layer, nn.InstanceNorm2d(channels), activation]


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.row = nn.Sequential(
            nn.ReflectionPad2d(1),
            *conv_norm(nn.Conv2d(channels, channels, 3), channels, nn.ReLU(True)),
            nn.Dropout(0.5),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x):
        return x + self.row(x)


def generator(width, blocks=9):
    layers = [nn.ReflectionPad2d(3), *conv_norm(nn.Conv2d(1, width, 7), width, nn.ReLU(True))]
    for n in (width, 2 * width):
        layers += conv_norm(nn.Conv2d(n, 2 * n, 3, 2, 1), 2 * n, nn.ReLU(True))
    layers += [Residual(4 * width) for _ in range(blocks)]
    for n in (4 * width, 2 * width):
        layers += conv_norm(nn.ConvTranspose2d(n, n // 2, 3, 2, 1, 1), n // 2, nn.ReLU(True))
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh())


def discriminator(width):
    layers = [nn.Conv2d(2, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for n, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
        layers += conv_norm(nn.Conv2d(n, 2 * n, 4, stride, 1), 2 * n, nn.LeakyReLU(0.2, True))
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


def fast(network, how):
    """The network as it is called, in the ways of `how`."""
    if "channels_last" in how:
        network = network.to(memory_format=torch.channels_last)
    return torch.compile(network) if "compile" in how else network


def precision(how, device="cpu"):
    return torch.autocast(device, torch.bfloat16, enabled="bfloat16" in how)


def rounds(a):
    device = torch.device(a.device)
    network = generator(a.width).to(device)
    judges = [discriminator(a.width).to(device) for _ in range(a.sites)]
    batched = "batched" in a.how
    adam = lambda of: torch.optim.Adam(of.parameters(), 2e-4, (0.5, 0.999), fused=batched or None)
    adam_network, adams = adam(network), [adam(j) for j in judges]
    run, judge_by = fast(network, a.how), [fast(judge, a.how) for judge in judges]
    shape = (a.batch, 1, a.size, a.size)
    conditions = [torch.randn(shape, device=device).sign() for _ in judges]
    reals = [torch.randn(shape, device=device).tanh() for _ in judges]
    cost = lambda logits, label: F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def logits(judge, pairs):
        with precision(a.how, device.type):
            if batched:
                return judge(torch.cat([torch.cat(pair, 1) for pair in pairs])).float().split(a.batch)
            return [judge(torch.cat(pair, 1)).float() for pair in pairs]

    def one():
        with precision(a.how, device.type):
            synthetic = run(torch.cat(conditions)).split(a.batch) if batched else [run(c) for c in conditions]
        for judge, by, optimiser, c, real, made in zip(judges, judge_by, adams, conditions, reals, synthetic):
            judge.requires_grad_(True)
            optimiser.zero_grad()
            on_real, on_made = logits(by, [(c, real), (c, made.detach())])
            (0.5 * (cost(on_real, 1.0) + cost(on_made, 0.0))).backward()
            optimiser.step()
            judge.requires_grad_(False)
        adam_network.zero_grad()
        losses = [cost(logits(by, [(c, made)])[0], 1.0) for by, c, made in zip(judge_by, conditions, synthetic)]
        (sum(losses) / a.sites).backward()
        adam_network.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return timed(one, a.rounds, a.first)


class UNet(nn.Module):
    """Width 16, three halvings, one channel in, two classes out."""

    def __init__(self, width=16, depth=3):
        super().__init__()

        def double(come, go):
            layers = []
            for n in (come, go):
                layers += [nn.Conv2d(n, go, 3, padding=1), nn.ReLU(True), nn.BatchNorm2d(go)]
            return nn.Sequential(*layers)

        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(double(come, go) for come, go in zip([1, *widths], widths))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in reversed(widths[:-1]))
        self.up = nn.ModuleList(double(2 * n, n) for n in reversed(widths[:-1]))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        levels = []
        for i, row in enumerate(self.down):
            x = row(x if i == 0 else F.max_pool2d(x, 2))
            levels.append(x)
        x = self.drop(levels.pop())
        for widen, row in zip(self.widen, self.up):
            x = row(torch.cat((levels.pop(), widen(x)), 1))
        return self.head(x)


def segmenter(a):
    torch.manual_seed(0)
    network, batch, crop = UNet(), 8, 64
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, fused="batched" in a.how or None)
    run = fast(network, a.how)
    images = torch.randn(256, 1, 72, 72).tanh()
    targets = (images[:, 0] > 0.5).long()

    def sample(i):
        top, left = torch.randint(0, 72 - crop + 1, (2,)).tolist()
        image, target = images[i, :, top : top + crop, left : left + crop], targets[i, top : top + crop, left : left + crop]
        for axis in (1, 2):
            if torch.rand(()) < 0.5:
                image, target = image.flip(axis), target.flip(axis - 1)
        scale, shift = (torch.rand(2) * 2 - 1) * 0.1
        return image * (1 + scale) + shift, target

    def one():
        chosen = [sample(i) for i in torch.randint(0, len(images), (batch,)).tolist()]
        image, target = torch.stack([c[0] for c in chosen]), torch.stack([c[1] for c in chosen])
        if "channels_last" in a.how:
            image = image.contiguous(memory_format=torch.channels_last)
        with precision(a.how):
            logits = run(image).float()
        probability, truth = logits.softmax(1), F.one_hot(target, 2).permute(0, 3, 1, 2).float()
        total = lambda x: x.sum((0, 2, 3))
        dice = (2 * total(probability * truth) + 1) / (total(probability) + total(truth) + 1)
        loss = F.cross_entropy(logits, target) + 1 - dice[1:].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return timed(one, a.steps, 5)


def segment(a):
    """Segmentation of 100 slices of 240 x 240, scaled to 72 x 72, in windows of 64 that start at most half a window apart.

    With MONAI, its sliding-window inferer makes the windows.
    """
    if "monai" in a.how:
        from monai.inferers import SlidingWindowInferer

        monai = SlidingWindowInferer((64, 64), sw_batch_size=128, overlap=0.5)
    network = fast(UNet().eval(), a.how)
    volume = torch.randn(100, 1, 72, 72).tanh()
    together = 32 if "batched" in a.how else 1

    @torch.no_grad()
    def one():
        for images in volume.split(together):
            if "monai" in a.how:
                probabilities = monai(images, lambda windows: network(windows).softmax(1))
                F.interpolate(probabilities, (240, 240), mode="bilinear")[:, 1] > 0.5
                continue
            count = len(images)
            sums, counts = torch.zeros(count, 2, 72, 72), torch.zeros(72, 72)
            places = [(top, left) for top in (0, 8) for left in (0, 8)]
            windows = torch.cat([images[:, :, top : top + 64, left : left + 64] for top, left in places])
            if "channels_last" in a.how:
                windows = windows.contiguous(memory_format=torch.channels_last)
            with precision(a.how):
                found = network(windows).float().softmax(1).split(count)
            for (top, left), part in zip(places, found):
                sums[:, :, top : top + 64, left : left + 64] += part
                counts[top : top + 64, left : left + 64] += 1
            F.interpolate(sums / counts, (240, 240), mode="bilinear")[:, 1] > 0.5

    return timed(one, 5, 1)


def timed(work, times, first):
    for _ in range(first):
        work()
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return seconds


p = argparse.ArgumentParser()
p.add_argument("work", choices=["round", "segmenter", "segment"])
for name, value in (("size", 64), ("width", 16), ("sites", 10), ("batch", 1), ("rounds", 10), ("first", 3), ("steps", 60)):
    p.add_argument(f"--{name}", type=int, default=value)
p.add_argument("--device", default="cpu")
p.add_argument("--how", type=lambda text: text.split(","), default=[])
a = p.parse_args()
seconds = {"round": rounds, "segmenter": segmenter, "segment": segment}[a.work](a)
print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
