"""Fine-tune an encoder on Banking77 (77 intents) with Hugging Face's own Trainer, pretrained and from scratch.

Both runs have the same architecture, tokenizer, data, settings and seeds; only the encoder's first weights differ. The
pretrained encoder is the `final` folder of a masked-language-model run.

    python -m train fit train/recipes/wikitext-2-mlm.yaml
    python -m benchmarks.finetune_banking77 runs/wikitext-2-mlm/final --data data/banking77
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict, load_dataset
from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from modeling_vanilla import VanillaConfig, VanillaForSequenceClassification


def encoded(folder: Path, tokenizer) -> tuple[DatasetDict, list[str]]:
    """Load train.csv.gz and test.csv.gz (text, category) and tokenise them."""
    data = load_dataset("csv", data_files={name: str(folder / f"{name}.csv.gz") for name in ("train", "test")})
    data = data.class_encode_column("category").rename_column("category", "labels")
    names = data["train"].features["labels"].names
    data = data.map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True, remove_columns=["text"])
    return data, names


def accuracy(prediction) -> dict[str, float]:
    """Return the share of right classes."""
    return {"accuracy": float((np.argmax(prediction.predictions, -1) == prediction.label_ids).mean())}


def fine_tune(model, tokenizer, data: DatasetDict, args: argparse.Namespace, seed: int) -> float:
    """Train one classifier and return its test accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=128,
            learning_rate=args.lr,
            warmup_steps=200,
            lr_scheduler_type="linear",
            save_strategy="no",
            report_to=[],
            seed=seed,
            train_sampling_strategy="group_by_length",
        )
        trainer = Trainer(
            model,
            settings,
            train_dataset=data["train"],
            eval_dataset=data["test"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=accuracy,
        )
        trainer.train()
        return trainer.evaluate()["eval_accuracy"]


def main() -> None:
    """Fine-tune both kinds of start for every seed and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a VanillaForMaskedLM with its tokenizer")
    parser.add_argument("--data", type=Path, default=Path("data/banking77"))
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--matmul-precision", default="medium", choices=["highest", "high", "medium"])
    args = parser.parse_args()
    torch.set_float32_matmul_precision(args.matmul_precision)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data, names = encoded(args.data, tokenizer)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    scores: dict[str, list[float]] = {"pretrained": [], "from scratch": []}
    for seed in args.seeds:
        for start, values in scores.items():
            set_seed(seed)
            if start == "pretrained":
                model = VanillaForSequenceClassification.from_pretrained(args.model, **labels)
            else:
                config = VanillaConfig.from_pretrained(args.model, **labels)
                model = VanillaForSequenceClassification(config)
            values.append(fine_tune(model, tokenizer, data, args, seed))
    print("| start | test accuracy, mean | per seed |\n|---|---|---|")
    for start, values in scores.items():
        print(f"| {start} | {statistics.mean(values):.4f} | {', '.join(f'{v:.4f}' for v in values)} |")


if __name__ == "__main__":
    main()
