// The depthwise halves of a spatial bottleneck: k x k with stride k onto cells, and back. Each is the other's transpose.
//
// Cell (i, j) covers the map's rows i k - padding .. i k - padding + k - 1, and columns alike; what lies outside is zero.
// k = 2, which the paper's models have, goes by vectors of pixels, even columns beside odd ones; any other k by plain loops.
#pragma once

#include "blocks.h"
#include "parallel.h"

namespace efficientconv {

struct Grid {
  Maps maps;
  int64_t kernel, padding;
  int64_t rows() const { return (maps.height + padding + kernel - 1) / kernel; }
  int64_t columns() const { return (maps.width + padding + kernel - 1) / kernel; }
  int64_t cells() const { return rows() * columns(); }
  int64_t width() const { return columns() * kernel; }  // of a row of pixels, with what hangs over the edge
  int64_t pixels() const { return cells() * kernel * kernel; }
};

// f(x, n) for the pixels of row y of a map: whole vectors, also past the row's end while the map goes on there, else exactly
template <class F>
EC_INLINE void for_each_row_piece(const Maps& maps, int64_t y, F f) {
  const int64_t w = maps.width;
  if (y * w + round_up(w, kLanes) <= maps.pixels())
    for (int64_t x = 0; x < w; x += kLanes) f(x, std::integral_constant<int, kLanes>());
  else
    for_each_piece(w, f);
}

constexpr int64_t kMargin = 2 * kLanes;  // floats that vectors may read before and after a map, whatever they are

// Map `i` of x with readable margins: itself, or at the ends of the memory a copy in `scratch`, of kMargin more on each side.
inline const float* with_margins(const Maps& maps, const float* x, int64_t i, float* scratch) {
  const int64_t at = i * maps.pixels();
  if (at >= kMargin && at + maps.pixels() + kMargin <= maps.numel()) return x + at;
  std::fill(scratch, scratch + kMargin, 0.f);
  std::copy(x + at, x + at + maps.pixels(), scratch + kMargin);
  std::fill(scratch + kMargin + maps.pixels(), scratch + maps.pixels() + 2 * kMargin, 0.f);
  return scratch + kMargin;
}

// The row of pixels that row `i` of the cells covers with its filters' row dy, from the first cell's first column on; what
// lies beside the map is no zero there. k = 2 only. `zeros` stands for rows outside the map.
EC_INLINE const float* covered_row(const Grid& grid, const float* map, int64_t i, int64_t dy, const float* zeros) {
  const int64_t y = 2 * i + dy - grid.padding;
  return y >= 0 && y < grid.maps.height ? map + y * grid.maps.width - grid.padding : zeros;
}

// Zeros in the columns of row `i` of the cells that lie beside the map, in an array of grid.width() columns.
EC_INLINE void clear_edges(const Grid& grid, int64_t i, float* rows) {
  float* row = rows + i * grid.width();
  for (int64_t x = 0; x < grid.padding; ++x) row[x] = 0.f;
  for (int64_t x = grid.padding + grid.maps.width; x < grid.width(); ++x) row[x] = 0.f;
}

// one map, any k: f(cell, pixel, tap) wherever the cell covers the pixel
template <class F>
inline void for_each_covered(const Grid& grid, F f) {
  const int64_t k = grid.kernel, p = grid.padding, w = grid.maps.width;
  for (int64_t y = 0; y < grid.maps.height; ++y)
    for (int64_t x = 0; x < w; ++x)
      f((y + p) / k * grid.columns() + (x + p) / k, y * w + x, (y + p) % k * k + (x + p) % k);
}

// one map with margins: cells[i][j] = sum over what the cell covers, times the filter; `rows` and `zeros` are scratch space
inline void reduce_map(const Grid& grid, const float* map, const float* filter, const float* zeros, float* rows,
                       float* cells) {
  const int64_t across = grid.width();
  if (grid.kernel != 2) {
    std::fill(cells, cells + grid.cells(), 0.f);
    for_each_covered(grid, [&](int64_t cell, int64_t pixel, int64_t tap) { cells[cell] += map[pixel] * filter[tap]; });
    return;
  }
  const Vec upper = alternating(filter[0], filter[1]), lower = alternating(filter[2], filter[3]);
  for (int64_t i = 0; i < grid.rows(); ++i) {  // what a row writes past its end, the next one writes again
    const float *above = covered_row(grid, map, i, 0, zeros), *below = covered_row(grid, map, i, 1, zeros);
    for (int64_t x = 0; x < across; x += kLanes)
      store(rows + i * across + x, load(above + x) * upper + load(below + x) * lower);
    clear_edges(grid, i, rows);
  }
  for (int64_t c = 0; c < grid.cells(); c += kLanes) {
    const Vec a = load(rows + 2 * c), b = load(rows + 2 * c + kLanes);
    const Vec sums = evens(a, b) + odds(a, b);
    if (c + kLanes <= grid.cells()) store(cells + c, sums);
    else
      for (int64_t j = 0; c + j < grid.cells(); ++j) cells[c + j] = sums[j];
  }
}

// doubled[2 c] = doubled[2 c + 1] = cells[c], and zeros after them
inline void double_cells(const Grid& grid, const float* cells, float* doubled) {
  int64_t c = 0;
  for (; c + kLanes <= grid.cells(); c += kLanes) {
    const Vec v = load(cells + c);
    store(doubled + 2 * c, doubled_lower(v));
    store(doubled + 2 * c + kLanes, doubled_upper(v));
  }
  for (; c < grid.cells(); ++c) doubled[2 * c] = doubled[2 * c + 1] = cells[c];
  for (int64_t x = 2 * c; x < 2 * c + 2 * kLanes; ++x) doubled[x] = 0.f;
}

// What becomes of an expanded map: + bias, + residual (the map's, or null), ReLU.
struct Finish {
  float bias;
  const float* residual;
  bool relu;

