"""What GPUs can do: the peaks of their data sheets, and prices to start a calculation from."""

import re
from typing import NamedTuple

from train.errors import UserError


class Gpu(NamedTuple):
    """One kind of GPU.

    Attributes:
        fp32: peak of fp32 products outside the tensor cores, in TFLOP/s.
        tf32: of fp32 products that are rounded to TF32, `loop.matmul_precision: high`; None where there are none.
        bf16: of bf16 products that are summed in fp32, without sparsity; None where there are none.
        memory: in GB.
        price: of an hour, in US dollars: an assumption. Prices differ between sellers by a factor of three and change.
    """

    fp32: float
    tf32: float | None
    bf16: float | None
    memory: int
    price: float


# P100: 9.5 TFLOP/s is the sustained rate that the paper reckons with (sec. 6.1, footnote).
GPUS = {
    "P100": Gpu(9.5, None, None, 16, 1.46),
    "T4": Gpu(8.1, None, None, 16, 0.35),
    "L4": Gpu(30.3, 60.0, 121.0, 24, 0.80),
    "A10G": Gpu(31.2, 35.0, 70.0, 24, 1.00),
    "RTX-4090": Gpu(82.6, 82.6, 165.2, 24, 0.50),
    "A100-40": Gpu(19.5, 156.0, 312.0, 40, 1.50),
    "A100-80": Gpu(19.5, 156.0, 312.0, 80, 2.00),
    "H100": Gpu(67.0, 494.7, 989.4, 80, 3.00),
    "H200": Gpu(67.0, 494.7, 989.4, 141, 3.80),
}

CPU = "cpu"
"""Name of this machine's CPU among the GPUs."""

# How drivers spell those names. What is not here, or is a slower make of the same name, gets no figure rather than a
# wrong one.
DEVICES = {
    r"P100": "P100",
    r"\bT4\b": "T4",
    r"\bL4\b": "L4",
    r"\bA10G\b": "A10G",
    r"RTX 4090(?! D|.*Laptop)": "RTX-4090",
    r"A100.*40GB": "A100-40",
    r"A100.*80GB": "A100-80",
    r"\bH100(?! PCIe| NVL)": "H100",
    r"\bH200(?! NVL)": "H200",
}


def of_device(name: str) -> Gpu | None:
    """Return the GPU that a driver calls `name`, None for one that is not listed."""
    return next((GPUS[ours] for pattern, ours in DEVICES.items() if re.search(pattern, name)), None)


def find(names: list[str]) -> dict[str, Gpu]:
    """Return the GPUs of these names, whatever their case.

    Raises:
        UserError: there is none of that name.
    """
    known = {name.lower(): name for name in GPUS}
    names = [name for name in names if name.lower() != CPU]
    for name in names:
        if name.lower() not in known:
            raise UserError(f"--gpu: {name}: no such GPU; one of {', '.join(GPUS)}, or {CPU}")
    return {known[name.lower()]: GPUS[known[name.lower()]] for name in names}


def peak(gpu: Gpu, precision: str, matmul_precision: str) -> tuple[float, str]:
    """Return the peak in FLOP/s that a recipe's precision can reach on a GPU, and the kind of number it stands for."""
    if precision == "bf16" and gpu.bf16 is not None:
        return gpu.bf16 * 1e12, "bf16"
    if precision == "bf16" or matmul_precision == "highest" or gpu.tf32 is None:
        return gpu.fp32 * 1e12, "fp32"
    return gpu.tf32 * 1e12, "tf32"
