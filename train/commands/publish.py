"""`python -m train publish`: send a run to the Hub, or mend what is published."""

from pathlib import Path
from typing import TYPE_CHECKING

from train.commands import console
from train.errors import UserError
from train.processes import imports

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(arguments: list[str]) -> int:
    """Send a run to the Hub."""
    request = "open a pull request instead of changing main"
    about = (
        "Write the complete folder of a Hugging Face model repository for a finished run, check it, and send it. With "
        "--mend: give a published folder or repository the code of this version, and leave all else as it is."
    )
    mends = "mend what is published: new code, same weights; RUN is then a model folder, or user/name on the Hub"
    parser = console.parser_of("publish", about)
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run")
    parser.add_argument("--repo-id", "--repo_id", dest="repo_id", type=str | None, help="user/name on the Hub")
    parser.add_argument("--mend", action="store_true", help=mends)
    parser.add_argument("--private", action="store_true", help="make the repository private, where it has to be made")
    parser.add_argument("--revision", type=str, default="main", help="branch; it is made where it is missing")
    parser.add_argument("--create-pr", "--create_pr", dest="create_pr", action="store_true", help=request)
    parser.add_argument("--tag", type=str | None, help="name for the commit, such as v1")
    parser.add_argument(
        "--dry-run", "--dry_run", dest="dry_run", action="store_true", help="write, check, send nothing"
    )
    options = console.parse(parser, arguments)

    from train.errors import PublishError

    console.without_bars()
    try:
        _mend(options) if options.mend else _publish(options)
    except PublishError as error:
        return console.report(error, 1)
    except KeyboardInterrupt:
        whole = "a commit is on the Hub as a whole or not at all; the same command again tells, and goes on"
        return console.report(f"interrupted; {whole}", 130)
    return 0


def _publish(options: "Namespace") -> None:
    """Publish a run."""
    with imports.stay():
        from train.hub import publish
        from train.hub.repository import Target

    if options.repo_id is None:
        raise UserError("publish: --repo-id USER/NAME is missing; to mend what is published already, add --mend")
    target = Target(options.repo_id, options.revision, options.private, options.create_pr, options.tag)
    publish.publish(options.run_dir, target, options.dry_run)


def _mend(options: "Namespace") -> None:
    """Mend a folder, or a repository of the Hub."""
    with imports.stay():
        from train import files
        from train.hub import fetch, mend
        from train.hub.repository import Target

    if options.repo_id is not None or options.private:
        raise UserError("publish --mend: takes neither --repo-id nor --private; what is mended stays where it is")
    folder = Path(options.run_dir)
    files.recover(folder)
    if not folder.is_dir():
        if not fetch.is_id(options.run_dir):
            raise UserError(f"{options.run_dir}: neither a folder nor an id of the Hub (user/name)")
        mend.mend_repository(
            Target(options.run_dir, options.revision, False, options.create_pr, options.tag), options.dry_run
        )
    elif options.create_pr or options.tag or options.revision != "main":
        raise UserError(f"publish --mend {folder}: a folder here has no branches, tags or pull requests")
    else:
        mend.mend_folder(folder, options.dry_run)
