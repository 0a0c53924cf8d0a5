// Tensors as what the kernels take. Shapes are checked where they guard the memory.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

#include "kernels.h"
#include "pool.h"

namespace efficientconv {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

inline const float* data(const Tensor& t) {
  TORCH_CHECK(t.is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous(), "efficientconv: expected a contiguous ",
              "float32 tensor on the CPU");
  return t.const_data_ptr<float>();
}

inline const float* data(const MaybeTensor& t, int64_t numel) {
  TORCH_CHECK(!t || t->numel() == numel, "efficientconv: expected ", numel, " elements");
  return t ? data(*t) : nullptr;
}

inline Shape shape_of(const Tensor& x) {
  TORCH_CHECK(x.dim() == 4, "efficientconv: expected B x C x H x W");
  return {x.size(0), x.size(1), x.size(2), x.size(3)};
}

// plan: tiles, segments, steps, weights of plan.py
inline PlanArrays arrays(at::TensorList plan, int64_t outputs) {
  TORCH_CHECK(plan.size() == 4, "efficientconv: expected a plan of four tensors");
  for (const Tensor& t : plan) TORCH_CHECK(t.scalar_type() == at::kInt && t.is_contiguous(), "efficientconv: int32 plans");
  const Tensor& weights = plan[3];
  const bool dense = weights.dim() == 1;  // two strides
  const int32_t* w = weights.const_data_ptr<int32_t>();
  return {outputs, plan[0].numel() - 1, plan[2].size(0), plan[0].const_data_ptr<int32_t>(), plan[1].const_data_ptr<int32_t>(),
          plan[2].const_data_ptr<int32_t>(), dense ? nullptr : w, dense ? w[0] : 0, dense ? w[1] : 0};
}

inline Filters filters_of(const MaybeTensor& filters, int64_t kernel, int64_t channels) {
  if (!filters) return {nullptr, kernel, 1};
  TORCH_CHECK(filters->size(0) % channels == 0, "efficientconv: filters for other channels");
  return {data(*filters), filters->size(2), filters->size(0) / channels};
}

// What an operator is told of batch norm, (mean, var, gamma, beta) or nothing, as a scale and a bias. Gamma and beta may be None.
using NormTensors = c10::List<MaybeTensor>;

class Folded {
 public:
  Folded(const NormTensors& norm, double eps, int64_t channels) {
    TORCH_CHECK(norm.empty() || norm.size() == 4, "efficientconv: expected batch norm's mean, var, gamma and beta");
    if (norm.empty()) return;
    const MaybeTensor mean = norm.get(0), var = norm.get(1), gamma = norm.get(2), beta = norm.get(3);
    const float *m = data(mean, channels), *v = data(var, channels), *g = data(gamma, channels), *b = data(beta, channels);
    TORCH_CHECK(m && v, "efficientconv: batch norm without statistics");
    values_.resize(2 * channels);
    for (int64_t c = 0; c < channels; ++c) {
      const double scale = (g ? g[c] : 1.) / std::sqrt(v[c] + eps);
      values_[c] = static_cast<float>(scale);
      values_[channels + c] = static_cast<float>((b ? b[c] : 0.) - m[c] * scale);
    }
  }
  Output output(const float* residual, bool relu) const {
    const float* scale = values_.empty() ? nullptr : values_.data();
    return {scale, scale ? scale + values_.size() / 2 : nullptr, residual, relu};
  }

 private:
  std::vector<float> values_;
};

}  // namespace efficientconv
