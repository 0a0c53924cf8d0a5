// The gradients of the depthwise filters of a spatial bottleneck, in reduce and in expand: sums of cells times the
// pixels that the cells cover.
//
// Each map has its own sums (add_up_sets in blocks.h says why).
#pragma once

#include "cells.h"

namespace efficientconv {

// One map with margins: sums[dy][dx] += the sum over the cells of the cell times the pixel that it covers with tap (dy, dx).
inline void add_filter_gradient(const Grid& grid, const float* cells, const float* doubled, const float* map,
                                const CellScratch& scratch, double* sums) {
  if (grid.kernel != 2)
    return for_each_covered(grid, [&](int64_t cell, int64_t pixel, int64_t tap) { sums[tap] += cells[cell] * map[pixel]; });
  Vec upper = {}, lower = {};
  for (int64_t i = 0; i < grid.rows; ++i, doubled += grid.width()) {
    const float *above = covered_row(grid, map, i, 0, scratch.zeros), *below = covered_row(grid, map, i, 1, scratch.zeros);
    for (int64_t x = 0; x < grid.width(); x += kLanes) {
      const int32_t* mask = &scratch.on_map[x];
      const Vec v = masked(load(doubled + x), mask);
      upper += v * masked(load(above + x), mask);
      lower += v * masked(load(below + x), mask);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {  // even lanes have the cells' first columns, odd lanes the second
    sums[lane % 2] += upper[lane];
    sums[2 + lane % 2] += lower[lane];
  }
}

// The gradient of the filters of reduce or expand: grad[c][dy][dx] = the sum of channel c's cells times the pixels that they
// cover with tap (dy, dx).
void run_cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad) {
  const int64_t area = grid.kernel * grid.kernel, size = grid.cells(), count = grid.maps.images * grid.maps.channels;
  std::vector<double> sums(count * area);
  parallel(count, 8, [&](int64_t first, int64_t last) {
    const CellScratch scratch(grid);
    for (int64_t i = first, together; i < last; i += together) {
      together = std::min(scratch.together, last - i);
      if (grid.kernel == 2) double_cells(cells + i * size, together * size, scratch.rows);
      for (int64_t map = i; map < i + together; ++map)
        add_filter_gradient(grid, cells + map * size, scratch.rows + 2 * (map - i) * size,
                            with_margins(grid.maps, maps, map, kMargin, scratch.map), scratch, sums.data() + map * area);
    }
  });
  add_up_sets(grid.maps.images, grid.maps.channels * area, sums.data(), grad);
}

}  // namespace efficientconv
