"""The metric modules against sacrebleu called directly, and against figures worked out by hand."""

import importlib.metadata
import math
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from train import metrics

PREDICTIONS = ["Ein Hund läuft über das Gras .", "Zwei Männer, die reden!", "Eine frau sitzt auf einer Bank."]
REFERENCES = ["Ein Hund rennt über das Gras.", "Zwei Männer reden.", "Eine Frau sitzt auf einer Bank."]


def test_bleu_is_sacrebleus_with_its_signature():
    result = metrics.load("bleu").compute(predictions=PREDICTIONS, references=REFERENCES)
    direct = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES])
    assert 0 < direct.score < 100
    assert result["bleu"] == pytest.approx(direct.score, abs=1e-9)
    for part in ("nrefs:1", "case:mixed", "tok:13a", f"version:{sacrebleu.__version__}"):
        assert part in result["signature"].split("|")


def test_lower_cased_bleu_ignores_case_only():
    result = metrics.load("bleu").compute(predictions=PREDICTIONS, references=REFERENCES, lowercase=True)
    lowered = [[text.lower() for text in texts] for texts in (PREDICTIONS, REFERENCES)]
    assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(lowered[0], [lowered[1]]).score, abs=1e-9)
    assert result["bleu"] > sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score  # "frau" now counts
    assert "case:lc" in result["signature"].split("|")


def test_spaces_before_the_marks_of_a_weak_model_are_no_fault_of_the_test_data(caplog):
    written, right = ["the cat ." for _ in range(200)], ["the cat." for _ in range(200)]
    result = metrics.load("bleu").compute(predictions=written, references=right)
    assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [right], force=True).score)
    assert "tokenized period" not in caplog.text


def test_bleu_of_one_sentence_by_hand():
    """3 of 4 words, 1 of 3 bigrams, no trigram, no four-gram; as long as its reference."""
    result = metrics.load("bleu").compute(predictions=["a b c d"], references=["a b x d"])
    # exponential smoothing (NIST): the k-th empty order counts 1 / 2^k of one match, over 2 trigrams and 1 four-gram
    expected = 100 * math.exp((math.log(3 / 4) + math.log(1 / 3) + math.log(1 / 2 / 2) + math.log(1 / 4 / 1)) / 4)
    assert result["bleu"] == pytest.approx(expected, rel=1e-6)


def test_chrf_is_sacrebleus_with_its_signature():
    result = metrics.load("chrf").compute(predictions=PREDICTIONS, references=REFERENCES)
    assert result["chrf"] == pytest.approx(sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score, abs=1e-9)
    assert "nw:0" in result["signature"].split("|")
    plus = metrics.load("chrf").compute(predictions=PREDICTIONS, references=REFERENCES, word_order=2)
    assert plus["chrf"] != pytest.approx(result["chrf"], abs=0.1)


def test_exact_match_wants_every_character():
    predictions = ["2026년 11월 20일", "2026년 11월 20일 ", "2026년 11월 2일", "Ja"]
    references = ["2026년 11월 20일", "2026년 11월 20일", "2026년 11월 20일", "ja"]
    assert metrics.load("exact_match").compute(predictions=predictions, references=references)["exact_match"] == 0.5


def test_exact_match_with_one_of_several():
    references = [["가", "나"], ["다"], ["x", "ja "]]
    result = metrics.load("exact_match").compute(predictions=["나", "나", "ja"], references=references)
    assert result["exact_match"] == pytest.approx(2 / 3)


def test_rouge_is_rouge_scores_over_the_best_reference_of_each_text():
    predictions = ["The cat sat on the mat.", "Two dogs, running!"]
    references = [["A cat is on the mat", "the mat sat"], ["dogs run"]]
    result = metrics.load("rouge").compute(predictions=predictions, references=references)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])  # with its own words, which are those of ASCII text
    for name in ("rouge1", "rouge2", "rougeL"):
        best = [
            max(scorer.score(reference, text)[name].fmeasure for reference in right)
            for text, right in zip(predictions, references, strict=True)
        ]
        assert 0 < result[name] == pytest.approx(100 * sum(best) / 2)
    assert "refs:best" in result["signature"].split("|")


