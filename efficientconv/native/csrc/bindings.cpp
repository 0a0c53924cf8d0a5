// What Python calls. Checks of shape and type are the caller's (functions.py); here are those that guard the memory.
#include "parallel.h"
// first: the kernels use its parallel()
#include <torch/extension.h>

#include "connections.h"

namespace efficientconv {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

const float* data(const Tensor& t) {
  TORCH_CHECK(t.is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous(), "a contiguous CPU float32 tensor, please");
  return t.const_data_ptr<float>();
}

const float* data(const MaybeTensor& t) { return t ? data(*t) : nullptr; }

struct PlanTensors {
  Tensor tiles, segments, steps, weights;
  int64_t outputs;

  PlanView view() const {
    return {outputs, tiles.numel() - 1, steps.size(0), tiles.const_data_ptr<int32_t>(),
            reinterpret_cast<const Segment*>(segments.const_data_ptr<int32_t>()), steps.const_data_ptr<int32_t>(),
            weights.const_data_ptr<int32_t>()};
  }
};

Maps maps_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2), x.size(3)}; }

// calls f(planes, blocking) with the planes that the projection reads: x itself, or its depthwise convolution
template <class F>
void with_planes(const Tensor& x, const MaybeTensor& filters, int64_t kernel, F f) {
  const Maps maps = maps_of(x);
  if (!filters) {
    const ShiftedPlanes planes{maps, data(x), kernel};
    f(planes, choose_blocking(maps, planes.planes(), planes.halo(), planes.joins_images()));
    return;
  }
  const Blocking blocking = choose_blocking(maps, maps.channels, 0, true);
  const int64_t stride = blocking.rows * maps.width + kLanes;
  std::vector<int32_t> masks(kernel * stride);
  make_column_masks(kernel, maps.width, stride, masks.data());
  f(DepthwisePlanes{maps, data(x), data(*filters), kernel, masks.data(), stride}, blocking);
}

Tensor convolve_maps(const Tensor& x, const MaybeTensor& filters, int64_t kernel, const PlanTensors& plan,
                     const Tensor& weight, const MaybeTensor& scale, const MaybeTensor& bias,
                     const MaybeTensor& residual, bool relu) {
  Tensor y = at::empty({x.size(0), plan.outputs, x.size(2), x.size(3)}, x.options());
  if (y.numel() == 0) return y;
  const Epilogue epilogue{data(scale), data(bias), data(residual), relu};
  with_planes(x, filters, kernel, [&](const auto& planes, const Blocking& blocking) {
    convolve(planes, blocking, plan.view(), data(weight), epilogue, y.data_ptr<float>());
  });
  return y;
}

Tensor gradient_of_weight(const Tensor& x, const MaybeTensor& filters, int64_t kernel, const PlanTensors& plan,
                          const Tensor& weight, const Tensor& grad_output) {
  Tensor grad = at::zeros_like(weight);
  if (x.numel() == 0) return grad;
  with_planes(x, filters, kernel, [&](const auto& planes, const Blocking& blocking) {
    weight_gradient(planes, blocking, plan.view(), data(grad_output), grad.data_ptr<float>());
  });
  return grad;
}

}  // namespace
}  // namespace efficientconv

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace ec = efficientconv;
  pybind11::class_<ec::PlanTensors>(m, "Plan").def(
      pybind11::init<at::Tensor, at::Tensor, at::Tensor, at::Tensor, int64_t>());
  const auto no_gil = pybind11::call_guard<pybind11::gil_scoped_release>();
  m.def("convolve", &ec::convolve_maps, no_gil);
  m.def("weight_gradient", &ec::gradient_of_weight, no_gil);
}
