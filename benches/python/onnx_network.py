"""An ONNX graph as PyTorch modules, one for each node, so that pruning tools find them.

For networks of Conv, BatchNormalization, Relu, MaxPool, GlobalAveragePool, Flatten, Gemm, Add.
"""

import onnx
import torch
from onnx import numpy_helper
from torch import nn


class Add(nn.Module):
    """A sum of two values, as a module: tools that prune look for modules."""

    def forward(self, a, b):
        return a + b


class Network(nn.Module):
    """Runs the nodes in the order of the file. `add` makes the module of a sum."""

    def __init__(self, path, add=Add):
        super().__init__()
        graph = onnx.load(path).graph
        constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.steps, self.layers = [], nn.ModuleList()
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            weights = [constants[name] for name in node.input[1:] if name in constants]
            self.layers.append(module(node.op_type, attributes, weights, add))
            self.steps.append(([name for name in node.input if name not in constants], node.output[0]))

    def forward(self, x):
        values = {self.input: x}
        for (inputs, output), layer in zip(self.steps, self.layers):
            values[output] = layer(*(values[name] for name in inputs))
        return values[self.output]


def module(kind, attributes, weights, add):
    """The module of one node."""
    simple = {"Relu": nn.ReLU, "Add": add, "Flatten": nn.Flatten}
    if kind in simple:
        return simple[kind]()
    if kind == "GlobalAveragePool":
        return nn.AdaptiveAvgPool2d(1)
    if kind == "MaxPool":
        return nn.MaxPool2d(attributes["kernel_shape"], attributes.get("strides"))
    if kind == "Conv":
        outputs, inputs, *kernel = weights[0].shape
        pads = attributes.get("pads", [0, 0, 0, 0])[:2]
        layer = nn.Conv2d(inputs, outputs, kernel, attributes.get("strides", [1, 1]), pads, bias=len(weights) > 1)
    elif kind == "Gemm":
        layer = nn.Linear(weights[0].shape[1], weights[0].shape[0], bias=len(weights) > 1)
    elif kind == "BatchNormalization":
        layer = nn.BatchNorm2d(len(weights[0]), attributes.get("epsilon", 1e-5))
        layer.running_mean.copy_(weights[2])
        layer.running_var.copy_(weights[3])
    else:
        raise SystemExit(f"{kind} is not handled")
    with torch.no_grad():
        layer.weight.copy_(weights[0])
        if layer.bias is not None:
            layer.bias.copy_(weights[1])
    return layer


def classes(model, images):
    """The class of each image."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch).argmax(1) for batch in images.split(250)])


def accuracy(model, images, labels):
    """Share of images whose class is right."""
    return (classes(model, images) == labels).float().mean().item()
