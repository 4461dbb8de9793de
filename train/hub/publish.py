"""From a finished run to the Hub: write the folder, check it as a stranger would use it, send it in one commit."""

from pathlib import Path

from train.errors import PublishError, UserError
from train.hub import upload
from train.hub.check import report as hub_check
from train.hub.client import Hub
from train.hub.folder import finished, write_hub_folder
from train.settings.reading import load_recipe
from train.tasks import TASKS


def publish(run_dir, target: upload.Target, dry_run: bool = False) -> upload.Sent | None:
    """Publish a finished run.

    Args:
        run_dir: a run with `final/` and `results.json`.
        target: the repository, and how.
        dry_run: write and check the folder, send nothing.

    Returns:
        The commit; None for a dry run.

    Raises:
        UserError: the run, the name or the token is not as it must be, or the repository holds something else.
        PublishError: the folder fails its check, or the Hub or the way there fails.
    """
    hub = Hub()
    refuse_contradictions(target)
    finished(Path(run_dir), target.repo_id)
    if not dry_run:
        names = upload.log_in(hub)
        before = upload.survey(hub, target)  # now, and not after minutes of checks
        owner = target.repo_id.split("/")[0]
        if not before.exists and owner not in names:
            raise UserError(
                f"{target.repo_id}: no repository that {names[0]} can see, and {names[0]} cannot make one for {owner}; "
                f"name one of {', '.join(f'{name}/...' for name in names[:5])}"
            )
        if target.private and before.exists and not before.private:
            raise UserError(
                f"--private: {target.repo_id} is public already; make it private on its settings page first"
            )
    folder = write_hub_folder(run_dir, target.repo_id)
    report = hub_check.check_folder(folder)
    if report.failed:
        print(report)
        problem = (report.problems or ["nothing was checked"])[0]
        raise PublishError(f"{folder}: not fit to be published: {problem}")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"{folder}: {len(list(folder.iterdir()))} files, {size / 1e6:,.1f} MB, loaded and checked as a stranger would"
    )
    if dry_run:
        print(f"complete Hub folder of {target.repo_id}; nothing was uploaded")
        return None
    recipe = load_recipe([str(folder / "recipe.yaml")])
    sent = upload.send(hub, folder, target, f"Publish {recipe.name}")
    print(farewell(target, sent, TASKS[recipe.task].auto_class))
    return sent


def refuse_contradictions(target: upload.Target) -> None:
    """Refuse options that do not go together."""
    if target.create_pr and target.revision != upload.MAIN:
        raise UserError(f"--create-pr: asks for a change of main; leave --revision {target.revision} out")
    if target.create_pr and target.tag:
        raise UserError(f"--tag {target.tag}: what is only asked for gets no tag; leave it out, or --create-pr")


def farewell(target: upload.Target, sent: upload.Sent, auto: str) -> str:
    """Return what was done, where it is, and how to load exactly that."""
    done = "published" if sent.new else "nothing to send, the Hub has this content already"
    done = "pull request opened" if sent.new and target.create_pr else done
    where = f'"{target.repo_id}", revision="{sent.commit}", trust_remote_code=True'
    return f"""\
{done}: {sent.url}
commit {sent.commit}{f", tag {target.tag}" if target.tag else ""}

from transformers import {auto}, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({where})
model = {auto}.from_pretrained({where})"""
