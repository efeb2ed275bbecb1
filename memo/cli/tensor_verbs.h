// Names and help of the verbs that need LibTorch. Both commands list them: memo, which starts without LibTorch, and
// memo-tensors, which runs them.
#pragma once

namespace memo::cli {

struct VerbName {
  const char *name, *description;
};
inline constexpr VerbName profile_verb{"profile", "Measure one layer of each kind, attention's growth, and the tiers"};
inline constexpr VerbName train_verb{"train", "Train a job by its plan; prints the prediction next to the measurement"};
inline constexpr VerbName compare_verb{"compare", "Train by each strategy in one run; a table and compare.json"};
inline constexpr VerbName eval_verb{"eval", "The loss of a model over a text, and at each position of its context"};

}  // namespace memo::cli
