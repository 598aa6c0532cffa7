"""Structured pruning by Torch-Pruning, on the networks and at the multiply-accumulates that kerf is measured at.

Reads the ONNX model into PyTorch modules, prunes groups by magnitude (L2 over all coupled parameters, the tool's
usual importance) to the wanted share of multiply-accumulates, re-estimates BatchNormalization on the calibration
images, and measures accuracy before and after that. No labels but for the accuracy, no tuning.

Usage: torch_prune.py MODEL.onnx CALIBRATION.idx.gz TEST.idx.gz TEST-LABELS.idx.gz SHARE local|global
Prints one line of JSON.
"""

import json
import sys
import time

import torch
import torch_pruning as tp
from fashion_mnist import load_images, load_labels
from onnx_network import Network, accuracy
from torch import nn


def pruned(path, example, ratio, scope):
    model = Network(path)
    last = [layer for layer in model.layers if isinstance(layer, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        model,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=scope == "global",
        ignored_layers=[last],
    )
    pruner.step()
    return model


def re_estimate(model, images):
    norms = [layer for layer in model.layers if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for batch in images.split(100):
            model(batch)


def main():
    path, calibration, test, test_labels, share, scope = sys.argv[1:7]
    torch.set_num_threads(2)
    images, labels, few = load_images(test), load_labels(test_labels), load_images(calibration)
    example = few[:1]
    base = Network(path)
    macs, _ = tp.utils.count_ops_and_params(base, example)
    before = accuracy(base, images, labels)
    # The share of channels at which the wanted multiply-accumulates are met, by bisection.
    low, high = 0.0, 0.95
    for _ in range(12):
        middle = 0.5 * (low + high)
        left, _ = tp.utils.count_ops_and_params(pruned(path, example, middle, scope), example)
        low, high = (middle, high) if left > float(share) * macs else (low, middle)
    start = time.time()
    model = pruned(path, example, high, scope)
    seconds = time.time() - start
    left, _ = tp.utils.count_ops_and_params(model, example)
    plain = accuracy(model, images, labels)
    start = time.time()
    re_estimate(model, few)
    again = time.time() - start
    print(json.dumps({
        "tool": f"Torch-Pruning {tp.__version__}", "macs": left / macs, "before": before, "not_re_estimated": plain,
        "top1": accuracy(model, images, labels), "seconds": seconds + again,
    }))


if __name__ == "__main__":
    main()
