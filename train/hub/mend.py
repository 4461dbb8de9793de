"""`python -m train publish --mend`: a published folder gets the code of this version; everything else stays as it is.

A folder carries the code that it was saved with. When transformers renames something, that code may be wrong, while the
weights are as good as ever.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_vanilla import VanillaConfig
from modeling_vanilla.configuration_vanilla import VERSION
from modeling_vanilla.convert.folders import INDEX
from train import files
from train.errors import PublishError, UserError
from train.hub import client, fetch, publish, releases, repository, upload
from train.hub.check import listing, report, use
from train.hub.folder import keep_allowed

# What of config.json depends on the code: where the classes are, which pipelines there are, and which version wrote it.
OF_THE_CODE = ("auto_map", "custom_pipelines", releases.FIELD)
UNFIT = "{}: as it was; not fit to be published with the new code either"


@dataclass(frozen=True)
class Repair:
    """What mending does to a folder."""

    before: str  # whose code it has, in words
    config: dict[str, Any]  # new content of config.json
    written: list[str]  # names of the files that are new or get new content, without the manifest
    removed: list[str]  # names of the files of code that this version does not have

    @property
    def is_needed(self) -> bool:
        """Say whether anything changes."""
        return bool(self.written or self.removed)

    def __str__(self) -> str:
        """Return it as a line for people."""
        removed = f"; removed: {', '.join(self.removed)}" if self.removed else ""
        return f"{self.before} -> code of {VERSION}; written: {', '.join(self.written)}{removed}; all else as it was"


def mend_folder(folder: Path, dry_run: bool = False) -> None:
    """Mend a folder here: a copy is mended, checked, and takes its place in one rename.

    Args:
        folder: that `publish` or `hf download` wrote.
        dry_run: mend and check the copy, then drop it.

    Raises:
        UserError: nothing that can be mended.
        PublishError: the mended copy fails its check; the folder is as it was.
    """
    folder = folder.resolve()
    repair = plan(folder, str(folder))
    if not repair.is_needed:
        print(f"{folder}: nothing to mend, it has the code of {VERSION}")
        return
    try:
        with tempfile.TemporaryDirectory() if dry_run else files.staged_folder(folder) as staging:
            _write(folder, Path(staging), repair)
            publish.refuse_unfit(Path(staging), UNFIT.format(folder))
    except OSError as error:
        raise PublishError(f"{folder}: as it was; the mended copy could not be written: {error}") from None
    print(f"{folder}: {repair}" + ("; checked, nothing was written" if dry_run else "; checked"))


def mend_repository(target: repository.Target, dry_run: bool = False) -> upload.Sent | None:
    """Mend a repository of the Hub in one commit on top of the one that was read and checked.

    Args:
        target: the repository, and how.
        dry_run: read, mend and check; send nothing.

    Returns:
        The commit; None for a dry run, and where there is nothing to do.

    Raises:
        UserError: nothing that can be mended, or the name or the token is not as it must be.
        PublishError: the mended folder fails its check, or the Hub or the way there fails.
    """
    hub, repo_id = client.Hub(), target.repo_id
    publish.refuse_contradictions(target)
    if not dry_run:
        client.log_in(hub)
    commit = fetch.commit_of(repo_id, target.revision)
    with tempfile.TemporaryDirectory() as work:
        entries = fetch.listing(repo_id, commit)
        report.refuse_number(repo_id, entries)
        there, mended = fetch.folder(repo_id, commit, Path(work) / "there", entries), Path(work) / "mended"
        repair = plan(there, repo_id)
        if not repair.is_needed and not target.tag:
            print(f"{repo_id} at commit {commit}: nothing to mend, it has the code of {VERSION}")
            return None
        if not dry_run:
            repository.survey(hub, target)  # now, and not after minutes of checks
        _write(there, mended, repair)
        publish.refuse_unfit(mended, UNFIT.format(repo_id))
        print(f"{repo_id} at commit {commit}: {repair}; checked")
        if dry_run:
            print("nothing was uploaded")
            return None
        keep_allowed(mended)  # what others added stays there as it is
        base = upload.Base(commit, frozenset(repair.removed))
        sent = upload.send(hub, mended, target, f"Mend: {repair.before} becomes that of {VERSION}", base)
    auto = use.own_class(repair.config) or "AutoModel"
    print(publish.farewell(target, sent, auto))
    return sent


def plan(folder: Path, name: str) -> Repair:
    """Look at what a folder has and lacks; changes nothing.

    Args:
        folder: its files.
        name: of the folder or the repository, for messages.

    Raises:
        UserError: a link or a file without end is in it; it is no model of this project, has no weights, or has code that this project did not release.
    """
    if problem := next(listing.entry_problems(folder), None):  # before anything of it is read or copied
        raise UserError(f"{name}: {problem}")
    if not (folder / files.CONFIG).is_file():
        run = (folder / files.RECIPE).is_file()
        hint = f": a run; mend {name}/hub, or publish it again" if run else f": no {files.CONFIG}, so no model to mend"
        raise UserError(f"{name}{hint}")
    config = files.read_object(folder / files.CONFIG)
    if config.get("model_type") != VanillaConfig.model_type:
        kind = config.get("model_type")
        raise UserError(
            f"{name}: {files.CONFIG}: model_type={kind!r} must be {VanillaConfig.model_type!r}, nothing else is mended"
        )
    if not any((folder / weights).is_file() for weights in ("model.safetensors", INDEX)):
        raise UserError(f"{name}: no model.safetensors, so no model to mend")
    if foreign := releases.foreign_names(folder):
        claimed = config.get(releases.FIELD)
        newer = f" ({files.CONFIG} says version {claimed})" if isinstance(claimed, str) and claimed != VERSION else ""
        raise UserError(
            f"{name}: {', '.join(foreign)}: neither code of {VERSION} nor of a known release "
            f"({', '.join(releases.known())}){newer}; mending replaces only what this project released: put other files "
            "elsewhere, or use the version that wrote them"
        )
    repaired, code = _config_of(config, name), releases.code_in(folder)
    new = releases.code_here()
    written = [file for file in new if code.get(file) != new[file]] + [files.CONFIG] * (repaired != config)
    return Repair(releases.name_of(folder), repaired, written, sorted(set(code) - set(new)))


def _config_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return config.json with what belongs to the code of this version; every other field stays as the file has it."""
    try:
        written = VanillaConfig.from_dict(files.parse_json(json.dumps(config))).to_dict()
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {files.CONFIG}: {error}") from None
    kept = {field: value for field, value in config.items() if field not in OF_THE_CODE}
    return kept | {field: written[field] for field in OF_THE_CODE if field in written}


def _write(folder: Path, target: Path, repair: Repair) -> None:
    """Write a mended copy of a folder, and bring its manifest up to date where it has one."""
    shutil.copytree(folder, target, symlinks=True, dirs_exist_ok=True)
    for name in repair.removed:
        (target / name).unlink()
    for path in releases.shipped():
        if path.name in repair.written:
            shutil.copyfile(path, target / path.name)
    if files.CONFIG in repair.written:  # as transformers writes it
        files.write_text(target / files.CONFIG, json.dumps(repair.config, indent=2, sort_keys=True) + "\n")
    listed = files.read_object(target / files.MANIFEST).get("files")
    if isinstance(listed, dict):
        # The other entries stay as they are: the check compares them with the files, weights above all.
        kept = {name: entry for name, entry in listed.items() if name not in repair.removed}
        new = {name: files.digest(target / name) for name in repair.written}
        files.write_json(target / files.MANIFEST, {"files": dict(sorted((kept | new).items()))})
