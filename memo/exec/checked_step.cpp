// Records accesses as the calls and copies of a program happen, and looks for races and for the poison pattern.
#include "memo/exec/checked_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memo/base/index.h"
#include "memo/exec/by_boundary.h"
#include "memo/exec/names.h"
#include "memo/exec/ordering.h"
#include "memo/plan/operands.h"

namespace memo::exec {
namespace {

constexpr int poison = 0xFF;    // a byte; floats of any type made of it are NaN, with bits that arithmetic never makes
constexpr Bytes stride(4096);   // of the words at which looks look
constexpr int arena_space = 0;  // the arena's space in Ordering; tier i is space i + 1
constexpr const char* stream_names[] = {"compute", "out", "in"};

// The cause of an access. Each has a number in the ordering.
struct What {
  enum Kind { operand, workspace, fixed, copy, given, freed, on_tier } kind;
  int number = 0;                    // the call or copy; for given and freed, the boundary
  plan::ResidencyIndex residency{};  // for operand, given and freed
  plan::TensorIndex tensor{};        // for on_tier
};

// A look at a tensor before or after a call.
struct Looked {
  plan::CallIndex call;
  const char* verb;
  const plan::Residency* residency;
  Bytes offset;
};

}  // namespace

Status ArenaBytes::fill(std::byte* to, Bytes bytes, int value) {
  std::memset(to, value, static_cast<std::size_t>(bytes.value()));
  return {};
}

Status ArenaBytes::look(const Look& look, std::int64_t number) {
  for (std::int64_t i = 0; i < look.count && !found_; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, look.from + i * look.stride.value(), sizeof word);
    if (word == ~std::uint64_t{0}) found_ = {number, i};
  }
  return {};
}

Result<std::optional<Found>> ArenaBytes::found() { return std::exchange(found_, {}); }

struct CheckedStep::Impl final : Compute, CopyEngine {
  Impl(const plan::Plan& plan, std::byte* arena, Compute& compute, CopyEngine& copies, ArenaBytes& bytes)
      : flow(plan.profile.flow),
        program(plan.program),
        arena(arena),
        inner_compute(compute),
        inner_copies(copies),
        memory(bytes),
        instances(flow),
        places(instances, program),
        begins(program.residencies, &plan::Residency::begin, program.calls.size()),
        ends(program.residencies, &plan::Residency::end, program.calls.size()),
        first_backward(std::ranges::find(program.calls, plan::Phase::backward, &plan::Call::phase) -
                       program.calls.begin()) {}

  // What Compute declares.
  Status run(plan::CallIndex call) override {
    enter(call);
    const plan::Call& what = program.calls[call];
    const plan::Operands operands = plan::operands(flow, instances, what);
    for (const plan::Operand& operand : operands.reads) use(call, operand, false);
    for (const plan::Operand& operand : operands.writes) use(call, operand, true);
    const Bytes workspace = program.transients[what.trace].bytes;
    record(Stream::compute, true, range(what.workspace, workspace), {What::workspace, call.value()});
    if (touches_fixed(what))
      for (const plan::Region& region : program.fixed)
        record(Stream::compute, true, range(region.offset, region.bytes), {What::fixed, call.value()});
    if (flow.segments[what.segment].stage == model::Stage::host_update)
      for (const plan::TierOperand& operand : plan::host_operands(flow, program, what))
        record(Stream::compute, operand.write,
               range(operand.offset, program.tensors[operand.tensor].bytes, operand.tier + 1),
               {.kind = What::on_tier, .number = call.value(), .tensor = operand.tensor});
    for (const plan::Operand& operand : operands.reads) look_for_poison(call, operand, "reads");
    if (!memory.waits() || changes_parameters(what)) settle();
    if (violation) return run_time_error(*violation);
    fill(what.workspace, workspace);
    const Status ran = inner_compute.run(call);
    for (const plan::Operand& operand : operands.writes)
      if (ran) look_for_poison(call, operand, "leaves");
    if (!memory.waits() || !ran || call.value() + 1 == first_backward) settle();
    return violation ? Status(run_time_error(*violation)) : ran;
  }

