// torch.ops.efficientconv.*: the kernels on tensors and on torch's threads. Shapes are checked where they guard the memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>

#include "kernels.h"
#include "parallel.h"
#include "pool.h"
#include "vec.h"

namespace efficientconv {

int64_t thread_count() { return at::get_num_threads(); }

void parallel(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) { at::parallel_for(0, n, grain, f); }

namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

const float* data(const Tensor& t) {
  TORCH_CHECK(t.is_cpu() && t.scalar_type() == at::kFloat && t.is_contiguous(), "efficientconv: expected a contiguous ",
              "float32 tensor on the CPU");
  return t.const_data_ptr<float>();
}

const float* data(const MaybeTensor& t, int64_t numel) {
  TORCH_CHECK(!t || t->numel() == numel, "efficientconv: expected ", numel, " elements");
  return t ? data(*t) : nullptr;
}

Shape shape_of(const Tensor& x) {
  TORCH_CHECK(x.dim() == 4, "efficientconv: expected B x C x H x W");
  return {x.size(0), x.size(1), x.size(2), x.size(3)};
}

// plan: tiles, segments, steps, weights of plan.py
PlanArrays arrays(at::TensorList plan, int64_t outputs) {
  TORCH_CHECK(plan.size() == 4, "efficientconv: expected a plan of four tensors");
  for (const Tensor& t : plan) TORCH_CHECK(t.scalar_type() == at::kInt && t.is_contiguous(), "efficientconv: int32 plans");
  const Tensor& weights = plan[3];
  const bool dense = weights.dim() == 1;  // two strides
  const int32_t* w = weights.const_data_ptr<int32_t>();
  return {outputs, plan[0].numel() - 1, plan[2].size(0), plan[0].const_data_ptr<int32_t>(), plan[1].const_data_ptr<int32_t>(),
          plan[2].const_data_ptr<int32_t>(), dense ? nullptr : w, dense ? w[0] : 0, dense ? w[1] : 0};
}

Filters filters_of(const MaybeTensor& filters, int64_t kernel, int64_t channels) {
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

Tensor convolve(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, int64_t kernel, at::TensorList plan,
                int64_t outputs, const NormTensors& norm, double eps, const MaybeTensor& residual, bool relu) {
  const Shape shape = shape_of(x);
  Tensor y = new_tensor({shape.images, outputs, shape.height, shape.width});
  if (y.numel() == 0) return y;
  const Folded folded(norm, eps, outputs);
  run_convolution(shape, data(x), filters_of(filters, kernel, shape.channels), arrays(plan, outputs), data(weight),
                  folded.output(data(residual, y.numel()), relu), y.mutable_data_ptr<float>());
  return y;
}

Tensor weight_gradient(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, int64_t kernel,
                       at::TensorList plan, int64_t outputs, const Tensor& grad_output) {
  const Shape shape = shape_of(x);
  Tensor grad = new_tensor(weight.sizes());
  if (grad_output.numel() == 0) return grad.zero_();
  TORCH_CHECK(grad_output.numel() == shape.images * outputs * shape.height * shape.width && plan[3].dim() == 2,
              "efficientconv: gradient's shape, or a dense plan");
  run_weight_gradient(shape, data(x), filters_of(filters, kernel, shape.channels), arrays(plan, outputs),
                      data(grad_output), grad.mutable_data_ptr<float>());
  return grad;
}

Tensor dense_weight_gradient(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, const Tensor& grad_output) {
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

std::tuple<Tensor, Tensor> depthwise_backward(const Tensor& x, const Tensor& filters, const Tensor& grad_output,
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
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> sic_backward(const Tensor& grad_out, const Tensor& y, const Tensor& x,
                                                                const Tensor& filters, const Tensor& weight,
                                                                at::TensorList backward, const Tensor& mean, const Tensor& var,
                                                                const MaybeTensor& gamma, const MaybeTensor& beta, double eps,
                                                                bool residual) {
  const Shape shape = shape_of(x);
  const int64_t outputs = weight.size(0), rows = filters.size(0), size = shape.images * outputs * shape.height * shape.width;
  TORCH_CHECK(size > 0 && grad_out.numel() == size && y.numel() == size &&
                  weight.numel() == outputs * rows && (!residual || outputs == shape.channels),
              "efficientconv: gradient's shape");
  Tensor grad_x = new_tensor(x.sizes()), grad_filters = at::empty_like(filters), grad_weight = new_tensor(weight.sizes());
  Tensor grad_gamma = at::empty_like(mean), grad_beta = at::empty_like(mean);
  const NormedLayer layer{data(grad_out), data(y), data(mean, outputs), data(var, outputs), data(gamma, outputs),
                          data(beta, outputs), eps, residual};
  run_sic_backward(shape, data(x), filters_of(filters, 1, shape.channels), outputs, arrays(backward, rows), data(weight), layer,
                   {grad_x.mutable_data_ptr<float>(), grad_filters.mutable_data_ptr<float>(),
                    grad_weight.mutable_data_ptr<float>(), grad_gamma.mutable_data_ptr<float>(),
                    grad_beta.mutable_data_ptr<float>()});
  return {grad_x, grad_filters, grad_weight, grad_gamma, grad_beta};
}

float* written(const Tensor& t, int64_t numel) {
  data(t);
  TORCH_CHECK(t.numel() == numel, "efficientconv: expected ", numel, " elements");
  if (!t.is_inference()) t.unsafeGetTensorImpl()->bump_version();
  return t.mutable_data_ptr<float>();
}

// As nn.BatchNorm2d does in training: a moving average of the mean and the unbiased variance of `count` positions, or without a
// momentum the average of all batches. In one go: five small operators take longer than many a layer.
void track_statistics(const Tensor& mean, const Tensor& var, int64_t count, std::optional<double> momentum,
                      const Tensor& running_mean, const Tensor& running_var, const Tensor& batches) {
  const int64_t channels = mean.numel();
  TORCH_CHECK(batches.scalar_type() == at::kLong && batches.numel() == 1 && batches.is_cpu(), "efficientconv: batches to count");
  const int64_t seen = ++*batches.mutable_data_ptr<int64_t>();
  const float share = static_cast<float>(momentum.value_or(1. / static_cast<double>(seen)));
  const float unbiased = static_cast<float>(static_cast<double>(count) / static_cast<double>(count - 1));
  const float *m = data(mean), *v = data(var);
  float *to_mean = written(running_mean, channels), *to_var = written(running_var, channels);
  for (int64_t c = 0; c < channels; ++c) {
    to_mean[c] = (1 - share) * to_mean[c] + share * m[c];
    to_var[c] = (1 - share) * to_var[c] + share * (v[c] * unbiased);
  }
}

at::MemoryFormat format_of(const Tensor& y) {
  const bool last = !y.is_contiguous() && y.size(1) % kLanes == 0;
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// Maps of batch norm: of y's size and order.
const float* maps_data(const Tensor& t, const Tensor& y) {
  TORCH_CHECK(t.is_cpu() && t.scalar_type() == at::kFloat && t.sizes() == y.sizes() && t.is_contiguous(format_of(y)),
              "efficientconv: expected float32 maps of one size and order, channels-last only of whole vectors of channels");
  return t.const_data_ptr<float>();
}

std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& y, const MaybeTensor& residual, const MaybeTensor& gamma,
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
std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(const Tensor& grad_out, const Tensor& out, const Tensor& y,
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

int64_t cells_of(int64_t size, int64_t kernel, int64_t padding) { return (size + padding + kernel - 1) / kernel; }

void check_cells(const Tensor& cells, const Tensor& filters, const Shape& maps, int64_t padding) {
  const int64_t kernel = filters.size(-1);
  TORCH_CHECK(kernel > 0 && padding >= 0 && padding < kernel && filters.numel() == maps.channels * kernel * kernel &&
                  cells.size(2) == cells_of(maps.height, kernel, padding) &&
                  cells.size(3) == cells_of(maps.width, kernel, padding),
              "efficientconv: cells that do not cover the maps");
}

Tensor reduce(const Tensor& x, const Tensor& filters, int64_t padding) {
  const Shape shape = shape_of(x);
  const int64_t kernel = filters.size(-1);
  Tensor cells = new_tensor(
      {shape.images, shape.channels, cells_of(shape.height, kernel, padding), cells_of(shape.width, kernel, padding)});
  check_cells(cells, filters, shape, padding);
  run_reduce(shape, kernel, padding, data(x), data(filters), cells.mutable_data_ptr<float>());
  return cells;
}

Tensor expand(const Tensor& cells, const Tensor& filters, int64_t padding, int64_t height, int64_t width,
              const NormTensors& norm, double eps, const MaybeTensor& residual, bool relu) {
  const Shape shape{cells.size(0), cells.size(1), height, width};
  check_cells(cells, filters, shape, padding);
  Tensor y = new_tensor({shape.images, shape.channels, height, width});
  const Folded folded(norm, eps, shape.channels);
  run_expand(shape, filters.size(-1), padding, data(cells), data(filters), folded.output(data(residual, y.numel()), relu),
             y.mutable_data_ptr<float>());
  return y;
}

Tensor cell_filter_gradient(const Tensor& cells, const Tensor& maps, const Tensor& filters, int64_t padding) {
  const Shape shape = shape_of(maps);
  check_cells(cells, filters, shape, padding);
  Tensor grad = at::zeros_like(filters);
  run_cell_filter_gradient(shape, filters.size(-1), padding, data(cells), data(maps), grad.mutable_data_ptr<float>());
  return grad;
}

std::tuple<Tensor, Tensor> cell_statistics(const Tensor& cells, const Tensor& filters, int64_t padding, int64_t height,
                                           int64_t width) {
  const Shape shape{cells.size(0), cells.size(1), height, width};
  TORCH_CHECK(cells.numel() > 0, "efficientconv: statistics of nothing");
  check_cells(cells, filters, shape, padding);
  Tensor mean = new_tensor({shape.channels}), var = new_tensor({shape.channels});
  run_cell_statistics(shape, filters.size(-1), padding, data(cells), data(filters), mean.mutable_data_ptr<float>(),
                      var.mutable_data_ptr<float>());
  return {mean, var};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> expand_backward(const Tensor& grad_out, const Tensor& out, const Tensor& cells,
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

std::tuple<Tensor, Tensor> reduce_backward(const Tensor& x, const Tensor& filters, int64_t padding, const Tensor& grad_cells,
                                           const MaybeTensor& grad_out, const MaybeTensor& out) {
  const Shape shape = shape_of(x);
  check_cells(grad_cells, filters, shape, padding);
  TORCH_CHECK(grad_out.has_value() == out.has_value() && grad_cells.size(0) == shape.images, "efficientconv: gradient's shape");
  Tensor grad_x = new_tensor(x.sizes()), grad_filters = new_tensor(filters.sizes());
  run_reduce_backward(shape, filters.size(-1), padding, data(x), data(filters), data(grad_cells), data(grad_out, x.numel()),
                      data(out, x.numel()), grad_x.mutable_data_ptr<float>(), grad_filters.mutable_data_ptr<float>());
  return {grad_x, grad_filters};
}

Tensor bottleneck(const Tensor& x, const Tensor& reduce_filters, const Tensor& weight, const Tensor& expand_filters,
                  int64_t padding, at::TensorList plan, int64_t outputs, const NormTensors& norm, double eps,
                  const MaybeTensor& residual, bool relu) {
  const Shape shape = shape_of(x);
  const int64_t kernel = reduce_filters.size(-1);
  TORCH_CHECK(reduce_filters.numel() == shape.channels * kernel * kernel && expand_filters.numel() == outputs * kernel * kernel,
              "efficientconv: filters for other channels");
  Tensor y = new_tensor({shape.images, outputs, shape.height, shape.width});
  const Folded folded(norm, eps, outputs);
  run_bottleneck(shape, kernel, padding, data(x), data(reduce_filters), arrays(plan, outputs), data(weight),
                 data(expand_filters), folded.output(data(residual, y.numel()), relu), y.mutable_data_ptr<float>());
  return y;
}

// kernel, stride, padding
PoolWindow pool_of(at::IntArrayRef pool) {
  TORCH_CHECK(pool.size() == 3 && pool[0] > 0 && pool[1] > 0 && pool[2] >= 0 && 2 * pool[2] <= pool[0],
              "efficientconv: expected a pool's kernel, stride and padding");
  return {pool[0], pool[1], pool[2]};
}

int64_t pooled_size(int64_t size, const PoolWindow& pool) {
  TORCH_CHECK(size + 2 * pool.padding >= pool.kernel, "efficientconv: maps too small for their pool");
  return (size + 2 * pool.padding - pool.kernel) / pool.stride + 1;
}

Tensor stem(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding, at::TensorList plan, int64_t outputs,
            const NormTensors& norm, double eps, at::IntArrayRef pool) {
  const Shape shape = shape_of(x);
  const int64_t kernel = weight.size(-1);
  const PoolWindow p = pool_of(pool);
  TORCH_CHECK(shape.height + 2 * padding >= kernel && shape.width + 2 * padding >= kernel && weight.size(1) == shape.channels,
              "efficientconv: images too small for the first layer, or of other channels");
  const auto size = [&](int64_t n) { return pooled_size((n + 2 * padding - kernel) / stride + 1, p); };
  Tensor y = new_tensor({shape.images, outputs, size(shape.height), size(shape.width)});
  const Folded folded(norm, eps, outputs);
  run_stem(shape, data(x), kernel, stride, padding, arrays(plan, outputs), data(weight), folded.output(nullptr, true), p,
           y.mutable_data_ptr<float>());
  return y;
}

Tensor max_pool(const Tensor& x, at::IntArrayRef pool) {
  const Shape shape = shape_of(x);
  const PoolWindow p = pool_of(pool);
  Tensor y = new_tensor({shape.images, shape.channels, pooled_size(shape.height, p), pooled_size(shape.width, p)});
  run_max_pool(shape, data(x), p, y.mutable_data_ptr<float>());
  return y;
}

}  // namespace
}  // namespace efficientconv

TORCH_LIBRARY(efficientconv, m) {
  namespace ec = efficientconv;
  m.def(
      "convolve(Tensor x, Tensor? filters, Tensor weight, int kernel, Tensor[] plan, int outputs, Tensor?[] norm, "
      "float eps, Tensor? residual, bool relu) -> Tensor");
  m.def(
      "weight_gradient(Tensor x, Tensor? filters, Tensor weight, int kernel, Tensor[] plan, int outputs, "
      "Tensor grad_output) -> Tensor");
  m.def("dense_weight_gradient(Tensor x, Tensor? filters, Tensor weight, Tensor grad_output) -> Tensor");
  m.def(
      "track_statistics(Tensor mean, Tensor var, int count, float? momentum, Tensor(a!) running_mean, "
      "Tensor(b!) running_var, Tensor(c!) batches) -> ()");
  m.def("depthwise_backward(Tensor x, Tensor filters, Tensor grad_output, Tensor? add) -> (Tensor, Tensor)");
  m.def(
      "sic_backward(Tensor grad_out, Tensor y, Tensor x, Tensor filters, Tensor weight, Tensor[] backward, "
      "Tensor mean, Tensor var, Tensor? gamma, Tensor? beta, float eps, bool residual) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "batch_norm(Tensor y, Tensor? residual, Tensor? gamma, Tensor? beta, float eps) "
      "-> (Tensor, Tensor, Tensor)");
  m.def(
      "batch_norm_backward(Tensor grad_out, Tensor out, Tensor y, Tensor mean, Tensor var, Tensor? gamma, float eps, "
      "bool residual) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("reduce(Tensor x, Tensor filters, int padding) -> Tensor");
  m.def(
      "expand(Tensor cells, Tensor filters, int padding, int height, int width, Tensor?[] norm, float eps, "
      "Tensor? residual, bool relu) -> Tensor");
  m.def(
      "bottleneck(Tensor x, Tensor reduce_filters, Tensor weight, Tensor expand_filters, int padding, Tensor[] plan, "
      "int outputs, Tensor?[] norm, float eps, Tensor? residual, bool relu) -> Tensor");
  m.def(
      "stem(Tensor x, Tensor weight, int stride, int padding, Tensor[] plan, int outputs, Tensor?[] norm, float eps, "
      "int[] pool) -> Tensor");
  m.def("max_pool(Tensor x, int[] pool) -> Tensor");
  m.def("cell_filter_gradient(Tensor cells, Tensor maps, Tensor filters, int padding) -> Tensor");
  m.def("cell_statistics(Tensor cells, Tensor filters, int padding, int height, int width) -> (Tensor, Tensor)");
  m.def(
      "expand_backward(Tensor grad_out, Tensor out, Tensor cells, Tensor filters, int padding, Tensor mean, Tensor var, "
      "Tensor? gamma, float eps) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "reduce_backward(Tensor x, Tensor filters, int padding, Tensor grad_cells, Tensor? grad_out, Tensor? out) "
      "-> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(efficientconv, CPU, m) {
  namespace ec = efficientconv;
  m.impl("convolve", &ec::convolve);
  m.impl("weight_gradient", &ec::weight_gradient);
  m.impl("dense_weight_gradient", &ec::dense_weight_gradient);
  m.impl("track_statistics", &ec::track_statistics);
  m.impl("depthwise_backward", &ec::depthwise_backward);
  m.impl("sic_backward", &ec::sic_backward);
  m.impl("batch_norm", &ec::batch_norm);
  m.impl("batch_norm_backward", &ec::batch_norm_backward);
  m.impl("reduce", &ec::reduce);
  m.impl("expand", &ec::expand);
  m.impl("bottleneck", &ec::bottleneck);
  m.impl("stem", &ec::stem);
  m.impl("max_pool", &ec::max_pool);
  m.impl("cell_filter_gradient", &ec::cell_filter_gradient);
  m.impl("cell_statistics", &ec::cell_statistics);
  m.impl("expand_backward", &ec::expand_backward);
  m.impl("reduce_backward", &ec::reduce_backward);
}
