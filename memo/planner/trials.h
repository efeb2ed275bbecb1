// Builds, plays and compares the candidates for one request. The planner chooses the candidates.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memo/planner/build.h"
#include "memo/planner/placement.h"
#include "memo/planner/planner.h"
#include "memo/sim/simulate.h"

namespace memo::planner {

class Trials {
 public:
  Trials(const plan::Profile& profile, const Request& request) : profile_(profile), request_(request) {}

  struct Tried {
    Bytes peak;
    Bytes over_tier;  // by which it does not fit a tier, though it fits the device
    bool fits = false;
    double seconds = 0;
  };
  // Builds and plays a candidate. It becomes the best if it fits and is the fastest so far (at equal times, the
  // smallest). `name` is the name of its kind.
  Tried consider(const std::string& name, const Placement& placement, const Pace& pace);

  [[nodiscard]] bool any() const { return best_.has_value(); }
  [[nodiscard]] bool fits(Bytes peak) const {
    return request_.device_limit == Bytes(0) || peak <= request_.device_limit;
  }
  [[nodiscard]] bool tier_short() const { return tier_short_ >= 0; }  // some plan fitted the device, but not a tier
  // The best plan's step time over the time of its calls alone, without reruns.
  [[nodiscard]] double slowdown() const;

  // Returns, once, the best plan, or an error that says why there is none.
  Result<plan::Plan> finish();

 private:
  struct Candidate {
    Placement placement;
    Pace pace;
    Built built;
    sim::Timeline timeline;
  };
  Tried try_one(const Placement& placement, Pace pace);
  [[nodiscard]] tl::unexpected<Error> infeasible() const;
  [[nodiscard]] Seconds compute_alone() const;
  void predict(plan::Plan& plan, Seconds alone) const;

  const plan::Profile& profile_;
  const Request& request_;
  std::optional<Candidate> best_;
  std::optional<Built> smallest_;
  std::vector<plan::Considered> considered_;
  int tier_short_ = -1;
  Bytes tier_needs_;  // the least
};

}  // namespace memo::planner
