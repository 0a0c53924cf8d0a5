// Max pool for inference: first over the rows of the windows, then over their columns, both by vectors.
#pragma once

#include <limits>

#include "blocks.h"
#include "parallel.h"

namespace efficientconv {

EC_INLINE float larger(float a, float b) { return a > b || a != a ? a : b; }  // NaN stays
EC_INLINE Vec larger(Vec a, Vec b) { return (a > b) | (a != a) ? a : b; }

// to, a row with margins: the highest of rows [first, last) in each column. Rows are `pitch` floats apart, and `readable`
// floats from the first row's start on may be read.
inline void pool_rows(const Window& window, const float* rows, int64_t pitch, int64_t width, int64_t first, int64_t last,
                      int64_t readable, float* to) {
  const float* top = rows + first * pitch;
  float* highest = to + window.padding;
  for (int64_t x = 0; x < width; x += kLanes) {
    if ((last - 1) * pitch + x + kLanes <= readable) {
      Vec most = load(top + x);
      for (int64_t y = 1; y < last - first; ++y) most = larger(most, load(top + y * pitch + x));
      store(highest + x, most);
      continue;
    }
    for (int64_t i = x; i < width; ++i) {
      highest[i] = top[i];
      for (int64_t y = 1; y < last - first; ++y) highest[i] = larger(highest[i], top[y * pitch + i]);
    }
    break;
  }
  std::fill_n(to, window.padding, -std::numeric_limits<float>::infinity());
  std::fill_n(highest + width, window.padding, -std::numeric_limits<float>::infinity());
}

// to: the highest of each window of a row with margins; `row` is overwritten
inline void pool_columns(const Window& window, float* row, int64_t columns, float* to) {
  const int64_t span = (columns - 1) * window.stride + 1;
  for (int64_t x = 0; x < span; x += kLanes) {
    Vec most = load(row + x);
    for (int64_t dx = 1; dx < window.kernel; ++dx) most = larger(most, load(row + x + dx));
    store(row + x, most);
  }
  int64_t i = 0;
  for (; window.stride == 2 && i + kLanes <= columns; i += kLanes)
    store(to + i, evens(load(row + 2 * i), load(row + 2 * i + kLanes)));
  for (; i < columns; ++i) to[i] = row[i * window.stride];
}

// maps: B x C x H x W -> B x C x .. x ..
void run_max_pool(const Maps& maps, const float* x, const Window& window, float* y) {
  const int64_t rows = window.outputs(maps.height), columns = window.outputs(maps.width), pitch = window.pitch(maps.width);
  parallel(maps.images * maps.channels, 8, [&](int64_t begin, int64_t end) {
    float* highest = thread_scratch(kRows, rows * pitch);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * maps.pixels();
      for (int64_t r = 0; r < rows; ++r) {  // all of them first: what was just stored is slow to load at another offset
        const int64_t top = r * window.stride - window.padding;
        const int64_t first = std::max<int64_t>(0, top), last = std::min(maps.height, top + window.kernel);
        pool_rows(window, x + at, maps.width, maps.width, first, last, maps.numel() - at, highest + r * pitch);
      }
      for (int64_t r = 0; r < rows; ++r) pool_columns(window, highest + r * pitch, columns, y + (i * rows + r) * columns);
    }
  });
}

}  // namespace efficientconv