  EC_INLINE float operator()(float v, int64_t at) const {
    v += bias + (residual ? residual[at] : 0.f);
    return relu ? positive(v) : v;
  }
  EC_INLINE Vec operator()(Vec v, int64_t at) const {
    v += splat(bias);
    if (residual) v += load(residual + at);
    return relu ? positive(v) : v;
  }
};

// one map: map[y][x] = finish(cell over the pixel * filter[..][..]); `doubled` is scratch space
inline void expand_map(const Grid& grid, const float* cells, const float* filter, const Finish& finish, float* doubled,
                       float* map) {
  const int64_t k = grid.kernel, h = grid.maps.height, w = grid.maps.width, p = grid.padding;
  if (k == 2) double_cells(grid, cells, doubled);
  for (int64_t y = 0; y < h; ++y) {
    const int64_t row = (y + p) / k;
    const float* taps = filter + (y + p) % k * k;
    if (k == 2) {
      const Vec pattern = p % 2 ? alternating(taps[1], taps[0]) : alternating(taps[0], taps[1]);
      const float* from = doubled + row * grid.width() + p;
      for_each_row_piece(grid.maps, y, [&](int64_t x, auto n) {
        const int64_t at = y * w + x;
        if constexpr (n == kLanes) store(map + at, finish(load(from + x) * pattern, at));
        else
          for (int64_t i = 0; i < n; ++i) map[at + i] = finish(from[x + i] * taps[(x + i + p) % 2], at + i);
      });
    } else {
      for (int64_t x = 0; x < w; ++x)
        map[y * w + x] = finish(cells[row * grid.columns() + (x + p) / k] * taps[(x + p) % k], y * w + x);
    }
  }
}

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
inline void filter_gradient_map(const Grid& grid, const float* cells, const float* map, const float* zeros, float* doubled,
                                FilterSums& sums) {
  const int64_t across = grid.width();
  if (grid.kernel != 2)
    return for_each_covered(grid, [&](int64_t cell, int64_t pixel, int64_t tap) { sums.taps[tap] += cells[cell] * map[pixel]; });
  static constexpr auto first_lanes = [] {
    std::array<int32_t, 2 * kLanes> bits = {};
    for (int lane = 0; lane < kLanes; ++lane) bits[lane] = -1;
    return bits;
  }();
  double_cells(grid, cells, doubled);
  Vec upper = sums.upper, lower = sums.lower;
  for (int64_t i = 0; i < grid.rows(); ++i) {
    clear_edges(grid, i, doubled);
    const float *above = covered_row(grid, map, i, 0, zeros), *below = covered_row(grid, map, i, 1, zeros);
    for (int64_t x = 0; x < across; x += kLanes) {
      const Vec v = masked(load(doubled + i * across + x), first_lanes.data() + std::max<int64_t>(0, x + kLanes - across));
      upper += v * load(above + x);
      lower += v * load(below + x);
    }
  }
  sums.upper = upper, sums.lower = lower;
  sums.pending += grid.pixels();
  if (sums.pending >= 2048) sums.settle();  // for each small map it would take longer than to add that up
}

// What the loops over maps need beside them: a map with margins, rows of cells or doubled cells, and a row of zeros.
struct CellScratch {
  float *map, *rows, *zeros;
  explicit CellScratch(const Grid& grid)
      : map(thread_scratch(kMap, grid.pixels() + 2 * kMargin)),
        rows(thread_scratch(kRows, grid.pixels() + grid.width() + 2 * kMargin)),
        zeros(rows + grid.pixels() + kMargin) {
    std::fill(zeros, zeros + grid.width() + kMargin, 0.f);
  }
};

// x: B x n x H x W -> B x n x rows x columns
inline void reduce_maps(const Grid& grid, const float* x, const float* filters, float* cells) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels;
  parallel(grid.maps.images * channels, 8, [&](int64_t first, int64_t last) {
    const CellScratch scratch(grid);
    for (int64_t i = first; i < last; ++i)
      reduce_map(grid, with_margins(grid.maps, x, i, scratch.map), filters + i % channels * area, scratch.zeros,
                 scratch.rows, cells + i * grid.cells());
  });
}

