"""The end of a run: choose the final weights, write them as a Hugging Face folder, measure and report them."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import tokenizer as tokenizers
from train import files
from train.measure import evaluate, provenance, results, scoring
from train.processes import ranks, signals
from train.run import best, checkpoint, history, mean
from train.tasks import TASKS

if TYPE_CHECKING:
    from train.run.run import Run


def eager(run: "Run") -> contextlib.AbstractContextManager:
    """Let a compiled model run as it is written: an evaluation has a shape for every length that it reads and writes."""
    return torch.compiler.set_stance("force_eager" if run.recipe.loop.compile else "default")


def finish(run: "Run") -> None:
    """Write `final/`, score it on `eval.split` into results.json, and mark the run as finished.

    Everything here can be done again from the last checkpoint, so a kill in between costs only this much.
    """
    source = load_final_weights(run)
    report = run.accelerator.print
    ranks.on_main(run.accelerator, lambda: write_model_folder(run, run.folder / files.FINAL))
    report(f"final weights: {source}, in {run.folder / 'final'}")
    if better := results.passed_over(asdict(run.progress), run.recipe):
        report(f"warning: {better}, which are in {run.folder / files.BEST} too")
    if run.recipe.eval.metrics:
        try:
            with eager(run):
                scores = evaluate.evaluate(
                    run.model, run.tokenizer, run.splits, run.recipe, run.accelerator, run.recipe.eval.split
                )
        except signals.Interrupted as caught:
            message = f"stopped after the last step, {run.progress.step}, in the evaluation of final/"
            raise signals.Stopped(caught.signal, f"{message}; run the same command to go on") from None
        ranks.on_main(run.accelerator, lambda: _write_results(run, scores, source))
    end = {"step": run.progress.step, "max_steps": run.recipe.loop.max_steps}
    ranks.on_main(run.accelerator, lambda: files.write_json(run.folder / files.FINISHED, end))
    report(f"finished: {run.folder}")
    if run.recipe.loop.push_to is not None:
        ranks.on_main(run.accelerator, lambda: run.publisher.close())


@contextlib.contextmanager
def drawn(run: "Run") -> Iterator[None]:
    """Draw `curves.png` and `film.png` of a run when what is inside ends, in whatever way; a picture never fails a run."""
    try:
        yield
    finally:
        if run.accelerator.is_main_process and (run.folder / files.METRICS).is_file():
            try:
                from train.pictures import curves  # here: a run must not need what draws

                curves.of_run(run.folder)
            except Exception as error:  # noqa: BLE001  (whatever a font or a full disk may raise)
                print(f"warning: {run.folder / files.CURVES}: not drawn: {error}", file=sys.stderr)
        if run.accelerator.is_main_process and (run.folder / files.MAPS).is_dir():
            try:
                from train.pictures import film

                film.of_run(run.folder)
            except Exception as error:  # noqa: BLE001
                print(f"warning: {run.folder / files.FILM}: not drawn: {error}", file=sys.stderr)


def load_final_weights(run: "Run") -> str:
    """Put the weights that `loop.final` asks for into the model; return in words which they are."""
    loop = run.recipe.loop
    if loop.final == "best" and run.progress.best is not None:
        folder = run.folder / files.BEST
        if not best.holds(folder, run.progress):
            raise OSError(f"{folder}: damaged: no longer the model of step {run.progress.best_step}")
        checkpoint.load_weights(folder, run.bare)
        return f"best, of step {run.progress.best_step}"
    if loop.final == "average":
        chosen = mean.averageable(run.folder, loop.average_last)
        checkpoint.put_weights(mean.mean_weights(chosen), run.bare, str(run.folder))
        return f"average of the last {len(chosen)} checkpoints"
    if loop.final == "ema" and run.average is not None:
        run.average.put()
        return f"moving average with decay {loop.ema:g}, at step {run.progress.step}"
    return f"last, of step {run.progress.step}"


def averaged_scores(run: "Run", names: list[str]) -> dict[str, float]:
    """Return the validation figures of the moving average as `ema_...`; none where there is no such average."""
    if run.average is None:
        return {}
    with run.average.in_place():
        scores = evaluate.evaluate(
            run.model, run.tokenizer, run.splits, run.recipe, run.accelerator, "validation", names
        )
    return {f"ema_{name}": value for name, value in scores.items()}


def write_model_folder(run: "Run", folder: Path, more: dict[str, Any] | None = None) -> None:
    """Write the model and its tokenizer as a folder that `from_pretrained` loads.

    Args:
        run: the run.
        folder: its name.
        more: further JSON files, by name; then the folder gets a manifest too.
    """
    model = run.bare
    with files.staged_folder(folder, manifest=more is not None) as staging:
        for name, value in (more or {}).items():
            files.write_json(staging / name, value)
        checkpoint.write_model(model, staging)
        tokenizers.write(run.tokenizer, staging)
        if TASKS[run.recipe.task].generates:
            # Without it `generate` would search greedily, and stop after its own default of 20 tokens.
            scoring.generation_config(run.recipe, model.config).save_pretrained(staging)


def _write_results(run: "Run", scores: Any, source: str) -> None:
    """Write results.json and print its table."""
    progress, processes = run.progress, run.accelerator.num_processes
    training = {name: value for name, value in asdict(progress).items() if name not in ("watch", "stream")} | {
        "best_metric": run.recipe.eval.best_metric,
        "weights": source,
        "processes": processes,
        "hardware": provenance.hardware(),
        "code": provenance.code(),
        "versions": provenance.versions(),
        "history": history.trained(run.history, progress.step),
    }
    training |= provenance.cost(progress.flops, progress.seconds, training["history"])
    summary = results.build(
        scores,
        recipe=run.recipe,
        model=run.bare,
        folder=run.folder / files.FINAL,
        split=run.recipe.eval.split,
        data_hash=run.identity["data"],
        train=training,
    )
    results.write(run.folder, summary, run.recipe.eval.split)
    print(results.table(summary))
