"""Scripts of Trainer, SFTTrainer and PEFT, with the model attached and without: the same losses."""

import gc
import logging

import datasets
import families
import peft
import pytest
import tokenizers
import torch
import transformers as hf
import trl
from trl.kernels import chunked_logprob as kernel

import memo

COMMON = dict(per_device_train_batch_size=2, max_steps=4, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True,
              disable_tqdm=True, learning_rate=1e-3, seed=1)
OPTIONS = dict(context=300, block=128, strategy="recompute")


def losses(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def rows(with_labels):
    generator = torch.Generator().manual_seed(5)
    lengths = [150, 90, 120, 150, 30, 150, 77, 150, 140, 150, 20, 150, 150, 99, 150, 150]
    ids = [torch.randint(1, 97, (n,), generator=generator).tolist() for n in lengths]
    return [{"input_ids": row, "attention_mask": [1] * len(row)} | ({"labels": row} if with_labels else {}) for row in ids]


def collate(batch):
    longest = max(len(row["input_ids"]) for row in batch)
    pad = lambda key, value: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in batch])
    return {"input_ids": pad("input_ids", 0), "attention_mask": pad("attention_mask", 0), "labels": pad("labels", -100)}


def both(make_trainer, make_model=lambda: families.make("qwen3")):
    plain = losses(make_trainer(make_model()))
    model = make_model()
    with memo.attached(model, **OPTIONS):
        ours = losses(make_trainer(model))
    assert len(plain) == COMMON["max_steps"] and plain[0] != plain[-1]
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"gradient_accumulation_steps": 2}, {"bf16": True}])
def test_trainer(arguments, tmp_path):
    logging.disable(logging.WARNING)
    both(lambda model: hf.Trainer(model, hf.TrainingArguments(output_dir=str(tmp_path), **COMMON, **arguments),
                                  train_dataset=rows(True), data_collator=collate))


class OwnLoss(hf.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        out = model(**inputs)
        logits = out.logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs["labels"][:, 1:].flatten())
        loss = loss + 1e-3 * logits.logsumexp(-1).square().mean()
        return (loss, out) if return_outputs else loss


def loss_function(out, labels, num_items_in_batch):
    logits, labels = out.logits[..., :-1, :].reshape(-1, 97), labels[..., 1:].reshape(-1)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch


@pytest.mark.parametrize(
    "kind, arguments, more",
    [
        (OwnLoss, {}, {}),
        (OwnLoss, {"bf16": True}, {}),
        (hf.Trainer, {"label_smoothing_factor": 0.1, "gradient_accumulation_steps": 2}, {}),
        (hf.Trainer, {}, {"compute_loss_func": loss_function}),
    ],
    ids=["compute_loss", "bf16", "label smoothing", "compute_loss_func"],
)
def test_a_trainer_whose_loss_is_of_logits(kind, arguments, more, tmp_path):
    both(
        lambda model: kind(
            model,
            hf.TrainingArguments(output_dir=str(tmp_path), **COMMON, **arguments),
            train_dataset=rows(True),
            data_collator=collate,
            **more,
        )
    )


@pytest.mark.parametrize("arguments", [{"max_length": None}, {"max_length": 150, "packing": True}])
def test_sft_trainer(arguments, tmp_path):
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(97)}, unk_token="w0"))
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1")
    data = datasets.Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows(False)])
    both(lambda model: trl.SFTTrainer(model, args=trl.SFTConfig(output_dir=str(tmp_path), **COMMON, **arguments),
                                      train_dataset=data, processing_class=tokenizer))


def test_lora(ids):
    model = peft.get_peft_model(families.make("llama"), peft.LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], lora_dropout=0.0, init_lora_weights="gaussian"))
    plain = families.step(model, input_ids=ids, labels=ids)
    assert all("lora" in name for name in plain[1])
    with memo.attached(model, **OPTIONS):
        assert max(families.differences(families.step(model, input_ids=ids, labels=ids), plain)) <= 1e-5


def test_tiles_of_trl_are_smaller_while_a_model_is_attached(ids):
    """Until the last attached model is detached, or is gone."""
    gc.collect()  # models of other tests that are attached and gone
    own, size = kernel.TOKEN_CHUNK_SIZE, lambda: kernel.TOKEN_CHUNK_SIZE
    models = [families.make("llama"), families.make("llama")]
    for model in models:
        memo.attach(model, **OPTIONS)
        model(input_ids=ids, labels=ids).loss.backward()
        assert size() < own
    memo.detach(models.pop(0))
    assert size() < own
    del model
    models.clear()
    gc.collect()
    assert size() == own
