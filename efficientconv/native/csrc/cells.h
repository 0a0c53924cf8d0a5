// The depthwise halves of a spatial bottleneck: k x k with stride k onto cells, and back. Each is the other's transpose.
//
// Cell (i, j) covers the map's rows i k - padding .. i k - padding + k - 1, and columns by the same rule. Pixels outside the map
// are zero. k = 2, as in the paper's models, uses vectors of pixels, even columns beside odd ones. Other k use plain loops.
#pragma once

#include "blocks.h"
#include "parallel.h"

namespace efficientconv {

constexpr int64_t kMargin = 2 * kLanes;  // floats that vectors may read before and after a map, whatever they are

// The row of pixels that row `i` of the cells covers with its filters' row dy, from the first cell's first column on; what
// lies beside the map is no zero there. k = 2 only. `zeros` stands for rows outside the map.
EC_INLINE const float* covered_row(const Grid& grid, const float* map, int64_t i, int64_t dy, const float* zeros) {
  const int64_t y = 2 * i + dy - grid.padding;
  return y >= 0 && y < grid.maps.height ? map + y * grid.maps.width - grid.padding : zeros;
}

// one map, any k: f(cell, pixel, tap) wherever the cell covers the pixel
template <class F>
inline void for_each_covered(const Grid& grid, F f) {
  const int64_t k = grid.kernel, p = grid.padding, w = grid.maps.width;
  for (int64_t y = 0; y < grid.maps.height; ++y)
    for (int64_t x = 0; x < w; ++x)
      f((y + p) / k * grid.columns + (x + p) / k, y * w + x, (y + p) % k * k + (x + p) % k);
}

// What the loops over maps need beside them: a map with margins, rows of cells or doubled cells of some maps, a row of zeros,
// and which columns of a row of pixels lie on the map.
struct CellScratch {
  int64_t together;  // maps: what was just stored is slow to load at another offset, so that a few small ones take turns
  float *map, *rows, *zeros;
  std::vector<int32_t> on_map;

  explicit CellScratch(const Grid& grid)
      : together(std::max<int64_t>(1, 2048 / grid.pixels())),
        map(thread_scratch(kMap, grid.maps.pixels() + 2 * kMargin)),
        rows(thread_scratch(kRows, 2 * together * grid.cells() + grid.width() + 2 * kMargin)),
        zeros(rows + 2 * together * grid.cells() + kMargin),
        on_map(grid.width() + kLanes) {
    std::fill(zeros, zeros + grid.width() + kMargin, 0.f);
    std::fill_n(on_map.begin() + grid.padding, grid.maps.width, -1);
  }
};

// one map with margins, k = 2: halved[i][x] = what column x adds to its cell in row i of the cells
inline void halve_rows(const Grid& grid, const float* map, const float* filter, const CellScratch& scratch, float* halved) {
  const Vec upper = alternating(filter[0], filter[1]), lower = alternating(filter[2], filter[3]);
  for (int64_t i = 0; i < grid.rows; ++i, halved += grid.width()) {  // past its end, the next row writes again
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

// doubled[2 c] = doubled[2 c + 1] = cells[c], and zeros after them
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

// Maps [first, last) of x, reduced onto their cells: cells[i][j] = sum over what the cell covers, times the channel's filter.
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

// What becomes of an expanded map: + bias, + residual (the map's, or null), ReLU.
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

// one map, k = 2: map[y][x] = finish(cell over the pixel * filter[..][..], where), from its doubled cells. Rows are written in
// whole vectors, also past their ends, which the next row writes again, while those stay within `room` floats.
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

// the same for any k, from the cells; for k = 2 from `doubled`
template <class End>
inline void expand_map(const Grid& grid, const float* cells, const float* doubled, const float* filter, const End& finish,
                       int64_t room, float* map) {
  const int64_t k = grid.kernel, p = grid.padding, w = grid.maps.width;
  if (k == 2) return expand_map_2(grid, doubled, filter, finish, room, map);
  for (int64_t y = 0; y < grid.maps.height; ++y)
    for (int64_t x = 0; x < w; ++x)
      map[y * w + x] = finish(cells[(y + p) / k * grid.columns + (x + p) / k] * filter[(y + p) % k * k + (x + p) % k], y * w + x);
}

// Cells of maps [first, last), expanded to them. `epilogue`: scale and bias one a channel, residual of the maps' shape.
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

// x: B x n x H x W -> B x n x rows x columns
void run_reduce(const Grid& grid, const float* x, const float* filters, float* cells) {
  parallel(grid.maps.images * grid.maps.channels, 8, [&](int64_t first, int64_t last) {
    reduce_range(grid, x, filters, first, last, CellScratch(grid), cells + first * grid.cells());
  });
}

// cells -> maps of grid.maps' size
void run_expand(const Grid& grid, const float* cells, const float* filters, const Epilogue& epilogue, float* y) {
  parallel(grid.maps.images * grid.maps.channels, 8, [&](int64_t first, int64_t last) {
    expand_range(grid, cells + first * grid.cells(), filters, epilogue, first, last, CellScratch(grid), y);
  });
}

}  // namespace efficientconv
