// The depthwise halves of a spatial bottleneck: k x k with stride k onto cells, and back. Each is the other's transpose.
//
// Cell (i, j) covers the map's rows i k - padding .. i k - padding + k - 1, and columns alike; what lies outside is zero.
// A map is first laid out on whole cells in a thread's scratch space, so that no loop has edges. k = 2, which the paper's
// models have, goes by vectors of pixels, even columns beside odd ones; any other k by the plain loops.
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

// f(x, n) for the pixels of row y of a map: eights, also past the row's end while the map goes on there, else exactly
template <class F>
EC_INLINE void for_each_row_piece(const Maps& maps, int64_t y, F f) {
  const int64_t w = maps.width;
  if (y * w + round_up(w, kLanes) <= maps.pixels())
    for (int64_t x = 0; x < w; x += kLanes) f(x, std::integral_constant<int, 8>());
  else
    for_each_piece(w, f);
}

template <int kCount>
EC_INLINE void copy_pixels(const float* from, float* to) {
  if constexpr (kCount == kLanes) store(to, load(from));
  else
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
}

// The map on whole cells, rows of grid.width(), zero outside the map.
inline void lay_out(const Grid& grid, const float* map, float* laid) {
  const int64_t h = grid.maps.height, w = grid.maps.width, across = grid.width(), p = grid.padding;
  const int64_t below = grid.rows() * grid.kernel - p - h;
  for (int64_t y = 0; y < h; ++y)  // what a row writes past its end, the next one writes again
    for_each_row_piece(grid.maps, y, [&](int64_t x, auto n) {
      copy_pixels<n>(map + y * w + x, laid + (y + p) * across + p + x);
    });
  std::fill(laid, laid + p * across, 0.f);
  std::fill(laid + (p + h) * across, laid + (p + h + below) * across + kLanes, 0.f);
  for (int64_t y = p; y < p + h; ++y) {
    for (int64_t x = 0; x < p; ++x) laid[y * across + x] = 0.f;
    for (int64_t x = p + w; x < across; ++x) laid[y * across + x] = 0.f;
  }
}

