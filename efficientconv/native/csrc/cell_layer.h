// The gradients of a spatial bottleneck with batch norm, residual and ReLU. The gradient of batch norm's input is never
// written to memory.
//
// Batch norm's input is z = cell * tap. The gradients need z only in sums over cells and pixels. These sums are taken
// while the output's gradient is read.
#pragma once

#include "cell_gradients.h"
#include "cell_statistics.h"
#include "norm.h"

namespace efficientconv {

// One map, any k, where g is the gradient that ReLU passes: reduced[cell] = the sum over the taps of g * filter. `sums`
// gets the sum of cell * g for each tap, followed by the sum of g.
inline void reduce_passed(const Grid& grid, const Passed& passed, const float* cells, const float* filter, double* sums,
                          float* reduced) {
  std::fill_n(reduced, grid.cells(), 0.f);
  for_each_covered(grid, [&](int64_t cell, int64_t pixel, int64_t tap) {
    const float g = passed.one(pixel);
    reduced[cell] += g * filter[tap];
    sums[tap] += static_cast<double>(g) * cells[cell];
    sums[grid.kernel * grid.kernel] += g;
  });
}

// The same for k = 2, except that `halved` has two columns for each cell, which add_pairs then adds. The gradient and
// the output have margins.
inline void halve_passed(const Grid& grid, const Passed& passed, const float* doubled, const float* filter,
                         const CellScratch& scratch, double* sums, float* halved) {
  const Vec up = alternating(filter[0], filter[1]), low = alternating(filter[2], filter[3]);
  Vec upper = {}, lower = {}, total = {};
  for (int64_t i = 0; i < grid.rows; ++i, doubled += grid.width(), halved += grid.width()) {
    const auto row = [&](int64_t dy) {
      return Passed{covered_row(grid, passed.grad, i, dy, scratch.zeros), covered_row(grid, passed.out, i, dy, scratch.zeros)};
    };
    const Passed above = row(0), below = row(1);
    for (int64_t x = 0; x < grid.width(); x += kLanes) {  // the next row overwrites what is past the end
      const int32_t* mask = &scratch.on_map[x];
      const Vec a = masked(above.vector(x), mask), b = masked(below.vector(x), mask), v = masked(load(doubled + x), mask);
      upper += v * a;
      lower += v * b;
      total += a + b;
      store(halved + x, a * up + b * low);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    sums[lane % 2] += upper[lane];
    sums[2 + lane % 2] += lower[lane];
    sums[4] += total[lane];
  }
}

// For maps [first, last): grad_cells = the sums over the taps of g * filter. `sums`: area + 1 numbers for each map.
inline void reduce_passed_range(const Grid& grid, const float* grad_out, const float* out, const float* cells,
                                const float* filters, int64_t first, int64_t last, double* sums, float* grad_cells) {
  const int64_t area = grid.kernel * grid.kernel, size = grid.cells(), pixels = grid.maps.pixels();
  const CellScratch scratch(grid);
  const int64_t map_size = pixels + 2 * kMargin;
  const Floats copies(2 * map_size);
  const Floats halved(2 * scratch.together * size + kLanes);
  for (int64_t i = first, count; i < last; i += count) {
    count = std::min(scratch.together, last - i);
    if (grid.kernel == 2) double_cells(cells + i * size, count * size, scratch.rows);
    for (int64_t n = 0; n < count; ++n) {
      const int64_t map = i + n;
      const float* filter = filters + map % grid.maps.channels * area;
      double* to = sums + map * (area + 1);
      if (grid.kernel == 2) {
        const Passed passed{with_margins(grid.maps, grad_out, map, kMargin, copies),
                            with_margins(grid.maps, out, map, kMargin, copies + map_size)};
        halve_passed(grid, passed, scratch.rows + 2 * n * size, filter, scratch, to, halved + 2 * n * size);
      } else {
        const Passed passed{grad_out + map * pixels, out + map * pixels};
        reduce_passed(grid, passed, cells + map * size, filter, to, grad_cells + map * size);
      }
    }
    if (grid.kernel == 2) add_pairs(halved, count * size, grad_cells + i * size);
  }
}

// Turns the sums of g * filter in grad_cells into sums of dz * filter, where dz = scale * (g - offset - slope * z) is the
// gradient of batch norm's input.
inline void subtract_mean_and_slope(const Grid& grid, const CellMasks& masks, const float* cells, const float* filter, int64_t c,
                                    const NormGradient& norm, float* grad_cells) {
  const int64_t size = grid.cells();
  const float scale = norm.scale, offset = norm.offset(), slope = norm.slope;
  std::vector<float> taps(size), squares(size);  // for each cell, sums over its taps that lie on the map
  for (int64_t tap = 0; tap < grid.kernel * grid.kernel; ++tap)
    for (int64_t i = 0; i < size; ++i) {
      const float f = masks.of(tap)[i] ? filter[tap] : 0.f;
      taps[i] += f * offset;
      squares[i] += f * f * slope;
    }
  for (int64_t image = 0; image < grid.maps.images; ++image) {
    const int64_t at = (image * grid.maps.channels + c) * size;
    for (int64_t i = 0; i < size; ++i)
      grad_cells[at + i] = scale * (grad_cells[at + i] - taps[i] - squares[i] * cells[at + i]);
  }
}

// The gradients of the cells, the filters, gamma and beta, given that of out = relu(batch_norm(expanded cells) + residual).
void run_expand_backward(const Grid& grid, const float* grad_out, const float* out, const float* cells, const float* filters,
                            const float* mean, const float* var, const float* gamma, double eps, const LayerGradients& grads) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels, maps = grid.maps.images * channels;
  const double count = static_cast<double>(grid.maps.images) * grid.maps.pixels();
  const CellMasks masks(grid);
  std::vector<double> sums(maps * (area + 1));
  parallel(maps, 8, [&](int64_t first, int64_t last) {
    reduce_passed_range(grid, grad_out, out, cells, filters, first, last, sums.data(), grads.cells);
  });
  parallel(channels, 1, [&](int64_t first, int64_t last) {
    const Floats scratch(grid.cells() + 2 * kMargin);
    for (int64_t c = first; c < last; ++c) {
      const float* filter = filters + c * area;
      std::vector<double> totals(area + 1);
      for (int64_t map = c; map < maps; map += channels)
        for (int64_t i = 0; i <= area; ++i) totals[i] += sums[map * (area + 1) + i];
      double products = -mean[c] * totals[area];  // becomes the sum of g * (z - mean)
      for (int64_t tap = 0; tap < area; ++tap) products += filter[tap] * totals[tap];
      const NormGradient norm(totals[area], products, count, mean[c], var[c], gamma ? gamma[c] : 1.f, eps);
      subtract_mean_and_slope(grid, masks, cells, filter, c, norm, grads.cells);
      const auto values = sums_over_cells(grid, masks, cells, c, scratch, [](int64_t, Vec v) { return v; });
      const auto squares = sums_over_cells(grid, masks, cells, c, scratch, [](int64_t, Vec v) { return v * v; });
      for (int64_t tap = 0; tap < area; ++tap)
        grads.filters[c * area + tap] = static_cast<float>(
            norm.scale * (totals[tap] - norm.offset() * values[tap] - norm.slope * filter[tap] * squares[tap]));
      grads.gamma[c] = static_cast<float>(norm.gamma);
      grads.beta[c] = static_cast<float>(norm.beta);
    }
  });
}

// For maps [first, last): grad_x, and `sums` of each map for the gradient of the filters, one number for each tap.
inline void reduce_backward_range(const Grid& grid, const float* x, const float* filters, const float* grad_cells,
                                  const float* grad_out, const float* out, int64_t first, int64_t last, double* sums,
                                  float* grad_x) {
  const int64_t area = grid.kernel * grid.kernel, size = grid.cells(), pixels = grid.maps.pixels();
  const CellScratch scratch(grid);
  for (int64_t i = first, count; i < last; i += count) {
    count = std::min(scratch.together, last - i);
    if (grid.kernel == 2) double_cells(grad_cells + i * size, count * size, scratch.rows);
    for (int64_t n = 0; n < count; ++n) {
      const int64_t map = i + n, at = map * pixels;
      const float *filter = filters + map % grid.maps.channels * area, *from = grad_cells + map * size;
      const float *doubled = scratch.rows + 2 * n * size, *x_map = with_margins(grid.maps, x, map, kMargin, scratch.map);
      add_filter_gradient(grid, from, doubled, x_map, scratch, sums + map * area);
      const int64_t room = (last - map) * pixels;
      if (grad_out) expand_map(grid, from, doubled, filter, AddPassed{Passed{grad_out + at, out + at}}, room, grad_x + at);
      else expand_map(grid, from, doubled, filter, AddMap{nullptr}, room, grad_x + at);
    }
  }
}

// The gradients of x and of the filters, given that of cells = reduce(x). If the layer has a residual connection,
// grad_x also gets the part of grad_out that ReLU passes. If it has none, grad_out and out are null.
void run_reduce_backward(const Grid& grid, const float* x, const float* filters, const float* grad_cells, const float* grad_out,
                            const float* out, float* grad_x, float* grad_filters) {
  const int64_t area = grid.kernel * grid.kernel, maps = grid.maps.images * grid.maps.channels;
  std::vector<double> sums(maps * area);
  parallel(maps, 8, [&](int64_t first, int64_t last) {
    reduce_backward_range(grid, x, filters, grad_cells, grad_out, out, first, last, sums.data(), grad_x);
  });
  add_up_sets(grid.maps.images, grid.maps.channels * area, sums.data(), grad_filters);
}

}  // namespace efficientconv
