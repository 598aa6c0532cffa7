"""Writes the ONNX project's node test cases as folders and prints the folders that hold cases.

    python3 onnx_node_tests.py OUT

The PyPI package `onnx` holds the cases as Python functions; OUT/<version>/<case>/ gets model.onnx
and test_data_set_0/{input,output}_<i>.pb. Cases whose values are not tensors are left out.
"""

import os
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases


def tensor(value, name):
    return value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, name)


def is_tensor(value):
    return isinstance(value, (np.ndarray, np.generic, onnx.TensorProto))


def write(case, folder):
    os.makedirs(os.path.join(folder, "test_data_set_0"))
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(case.model.SerializeToString())
    inputs, outputs = case.data_sets[0]
    for kind, values, infos in (
        ("input", inputs, case.model.graph.input),
        ("output", outputs, case.model.graph.output),
    ):
        for i, (value, info) in enumerate(zip(values, infos)):
            path = os.path.join(folder, "test_data_set_0", f"{kind}_{i}.pb")
            with open(path, "wb") as file:
                file.write(tensor(np.asarray(value) if np.isscalar(value) else value, info.name).SerializeToString())


def main():
    out = os.path.join(sys.argv[1], onnx.__version__)
    done = os.path.join(out, "complete")
    if not os.path.exists(done):
        np.random.seed(0)
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            inputs, outputs = case.data_sets[0]
            folder = os.path.join(out, case.name)
            if all(map(is_tensor, [*inputs, *outputs])) and not os.path.exists(folder):
                write(case, folder)
        open(done, "w").close()
    print(out)
    print(os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "pytorch-converted"))


main()
