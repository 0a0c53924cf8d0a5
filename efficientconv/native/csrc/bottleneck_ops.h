// Spatial bottlenecks, on tensors: reduction onto cells, expansion, and their gradients.
#pragma once

#include "tensors.h"

namespace efficientconv {

inline int64_t cells_of(int64_t size, int64_t kernel, int64_t padding) { return (size + padding + kernel - 1) / kernel; }

// and returns their kernel
inline int64_t check_cell_filters(const Tensor& filters, int64_t channels, int64_t padding) {
  const int64_t kernel = filters.dim() == 4 ? filters.size(3) : 0;
  TORCH_CHECK(kernel > 0 && padding >= 0 && padding < kernel && filters.size(2) == kernel &&
                  filters.numel() == channels * kernel * kernel,
              "efficientconv: filters for other channels, or no grid of cells");
  return kernel;
}

inline void check_cells(const Tensor& cells, const Tensor& filters, const Shape& maps, int64_t padding) {
  const int64_t kernel = check_cell_filters(filters, maps.channels, padding);
  const Shape found = shape_of(cells);
  TORCH_CHECK(found.images == maps.images && found.channels == maps.channels &&
                  found.height == cells_of(maps.height, kernel, padding) && found.width == cells_of(maps.width, kernel, padding),
              "efficientconv: cells that do not cover the maps");
}

inline Tensor reduce(const Tensor& x, const Tensor& filters, int64_t padding) {
  const Shape shape = shape_of(x);
  const int64_t kernel = check_cell_filters(filters, shape.channels, padding);
  Tensor cells = new_tensor(
      {shape.images, shape.channels, cells_of(shape.height, kernel, padding), cells_of(shape.width, kernel, padding)});
  run_reduce(shape, kernel, padding, data(x), data(filters), cells.mutable_data_ptr<float>());
  return cells;
}

inline Tensor expand(const Tensor& cells, const Tensor& filters, int64_t padding, int64_t height, int64_t width,
                     const NormTensors& norm = NormTensors(), double eps = 0, const MaybeTensor& residual = std::nullopt,
                     bool relu = false) {
  TORCH_CHECK(height >= 0 && width >= 0, "efficientconv: maps of no size");
  const Shape shape{shape_of(cells).images, cells.size(1), height, width};
  check_cells(cells, filters, shape, padding);
  Tensor y = new_tensor({shape.images, shape.channels, height, width});
  const Folded folded(norm, eps, shape.channels);
  run_expand(shape, filters.size(-1), padding, data(cells), data(filters), folded.output(data(residual, y.sizes()), relu),
             y.mutable_data_ptr<float>());
  return y;
}

inline Tensor cell_filter_gradient(const Tensor& cells, const Tensor& maps, const Tensor& filters, int64_t padding) {
  const Shape shape = shape_of(maps);
  check_cells(cells, filters, shape, padding);
  Tensor grad = at::zeros_like(filters);
  run_cell_filter_gradient(shape, filters.size(-1), padding, data(cells), data(maps), grad.mutable_data_ptr<float>());
  return grad;
}

inline std::tuple<Tensor, Tensor> cell_statistics(const Tensor& cells, const Tensor& filters, int64_t padding, int64_t height,
                                                  int64_t width) {
  const Shape shape{cells.size(0), cells.size(1), height, width};
  TORCH_CHECK(cells.numel() > 0, "efficientconv: statistics of nothing");
  check_cells(cells, filters, shape, padding);
  Tensor mean = new_tensor({shape.channels}), var = new_tensor({shape.channels});
  run_cell_statistics(shape, filters.size(-1), padding, data(cells), data(filters), mean.mutable_data_ptr<float>(),
                      var.mutable_data_ptr<float>());
  return {mean, var};
}

inline std::tuple<Tensor, Tensor, Tensor, Tensor> expand_backward(const Tensor& grad_out, const Tensor& out, const Tensor& cells,
                                                                  const Tensor& filters, int64_t padding, const Tensor& mean,
                                                                  const Tensor& var, const MaybeTensor& gamma, double eps) {
  const Shape shape = shape_of(out);
  check_cells(cells, filters, shape, padding);
  TORCH_CHECK(grad_out.numel() == out.numel() && cells.size(0) == shape.images, "efficientconv: gradient's shape");
  Tensor grad_cells = new_tensor(cells.sizes()), grad_filters = new_tensor(filters.sizes());
  Tensor grad_gamma = at::empty_like(mean), grad_beta = at::empty_like(mean);
  run_expand_backward(shape, filters.size(-1), padding, data(grad_out), data(out), data(cells), data(filters),
                      data(mean, shape.channels), data(var, shape.channels), data(gamma, shape.channels), eps,
                      grad_cells.mutable_data_ptr<float>(), grad_filters.mutable_data_ptr<float>(),
                      grad_gamma.mutable_data_ptr<float>(), grad_beta.mutable_data_ptr<float>());
  return {grad_cells, grad_filters, grad_gamma, grad_beta};
}

inline std::tuple<Tensor, Tensor> reduce_backward(const Tensor& x, const Tensor& filters, int64_t padding, const Tensor& grad_cells,
                                                  const MaybeTensor& grad_out, const MaybeTensor& out) {
  const Shape shape = shape_of(x);
  check_cells(grad_cells, filters, shape, padding);
  TORCH_CHECK(grad_out.has_value() == out.has_value() && grad_cells.size(0) == shape.images, "efficientconv: gradient's shape");
  Tensor grad_x = new_tensor(x.sizes()), grad_filters = new_tensor(filters.sizes());
  run_reduce_backward(shape, filters.size(-1), padding, data(x), data(filters), data(grad_cells), data(grad_out, x.numel()),
                      data(out, x.numel()), grad_x.mutable_data_ptr<float>(), grad_filters.mutable_data_ptr<float>());
  return {grad_x, grad_filters};
}

inline Tensor bottleneck(const Tensor& x, const Tensor& reduce_filters, const Tensor& weight, const Tensor& expand_filters,
                         int64_t padding, at::TensorList plan, int64_t outputs, const NormTensors& norm, double eps,
                         const MaybeTensor& residual, bool relu) {
  const Shape shape = shape_of(x);
  TORCH_CHECK(outputs > 0, "efficientconv: no outputs");
  const int64_t kernel = check_cell_filters(reduce_filters, shape.channels, padding);
  TORCH_CHECK(check_cell_filters(expand_filters, outputs, padding) == kernel, "efficientconv: filters of two sizes");
  Tensor y = new_tensor({shape.images, outputs, shape.height, shape.width});
  const Folded folded(norm, eps, outputs);
  run_bottleneck(shape, kernel, padding, data(x), data(reduce_filters), arrays(plan, outputs, shape.channels, weight), data(weight),
                 data(expand_filters), folded.output(data(residual, y.sizes()), relu), y.mutable_data_ptr<float>());
  return y;
}

}  // namespace efficientconv
