// Fixed regions, and the comparison of a profile with a job.
#include "memo/plan/for_job.h"

#include <fmt/format.h>

#include <algorithm>

namespace memo::plan {

std::vector<Fixed> fixed_memory(const model::Shape& shape, job::DType dtype) {
  const model::StateBytes state = model::state_bytes(shape, dtype == job::DType::bfloat16 ? 2 : 4, LayerIndex::none());
  return {{"weights", state.weights}, {"gradients", state.gradients}, {"optimizer", state.optimizer}};
}

Status check_for_job(const Profile& profile, const job::Job& job, const std::string& what) {
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  const auto refuse = [&](const std::string& difference) {
    return bad_input(fmt::format("{} is for another job: {}; make it again for this job", what, difference));
  };
  const model::Dataflow& flow = profile.flow;
  if (flow.context != job.train.context)
    return refuse(fmt::format("its context is {}, the job's {}", flow.context.value(), job.train.context.value()));
  const Tokens block = std::min(job.train.block, job.train.context);
  if (block > Tokens(0) && flow.block != block)
    return refuse(fmt::format("its block is {}, the job's {}", flow.block.value(), block.value()));
  if (job.train.head_groups > 0 && flow.groups != job.train.head_groups)
    return refuse(fmt::format("its head groups are {}, the job's {}", flow.groups, job.train.head_groups));
  if (job.train.attention != "auto" && profile.attention != job.train.attention)
    return refuse(fmt::format("its attention kernel is {}, the job's {}", profile.attention, job.train.attention));
  if (job.train.loss_tile > Tokens(0) && profile.loss_tile != job.train.loss_tile)
    return refuse(
        fmt::format("its loss tile is {}, the job's {}", profile.loss_tile.value(), job.train.loss_tile.value()));
  if (flow.layers != shape.layers)
    return refuse(fmt::format("its model has {} layers, the job's {}", flow.layers, shape.layers));
  if (flow.groups < 1 || shape.kv_heads % flow.groups != 0)
    return refuse(fmt::format("its {} head groups do not divide the job's {} key heads", flow.groups, shape.kv_heads));
  const std::vector<Fixed> fixed = fixed_memory(shape, job.model.dtype);
  for (std::size_t i = 0; i < fixed.size(); ++i)
    if (i >= profile.fixed.size() || profile.fixed[i].bytes != fixed[i].bytes)
      return refuse(fmt::format("its model's {} are of another size", fixed[i].name));
  const int element_bytes = job.model.dtype == job::DType::bfloat16 ? 2 : 4;
  for (const model::TensorClass& cls :
       model::decoder_dataflow(shape, element_bytes, flow.groups, flow.context, flow.block).classes) {
    const ClassIndex found = flow.find_class(cls.role, cls.stage);
    if (!found.exists() || flow.classes[found].row != cls.row || flow.classes[found].layer_bytes != cls.layer_bytes)
      return refuse(fmt::format("its model's tensors '{}' are of another size", cls.name));
  }
  return {};
}

}  // namespace memo::plan
