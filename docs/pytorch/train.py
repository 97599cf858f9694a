"""Trains a network of the search space in PyTorch with the trainer's settings, to compare test accuracies.

    python3 train.py FOLDER --steps 1000 --seed 1          # needs torch, numpy, pillow

FOLDER has train/<class>/*.jpg and test/<class>/*.jpg, 32×32. A tenth of the training images is left out, as the
trainer keeps it for validation. Blocks have one branch, so that nothing of the network itself is random in training.
"""

import argparse
import math
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from network import Network

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--filters", type=int, default=16)
parser.add_argument("--blocks", type=int, default=1)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--rate", type=float, default=0.1)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--weight-decay", type=float, default=5e-4)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--cutout", type=int, default=8)
parser.add_argument("--padding", type=int, default=4)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()


def load(side):
    """Pixels as bytes [n, 3, 32, 32], and labels."""
    classes = sorted(path for path in (args.folder / side).iterdir() if path.is_dir())
    files = [(path, label) for label, folder in enumerate(classes) for path in sorted(folder.glob("*.jpg"))]
    pixels = numpy.stack([numpy.array(Image.open(path).convert("RGB")) for path, _ in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor([label for _, label in files])


torch.set_num_threads(1)
torch.manual_seed(args.seed)
pixels, labels = load("train")
test_pixels, test_labels = load("test")
kept = torch.randperm(len(pixels))[len(pixels) // 10 :]
pixels, labels = pixels[kept], labels[kept]
share = pixels.double() / 255
mean = share.mean((0, 2, 3)).float().view(3, 1, 1)
std = share.std((0, 2, 3), correction=0).float().view(3, 1, 1)
del share


def augmented(batch):
    """Random crops of the images with a black border, mirrored or not, normalised, each with a hole."""
    p, size = args.padding, batch.shape[-1]
    padded = functional.pad(batch, (p, p, p, p))
    images = []
    for image in padded:
        top, left = torch.randint(2 * p + 1, (2,)).tolist()
        image = image[:, top : top + size, left : left + size]
        image = image.flip(2) if torch.rand(()) < 0.5 else image
        image = (image / 255 - mean) / std
        y, x = (torch.randint(size, (2,)) - args.cutout // 2).tolist()
        image[:, max(y, 0) : max(y + args.cutout, 0), max(x, 0) : max(x + args.cutout, 0)] = 0
        images.append(image)
    return torch.stack(images)


configuration = {"initial_filters": args.filters}
configuration.update({f"nr_residual_blocks_{group}": args.blocks for group in (1, 2, 3)})
network = Network(configuration, 3, 32, 32, classes=10)
for module in network.modules():
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels)))
nn.init.zeros_(network.head.bias)
optimizer = torch.optim.SGD(
    network.parameters(), args.rate, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True
)
order = torch.empty(0, dtype=torch.long)
for step in range(args.steps):
    if len(order) < args.batch:
        order = torch.randperm(len(pixels))
    chosen, order = order[: args.batch], order[args.batch :]
    images, targets = augmented(pixels[chosen]), functional.one_hot(labels[chosen], 10).float()
    if args.mixup > 0:
        weight = float(numpy.random.default_rng([args.seed, step]).beta(args.mixup, args.mixup))
        partners = torch.randperm(args.batch)
        images = weight * images + (1 - weight) * images[partners]
        targets = weight * targets + (1 - weight) * targets[partners]
    for group in optimizer.param_groups:
        group["lr"] = args.rate * 0.5 * (1 + math.cos(math.pi * step / args.steps))
    optimizer.zero_grad()
    functional.cross_entropy(network(images), targets).backward()
    optimizer.step()

network.eval()
with torch.no_grad():
    batches = ((part / 255 - mean) / std for part in test_pixels.split(256))
    predicted = torch.cat([network(batch).argmax(1) for batch in batches])
print(f"seed {args.seed}: test error {(predicted != test_labels).double().mean():.4f}", flush=True)
