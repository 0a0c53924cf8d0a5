// The gradients of a spatial bottleneck's depthwise filters, of either half: cells times the pixels that they cover.
#pragma once

#include "cells.h"

namespace efficientconv {

// The sums over a channel's cells, in double; with k = 2 in between in the lanes of vectors, even columns beside odd ones.
struct FilterSums {
  std::vector<double> taps;
  Vec upper = {}, lower = {};
  int64_t pending = 0;

  void settle() {
    for (int lane = 0; lane < kLanes; ++lane) {
      taps[lane % 2] += upper[lane];
      taps[2 + lane % 2] += lower[lane];
    }
    upper = lower = Vec{};
    pending = 0;
  }
};

// sums[dy][dx] += sum over the cells of one map with margins: cell * the pixel that it covers so
inline void add_filter_gradient(const Grid& grid, const float* cells, const float* doubled, const float* map,
                                const CellScratch& scratch, FilterSums& sums) {
  if (grid.kernel != 2)
    return for_each_covered(grid, [&](int64_t cell, int64_t pixel, int64_t tap) { sums.taps[tap] += cells[cell] * map[pixel]; });
  Vec upper = sums.upper, lower = sums.lower;
  for (int64_t i = 0; i < grid.rows(); ++i, doubled += grid.width()) {
    const float *above = covered_row(grid, map, i, 0, scratch.zeros), *below = covered_row(grid, map, i, 1, scratch.zeros);
    for (int64_t x = 0; x < grid.width(); x += kLanes) {
      const int32_t* mask = &scratch.on_map[x];
      const Vec v = masked(load(doubled + x), mask);
      upper += v * masked(load(above + x), mask);
      lower += v * masked(load(below + x), mask);
    }
  }
  sums.upper = upper, sums.lower = lower;
  sums.pending += grid.pixels();
  if (sums.pending >= kMostPending) sums.settle();
}

// The gradient of either half's filters: grad[c][dy][dx] = sum of cells times the pixels that they cover so.
inline void cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels, size = grid.cells();
  parallel(channels, 1, [&](int64_t first, int64_t last) {
    const CellScratch scratch(grid);
    for (int64_t c = first; c < last; ++c) {
      FilterSums sums{std::vector<double>(area)};
      for (int64_t image = 0, count; image < grid.maps.images; image += count) {
        count = std::min(scratch.together, grid.maps.images - image);
        const auto map = [&](int64_t n) { return (image + n) * channels + c; };
        for (int64_t n = 0; n < count; ++n) double_cells(cells + map(n) * size, size, scratch.rows + 2 * n * size);
        for (int64_t n = 0; n < count; ++n)
          add_filter_gradient(grid, cells + map(n) * size, scratch.rows + 2 * n * size,
                              with_margins(grid.maps, maps, map(n), scratch.map), scratch, sums);
      }
      if (grid.kernel == 2) sums.settle();
      std::copy(sums.taps.begin(), sums.taps.end(), grad + c * area);
    }
  });
}

}  // namespace efficientconv