// one map: cells[i][j] = sum over dy, dx of laid[i k + dy][j k + dx] * filter[dy][dx]; `rows` is scratch space
inline void reduce_map(const Grid& grid, const float* laid, const float* filter, float* rows, float* cells) {
  const int64_t k = grid.kernel, across = grid.width();
  if (k != 2) {
    for (int64_t i = 0; i < grid.rows(); ++i)
      for (int64_t j = 0; j < grid.columns(); ++j) {
        float sum = 0;
        for (int64_t dy = 0; dy < k; ++dy)
          for (int64_t dx = 0; dx < k; ++dx) sum += laid[(i * k + dy) * across + j * k + dx] * filter[dy * k + dx];
        cells[i * grid.columns() + j] = sum;
      }
    return;
  }
  const Vec upper = alternating(filter[0], filter[1]), lower = alternating(filter[2], filter[3]);
  for (int64_t i = 0; i < grid.rows(); ++i) {
    const float *above = laid + 2 * i * across, *below = above + across;
    for (int64_t x = 0; x < across; x += kLanes)
      store(rows + i * across + x, load(above + x) * upper + load(below + x) * lower);
  }
  for (int64_t c = 0; c < grid.cells(); c += kLanes) {
    const Vec a = load(rows + 2 * c), b = load(rows + 2 * c + kLanes);
    const Vec sums = shuffle<0, 2, 4, 6, 8, 10, 12, 14>(a, b) + shuffle<1, 3, 5, 7, 9, 11, 13, 15>(a, b);
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
    store(doubled + 2 * c, shuffle<0, 8, 1, 9, 2, 10, 3, 11>(v, v));
    store(doubled + 2 * c + kLanes, shuffle<4, 12, 5, 13, 6, 14, 7, 15>(v, v));
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
    return relu && !(v > 0.f) ? 0.f : v;
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

// totals[dy][dx] += sum over the cells of one map: cell * the pixel that it covers so; `doubled` is scratch space
inline void filter_gradient_map(const Grid& grid, const float* cells, const float* laid, float* doubled, double* totals) {
  const int64_t k = grid.kernel, across = grid.width();
  if (k != 2) {
    for (int64_t i = 0; i < grid.rows(); ++i)
      for (int64_t j = 0; j < grid.columns(); ++j)
        for (int64_t dy = 0; dy < k; ++dy)
          for (int64_t dx = 0; dx < k; ++dx)
            totals[dy * k + dx] += cells[i * grid.columns() + j] * laid[(i * k + dy) * across + j * k + dx];
    return;
  }
  static constexpr int32_t first_lanes[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
  double_cells(grid, cells, doubled);
  Vec upper = {}, lower = {};
  for (int64_t i = 0; i < grid.rows(); ++i) {
    const float *cell = doubled + i * across, *above = laid + 2 * i * across, *below = above + across;
    for (int64_t x = 0; x < across; x += kLanes) {
      const Vec v = masked(load(cell + x), first_lanes + std::max<int64_t>(0, x + kLanes - across));
      upper += v * load(above + x);
      lower += v * load(below + x);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    totals[lane % 2] += upper[lane];
    totals[2 + lane % 2] += lower[lane];
  }
}

// x: B x n x H x W -> B x n x rows x columns
inline void reduce_maps(const Grid& grid, const float* x, const float* filters, float* cells) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels;
  parallel(grid.maps.images * channels, 8, [&](int64_t first, int64_t last) {
    float* laid = thread_scratch(kMap, grid.pixels() + 2 * kLanes);
    float* rows = thread_scratch(kRows, grid.pixels() + 2 * kLanes);
    for (int64_t i = first; i < last; ++i) {
      lay_out(grid, x + i * grid.maps.pixels(), laid);
      reduce_map(grid, laid, filters + i % channels * area, rows, cells + i * grid.cells());
    }
  });
}

// cells -> maps of grid.maps' size; scale and bias one a channel, residual of the maps' shape, each null: left out
inline void expand_cells(const Grid& grid, const float* cells, const float* filters, const float* scale,
                         const float* bias, const float* residual, bool relu, float* y) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels, pixels = grid.maps.pixels();
  parallel(grid.maps.images * channels, 8, [&](int64_t first, int64_t last) {
    float* doubled = thread_scratch(kMap, grid.pixels() + 2 * kLanes);
    std::vector<float> filter(area);
    for (int64_t i = first; i < last; ++i) {
      const int64_t c = i % channels;
      for (int64_t tap = 0; tap < area; ++tap) filter[tap] = filters[c * area + tap] * (scale ? scale[c] : 1.f);
      const Finish finish{bias ? bias[c] : 0.f, residual ? residual + i * pixels : nullptr, relu};
      expand_map(grid, cells + i * grid.cells(), filter.data(), finish, doubled, y + i * pixels);
    }
  });
}

// The gradient of either half's filters: grad[c][dy][dx] = sum of cells times the pixels that they cover so.
inline void cell_filter_gradient(const Grid& grid, const float* cells, const float* maps, float* grad) {
  const int64_t area = grid.kernel * grid.kernel, channels = grid.maps.channels;
  parallel(channels, 1, [&](int64_t first, int64_t last) {
    float* laid = thread_scratch(kMap, grid.pixels() + 2 * kLanes);
    float* doubled = thread_scratch(kRows, grid.pixels() + 2 * kLanes);
    std::vector<double> totals(area);
    for (int64_t c = first; c < last; ++c) {
      std::fill(totals.begin(), totals.end(), 0.);
      for (int64_t i = c; i < grid.maps.images * channels; i += channels) {
        lay_out(grid, maps + i * grid.maps.pixels(), laid);
        filter_gradient_map(grid, cells + i * grid.cells(), laid, doubled, totals.data());
      }
      std::copy(totals.begin(), totals.end(), grad + c * area);
    }
  });
}

}  // namespace efficientconv
