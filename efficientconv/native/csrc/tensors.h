// Tensors as what the kernels take. Shapes are checked where they guard the memory.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

#include "kernels.h"
#include "plan_check.h"
#include "pool.h"

namespace efficientconv {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

inline const float* data(const Tensor& t) {
  TORCH_CHECK(t.is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kFloat && t.is_contiguous() && !t.is_neg() &&
                  !t._is_zerotensor(),
              "efficientconv: expected a contiguous float32 tensor on the CPU");
  return t.const_data_ptr<float>();
}

inline const float* data(const MaybeTensor& t, int64_t numel) {
  TORCH_CHECK(!t || t->numel() == numel, "efficientconv: expected ", numel, " elements");
  return t ? data(*t) : nullptr;
}

// a residual: of the result's sizes
inline const float* data(const MaybeTensor& t, at::IntArrayRef sizes) {
  TORCH_CHECK(!t || t->sizes() == sizes, "efficientconv: expected maps of ", sizes);
  return t ? data(*t) : nullptr;
}

inline Shape shape_of(const Tensor& x) {
  TORCH_CHECK(x.dim() == 4, "efficientconv: expected B x C x H x W");
  return {x.size(0), x.size(1), x.size(2), x.size(3)};
}

// plan: tiles, segments, steps, weights of plan.py; for `outputs` of a convolution whose panels have `rows`
inline PlanArrays arrays(at::TensorList plan, int64_t outputs, int64_t rows, const Tensor& weight) {
  TORCH_CHECK(plan.size() == 4, "efficientconv: expected a plan of four tensors");
  const PlanNeeds needs = PlanChecks::needs(plan);
  const Tensor& weights = plan[3];
  const bool dense = weights.dim() == 1;  // two strides
  const int32_t* w = weights.const_data_ptr<int32_t>();
  const int64_t elements = dense ? (outputs - 1) * w[0] + (needs.tile_steps - 1) * w[1] + 1 : needs.weights;
  check_plan(needs.tiles == (outputs + kOutputs - 1) / kOutputs && needs.rows <= rows && elements <= weight.numel());
  return {outputs, needs.tiles, plan[2].size(0), plan[0].const_data_ptr<int32_t>(), plan[1].const_data_ptr<int32_t>(),
          plan[2].const_data_ptr<int32_t>(), dense ? nullptr : w, dense ? w[0] : 0, dense ? w[1] : 0};
}

inline void check_kernel(int64_t kernel) { TORCH_CHECK(kernel > 0 && kernel % 2 == 1, "efficientconv: expected an odd kernel"); }

inline Filters filters_of(const MaybeTensor& filters, int64_t kernel, int64_t channels) {
  if (!filters) return check_kernel(kernel), Filters{nullptr, kernel, 1};
  const Tensor& f = *filters;
  TORCH_CHECK(f.dim() == 4 && channels > 0 && f.size(0) > 0 && f.size(0) % channels == 0 && f.size(1) == 1 && f.size(2) == f.size(3),
              "efficientconv: filters for other channels");
  check_kernel(f.size(2));
  return {data(f), f.size(2), f.size(0) / channels};
}

// Rows of a panel that filters, or patches, fill.
inline int64_t rows_of(const Filters& filters, int64_t channels) {
  return channels * (filters.filters ? filters.multiplier : filters.kernel * filters.kernel);
}

inline MaybeTensor contiguous(const MaybeTensor& t) { return t ? MaybeTensor(t->contiguous()) : t; }

// What an operator is told of batch norm, (mean, var, gamma, beta) or nothing, as a scale and a bias. Gamma and beta may be None.
using NormTensors = c10::List<MaybeTensor>;

class Folded {
 public:
  Folded(const NormTensors& norm, double eps, int64_t channels) {
    TORCH_CHECK(norm.empty() || norm.size() == 4, "efficientconv: expected batch norm's mean, var, gamma and beta");
    if (norm.empty()) return;
    const MaybeTensor mean = contiguous(norm.get(0)), var = contiguous(norm.get(1)), gamma = contiguous(norm.get(2)),
                      beta = contiguous(norm.get(3));
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
