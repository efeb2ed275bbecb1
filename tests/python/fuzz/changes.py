"""What a user does to a model: attach and detach, freeze, wrap, change weights, dtype and modules, hook, fail."""

import copy
import gc

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from fuzz import computing
from fuzz.computing import Seen

import memo


def attach(twin, seed, within_autocast=False, **options):
    if twin.role == "attached":
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=within_autocast):
            memo.attach(twin.model, **options)
        twin.attached_to = twin.model


def detach(twin, seed):
    if twin.attached_to is not None:
        memo.detach(twin.model)
        twin.attached_to = None


def freeze(twin, seed, which):
    """The parameters whose names `chosen` says; their gradients go."""
    for name, p in twin.model.named_parameters():
        if chosen(twin, name, which):
            p.requires_grad_(False)
            p.grad = None


def unfreeze(twin, seed):
    """All that can be trained: of a model with adapters these alone."""
    names = [name for name, _ in twin.model.named_parameters()]
    adapters = any("lora_" in name for name in names)
    for name, p in twin.model.named_parameters():
        p.requires_grad_("lora_" in name or not adapters)


def chosen(twin, name, which):
    numbered = [part for part in name.split(".") if part.isdigit()]
    layer = int(numbered[0]) if numbered else None
    return {"embeddings": "embed_tokens" in name or "wte" in name, "norms": "norm" in name or "ln_" in name,
            "mlps": ".mlp." in name, "the first layer": layer == 0, "all but the last layer": layer != 2,
            "one weight": layer == 1 and ("down_proj" in name or "mlp.c_proj.weight" in name),
            "everything": True}[which]


TARGETS = {"gpt2": ["c_attn", "c_proj"], "phi3": ["qkv_proj", "down_proj"], "mixtral": ["q_proj", "o_proj"]}


def lora(twin, seed, dropout=0.0, dora=False, layers=None):
    """An adapter of PEFT, whose two factors are not zero. layers: those that get one."""
    import peft

    config = peft.LoraConfig(r=4, lora_dropout=dropout, use_dora=dora, layers_to_transform=layers, init_lora_weights=False,
                             target_modules=TARGETS.get(twin.inner.config.model_type, ["q_proj", "down_proj"]),
                             fan_in_fan_out=twin.inner.config.model_type == "gpt2")
    twin.model = peft.get_peft_model(twin.model, config)
    twin.forget_optimizer()


def merge(twin, seed):
    """The adapter into the weights, which are trained again."""
    twin.model = twin.model.merge_and_unload()
    twin.model.requires_grad_(True)
    twin.forget_optimizer()


def prepare(twin, seed, mixed_precision="no"):
    AcceleratorState._reset_state(True)
    twin.accelerator = Accelerator(cpu=True, mixed_precision="no" if twin.role == "exact" else mixed_precision)
    twin.model = twin.accelerator.prepare(twin.model)
    twin.autocasts = twin.autocasts or mixed_precision == "bf16"


def unwrap(twin, seed, keep_fp32_wrapper=True):
    twin.model = twin.accelerator.unwrap_model(twin.model, keep_fp32_wrapper=keep_fp32_wrapper)
    twin.autocasts = twin.autocasts and keep_fp32_wrapper


def compile_model(twin, seed):
    twin.model = torch.compile(twin.model, backend="eager")


def cast(twin, seed, dtype):
    if twin.role != "exact":
        twin.model.to(getattr(torch, dtype))
    twin.forget_optimizer()


def optimize(twin, seed, kind="sgd", clip=None):
    """A step of an optimizer, which is made where there is none of this kind, after clip_grad_norm_. Both twins have the
    same gradients, so weights are the same to the bit."""
    trained = [p for p in twin.model.parameters() if p.requires_grad]
    seen = Seen()
    if clip is not None:
        seen.same["norm"] = torch.nn.utils.clip_grad_norm_(trained, clip).detach()
    if twin.optimizer is None or twin.optimizer[0] != kind:
        make = {"sgd": lambda: torch.optim.SGD(trained, lr=1e-2), "adamw": lambda: torch.optim.AdamW(trained, lr=1e-3),
                "momentum": lambda: torch.optim.SGD(trained, lr=1e-2, momentum=0.9)}
        twin.optimizer = (kind, make[kind]())
    twin.optimizer[1].step()
    return seen


