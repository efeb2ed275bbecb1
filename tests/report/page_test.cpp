// The report's page: one small file, nothing from the network, names that cannot leave their place.
#include "memo/report/page.h"

#include <nlohmann/json.hpp>

#include "memo/report/page_data.h"
#include "subjects.h"

namespace memo::report {
namespace {

TEST(Page, IsOneFileThatAsksNothingOfTheNetwork) {
  const std::string text = page({subject_of(plan::tiny_plan())});
  EXPECT_TRUE(text.starts_with("<!DOCTYPE html>"));
  for (const char* reference :
       {"<link rel=\"stylesheet", "<script src", "@import", "url(http", "fetch(", "XMLHttpRequest"})
    EXPECT_EQ(text.find(reference), std::string::npos) << reference;
  EXPECT_NE(text.find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(text.find("/*script*/"), std::string::npos);
}

TEST(Page, NamesCannotLeaveTheirPlace) {
  Subject subject = subject_of(plan::tiny_plan());
  subject.name = "</script><script>alert(1)</script>/*script*/\xff";
  const std::string text = page({subject});
  EXPECT_EQ(text.find("alert(1)</script>"), std::string::npos);
  EXPECT_NE(text.find("\\u003c/script>\\u003cscript>alert(1)"), std::string::npos);
}

TEST(Page, OfAPlanOf32LayersIn256BlocksIsSmall) {
  plan::SyntheticOptions options;
  options.hidden = 256;
  options.layers = 32;
  options.heads = options.kv_heads = 4;
  options.ffn = 512;
  options.context = 16384;
  options.block = 64;
  options.groups = 2;
  const Subject subject = subject_of(planned(plan::synthetic_profile(options), "memo", Bytes(1100LL << 20)));
  EXPECT_GT(subject.plan.program.residencies.size(), 100'000U);
  EXPECT_LT(page({subject}).size(), 1U << 21);
}

TEST(PageData, TellsGradientsFromSavedTensors) {
  const auto data = page_data(subject_of(plan::tiny_plan()));
  for (const auto& cls : data["classes"]) EXPECT_EQ(cls["gradient"], cls["name"].get<std::string>()[0] == 'd') << cls;
  EXPECT_TRUE(data["measured"].is_null());
  EXPECT_TRUE(data["timelines"]["measured"].is_null());
  EXPECT_EQ(data["fragmentation"]["planned"], 5952);
}

}  // namespace
}  // namespace memo::report
