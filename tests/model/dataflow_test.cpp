// Each class and segment of the tables has its role, and a role says its elements.
#include "memo/model/dataflow.h"

#include <gtest/gtest.h>

#include <set>

#include "memo/model/shape.h"

namespace memo::model {
namespace {

Shape llama() {
  Shape shape;
  shape.family = "llama";
  shape.hidden = 64;
  shape.layers = 3;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 16;
  shape.ffn = 96;
  shape.vocab = 100;
  return shape;
}

template <class Table>
void expect_each_role_once(const Table& table) {
  std::set<std::pair<int, int>> roles;
  for (const auto& item : table) {
    if constexpr (requires { item.persistent(); })
      EXPECT_TRUE(roles.emplace(static_cast<int>(item.role), static_cast<int>(item.stage)).second) << item.name;
    else
      EXPECT_TRUE(roles.emplace(static_cast<int>(item.role), item.kind).second) << item.name;
  }
}

TEST(Dataflow, ADecodersTableHasEachRoleOnce) {
  const Dataflow flow = decoder_dataflow(llama(), 2, 2, Tokens(64), Tokens(16));
  expect_each_role_once(flow.classes);
  expect_each_role_once(flow.segments);
  EXPECT_EQ(flow.segments.size(), static_cast<std::size_t>(SegmentRole::wait) + 1);
  for (const TensorClass& cls : flow.classes) EXPECT_NE(cls.role, TensorRole::other) << cls.name;
}

TEST(Dataflow, ATableOfLayersAloneHasEachRoleOnceAKind) {
  const LayerShape shape{.layers = 3, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .kinds = {0, 1, 0}};
  const Dataflow flow = layers_dataflow(shape, 4, 2, 1, Tokens(64), Tokens(16));
  expect_each_role_once(flow.classes);
  expect_each_role_once(flow.segments);
  EXPECT_EQ(flow.segments[flow.find_segment(SegmentRole::after, 1)].name, "after (kind 1)");
  EXPECT_FALSE(flow.find_segment(SegmentRole::after).exists()) << "it has one of each kind";
}

TEST(Dataflow, OfWhichElementsAClassIs) {
  const Dataflow flow = decoder_dataflow(llama(), 2, 2, Tokens(64), Tokens(16));
  const auto element = [&](TensorRole role) { return flow.classes[flow.find_class(role)].element(); };
  EXPECT_EQ(element(TensorRole::hidden), Element::compute);
  EXPECT_EQ(element(TensorRole::d_mlp_inner), Element::compute);
  EXPECT_EQ(element(TensorRole::qkv), Element::attention);
  EXPECT_EQ(element(TensorRole::d_value), Element::attention);
  EXPECT_EQ(element(TensorRole::log_sum_exp), Element::float32);
  EXPECT_EQ(element(TensorRole::weights), Element::compute);
  EXPECT_EQ(element(TensorRole::gradients), Element::float32);
  EXPECT_EQ((TensorClass{"attn_in.saved0", TensorRole::saved, Bytes(4)}).element(), Element::bytes);
}

TEST(Dataflow, PersistentClassesSayOfWhichParametersTheyAre) {
  const Dataflow flow = decoder_dataflow(llama(), 2, 2, Tokens(64), Tokens(16));
  const auto name = [&](TensorRole role, Stage stage) { return flow.classes[flow.find_class(role, stage)].name; };
  EXPECT_EQ(name(TensorRole::weights, Stage::before), "weights.before");
  EXPECT_EQ(name(TensorRole::optimizer, Stage::after), "optimizer.after");
}

}  // namespace
}  // namespace memo::model
