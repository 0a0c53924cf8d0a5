#include "kernels.h"

#include "batch_norm_last.h"
#include "bottleneck.h"
#include "cell_layer.h"
#include "sic_gradient.h"
#include "stem.h"
#include "weight_gradient.h"

namespace efficientconv {
namespace {

Maps maps_of(const Shape& s) { return {s.images, s.channels, s.height, s.width}; }

PlanView view(const PlanArrays& p) {
  return {p.outputs, p.tiles, p.steps, p.tile_segments, reinterpret_cast<const Segment*>(p.segments),
          reinterpret_cast<const Offsets*>(p.step_rows), p.step_weights, p.output_stride, p.step_stride};
}

Epilogue epilogue_of(const Output& o) { return {o.scale, o.bias, o.residual, o.relu}; }

Depthwise depthwise_of(const Maps& maps, const float* x, const Filters& filters, const TapMasks& masks) {
  return {maps, x, filters.kernel, filters.multiplier, &masks, filters.filters};
}

template <class F>
void with_source(const Shape& shape, const float* x, const Filters& filters, F f) {
  const Maps maps = maps_of(shape);
  if (!filters.filters && filters.kernel == 1) return f(Patches{maps, x, 1, nullptr});
  const TapMasks masks(maps, filters.kernel);
  if (filters.filters) f(depthwise_of(maps, x, filters, masks));
  else f(Patches{maps, x, filters.kernel, &masks});
}

}  // namespace

void run_convolution(const Shape& shape, const float* x, const Filters& filters, const PlanArrays& plan,
                     const float* weight, const Output& output, float* y) {
  with_source(shape, x, filters,
              [&](const auto& source) { convolve(source, view(plan), weight, epilogue_of(output), y); });
}

void run_weight_gradient(const Shape& shape, const float* x, const Filters& filters, const PlanArrays& plan,
                         const float* grad_output, float* grad) {
  const Maps maps = maps_of(shape);
  if (!filters.filters) return weight_gradient(Bands(maps, x, filters.kernel), view(plan), grad_output, grad);
  const TapMasks masks(maps, filters.kernel);
  const Depthwise depthwise = depthwise_of(maps, x, filters, masks);
  weight_gradient(Blocks(depthwise), view(plan), grad_output, grad);
}

void run_dense_weight_gradient(const Shape& shape, const float* x, const Filters& filters, int64_t outputs,
                               const float* grad_output, float* grad) {
  with_source(shape, x, filters, [&](const auto& source) { dense_weight_gradient(source, outputs, grad_output, grad); });
}

void run_depthwise_backward(const Shape& shape, const float* x, const Filters& filters, const float* grad_output,
                            const float* add, float* grad_x, float* grad_filters) {
  const Maps maps = maps_of(shape);
  const TapMasks masks(maps, filters.kernel);
  depthwise_backward(depthwise_of(maps, x, filters, masks), grad_output, add, grad_x, grad_filters);
}

void run_sic_backward(const Shape& shape, const float* x, const Filters& filters, int64_t outputs, const PlanArrays& backward,
                      const float* weight, const NormedLayer& layer, const SicGradients& grads) {
  const Maps maps = maps_of(shape);
  const TapMasks masks(maps, filters.kernel);
  const Depthwise source = depthwise_of(maps, x, filters, masks);
  const PlanView plan = view(backward);
  SicBackward(source, outputs, plan, weight, layer).run(grads);
}

void run_batch_norm_forward(const Shape& shape, bool contiguous, const float* y, const float* residual, const float* gamma,
                            const float* beta, double eps, float* out, float* mean, float* var) {
  const auto run = contiguous ? batch_norm_forward : batch_norm_forward_last;
  run(maps_of(shape), y, residual, gamma, beta, eps, out, mean, var);
}

void run_batch_norm_backward(const Shape& shape, bool contiguous, const float* grad_out, const float* out, const float* y,
                             const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                             float* grad_y, float* grad_gamma, float* grad_beta) {
  const auto run = contiguous ? batch_norm_backward : batch_norm_backward_last;
  run(maps_of(shape), grad_out, out, y, mean, var, gamma, eps, grad_residual, grad_y, grad_gamma, grad_beta);
}

void run_reduce(const Shape& shape, int64_t kernel, int64_t padding, const float* x, const float* filters, float* cells) {
  reduce_maps({maps_of(shape), kernel, padding}, x, filters, cells);
}

void run_expand(const Shape& shape, int64_t kernel, int64_t padding, const float* cells, const float* filters,
                const Output& output, float* y) {
  expand_cells({maps_of(shape), kernel, padding}, cells, filters, epilogue_of(output), y);
}

void run_cell_filter_gradient(const Shape& shape, int64_t kernel, int64_t padding, const float* cells, const float* maps,
                              float* grad) {
  cell_filter_gradient({maps_of(shape), kernel, padding}, cells, maps, grad);
}

void run_cell_statistics(const Shape& shape, int64_t kernel, int64_t padding, const float* cells, const float* filters,
                         float* mean, float* var) {
  cell_statistics({maps_of(shape), kernel, padding}, cells, filters, mean, var);
}

void run_expand_backward(const Shape& shape, int64_t kernel, int64_t padding, const float* grad_out, const float* out,
                         const float* cells, const float* filters, const float* mean, const float* var, const float* gamma,
                         double eps, float* grad_cells, float* grad_filters, float* grad_gamma, float* grad_beta) {
  expand_backward({maps_of(shape), kernel, padding}, grad_out, out, cells, filters, mean, var, gamma, eps,
                  {grad_cells, grad_filters, grad_gamma, grad_beta});
}

void run_reduce_backward(const Shape& shape, int64_t kernel, int64_t padding, const float* x, const float* filters,
                         const float* grad_cells, const float* grad_out, const float* out, float* grad_x, float* grad_filters) {
  reduce_backward({maps_of(shape), kernel, padding}, x, filters, grad_cells, grad_out, out, grad_x, grad_filters);
}

void run_bottleneck(const Shape& shape, int64_t kernel, int64_t padding, const float* x, const float* reduce_filters,
                    const PlanArrays& plan, const float* weight, const float* expand_filters, const Output& output, float* y) {
  bottleneck({maps_of(shape), kernel, padding}, x, reduce_filters, view(plan), weight, expand_filters, epilogue_of(output), y);
}

void run_stem(const Shape& shape, const float* x, int64_t kernel, int64_t stride, int64_t padding, const PlanArrays& plan,
              const float* weight, const Output& output, const PoolWindow& pool, float* y) {
  stem(maps_of(shape), x, kernel, stride, padding, view(plan), weight, epilogue_of(output),
       {pool.kernel, pool.stride, pool.padding}, y);
}

void run_max_pool(const Shape& shape, const float* x, const PoolWindow& pool, float* y) {
  max_pool(maps_of(shape), x, {pool.kernel, pool.stride, pool.padding}, y);
}

}  // namespace efficientconv
