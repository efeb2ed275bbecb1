// memo._core: the executor and planner for the Python package (python/memo). A failure is BadInput, a ValueError, where
// the input was bad or nothing fits, and otherwise Failed, a RuntimeError; an exception of a layer's own code passes
// through unchanged.
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

#include <map>
#include <memory>
#include <optional>

#include "memo/base/file.h"
#include "memo/base/text.h"
#include "memo/base/version.h"
#include "memo/check/validate.h"
#include "memo/libtorch/measure/block_time.h"
#include "memo/libtorch/memory/device_kind.h"
#include "memo/model/device_sizes.h"
#include "memo/planner/planner.h"
#include "memo/plugin/layer_profiler.h"
#include "memo/plugin/layer_session.h"
#include "memo/plugin/session_memory.h"
#include "memo/python/python_calls.h"
#include "memo/report/page.h"

namespace py = pybind11;

namespace memo::python {
namespace {

// Opened once for tensors at `place`, and never closed: sessions that Python ends at exit still use it.
libtorch::Device& device_at(at::Device place) {
  static auto& opened = *new std::map<std::pair<at::DeviceType, int>, std::unique_ptr<libtorch::Device>>;
  auto& device = opened[{place.type(), place.has_index() ? place.index() : 0}];
  if (!device) device = value(libtorch::open_device(place));
  return *device;
}

job::MemoryLimits limits(std::int64_t host, const std::optional<std::string>& disk, std::int64_t disk_limit) {
  job::MemoryLimits memory;
  memory.host_limit = Bytes(host);
  if (disk) memory.disk = Path(*disk);
  memory.disk_limit = Bytes(disk_limit);
  return memory;
}

struct Profiler {
  libtorch::Device& device;
  std::unique_ptr<PythonCalls> calls;
  LayerProfiler profiler;
};

struct Session {
  std::unique_ptr<PythonCalls> calls;
  std::unique_ptr<LayerSession> session;
};

// An undefined tensor becomes None.
py::list list_of(const std::vector<at::Tensor>& tensors) {
  py::list result;
  for (const at::Tensor& tensor : tensors) result.append(tensor.defined() ? py::cast(tensor) : py::none());
  return result;
}

py::dict describe(const plan::Plan& plan) {
  py::dict result;
  result["strategy"] = plan.strategy;
  result["context"] = plan.profile.flow.context.value();
  result["block"] = plan.profile.flow.block.value();
  result["attention"] = plan.profile.attention;
  result["device_peak"] = plan.predicted.device_peak.value();
  result["device_lower_bound"] = plan.predicted.device_lower_bound.value();
  result["step_seconds"] = plan.predicted.step.value();
  result["stall_seconds"] = plan.predicted.stall.value();
  result["bytes_out"] = plan.predicted.bytes_out.value();
  result["bytes_in"] = plan.predicted.bytes_in.value();
  return result;
}

}  // namespace
}  // namespace memo::python

