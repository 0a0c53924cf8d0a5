// The kernels' functions for operators.cpp and for the sanitizers' driver. kernels.cpp, or a header that only it includes,
// defines them.
#pragma once

#include "vec.h"

namespace efficientconv {

// Maps of a batch, B x C x H x W, contiguous.
struct Maps {
  int64_t images, channels, height, width;
  int64_t pixels() const { return height * width; }
  int64_t numel() const { return images * channels * pixels(); }
};

// What happens to an output before it is stored: y * scale + bias, + residual, ReLU. Null pointers: left out.
struct Epilogue {
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;  // of the output's shape
  bool relu = false;
};

struct Segment {
  int32_t kind, begin, end;  // steps [begin, end)
};

struct Offsets {
  int32_t a, b;  // where the step's inputs start, in floats from the block's first pixel
};

struct PlanView {
  int64_t outputs, tiles, steps;
  const int32_t* tile_segments;  // tiles + 1
  const Segment* segments;
  const Offsets* offsets;       // of each step's inputs in a panel
  const int32_t* step_weights;  // steps x 4, -1: none; null: every output sees all inputs, one a step, by strides
  int64_t output_stride, step_stride;
};

// The depthwise convolution before a projection; filters = null: there is none, and `kernel` is the connections' own.
struct Filters {
  const float* filters;
  int64_t kernel, multiplier;
};

struct Grid {
  Maps maps;
  int64_t kernel, padding, rows, columns;  // of cells

  Grid(const Maps& maps, int64_t kernel, int64_t padding)
      : maps(maps), kernel(kernel), padding(padding), rows((maps.height + padding + kernel - 1) / kernel),
        columns((maps.width + padding + kernel - 1) / kernel) {}
  int64_t cells() const { return rows * columns; }
  int64_t width() const { return columns * kernel; }  // of a row of pixels, with what hangs over the edge
  int64_t pixels() const { return cells() * kernel * kernel; }
};

// kernel x kernel pixels, stride apart, the first `padding` before the map; what fills none at the end is left out.
struct Window {
  int64_t kernel, stride, padding;
  int64_t outputs(int64_t size) const { return (size + 2 * padding - kernel) / stride + 1; }
  // of a row with its margins, and what vectors read past them
  int64_t pitch(int64_t width) const { return round_up(width + 2 * padding + kLanes, kLanes); }
};

void run_convolution(const Maps& maps, const float* x, const Filters& filters, const PlanView& plan,
                     const float* weight, const Epilogue& epilogue, float* y);
void run_weight_gradient(const Maps& maps, const float* x, const Filters& filters, const PlanView& plan,
                         const float* grad_output, float* grad);
void run_dense_weight_gradient(const Maps& maps, const float* x, const Filters& filters, int64_t outputs,
                               const float* grad_output, float* grad);
void run_depthwise_backward(const Maps& maps, const float* x, const Filters& filters, const float* grad_output,
                            const float* add, float* grad_x, float* grad_filters);
// A whole layer in training, relu(batch_norm(y) + x), or without the + x; y is the projection of x's depthwise convolution.
// weight: of the plan `forward`, from channels * multiplier; `backward`: its plan from the outputs.
struct NormedLayer {
  const float *grad_out, *y, *mean, *var, *gamma, *beta;
  double eps;
  bool residual;
};
struct SicGradients {
  float *x, *filters, *weight, *gamma, *beta;
};
void run_sic_backward(const Maps& maps, const float* x, const Filters& filters, const PlanView& forward, const PlanView& backward,
                      const float* weight, const NormedLayer& layer, const SicGradients& grads);
// `contiguous`: the maps are; else they are channels-last. The gradients of the residual and of y may be one.
void run_batch_norm_forward(const Maps& maps, bool contiguous, const float* y, const float* residual, const float* gamma,
                            const float* beta, double eps, float* out, float* mean, float* var);
void run_batch_norm_backward(const Maps& maps, bool contiguous, const float* grad_out, const float* out, const float* y,
                             const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                             float* grad_y, float* grad_gamma, float* grad_beta);

// `grid` is that of the maps, B x C x H x W, also where the cells are what goes in
void run_reduce(const Grid& grid, const float* x, const float* filters, float* cells);
void run_expand(const Grid& grid, const float* cells, const float* filters, const Epilogue& epilogue, float* y);
void run_cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad);

// In training. `out` is relu(batch_norm(expanded cells) + residual), grad_out its gradient; null in run_reduce_backward: there
// is no residual connection.
void run_cell_statistics(const Grid& grid, const float* cells, const float* filters, float* mean, float* var);
struct LayerGradients {
  float *cells, *filters, *gamma, *beta;
};
void run_expand_backward(const Grid& grid, const float* grad_out, const float* out, const float* cells, const float* filters,
                         const float* mean, const float* var, const float* gamma, double eps, const LayerGradients& grads);
void run_reduce_backward(const Grid& grid, const float* x, const float* filters, const float* grad_cells, const float* grad_out,
                         const float* out, float* grad_x, float* grad_filters);

void run_bottleneck(const Grid& grid, const float* x, const float* reduce_filters, const PlanView& plan, const float* weight,
                    const float* expand_filters, const Epilogue& epilogue, float* y);

// y: of (size + 2 padding - kernel) / stride + 1 rows and columns, pooled
void run_stem(const Maps& maps, const float* x, int64_t kernel, int64_t stride, int64_t padding, const PlanView& plan,
              const float* weight, const Epilogue& epilogue, const Window& pool, float* y);
void run_max_pool(const Maps& maps, bool contiguous, const float* x, const Window& pool, float* y);
void run_max_pool_backward(const Maps& maps, bool contiguous, const float* x, const Window& pool, const float* grad,
                           float* grad_x);

}  // namespace efficientconv
