// The rules that degrees must keep.
#include "memo/estimate/setup.h"

#include <fmt/format.h>

#include <algorithm>

namespace memo::estimate {

Tokens usual_block(Tokens local) {
  constexpr std::int64_t usual = 4096, most_blocks = 8;
  return Tokens(std::max(usual, (local.value() + most_blocks - 1) / most_blocks));
}

Status check_setup(const Setup& setup) {
  const Degrees& d = setup.degrees;
  const model::Shape& shape = setup.shape;
  if (d.gpus() != setup.gpus)
    return bad_input(
        fmt::format("degrees: tensor {} x ring {} x ulysses {} x pipeline {} x data {} are {} GPUs, not {}", d.tensor,
                    d.ring, d.ulysses, d.pipeline, d.data, d.gpus(), setup.gpus));
  if (shape.heads % d.tensor != 0)
    return bad_input(fmt::format("tensor parallel {} does not divide the model's {} heads", d.tensor, shape.heads));
  if (shape.ffn % d.tensor != 0)
    return bad_input(fmt::format("tensor parallel {} does not divide the model's ffn of {}", d.tensor, shape.ffn));
  if (shape.kv_heads % d.tensor != 0 && d.tensor % shape.kv_heads != 0)
    return bad_input(fmt::format("tensor parallel {} and the model's {} key heads do not divide each other", d.tensor,
                                 shape.kv_heads));
  if ((shape.heads / d.tensor) % d.ulysses != 0)
    return bad_input(fmt::format("ulysses {} does not divide the {} heads of a tensor parallel rank", d.ulysses,
                                 shape.heads / d.tensor));
  if (shape.layers % (d.pipeline * d.stages) != 0)
    return bad_input(fmt::format("pipeline {} of {} stages does not divide the model's {} layers", d.pipeline, d.stages,
                                 shape.layers));
  if (setup.context.value() % d.sequence_parts() != 0)
    return bad_input(fmt::format("ring {} x ulysses {} does not divide the context of {} tokens", d.ring, d.ulysses,
                                 setup.context.value()));
  if (d.tensor > setup.hardware.gpus_per_node && setup.hardware.network < setup.hardware.link)
    return bad_input(
        fmt::format("tensor parallel {} leaves the node of {} GPUs", d.tensor, setup.hardware.gpus_per_node));
  return {};
}

}  // namespace memo::estimate
