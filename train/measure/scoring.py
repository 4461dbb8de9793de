"""One pass of a model over a split: its likelihood, its classes, or its translations.

Every process works on its own share of whole batches. The batches are planned from the data alone, so what comes out does
not depend on the number of processes; sums and predictions are then put together and the number of examples is checked.

Dimension letters: B batch, T target length, V vocabulary.
"""

import contextlib
import dataclasses
import functools
import random
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from accelerate.utils import gather_object
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedModel

from modeling_vanilla import doctor
from modeling_vanilla.decoding import search
from modeling_vanilla.doctor import Subject
from modeling_vanilla.doctor.generation import generate_forward
from train.data import batching, collate
from train.data.words import NO_WORD
from train.errors import GenerationError
from train.processes import signals
from train.tasks import TASKS

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from train.data.examples import Examples
    from train.settings.recipe import Recipe

LENGTH_PENALTY_FORMS = {
    "hf": "sum of log-probabilities by length**p, generate's form, not the ((5 + length) / 6)**p of Wu et al. 2016",
    "paper": "sum of log-probabilities by ((5 + length) / 6)**p (Wu et al. 2016)",
}

EXACT, ROUNDED = 1e-2, 1e-1
"""Largest difference between generate and forward, as a share of the logits' spread: in fp32 on a CPU, and elsewhere.

Rounding gives 1e-5 in fp32 and 1e-2 in bf16 or TF32, a lost cache 0.1 to 10.
"""
_checked: weakref.WeakSet = weakref.WeakSet()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What every pass over a split uses."""

    module: PreTrainedModel
    tokenizer: "PreTrainedTokenizerBase"
    recipe: "Recipe"
    accelerator: "Accelerator"
    label: str  # of the progress bars

    def batches(self, lengths: np.ndarray, epoch: int) -> tuple[list[list[int]], collate.Collator]:
        """Return the row ids of every batch, and what makes a batch of rows."""
        budget = max(self.recipe.eval.batch_tokens, int(lengths.max()))  # one row must always fit
        batches = batching.plan_epoch(lengths, budget, None, seed=0, epoch=epoch, shuffle=False)
        return batches, collate.Collator(self.recipe.task, self.tokenizer, self.recipe)


@contextlib.contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Evaluate without gradients, and give back the training mode and the random state that were found."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    device_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode  # part by part: a user may train a head on a body that stays in evaluation mode
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if device_states:
            torch.cuda.set_rng_state_all(device_states)


def generation_config(
    recipe: "Recipe", model_config: "PreTrainedConfig", max_new_tokens: int | None = None
) -> GenerationConfig:
    """Return how this recipe decodes: beam search with the recipe's beams and length penalty (sec. 6.1: 4 and 0.6).

    Deviates: unless the recipe says otherwise the penalty has generate's form, see `LENGTH_PENALTY_FORMS`.

    Args:
        recipe: its `eval` section says how translations are searched; for other tasks nothing is searched.
        model_config: gives the special ids and the size of the position table.
        max_new_tokens: output tokens at most; None = as many as the position table holds beside the start token, or beside
            the prompt of a decoder.
    """
    search = TASKS[recipe.task].generates and recipe.eval.beams > 1
    # What a decoder writes stands behind its prompt: the positions limit both together.
    is_bounded = getattr(model_config, "is_encoder_decoder", False) or max_new_tokens is not None
    most = max_new_tokens or model_config.max_position_embeddings - is_bounded
    return GenerationConfig(
        do_sample=False,
        num_beams=recipe.eval.beams if search else 1,
        # generate warns, rightly, about a penalty where nothing is ranked by it.
        length_penalty=recipe.eval.length_penalty if search else None,
        **{"max_new_tokens" if is_bounded else "max_length": most},
        pad_token_id=model_config.pad_token_id,
        bos_token_id=model_config.bos_token_id,
        eos_token_id=model_config.eos_token_id,
        decoder_start_token_id=getattr(model_config, "decoder_start_token_id", None),
    )


def _shares(
    batches: Sequence[list[int]], accelerator: "Accelerator", description: str
) -> Iterator[tuple[list[int], bool]]:
    """Yield (row ids, counts) for this process: whole batches, dealt out in turn.

    The processes take the same number of batches, so that a sharded model can gather its weights in step: a process that
    has none left repeats the last batch, with counts=False.
    """
    world, rank = accelerator.num_processes, accelerator.process_index
    steps = -(-len(batches) // world)
    # disable=None: no bar where stderr is a file.
    hidden = None if accelerator.is_main_process else True
    for step in tqdm(range(steps), desc=description, leave=False, disable=hidden):
        signals.look(accelerator)
        position = step * world + rank
        yield batches[min(position, len(batches) - 1)], position < len(batches)
    signals.look(accelerator)


Answers = dict[int, Any]
"""What a model answers, by example: the number of a class; the classes of its words, by the word; the logits of its tokens."""


def score(evaluation: Evaluation, encoded: "Examples", epoch: int) -> tuple[dict[str, float], Answers]:
    """Return the sums of a teacher-forced pass over all ranks, and what this rank's examples are answered with."""
    accelerator, task = evaluation.accelerator, evaluation.recipe.task
    batches, collator = evaluation.batches(encoded.lengths(epoch), epoch)
    sums, answers = np.zeros(4), {}  # nll, tokens, hits, examples
    for ids, counts in _shares(batches, accelerator, evaluation.label):
        batch = collator([encoded.row(epoch, i) for i in ids], epoch)
        inputs = {name: tensor.to(accelerator.device) for name, tensor in batch.inputs.items()}
        with accelerator.autocast():
            output = evaluation.module(**inputs)
        if not counts:
            continue
        if TASKS[task].has_spans:
            sums += (_span_nll(output, inputs), batch.targets, 0, len(ids))
            answers |= _span_logits(encoded, ids, output)
            continue
        best = output.logits.argmax(-1)
        nll = float(output.loss) * batch.targets if batch.targets else 0.0  # a mean over nothing may be NaN
        sums += (nll, batch.targets, _hits(best, inputs["labels"], task), len(ids))
        if TASKS[task].has_classes:
            answers |= dict(zip(ids, best.tolist(), strict=True))
        elif TASKS[task].has_tags:
            answers |= {number: _by_word(encoded, number, row) for number, row in zip(ids, best.tolist(), strict=True)}
    totals = dict(zip(("nll", "tokens", "hits", "examples"), _sum_over_ranks(sums, accelerator), strict=True))
    check_count(totals["examples"], len(encoded))
    return totals, answers


