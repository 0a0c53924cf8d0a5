#include "kernels.h"

#include "batch_norm_last.h"
#include "bottleneck.h"
#include "cell_layer.h"
#include "few_pixels.h"
#include "sic_gradient.h"
#include "stem.h"
#include "weight_gradient.h"

namespace efficientconv {
namespace {

Depthwise depthwise_of(const Maps& maps, const float* x, const Filters& filters, const TapMasks& masks) {
  return {maps, x, filters.kernel, filters.multiplier, &masks, filters.filters};
}

template <class F>
void with_source(const Maps& maps, const float* x, const Filters& filters, F f) {
  if (!filters.filters) return f(Pixels{maps, x, filters.kernel});
  const auto masks = TapMasks::find(maps, filters.kernel);
  f(depthwise_of(maps, x, filters, *masks));
}

}  // namespace

void run_convolution(const Maps& maps, const float* x, const Filters& filters, const PlanView& plan,
                     const float* weight, const Epilogue& epilogue, float* y) {
  if (!filters.filters && filters.kernel == 1 && are_few(maps, plan)) return project_few(maps, x, plan, weight, epilogue, y);
  const auto run = [&](const auto& source) { convolve(source, plan, weight, epilogue, y); };
  if (filters.filters || filters.kernel == 1) return with_source(maps, x, filters, run);
  const auto masks = TapMasks::find(maps, filters.kernel);
  run(Patches{maps, x, filters.kernel, masks.get()});
}

void run_pack(const PlanView& plan, const float* weight, const float* scale, float* packed) {
  pack_weights(plan, weight, scale, packed);
}

void run_weight_gradient(const Maps& maps, const float* x, const Filters& filters, const PlanView& plan,
                         const float* grad_output, float* grad) {
  with_source(maps, x, filters, [&](const auto& source) { weight_gradient(source, plan, grad_output, grad); });
}

void run_dense_weight_gradient(const Maps& maps, const float* x, const Filters& filters, int64_t outputs,
                               const float* grad_output, float* grad) {
  with_source(maps, x, filters, [&](const auto& source) { dense_weight_gradient(source, outputs, grad_output, grad); });
}

void run_depthwise_backward(const Maps& maps, const float* x, const Filters& filters, const float* grad_output,
                            const float* add, float* grad_x, float* grad_filters) {
  const auto masks = TapMasks::find(maps, filters.kernel);
  depthwise_backward(depthwise_of(maps, x, filters, *masks), grad_output, add, grad_x, grad_filters);
}

void run_sic_backward(const Maps& maps, const float* x, const Filters& filters, const PlanView& forward, const PlanView& backward,
                      const float* weight, const NormedLayer& layer, const SicGradients& grads) {
  const auto masks = TapMasks::find(maps, filters.kernel);
  const Depthwise source = depthwise_of(maps, x, filters, *masks);
  SicBackward(source, forward, backward, weight, layer).run(grads);
}

void run_batch_norm_forward(const Maps& maps, bool contiguous, const float* y, const float* residual, const float* gamma,
                            const float* beta, double eps, float* out, float* mean, float* var) {
  const auto run = contiguous ? batch_norm_forward : batch_norm_forward_last;
  run(maps, y, residual, gamma, beta, eps, out, mean, var);
}

void run_batch_norm_backward(const Maps& maps, bool contiguous, const float* grad_out, const float* out, const float* y,
                             const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                             float* grad_y, float* grad_gamma, float* grad_beta) {
  const auto run = contiguous ? batch_norm_backward : batch_norm_backward_last;
  run(maps, grad_out, out, y, mean, var, gamma, eps, grad_residual, grad_y, grad_gamma, grad_beta);
}

}  // namespace efficientconv
