"""Channel pruning by AIMET, on the networks and at the multiply-accumulates that kerf is measured at.

The tool's automatic mode: ratios by its greedy search, judged by agreement with the original on the calibration
images (no labels), channels by magnitude, weights refitted by its regression on the same images.

Usage: aimet_prune.py MODEL.onnx CALIBRATION.idx.gz TEST.idx.gz TEST-LABELS.idx.gz SHARE
Prints one line of JSON.
"""

import json
import sys
import time
from decimal import Decimal

import aimet_torch
import torch
from aimet_torch.common.defs import CompressionScheme, CostMetric, GreedySelectionParameters
from aimet_torch.compress import ModelCompressor
from aimet_torch.defs import ChannelPruningParameters
from aimet_torch.nn.modules.custom import Add
from fashion_mnist import load_images, load_labels
from onnx_network import Network, accuracy, classes
from torch.utils.data import DataLoader, TensorDataset

CANDIDATES = 10
RECONSTRUCTION_SAMPLES = 5000


def main():
    path, calibration, test, test_labels, share = sys.argv[1:6]
    torch.set_num_threads(2)
    torch.manual_seed(0)
    images, labels, few = load_images(test), load_labels(test_labels), load_images(calibration)
    base = Network(path, Add).eval()
    expected = classes(base, few)
    tuned = Network(path, Add).eval()
    loader = DataLoader(TensorDataset(few, expected), batch_size=100)
    mode = ChannelPruningParameters.AutoModeParams(
        GreedySelectionParameters(target_comp_ratio=Decimal(share), num_comp_ratio_candidates=CANDIDATES),
        modules_to_ignore=[layer for layer in tuned.layers if isinstance(layer, torch.nn.Conv2d)][:1],
    )
    parameters = ChannelPruningParameters(
        loader, RECONSTRUCTION_SAMPLES, True, ChannelPruningParameters.Mode.auto, mode
    )
    start = time.time()
    model, statistics = ModelCompressor.compress_model(
        tuned,
        eval_callback=lambda model, *_, **__: accuracy(model, few, expected),
        eval_iterations=None,
        input_shape=(1, *few.shape[1:]),
        compress_scheme=CompressionScheme.channel_pruning,
        cost_metric=CostMetric.mac,
        parameters=parameters,
    )
    seconds = time.time() - start
    print(json.dumps({
        "tool": f"AIMET {aimet_torch.__version__}", "macs": macs(model, few) / macs(base, few),
        "before": accuracy(base, images, labels), "top1": accuracy(model, images, labels), "seconds": seconds,
    }))


def macs(model, images):
    """Multiply-accumulates of convolutions and linear layers for one image."""
    total = 0

    def count(layer, _, output):
        nonlocal total
        total += layer.weight.numel() * (output[0, 0].numel() if output.dim() == 4 else 1)

    layers = [layer for layer in model.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model(images[:1])
    for hook in hooks:
        hook.remove()
    return total


if __name__ == "__main__":
    main()
