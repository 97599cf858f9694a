"""Adds PyTorch's scores to files with weights and images: `python3 scores.py FROM_FOLDER TO_FOLDER`."""

import json
import sys
from pathlib import Path

import torch

from network import Network, read, write

source, target = map(Path, sys.argv[1:])
for path in sorted(source.glob("*.safetensors")):
    tensors, metadata = read(path)
    images = tensors["images"]
    weights = {name: tensor for name, tensor in tensors.items() if name != "images"}
    channels, height, width = images.shape[1:]
    network = Network(json.loads(metadata["configuration"]), channels, height, width, classes=10)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    with torch.no_grad():
        tensors["scores"] = network.eval()(images)
    write(target / path.name, tensors, metadata)
    print(f"{path.stem}: torch {torch.__version__}, largest score {tensors['scores'].abs().max():.3f}")
