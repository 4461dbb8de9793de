"""The key that is meant where one is written as other programs have it: those of Hugging Face, fairseq and PyTorch."""

from collections.abc import Sequence

_EPOCHS = "a run is counted in steps; `plan` says how many epochs they are"
_BATCH = "of a step, over all processes and micro-batches"
_DEVICE = "a GPU is used where there is one; ACCELERATE_USE_CPU=true before the command keeps to the CPU"

# The key, or keys, that are meant -> what others call it, without a section.
_NAMES = {
    "run_dir": "output_dir logging_dir save_dir",
    "model.init_from": "model_name_or_path model_name pretrained from_pretrained checkpoint",
    "model.d_model": "hidden_size n_embd hidden_dim embed_dim embedding_size",
    "model.d_ff": "intermediate_size ffn_dim n_inner d_inner dim_feedforward encoder_ffn_dim decoder_ffn_dim",
    "model.num_heads": "num_attention_heads n_head n_heads nhead encoder_attention_heads decoder_attention_heads",
    "model.num_layers": "num_hidden_layers n_layer n_layers encoder_layers num_encoder_layers",
    "model.num_decoder_layers": "decoder_layers",
    "model.dropout": "hidden_dropout_prob dropout_rate resid_pdrop embd_pdrop",
    "model.attention_dropout": "attention_probs_dropout_prob attn_pdrop",
    "model.activation": "hidden_act activation_function",
    "model.max_position_embeddings": "max_length max_len max_seq_length max_seq_len model_max_length n_positions "
    "max_source_length max_target_length",
    "model.label_smoothing": "label_smoothing_factor",
    "tokenizer.path": "tokenizer_name tokenizer_name_or_path",
    "data.train": "train_file",
    "data.validation": "validation_file eval_file",
    "data.test": "test_file",
    "data.hub": "dataset_name dataset",
    "data.hub_config": "dataset_config_name dataset_config",
    "data.limit_train": "max_train_samples",
    "data.limit_eval": "max_eval_samples max_predict_samples",
    "optim.lr": "learning_rate",
    "optim.schedule": "lr_scheduler_type lr_scheduler scheduler",
    "optim.beta1": "adam_beta1",
    "optim.beta2": "adam_beta2",
    "optim.eps": "adam_epsilon",
    "optim.clip_norm": "max_grad_norm gradient_clipping grad_clip",
    "optim.warmup_steps": "warmup num_warmup_steps",
    "loop.accumulate": "gradient_accumulation_steps update_freq",
    "loop.eval_every": "eval_steps eval_interval",
    "loop.save_every": "save_steps save_interval",
    "loop.log_every": "logging_steps log_interval",
    "loop.keep_last": "save_total_limit",
    "loop.precision": "fp16 bf16 mixed_precision dtype torch_dtype",
    "loop.compile": "torch_compile",
    "loop.early_stopping": "early_stopping_patience patience",
    "loop.tracker": "report_to",
    "loop.num_workers": "dataloader_num_workers workers",
    "loop.push_to": "push_to_hub hub_model_id",
    "eval.beams": "num_beams beam_size",
    "eval.max_extra_tokens": "max_new_tokens",
    "eval.batch_tokens": "per_device_eval_batch_size eval_batch_size",
}
_MEANT = {name: (key, "") for key, names in _NAMES.items() for name in names.split()}
_MEANT |= dict.fromkeys(("epochs", "num_epochs", "num_train_epochs", "max_epochs"), ("loop.max_steps", _EPOCHS))
_MEANT |= dict.fromkeys(
    ("batch_size", "train_batch_size", "per_device_train_batch_size"), ("batch.max_rows or batch.max_tokens", _BATCH)
)
_MEANT |= {"warmup_ratio": ("optim.warmup_steps", "in steps; left out, it is a tenth of a short run")}
_MEANT |= dict.fromkeys(("device", "no_cuda", "use_cpu", "gpu", "n_gpu"), ("", _DEVICE))


def hint(name: str, keys: Sequence[str]) -> str:
    """Return the words that follow "no such key" for a key of other programs, or one without its section; "" = unknown.

    Args:
        name: as it was written, with or without a section.
        keys: those that a recipe has.
    """
    last = name.rpartition(".")[2].replace("-", "_").lower()
    here = [key for key in keys if "." in key and key.rpartition(".")[2] == last]
    meant, why = (" or ".join(here), "") if here else _MEANT.get(last, ("", ""))
    return "".join(
        [f"; did you mean {meant}?" if meant else "", f" ({why})" if why and meant else f"; {why}" if why else ""]
    )
