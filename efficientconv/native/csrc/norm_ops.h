// Batch norm with its end, on tensors.
#pragma once

#include "tensors.h"
#include "vec.h"

namespace efficientconv {

inline float* written(const Tensor& t, int64_t numel) {
  data(t);
  TORCH_CHECK(t.numel() == numel, "efficientconv: expected ", numel, " elements");
  if (!t.is_inference()) t.unsafeGetTensorImpl()->bump_version();
  return t.mutable_data_ptr<float>();
}

// As nn.BatchNorm2d does in training: a moving average of the mean and the unbiased variance of `count` positions, or without a
// momentum the average of all batches. In one go: five small operators take longer than many a layer.
inline void track_statistics(const Tensor& mean, const Tensor& var, int64_t count, std::optional<double> momentum,
                             const Tensor& running_mean, const Tensor& running_var, const Tensor& batches) {
  const int64_t channels = mean.numel();
  TORCH_CHECK(count > 1 && batches.scalar_type() == at::kLong && batches.numel() == 1 && batches.is_cpu(),
              "efficientconv: batches to count, of more than one position");
  const float *m = data(mean), *v = data(var, channels);
  const Tensor kept_mean = running_mean.contiguous(), kept_var = running_var.contiguous();  // mostly they are
  float *to_mean = written(kept_mean, channels), *to_var = written(kept_var, channels);
  if (!batches.is_inference()) batches.unsafeGetTensorImpl()->bump_version();
  const int64_t seen = ++*batches.mutable_data_ptr<int64_t>();
  const float share = static_cast<float>(momentum.value_or(1. / static_cast<double>(seen)));
  const float unbiased = static_cast<float>(static_cast<double>(count) / static_cast<double>(count - 1));
  for (int64_t c = 0; c < channels; ++c) {
    to_mean[c] = (1 - share) * to_mean[c] + share * m[c];
    to_var[c] = (1 - share) * to_var[c] + share * (v[c] * unbiased);
  }
  if (!running_mean.is_contiguous()) running_mean.copy_(kept_mean);
  if (!running_var.is_contiguous()) running_var.copy_(kept_var);
}

inline at::MemoryFormat format_of(const Tensor& y) {
  const bool last = !y.is_contiguous() && y.size(1) % kLanes == 0;
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// Maps of batch norm: of y's size and order.
inline const float* maps_data(const Tensor& t, const Tensor& y) {
  TORCH_CHECK(t.is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kFloat && !t.is_neg() && !t._is_zerotensor() &&
                  t.sizes() == y.sizes() && t.is_contiguous(format_of(y)),
              "efficientconv: expected float32 maps of one size and order, channels-last only of whole vectors of channels");
  return t.const_data_ptr<float>();
}

inline std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& y, const MaybeTensor& residual, const MaybeTensor& gamma,
                                                     const MaybeTensor& beta, double eps) {
  const Shape shape = shape_of(y);
  TORCH_CHECK(y.numel() > 0, "efficientconv: batch norm of nothing");
  Tensor out = new_tensor(y.sizes(), format_of(y)), mean = new_tensor({shape.channels}), var = new_tensor({shape.channels});
  run_batch_norm_forward(shape, y.is_contiguous(), maps_data(y, y), residual ? maps_data(*residual, y) : nullptr,
                         data(gamma, shape.channels), data(beta, shape.channels), eps, out.mutable_data_ptr<float>(),
                         mean.mutable_data_ptr<float>(), var.mutable_data_ptr<float>());
  return {out, mean, var};
}

// grad_residual: empty where nobody asks for it, which spares a map
inline std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(const Tensor& grad_out, const Tensor& out, const Tensor& y,
                                                                      const Tensor& mean, const Tensor& var,
                                                                      const MaybeTensor& gamma, double eps, bool residual) {
  const Shape shape = shape_of(y);
  Tensor grad_y = new_tensor(y.sizes(), format_of(y));
  Tensor grad_residual = residual ? new_tensor(y.sizes(), format_of(y)) : at::empty({0}, at::kFloat);
  Tensor grad_gamma = at::empty_like(mean), grad_beta = at::empty_like(mean);
  float* passed = residual ? grad_residual.mutable_data_ptr<float>() : grad_y.mutable_data_ptr<float>();
  run_batch_norm_backward(shape, y.is_contiguous(), maps_data(grad_out, y), maps_data(out, y), maps_data(y, y),
                          data(mean, shape.channels), data(var, shape.channels), data(gamma, shape.channels), eps, passed,
                          grad_y.mutable_data_ptr<float>(), grad_gamma.mutable_data_ptr<float>(),
                          grad_beta.mutable_data_ptr<float>());
  return {grad_residual, grad_y, grad_gamma, grad_beta};
}

}  // namespace efficientconv
