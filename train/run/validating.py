"""The evaluation of a run under way: figures of the validation data, and the best weights so far."""

import math
from typing import TYPE_CHECKING

from train import files
from train.measure import evaluate
from train.processes import ranks
from train.run import best, finish, looking, probes, saving, shard
from train.tasks import FIGURES

if TYPE_CHECKING:
    from train.run.run import Run
    from train.run.tracking import Tracker


def validate(run: "Run", tracker: "Tracker") -> None:
    """Measure the validation data, and keep the model if it is the best so far; every rank calls it.

    Raises:
        Interrupted: a signal arrived; the run is as it was before.
    """
    progress, section = run.progress, run.recipe.eval
    if "validation" not in run.splits or not section.during_training:
        progress.evaluated = progress.step
        return
    tracker.pause()
    names = list(dict.fromkeys([*section.during_training, section.best_metric]))
    whole = shard.whole(run)
    with finish.eager(run):
        scores = evaluate.evaluate(
            whole.model, run.tokenizer, run.splits, run.recipe, run.accelerator, "validation", names
        )
        alarms = probes.look(whole)
        looked = looking.look(whole) if section.look else None
        scores |= finish.averaged_scores(run, names)
    # From here on nothing waits for a signal: what is kept, told and noted belongs together.
    saving.wait_for_write(run)
    better = _keep_if_best(run, whole, scores[section.best_metric])
    figures = " ".join(f"{name}={number:.4f}" for name, number in scores.items())
    tracker.say(f"eval step={progress.step} {figures}{' (best so far)' if better else ''}")
    tracker.event("eval", progress.step, dict(scores))
    if looked is not None:
        alarms += looking.alarms(looked.entropies, run.folder / files.METRICS)
        tracker.event("look", progress.step, looked.entropies)
        ranks.on_main(run.accelerator, lambda: looking.keep(looked.view, run.folder, progress.step))
    for alarm in alarms:
        tracker.warn(progress.step, alarm)
    ranks.on_main(run.accelerator, lambda: best.note(run.folder, progress))
    tracker.resume()


def _keep_if_best(run: "Run", whole: "Run", value: float) -> bool:
    """Write the model to `best/` where its figure is the best so far, and count the evaluation; tell which it was."""
    progress, metric = run.progress, run.recipe.eval.best_metric
    sign = -1 if FIGURES[metric].lower_is_better else 1
    better = math.isfinite(value) and (progress.best is None or sign * value > sign * progress.best)
    progress.evaluated = progress.step
    if not better:
        progress.bad_evals += 1
        return False
    progress.best, progress.best_step, progress.bad_evals = value, progress.step, 0
    ranks.on_main(
        run.accelerator,
        lambda: best.replace(
            run.folder, progress, lambda folder, more: finish.write_model_folder(whole, folder, more)
        ),
    )
    return True
