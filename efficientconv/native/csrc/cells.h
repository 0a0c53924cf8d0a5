// The two depthwise convolutions of a spatial bottleneck: reduce, k x k with stride k from a map to cells, and expand,
// from cells back to a map. Each is the transpose of the other.
//
// Cell (i, j) covers the map's rows i k - padding .. i k - padding + k - 1, and columns by the same rule. Pixels
// outside the map are zero. k = 2, as in the paper's models, uses vectors of pixels, in which even and odd columns take
// turns. Other k use plain loops.
#pragma once

#include "blocks.h"
#include "parallel.h"

namespace efficientconv {

constexpr int64_t kMargin = 2 * kLanes;  // floats before and after a map that vectors may read; their values do not matter

// k = 2: the row of pixels under filter row dy of cell row `i`, from the first cell's first column on. `zeros` stands
// for a row outside the map. The caller masks columns outside the map, which are not zero.
EC_INLINE const float* covered_row(const Grid& grid, const float* map, int64_t i, int64_t dy, const float* zeros) {
  const int64_t y = 2 * i + dy - grid.padding;
  return y >= 0 && y < grid.maps.height ? map + y * grid.maps.width - grid.padding : zeros;
}

// Any k: calls f(cell, pixel, tap) for each pixel of a map. `cell` covers the pixel with its filter's `tap`.
template <class F>
inline void for_each_covered(const Grid& grid, F f) {
  const int64_t k = grid.kernel, p = grid.padding, w = grid.maps.width;
  for (int64_t y = 0; y < grid.maps.height; ++y)
    for (int64_t x = 0; x < w; ++x)
      f((y + p) / k * grid.columns + (x + p) / k, y * w + x, (y + p) % k * k + (x + p) % k);
}

// Working memory for loops over maps: a map with margins, the halved or doubled cells of some maps, a row of zeros, and
// a mask of the columns that lie on the map.
struct CellScratch {
  // Maps that each loop handles before the next loop starts. A processor is slow to load at another offset what it has just
  // stored, so that a few small maps come in between.
  int64_t together;
  Floats map, rows;
  float* zeros;
  std::vector<int32_t> on_map;

  explicit CellScratch(const Grid& grid)
      : together(std::max<int64_t>(1, 2048 / grid.pixels())),
        map(grid.maps.pixels() + 2 * kMargin),
        rows(2 * together * grid.cells() + grid.width() + 2 * kMargin),
        zeros(rows + 2 * together * grid.cells() + kMargin),
        on_map(grid.width() + kLanes) {
    std::fill(zeros, zeros + grid.width() + kMargin, 0.f);
    std::fill_n(on_map.begin() + grid.padding, grid.maps.width, -1);
  }
};

// One map with margins, k = 2: halved[i][x] = what column x adds to its cell in cell row i.
inline void halve_rows(const Grid& grid, const float* map, const float* filter, const CellScratch& scratch, float* halved) {
  const Vec upper = alternating(filter[0], filter[1]), lower = alternating(filter[2], filter[3]);
  for (int64_t i = 0; i < grid.rows; ++i, halved += grid.width()) {  // the next row overwrites what is past the end
    const float *above = covered_row(grid, map, i, 0, scratch.zeros), *below = covered_row(grid, map, i, 1, scratch.zeros);
    for (int64_t x = 0; x < grid.width(); x += kLanes)
      store(halved + x, masked(load(above + x) * upper + load(below + x) * lower, &scratch.on_map[x]));
  }
}

// cells[c] = halved[2 c] + halved[2 c + 1]
inline void add_pairs(const float* halved, int64_t count, float* cells) {
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    const Vec a = load(halved + 2 * c), b = load(halved + 2 * c + kLanes);
    store(cells + c, evens(a, b) + odds(a, b));
  }
  for (; c < count; ++c) cells[c] = halved[2 * c] + halved[2 * c + 1];
}

// doubled[2 c] = doubled[2 c + 1] = cells[c], followed by a vector of zeros
inline void double_cells(const float* cells, int64_t count, float* doubled) {
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    const Vec v = load(cells + c);
    store(doubled + 2 * c, doubled_lower(v));
    store(doubled + 2 * c + kLanes, doubled_upper(v));
  }
  for (; c < count; ++c) doubled[2 * c] = doubled[2 * c + 1] = cells[c];
  std::fill_n(doubled + 2 * count, kLanes, 0.f);
}

// Reduces maps [first, last) of x to cells: a cell is the sum of the pixels that it covers, each times its tap of the
// channel's filter.
inline void reduce_range(const Grid& grid, const float* x, const float* filters, int64_t first, int64_t last,
                         const CellScratch& scratch, float* cells) {
  const int64_t area = grid.kernel * grid.kernel, size = grid.cells();
  for (int64_t i = first, count; i < last; i += count, cells += count * size) {
    count = std::min(scratch.together, last - i);
    for (int64_t n = 0; n < count; ++n) {
      const float* map = with_margins(grid.maps, x, i + n, kMargin, scratch.map);
      const float* filter = filters + (i + n) % grid.maps.channels * area;
      float* to = cells + n * size;
      if (grid.kernel == 2) {
        halve_rows(grid, map, filter, scratch, scratch.rows + 2 * n * size);
        continue;
      }
      std::fill_n(to, size, 0.f);
      for_each_covered(grid, [&](int64_t cell, int64_t pixel, int64_t tap) { to[cell] += map[pixel] * filter[tap]; });
    }
    if (grid.kernel == 2) add_pairs(scratch.rows, count * size, cells);
  }
}

