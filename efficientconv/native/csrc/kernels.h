// Declares the kernels, which operators.cpp and the sanitizers' driver (tests/native_driver.cpp) call. kernels.cpp and the
// headers that only kernels.cpp includes define them.
#pragma once

#include "vec.h"

namespace efficientconv {

// The sizes of a batch of maps, B x C x H x W. The maps are contiguous unless a kernel says otherwise.
struct Maps {
  int64_t images, channels, height, width;
  int64_t pixels() const { return height * width; }
  int64_t numel() const { return images * channels * pixels(); }
};

// What is done to an output y before it is stored: y * scale + bias + residual, then ReLU. A null pointer leaves its operand
// out.
struct Epilogue {
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;  // of the output's shape
  bool relu = false;
};

constexpr int kOutputs = 4;  // outputs of a four

// The two fours of outputs of a tile (tile.h).
enum class Fours : int32_t { first, second, both };

// Steps [begin, end) of a tile, all of one kind and for the same fours. Their packed weights start at `weights`.
struct Segment {
  int32_t kind;
  Fours fours;
  int32_t begin, end, weights;
};

// The inputs A and B of a step: channels, or results of a depthwise convolution.
struct Step {
  int32_t a, b;
};

// The outputs of a tile: `count` of them, from `first` on. `skip` outputs are left out after the first four.
struct TileOutputs {
  int64_t first, skip, count;
  int64_t at(int64_t o) const { return first + o + (o < kOutputs ? 0 : skip); }
};

// A plan (plan.h) as plain pointers. Tile t has the segments [tile_segments[t], tile_segments[t + 1]). weight_at says which
// weight stands at each of the `weights` places of the packed weights; -1: none.
//
// Where every output sees every input, these pointers are null. Then step s is input s, and output o uses
// weight[s * step_stride + o * output_stride].
//
// packed: the weights come in the order of the steps, as run_pack makes them.
struct PlanView {
  int64_t inputs, outputs, tiles, weights;
  const TileOutputs* tile_outputs;
  const int32_t* tile_segments;
  const Segment* segments;
  const Step* steps;
  const int32_t* weight_at;
  int64_t output_stride, step_stride;
  bool packed = false;
};

// The depthwise convolution before a projection. If there is none, `filters` is null, and `kernel` is the size of the
// convolution over the connections.
struct Filters {
  const float* filters;
  int64_t kernel, multiplier;
};

// The cells of a spatial bottleneck (cells.h): kernel x kernel pixels each. The first cell starts `padding` before the map.
struct Grid {
  Maps maps;
  int64_t kernel, padding, rows, columns;  // rows and columns of cells

  Grid(const Maps& maps, int64_t kernel, int64_t padding)
      : maps(maps), kernel(kernel), padding(padding), rows((maps.height + padding + kernel - 1) / kernel),
        columns((maps.width + padding + kernel - 1) / kernel) {}
  int64_t cells() const { return rows * columns; }
  int64_t width() const { return columns * kernel; }  // of the cells, in pixels
  int64_t pixels() const { return cells() * kernel * kernel; }
};

// The windows of a max pool: kernel x kernel pixels, `stride` apart. The first window starts `padding` before the map.
// A window that would reach more than `padding` past the map's end is left out.
struct Window {
  int64_t kernel, stride, padding;
  int64_t outputs(int64_t size) const { return (size + 2 * padding - kernel) / stride + 1; }
  // Floats from one row to the next, where rows have margins of `padding` and vectors read past them.
  int64_t pitch(int64_t width) const { return round_up(width + 2 * padding + kLanes, kLanes); }
};

void run_convolution(const Maps& maps, const float* x, const Filters& filters, const PlanView& plan,
                     const float* weight, const Epilogue& epilogue, float* y);
// packed = the weights in the order of the plan's steps, times the scale of their output.
void run_pack(const PlanView& plan, const float* weight, const float* scale, float* packed);
void run_weight_gradient(const Maps& maps, const float* x, const Filters& filters, const PlanView& plan,
                         const float* grad_output, float* grad);
void run_dense_weight_gradient(const Maps& maps, const float* x, const Filters& filters, int64_t outputs,
                               const float* grad_output, float* grad);
void run_depthwise_backward(const Maps& maps, const float* x, const Filters& filters, const float* grad_output,
                            const float* add, float* grad_x, float* grad_filters);
// A whole SIC layer in training: relu(batch_norm(y) + x), without x if `residual` is false. y is the projection of x's
// depthwise convolution.
struct NormedLayer {
  const float *grad_out, *y, *mean, *var, *gamma, *beta;
  double eps;
  bool residual;
};
struct SicGradients {
  float *x, *filters, *weight, *gamma, *beta;
};
// The gradients of a whole SIC layer. `forward` is the plan of the projection, `weight` has its weights, and `backward`
// is the plan from the projection's outputs back to its channels * multiplier inputs.
void run_sic_backward(const Maps& maps, const float* x, const Filters& filters, const PlanView& forward, const PlanView& backward,
                      const float* weight, const NormedLayer& layer, const SicGradients& grads);
// `contiguous`: true for contiguous maps, false for channels-last maps. grad_residual and grad_y may be the same memory.
void run_batch_norm_forward(const Maps& maps, bool contiguous, const float* y, const float* residual, const float* gamma,
                            const float* beta, double eps, float* out, float* mean, float* var);
void run_batch_norm_backward(const Maps& maps, bool contiguous, const float* grad_out, const float* out, const float* y,
                             const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                             float* grad_y, float* grad_gamma, float* grad_beta);

// The halves of a spatial bottleneck. `grid` describes the maps, B x C x H x W, also where the input is the cells.
void run_reduce(const Grid& grid, const float* x, const float* filters, float* cells);
void run_expand(const Grid& grid, const float* cells, const float* filters, const Epilogue& epilogue, float* y);
void run_cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad);

// Spatial bottlenecks in training. `out` is relu(batch_norm(expanded cells) + residual), and grad_out is its gradient.
// If the layer has no residual connection, run_reduce_backward gets null for both.
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

// y is the max pool of the convolution, which has (size + 2 padding - kernel) / stride + 1 rows and columns.
void run_stem(const Maps& maps, const float* x, int64_t kernel, int64_t stride, int64_t padding, int64_t m,
              const float* weight, const Epilogue& epilogue, const Window& pool, float* y);
void run_max_pool(const Maps& maps, bool contiguous, const float* x, const Window& pool, float* y);
void run_max_pool_backward(const Maps& maps, bool contiguous, const float* x, const Window& pool, const float* grad,
                           float* grad_x);

}  // namespace efficientconv
