"""What `eval.look` adds to an evaluation: how sharp each head is, and where the heads of the last layer look in one example.

Dimension letters: L layers, H heads, T rows, S columns.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modeling_vanilla.heads import shift_right
from modeling_vanilla.look import Attention, capture
from modeling_vanilla.look.labels import labels as labels_of
from modeling_vanilla.look.measures import entropy_of
from modeling_vanilla.look.view import Kind, Map, View
from modeling_vanilla.look.writing import as_json
from train import files
from train.data import collate
from train.measure import evaluate, scoring
from train.run.watchdog import Alarm
from train.tasks import TASKS

if TYPE_CHECKING:
    from train.run.run import Run

ROWS = 8
"""Validation rows that entropies are the mean of."""
TOKENS = 48
"""Tokens of the example, the first validation row, on each side; the rest is cut off."""
BLUR, POINT = 0.99, 0.01
"""All heads of a layer above, or below: none of them tells tokens apart, or none looks at more than one."""

LABELS = "labels"
END = "…"
"""The label of the last row of a decoder alone: what it writes is the first token that is not shown."""

Inputs = dict[str, torch.Tensor]


@dataclasses.dataclass
class Looked:
    """What an evaluation saw.

    Attributes:
        entropies: For each head, as `cross.1.0` (kind, layer, head), what `measures.entropy` says; mean over rows.
        view: The example's map of the last layer.
    """

    entropies: dict[str, float]
    view: View


def look(run: "Run") -> Looked | None:
    """Look at a run's model; every rank calls it, on the same rows. None where there are no rows.

    One forward pass for each of `ROWS` rows, and one for the example. The random state and the training mode are left as
    they were.
    """
    recipe, module = run.recipe, run.accelerator.unwrap_model(run.model)
    _, encoded = evaluate.encoded_split(run.splits, "validation", recipe.eval.limit, run.tokenizer, recipe)
    collator = collate.Collator(recipe.task, run.tokenizer, recipe)
    rows = [_inputs(run, collator, encoded.row(0, number)) for number in range(min(ROWS, len(encoded)))]
    if not rows:
        return None
    sums: dict[str, list[float]] = {}
    with scoring.undisturbed(module), run.accelerator.autocast():
        for inputs in rows:
            with capture(run.bare, reduce=entropy_of) as seen:
                module(**{name: value for name, value in inputs.items() if name not in collate.LEARNED})
            for (kind, layer), found in seen.items():
                for head, value in enumerate(found.calls[0].tolist()):
                    if not math.isnan(value):  # a row of one token has none
                        sums.setdefault(f"{kind}.{layer}.{head}", []).append(value)
        view = _view(run, module, {name: value[..., :TOKENS] for name, value in rows[0].items()})
    return Looked({name: sum(values) / len(values) for name, values in sums.items()}, view)


def _inputs(run: "Run", collator: collate.Collator, row: dict[str, Any]) -> Inputs:
    """Return what the model reads of one row, the decoder's side included, and the labels."""
    batch = collator([row], epoch=0)
    inputs = {name: value.to(run.accelerator.device) for name, value in batch.inputs.items()}
    if TASKS[run.recipe.task].has_pairs:
        config: Any = run.bare.config
        inputs["decoder_input_ids"] = shift_right(inputs[LABELS], config)
    return inputs


def _view(run: "Run", module: torch.nn.Module, inputs: Inputs) -> View:
    """Return the map of the last layer: of a translator's cross-attention, of another's self-attention."""
    config: Any = run.bare.config
    kind: Kind = "cross" if config.variant == "encoder-decoder" else config.variant
    layers = config.num_decoder_layers if kind == "cross" else config.num_layers
    learned = [inputs.pop(name) for name in collate.LEARNED if name in inputs]
    with capture(run.bare, [layers - 1], kind=kind, reduce=_whole) as seen:
        module(**inputs)
    found = seen[kind, layers - 1]
    weights, hidden = found.calls[0]
    read = labels_of(run.tokenizer, inputs["input_ids"][0].tolist())
    reads = labels_of(run.tokenizer, inputs["decoder_input_ids"][0].tolist()) if kind == "cross" else read
    rows = labels_of(run.tokenizer, learned[0][0].tolist()) if kind == "cross" else read
    rows = [*read[1:], END] if kind == "decoder" else rows
    seen_map = Map(kind, rows, read, reads, [layers - 1], found.heads, weights[None], hidden)
    return View(run.folder.name, type(run.bare).__name__, "".join(read), None, [seen_map])


def _whole(attention: Attention) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep all weights (H, T, S) of a batch of one, and what is hidden (T, S)."""
    weights, hidden = zip(*attention.blocks(), strict=True)
    masks = [
        (torch.zeros_like(w[:, :1], dtype=torch.bool) if h is None else h)[0, 0].expand(w.shape[2:])
        for w, h in zip(weights, hidden, strict=True)
    ]
    return torch.cat(weights, 2)[0].float().cpu(), torch.cat(masks).cpu()


def alarms(entropies: dict[str, float], metrics_file: Path) -> list[Alarm]:
    """Return what looks wrong: a layer all of whose heads are blurred, or points, now and one evaluation before.

    Args:
        entropies: Of this evaluation.
        metrics_file: Where the one before is written down.
    """
    events = [event for event in files.read_events(metrics_file) if event.get("event") == "look"]
    before = _extremes(events[-1]) if events else {}
    found = []
    for layer, (extreme, value) in _extremes(entropies).items():
        if before.get(layer, ("", 0.0))[0] == extreme:
            sense = "look at all that they may see alike" if extreme == "blurred_layer" else "look at one token each"
            text = f"all heads of {layer} {sense}, in two evaluations running (entropy {value:.4f} of ln n)"
            found.append(Alarm(extreme, text, value))
    return found


def _extremes(entropies: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Return the layers whose heads are all beyond a limit, with the kind of alarm and the mildest of their figures."""
    layers: dict[str, list[float]] = {}
    for name, value in entropies.items():
        if name.count(".") == 2 and isinstance(value, float):
            layers.setdefault(name.rpartition(".")[0].replace(".", " layer "), []).append(value)
    beyond = {}
    for layer, values in layers.items():
        if min(values) > BLUR:
            beyond[layer] = ("blurred_layer", min(values))
        elif max(values) < POINT:
            beyond[layer] = ("pointed_layer", max(values))
    return beyond


def keep(view: View, run_dir: Path, step: int) -> None:
    """Write the example's map of a step; those of later steps, of a run that was killed, go. Main process only."""
    folder = run_dir / files.MAPS
    folder.mkdir(exist_ok=True)
    for path in folder.glob("step-*.json"):
        if path.name > f"step-{step:08d}.json":
            path.unlink()
    files.write_text(folder / f"step-{step:08d}.json", as_json(view) + "\n")
