// The depthwise halves of a spatial bottleneck: k x k with stride k onto cells, and back. Each is the other's transpose.
//
// Cell (i, j) covers the map's rows i k - padding .. i k - padding + k - 1, and columns alike; what lies outside is zero.
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
};

// even and odd elements of 16 floats, and back
EC_INLINE void split(const float* p, Vec& even, Vec& odd) {
  const Vec a = load(p), b = load(p + kLanes);
  even = shuffle<0, 2, 4, 6, 8, 10, 12, 14>(a, b);
  odd = shuffle<1, 3, 5, 7, 9, 11, 13, 15>(a, b);
}
EC_INLINE Vec merge_low(Vec even, Vec odd) { return shuffle<0, 8, 1, 9, 2, 10, 3, 11>(even, odd); }
EC_INLINE Vec merge_high(Vec even, Vec odd) { return shuffle<4, 12, 5, 13, 6, 14, 7, 15>(even, odd); }

// f(row of the map, row of cells, dy) for every row that a row of cells covers inside the map
template <class F>
EC_INLINE void for_each_row(const Grid& grid, F f) {
  for (int64_t y = 0; y < grid.maps.height; ++y) f(y, (y + grid.padding) / grid.kernel, (y + grid.padding) % grid.kernel);
}

// Cells of a row that lie whole in the map's width, from and to: those that the vectors may take.
EC_INLINE void whole_cells(const Grid& grid, int64_t& begin, int64_t& end) {
  begin = std::min((grid.padding + grid.kernel - 1) / grid.kernel, grid.columns());
  end = std::max(begin, (grid.maps.width + grid.padding) / grid.kernel);
}

// cells[j] += sum over dx of row[j k - padding + dx] * filter[dx], for one row of the map
EC_INLINE void reduce_row(const Grid& grid, const float* row, const float* filter, float* cells) {
  int64_t begin = 0, end = 0, j;
  whole_cells(grid, begin, end);
  const auto one = [&](int64_t cell) {
    const int64_t x = cell * grid.kernel - grid.padding;
    for (int64_t dx = std::max<int64_t>(0, -x); dx < std::min(grid.kernel, grid.maps.width - x); ++dx)
      cells[cell] += row[x + dx] * filter[dx];
  };
  for (j = 0; j < begin; ++j) one(j);
  if (grid.kernel == 2)
    for (; j + kLanes <= end; j += kLanes) {
      Vec even, odd;
      split(row + 2 * j - grid.padding, even, odd);
      store(cells + j, load(cells + j) + even * splat(filter[0]) + odd * splat(filter[1]));
    }
  for (; j < grid.columns(); ++j) one(j);
}

// What becomes of an expanded map: + bias, + residual, ReLU.
struct Finish {
  float bias;
  const float* residual;  // the map's, or null
  bool relu;
};

EC_INLINE float finish_one(float v, const Finish& finish, int64_t at) {
  v += finish.bias + (finish.residual ? finish.residual[at] : 0.f);
  return finish.relu && !(v > 0.f) ? 0.f : v;
}

EC_INLINE Vec finish_eight(Vec v, const Finish& finish, int64_t at) {
  v += splat(finish.bias);
  if (finish.residual) v += load(finish.residual + at);
  return finish.relu ? positive(v) : v;
}

// row y of the map = finish(cells[x / k] * filter[x % k])
EC_INLINE void expand_row(const Grid& grid, const float* cells, const float* filter, const Finish& finish, int64_t y,
                          float* map) {
  const int64_t w = grid.maps.width, at = y * w;
  int64_t begin = 0, end = 0, x = 0;
  whole_cells(grid, begin, end);
  const auto until = [&](int64_t stop) {
    for (; x < stop; ++x) {
      const int64_t column = x + grid.padding;
      map[at + x] = finish_one(cells[column / grid.kernel] * filter[column % grid.kernel], finish, at + x);
    }
  };
  until(std::min(w, begin * grid.kernel - grid.padding));
  if (grid.kernel == 2)
    for (int64_t j = begin; j + kLanes <= end; j += kLanes, x += 2 * kLanes) {
      const Vec v = load(cells + j), even = v * splat(filter[0]), odd = v * splat(filter[1]);
      store(map + at + x, finish_eight(merge_low(even, odd), finish, at + x));
      store(map + at + x + kLanes, finish_eight(merge_high(even, odd), finish, at + x + kLanes));
    }
  until(w);
}

