"""Compares PyTorch's scores of an exported network with those of `trainer predict`.

    trainer export DIR c000123 --out weights.safetensors
    trainer predict DIR c000123 FOLDER --format json > scores.json
    python3 classify.py weights.safetensors scores.json     # needs torch, numpy, pillow

The images must have the size that was trained on: how to scale them is another question.
"""

import json
import sys

import numpy
import torch
from PIL import Image

from network import Network, read

tensors, metadata = read(sys.argv[1])
channels, height, width = json.loads(metadata["image"])
classes = json.loads(metadata["classes"])
network = Network(json.loads(metadata["configuration"]), channels, height, width, len(classes))
missing, unexpected = network.load_state_dict(tensors, strict=False)
assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
mean, std = (torch.tensor(json.loads(metadata[name])).view(-1, 1, 1) for name in ("mean", "std"))

predictions = json.load(open(sys.argv[2]))
mode = "L" if channels == 1 else "RGB"
pixels = [numpy.array(Image.open(prediction["image"]).convert(mode)) for prediction in predictions]
images = torch.tensor(numpy.stack(pixels)).view(-1, height, width, channels).permute(0, 3, 1, 2)
with torch.no_grad():
    scores = network.eval()((images / 255 - mean) / std)
expected = torch.tensor([[prediction["scores"][name] for name in classes] for prediction in predictions])
print(
    f"{len(images)} images, torch {torch.__version__}: largest difference "
    f"{(scores - expected).abs().max():.2e} of scores up to {expected.abs().max():.2f}"
)
