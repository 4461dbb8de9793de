"""What can go wrong between here and the Hub: what is worth another try, and one line for everything else."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from train.errors import PublishError, UserError, show

WAITS = (1.0, 2.0, 4.0, 8.0)
LONGEST_WAIT = 60.0
LOG_IN = "run `hf auth login`, or put a token with the right to write into HF_TOKEN (huggingface.co/settings/tokens)"
NO_TOKEN = f"no token for the Hub: {LOG_IN}"
OFFLINE = "HF_HUB_OFFLINE is set, so nothing can be sent; unset it, or use --dry-run"

Result = TypeVar("Result")
Say = Callable[[str], None]


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that an error stands for, None where no answer came."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may succeed in a moment: no answer, a busy or broken server."""
    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    # A body that is no JSON is the error page of something between here and the Hub.
    return isinstance(error, json.JSONDecodeError | HTTPError) and not isinstance(error, HfHubHTTPError)


def is_conflict(error: Exception) -> bool:
    """Tell whether the branch is no longer where the commit was to be put."""
    return status_of(error) in (409, 412)


def reason(error: Exception) -> str:
    """Return in a few words what the Hub answered, or that it gave no answer."""
    status = status_of(error)
    message = getattr(error, "server_message", None) or ("" if status else str(error).strip())
    named = f"HTTP {status}" if status else type(error).__name__
    return f"{named}: {' '.join(message.split())[:200]}" if message else named


class _OneLine(logging.Filter):
    """Makes one short line of the two, with a signed address, that huggingface_hub writes for each further try."""

    def __init__(self, say: Say):
        super().__init__()
        self.say, self.cause = say, "no answer"

    def filter(self, record: logging.LogRecord) -> bool:
        """Say it and drop the record; anything else passes."""
        message = record.getMessage()
        if " thrown while requesting " in message:
            self.cause = message.split(" thrown while requesting ")[0].strip("'")
            return False
        if message.startswith("Retrying in "):
            self.say(f"upload: {self.cause}; again in {message.removeprefix('Retrying in ')}")
            return False
        return True


@dataclass(frozen=True)
class Hub:
    """The way to the Hub, and how much patience there is."""

    api: HfApi = field(default_factory=HfApi)  # its client
    say: Say = show  # takes a line for people
    waits: tuple[float, ...] = WAITS  # seconds before each further try where the way there or the Hub failed

    def attempt(
        self, doing: str, action: Callable[[], Result], recover: Callable[[], Result | None] | None = None
    ) -> Result:
        """Do something, again after a while where that may help; each further try is logged.

        Args:
            doing: in words, for the line.
            action: what to do.
            recover: looks after a failure whether it was done all the same, because only the answer was lost; returns
                the result then, None else.
        """
        for wait in (*self.waits, None):
            try:
                return action()
            except (HTTPError, ValueError) as error:
                done = recover() if recover and (is_transient(error) or is_conflict(error)) else None
                if done is not None:
                    return done
                if wait is None or not is_transient(error):
                    raise
                wait = max(wait, min(_asked(error), LONGEST_WAIT))
                self.say(f"{doing}: {reason(error)}; again in {wait:g} s")
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def short_log(self) -> Iterator[None]:
        """Let huggingface_hub say each further try of its own in one line too."""
        logger, one_line = logging.getLogger("huggingface_hub.utils._http"), _OneLine(self.say)
        logger.addFilter(one_line)
        try:
            yield
        finally:
            logger.removeFilter(one_line)


def _asked(error: Exception) -> float:
    """Return the seconds that the Hub asks to wait, 0 where it does not."""
    value = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return float(value) if value.isdigit() else 0.0


def log_in(hub: Hub) -> list[str]:
    """Return whose token this is: the user's name, then those of the user's organisations.

    Raises:
        UserError: offline by request, no token, one that the Hub does not know, or one that may only read.
        PublishError: the Hub does not answer.
    """
    if constants.HF_HUB_OFFLINE:
        raise UserError(OFFLINE)
    if not get_token():
        raise UserError(NO_TOKEN)
    with in_words(hub.api.endpoint, "log in"):
        whose = hub.attempt("log in", hub.api.whoami)
    if ((whose.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise UserError(f"the token of {whose.get('name')} may only read: {LOG_IN}")
    return [whose["name"], *(group["name"] for group in whose.get("orgs") or [])]


@contextlib.contextmanager
def in_words(repo_id: str, doing: str) -> Iterator[None]:
    """Turn what the block raises into one line.

    Args:
        repo_id: the repository it is about.
        doing: what the block does, in words that follow "to" and "may not".

    Raises:
        UserError: the user has to change something.
        PublishError: trying again may help.
    """
    try:
        yield
    except (UserError, PublishError):
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _explained(error, repo_id, doing) from None


def _explained(error: Exception, repo_id: str, doing: str) -> Exception:
    """Return the error with a meaning for the command line."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, HTTPError) and is_transient(error.__cause__):
        error = error.__cause__  # the upload of a file, which huggingface_hub tried several times
    status = status_of(error)
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(OFFLINE)
    if isinstance(error, LocalTokenNotFoundError):
        return UserError(NO_TOKEN)
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{repo_id}: no such revision: {reason(error)}")
    if status == 403:
        return UserError(f"{repo_id}: this token may not {doing} ({reason(error)}); {LOG_IN}")
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return UserError(f"the Hub does not know this token ({reason(error)}); {LOG_IN}")
    if status in (401, 404):
        return UserError(f"{repo_id}: no such repository, or this token may not see it ({reason(error)})")
    if is_conflict(error):
        return PublishError(f"{repo_id}: it was changed meanwhile ({reason(error)}); look, and publish again")
    if status is not None and status < 500 and status not in (408, 429):
        return UserError(f"{repo_id}: the Hub refuses to {doing}: {reason(error)}")
    if isinstance(error, HTTPError) or is_transient(error):
        return PublishError(f"{repo_id}: failed to {doing}: {reason(error)}; run the same command again")
    return PublishError(f"{repo_id}: failed to {doing}: {str(error).rstrip('.')}")