def _span_nll(output: Any, inputs: dict[str, torch.Tensor]) -> float:
    """Return the nats of first and last places among the real tokens: the model's own loss, as BERT's, counts padding as a choice."""
    padding = inputs["attention_mask"] == 0
    sides = ((output.start_logits, "start_positions"), (output.end_logits, "end_positions"))
    return sum(
        float(cross_entropy(logits.float().masked_fill(padding, -torch.inf), inputs[name], reduction="sum"))
        for logits, name in sides
    )


def _span_logits(encoded: "Examples", ids: Sequence[int], output: Any) -> Answers:
    """Return the start and end logits of the tokens of each example, without padding."""
    both = torch.stack([output.start_logits, output.end_logits], dim=1).float().tolist()  # (B, 2, S)
    lengths = (len(encoded.sides["input_ids"][number]) for number in ids)
    return {
        number: [side[:length] for side in sides] for number, sides, length in zip(ids, both, lengths, strict=True)
    }


def _by_word(encoded: "Examples", number: int, best: list[int]) -> dict[int, int]:
    """Return the class at the first token of each word of an example; one that was cut off has none."""
    owners = encoded.origins["words"][number].tolist()
    return {word: best[place] for place, word in enumerate(owners) if word != NO_WORD}


def _hits(best: torch.Tensor, labels: torch.Tensor, task: str) -> int:
    """Count the labels that are the model's first choice; -100 never is."""
    if task == "causal":
        best, labels = best[:, :-1], labels[:, 1:]  # the output at t predicts the token at t + 1
    return int((best == labels).sum())


