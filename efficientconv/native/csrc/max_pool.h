// Max pool. On contiguous maps the maximum is taken over the rows of the windows first and then over their columns,
// both with vectors along a row. Channels-last maps and all gradients are computed window by window, with vectors along
// the channels.
#pragma once

#include <limits>

#include "dense_gradient.h"

namespace efficientconv {

EC_INLINE float larger(float a, float b) { return a > b || a != a ? a : b; }  // NaN stays
EC_INLINE Vec larger(Vec a, Vec b) { return (a > b) | (a != a) ? a : b; }

// Rows [first, last) of a map, `pitch` floats apart. `readable` floats may be read from `at` on, which is row 0.
struct MapRows {
  const float* at;
  int64_t first, last, width, pitch, readable;
};

// to[column] = the highest value of rows [first, last) in the column; `to` gets margins.
inline void pool_rows(const Window& window, const MapRows& map, int64_t first, int64_t last, float* to) {
  const float* top = map.at + first * map.pitch;
  float* highest = to + window.padding;
  for (int64_t x = 0; x < map.width; x += kLanes) {
    if ((last - 1) * map.pitch + x + kLanes <= map.readable) {
      Vec most = load(top + x);
      for (int64_t y = 1; y < last - first; ++y) most = larger(most, load(top + y * map.pitch + x));
      store(highest + x, most);
      continue;
    }
    for (int64_t i = x; i < map.width; ++i) {
      highest[i] = top[i];
      for (int64_t y = 1; y < last - first; ++y) highest[i] = larger(highest[i], top[y * map.pitch + i]);
    }
    break;
  }
  std::fill_n(to, window.padding, -std::numeric_limits<float>::infinity());
  std::fill_n(highest + map.width, window.padding, -std::numeric_limits<float>::infinity());
}

// to[i] = the highest value of window i of a row with margins. `row` is overwritten.
inline void pool_columns(const Window& window, float* row, int64_t columns, float* to) {
  const int64_t span = (columns - 1) * window.stride + 1;
  for (int64_t x = 0; x < span; x += kLanes) {
    Vec most = load(row + x);
    for (int64_t dx = 1; dx < window.kernel; ++dx) most = larger(most, load(row + x + dx));
    store(row + x, most);
  }
  int64_t i = 0;
  if (window.stride == 2 || window.stride == 3)
    for (; i + kLanes <= columns; i += kLanes) {
      const float* from = row + window.stride * i;
      const Vec a = load(from), b = load(from + kLanes);
      store(to + i, window.stride == 2 ? evens(a, b) : thirds(a, b, load(from + 2 * kLanes)));
    }
  for (; i < columns; ++i) to[i] = row[i * window.stride];
}

// y (rows x columns) = the max pool of a map. The first window begins in row `top`. highest: working memory, rows x
// window.pitch(map.width).
inline void pool_map(const Window& window, const MapRows& map, int64_t top, int64_t rows, float* highest, float* y) {
  const int64_t columns = window.outputs(map.width), pitch = window.pitch(map.width);
  for (int64_t r = 0; r < rows; ++r, top += window.stride)  // all rows first: a row just stored is slow to load at another offset
    pool_rows(window, map, std::max(map.first, top), std::min(map.last, top + window.kernel), highest + r * pitch);
  for (int64_t r = 0; r < rows; ++r) pool_columns(window, highest + r * pitch, columns, y + r * columns);
}

// The pixels of an image under a window: rows [first_row, last_row), columns [first_column, last_column).
struct Covered {
  int64_t first_row, last_row, first_column, last_column, width;

  // Calls f(tap, pixel) row by row. A tap is a float, so that the lanes of a vector can hold it.
  template <class F>
  EC_INLINE void for_each(F f) const {
    float tap = 0;
    for (int64_t row = first_row; row < last_row; ++row)
      for (int64_t column = first_column; column < last_column; ++column, ++tap) f(tap, row * width + column);
  }
};

// Calls f(output, covered) for each window of an image.
template <class F>
EC_INLINE void for_each_window(const Window& window, const Maps& maps, F f) {
  const int64_t rows = window.outputs(maps.height), columns = window.outputs(maps.width);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t top = r * window.stride - window.padding, left = c * window.stride - window.padding;
      f(r * columns + c, Covered{std::max<int64_t>(0, top), std::min(maps.height, top + window.kernel), std::max<int64_t>(0, left),
                                 std::min(maps.width, left + window.kernel), maps.width});
    }
}

