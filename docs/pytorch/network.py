"""The networks of the search space in PyTorch, and safetensors files without a package.

    configuration = json.load(open("configuration.json"))      # name -> value
    tensors, _ = read("weights.safetensors")                   # as exported by the trainer
    network = Network(configuration, channels=3, height=32, width=32, classes=10)
    network.load_state_dict(tensors, strict=False)             # only num_batches_tracked is missing
    scores = network.eval()(images)                            # normalised images

What a configuration leaves out has the trainer's default.
"""

import json
import struct

import numpy
import torch
from torch import nn
from torch.nn import functional


def read(path):
    """Tensors by name, and the metadata."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        values = numpy.frombuffer(data[start:end], dtype="<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors, metadata


def write(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        end = offset + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().numpy().astype("<f4").tobytes())


def convolution(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // 16, 4))
        self.excite = nn.Linear(max(channels // 16, 4), channels)

    def forward(self, x):
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class Branch(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, activation, gated):
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs, kernel), nn.BatchNorm2d(outputs)
        self.gate = Gate(outputs) if gated else None
        self.activation = activation

    def forward(self, activated):
        x = self.activation(self.norm1(self.conv1(activated)))
        x = self.norm2(self.conv2(x))
        return self.gate(x) if self.gate else x


class Skip(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.path1 = nn.Conv2d(inputs, outputs // 2, 1, bias=False) if outputs > 1 else None
        self.path2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.stride = stride

    def forward(self, x, activated):
        shifted = functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        paths = [self.path2(functional.avg_pool2d(shifted, 1, self.stride))]
        if self.path1:
            paths.insert(0, self.path1(functional.avg_pool2d(activated, 1, self.stride)))
        return self.norm(torch.cat(paths, 1))


class Block(nn.Module):
    def __init__(self, inputs, outputs, branches, kernel, stride, activation, gated, death_rate):
        super().__init__()
        self.branches = nn.ModuleList(
            Branch(inputs, outputs, kernel, stride, activation, gated) for _ in range(branches)
        )
        self.skip = Skip(inputs, outputs, stride) if inputs != outputs or stride != 1 else None
        self.factor = 1 / branches if branches > 1 else 1 - death_rate  # expected, after training
        self.activation = activation

    def forward(self, x):
        activated = self.activation(x)
        x = self.skip(x, activated) if self.skip else x
        return x + sum(self.factor * branch(activated) for branch in self.branches)


class Group(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x):
        return self.blocks(x)


class Network(nn.Module):
    """Evaluates only: in training, branches would have to be weighted at random."""

    def __init__(self, configuration, channels, height, width, classes):
        super().__init__()
        get = configuration.get
        kernel = get("kernel_size", 3)
        activations = {"relu": torch.relu, "silu": functional.silu, "gelu": functional.gelu}
        self.activation = activations[get("activation", "relu")]
        inputs = outputs = get("initial_filters", 16)
        self.stem, self.stem_norm = convolution(channels, inputs, kernel), nn.BatchNorm2d(inputs)
        groups = []
        for group in range(1, get("groups", 3) + 1):
            outputs = round(outputs * get(f"widen_factor_{group}", 1 if group == 1 else 2))
            blocks = []
            for block in range(get(f"nr_residual_blocks_{group}", 3)):
                stride = 2 if group > 1 and block == 0 and height > 1 and width > 1 else 1
                height, width = (height + stride - 1) // stride, (width + stride - 1) // stride
                branches = get(f"res_branches_{group}", 1)
                gated, death_rate = get("squeeze_excitation", False), get("death_rate", 0)
                blocks.append(
                    Block(inputs, outputs, branches, kernel, stride, self.activation, gated, death_rate)
                )
                inputs = outputs
            groups.append(Group(blocks))
        self.groups = nn.Sequential(*groups)
        self.head = nn.Linear(outputs, classes)

    def forward(self, x):
        x = self.groups(self.stem_norm(self.stem(x)))
        return self.head(self.activation(x).mean((2, 3)))