// What is done to an expanded map before it is stored: + bias, + residual (null: none), ReLU.
struct Finish {
  float bias;
  const float* residual;
  bool relu;

  template <class V>
  EC_INLINE V operator()(V v, int64_t at) const {
    v += bias;
    if (residual) v += load_as<V>(residual + at);
    return relu ? positive(v) : v;
  }
};

// Expands one map from its doubled cells, k = 2: map[y][x] = finish(cell over the pixel * its tap of the filter, y * w
// + x). Rows are written in whole vectors, and each row overwrites what the row before wrote past its end. Only `room`
// floats may be written: the last rows are written without such an overrun.
template <class End>
inline void expand_map_2(const Grid& grid, const float* doubled, const float* filter, End finish, int64_t room, float* map) {
  const int64_t p = grid.padding, w = grid.maps.width, h = grid.maps.height, width = grid.width();
  const int64_t whole = std::min(h, std::max<int64_t>(0, room - round_up(w, kLanes) + w) / w);
  const auto write_row = [=](int64_t y, const float* from, Vec pattern) {
    const int64_t at = y * w;
    if (y < whole) {
      for (int64_t x = 0; x < w; x += kLanes) store(map + at + x, finish(load(from + x) * pattern, at + x));
      return;
    }
    float taps[kLanes];
    store(taps, pattern);
    for_each_piece(w, [&](int64_t x, auto n) {
      using V = VecOf<n>;
      store_as(map + at + x, finish(load_as<V>(from + x) * load_as<V>(taps + x % 2), at + x));
    });
  };
  const Vec upper = alternating(filter[p], filter[1 - p]), lower = alternating(filter[2 + p], filter[3 - p]);
  for (int64_t i = 0; i < grid.rows; ++i, doubled += width) {
    if (2 * i >= p) write_row(2 * i - p, doubled + p, upper);
    if (2 * i + 1 - p < h) write_row(2 * i + 1 - p, doubled + p, lower);
  }
}

// The same for any k. k = 2 reads `doubled`, other k read `cells`.
template <class End>
inline void expand_map(const Grid& grid, const float* cells, const float* doubled, const float* filter, const End& finish,
                       int64_t room, float* map) {
  const int64_t k = grid.kernel, p = grid.padding, w = grid.maps.width;
  if (k == 2) return expand_map_2(grid, doubled, filter, finish, room, map);
  for (int64_t y = 0; y < grid.maps.height; ++y)
    for (int64_t x = 0; x < w; ++x)
      map[y * w + x] = finish(cells[(y + p) / k * grid.columns + (x + p) / k] * filter[(y + p) % k * k + (x + p) % k], y * w + x);
}

// Expands the cells of maps [first, last). `epilogue`: one scale and one bias for each channel, a residual of the maps'
// shape.
inline void expand_range(const Grid& grid, const float* cells, const float* filters, const Epilogue& epilogue, int64_t first,
                         int64_t last, const CellScratch& scratch, float* y) {
  const int64_t area = grid.kernel * grid.kernel, size = grid.cells(), pixels = grid.maps.pixels();
  std::vector<float> filter(area);
  for (int64_t i = first, count; i < last; i += count, cells += count * size) {
    count = std::min(scratch.together, last - i);
    if (grid.kernel == 2) double_cells(cells, count * size, scratch.rows);
    for (int64_t n = 0; n < count; ++n) {
      const int64_t c = (i + n) % grid.maps.channels, at = (i + n) * pixels;
      for (int64_t tap = 0; tap < area; ++tap) filter[tap] = filters[c * area + tap] * (epilogue.scale ? epilogue.scale[c] : 1.f);
      const Finish finish{epilogue.bias ? epilogue.bias[c] : 0.f, epilogue.residual ? epilogue.residual + at : nullptr,
                          epilogue.relu};
      expand_map(grid, cells + n * size, scratch.rows + 2 * n * size, filter.data(), finish, (last - i - n) * pixels, y + at);
    }
  }
}

// x (B x n x H x W) -> cells (B x n x rows x columns)
void run_reduce(const Grid& grid, const float* x, const float* filters, float* cells) {
  parallel(grid.maps.images * grid.maps.channels, 8, [&](int64_t first, int64_t last) {
    reduce_range(grid, x, filters, first, last, CellScratch(grid), cells + first * grid.cells());
  });
}

// cells (B x n x rows x columns) -> y (B x n x H x W, as grid.maps)
void run_expand(const Grid& grid, const float* cells, const float* filters, const Epilogue& epilogue, float* y) {
  parallel(grid.maps.images * grid.maps.channels, 8, [&](int64_t first, int64_t last) {
    expand_range(grid, cells + first * grid.cells(), filters, epilogue, first, last, CellScratch(grid), y);
  });
}

}  // namespace efficientconv