// x: B x n x H x W -> B x n x rows x columns
inline void reduce_maps(const Grid& grid, const float* x, const float* filters, float* cells) {
  const int64_t k = grid.kernel, channels = grid.maps.channels;
  parallel(grid.maps.images * channels, 8, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      float* to = cells + i * grid.cells();
      std::fill(to, to + grid.cells(), 0.f);
      for_each_row(grid, [&](int64_t y, int64_t row, int64_t dy) {
        reduce_row(grid, x + i * grid.maps.pixels() + y * grid.maps.width, filters + i % channels * k * k + dy * k,
                   to + row * grid.columns());
      });
    }
  });
}

// cells -> maps of grid.maps' size; scale and bias one a channel, residual of the maps' shape, each null: left out
inline void expand_cells(const Grid& grid, const float* cells, const float* filters, const float* scale,
                         const float* bias, const float* residual, bool relu, float* y) {
  const int64_t k = grid.kernel, channels = grid.maps.channels, pixels = grid.maps.pixels();
  parallel(grid.maps.images * channels, 8, [&](int64_t first, int64_t last) {
    std::vector<float> filter(k * k);
    for (int64_t i = first; i < last; ++i) {
      const int64_t c = i % channels;
      for (int64_t tap = 0; tap < k * k; ++tap) filter[tap] = filters[c * k * k + tap] * (scale ? scale[c] : 1.f);
      const Finish finish{bias ? bias[c] : 0.f, residual ? residual + i * pixels : nullptr, relu};
      for_each_row(grid, [&](int64_t row_of_map, int64_t row, int64_t dy) {
        expand_row(grid, cells + i * grid.cells() + row * grid.columns(), filter.data() + dy * k, finish, row_of_map,
                   y + i * pixels);
      });
    }
  });
}

// sums[dx] += sum over the cells of cells[j] * row[j k - padding + dx]
EC_INLINE void filter_row(const Grid& grid, const float* cells, const float* row, float* sums) {
  int64_t begin = 0, end = 0, j;
  whole_cells(grid, begin, end);
  const auto one = [&](int64_t cell) {
    const int64_t x = cell * grid.kernel - grid.padding;
    for (int64_t dx = std::max<int64_t>(0, -x); dx < std::min(grid.kernel, grid.maps.width - x); ++dx)
      sums[dx] += row[x + dx] * cells[cell];
  };
  for (j = 0; j < begin; ++j) one(j);
  if (grid.kernel == 2) {
    Vec first = {}, second = {};
    for (; j + kLanes <= end; j += kLanes) {
      Vec even, odd;
      split(row + 2 * j - grid.padding, even, odd);
      first += load(cells + j) * even;
      second += load(cells + j) * odd;
    }
    for (int i = 0; i < kLanes; ++i) sums[0] += first[i], sums[1] += second[i];
  }
  for (; j < grid.columns(); ++j) one(j);
}

// The gradient of either half's filters: grad[c][dy][dx] = sum of cells times the pixels that they cover so.
inline void cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad) {
  const int64_t k = grid.kernel, channels = grid.maps.channels;
  parallel(channels, 1, [&](int64_t first, int64_t last) {
    std::vector<float> sums(k * k);
    std::vector<double> totals(k * k);
    for (int64_t c = first; c < last; ++c) {
      std::fill(totals.begin(), totals.end(), 0.);
      for (int64_t i = c; i < grid.maps.images * channels; i += channels) {
        std::fill(sums.begin(), sums.end(), 0.f);
        for_each_row(grid, [&](int64_t y, int64_t row, int64_t dy) {
          filter_row(grid, cells + i * grid.cells() + row * grid.columns(),
                     maps + i * grid.maps.pixels() + y * grid.maps.width, sums.data() + dy * k);
        });
        for (int64_t tap = 0; tap < k * k; ++tap) totals[tap] += sums[tap];
      }
      std::copy(totals.begin(), totals.end(), grad + c * k * k);
    }
  });
}

}  // namespace efficientconv