def _sum_over_ranks(values: np.ndarray, accelerator: "Accelerator") -> list[float]:
    """Add up small vectors of numbers over all processes."""
    # Counts beyond 2^24 are not exact in fp32; mps has no fp64.
    dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
    return accelerator.reduce(torch.tensor(values, dtype=dtype, device=accelerator.device), "sum").tolist()


def check_count(seen: float, expected: int) -> None:
    """Refuse to report a figure over fewer or more examples than the split has."""
    if int(seen) != expected:
        raise RuntimeError(f"evaluation saw {int(seen)} examples of {expected}: every one must count exactly once")


def check_generate(module: PreTrainedModel, mixed_precision: bool = False) -> None:
    """See, once for each model of a process, that `generate` gives what whole forward passes give; every rank calls it.

    Args:
        module: its forward may round, in half precision or on an accelerator.
        mixed_precision: its forward rounds although its weights are in fp32.

    Raises:
        GenerationError: It does not, so that a figure of its texts would be one of nothing.
    """
    if module in _checked:
        return
    exact = module.dtype == torch.float32 and module.device.type == "cpu" and not mixed_precision
    check = next(check for check in doctor.CHECKS if check.name == "generate-forward")
    measure = functools.partial(generate_forward, limit=EXACT if exact else ROUNDED)
    head = "seq2seq" if module.config.is_encoder_decoder else "causal"
    finding = dataclasses.replace(check, measure=measure)(Subject(module, head))
    if finding.outcome == "FAIL":
        measured = "" if finding.measured is None else f", {finding.measured:.2g} where {finding.limit:g} is allowed"
        raise GenerationError(
            f"{type(module).__name__} with transformers {transformers.__version__}: {finding.meaning}{measured}"
        )
    _checked.add(module)


def generate(evaluation: Evaluation, encoded: "Examples", asked: Sequence[int]) -> list[str]:
    """Translate sources with beam search; the texts come back on every process.

    Args:
        evaluation: of the split.
        encoded: its rows.
        asked: the rows to translate, in the order of the texts that come back.
    """
    lengths = encoded.lengths(0)[asked, :1]  # the source side: what the model reads, and what limits the output
    module, recipe, accelerator = evaluation.module, evaluation.recipe, evaluation.accelerator
    batches, collator = evaluation.batches(lengths, 0)
    longest_output = getattr(module.config, "max_position_embeddings", None) or 1 << 20
    texts = {}
    for ids, counts in _shares(batches, accelerator, f"{evaluation.label}: generate"):
        inputs = collator([encoded.row(0, asked[i]) for i in ids], 0).inputs
        inputs = {name: inputs[name].to(accelerator.device) for name in ("input_ids", "attention_mask")}
        # sec. 6.1: at most the input's length + 50. One position is the decoder's start.
        limit = min(int(lengths[ids].max()) + recipe.eval.max_extra_tokens, longest_output - 1)
        with accelerator.autocast():
            config = generation_config(recipe, module.config, limit)
            # A search that was asked to stop ends: what it has found is thrown away by the next look.
            output = module.generate(  # type: ignore[operator]
                **inputs,
                generation_config=config,
                custom_generate=search,
                length_penalty_form=recipe.eval.length_penalty_form,
                is_interrupted=signals.is_asked,
            )
        if counts:
            texts |= dict(zip(ids, evaluation.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True))
    by_id = dict(gather_object(list(texts.items())))
    check_count(len(by_id), len(asked))
    return [by_id[i] for i in range(len(by_id))]
