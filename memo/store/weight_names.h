// By which names the tensors of a checkpoint go: those of the family's class, or what others make of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/model/parameters.h"
#include "memo/store/safetensors.h"

namespace memo::store {

struct WeightNames {
  std::map<std::string, std::string> stored;  // the name that a tensor has in the files, by that of the class
  // Of tensors of the files that the model has no place for, and that hold weights.
  std::vector<std::string> left_out;
};

// Read besides the class's own names: those with what torch.compile, DDP and FSDP put around modules, and those of the
// base model, which has no head and whose names begin below it. A head that is tied may be there, alone or beside the
// embedding; where both are, they must be the same. Tensors that are there under two names are refused.
Result<WeightNames> weight_names(const TensorFiles& files, const std::vector<model::ParameterSpec>& specs);

}  // namespace memo::store
