"""The sections of a recipe and their keys: one dataclass each, with the default of every key and what it means."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Column = int | str | None
Files = str | list[str] | None
SPLITS = ("train", "validation", "test")
PUSH_REVISION = "checkpoints"
WEIGHTLESS = (
    "attn_implementation dropout attention_dropout activation_dropout initializer_range label_smoothing".split()
)
"""The keys of `model` that say how to train: no trained weights mean anything by them."""


@dataclass
class ModelSection:
    """Where the model starts from, and its architecture. None means: as the preset, or `VanillaConfig`, has it.

    Attributes:
        preset: named constructor of `VanillaConfig` that gives the other values.
        init_from: model folder or Hub id to start from instead of random weights; its architecture comes with it, and on a command
            line takes the place of the file's. A BERT, RoBERTa, GPT-2, BART or Marian is converted.
        attn_implementation: attention kernel, by its Hugging Face name.

    The others are fields of `VanillaConfig` and are documented there; their ranges are checked there too.
    """

    preset: Literal["transformer_base", "transformer_big", "bert_base", "gpt2", "marian", "tiny"] | None = None
    init_from: str | None = None
    attn_implementation: Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"] = "sdpa"
    vocab_size: int | None = None
    d_model: int | None = None
    d_ff: int | None = None
    num_heads: int | None = None
    head_dim: int | None = None
    v_head_dim: int | None = None
    num_layers: int | None = None
    num_decoder_layers: int | None = None
    dropout: float | None = None
    attention_dropout: float | None = None
    activation_dropout: float | None = None
    layer_norm_eps: float | None = None
    initializer_range: float | None = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool | None = None
    norm_order: Literal["post", "pre"] | None = None
    positions: Literal["sinusoidal", "learned"] | None = None
    activation: str | None = None
    scale_embeddings: bool | None = None
    embedding_norm: bool | None = None
    type_vocab_size: int | None = None
    attention_window: int | None = None
    label_smoothing: float | None = None

    def architecture(self) -> dict[str, Any]:
        """Return the fields of `VanillaConfig` that the recipe sets, ready to be passed as overrides."""
        others = ("preset", "init_from", "attn_implementation")
        return {key: value for key, value in asdict(self).items() if key not in others and value is not None}


@dataclass
class TokenizerSection:
    """Which tokenizer: an existing folder or Hub id (`path`), or one built from the training text.

    Attributes:
        path: existing tokenizer; the other fields are then unused.
        kind: subwords shared by both languages, bytes, word pieces or characters.
        vocab_size: upper bound of the vocabulary, special tokens included.
        lowercase: lower-case all text, source and target.
        normalize: form of Unicode that all text is brought into: composed, decomposed or as it stands; null = composed, but for
            `byte_bpe`, which knows every text, as it stands. The resolved recipe names it.
        min_frequency: times a pair (or character) must occur in the training text to become a token.
    """

    path: str | None = None
    kind: Literal["bpe", "byte_bpe", "wordpiece", "char"] = "bpe"
    vocab_size: int = 8000
    lowercase: bool = False
    normalize: Literal["nfc", "nfd", "none"] | None = None
    min_frequency: int = 2


@dataclass
class DataSection:
    """Where the rows come from: local files below `root`, a Hub data set, or a generator.

    Attributes:
        root: folder of the files named by `train`, `validation` and `test`.
        train: file, or list of files. Translation: `[source file, target file]` of parallel text, or tables. With `hub`:
            the name of a split.
        validation: likewise; null with `validation_fraction` takes the last part of the training data.
        test: likewise.
        source_column: name, or number from 0, of the source text in a table (Hub: `translation.en` reaches into a dict).
        target_column: likewise the target text.
        text_column: likewise the text of the other tasks.
        label_column: likewise the label of classification.
        words_column: likewise the words of tagging, a list in json; null = FORM of conllu, the first of conll.
        tags_column: likewise their labels; null = UPOS of conllu, the last of conll.
        context_column: likewise the text that a question of answering is about.
        question_column: likewise the question.
        answer_column: likewise its answer, a text or a list of them; null, an empty text or list where there is none. The data
            sets of the Hub have `answers.text`.
        start_column: likewise the number of the first character of each answer, in code points from 0 (`answers.answer_start`).
        format: text, tsv, csv, json, squad (SQuAD 1.1 and 2.0), slots (utterances with slots, of Coope et al. 2020), conllu (Universal Dependencies) or conll (a word and its labels in a line, an empty line
            after a sentence); null = by the file's name, `.gz` aside; `.txt` and unknown endings are text.
        hub: data set id, or folder, for `datasets.load_dataset`.
        hub_config: its configuration.
        generator: name of a generator of `train.data.generators`.
        generator_args: its arguments.
        validation_fraction: share of the training rows (of the characters, for `text_unit: file`) kept for validation.
        text_unit: causal and masked text is a row per line, or the file as it stands, line ends included.
        on_bad_line: stop with an error, or skip the line and warn.
        too_long: what to do with a row longer than the tokenizer's `model_max_length` or `batch.max_tokens`.
        window: answering: tokens of a question and its context, or of the part of it that is read at once; null = 384, or what
            the model reads if that is less.
        stride: answering: tokens that two windows share, at most half of the context's part.
        stream_rows: training rows that are read and shuffled together before the next ones are, again from the start at the
            end, for data too large for memory and disk; null = all. With `hub`, only what is needed is fetched. A tokenizer
            is built from the first ones.
        limit_train: rows of training data to use, from the start.
        limit_eval: rows of validation and test data to use, from the start.
        license: of the data, by the identifier that the Hub has for it, such as cc-by-4.0; for the card.
        language: of the texts, as ISO 639-1 codes, such as [en, ko], that of a translation's target last; for the card and
            for `eval.bleu_tokenizer`.
    """

    root: str = "."
    train: Files = None
    validation: Files = None
    test: Files = None
    source_column: Column = None
    target_column: Column = None
    text_column: Column = None
    label_column: Column = None
    words_column: Column = None
    tags_column: Column = None
    context_column: Column = None
    question_column: Column = None
    answer_column: Column = None
    start_column: Column = None
    format: Literal["text", "tsv", "csv", "json", "conllu", "conll", "squad", "slots"] | None = None
    hub: str | None = None
    hub_config: str | None = None
    generator: str | None = None
    generator_args: dict[str, bool | int | float | str] = field(default_factory=dict)
    validation_fraction: float = 0.0
    text_unit: Literal["line", "file"] = "line"
    on_bad_line: Literal["stop", "skip"] = "stop"
    too_long: Literal["error", "skip", "truncate"] = "error"
    window: int | None = None
    stride: int = 128
    stream_rows: int | None = None
    limit_train: int | None = None
    limit_eval: int | None = None
    license: str | None = None
    language: list[str] = field(default_factory=list)

    def splits(self) -> list[str]:
        """Return the names of the splits that are named, cut off or made."""
        has = {name: bool(self.generator or getattr(self, name)) for name in SPLITS}
        has["validation"] |= self.validation_fraction > 0
        return [name for name in SPLITS if has[name]]


@dataclass
class BatchSection:
    """How rows become batches (Vaswani et al. 2017, sec. 5.1).

    Attributes:
        max_tokens: tokens of one step, over all processes and micro-batches: rows x longest row, on each side.
        max_rows: rows of one step at most.
        block_size: causal and masked: predictions (masked: text tokens) per row; null = what the tokenizer's
            `model_max_length` allows. With `packing`: tokens of a packed row, on each side.
        packing: several sentence pairs, lines or documents share a row and do not see each other; not for
            classification. Only training rows are packed.
        mask_probability: masked: share of the text tokens to predict (Devlin et al. 2019, sec. 3.1).
    """

    max_tokens: int = 4096
    max_rows: int | None = None
    block_size: int | None = None
    packing: bool = False
    mask_probability: float = 0.15


@dataclass
class OptimSection:
    """Adam and the learning rate (Vaswani et al. 2017, sec. 5.3); the defaults are the paper's.

    Attributes:
        lr: learning rate at the end of the warm-up; null = equation 3's, d_model^-0.5 * warmup_steps^-0.5, with 4,000 steps
            where `warmup_steps` is left open too.
        schedule: what follows the warm-up.
        warmup_steps: steps of linear warm-up, fewer than `loop.max_steps`; null = the paper's 4,000, or a tenth of
            `loop.max_steps` where that is less, and what a run was begun with where it goes on.
        min_lr: learning rate at the end of cosine and linear decay.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: Adam's epsilon.
        weight_decay: decoupled weight decay of matrices.
        clip_norm: gradients are scaled down to this global norm; null = never.
    """

    lr: float | None = None
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    warmup_steps: int | None = None
    min_lr: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-9
    weight_decay: float = 0.0
    clip_norm: float | None = None


@dataclass
class LoopSection:
    """The run itself.

    Attributes:
        max_steps: updates of the weights.
        accumulate: micro-batches per process and step; the step's tokens stay `batch.max_tokens`.
        eval_every: steps between evaluations on the validation data.
        save_every: steps between checkpoints.
        log_every: steps between lines of the log.
        keep_last: checkpoints kept, the newest ones.
        seed: of the weights, the order of the data, dropout and the masks.
        precision: fp32, or bf16 autocast.
        matmul_precision: `torch.set_float32_matmul_precision`.
        compile: run the model through `torch.compile`.
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        skip_logits: compute the loss of translation and causal models without holding all logits: with a vocabulary of
            16,000 and more in less time and memory.
        shard: divide weights, gradients and moments among the processes (FSDP2) instead of a copy for each.
        early_stopping: stop after so many evaluations without a better `eval.best_metric`; null = never.
        final: which weights become the run's `final` folder.
        average_last: checkpoints in the average (Vaswani et al. 2017, sec. 6.1).
        ema: decay of a moving average of the weights, evaluated beside them; `final: ema` takes it; null = none.
        tracker: any tracker of accelerate, or none.
        timeout: seconds that a process waits for the others before the job ends and names the silent one.
        num_workers: processes that collate batches; 0 = in the training process.
        push_to: repository of the Hub, "user/name", that gets checkpoints while the run goes on; null = none. It is
            made where it is missing, for its owner's eyes only.
        push_every: steps between two of them, a multiple of `save_every`; null = each checkpoint. The last one always goes.
        push_revision: the branch they go to.
    """

    max_steps: int = 100_000
    accumulate: int = 1
    eval_every: int = 1000
    save_every: int = 1000
    log_every: int = 50
    keep_last: int = 5
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    compile: bool = False
    gradient_checkpointing: bool = False
    skip_logits: bool = False
    shard: bool = False
    early_stopping: int | None = None
    final: Literal["last", "best", "average", "ema"] = "last"
    average_last: int = 5
    ema: float | None = None
    tracker: str = "tensorboard"
    timeout: float = 1800.0
    num_workers: int = 0
    push_to: str | None = None
    push_every: int | None = None
    push_revision: str = PUSH_REVISION


@dataclass
class EvalSection:
    """What is measured, and how translations are searched (Vaswani et al. 2017, sec. 6.1).

    Attributes:
        split: the data of the final figures; null = test where there is any, else validation. The resolved recipe names it.
        metrics: the final figures.
        beams: width of the beam search; 1 = greedy.
        length_penalty: alpha.
        length_penalty_form: what divides the score of n tokens: hf = n^alpha, paper = ((5 + n) / 6)^alpha.
        max_extra_tokens: output tokens allowed beyond the length of the input.
        batch_tokens: tokens of an evaluation batch.
        answer_tokens: answering: tokens of an answer at most.
        limit: rows to evaluate; null = all.
        best_metric: the figure that early stopping and the best checkpoint follow.
        during_training: figures taken every `loop.eval_every` steps.
        bleu_tokenizer: what cuts texts into the words that BLEU compares, by sacrebleu's name; null = that of the last of
            `data.language` (zh, ja-mecab, ko-mecab; char where a package for it is missing), else 13a. The resolved recipe
            names it.
        look: at each evaluation, write every head's entropy to metrics.jsonl and keep the map of one example; the maps side by
            side become film.png.
    """

    split: Literal["train", "validation", "test"] | None = None
    metrics: list[str] = field(default_factory=lambda: ["loss"])
    beams: int = 4
    length_penalty: float = 0.6
    length_penalty_form: Literal["hf", "paper"] = "hf"
    max_extra_tokens: int = 50
    batch_tokens: int = 4096
    answer_tokens: int = 30
    limit: int | None = None
    best_metric: str = "loss"
    during_training: list[str] = field(default_factory=lambda: ["loss"])
    bleu_tokenizer: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char"] | None = None
    look: bool = False
