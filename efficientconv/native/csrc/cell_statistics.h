// Batch norm's statistics of a spatial bottleneck's expanded cells, computed from the cells. Batch norm's input z,
// which is each cell times the k x k filter of the channel, is never in memory. cell_layer.h has the gradients.
#pragma once

#include "cells.h"

namespace efficientconv {

// For each tap and each cell: all bits are set if the pixel that the cell covers with the tap lies on the map, else none.
class CellMasks {
 public:
  explicit CellMasks(const Grid& grid)
      : stride_(grid.cells() + kLanes), bits_(grid.kernel * grid.kernel * stride_) {
    for_each_covered(grid, [&](int64_t cell, int64_t, int64_t tap) { bits_[tap * stride_ + cell] = -1; });
  }
  const int32_t* of(int64_t tap) const { return bits_.data() + tap * stride_; }

 private:
  int64_t stride_;
  std::vector<int32_t> bits_;
};

// The sizes of the cells of a grid, as maps.
inline Maps cell_maps(const Grid& grid) { return {grid.maps.images, grid.maps.channels, grid.rows, grid.columns}; }

// For each tap the sum, in double, of f(tap, vector of cells) over those cells of channel c whose pixel under the tap
// lies on the map.
template <class F>
std::vector<double> sums_over_cells(const Grid& grid, const CellMasks& masks, const float* cells, int64_t c, float* scratch, F f) {
  const Maps maps = cell_maps(grid);
  const int64_t area = grid.kernel * grid.kernel;
  std::vector<double> sums(area);
  std::vector<Vec> lanes(area);
  for (int64_t image = 0, pending = 0; image < maps.images; ++image) {
    const float* map = with_margins(maps, cells, image * maps.channels + c, kMargin, scratch);
    for (int64_t tap = 0; tap < area; ++tap) {
      Vec sum = lanes[tap];
      for (int64_t i = 0; i < maps.pixels(); i += kLanes) sum += masked(f(tap, load(map + i)), masks.of(tap) + i);
      lanes[tap] = sum;
    }
    pending += maps.pixels();
    if (pending < kMostPending && image + 1 < maps.images) continue;
    for (int64_t tap = 0; tap < area; ++tap, pending = 0) {
      for (int lane = 0; lane < kLanes; ++lane) sums[tap] += lanes[tap][lane];
      lanes[tap] = Vec{};
    }
  }
  return sums;
}

// The mean and the biased variance of each channel's expanded cells.
void run_cell_statistics(const Grid& grid, const float* cells, const float* filters, float* mean, float* var) {
  const int64_t area = grid.kernel * grid.kernel;
  const double count = static_cast<double>(grid.maps.images) * grid.maps.pixels();
  const CellMasks masks(grid);
  parallel(grid.maps.channels, 1, [&](int64_t first, int64_t last) {
    const Floats scratch(grid.cells() + 2 * kMargin);
    for (int64_t c = first; c < last; ++c) {
      const float* filter = filters + c * area;
      const auto values = sums_over_cells(grid, masks, cells, c, scratch, [](int64_t, Vec v) { return v; });
      double m = 0;
      for (int64_t tap = 0; tap < area; ++tap) m += filter[tap] * values[tap] / count;
      const auto squares = sums_over_cells(grid, masks, cells, c, scratch, [&](int64_t tap, Vec v) {
        const Vec d = v * splat(filter[tap]) - splat(static_cast<float>(m));
        return d * d;
      });
      double squared = 0;
      for (int64_t tap = 0; tap < area; ++tap) squared += squares[tap];
      mean[c] = static_cast<float>(m);
      var[c] = static_cast<float>(squared / count);
    }
  });
}

}  // namespace efficientconv