// The highest value under a window and its tap: the first of equal values, or the last NaN, as in torch. x: a
// channels-last image.
template <int n>
struct Highest {
  using V = VecOf<n>;
  V value = V{} - std::numeric_limits<float>::infinity(), tap{};

  EC_INLINE Highest(const Covered& covered, const float* x, int64_t channels) {
    covered.for_each([&](float t, int64_t pixel) {
      const V v = load_as<V>(x + pixel * channels);
      const auto more = (v > value) | (v != v);
      value = more ? v : value;
      tap = more ? V{} + t : tap;
    });
  }
};

inline void pool_image(const Window& window, const Maps& maps, const float* x, float* y) {
  for_each_window(window, maps, [&](int64_t output, const Covered& covered) {
    for_each_piece(maps.channels, [&](int64_t c, auto n) {
      store_as(y + output * maps.channels + c, Highest<n>(covered, x + c, maps.channels).value);
    });
  });
}

// The gradient of each window goes to its highest pixel.
inline void pool_image_backward(const Window& window, const Maps& maps, const float* x, const float* grad, float* grad_x) {
  float* ready = grad_x;  // zeroed up to here: row by row, so that the cache still holds the zeros when gradients are added
  for_each_window(window, maps, [&](int64_t output, const Covered& covered) {
    float* const end = grad_x + covered.last_row * maps.width * maps.channels;
    if (ready < end) std::fill(std::exchange(ready, end), end, 0.f);
    for_each_piece(maps.channels, [&](int64_t c, auto n) {
      using V = VecOf<n>;
      const V g = load_as<V>(grad + output * maps.channels + c), tap = Highest<n>(covered, x + c, maps.channels).tap;
      covered.for_each([&](float t, int64_t pixel) {
        float* to = grad_x + pixel * maps.channels + c;
        store_as(to, load_as<V>(to) + (tap == t ? g : V{}));
      });
    });
  });
  std::fill(ready, grad_x + maps.pixels() * maps.channels, 0.f);
}

// x (B x C x H x W) -> y (B x C x rows x columns)
void run_max_pool(const Maps& maps, bool contiguous, const float* x, const Window& window, float* y) {
  const int64_t rows = window.outputs(maps.height), outputs = rows * window.outputs(maps.width), n = maps.channels;
  if (!contiguous)
    return parallel(maps.images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) pool_image(window, maps, x + i * n * maps.pixels(), y + i * n * outputs);
    });
  parallel(maps.images * n, 8, [&](int64_t begin, int64_t end) {
    const Floats highest(rows * window.pitch(maps.width));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * maps.pixels();
      const MapRows map{x + at, 0, maps.height, maps.width, maps.width, maps.numel() - at};
      pool_map(window, map, -window.padding, rows, highest, y + i * outputs);
    }
  });
}

// Transposes `from` (rows x columns) into `to` and returns `to`.
inline float* transposed(const float* from, int64_t rows, int64_t columns, float* to) {
  const int64_t whole_rows = rows / kLanes * kLanes, whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < whole_rows; r += kLanes)
    for (int64_t c = 0; c < whole; c += kLanes) transpose_square(from + r * columns + c, columns, to + c * rows + r, rows);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole : 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  return to;
}

// Contiguous maps are transposed to channels-last in the cache, as many maps at a time as a vector has lanes.
void run_max_pool_backward(const Maps& maps, bool contiguous, const float* x, const Window& window, const float* grad,
                           float* grad_x) {
  const int64_t pixels = maps.pixels(), outputs = window.outputs(maps.height) * window.outputs(maps.width);
  const int64_t most = contiguous ? kLanes : maps.channels, parts = (maps.channels + most - 1) / most;
  parallel(maps.images * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t channel = i % parts * most, map = i / parts * maps.channels + channel;
      const int64_t n = std::min(most, maps.channels - channel);
      const Maps part{1, n, maps.height, maps.width};
      const float *from = x + map * pixels, *g = grad + map * outputs;
      float* to = grad_x + map * pixels;
      if (!contiguous) {
        pool_image_backward(window, part, from, g, to);
        continue;
      }
      const Floats last(n * (2 * pixels + outputs));
      float *found = last + n * pixels, *last_g = found + n * pixels;
      pool_image_backward(window, part, transposed(from, n, pixels, last), transposed(g, n, outputs, last_g), found);
      transposed(found, pixels, n, to);
    }
  });
}

}  // namespace efficientconv