PYBIND11_MODULE(_core, module) {
  using namespace memo;
  using namespace memo::plugin;
  using namespace memo::python;
  // LibTorch's C++ interface changes between minor versions, sometimes without a missing symbol that would show it.
  const std::string built_for = std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR);
  const auto here = py::module_::import("torch").attr("__version__").cast<std::string>();
  if (!here.starts_with(built_for + ".")) throw py::import_error("built for torch " + built_for);
  module.attr("version") = std::string(memo::version);
  module.def("strategies", &planner::strategies);
  module.def(
      "parse_bytes", [](const std::string& text) { return value(memo::parse_bytes(text)).value(); }, py::arg("text"));
  module.def(
      "format_bytes", [](std::int64_t bytes) { return memo::format_bytes(Bytes(bytes)); }, py::arg("bytes"));
  module.def(
      "blocks",
      [](at::Device place, std::int64_t context) {
        std::vector<std::int64_t> blocks;
        for (const Tokens block : libtorch::sizes_of(device_at(place)).blocks(Tokens(context)))
          blocks.push_back(block.value());
        return blocks;
      },
      py::arg("place"), py::arg("context"));
  module.def(
      "best_block",
      [](const std::map<std::int64_t, double>& seconds_per_token) {
        std::vector<model::BlockTime> measured;
        for (const auto& [block, seconds] : seconds_per_token) measured.push_back({Tokens(block), Seconds(seconds)});
        return model::best_block(measured).value();
      },
      py::arg("seconds_per_token"));
  module.def(
      "open_device", [](at::Device place) { device_at(place); }, py::arg("place"));
  module.def("attention_refusal", &attention_refusal, py::arg("place"), py::arg("dtype"), py::arg("softcap"),
             py::arg("head_dim"));
  module.def(
      "one_document_matters",
      [](at::Device place, const std::string& kernel, std::int64_t context) {
        return one_document_matters(place, kernel, Tokens(context));
      },
      py::arg("place"), py::arg("kernel"), py::arg("context"));
  // The bytes that a plan may take on the device now; 0: as many as it wants.
  module.def(
      "room", [](at::Device place) { return value(device_at(place).room()).value_or(Bytes(0)).value(); },
      py::arg("place"));

  py::class_<plan::Plan>(module, "Plan")
      .def("describe", &describe)
      .def(
          "save", [](const plan::Plan& plan, const std::string& path) { require(plan::write_plan(plan, path)); },
          py::arg("path"))
      .def_static(
          "load", [](const std::string& path) { return value(plan::read_plan(path)); }, py::arg("path"))
      .def("check", [](const plan::Plan& plan) { return check::validate(plan); });

  const auto bad_input = py::register_exception<BadInput>(module, "BadInput", PyExc_ValueError);
  py::register_exception<Infeasible>(module, "Infeasible", bad_input);
  py::register_exception<Failed>(module, "Failed", PyExc_RuntimeError);
  py::class_<plan::Profile>(module, "Profile").def_readonly("attention", &plan::Profile::attention);
  module.def(
      "make_plan",
      [](const plan::Profile& profile, const std::string& strategy, std::int64_t device_limit) {
        return value(unlocked([&] { return planner::make_plan(profile, {strategy, Bytes(device_limit), 0}); }));
      },
      py::arg("profile"), py::arg("strategy"), py::arg("device_limit"));

  py::class_<LayerOptions>(module, "LayerOptions")
      .def(py::init([](const std::string& model, std::int64_t hidden_size, std::int64_t heads, std::int64_t kv_heads,
                       std::int64_t head_dim, int groups, std::int64_t block, std::int64_t host_limit,
                       const std::optional<std::string>& disk, std::int64_t disk_limit,
                       const std::vector<std::int64_t>& windows, const std::string& kernel, at::ScalarType dtype,
                       at::ScalarType attention, const std::vector<int>& kinds, const std::vector<bool>& data_dependent,
                       int forward_layers) {
             const int layers = static_cast<int>(kinds.size());
             return LayerOptions{
                 model,
                 {layers, hidden_size, heads, kv_heads, head_dim, kinds, data_dependent, forward_layers},
                 {dtype, attention},
                 groups,
                 Tokens(block),
                 limits(host_limit, disk, disk_limit),
                 kernel,
                 windows};
           }),
           py::kw_only(), py::arg("model"), py::arg("hidden_size"), py::arg("heads"), py::arg("kv_heads"),
           py::arg("head_dim"), py::arg("groups"), py::arg("block"), py::arg("host_limit"), py::arg("disk"),
           py::arg("disk_limit"), py::arg("windows"), py::arg("kernel"), py::arg("dtype"), py::arg("attention"),
           py::arg("kinds"), py::arg("data_dependent"), py::arg("forward_layers"));

  // Returns (before, after, whether random numbers were drawn) for layer 0 of the calls (memo/plugin/layer_profiler.h).
  module.def(
      "trace_layer",
      [](const LayerOptions& options, const at::Tensor& hidden, const std::vector<at::Tensor>& parameters,
         const py::object& calls) {
        PythonCalls python(calls);
        libtorch::Device& device = device_at(hidden.device());
        const LayerTraces traces = python.value_of(unlocked([&] {
          return trace_layer(options, {hidden, parameters}, python, device);
        }));
        return py::make_tuple(traces.before, traces.after, python.drew());
      },
      py::arg("options"), py::arg("hidden"), py::arg("parameters"), py::arg("calls"));

  py::class_<SessionMemory>(module, "SessionMemory").def(py::init<>()).def("free", &SessionMemory::free);
  py::class_<Profiler>(module, "Profiler", collected<Profiler>())
      .def(py::init([](const LayerOptions& options, const std::vector<at::Tensor>& hidden,
                       const std::vector<std::vector<at::Tensor>>& parameters, const py::object& calls) {
             auto python = std::make_unique<PythonCalls>(calls);
             libtorch::Device& device = device_at(hidden.at(0).device());
             std::vector<LayerExample> examples;
             for (std::size_t kind = 0; kind < hidden.size(); ++kind)
               examples.push_back({hidden[kind], parameters.at(kind)});
             LayerProfiler profiler = python->value_of(
                 unlocked([&] { return LayerProfiler::open(options, std::move(examples), *python, device); }));
             return new Profiler{device, std::move(python), std::move(profiler)};
           }),
           py::arg("options"), py::arg("hidden"), py::arg("parameters"), py::arg("calls"))
      .def_property_readonly("seconds_per_token",
                             [](const Profiler& profiler) { return profiler.profiler.seconds_per_token().value(); })
      .def(
          "profile",
          [](Profiler& profiler, std::int64_t context, const std::string& kernel, bool documents) {
            return profiler.calls->value_of(
                unlocked([&] { return profiler.profiler.profile(Tokens(context), kernel, documents); }));
          },
          py::arg("context"), py::arg("kernel"), py::arg("documents"))
      .def(
          "try_layer",
          [](Profiler& profiler, int kind, const py::object& calls, const at::Tensor& hidden,
             const std::optional<at::Tensor>& d_output, const std::vector<at::Tensor>& parameters) -> py::tuple {
            PythonCalls python(calls);
            LayerTrial trial = python.value_of(unlocked([&] {
              return profiler.profiler.try_layer(kind, python, hidden, d_output.value_or(at::Tensor()), parameters);
            }));
            if (!d_output) return py::make_tuple(trial.outputs.hidden);
            return py::make_tuple(trial.outputs.hidden, trial.gradients.hidden, list_of(trial.gradients.parameters));
          },
          py::arg("kind"), py::arg("calls"), py::arg("hidden"), py::arg("d_output"), py::arg("parameters"))
      .def(
          "open",
          [](Profiler& profiler, const plan::Plan& plan, const py::object& calls, SessionMemory& memory,
             std::int64_t most, bool watch) {
            auto python = std::make_unique<PythonCalls>(calls);
            const LayerOptions& options = profiler.profiler.options();
            const auto take = [&](const plan::Plan& of) {
              return memory.take(of, options.memory, profiler.device, Bytes(most));
            };
            auto session =
                value(LayerSession::open(plan, options.shape, options.dtype, take, *python, profiler.device, watch));
            return std::unique_ptr<Session>(new Session{std::move(python), std::move(session)});
          },
          py::arg("plan"), py::arg("calls"), py::arg("memory"), py::arg("most"), py::arg("watch"));

  py::class_<libtorch::OwnMask, std::shared_ptr<libtorch::OwnMask>>(module, "Mask")
      .def(py::init([](std::vector<std::int64_t> document_starts, std::int64_t window,
                       const std::optional<at::Tensor>& hidden, std::int64_t row) {
             libtorch::OwnMask mask{std::move(document_starts), window, {}, row};
             if (hidden) {
               const at::Tensor bytes = hidden->to(at::kCPU, at::kByte).contiguous();
               mask.hidden.assign(bytes.data_ptr<std::uint8_t>(), bytes.data_ptr<std::uint8_t>() + bytes.numel());
             }
             return mask;
           }),
           py::kw_only(), py::arg("document_starts"), py::arg("window") = 0, py::arg("hidden") = py::none(),
           py::arg("row") = 0)
      .def(
          "with_window",
          [](const libtorch::OwnMask& mask, std::int64_t window) {
            libtorch::OwnMask result = mask;
            result.window = window;
            return result;
          },
          py::arg("window"))
      .def_readonly("document_starts", &libtorch::OwnMask::document_starts)
      .def_readonly("window", &libtorch::OwnMask::window)
      .def_readonly("hidden", &libtorch::OwnMask::hidden);

  py::class_<Session>(module, "Session", collected<Session>())
      .def(
          "forward",
          [](Session& s, int layer, const at::Tensor& hidden, std::uint64_t seed) {
            s.calls->seed(seed);
            LayerOutputs outputs =
                s.calls->value_of(unlocked([&] { return s.session->forward(model::LayerIndex(layer), hidden); }));
            return py::make_tuple(outputs.hidden, list_of(outputs.extra_outputs));
          },
          py::arg("layer"), py::arg("hidden"), py::arg("seed"))
      .def(
          "backward",
          [](Session& s, int layer, const at::Tensor& d_output, const std::vector<at::Tensor>& d_extra_outputs,
             const std::vector<at::Tensor>& parameters) {
            LayerGradients result = s.calls->value_of(unlocked(
                [&] { return s.session->backward(model::LayerIndex(layer), d_output, d_extra_outputs, parameters); }));
            return py::make_tuple(result.hidden, list_of(result.parameters));
          },
          py::arg("layer"), py::arg("d_output"), py::arg("d_extra_outputs"), py::arg("parameters"))
      .def("close", [](Session& s) { s.session->close(); })
      .def_property_readonly("drew", [](const Session& s) { return s.calls->drew(); })
      .def_property_readonly("step", [](const Session& s) { return s.session->step(); })
      .def_property_readonly("device_peak", [](const Session& s) { return s.session->device_peak().value(); })
      .def_property_readonly(
          "departures",
          [](const Session& s) { return py::make_tuple(s.session->departure_count(), s.session->departures()); })
      .def_property_readonly("check",
                             [](const Session& s) -> py::object {
                               const auto& check = s.session->check();
                               if (!check) return py::none();
                               py::dict result;
                               result["accesses"] = check->accesses;
                               result["conflicts"] = check->conflicts;
                               result["poisoned_bytes"] = check->poisoned.value();
                               return result;
                             })
      .def_property_readonly("last", [](const Session& s) -> py::object {
        const auto& report = s.session->report();
        if (!report) return py::none();
        py::dict result;
        result["seconds"] = report->step.value();
        result["stall_seconds"] = report->stall.value();
        result["bytes_out"] = report->bytes_out.value();
        result["bytes_in"] = report->bytes_in.value();
        double compute = 0;
        for (const exec::Span& span : report->calls) compute += span.end - span.start;
        result["compute_seconds"] = compute;
        return result;
      });

  module.def(
      "report",
      [](const std::string& plan, const std::string& page) {
        const report::Subject subject = value(report::read_subject(plan));
        require(replace_file(page, report::page({subject}), report::page_kind));
      },
      py::arg("plan"), py::arg("page"));
}
