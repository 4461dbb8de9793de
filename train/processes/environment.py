"""What accelerate reads from the environment, and what becomes of it here: one table for every variable.

accelerate takes settings of a training from the environment, where neither the recipe nor the run's receipts would show them:
`ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4` alone divides every gradient by 4. So each variable has a rule:

- MACHINE: which processes and devices there are, and what is logged. Kept.
- RECIPE: the recipe decides. Taken out of the environment, with a warning where its value asks for something else.
- REFUSED: it would train something else than the recipe says. An error that names it, unless its value changes nothing.

The table follows what accelerate 1.15 reads, and what its launcher hands on; a test compares it with the installed version.
"""

import enum
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from train.errors import UserError

logger = logging.getLogger(__name__)

PREFIXES = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
"""What the settings of accelerate begin with: one that is not in the table is taken out, with a warning."""
ANY = "*"
_OFF = ("", "no", "false", "f", "n", "off", "0", "none")
_TRUTH = ("y", "yes", "t", "true", "on", "1", "n", "no", "f", "false", "off", "0")


class Rule(enum.Enum):
    """What becomes of a variable."""

    MACHINE = "kept"
    RECIPE = "taken out"
    REFUSED = "refused"


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        names: variables, separated by blanks; a name that ends in `*` stands for all that begin so. The first row that fits
            a variable counts.
        rule: what becomes of them.
        harmless: values, in lower case, that ask for nothing the recipe does not say; `*` = any.
        instead: what to use in their place.
        check: raises a ValueError or a RuntimeError for a value that accelerate cannot read.
    """

    names: str
    rule: Rule
    harmless: tuple[str, ...] = (ANY,)
    instead: str = ""
    check: Callable[[str], object] | None = None

    def fits(self, variable: str) -> bool:
        """Tell whether the row is about a variable."""
        return any(
            variable.startswith(name[:-1]) if name.endswith("*") else variable == name for name in self.names.split()
        )

    def is_harmless(self, value: str) -> bool:
        """Tell whether a value asks for nothing that the recipe does not say."""
        return ANY in self.harmless or value.lower() in self.harmless


def _flag(value: str) -> None:
    """Refuse what accelerate does not read as yes or no."""
    if value.lower() not in _TRUTH:
        raise ValueError("must be true or false")


_RANKS = (
    "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE NODE_RANK NPROC PMI_RANK PMI_SIZE OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE "
    "OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE MV2_COMM_WORLD_RANK MV2_COMM_WORLD_SIZE MV2_COMM_WORLD_LOCAL_RANK "
    "MV2_COMM_WORLD_LOCAL_SIZE MPI_LOCALRANKID MPI_LOCALNRANKS OMP_NUM_THREADS"
)
_DEVICES = (
    "CUDA_VISIBLE_DEVICES ZE_AFFINITY_MASK MLU_VISIBLE_DEVICES SDAA_VISIBLE_DEVICES MUSA_VISIBLE_DEVICES HABANA_VISIBLE_MODULES "
    "ASCEND_RT_VISIBLE_DEVICES NEURON_RT_VISIBLE_CORES NCCL_P2P_DISABLE NCCL_IB_DISABLE PJRT_DEVICE TPU_NAME PT_HPU_LAZY_MODE "
    "DEEPSPEED_USE_HPU PYTORCH_ENABLE_MPS_FALLBACK KMP_AFFINITY KMP_BLOCKTIME KAGGLE* XLA_* systemdrive"
)
_SHARD = "loop.shard divides weights, gradients and moments"
_COMPILE = "loop.compile decides"

TABLE = (
    Setting(_RANKS, Rule.MACHINE, check=int),
    Setting(f"MASTER_ADDR MASTER_PORT {_DEVICES}", Rule.MACHINE),
    Setting(
        "ACCELERATE_USE_CPU ACCELERATE_DEBUG_MODE ACCELERATE_CPU_AFFINITY ACCELERATE_ENABLE_RICH FORK_LAUNCHED "
        "USE_TORCH_XLA",
        Rule.MACHINE,
        check=_flag,
    ),
    Setting("ACCELERATE_TORCH_DEVICE", Rule.MACHINE, check=torch.device),
    Setting("ACCELERATE_LOG_LEVEL ACCELERATE_DEBUG_RDV_FILE HF_HOME XDG_CACHE_HOME", Rule.MACHINE),
    Setting("MLFLOW_* CLEARML_*", Rule.MACHINE),  # where a tracker files the run
    Setting(
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        Rule.REFUSED,
        ("1", "auto"),
        "loop.accumulate divides a step without changing it",
    ),
    Setting("ACCELERATE_GRADIENT_CLIPPING", Rule.REFUSED, (*_OFF, "auto"), "optim.clip_norm clips gradients"),
    Setting("ACCELERATE_USE_DEEPSPEED", Rule.REFUSED, _OFF, f"DeepSpeed is not used here; {_SHARD}"),
    Setting("ACCELERATE_USE_MEGATRON_LM", Rule.REFUSED, _OFF, f"Megatron-LM is not used here; {_SHARD}"),
    Setting("ACCELERATE_USE_PARALLELISM_CONFIG", Rule.REFUSED, _OFF, f"{_SHARD}; there is no other parallelism here"),
    Setting("ACCELERATE_USE_SAGEMAKER", Rule.REFUSED, _OFF, "start the processes with torchrun or accelerate launch"),
    # Each launcher of accelerate writes this one, whatever its user has set up.
    Setting("ACCELERATE_MIXED_PRECISION", Rule.RECIPE, _OFF, "loop.precision decides"),
    Setting("ACCELERATE_DOWNCAST_BF16", Rule.RECIPE, _OFF, "loop.precision decides"),
    Setting("ACCELERATE_FP8_*", Rule.RECIPE, (ANY,), "loop.precision decides"),
    Setting("ACCELERATE_DYNAMO_BACKEND", Rule.RECIPE, _OFF, _COMPILE),
    Setting("ACCELERATE_DYNAMO_*", Rule.RECIPE, (ANY,), _COMPILE),
    # `train.run.shard` has read the flag before; the ways of dividing are its own.
    Setting("ACCELERATE_USE_FSDP", Rule.RECIPE, _OFF, _SHARD),
    Setting("FSDP_OFFLOAD_PARAMS", Rule.RECIPE, _OFF, f"{_SHARD}, and keeps them on the device"),
    Setting("FSDP_ACTIVATION_CHECKPOINTING*", Rule.RECIPE, _OFF, "loop.gradient_checkpointing decides"),
    Setting("FSDP_*", Rule.RECIPE, (ANY,), _SHARD),
    Setting(
        "MEGATRON_LM_* PARALLELISM_CONFIG_* ACCELERATE_DEEPSPEED_* ACCELERATE_CONFIG_DS_FIELDS "
        "ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE ACCELERATE_ALLOW_CP_STANDALONE",
        Rule.RECIPE,
    ),  # without the flags above they do nothing
    Setting(
        "ACCELERATE_BYPASS_DEVICE_MAP ACCELERATE_INIT_INCLUDE_BUFFERS",
        Rule.RECIPE,
        _OFF,
        "models are not dispatched here",
    ),
)


def setting_of(variable: str) -> Setting | None:
    """Return the row of the table that is about a variable; for an unknown setting of accelerate, one that takes it out."""
    setting = next((row for row in TABLE if row.fits(variable)), None)
    if setting is None and variable.startswith(PREFIXES):
        return Setting(variable, Rule.RECIPE, (), "this version does not know it")
    return setting


def settle() -> None:
    """Make the environment one in which the recipe alone decides; call it before an Accelerator is made.

    Raises:
        UserError: a variable asks for what is not done here, or cannot be read. The environment is as it was then.
    """
    variables = [(name, value, setting_of(name)) for name, value in sorted(os.environ.items())]
    for name, value, setting in variables:
        if setting is not None:
            _refuse(name, value, setting)
    for name, value, setting in variables:
        if setting is None or setting.rule is Rule.MACHINE:
            continue
        if not setting.is_harmless(value) and os.environ.get("RANK", "0") == "0":
            logger.warning("%s=%s of the environment is not used: %s", name, value[:80], setting.instead)
        del os.environ[name]


def _refuse(name: str, value: str, setting: Setting) -> None:
    """Raise for a value that cannot be read, or that asks for what is not done here."""
    if setting.check is not None:
        try:
            setting.check(value)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{name}: {value[:80]!r} in the environment: {str(error).splitlines()[0]}") from None
    if setting.rule is Rule.REFUSED and not setting.is_harmless(value):
        raise UserError(f"{name}: {value[:80]!r} in the environment must be unset: {setting.instead}")


def refuse_alone(processes: int) -> None:
    """Refuse to go on where a launcher started several processes that do not see each other, as accelerate's do on a CPU.

    Args:
        processes: how many accelerate sees.

    Raises:
        UserError: names the variable that is missing. Each of them would take the whole work for its own.
    """
    started = os.environ.get("WORLD_SIZE", "")
    if started.isdecimal() and int(started) > processes:
        remedy = "on a CPU, set ACCELERATE_USE_CPU=true"
        raise UserError(
            f"WORLD_SIZE: the launcher started {started} processes, of which each sees {processes}; {remedy}"
        )
