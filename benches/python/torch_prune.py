"""Structured pruning by Torch-Pruning, on the networks and at the multiply-accumulates that kerf is measured at.

Reads the ONNX model into PyTorch modules, prunes groups by magnitude (L2 over all coupled parameters, the tool's
usual importance) to the wanted share of multiply-accumulates, re-estimates BatchNormalization on the calibration
images, and measures accuracy before and after that. No labels but for the accuracy, no tuning.

Usage: torch_prune.py MODEL.onnx CALIBRATION.idx.gz TEST.idx.gz TEST-LABELS.idx.gz SHARE local|global
Prints one line of JSON. For networks of Conv, BatchNormalization, Relu, MaxPool, GlobalAveragePool, Flatten, Gemm, Add.
"""

import json
import sys
import time

import onnx
import torch
import torch.nn.functional as F
import torch_pruning as tp
from fashion_mnist import load_images, load_labels
from onnx import numpy_helper
from torch import nn


class Network(nn.Module):
    """An ONNX graph, node by node; nodes with weights are modules, so that they can be pruned."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.steps, self.layers = [], nn.ModuleList()
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            module = self.module(node, attributes, constants)
            values = [name for name in node.input if name not in constants]
            self.steps.append((node.op_type, values, node.output[0], attributes, len(self.layers) if module else None))
            if module:
                self.layers.append(module)

    @staticmethod
    def module(node, attributes, constants):
        weights = [constants[name] for name in node.input[1:] if name in constants]
        if node.op_type == "Conv":
            out, inputs, *kernel = weights[0].shape
            pads = attributes.get("pads", [0, 0, 0, 0])
            module = nn.Conv2d(inputs, out, kernel, attributes.get("strides", [1, 1]), pads[:2], bias=len(weights) > 1)
        elif node.op_type == "Gemm":
            module = nn.Linear(weights[0].shape[1], weights[0].shape[0], bias=len(weights) > 1)
        elif node.op_type == "BatchNormalization":
            module = nn.BatchNorm2d(len(weights[0]), attributes.get("epsilon", 1e-5))
            module.running_mean.copy_(weights[2])
            module.running_var.copy_(weights[3])
        else:
            return None
        with torch.no_grad():
            module.weight.copy_(weights[0])
            if module.bias is not None:
                module.bias.copy_(weights[1])
        return module

    def forward(self, x):
        values = {self.input: x}
        for kind, names, output, attributes, layer in self.steps:
            inputs = [values[name] for name in names]
            if layer is not None:
                values[output] = self.layers[layer](inputs[0])
            elif kind == "Relu":
                values[output] = F.relu(inputs[0])
            elif kind == "MaxPool":
                values[output] = F.max_pool2d(inputs[0], attributes["kernel_shape"], attributes.get("strides"))
            elif kind == "GlobalAveragePool":
                values[output] = inputs[0].mean((2, 3), keepdim=True)
            elif kind == "Flatten":
                values[output] = inputs[0].flatten(1)
            elif kind == "Add":
                values[output] = inputs[0] + inputs[1]
            else:
                raise SystemExit(f"{kind} is not handled")
        return values[self.output]


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(batch).argmax(1) for batch in images.split(250)])
    return (found == labels).float().mean().item()


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
        "macs": left / macs, "before": before, "plain": plain, "re_estimated": accuracy(model, images, labels),
        "seconds": seconds, "re_estimation_seconds": again, "version": tp.__version__,
    }))


if __name__ == "__main__":
    main()
