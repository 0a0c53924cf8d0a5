// What the kernels offer to bindings.cpp and to the sanitizers' driver.
#pragma once

#include <cstdint>

namespace efficientconv {

struct Shape {
  int64_t images, channels, height, width;
};

struct PlanArrays {
  int64_t outputs, tiles, steps;
  const int32_t *tile_segments, *segments, *step_rows, *step_weights;  // step_weights: null where the strides say it
  int64_t output_stride, step_stride;
};

// The depthwise convolution before a projection; filters = null: there is none, and `kernel` is the connections' own.
struct Filters {
  const float* filters;
  int64_t kernel, multiplier;
};

struct Output {
  const float *scale, *bias, *residual;
  bool relu;
};

void run_convolution(const Shape& shape, const float* x, const Filters& filters, const PlanArrays& plan,
                     const float* weight, const Output& output, float* y);
void run_weight_gradient(const Shape& shape, const float* x, const Filters& filters, const PlanArrays& plan,
                         const float* grad_output, float* grad);
void run_dense_weight_gradient(const Shape& shape, const float* x, const Filters& filters, int64_t outputs,
                               const float* grad_output, float* grad);
void run_depthwise_backward(const Shape& shape, const float* x, const Filters& filters, const float* grad_output,
                            const float* add, float* grad_x, float* grad_filters);
// A whole layer in training, relu(batch_norm(y) + x), or without the + x; y is the projection of x's depthwise convolution.
// weight: outputs x channels * multiplier; `backward`: its plan from the outputs.
struct NormedLayer {
  const float *grad_out, *y, *mean, *var, *gamma, *beta;
  double eps;
  bool residual;
};
struct SicGradients {
  float *x, *filters, *weight, *gamma, *beta;
};
void run_sic_backward(const Shape& shape, const float* x, const Filters& filters, int64_t outputs, const PlanArrays& backward,
                      const float* weight, const NormedLayer& layer, const SicGradients& grads);
// `contiguous`: the maps are; else they are channels-last. The gradients of the residual and of y may be one.
void run_batch_norm_forward(const Shape& shape, bool contiguous, const float* y, const float* residual, const float* gamma,
                            const float* beta, double eps, float* out, float* mean, float* var);
void run_batch_norm_backward(const Shape& shape, bool contiguous, const float* grad_out, const float* out, const float* y,
                             const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                             float* grad_y, float* grad_gamma, float* grad_beta);

// `shape` is that of the maps, B x C x H x W, also where the cells are what goes in
void run_reduce(const Shape& shape, int64_t kernel, int64_t padding, const float* x, const float* filters, float* cells);
void run_expand(const Shape& shape, int64_t kernel, int64_t padding, const float* cells, const float* filters,
                const Output& output, float* y);
void run_cell_filter_gradient(const Shape& shape, int64_t kernel, int64_t padding, const float* cells, const float* maps,
                              float* grad);

// In training. `out` is relu(batch_norm(expanded cells) + residual), grad_out its gradient; null in run_reduce_backward: there
// is no residual connection.
void run_cell_statistics(const Shape& shape, int64_t kernel, int64_t padding, const float* cells, const float* filters,
                         float* mean, float* var);
void run_expand_backward(const Shape& shape, int64_t kernel, int64_t padding, const float* grad_out, const float* out,
                         const float* cells, const float* filters, const float* mean, const float* var, const float* gamma,
                         double eps, float* grad_cells, float* grad_filters, float* grad_gamma, float* grad_beta);
void run_reduce_backward(const Shape& shape, int64_t kernel, int64_t padding, const float* x, const float* filters,
                         const float* grad_cells, const float* grad_out, const float* out, float* grad_x, float* grad_filters);

void run_bottleneck(const Shape& shape, int64_t kernel, int64_t padding, const float* x, const float* reduce_filters,
                    const PlanArrays& plan, const float* weight, const float* expand_filters, const Output& output, float* y);

struct PoolWindow {
  int64_t kernel, stride, padding;
};

// y: of (size + 2 padding - kernel) / stride + 1 rows and columns, pooled
void run_stem(const Shape& shape, const float* x, int64_t kernel, int64_t stride, int64_t padding, const PlanArrays& plan,
              const float* weight, const Output& output, const PoolWindow& pool, float* y);
void run_max_pool(const Shape& shape, const float* x, const PoolWindow& pool, float* y);

}  // namespace efficientconv
