"""Windows of long contexts: every token is read, neighbours overlap, and the answer is where its characters are."""

import itertools
import json

import numpy as np
import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForQuestionAnswering
from modeling_vanilla.pipeline_question_answering import QuestionAnsweringPipeline
from train.data import collate, encoding
from train.data.splits import load_splits
from train.errors import UserError
from train.model import build

LONG = "🙂 " + " ".join(f"w{number} 한글{number}" for number in range(40)) + " end"
ROWS = [
    {"context": LONG, "question": "Where is w17?", "answer": "w17 한글17", "start": LONG.index("w17")},
    {"context": "Seoul is <sep> 서울.", "question": "Which </s>?", "answer": "서울", "start": 15},
    {"context": LONG, "question": "None?", "answer": None, "start": None},
    {"context": LONG, "question": "The end?", "answer": "end", "start": LONG.index("end")},
]


@pytest.fixture
def encoded(recipe, tmp_path):
    """Return the recipe, its tokenizer, its examples and its rows."""

    def make(kind="bpe", rows=ROWS, positions=64, **data):
        made = recipe("answering", {"x.json": json.dumps(rows)}, train="x.json", **data)
        made.tokenizer.kind, made.tokenizer.min_frequency, made.tokenizer.vocab_size = kind, 1, 320
        made.model.preset, made.model.max_position_embeddings = "tiny", positions
        split = load_splits(made)["train"]
        build.make_tokenizer(made, split, tmp_path / kind)
        tokenizer = build.load_tokenizer(tmp_path / kind)
        return made, tokenizer, encoding.encode(split, tokenizer, made), split

    return make


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "wordpiece", "char"])
def test_the_tokens_of_an_answer_are_its_characters(encoded, kind):
    _, _, examples, split = encoded(kind, positions=1024, window=1024)
    assert examples.origins["row"].tolist() == [0, 1, 2, 3]
    for number, row in enumerate(split):
        start, end = (int(examples.answers[f"{side}_positions"][number]) for side in ("start", "end"))
        if not row["answer"]:
            assert (start, end) == (0, 0)
            continue
        first, last = (examples.origins[side][number] for side in ("first", "last"))
        assert row["context"][first[start] : last[end]].strip() == row["answer"][0]


@pytest.mark.parametrize(("window", "stride"), [(40, 8), (33, 0), (50, 1000)])
def test_windows_read_every_token_and_overlap(encoded, window, stride):
    _made, tokenizer, examples, split = encoded(window=window, stride=stride)
    assert examples.lengths(0).max() <= window
    for row in range(len(split)):
        windows = np.flatnonzero(examples.origins["row"] == row)
        assert len(windows) > 1 or row == 1
        read = [set(examples.origins["first"][number][examples.origins["first"][number] >= 0]) for number in windows]
        options = {"add_special_tokens": False, "split_special_tokens": True}
        whole = tokenizer(split[row]["context"], return_offsets_mapping=True, **options)
        assert set.union(*read) == {first for first, _ in whole["offset_mapping"]}
        question = len(
            tokenizer(split[row]["question"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        )
        room = window - question - 3
        assert all(len(one & other) == min(stride, room // 2) for one, other in itertools.pairwise(read))
    # The answer is learned in each window that holds it whole, and in no other.
    for number, row in enumerate(examples.origins["row"]):
        answer, first = split[int(row)]["answer"], examples.origins["first"][number]
        start = split[int(row)]["start"][0] if answer else -1
        inside = first[first >= 0]
        last = examples.origins["last"][number].max()
        holds = bool(answer) and inside[0] <= start and start + len(answer[0]) <= last
        assert (examples.answers["start_positions"][number] > 0) == holds


def test_ids_and_types_are_those_of_the_pipeline(encoded):
    _made, tokenizer, examples, split = encoded(window=40, stride=8)
    config = VanillaConfig.tiny(variant="encoder", vocab_size=len(tokenizer), type_vocab_size=2)
    pipe = QuestionAnsweringPipeline(model=VanillaForQuestionAnswering(config), tokenizer=tokenizer)
    number = 0
    for row in split:
        example = {"question": row["question"], "context": row["context"]}
        for window in pipe.preprocess(example, max_seq_len=40, doc_stride=8):
            assert examples.sides["input_ids"][number].tolist() == window["input_ids"][0].tolist()
            assert examples.answers["token_type_ids"][number].tolist() == window["token_type_ids"][0].tolist()
            inside = window["inside"][0].numpy()
            assert examples.origins["first"][number][inside].tolist() == window["first"][0][inside].tolist()
            assert (examples.origins["first"][number][~inside] == -1).all()
            number += 1
    assert number == len(examples)


def test_a_batch_has_two_places_a_row_and_a_filler_none(encoded):
    made, tokenizer, examples, _ = encoded(window=40, stride=8)
    collator = collate.Collator("answering", tokenizer, made)
    rows = [examples.row(0, number) for number in range(3)]
    batch = collator(rows, 0)
    assert batch.targets == 6
    assert batch.inputs["start_positions"].tolist() == [int(row["start_positions"]) for row in rows]
    assert batch.real_tokens == sum(len(row["input_ids"]) for row in rows)
    model = VanillaForQuestionAnswering(
        VanillaConfig.tiny(variant="encoder", vocab_size=len(tokenizer), type_vocab_size=2)
    )
    filler = collator.filler(rows[0])
    assert filler.targets == 0
    with torch.inference_mode():
        assert float(model(**filler.inputs).loss) == 0
        assert float(model(**batch.inputs).loss) > 0


def test_a_question_that_fills_the_window_is_named(encoded):
    long = {"context": LONG, "question": "why " * 60, "answer": None, "start": None}
    with pytest.raises(
        UserError, match=r"x.json:2: the question leaves no room .* window of 40 \(data.window, max_position"
    ):
        encoded(rows=[ROWS[1], long], window=40)
