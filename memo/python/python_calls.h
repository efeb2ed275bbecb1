// The executor's calls of a layer (memo/plugin/layer_calls.h), made on a Python object; and the translation of failures
// and exceptions between C++ and Python.
#pragma once

#include <alloca.h>
#include <pybind11/stl.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "memo/base/result.h"
#include "memo/plugin/block_random.h"
#include "memo/plugin/layer_calls.h"

namespace memo::python {

namespace py = pybind11;
using namespace plugin;  // the bound classes

struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Infeasible : BadInput {
  using BadInput::BadInput;
};
struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void raise(const Error& error) {
  if (error.kind == ErrorKind::run_time) throw Failed(error.message);
  if (error.kind == ErrorKind::infeasible) throw Infeasible(error.message);
  throw BadInput(error.message);
}
template <class T>
T value(Result<T> result) {
  if (!result) raise(result.error());
  return *std::move(result);
}
inline void require(const Status& status) {
  if (!status) raise(status.error());
}

// A block that waits must lie deeper in the stack than any code that resumes it: a greenlet that is resumed takes back
// its part of the stack, and would move our objects there aside.
inline constexpr std::size_t stack_apart = 256 << 10;
__attribute__((noinline)) inline py::object call_deep(const py::object& function, const py::args& args) {
  auto* deep = static_cast<volatile char*>(alloca(stack_apart));
  deep[0] = 0;
  deep[stack_apart - 1] = 0;
  return function(*args);
}

// Runs `work` without Python's lock, which autograd's engine requires, and which lets other threads run.
template <class F>
auto unlocked(const F& work) {
  const py::gil_scoped_release no_lock;
  return work();
}

// Raises a Python exception again, also one that autograd has wrapped.
inline void raise_again(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const py::error_already_set&) {
    throw;
  } catch (python_error& error) {
    error.restore();
    throw py::error_already_set();
  } catch (const std::exception&) {  // of Memo or LibTorch: the failed call's text has its message
  }
}

// Calls an object with before(layer, block, x) -> (q, k, v, softcap, Mask), after(layer, block, o) -> (y,
// [extra_outputs]), begin_exchange(out, given), end_exchange(), forget() and ranks.
class PythonCalls final : public LayerCalls {
 public:
  explicit PythonCalls(py::object object) : object_(std::move(object)), ranks_(object_.attr("ranks").cast<int>()) {}
  AtAttention before(model::LayerIndex layer, model::BlockIndex block, const at::Tensor& x) override {
    const py::gil_scoped_acquire lock;
    const BlockRandom random(x.device(), block_seed(seed_, layer, block, 0));
    const py::tuple came = call_deep(object_.attr("before"), py::make_tuple(layer.value(), block.value(), x));
    drew_ = drew_ || random.drew();
    return {came[0].cast<at::Tensor>(), came[1].cast<at::Tensor>(), came[2].cast<at::Tensor>(), came[3].cast<float>(),
            came[4].cast<std::shared_ptr<libtorch::OwnMask>>()};
  }
  AtOutput after(model::LayerIndex layer, model::BlockIndex block, const at::Tensor& o) override {
    const py::gil_scoped_acquire lock;
    const BlockRandom random(o.device(), block_seed(seed_, layer, block, 1));
    const py::tuple came = object_.attr("after")(layer.value(), block.value(), o);
    drew_ = drew_ || random.drew();
    return {came[0].cast<at::Tensor>(), came[1].cast<std::vector<at::Tensor>>()};
  }
  [[nodiscard]] int ranks() const override { return ranks_; }
  void begin_exchange(const at::Tensor& out, const at::Tensor& in) override {
    const py::gil_scoped_acquire lock;
    object_.attr("begin_exchange")(out, in);
  }
  void end_exchange() override {
    const py::gil_scoped_acquire lock;
    object_.attr("end_exchange")();
  }
  void forget() override {
    const py::gil_scoped_acquire lock;
    // A session may end after Python's collector, or Python's own end, has taken the object apart.
    if (py::hasattr(object_, "forget")) object_.attr("forget")();
  }
  void failed(std::exception_ptr thrown) override {
    const py::gil_scoped_acquire lock;
    // Python's autograd engine leaves an exception both thrown and set.
    failure_ = PyErr_Occurred() ? std::make_exception_ptr(py::error_already_set()) : std::move(thrown);
  }

  // The object. It may refer back to the owner of this: a cycle that Python's collector must see. None once the
  // collector has cut the cycle.
  [[nodiscard]] py::object& object() { return object_; }
  // Sets the seed of the random numbers of following calls.
  void seed(std::uint64_t of_step) { seed_ = of_step; }
  // Whether any call drew random numbers.
  [[nodiscard]] bool drew() const { return drew_; }
  // The value of a result of these calls; raises the exception behind a failure.
  template <class T>
  T value_of(Result<T> result) {
    const std::exception_ptr thrown = std::exchange(failure_, nullptr);
    if (!result && thrown) raise_again(thrown);
    return value(std::move(result));
  }

 private:
  std::uint64_t seed_ = 0;
  bool drew_ = false;
  std::exception_ptr failure_;
  py::object object_;
  int ranks_;
};

// The C++ value of a Python object, null before it is constructed.
template <class T>
T* made(PyObject* self) {
  auto holder = reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder();
  return holder.holder_constructed() ? holder.value_ptr<T>() : nullptr;
}
// For a class whose C++ value has `calls`: tells Python's collector about the Python object they refer to.
template <class T>
py::custom_type_setup collected() {
  return py::custom_type_setup([](PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
      Py_VISIT(Py_TYPE(self));
      if (T* value = made<T>(self)) Py_VISIT(value->calls->object().ptr());
      return 0;
    };
    type.tp_clear = [](PyObject* self) {
      if (T* value = made<T>(self)) value->calls->object() = py::none();
      return 0;
    };
  });
}

}  // namespace memo::python
