"""Sequences from a seed: a pair, and calls of it that make sense one after the other."""

import dataclasses
import random

FAMILIES = ("llama", "qwen3", "gemma2", "gemma3", "phi3", "gpt2", "granite", "mixtral")


@dataclasses.dataclass
class Sequence:
    """`calls`: (action, its arguments), of Pair(**pair, exact=exact)."""

    pair: dict
    calls: list

    @property
    def exact(self):
        """Something is of bfloat16."""
        return any(given.get("dtype") == "bfloat16" or given.get("autocast") or given.get("mixed_precision") == "bf16"
                   for _, given in self.calls)

    def script(self):
        call = lambda name, given: f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
        made = call("Pair", self.pair | ({} if self.exact else {"exact": False}))
        return "\n".join([f"pair = {made}", *(f"pair.{call(*one)}" for one in self.calls)])


class Drawing:
    """What has been drawn so far of a sequence, as far as it decides what may come next."""

    def __init__(self, seed, family=None):
        self._random = random.Random(seed)
        self._family = family or FAMILIES[seed % len(FAMILIES)]
        self._is = dict.fromkeys(
            (
                "attached",
                "adapted",
                "prepared",
                "compiled",
                "copied",
                "hooked",
                "of own loss",
                "checkpointed",
                "bfloat16",
                "under autocast",
            ),
            False,
        )
        self._replaced = set()
        pair = {"family": self._family, "seed": seed}
        if self._family in ("gpt2", "phi3") and self._one_in(2):
            pair["dropout"] = 0.1
        self.sequence = Sequence(pair, [])

    def draw(self):
        for _ in range(self._random.choice((0, 0, 1, 2))):
            self._change()
        self._attach()
        self._compute()
        for _ in range(self._random.randint(2, 5)):
            self._change()
            for _ in range(self._random.choice((1, 1, 2))):
                self._compute()
        if self._is["attached"] and self._one_in(2):
            self._add("detach")
        self._step()
        return self.sequence

    # ---- a little of each

    def _add(self, action, **given):
        """Without what is None: the default."""
        self.sequence.calls.append((action, {key: value for key, value in given.items() if value is not None}))

    def _one_in(self, n):
        return self._random.randrange(n) == 0

    def _some(self, n, *values):
        """One of the values, once in n times; else None."""
        return self._random.choice(values) if self._one_in(n) else None

    def _turn(self, what):
        self._is[what] = not self._is[what]
        return self._is[what]

    def _pick(self, weighted):
        """Calls one of the methods, by weight, that is possible: gives not False."""
        names, weights = list(weighted), list(weighted.values())
        while getattr(self, self._random.choices(names, weights)[0])() is False:
            pass

    def _compute(self):
        self._pick({"_step": 10, "_accumulate": 2, "_train": 4, "_evaluate": 2, "_generate": 1, "_read_logits": 2, "_copy": 2,
                    "_copy_module": 1, "_fail": 2})

    def _change(self):
        self._pick({"_freeze": 3, "_lora": 3, "_merge": 6, "_prepare": 2, "_unwrap": 6, "_compile": 0.1, "_cast": 2,
                    "_load_state": 2, "_resize": 1, "_hook": 3, "_set_dropout": 2, "_set_loss": 1, "_checkpointing": 1,
                    "_replace": 2, "_attach": 2, "_detach": 1, "_toggle_autocast": 1})

    def _attach(self):
        if self._is["attached"]:
            return False
        block, context = self._random.choice((64, 128)), self._random.choice((256, 384, 512))
        strategy = self._random.choice(("memo", "resident", "recompute", "offload"))
        self._add("attach", context=context, block=block, strategy=strategy,
                  disk="/var/tmp" if strategy == "offload" or self._one_in(3) else None,
                  device_limit=self._some(4, "5MiB", "8MiB"), head_groups=self._some(4, 2), check=self._some(3, False),
                  within_autocast=self._autocast() and self._some(2, True))
        self._is["attached"] = True

    def _detach(self):
        if not self._is["attached"]:
            return False
        self._add("detach")
        self._is["attached"] = False

    # ---- batches and what is computed of them

    def _batch(self):
        rows = self._random.choice((1, 1, 2, 3))
        tokens = self._random.choice((256, 200, 377, 512, 150, 65, 64, 7, self._random.randint(2, 500))) // rows or 1
        given = {"tokens": tokens, "rows": rows if rows > 1 else None}
        kind = self._random.choice(("plain", "plain", "padded", "packed", "mask", "positions"))
        if kind == "padded":
            given["padding"] = self._random.choice(("left", "right", "both"))
            given["labels"] = self._random.choice(("collator", "all"))
        elif kind == "packed" and tokens > 8:
            given["packed"] = self._random.choice(((1, 1), (3, 1, 2), (1, 5)))
        elif kind == "mask":
            given["mask"] = self._random.choice(("ones", "bool", "causal"))
        elif kind == "positions":
            given["positions"] = self._random.choice((0, 9))
        if self._one_in(12):
            given["labels"] = self._random.choice(("none", "half", "half", "outside"))
        return given

    def _around(self):
        return {"autocast": self._autocast(), "adapter": self._some(6, False) if self._is["adapted"] else None}

    def _autocast(self):
        return self._is["under autocast"] or None

    def _step(self):
        self._add(
            "step",
            **self._batch(),
            **self._around(),
            loss=self._some(3, "count", "shifted", "logits", "outputs", "hidden"),
            backward=self._some(5, "never", "twice", "kept", "late", "grad"),
            scale=self._some(6, 0.25),
            embeddings=self._some(10, True),
            add=self._some(8, True),
            training=self._some(12, False),
        )

    def _accumulate(self):
        self._add("accumulate", lengths=[self._random.choice((64, 100, 256, 33)) for _ in range(self._random.choice((2, 3)))],
                  loss="count", autocast=self._autocast())

    def _train(self):
        for _ in range(self._random.choice((1, 2))):
            self._add("step", **self._batch(), autocast=self._autocast())
            self._add("optimize", kind=self._random.choice(("sgd", "momentum", "adamw")), clip=self._some(2, 1.0))

    def _evaluate(self):
        given = self._batch()
        if given.get("labels") == "outside":
            return False
        self._add("evaluate", **given, **self._around(), mode=self._random.choice(("eval", "no_grad", "inference_mode")))

    def _generate(self):
        self._add("generate", tokens=self._random.choice((5, 40)), new=4)

    def _read_logits(self):
        if self._autocast():
            return False
        self._add("read_logits", tokens=self._random.choice((64, 200)),
                  how=self._random.choice(("attribute", "key", "get", "index", "tuple")))

    def _copy(self):
        how, keep = self._random.choice(("deepcopy", "deepcopy", "pickle", "torch.save")), self._some(4, True)
        if self._is["compiled"]:
            return False
        self._add("copy_model", how=how, keep=keep, tokens=self._random.choice((64, 200)), autocast=self._autocast())
        if keep:
            self._is |= {"attached": False, "hooked": False, "copied": True}

    def _copy_module(self):
        self._add("copy_module", module=self._random.choice(("head", "mlp", "norm")))

    def _fail(self):
        self._add("fail", where=self._random.choice(("forward", "backward")), layer=self._random.randrange(3),
                  kind=self._random.choice(("own", "own", "KeyboardInterrupt", "ValueError", "MemoryError")),
                  tokens=self._random.choice((64, 200)), autocast=self._autocast())

    # ---- changes

    def _freeze(self):
        if self._one_in(3):
            self._add("unfreeze")
        else:
            self._add("freeze", which=self._random.choice((
                "embeddings", "norms", "mlps", "the first layer", "all but the last layer", "one weight", "everything")))

    def _lora(self):
        if self._is["adapted"] or self._is["compiled"] or self._is["prepared"]:
            return False
        self._add("lora", dropout=self._some(2, 0.1), dora=self._some(4, True), layers=self._some(4, [2], [0, 1]))
        self._is["adapted"] = True

    def _merge(self):
        if not self._is["adapted"] or self._is["compiled"] or self._is["prepared"]:
            return False
        self._add("merge")
        self._is["adapted"] = False

    def _prepare(self):
        if self._is["prepared"] or self._is["compiled"]:
            return False
        self._is["prepared"] = self._random.choice(("no", "bf16"))
        self._add("prepare", mixed_precision=self._is["prepared"])

    def _unwrap(self):
        if not self._is["prepared"] or self._is["copied"]:
            return False
        self._add("unwrap", keep_fp32_wrapper=self._random.choice((None, False, False)))
        self._is["prepared"] = False

    def _compile(self):
        if self._is["compiled"]:
            return False
        self._add("compile_model")
        self._is["compiled"] = True

    def _cast(self):
        self._add("cast", dtype="bfloat16" if self._turn("bfloat16") else "float32")

    def _toggle_autocast(self):
        self._turn("under autocast")

    def _load_state(self):
        self._add("load_state", assign=self._some(2, True))

    def _resize(self):
        if self._is["adapted"]:
            return False
        self._add("resize", vocabulary=self._random.choice((104, 93)))

    def _hook(self):
        if self._is["hooked"] and self._one_in(2):
            self._add("unhook")
            self._is["hooked"] = False
            return
        self._is["hooked"] = True
        if self._one_in(2):
            self._add("hook_gradients", which=self._random.choice(("everything", "mlps", "one weight", "embeddings")), factor=2.0)
        else:
            self._add("hook_modules", module=self._random.choice(("mlp", "norm", "down")), factor=0.5,
                      kind=self._some(2, "forward_pre", "full_backward"))

    def _set_dropout(self):
        if self._family not in ("gpt2", "phi3") and not self._is["adapted"]:
            return False
        self._add("set_dropout", p=self._random.choice((0.0, 0.1, 0.3)))

    def _set_loss(self):
        self._add("set_loss", own=self._turn("of own loss"))

    def _checkpointing(self):
        self._add("checkpointing", on=self._turn("checkpointed"))

    def _replace(self):
        what = self._random.choice(("mlp", "norm", "head", "layer"))
        if what in self._replaced or self._is["adapted"]:
            return False
        self._replaced.add(what)
        self._add("replace", what=what)


def draw(seed):
    return Drawing(seed).draw()