def load_state(twin, seed, assign=False):
    """Saved weights, a little changed, put back."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: t.detach().clone() + (0.01 * torch.randn(t.shape, generator=generator).to(t.dtype)
                                         if t.is_floating_point() else 0) for name, t in twin.model.state_dict().items()}
    for name, t in twin.model.state_dict(keep_vars=True).items():  # what is tied stays one
        state[name] = next(state[other] for other, u in twin.model.state_dict(keep_vars=True).items() if u is t)
    twin.model.load_state_dict(state, assign=assign)
    twin.forget_optimizer()


def resize(twin, seed, vocabulary):
    torch.manual_seed(seed)
    twin.model.zero_grad(set_to_none=True)  # those there are would have the old shape
    gc.collect()  # a graph that is still there, of a step that failed, would know the weights by their old shape
    twin.inner.resize_token_embeddings(vocabulary, mean_resizing=False)
    twin.forget_optimizer()


class Scale:
    """A hook that multiplies what it is given last."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, *given):
        value = given[-1]
        return (self.factor * value[0], *value[1:]) if isinstance(value, tuple) else self.factor * value


def hook_gradients(twin, seed, which, factor):
    """Of parameters."""
    twin.handles += [p.register_hook(Scale(factor)) for name, p in twin.model.named_parameters()
                     if p.requires_grad and chosen(twin, name, which)]


def hook_modules(twin, seed, module, factor, kind="forward"):
    """kind: "forward", "forward_pre" or "full_backward"."""
    for found in twin.modules(module):
        register = {"forward": found.register_forward_hook, "forward_pre": found.register_forward_pre_hook,
                    "full_backward": found.register_full_backward_hook}[kind]
        twin.handles.append(register(Backward(factor) if kind == "full_backward" else Scale(factor)))


class Backward(Scale):
    def __call__(self, module, given, got):
        return tuple(None if g is None else self.factor * g for g in given)


def unhook(twin, seed):
    while twin.handles:
        twin.handles.pop().remove()


PLANTED = ("planted",)  # arguments of exceptions


class Own(Exception):
    """An exception of a user's own."""


def _raise(kind):
    raise {"own": Own, "KeyboardInterrupt": KeyboardInterrupt, "ValueError": ValueError, "MemoryError": MemoryError}[kind](
        *PLANTED
    )


class Failing:
    """A forward hook that raises, or has backward raise, while it is armed."""

    def __init__(self, kind, where):
        self.kind, self.where = kind, where

    def __call__(self, module, given, output):
        if self.where == "forward":
            _raise(self.kind)
        output = output[0] if isinstance(output, tuple) else output
        if output.requires_grad:
            output.register_hook(lambda gradient: _raise(self.kind))


def fail(twin, seed, where, kind, layer, module="mlp", **batch):
    """A step inside of which a layer raises: the exception arrives as it is."""
    handle = twin.modules(module)[layer].register_forward_hook(Failing(kind, where))
    try:
        computing.step(twin, seed, **batch)
    finally:
        handle.remove()
        twin.model.zero_grad(set_to_none=True)


def set_dropout(twin, seed, p):
    """Of hidden states, not of attention's weights."""
    for name, module in twin.model.named_modules():
        if isinstance(module, torch.nn.Dropout) and "attn_dropout" not in name and "attention_dropout" not in name:
            module.p = p


def set_loss(twin, seed, own):
    """A loss function of the user's own, or that of transformers again."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    twin.inner.loss_function = computing.smoothed_loss if own else ForCausalLMLoss


def checkpointing(twin, seed, on):
    twin.inner.gradient_checkpointing_enable() if on else twin.inner.gradient_checkpointing_disable()


def replace(twin, seed, what):
    """A module by another one: an "mlp" by a copy with other weights, a "norm" by nothing, a whole "layer" by a copy of
    the one before, the "head" by another one."""
    layer = twin.layers[1]
    if what == "norm":
        name = "input_layernorm" if hasattr(layer, "input_layernorm") else "ln_1"
        setattr(layer, name, torch.nn.Identity())
    elif what == "head":
        made = copy.deepcopy(twin.inner.get_output_embeddings())
        made.weight = torch.nn.Parameter(made.weight.detach() * 1.1)
        twin.inner.set_output_embeddings(made)
    elif what == "layer":
        twin.layers[2] = made = copy.deepcopy(layer)
        for module in made.modules():
            if hasattr(module, "layer_idx"):  # its place in a cache
                module.layer_idx = 2
    else:
        made = copy.deepcopy(layer.mlp)
        with torch.no_grad():
            for p in made.parameters():
                p.mul_(1.1)
        layer.mlp = made
    twin.forget_optimizer()