def test_rouge_knows_the_words_of_korean():
    """Two of three words and one of two pairs of words on either side; rouge_score's own words are none."""
    result = metrics.load("rouge").compute(predictions=["나는 너를 사랑해."], references=[["나는 너를 좋아해"]])
    assert [result["rouge1"], result["rouge2"], result["rougeL"]] == pytest.approx([200 / 3, 50, 200 / 3])


def test_word_error_rate_by_hand():
    """One missing of four words (the other reference asks for an edit of two), one wrong of one, and all of two missing."""
    predictions, references = ["AA1 B ER0", "T", ""], [["AA1 B", "AA1 B ER0 G"], ["D"], ["K AA1"]]
    result = metrics.load("wer").compute(predictions=predictions, references=references)
    assert result["wer"] == pytest.approx((1 + 1 + 2) / (4 + 1 + 2))
    assert result["signature"] == f"refs:best|version:{importlib.metadata.version('jiwer')}"


def test_distinct_answers_by_hand():
    predictions = ["네", "네 ", "아니요", "글쎄요"]
    assert metrics.load("distinct").compute(predictions=predictions, references=[["x"]] * 4)["distinct"] == 3 / 4


def test_accuracy_and_macro_f1_by_hand():
    predictions, references = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0]
    accuracy = metrics.load("accuracy").compute(predictions=predictions, references=references)
    assert accuracy["accuracy"] == pytest.approx(4 / 6)
    # class 0: TP 1, FP 1, FN 1 -> 1/2; class 1: TP 1, FP 0, FN 1 -> 2/3; class 2: TP 2, FP 1, FN 0 -> 4/5
    macro = metrics.load("f1").compute(predictions=predictions, references=references)
    assert macro["f1"] == pytest.approx((1 / 2 + 2 / 3 + 4 / 5) / 3)


def test_macro_f1_counts_a_class_that_is_only_predicted():
    result = metrics.load("f1").compute(predictions=[0, 3], references=[0, 0])
    assert result["f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_perplexities_by_hand():
    """A uniform guess over 8 tokens has perplexity 8, whatever the text."""
    nll = [5 * math.log(8), 3 * math.log(8)]
    result = metrics.load("perplexity").compute(predictions=nll, references=[5, 3], words=4, bytes=6)
    assert result["perplexity"] == pytest.approx(8)
    assert result["loss"] == pytest.approx(math.log(8))
    assert result["word_perplexity"] == pytest.approx(8**2)  # two tokens a word
    assert result["bits_per_byte"] == pytest.approx(8 * 3 / 6)  # 8 tokens of 3 bits over 6 bytes


def test_perplexity_leaves_out_what_has_no_unit_and_never_overflows():
    result = metrics.load("perplexity").compute(predictions=[1e6], references=[1])
    assert set(result) == {"loss", "perplexity"}
    assert result["perplexity"] == math.inf
    with pytest.raises(ValueError, match="references=0"):
        metrics.load("perplexity").compute(predictions=[0.0], references=[0])


def test_a_metric_module_can_be_used_twice():
    scorer = metrics.load("accuracy")
    assert scorer.compute(predictions=[1], references=[1])["accuracy"] == 1.0
    assert scorer.compute(predictions=[1, 0], references=[0, 1])["accuracy"] == 0.0


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="accuracy, answers, bleu, chrf, distinct, entities, exact_match"):
        metrics.load("meteor")


def test_every_module_loads_by_its_path_with_no_network(tmp_path):
    """A fresh cache and a socket that refuses: nothing may come from the Hub, nor from an earlier run."""
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('network used')\n"
        "socket.socket.connect = refuse; socket.create_connection = refuse\n"
        "import evaluate\n"
        "for path in sys.argv[1:]:\n"
        "    print(evaluate.load(path, keep_in_memory=True).name)\n"
    )
    paths = [str(Path(metrics.__file__).parent / f"{name}.py") for name in metrics.NAMES]
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, *paths], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(metrics.NAMES) == 11
