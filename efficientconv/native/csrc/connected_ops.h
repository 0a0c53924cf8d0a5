// Convolutions over planned connections, on tensors, and their gradients.
#pragma once

#include "tensors.h"

namespace efficientconv {

inline Tensor convolve(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, int64_t kernel, at::TensorList plan,
                       int64_t outputs, const NormTensors& norm = NormTensors(), double eps = 0,
                       const MaybeTensor& residual = std::nullopt, bool relu = false) {
  const Shape shape = shape_of(x);
  TORCH_CHECK(outputs > 0, "efficientconv: no outputs");
  Tensor y = new_tensor({shape.images, outputs, shape.height, shape.width});
  if (y.numel() == 0) return y;
  const Folded folded(norm, eps, outputs);
  const Filters f = filters_of(filters, kernel, shape.channels);
  run_convolution(shape, data(x), f, arrays(plan, outputs, rows_of(f, shape.channels), weight), data(weight),
                  folded.output(data(residual, y.sizes()), relu), y.mutable_data_ptr<float>());
  return y;
}

inline Tensor weight_gradient(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, int64_t kernel,
                              at::TensorList plan, int64_t outputs, const Tensor& grad_output) {
  const Shape shape = shape_of(x);
  Tensor grad = new_tensor(weight.sizes());
  if (grad_output.numel() == 0) return grad.zero_();
  TORCH_CHECK(grad_output.numel() == shape.images * outputs * shape.height * shape.width && plan[3].dim() == 2,
              "efficientconv: gradient's shape, or a dense plan");
  const Filters f = filters_of(filters, kernel, shape.channels);
  run_weight_gradient(shape, data(x), f, arrays(plan, outputs, rows_of(f, shape.channels), grad), data(grad_output), grad.mutable_data_ptr<float>());
  return grad;
}

inline Tensor dense_weight_gradient(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, const Tensor& grad_output) {
  const Shape shape = shape_of(x);
  const int64_t outputs = weight.size(0);
  Tensor grad = new_tensor(weight.sizes());
  if (grad_output.numel() == 0) return grad.zero_();
  const Filters f = filters_of(filters, 1, shape.channels);
  TORCH_CHECK(grad_output.numel() == shape.images * outputs * shape.height * shape.width &&
                  weight.numel() == outputs * shape.channels * f.multiplier,
              "efficientconv: gradient's shape");
  run_dense_weight_gradient(shape, data(x), f, outputs, data(grad_output), grad.mutable_data_ptr<float>());
  return grad;
}

inline std::tuple<Tensor, Tensor> depthwise_backward(const Tensor& x, const Tensor& filters, const Tensor& grad_output,
                                                     const MaybeTensor& add) {
  const Shape shape = shape_of(x);
  Tensor grad_x = new_tensor(x.sizes()), grad_filters = at::zeros_like(filters);
  if (x.numel() == 0) return {grad_x, grad_filters};
  const Filters f = filters_of(filters, filters.size(2), shape.channels);
  TORCH_CHECK(grad_output.numel() == x.numel() * f.multiplier, "efficientconv: gradient's shape");
  run_depthwise_backward(shape, data(x), f, data(grad_output), data(add, x.numel()), grad_x.mutable_data_ptr<float>(),
                         grad_filters.mutable_data_ptr<float>());
  return {grad_x, grad_filters};
}

// The gradients of x, filters, weight, gamma and beta.
inline std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> sic_backward(
    const Tensor& grad_out, const Tensor& y, const Tensor& x, const Tensor& filters, const Tensor& weight, at::TensorList backward,
    const Tensor& mean, const Tensor& var, const MaybeTensor& gamma, const MaybeTensor& beta, double eps, bool residual) {
  const Shape shape = shape_of(x);
  const int64_t outputs = weight.size(0), rows = filters.size(0), size = shape.images * outputs * shape.height * shape.width;
  TORCH_CHECK(size > 0 && grad_out.numel() == size && y.numel() == size &&
                  weight.numel() == outputs * rows && (!residual || outputs == shape.channels),
              "efficientconv: gradient's shape");
  Tensor grad_x = new_tensor(x.sizes()), grad_filters = at::empty_like(filters), grad_weight = new_tensor(weight.sizes());
  Tensor grad_gamma = at::empty_like(mean), grad_beta = at::empty_like(mean);
  const NormedLayer layer{data(grad_out), data(y), data(mean, outputs), data(var, outputs), data(gamma, outputs),
                          data(beta, outputs), eps, residual};
  run_sic_backward(shape, data(x), filters_of(filters, 1, shape.channels), outputs, arrays(backward, rows, outputs, weight),
                   data(weight), layer,
                   {grad_x.mutable_data_ptr<float>(), grad_filters.mutable_data_ptr<float>(),
                    grad_weight.mutable_data_ptr<float>(), grad_gamma.mutable_data_ptr<float>(),
                    grad_beta.mutable_data_ptr<float>()});
  return {grad_x, grad_filters, grad_weight, grad_gamma, grad_beta};
}

}  // namespace efficientconv
