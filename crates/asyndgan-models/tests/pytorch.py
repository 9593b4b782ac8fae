#!/usr/bin/env python3
"""The networks written the ordinary PyTorch way, held against asyndgan-models.

usage: pytorch.py golden FILE   makes seeded networks, inputs and outputs (committed as data/golden/networks.safetensors)
       pytorch.py layers FILE   the same for the other networks, layers and losses (committed as data/golden/layers.safetensors)
       pytorch.py check FILE    loads weights and inputs that Rust wrote, and compares the outputs: at most 1e-5 apart
Dropout is left out: its random draws cannot agree. networks.safetensors was made with torch 2.11.0, layers.safetensors with
torch 2.13.0 and MONAI 1.6.1. Needs: torch; layers also needs MONAI.
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


class NoisePlane(nn.Module):
    """One weight per channel; the noise itself is off."""
    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x):
        return x


class Modulate(nn.Module):
    """Feature-wise linear modulation by a code (Perez et al., AAAI 2018); no code, no modulation."""
    def __init__(self, code, c):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(c, code)), nn.Parameter(torch.zeros(c, code))

    def forward(self, x, code=None):
        if code is None:
            return x
        scale, shift = (nn.functional.linear(code, w)[:, :, None, None] for w in (self.scale, self.shift))
        return x * (1 + scale) + shift


class Guide(nn.Module):
    """SPADE without the hidden layer (Park et al., CVPR 2019): scale and shift by a 5 x 5 convolution of the condition."""
    def __init__(self, planes, c):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * c, planes, 5, 5))

    def forward(self, x, condition):
        seen = nn.functional.adaptive_avg_pool2d(condition, x.shape[2:])
        scale, shift = nn.functional.conv2d(seen, self.weight, padding=2).chunk(2, 1)
        return x * (1 + scale) + shift


class Spade(nn.Module):
    """The generator with noise at every scale and the condition at every upsampling step."""
    def __init__(self, planes, channels, w, blocks, code):
        super().__init__()
        n = nn.InstanceNorm2d
        m = [nn.ReflectionPad2d(3), nn.Conv2d(planes, w, 7), n(w), nn.ReLU()]
        for k in (w, 2 * w):
            m += [nn.Conv2d(k, 2 * k, 3, 2, 1), n(2 * k), nn.ReLU()]
        m += [NoisePlane(4 * w)]
        for _ in range(blocks):
            block = Block("instance", 4 * w)
            block.conv_block = nn.Sequential(
                nn.ReflectionPad2d(1), nn.Conv2d(4 * w, 4 * w, 3), n(4 * w), Modulate(code, 4 * w), nn.ReLU(),
                nn.ReflectionPad2d(1), nn.Conv2d(4 * w, 4 * w, 3), n(4 * w))
            m += [block]
        for k in (4 * w, 2 * w):
            m += [nn.Upsample(scale_factor=2, mode="nearest"), nn.ReflectionPad2d(1), nn.Conv2d(k, k // 2, 3), n(k // 2),
                  Guide(planes, k // 2), NoisePlane(k // 2), Modulate(code, k // 2), nn.ReLU()]
        self.model = nn.Sequential(*m, nn.ReflectionPad2d(3), nn.Conv2d(w, channels, 7), nn.Tanh())

    def forward(self, condition):
        x = condition
        for layer in self.model:
            x = layer(x, condition) if isinstance(layer, Guide) else layer(x)
        return x


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015, with batch norm behind every ReLU; dropout is left out."""
    def __init__(self, channels, classes, w, depth):
        super().__init__()
        def double(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(o),
                                 nn.Conv2d(o, o, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(o))
        self.down = nn.ModuleList([double(channels if k == 0 else w << (k - 1), w << k) for k in range(depth + 1)])
        self.widen = nn.ModuleList([nn.Sequential(nn.ConvTranspose2d(w << (k + 1), w << k, 2, 2)) for k in range(depth)])
        self.up = nn.ModuleList([double(2 * (w << k), w << k) for k in range(depth)])
        self.head = nn.Sequential(nn.Conv2d(w, classes, 1))

    def forward(self, x):
        skips = []
        for k, level in enumerate(self.down):
            x = level(nn.functional.max_pool2d(x, 2) if k else x)
            skips.append(x)
        x = skips.pop()
        for k in reversed(range(len(self.up))):
            x = self.up[k](torch.cat([skips.pop(), self.widen[k](x)], 1))
        return self.head(x)


class UNetDiscriminator(nn.Module):
    """Real and synthetic classes of every pixel (Schoenfeld et al., ICLR 2021), with spectral norm."""
    def __init__(self, codes, channels, w):
        super().__init__()
        sn = nn.utils.spectral_norm
        widths = [channels, w, 2 * w, 4 * w]
        self.down = nn.ModuleList([nn.Sequential(sn(nn.Conv2d(i, o, 4, 2, 1)), nn.LeakyReLU(0.2)) for i, o in zip(widths, widths[1:])])
        self.up = nn.ModuleList([
            nn.Sequential(sn(nn.Conv2d(widths[k + 1] + widths[k], widths[max(k, 1)], 3, padding=1)), nn.LeakyReLU(0.2)) for k in range(3)])
        self.head = nn.Sequential(sn(nn.Conv2d(w, 2 * (codes + 1), 3, padding=1)))

    def forward(self, image):
        found = [image]
        for level in self.down:
            found.append(level(found[-1]))
        x = found.pop()
        for k in reversed(range(3)):
            beside = found.pop()
            x = self.up[k](torch.cat([nn.functional.interpolate(x, size=beside.shape[2:], mode="nearest"), beside], 1))
        return self.head(x)


def seeded(network):
    for p in network.parameters():
        nn.init.normal_(p, 0.05, 0.2)
    for name, buffer in network.named_buffers():
        if name.endswith("weight_u"):
            buffer.copy_(nn.functional.normalize(torch.randn_like(buffer), dim=0))
    return network


def ours(network):
    """The state in our names: what spectral_norm calls weight_orig is the weight."""
    state = {k.replace("weight_orig", "weight"): v.clone() for k, v in network.state_dict().items()}
    return {k: v for k, v in state.items() if not k.endswith("weight_v")}


def layers(path):
    from monai.losses import DiceCELoss
    torch.manual_seed(2)
    tensors = {}

    def keep(name, **values):
        tensors.update({f"{name}.{k}": v.clone() for k, v in values.items()})

    condition = (torch.rand(2, 2, 16, 16) > 0.6).float()
    network = seeded(Spade(2, 1, 4, 1, 3))
    keep("spade", **ours(network), input=condition, output=network(condition))
    modulate, x, code = seeded(Modulate(3, 4)), torch.randn(2, 4, 5, 6), torch.randn(2, 3)
    keep("modulate", **ours(modulate), input=x, code=code, output=modulate(x, code))

    network, x = seeded(UNet(1, 3, 4, 2)), torch.randn(2, 1, 16, 16)
    keep("unet", **ours(network), input=x, train=network(x))
    keep("unet", evaluate=network.eval()(x))

    network, x = seeded(UNetDiscriminator(2, 1, 4)), torch.randn(2, 1, 16, 16)
    labels = torch.randint(0, 3, (2, 16, 16))
    planes = nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    keep("discriminator", **ours(network), input=x, condition=planes[:, 1:])
    # Every class has the same weight: the mean over its pixels, times its share of all pixels.
    weights = planes.numel() / 3 / (planes.sum((0, 2, 3)) * 3)
    for output in ("first", "second"):
        # spectral_norm does one power iteration in every forward pass of training.
        log = network(x).log_softmax(1)
        keep("discriminator", **{output: torch.stack([
            (log[:, part] * planes * weights[None, :, None, None]).sum(1) for part in (slice(0, 3), slice(3, 6))], 1)})

    patch, x = discriminator("instance", 2, 4), torch.randn(2, 2, 32, 32)
    for k, layer in enumerate(patch.model):
        if isinstance(layer, nn.Conv2d):
            patch.model[k] = nn.utils.spectral_norm(layer)
    seeded(patch)
    keep("patch", **ours(patch), input=x)
    keep("patch", first=patch(x))
    keep("patch", second=patch(x))

    logits, target = torch.randn(3, 4, 8, 8, requires_grad=True), torch.randint(0, 4, (3, 8, 8))
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    value = loss(logits, target[:, None])
    value.backward()
    keep("dice_ce", logits=logits, target=target, value=value, gradient=logits.grad)
    write(path, tensors)


if __name__ == "__main__":
    {"golden": golden, "layers": layers, "check": check}[sys.argv[1]](sys.argv[2])