// cells -> maps of grid.maps' size; scale and bias one a channel, residual of the maps' shape, each null: left out
inline void expand_cells(const Grid& grid, const float* cells, const float* filters, const float* scale,
                         const float* bias, const float* residual, bool relu, float* y) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels, pixels = grid.maps.pixels();
  parallel(grid.maps.images * channels, 8, [&](int64_t first, int64_t last) {
    const CellScratch scratch(grid);
    std::vector<float> filter(area);
    for (int64_t i = first; i < last; ++i) {
      const int64_t c = i % channels;
      for (int64_t tap = 0; tap < area; ++tap) filter[tap] = filters[c * area + tap] * (scale ? scale[c] : 1.f);
      const Finish finish{bias ? bias[c] : 0.f, residual ? residual + i * pixels : nullptr, relu};
      expand_map(grid, cells + i * grid.cells(), filter.data(), finish, scratch.rows, y + i * pixels);
    }
  });
}

// The gradient of either half's filters: grad[c][dy][dx] = sum of cells times the pixels that they cover so.
inline void cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels;
  parallel(channels, 1, [&](int64_t first, int64_t last) {
    const CellScratch scratch(grid);
    for (int64_t c = first; c < last; ++c) {
      FilterSums sums{std::vector<double>(area)};
      for (int64_t i = c; i < grid.maps.images * channels; i += channels) {
        filter_gradient_map(grid, cells + i * grid.cells(), with_margins(grid.maps, maps, i, scratch.map), scratch.zeros,
                            scratch.rows, sums);
      }
      if (grid.kernel == 2) sums.settle();
      std::copy(sums.taps.begin(), sums.taps.end(), grad + c * area);
    }
  });
}

}  // namespace efficientconv