  // What CopyEngine declares.
  Ticket start(const CopyRequest& request, int i) override {
    enter(program.copies[at(i)].at);
    const bool out = request.direction == plan::Direction::out;
    const Stream stream = out ? Stream::out : Stream::in;
    ordering.join(stream, ordering.event(Stream::compute));
    const std::int64_t device = request.device - arena;
    record(stream, !out, range(Bytes(device), request.bytes), {What::copy, i});
    record(stream, out, range(request.tier_offset, request.bytes, request.tier + 1), {What::copy, i});
    const Ticket ticket = inner_copies.start(request, i);
    ended[ticket] = ordering.event(stream);
    return ticket;
  }
  Status wait(Ticket ticket) override {
    MEMO_CHECKED(inner_copies.wait(ticket));
    ordering.join(Stream::compute, ended.at(ticket));
    return {};
  }
  // Ends a play: memory of all tensors that are not held from step to step becomes free.
  Status drain() override {
    if (boundary.exists()) enter(boundary + 1);
    const Status drained = inner_copies.drain();
    settle();
    ordering.all_ended();
    whats.clear();
    ended.clear();
    for (const plan::Residency& r : program.residencies)
      if (boundary.exists() && r.origin != plan::Origin::held && r.begin < boundary && r.end > boundary) fill(r);
    boundary = plan::Boundary::none();
    if (!drained) return drained;
    return violation ? Status(run_time_error(*violation)) : Status();
  }
  void submit() override { inner_copies.submit(); }
  [[nodiscard]] double now() const override { return inner_copies.now(); }
  void note_moment() override { inner_copies.note_moment(); }
  std::vector<double> take_moments() override { return inner_copies.take_moments(); }
  std::vector<Span> take_spans(plan::Direction direction) override { return inner_copies.take_spans(direction); }

  // Lets slots change owners at boundary k, after compute's waits and before all else. Both the end and the begin of a
  // residency count as writes of the compute stream.
  void enter(plan::Boundary k) {
    if (k == boundary) return;
    boundary = k;
    for (const auto& [list, kind] : {std::pair(&ends, What::freed), {&begins, What::given}})
      for (const plan::ResidencyIndex r : list->at(k)) {
        const plan::Residency& residency = program.residencies[r];
        if (residency.origin == plan::Origin::held) continue;
        record(Stream::compute, true, range(residency.offset, bytes_of(residency)), {kind, k.value(), r});
        const bool zeroed = kind == What::given && residency.origin == plan::Origin::zeroed;
        fill(residency.offset, bytes_of(residency), zeroed ? 0 : poison);
      }
  }

  // Calls `visit` for each block of an operand with its residency and offset. A sequence is one buffer that begins with
  // block 0.
  template <class Visit>
  void each_block(plan::CallIndex call, const plan::Operand& operand, Visit visit) const {
    plan::Tensor tensor = instances.tensor(operand.tensor);
    Bytes offset = places.of(operand.tensor, call).offset;
    for (int i = 0; i < operand.blocks; ++i, ++tensor.block) {
      const plan::Residency& r = places.of(instances.of(tensor), call);
      visit(r, offset);
      offset += bytes_of(r);
    }
  }

  void use(plan::CallIndex call, const plan::Operand& operand, bool write) {
    each_block(call, operand, [&](const plan::Residency& r, Bytes offset) {
      const plan::ResidencyIndex number(static_cast<int>(&r - program.residencies.data()));
      record(Stream::compute, write, range(offset, bytes_of(r)), {What::operand, call.value(), number});
    });
  }

  // Looks at one word of each page, which is enough to see that a copy was not made or that a slot was given away.
  void look_for_poison(plan::CallIndex call, const plan::Operand& operand, const char* verb) {
    constexpr std::int64_t word = sizeof(std::uint64_t);
    each_block(call, operand, [&](const plan::Residency& r, Bytes offset) {
      if (violation || bytes_of(r).value() < word) return;
      const Look look{arena + offset.value(), stride, (bytes_of(r).value() - word) / stride.value() + 1};
      if (const Status looked = memory.look(look, static_cast<std::int64_t>(looks.size())); !looked)
        violation = looked.error().message;
      looks.push_back({call, verb, &r, offset});
    });
  }

  // Takes the first of what looks have found as the violation, if there is none before.
  void settle() {
    if (looks.empty()) return;
    const Result<std::optional<Found>> found = memory.found();
    const std::vector<Looked> all = std::exchange(looks, {});
    if (violation) return;
    if (!found) violation = found.error().message;
    if (!found || !*found) return;
    const Looked& at_poison = all[static_cast<std::size_t>((*found)->look)];
    violation = fmt::format(
        "check: {} {} {} without content: byte {} of the arena has the pattern of a slot that was freed or not filled",
        name_of_call(flow, program, at_poison.call), at_poison.verb, tensor(*at_poison.residency),
        (at_poison.offset + stride * (*found)->word).value());
  }

