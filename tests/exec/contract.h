// A contract: a suite whose tests are compiled once, and run for every implementation that promises the same. A file
// that has implementations says
//
//   INSTANTIATE_TEST_SUITE_P(Cpu, CopyEngineContract, Values(named<CopyBackend, CpuBackend>("host")), NameOf());
//
// which adds tests like Cpu/CopyEngineContract.EachCopyGoesToTheTierItNames/host.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>

namespace memo::exec {

// An implementation, made anew for every test.
template <class Kind>
struct Named {
  std::string name;
  std::function<std::unique_ptr<Kind>()> make;
  friend void PrintTo(const Named& of, std::ostream* to) { *to << of.name; }
};

template <class Kind, class Implementation, class... Arguments>
Named<Kind> named(std::string name, Arguments... arguments) {
  return {std::move(name), [arguments...] { return std::make_unique<Implementation>(arguments...); }};
}

struct NameOf {
  template <class Parameter>
  std::string operator()(const Parameter& parameter) const {
    return parameter.param.name;
  }
};

// `Kind` has a `refusal`: where it is there from the start, every test is skipped.
template <class Kind>
class Contract : public testing::TestWithParam<Named<Kind>> {
 protected:
  void SetUp() override {
    if (!kind->refusal.empty()) GTEST_SKIP() << kind->refusal;
  }

  const std::unique_ptr<Kind> kind = this->GetParam().make();
};

}  // namespace memo::exec
