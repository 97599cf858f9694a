"""A training script as people have them: it knows nothing of any search."""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier


def load():
    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(y))
    x, training, validation = x / 16, order[450:], order[:450]
    return x[training], y[training], x[validation], y[validation]


def main(args):
    x, y, x_validation, y_validation = load()
    model = MLPClassifier(
        hidden_layer_sizes=(args.width,),
        solver="sgd",
        learning_rate_init=args.learning_rate,
        momentum=args.momentum,
        random_state=args.seed,
    )
    for epoch in range(1, args.epochs + 1):
        model.partial_fit(x, y, classes=np.arange(10))
        accuracy = model.score(x_validation, y_validation)
        print(f"epoch {epoch} accuracy: {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
