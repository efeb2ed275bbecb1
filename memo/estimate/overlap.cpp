// Searches by bisection over contexts.
#include "memo/estimate/overlap.h"

#include "memo/estimate/profile.h"

namespace memo::estimate {
namespace {

constexpr std::int64_t grain = 8192, most = std::int64_t{1} << 32;  // tokens

bool hidden(const Setup& setup) {
  const Modelled modelled = model_profile(setup);
  const model::Dataflow& flow = modelled.profile.flow;
  const double forward =
      calls_seconds(modelled,
                    [](const model::Segment& segment, bool backward) {
                      return !backward && (segment.stage == model::Stage::before ||
                                           segment.stage == model::Stage::core || segment.stage == model::Stage::after);
                    }) /
      flow.layers;
  Bytes saved;
  for (const model::ClassIndex cls : flow.classes.indices()) {
    bool written = false, read = false;
    for (const model::Segment& segment : flow.segments) {
      for (const model::Use& use : segment.forward.writes)
        written |= use.cls == cls && segment.stage != model::Stage::loss;
      for (const model::Use& use : segment.backward.reads) read |= use.cls == cls;
    }
    const model::TensorClass& c = flow.classes[cls];
    if (written && read && !c.persistent())
      saved += c.row * flow.context.value() * std::int64_t{c.grouped ? flow.groups : 1};
  }
  return transfer_time(saved, setup.hardware.host.write) <= Seconds(forward);
}

}  // namespace

std::optional<Tokens> hidden_from(Setup setup) {
  const Tokens unit = Tokens(grain) * std::int64_t{setup.degrees.sequence_parts()};
  const auto holds = [&](std::int64_t units) {
    setup.context = unit * units;
    setup.block = usual_block(setup.local_tokens());
    return hidden(setup);
  };
  std::int64_t good = 1;
  while (!holds(good)) {
    good *= 2;
    if (unit.value() * good > most) return std::nullopt;
  }
  std::int64_t bad = good / 2;
  while (good - bad > 1) {
    const std::int64_t middle = (good + bad) / 2;
    (holds(middle) ? good : bad) = middle;
  }
  return unit * good;
}

}  // namespace memo::estimate
