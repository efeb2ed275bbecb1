// Setups that the estimator's tests share.
#pragma once

#include "memo/estimate/models.h"
#include "memo/estimate/search.h"

namespace memo::estimate {

using Training = Setup;  // in a test's body, Setup is a name of GoogleTest's

inline Hardware gpu(const std::string& name) { return *find_hardware(name, hardware_table()); }

inline Task task_of(const std::string& model, const std::string& hardware, int gpus, std::int64_t context) {
  Task task;
  task.model_name = model;
  task.shape = *find_model(model);
  task.hardware = gpu(hardware);
  task.gpus = gpus;
  task.context = Tokens(context);
  return task;
}

// Megatron's way with `tensor` GPUs, one sequence.
inline Setup megatron(const std::string& model, int tensor, std::int64_t context, Recompute recompute) {
  Setup setup;
  setup.model_name = model, setup.shape = *find_model(model), setup.hardware = gpu("A100");
  setup.gpus = setup.degrees.tensor = tensor;
  setup.context = Tokens(context);
  setup.execution = Execution::fused, setup.state = State::mixed, setup.shard = Shard::optimizer;
  setup.recompute = recompute;
  return setup;
}

}  // namespace memo::estimate
