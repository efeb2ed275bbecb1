// Names of a step's parts in messages. Classes and segments without a name in `flow` are called by number.
#pragma once

#include <string>

#include "memo/plan/program.h"

namespace memo::exec {

std::string name_of_tensor(const model::Dataflow& flow, const plan::Tensor& tensor);  // o, layer 1, ..
std::string name_of_call(const model::Dataflow& flow, const plan::Program& program, plan::CallIndex k);  // call 7 (..)
std::string name_of_copy(const model::Dataflow& flow, const plan::Program& program, std::size_t index);  // copy 7 (..)

}  // namespace memo::exec
