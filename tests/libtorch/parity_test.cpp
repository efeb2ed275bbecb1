// Each model family against Hugging Face's implementation (make_parity_data.py): loss, logits and every gradient in
// float32, run block by block and in head groups as training does.
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <span>

#include "memo/store/safetensors.h"
#include "parity_step.h"

namespace memo::libtorch {
namespace {

at::Tensor read(const store::TensorFiles& files, const std::string& name) {
  const auto entry = files.find(name);
  EXPECT_TRUE(entry) << name;
  at::Tensor tensor = at::empty((*entry)->shape, at::kFloat);
  const auto bytes =
      std::as_writable_bytes(std::span(tensor.mutable_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())));
  EXPECT_TRUE(files.read(name, 0, bytes)) << name;
  return tensor;
}

// A parameter in our layout, put together from Hugging Face's tensors, whose names get `prefix`.
at::Tensor assemble(const model::ParameterSpec& spec, const store::TensorFiles& files, const std::string& prefix) {
  at::Tensor result = at::empty(spec.shape, at::kFloat);
  for (const model::ParameterPart& part : spec.parts) {
    const at::Tensor source = read(files, prefix + part.name);
    result.narrow(0, part.row, part.rows)
        .copy_((part.transposed ? source.t() : source).narrow(0, part.source_row, part.rows));
  }
  return result;
}

struct ParityCase {
  std::string name;
  int groups;
  std::int64_t block;
};
void PrintTo(const ParityCase& c, std::ostream* out) {
  *out << c.name << ", " << c.groups << " groups, block " << c.block;
}

class Parity : public testing::TestWithParam<ParityCase> {};

TEST_P(Parity, LossLogitsAndGradientsAreHuggingFaces) {
  const auto [name, groups, block] = GetParam();
  const Path folder = Path(MEMO_TEST_DATA) / "parity" / name;
  const auto described = model::read_config(folder);
  ASSERT_TRUE(described) << described.error().message;
  const auto files = store::TensorFiles::open_file(folder / "expected.safetensors");
  ASSERT_TRUE(files) << files.error().message;
  const at::Tensor window = read(*files, "window").to(at::kLong);
  const auto shape = model::for_context(*described, Tokens(window.size(0) - 1), name);
  ASSERT_TRUE(shape) << shape.error().message;
  const auto specs = model::parameters(*shape);
  Tensors values;
  for (const model::ParameterSpec& spec : specs) values.push_back(assemble(spec, *files, ""));
  const std::vector<Parameter> parameters = with_gradients(specs, values);
  const Decoder decoder(*shape, groups, parameters);

  const StepOutcome outcome = run_step(decoder, window, block);

  const double loss = read(*files, "loss").item<double>();
  EXPECT_NEAR(outcome.loss, loss, 1e-6 * loss);
  EXPECT_LT(relative_error(outcome.logits, read(*files, "logits")), 1e-5);
  for (std::size_t i = 0; i < specs.size(); ++i)
    EXPECT_LT(relative_error(parameters[i].gradient, assemble(specs[i], *files, "gradient.")), 1e-5) << specs[i].name;
}

INSTANTIATE_TEST_SUITE_P(Families, Parity,
                         testing::Values(ParityCase{"gpt2", 1, 48}, ParityCase{"gpt2", 4, 16},
                                         ParityCase{"llama", 1, 16}, ParityCase{"llama", 2, 20},
                                         ParityCase{"llama_biases", 1, 16}, ParityCase{"llama_biases", 2, 16},
                                         ParityCase{"mistral", 2, 16}, ParityCase{"qwen2", 1, 16},
                                         ParityCase{"qwen2", 2, 48}, ParityCase{"qwen3", 1, 16},
                                         ParityCase{"qwen3", 2, 20}));

INSTANTIATE_TEST_SUITE_P(RotaryScaling, Parity,
                         testing::Values(ParityCase{"llama_linear", 1, 48}, ParityCase{"llama_dynamic", 2, 20},
                                         ParityCase{"qwen2_yarn", 1, 16}, ParityCase{"mistral_yarn", 2, 16}));

}  // namespace
}  // namespace memo::libtorch
