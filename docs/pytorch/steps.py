"""Takes four steps of training in PyTorch from files with weights and a batch: `python3 steps.py FROM_FOLDER TO_FOLDER`.

Adds the loss before each step, the weights after the last one, and their running average.
"""

import json
import math
import sys
from pathlib import Path

import torch

from network import Network, read, write

STEPS = 4


def optimizer_of(configuration, parameters):
    get = configuration.get
    momentum, decay = get("momentum", 0.9), get("weight_decay", 5e-4)
    if get("optimizer", "sgd") == "adamw":
        return torch.optim.AdamW(parameters, 1.0, betas=(momentum, 0.999), weight_decay=decay)
    return torch.optim.SGD(
        parameters, 1.0, momentum=momentum, nesterov=momentum > 0, weight_decay=decay
    )


def state_of(network):
    state = network.state_dict().items()
    return {name: value.clone() for name, value in state if "num_batches" not in name}


source, target = map(Path, sys.argv[1:])
for path in sorted(source.glob("*.safetensors")):
    tensors, metadata = read(path)
    configuration = json.loads(metadata["configuration"])
    get = configuration.get
    images, targets = tensors["images"], tensors["targets"]
    network = Network(configuration, *images.shape[1:], classes=targets.shape[1])
    start = {n.removeprefix("start."): t for n, t in tensors.items() if n.startswith("start.")}
    missing, unexpected = network.load_state_dict(start, strict=False)
    assert not unexpected and all("num_batches" in name for name in missing)
    network.train()
    optimizer = optimizer_of(configuration, network.parameters())
    losses, averages = [], None
    for step in range(STEPS):
        rate = get("learning_rate") * (1 + math.cos(math.pi * step / STEPS)) / 2
        if get("warm_up", 0) > 0:
            rate *= min(1, step / (get("warm_up") * STEPS))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = torch.nn.functional.cross_entropy(
            network(images), targets, label_smoothing=get("label_smoothing", 0)
        )
        optimizer.zero_grad()
        loss.backward()
        if get("gradient_clipping", 0) > 0:
            torch.nn.utils.clip_grad_norm_(network.parameters(), get("gradient_clipping"))
        optimizer.step()
        losses.append(loss.item())
        kept = min(get("weight_average", 0), (1 + step) / (10 + step))
        now = state_of(network)
        if averages is None:
            averages = now
        averages = {name: kept * averages[name] + (1 - kept) * now[name] for name in now}
    tensors["losses"] = torch.tensor(losses)
    tensors |= {f"trained.{name}": value for name, value in state_of(network).items()}
    if get("weight_average", 0) > 0:
        tensors |= {f"averaged.{name}": value for name, value in averages.items()}
    write(target / path.name, tensors, metadata)
    print(f"{path.stem}: torch {torch.__version__}, losses {losses}")