  [[nodiscard]] bool changes_parameters(const plan::Call& call) const {
    return model::changes_parameters(flow.segments[call.segment].stage);
  }
  [[nodiscard]] bool touches_fixed(const plan::Call& call) const {
    const model::Stage stage = flow.segments[call.segment].stage;
    return stage == model::Stage::embedding || stage == model::Stage::loss || stage == model::Stage::optimizer;
  }

  void fill(const plan::Residency& r) { fill(r.offset, bytes_of(r)); }
  // Does nothing after a violation, so that copies in flight still find their source.
  void fill(Bytes offset, Bytes bytes, int value = poison) {
    if (violation || bytes == Bytes(0)) return;
    if (const Status filled = memory.fill(arena + offset.value(), bytes, value); !filled)
      violation = filled.error().message;
    if (value == poison) poisoned += bytes;
  }

  [[nodiscard]] static Range range(Bytes offset, Bytes bytes, int space = arena_space) {
    return {space, offset.value(), (offset + bytes).value()};
  }
  [[nodiscard]] Bytes bytes_of(const plan::Residency& r) const { return program.tensors[r.tensor].bytes; }
  [[nodiscard]] std::string tensor(const plan::Residency& r) const {
    return name_of_tensor(flow, program.tensors[r.tensor]);
  }

  void record(Stream stream, bool write, const Range& where, const What& what) {
    const std::optional<Race> race = ordering.access(stream, write, where, static_cast<int>(whats.size()));
    whats.push_back(what);
    if (!race) return;
    settle();
    if (violation) return;
    violation =
        fmt::format("check: {} and {} race for bytes {} to {} of {}: no event orders the two", describe(race->first),
                    describe(race->second), race->where.begin, race->where.end,
                    race->where.space == arena_space ? "the arena" : fmt::format("tier {}", race->where.space - 1));
  }

  [[nodiscard]] std::string describe(const Access& access) const {
    const What& what = whats[at(access.what)];
    const char* verb = access.write ? "writes" : "reads";
    const plan::Residency* residency = &program.residencies[what.residency];
    std::string text;
    switch (what.kind) {
      case What::operand:
        text = fmt::format("{} {} {}", name_of_call(flow, program, plan::CallIndex(what.number)), verb,
                           tensor(*residency));
        break;
      case What::workspace:
        text = fmt::format("{} {} its workspace", name_of_call(flow, program, plan::CallIndex(what.number)), verb);
        break;
      case What::fixed:
        text = fmt::format("{} {} fixed memory", name_of_call(flow, program, plan::CallIndex(what.number)), verb);
        break;
      case What::copy:
        text = fmt::format("{} {}", name_of_copy(flow, program, at(what.number)), verb);
        break;
      case What::on_tier:
        text = fmt::format("{} {} {} on its tier", name_of_call(flow, program, plan::CallIndex(what.number)), verb,
                           name_of_tensor(flow, program.tensors[what.tensor]));
        break;
      case What::given:
      case What::freed:
        text = fmt::format("boundary {} {} the slot of {}", what.number, what.kind == What::given ? "gives" : "frees",
                           tensor(*residency));
        break;
    }
    return fmt::format("[{}] {}", stream_names[static_cast<std::size_t>(access.stream)], text);
  }

  const model::Dataflow& flow;
  const plan::Program& program;
  std::byte* const arena;
  Compute& inner_compute;
  CopyEngine& inner_copies;
  ArenaBytes& memory;
  const plan::Instances instances;
  const plan::Places places;
  const ByBoundary<plan::ResidencyIndex> begins, ends;
  const std::ptrdiff_t first_backward;  // number of the first call of backward

  Ordering ordering;
  std::vector<What> whats;
  std::unordered_map<Ticket, Clock> ended;           // clock of each copy that ended in this play
  plan::Boundary boundary = plan::Boundary::none();  // the last one that this play entered
  std::optional<std::string> violation;              // the first violation
  Bytes poisoned;
  std::vector<Looked> looks;  // since the last settle
};

CheckedStep::CheckedStep(const plan::Plan& plan, std::byte* arena, Compute& compute, CopyEngine& copies,
                         ArenaBytes& bytes)
    : impl_(std::make_unique<Impl>(plan, arena, compute, copies, bytes)) {}
CheckedStep::~CheckedStep() = default;

Compute& CheckedStep::compute() { return *impl_; }
CopyEngine& CheckedStep::copies() { return *impl_; }
CheckReport CheckedStep::report() const {
  return {impl_->ordering.accesses(), impl_->ordering.conflicts(), impl_->poisoned};
}

}  // namespace memo::exec
