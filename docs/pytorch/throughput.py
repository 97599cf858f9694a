"""Images per second that PyTorch trains on, for the networks of the trainer's example `throughput`.

    python3 throughput.py --filters 16 --blocks 2 --branches 2 --size 32 --threads 1
"""

import argparse
import resource
import time

import torch

from network import Network

parser = argparse.ArgumentParser()
parser.add_argument("--filters", type=int, default=16)
parser.add_argument("--blocks", type=int, default=1)
parser.add_argument("--branches", type=int, default=1)
parser.add_argument("--widen", type=float, default=1.0)
parser.add_argument("--size", type=int, default=32)
parser.add_argument("--channels", type=int, default=3)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--seconds", type=float, default=4.0)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")  # cuda: with channels last
parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
args = parser.parse_args()

torch.set_num_threads(args.threads)
configuration = {"initial_filters": args.filters, "widen_factor_1": args.widen}
for group in (1, 2, 3):
    configuration[f"nr_residual_blocks_{group}"] = args.blocks
    configuration[f"res_branches_{group}"] = args.branches
layout = torch.channels_last if args.device == "cuda" else torch.contiguous_format
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
torch.backends.cudnn.benchmark = True
network = Network(configuration, args.channels, args.size, args.size, classes=10)
network = network.to(args.device, memory_format=layout)
optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
images = torch.randn(args.batch, args.channels, args.size, args.size)
images = images.to(args.device, memory_format=layout)
labels = torch.randint(10, (args.batch,), device=args.device)


def step():
    optimizer.zero_grad()
    with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()  # waits for the device, as the trainer does to look for divergence


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


for _ in range(3):
    step()
steps, start, cpu_start = 0, time.perf_counter(), cpu()
while time.perf_counter() - start < args.seconds:
    step()
    steps += 1
elapsed, count = time.perf_counter() - start, steps * args.batch
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if args.device == "cuda":
    peak = torch.cuda.max_memory_reserved() / 2**20
print(
    f"{count / elapsed:.0f} images/s, {(cpu() - cpu_start) * 1e3 / count:.3f} CPU ms per image, "
    f"{peak:.0f} MiB at most"
)
