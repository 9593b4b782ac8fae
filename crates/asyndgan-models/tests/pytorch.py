#!/usr/bin/env python3
"""The networks written the ordinary PyTorch way, held against asyndgan-models.

usage: pytorch.py golden FILE   makes seeded networks, inputs and outputs (committed as data/golden/networks.safetensors)
       pytorch.py check FILE    loads weights and inputs that Rust wrote, and compares the outputs: at most 1e-5 apart
Dropout is left out: its random draws cannot agree. Made with torch 2.11.0. Needs: torch.
"""
import json, struct, sys
import torch
from torch import nn

CONFIGS = {  # name: (norm, condition channels, image channels, width, blocks)
    "instance": ("instance", 2, 1, 4, 2),
    "batch": ("batch", 3, 3, 4, 1),
}


def norm(kind, c):
    return nn.InstanceNorm2d(c) if kind == "instance" else nn.BatchNorm2d(c)


class Block(nn.Module):
    def __init__(self, kind, c):
        super().__init__()
        bias = kind == "instance"
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=bias), norm(kind, c), nn.ReLU(), nn.Dropout(0.0),
            nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=bias), norm(kind, c))

    def forward(self, x):
        return x + self.conv_block(x)


class Named(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


def generator(kind, cin, cout, w, blocks):
    bias = kind == "instance"
    m = [nn.ReflectionPad2d(3), nn.Conv2d(cin, w, 7, bias=bias), norm(kind, w), nn.ReLU()]
    for k in (1, 2):
        m += [nn.Conv2d(w * k, w * k * 2, 3, 2, 1, bias=bias), norm(kind, w * k * 2), nn.ReLU()]
    m += [Block(kind, w * 4) for _ in range(blocks)]
    for k in (4, 2):
        m += [nn.ConvTranspose2d(w * k, w * k // 2, 3, 2, 1, 1, bias=bias), norm(kind, w * k // 2), nn.ReLU()]
    return Named(m + [nn.ReflectionPad2d(3), nn.Conv2d(w, cout, 7), nn.Tanh()])


def discriminator(kind, cin, w):
    bias = kind == "instance"
    m = [nn.Conv2d(cin, w, 4, 2, 1), nn.LeakyReLU(0.2)]
    for i, o, s in ((w, 2 * w, 2), (2 * w, 4 * w, 2), (4 * w, 8 * w, 1)):
        m += [nn.Conv2d(i, o, 4, s, 1, bias=bias), norm(kind, o), nn.LeakyReLU(0.2)]
    return Named(m + [nn.Conv2d(8 * w, 1, 4, 1, 1)])


def networks():
    for name, (kind, cin, cout, w, blocks) in CONFIGS.items():
        yield f"{name}.generator", generator(kind, cin, cout, w, blocks), (2, cin, 16, 16)
        yield f"{name}.discriminator", discriminator(kind, cin + cout, w), (2, cin + cout, 32, 32)


KINDS = {torch.float32: "F32", torch.int64: "I64"}


def write(path, tensors):
    header, data, at = {}, b"", 0
    for name in sorted(tensors):
        t = tensors[name].detach().contiguous()
        raw = bytes(t.reshape(-1).view(torch.uint8).tolist())
        header[name] = {"dtype": KINDS[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(raw)]}
        data, at = data + raw, at + len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def read(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    kinds = {v: k for k, v in KINDS.items()}
    out = {}
    for name, e in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            a, b = e["data_offsets"]
            out[name] = torch.frombuffer(bytearray(raw[8 + n + a:8 + n + b]), dtype=kinds[e["dtype"]]).reshape(e["shape"])
    return out


def golden(path):
    torch.manual_seed(1)
    tensors = {}
    for name, network, size in networks():
        for p in network.parameters():
            nn.init.normal_(p, 0.1, 0.2)
        tensors.update({f"{name}.{k}": v.clone() for k, v in network.state_dict().items()})
        x = torch.randn(size)
        tensors[f"{name}.input"], tensors[f"{name}.output"] = x, network(x)
    write(path, tensors)


def check(path):
    tensors, worst = read(path), 0.0
    for name, network, _ in networks():
        network.load_state_dict({k: tensors[f"{name}.{k}"] for k in network.state_dict()})
        worst = max(worst, (network(tensors[f"{name}.input"]) - tensors[f"{name}.output"]).abs().max().item())
    print(f"largest difference {worst:.2e}")
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    {"golden": golden, "check": check}[sys.argv[1]](sys.argv[2])
