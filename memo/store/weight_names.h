// Finds the tensors of a checkpoint by the names of the family's class, or by names that other tools make of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/model/parameters.h"
#include "memo/store/safetensors.h"

namespace memo::store {

struct WeightNames {
  std::map<std::string, std::string> stored;  // name in the files, by the class's name
  // Tensors with weights that the model does not have.
  std::vector<std::string> left_out;
};

// Besides the class's own names, these are read: names with the prefixes that torch.compile, DDP and FSDP put around
// modules; and names of the base model, which has no head and whose names begin one module lower. A tied head may be
// stored, alone or with the embedding; if both are stored, they must be equal. A tensor stored under two names is
// refused.
Result<WeightNames> weight_names(const TensorFiles& files, const std::vector<model::ParameterSpec>& specs);

}  // namespace memo::store
