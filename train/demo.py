"""The embedded default, end to end: train, load as a stranger would, translate, and see where the model looks.

make demo        (or: python -m train.demo [--run_dir DIR])
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers.utils import logging

from train import files
from train.data import generators
from train.errors import print_anything
from train.hub.check import alone
from train.measure import results
from train.pictures import attention
from train.settings import get_it
from train.settings.reading import load_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Path("train") / "recipes" / "dates-en-ko.yaml"
NEXT = Path("train") / "recipes" / "shakespeare-char-cpu.yaml"
SHOWN = 5
PICTURED = "Friday the 20th of November 2026"  # the other way round in Korean, from end to end

STRANGER = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is reported by the demo, in one line
sys.stdout.reconfigure(errors="backslashreplace")
try:
    import modeling_vanilla
except ModuleNotFoundError as error:
    print(f"import modeling_vanilla  ->  {type(error).__name__}: {error}")
else:
    sys.exit("import modeling_vanilla worked: this process proves nothing")

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
folder, *texts = sys.argv[1:]
sources, targets = texts[::2], texts[1::2]
model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
print(f"AutoModelForSeq2SeqLM  ->  {type(model).__module__}.{type(model).__name__}\\n")
inputs = tokenizer(sources, return_tensors="pt", padding=True, split_special_tokens=True)
written = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
for source, target, text in zip(sources, targets, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
    print(f"  {source:<38} {text}" + ("" if text == target else f"     (should be {target})"))
"""


def main() -> int:
    """Run the demo; return the exit code of the part that failed, 0 if none did."""
    print_anything()
    parser = argparse.ArgumentParser(
        prog="python -m train.demo", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--run_dir", help="folder of the run, default runs/dates-en-ko below the project")
    options = parser.parse_args()
    run_dir = [f"--run_dir={Path(options.run_dir).resolve()}"] if options.run_dir else []
    os.chdir(ROOT)
    logging.disable_progress_bar()
    recipe = load_recipe([str(RECIPE), *run_dir])
    run, started = recipe.folder, time.monotonic()

    _say(f"1/3  train {RECIPE} (a finished run is recognised, a stopped one goes on)")
    code = _run([sys.executable, "-m", "train", "fit", str(RECIPE), *run_dir])
    if code:
        return code

    _say("2/3  load the result in a process that does not know this project")
    code = _translate_as_stranger(run / files.FINAL, recipe)
    if code:
        return code

    _say("3/3  draw where the model looks while it writes")
    picture = attention.of_model(run, PICTURED, run / files.ATTENTION)
    print(picture)
    _farewell(run, picture, time.monotonic() - started)
    return 0


def _say(line: str) -> None:
    """Print a headline."""
    print(f"\n{line}\n{'-' * len(line)}", flush=True)


def _translate_as_stranger(folder: Path, recipe) -> int:
    """Translate dates the model has never seen, in a process that has only the folder and transformers."""
    rows = generators.generate(recipe.data.generator, recipe.data.generator_args)["test"]
    pairs = zip(rows["source"][:SHOWN], rows["target"][:SHOWN], strict=True)
    texts = [text for pair in pairs for text in pair]
    with tempfile.TemporaryDirectory() as elsewhere:
        # Its own cache: nothing that an earlier run left there can help.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": elsewhere}
        return _run(alone.command(STRANGER, str(folder.resolve()), *texts), cwd=elsewhere, env=environment)


def _run(command: list[str], **options: Any) -> int:
    """Run a part in a process of its own and return its exit code.

    Ctrl-C reaches that process too, which saves and ends: it is waited for, where `subprocess.run` would kill it.
    """
    with subprocess.Popen(command, **options) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                code = process.wait()
                return code if code >= 0 else 128 - code


def _farewell(run: Path, picture: Path, seconds: float) -> None:
    """Say where everything is and what to try next."""
    record = results.read(run) or {"metrics": {}, "settings": {}}
    figures = ", ".join(f"{name} {value:.4f}" for name, value in record["metrics"].items())
    _say(f"done in {seconds / 60:.1f} minutes: {figures}, on {record['settings'].get('examples', 0):,} unseen dates")
    print(f"""\
model and tokenizer   {run / files.FINAL}   (AutoModelForSeq2SeqLM.from_pretrained loads it)
where it looks        {picture}
course of the loss    {run / files.CURVES}
every figure          {run / files.RESULTS}

Try next:
  .venv/bin/python -m train attention {run} "the 3rd of May, 1999" --output {run / "another.png"}
  .venv/bin/python -m train publish {run} --repo-id you/dates-en-ko --dry-run
  .venv/bin/python -m train fit {RECIPE} --run_dir runs/smaller --model.d_model 64 --loop.max_steps 400
  {get_it.command(NEXT)} && .venv/bin/python -m train fit {NEXT}""")


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code)
