"""What a stranger does with a Hub folder: load it, run it, save it, fine-tune it. A script on its own: `stranger.py JOB.json`.

It knows torch and transformers and refuses to import this project, so it must not import anything of it either; only
`confine.py`, which knows nothing but Python, is loaded by its path. The network, other processes, writes outside its folder
and code that is not listed are refused, and an attempt is a fault. `use.py` starts it in an empty cache and reads
what it writes: `findings.json`, and `numbers.safetensors` with what the model computed.

Dimension letters: B batch, S source length, T target length.
"""

import functools
import gc
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ("modeling_vanilla", "train", "tokenizer", "space", "benchmarks")
CONFINE = Path(__file__).with_name("confine.py")
# The Trainer leaves its arguments beside the weights, as a pickle; it is no part of a model.
OF_THE_TRAINER = ("training_args.bin",)
NEW_TOKENS = 6


class Refuse:
    """Make the packages of the project impossible to import by their own names; copies of their files have others."""

    def find_spec(self, name, path=None, target=None):
        """Refuse a name of ours, leave any other to the next finder."""
        if name.split(".")[0] in OURS:
            raise ModuleNotFoundError(f"No module named {name!r} (a stranger does not have it)", name=name)


def load_confine() -> Any:
    """Return the module `confine`, which is a file of its own as this one is."""
    specification: Any = importlib.util.spec_from_file_location("confine", CONFINE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def numbers(model, inputs: dict) -> dict:
    """Return what a model computes: its base, its head where its weights were saved, and what it generates.

    Args:
        model: in evaluation mode.
        inputs: input_ids (B, S), and decoder_input_ids (B, T) for an encoder-decoder.
    """
    import torch

    with torch.no_grad():
        computed = {"base": model.base_model(**inputs)[0]}
        if type(model).__name__ in (model.config.architectures or ()) and model.base_model is not model:
            shaped = inputs
            if "MultipleChoice" in type(model).__name__:
                shaped = {name: value[:, None] for name, value in inputs.items()}  # one choice a row
            computed["head"] = model(**shaped)[0]
            if model.can_generate():
                computed["generate"] = model.generate(inputs["input_ids"], max_new_tokens=NEW_TOKENS, do_sample=False)
    return {name: value.contiguous().clone() for name, value in computed.items()}


class Stranger:
    """One visit to one folder, for a job of `use._job`, with an empty folder to write into."""

    def __init__(self, job: dict, work: Path):
        import torch

        self.job, self.work, self.folder = job, work, job["folder"]
        self.inputs = {name: torch.tensor(rows) for name, rows in job["inputs"].items()}
        self.findings: list[tuple[str, bool, str]] = []  # name, passed, detail
        self.numbers: dict = {}  # what each class computed, by "Auto class/output"
        self.model: Any = None
        self.tokenizer: Any = None

    def look(self, name: str, function: Callable[[], str]) -> None:
        """Run one check; what it returns is the detail of a success, an error is a finding in one line."""
        try:
            self.findings.append((name, True, function()))
        except Exception as error:  # noqa: BLE001 - a repository may raise anything
            message = " ".join(str(error).split())[:300]
            if not isinstance(error, Fault):
                message = f"{type(error).__name__}: {message}"
            self.findings.append((name, False, message))

    def visit(self) -> None:
        """Do everything; what depends on a model that does not load is left out, for its fault is reported already."""
        if self.job["tokenizer"]:
            self.look("tokenizer", self.load_tokenizer)
        for auto in self.job["autos"]:
            self.look(auto, functools.partial(self.load_class, auto))
        if self.model is not None:
            self.look("save", self.save_and_load)
            for task in self.job["pipelines"]:
                self.look(f"pipeline {task}", functools.partial(self.run_pipeline, task))
            self.look("fine-tune", self.fine_tune)

    def load(self, auto: str, folder):
        """Load a folder through one Auto class, with the code that it brings along."""
        import transformers

        options: dict = {"trust_remote_code": self.job["trust"]}
        if auto != "AutoConfig":
            options["use_safetensors"] = True
        loaded = getattr(transformers, auto).from_pretrained(folder, **options)
        module = type(loaded).__module__
        if auto in self.job["remote"] and not module.startswith("transformers_modules."):
            raise Fault(f"config.json: auto_map: {auto} gave {module}.{type(loaded).__name__}, not code of the folder")
        return loaded

    def load_tokenizer(self) -> str:
        """Load the tokenizer without any flag, take ids to text and back, and save it and load it again."""
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)
        text = self.job["text"]
        ids = self.tokenizer(text)["input_ids"]
        if not ids:
            raise Fault(f"tokenizer.json: {text!r} gives no token")
        largest = max(*self.tokenizer.get_vocab().values(), *ids)
        if self.job["vocab_size"] and largest >= self.job["vocab_size"]:
            raise Fault(
                f"tokenizer.json: id {largest}, must be below vocab_size={self.job['vocab_size']} of config.json"
            )
        if self.tokenizer.unk_token_id not in ids:
            again = self.tokenizer(self.tokenizer.decode(ids, skip_special_tokens=True))["input_ids"]
            if again != ids:
                raise Fault(f"tokenizer.json: {text!r} does not survive encode, decode, encode")
        self.tokenizer.save_pretrained(self.work / "tokenizer")
        if transformers.AutoTokenizer.from_pretrained(self.work / "tokenizer")(text)["input_ids"] != ids:
            raise Fault("tokenizer.json: saved and loaded again, it gives other ids")
        return f"{type(self.tokenizer).__name__}, no flag; {len(ids)} ids for {text[:40]!r}"

    def load_class(self, auto: str) -> str:
        """Load one Auto class and note what it computes."""
        loaded = self.load(auto, self.folder)
        if auto == "AutoConfig":
            return type(loaded).__name__
        model = loaded.eval()
        computed = numbers(model, self.inputs)
        for output, value in computed.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise Fault(f"{type(model).__name__}: {output}: its output is not finite")
        self.numbers |= {f"{auto}/{output}": value for output, value in computed.items()}
        if auto == self.job["auto_class"]:
            self.model = model
        return f"{type(model).__name__}: {', '.join(computed)}"

    def same(self, model, expected: dict, way: str) -> None:
        """Compare what two models compute, to the bit."""
        import torch

        for output, value in numbers(model, self.inputs).items():
            if not torch.equal(value, expected[output]):
                raise Fault(f"{output}: {way} gives other numbers")

    def save_and_load(self) -> str:
        """Save the model and load what was saved."""
        expected = numbers(self.model, self.inputs)
        self.same(self.load(self.job["auto_class"], self.folder).eval(), expected, "loaded twice, the folder")
        again = self.work / "again"
        self.model.save_pretrained(again)
        self.complete(again)
        self.same(self.load(self.job["auto_class"], again).eval(), expected, "saved and loaded again, the model")
        return "the same numbers, to the bit"

    def complete(self, again: Path) -> None:
        """See that a folder that was saved again has the code, the map and the settings of the first."""
        names, before = ({path.name for path in Path(folder).iterdir()} for folder in (again, self.folder))
        kept = {name for name in before if name.endswith(".py") or name in ("config.json", "generation_config.json")}
        if lost := sorted(kept - names):
            raise Fault(f"saved again: {', '.join(lost)} is lost")
        old, new = (json.loads(Path(folder, "config.json").read_text("utf-8")) for folder in (self.folder, again))
        for field in ("auto_map", "custom_pipelines"):
            if old.get(field) != new.get(field):
                raise Fault(f"saved again: config.json: {field} is {new.get(field)}, was {old.get(field)}")

    def run_pipeline(self, task: str) -> str:
        """Run one pipeline on a text that fits, twice."""
        import transformers

        ids = self.tokenizer(self.job["text"])["input_ids"][: self.job["fit"]]
        text, options = self.tokenizer.decode(ids, skip_special_tokens=True), {}
        if task == "text-generation":
            options["max_new_tokens"] = NEW_TOKENS
        if task == "fill-mask":
            text = f"{text} {self.tokenizer.mask_token}"
        pipeline: Any = transformers.pipeline
        run = pipeline(task, model=self.folder, trust_remote_code=self.job["trust"], device="cpu")
        question = {"question": text, "context": text} if task == "question-answering" else text
        answers = []
        for _ in range(2):
            transformers.set_seed(0)  # some draw what they write
            answers.append(str(run(question, **options))[:80])
        if answers[0] != answers[1]:
            raise Fault(f"{task}: {text[:40]!r} gives {answers[0]}, then {answers[1]}")
        return f"{text[:40]!r} gives {answers[0]}"

    def rows(self) -> list[dict]:
        """Return two rows to learn from, with the labels that the saved head takes; none for a model without labels."""
        ids, kind = self.inputs["input_ids"], self.job["auto_class"].removeprefix("AutoModelFor")
        labels = {
            "Seq2SeqLM": lambda row: {"labels": self.inputs["decoder_input_ids"][row]},
            "CausalLM": lambda row: {"labels": ids[row]},
            "MaskedLM": lambda row: {"labels": ids[row]},
            "SequenceClassification": lambda row: {"labels": row % self.model.config.num_labels},
            "TokenClassification": lambda row: {"labels": ids[row] % self.model.config.num_labels},
            "QuestionAnswering": lambda row: {"start_positions": row, "end_positions": row + 1},
            "MultipleChoice": lambda row: {"labels": row},
        }.get(kind)
        if labels is None:
            return []
        shape = (lambda row: ids) if kind == "MultipleChoice" else (lambda row: ids[row])
        return [{"input_ids": shape(row), **labels(row)} for row in range(len(ids))]

    def fine_tune(self) -> str:
        """Take one step of the Trainer on two rows; what it saves, as it would push it, loads again."""
        from transformers import Trainer, TrainingArguments, default_data_collator

        rows, model, again = self.rows(), self.model, self.work / "tuned"
        if not rows:
            return f"left out: {type(model).__name__} takes no labels"
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        arguments = TrainingArguments(
            output_dir=str(again),
            max_steps=1,
            learning_rate=1e-4,
            warmup_steps=0,
            per_device_train_batch_size=len(rows),
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, default_data_collator, rows, processing_class=self.tokenizer)
        loss = trainer.train().training_loss
        changed = sum(not value.equal(before[name]) for name, value in model.named_parameters())
        broken = [name for name, value in model.named_parameters() if not value.isfinite().all()]
        if not changed or broken or not math.isfinite(loss):
            raise Fault(f"one step of the Trainer: loss {loss}, {changed} weights changed, {len(broken)} not finite")
        trainer.save_model()
        for name in OF_THE_TRAINER:
            (again / name).unlink(missing_ok=True)
        self.complete(again)
        self.same(
            self.load(self.job["auto_class"], again).eval(),
            numbers(model.eval(), self.inputs),
            "fine-tuned and saved, it",
        )
        return f"one step, loss {loss:.3f}, {changed} of {len(before)} weights changed; saved and loaded again"


class Fault(Exception):
    """What is wrong with a folder, in words; any other error is told with its type."""


def main(path: str) -> None:
    """Do the job that a JSON file describes."""
    confine = load_confine()
    alone = confine.leave_network()
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    work = Path(path).parent
    sys.path[:0] = job["paths"]  # the libraries of the process that asks: the isolated mode ignores PYTHONPATH
    sys.meta_path.insert(0, Refuse())
    watch = confine.Watch(work, job["paths"], job["code"])

    gc.disable()  # as in train/processes/imports.py
    import torch
    from safetensors.torch import save_file
    from transformers import Trainer  # noqa: F401 - now: some of what it imports asks the system who it is
    from transformers.utils import logging

    gc.freeze()
    gc.enable()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(job["threads"])
    bound = confine.limit(job["memory"])
    watch.forbid()
    stranger = Stranger(job, work)
    stranger.visit()
    stranger.findings += watch.findings(alone, bound)
    save_file(stranger.numbers, work / "numbers.safetensors")
    (work / "findings.json").write_text(json.dumps(stranger.findings), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
