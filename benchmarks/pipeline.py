"""`pipeline("translation")` beside MarianMT's `generate` on the same weights, tokenizing included on both sides.

Texts are those that the recipe tests on; the model is one that it has trained (`make demo`). That both write the same is
checked first. CPU milliseconds for all texts, in turns, and the share of the peak of a matrix product that the model's products reach.

    python -m benchmarks.pipeline                                  after make demo, about five minutes
    python -m benchmarks.pipeline --model FOLDER --texts FILE      any translator, a text a line
"""

from functools import partial
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, pipeline

from benchmarks.peak import peak, products, share, stated
from benchmarks.turns import CPU, in_turns, machine, milliseconds, parser, ratio
from modeling_vanilla import VanillaForConditionalGeneration
from modeling_vanilla.convert import to_transformers
from train.data.dates import dates

CASES = (("greedy", 64, 1), ("beam 4", 64, 4), ("greedy, one by one", 1, 1))
TEXTS = 192


def texts_of(path: Path | None) -> list[str]:
    """Return the lines of a file, or dates."""
    if path is not None:
        return path.read_text(encoding="utf-8").splitlines()
    return dates(train=1, validation=1, test=TEXTS)["test"]["source"]


def stock(model, tokenizer, texts: list[str], rows: int, **search) -> list[str]:
    """Translate in batches of texts about as long, as whoever wants speed writes it."""
    order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
    result = [""] * len(texts)
    for first in range(0, len(texts), rows):
        numbers = order[first : first + rows]
        batch = tokenizer([texts[number] for number in numbers], padding=True, return_tensors="pt")
        ids = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **search)
        for number, text in zip(numbers, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            result[number] = text
    return result


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 5)
    arguments.add_argument("--model", default="runs/dates-en-ko/final")
    arguments.add_argument("--texts", type=Path, help="a text a line; dates by default")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    ours = VanillaForConditionalGeneration.from_pretrained(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    theirs, translator = to_transformers(ours), pipeline("translation", model=ours, tokenizer=tokenizer, device="cpu")
    texts = texts_of(options.texts)[: 8 if options.smoke else None]
    best, named = peak(CPU, options.rounds), f"{machine(options.threads)}, transformers {transformers.__version__}"
    print(f"{named}; {stated(best)}; {len(texts)} texts\n")
    print(
        "| search | batch | ms, our pipeline | ms, MarianMT's `generate` | theirs / ours | share of the peak, ours |"
    )
    print("|---|---|---|---|---|---|")
    for name, rows, beams in CASES:
        search = {"num_beams": beams, "max_new_tokens": ours.config.max_position_embeddings - 1}
        work = {
            "ours": partial(translator, texts, batch_size=rows, **search),
            "theirs": partial(stock, theirs, tokenizer, texts, rows, **search),
        }
        if [answer["translation_text"] for answer in work["ours"]()] != work["theirs"]():
            raise SystemExit(f"{name}: other texts")
        seconds = in_turns(work, 1 if options.smoke else options.rounds)
        times = " | ".join(map(milliseconds, seconds.values()))
        reached = share(products(work["ours"]), seconds["ours"], best)
        print(f"| {name} | {rows} | {times} | {ratio(seconds['theirs'], seconds['ours'])} | {reached} |", flush=True)


if __name__ == "__main__":
    main()
