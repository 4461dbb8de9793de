"""A recipe as a value: its name, its task and the seven sections, with what they leave open filled in."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from train import files
from train.settings.sections import (
    BatchSection,
    DataSection,
    EvalSection,
    LoopSection,
    ModelSection,
    OptimSection,
    TokenizerSection,
)
from train.tasks import TASKS

if TYPE_CHECKING:
    Task = str
else:
    Task = Literal[tuple(TASKS)]
PAPERS_WARMUP = 4000


@dataclass
class Recipe:
    """A run: its name, its task and the seven sections.

    Attributes:
        name: of the run; the run's folder is `runs/<name>` unless `run_dir` says otherwise.
        task: what is learned, one of `train.tasks.TASKS`; it decides the model's variant and the tokenizer's template.
        run_dir: folder of the run.
        model: the architecture.
        tokenizer: text to ids.
        data: where the rows come from.
        batch: rows to batches.
        optim: the optimiser.
        loop: the run itself.
        eval: what is measured.
    """

    name: str
    task: Task
    run_dir: str | None = None
    model: ModelSection = field(default_factory=ModelSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    data: DataSection = field(default_factory=DataSection)
    batch: BatchSection = field(default_factory=BatchSection)
    optim: OptimSection = field(default_factory=OptimSection)
    loop: LoopSection = field(default_factory=LoopSection)
    eval: EvalSection = field(default_factory=EvalSection)

    def __post_init__(self) -> None:
        """Put a value in the place of what is left open, so that no reader of a recipe meets None."""
        if self.tokenizer.normalize is None:
            self.tokenizer = replace(self.tokenizer, normalize="none" if self.tokenizer.kind == "byte_bpe" else "nfc")
        if self.optim.warmup_steps is None:
            steps = warmup_for(self.loop.max_steps)
            is_short = self.optim.lr is None and steps < PAPERS_WARMUP
            self.optim = replace(
                self.optim, warmup_steps=steps, lr=papers_peak(self.model) if is_short else self.optim.lr
            )
        if self.eval.split is None:
            splits = self.data.splits()
            only_validation = "validation" in splits and "test" not in splits
            self.eval = replace(self.eval, split="validation" if only_validation else "test")

    @property
    def folder(self) -> Path:
        return Path(self.run_dir) if self.run_dir else Path("runs") / self.name

    @property
    def variant(self) -> str:
        """Return the `VanillaConfig.variant` that the task needs."""
        return TASKS[self.task].variant

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values."""
        return asdict(self)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def save(self, path: str | Path) -> None:
        """Write the resolved recipe as YAML that `load_recipe` reads back to an equal recipe."""
        with files.named(Path(path)):
            Path(path).write_text(self.to_yaml(), encoding="utf-8")


def warmup_for(max_steps: int) -> int:
    """Return the steps of warm-up of a run that does not say: the paper's, or a tenth of a run too short for them."""
    return max(1, min(PAPERS_WARMUP, max_steps // 10))  # 1 is none at all, and equation 3 divides by it


def papers_peak(model: ModelSection) -> float:
    """Return the learning rate at the end of the paper's 4,000 steps of warm-up, for the width of a model.

    Equation 3 with the warm-up of a short run peaks at up to 20 times that, where a model learns no more than how often each
    token occurs. What starts from trained weights (`init_from`) gets the peak of the widest preset.
    """
    from modeling_vanilla import VanillaConfig  # torch: not for those who read a recipe and train nothing

    preset = "transformer_big" if model.init_from else model.preset or "transformer_base"
    width = model.d_model or getattr(VanillaConfig, preset)().d_model
    return round((max(width, 1) * PAPERS_WARMUP) ** -0.5, 6)


def flat(sections: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested sections by their full key, such as `{"optim.lr": 0.1}`."""
    values: dict[str, Any] = {}
    for key, value in sections.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return values
