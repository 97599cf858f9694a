import argparse

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy


def load():
    x, y = (torch.tensor(values) for values in load_digits(return_X_y=True))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, training, validation = (x / 16).float(), order[450:], order[:450]
    return x[training], y[training], x[validation], y[validation]


def train_epoch(model, optimizer, x, y):
    for batch in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


def accuracy_on(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


def main(args):
    torch.manual_seed(args.seed)
    x, y, x_validation, y_validation = load()
    model = torch.nn.Sequential(
        torch.nn.Linear(64, args.width),
        torch.nn.ReLU(),
        torch.nn.Linear(args.width, 10),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), args.learning_rate, momentum=args.momentum
    )
    for epoch in range(1, args.epochs + 1):
        train_epoch(model, optimizer, x, y)
        accuracy = accuracy_on(model, x_validation, y_validation)
        print(f"epoch {epoch} accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    torch.set_num_threads(1)
    main(parser.parse_args())
