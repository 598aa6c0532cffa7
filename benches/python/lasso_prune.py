"""Channel pruning of a chain network in PyTorch and scikit-learn, as one would write it first.

The procedure of the authors' released code (He, Zhang, Sun 2017): for each convolution after the
first, sample output positions on the calibration images, take the inputs from the pruned network and
the responses from the original, find the LASSO penalty by doubling and bisection with scikit-learn's
`Lasso` on a subset of the rows, then refit the weight with `LinearRegression` on all rows.

Usage: lasso_prune.py MODEL.onnx CALIBRATION.idx.gz TEST.idx.gz TEST-LABELS.idx.gz SHARE
SHARE is that of the multiply-accumulates to keep; every layer keeps the same share of its channels. Prints one line of
JSON. Only for the VGG-like fixture (Conv with bias, Relu, MaxPool, GlobalAveragePool, Gemm).
"""

import json
import sys
import time

import numpy as np
import onnx
import sklearn
import torch
import torch.nn.functional as F
from fashion_mnist import load_images, load_labels
from onnx import numpy_helper
from sklearn.linear_model import Lasso, LinearRegression

POSITIONS = 20


def load_layers(path):
    """A list of (kind, weight, bias); weights as float tensors."""
    graph = onnx.load(path).graph
    constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    layers = []
    for node in graph.node:
        weights = [constants[name] for name in node.input[1:3]] if node.op_type in ("Conv", "Gemm") else [None, None]
        layers.append([node.op_type, *weights])
    return layers


def step(layer, x):
    kind, weight, bias = layer
    if kind == "Conv":
        return F.conv2d(x, weight, bias, padding=1)
    if kind == "Gemm":
        return F.linear(x, weight, bias)
    return {
        "Relu": F.relu,
        "MaxPool": lambda v: F.max_pool2d(v, 2),
        "GlobalAveragePool": lambda v: v.mean((2, 3), keepdim=True),
        "Flatten": lambda v: v.flatten(1),
    }[kind](x)


def run(layers, x, until):
    """The input of layer `until`."""
    with torch.no_grad():
        parts = []
        for batch in x.split(100):
            for layer in layers[:until]:
                batch = step(layer, batch)
            parts.append(batch)
        return torch.cat(parts)


def sample(layers, original, images, at, rng):
    """Rows X of the pruned network and Y of the original at the same positions."""
    inputs, targets = run(layers, images, at), run(original, images, at)
    kind, weight, _ = layers[at]
    with torch.no_grad():
        if kind == "Gemm":
            return inputs.numpy()[:, :, None], F.linear(targets, original[at][1]).numpy()
        xs, ys = [], []
        for x, t in zip(inputs.split(100), targets.split(100)):
            patches = F.unfold(x, 3, padding=1)  # images, c * 9, positions
            response = F.conv2d(t, original[at][1], padding=1).flatten(2)
            for i in range(len(x)):
                where = rng.choice(patches.shape[2], min(POSITIONS, patches.shape[2]), replace=False)
                xs.append(patches[i][:, where].T.numpy())
                ys.append(response[i][:, where].T.numpy())
        x = np.concatenate(xs)
        return x.reshape(len(x), weight.shape[1], -1), np.concatenate(ys)


def select(x, y, weight, keep, rng):
    """LASSO on a subset of rows, penalty by doubling and bisection."""
    rows = rng.choice(len(x), min(400, len(x)), replace=False)
    w = weight.numpy().reshape(weight.shape[0], weight.shape[1], -1)
    z = np.einsum("sck,nck->snc", x[rows], w).reshape(-1, x.shape[1])
    target = y[rows].reshape(-1)

    def solve(alpha):
        return Lasso(alpha=alpha, selection="random", random_state=0, tol=1e-4).fit(z, target).coef_

    left, right = 0.0, 1e-3
    while np.count_nonzero(solve(right)) >= keep:
        right *= 2
    for _ in range(40):
        alpha = (left + right) / 2
        coefficients = solve(alpha)
        count = np.count_nonzero(coefficients)
        if count == keep:
            break
        left, right = (alpha, right) if count > keep else (left, alpha)
    strength = np.abs(coefficients) * np.linalg.norm(z, axis=0)
    return np.sort(np.argsort(-strength, kind="stable")[:keep])


def macs(layers, images):
    """Multiply-accumulates for one image."""
    total, x = 0, images[:1]
    for layer in layers:
        x = step(layer, x)
        if layer[1] is not None:
            total += layer[1].numel() * (x[0, 0].numel() if layer[0] == "Conv" else 1)
    return total


def widths(layers, linear, keep):
    """The layers with a share of their channels, whatever their weights."""
    narrow = [list(layer) for layer in layers]
    for before, at in zip(linear, linear[1:]):
        count = max(1, round(keep * narrow[at][1].shape[1]))
        narrow[at][1] = narrow[at][1][:, :count]
        narrow[before][1], narrow[before][2] = narrow[before][1][:count], narrow[before][2][:count]
    return narrow


def prune(original, images, keep):
    """The pruned layers, each refitted on the outputs of those before it."""
    layers = [list(layer) for layer in original]
    rng = np.random.default_rng(0)
    linear = [i for i, layer in enumerate(layers) if layer[0] in ("Conv", "Gemm")]
    for before, at in zip(linear, linear[1:]):
        x, y = sample(layers, original, images, at, rng)
        weight = layers[at][1]
        count = max(1, round(keep * weight.shape[1]))
        chosen = select(x, y, weight, count, rng)
        fit = LinearRegression().fit(x[:, chosen].reshape(len(x), -1), y)
        shape = (weight.shape[0], count, *weight.shape[2:])
        layers[at][1] = torch.from_numpy(fit.coef_.astype(np.float32).reshape(shape))
        layers[at][2] = original[at][2] + torch.from_numpy(fit.intercept_.astype(np.float32))
        layers[before][1] = layers[before][1][chosen]
        layers[before][2] = layers[before][2][chosen]
    return layers


def accuracy(layers, images, labels):
    return (run(layers, images, len(layers)).argmax(1) == labels).float().mean().item()


def main():
    model, calibration, test, test_labels, share = sys.argv[1:6]
    images, labels, few = load_images(test), load_labels(test_labels), load_images(calibration)
    torch.set_num_threads(2)
    original = load_layers(model)
    linear = [i for i, layer in enumerate(original) if layer[0] in ("Conv", "Gemm")]
    low, high = 0.0, 1.0
    for _ in range(12):
        keep = 0.5 * (low + high)
        fits = macs(widths(original, linear, keep), few) <= float(share) * macs(original, few)
        low, high = (keep, high) if fits else (low, keep)
    start = time.time()
    layers = prune(original, few, low)
    seconds = time.time() - start
    print(json.dumps({
        "tool": f"PyTorch {torch.__version__}, scikit-learn {sklearn.__version__}",
        "macs": macs(layers, few) / macs(original, few), "before": accuracy(original, images, labels),
        "top1": accuracy(layers, images, labels), "seconds": seconds,
    }))


if __name__ == "__main__":
    main()
