// Cuts the pixels of a batch into blocks of three vectors, the width of the register tile. A block's pixels may come from
// several images.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "floats.h"
#include "tile.h"

namespace efficientconv {

// Sums of so many pixels stay in the lanes of vectors before they are converted to double. Converting after each small
// map took longer than the sums themselves.
constexpr int64_t kMostPending = 2048;

// `length` neighbouring pixels, from `pixel` of `image` on. They stand in block `block` of a group, from its place `at` on.
struct Run {
  int64_t image, pixel, block, at, length;
};

// The pixels of a batch in one line, row after row. Without a gap all pixels of an image are one row. With a gap, `gap` zeros
// follow each row of pixels, and as many rows of zeros follow each image. Then the pixels beside a pixel are at the same
// distances everywhere, so that the taps of a k x k kernel can be read from the line (gap = k / 2).
struct Line {
  int64_t images, height, width, gap, pitch, rows;  // rows: of an image, with those of zeros

  explicit Line(const Maps& maps, int64_t gap = 0)
      : images(maps.images), height(gap ? maps.height : 1), width(gap ? maps.width : maps.pixels()), gap(gap),
        pitch(width + gap), rows(height + gap) {}
  int64_t size() const { return images * rows * pitch - gap * (pitch + 1); }  // the last zeros are left out
  int64_t margin() const { return gap * (pitch + 1); }                        // from a pixel to the farthest one beside it

  // Adds the runs of places [begin, end), which block `block` holds. There may be none.
  void add_runs(int64_t begin, int64_t end, int64_t block, std::vector<Run>& runs) const {
    for (int64_t q = begin, next; q < end; q = next) {
      const int64_t row = q / pitch, x = q - row * pitch, image = row / rows, y = row - image * rows;
      next = std::min((row + 1) * pitch, end);
      if (x < width && y < height) runs.push_back({image, y * width + x, block, q - begin, std::min(width - x, end - q)});
    }
  }

  // The runs of places [begin, end), in blocks of `block` places.
  std::vector<Run> runs(int64_t begin, int64_t end, int64_t block = kBlock) const {
    std::vector<Run> runs;
    for (int64_t b = 0; begin + b * block < end; ++b) add_runs(begin + b * block, std::min(begin + (b + 1) * block, end), b, runs);
    return runs;
  }
};

// Calls f(lane, n) for pieces of n pixels that make up `length` pixels: whole vectors, then an eight, a four, a two and a
// single pixel. n is a compile-time constant.
template <class F>
EC_INLINE void for_each_piece(int64_t length, F f) {
  int64_t lane = 0;
  for (; lane + kLanes <= length; lane += kLanes) f(lane, std::integral_constant<int, kLanes>());
  if (kLanes > 8 && lane + 8 <= length) f(lane, std::integral_constant<int, 8>()), lane += 8;
  if (lane + 4 <= length) f(lane, std::integral_constant<int, 4>()), lane += 4;
  if (lane + 2 <= length) f(lane, std::integral_constant<int, 2>()), lane += 2;
  if (lane < length) f(lane, std::integral_constant<int, 1>());
}

// Calls f(lane, piece) for such pieces of the first `length` lanes of v.
template <class F>
EC_INLINE void for_first_lanes(Vec v, int64_t length, F f) {
  float lanes[kLanes];
  store(lanes, v);
  for_each_piece(length, [&](int64_t lane, auto n) { f(lane, load_as<VecOf<n>>(lanes + lane)); });
}

// n things in `count` parts. The sizes of the parts differ by at most one.
struct Parts {
  int64_t n, count;

  // Parts of at most `fit` things. If there are enough things, each thread gets the same number of parts.
  Parts(int64_t n, int64_t fit, int64_t threads)
      : n(n), count(std::clamp<int64_t>(round_up((n + fit - 1) / fit, threads), 1, std::max<int64_t>(1, n))) {}
  int64_t first(int64_t part) const { return n * part / count; }
  int64_t size(int64_t part) const { return first(part + 1) - first(part); }
  int64_t most() const { return (n + count - 1) / count; }
};

// Parts of a batch whose images go through several convolutions together: enough images to fill the register tiles, and few
// enough that each thread gets some.
inline Parts images_together(int64_t images, int64_t pixels, int64_t threads) {
  const int64_t fit = std::clamp<int64_t>(8 * kBlock / pixels, 1, std::max<int64_t>(1, images / threads));
  return {images, fit, threads};
}

template <int kWrite>
EC_INLINE void prefetch_run(const float* p, int64_t length) {
  __builtin_prefetch(p, kWrite);
  __builtin_prefetch(p + length / 2, kWrite);
  __builtin_prefetch(p + length - 1, kWrite);
}

// grad[i] = the sum over the sets of sums[set][i], for `size` elements. Each image, or each part of the images, has a set of
// its own, for two reasons: the maps can be read in the order of the memory, which decides the speed, and the result does
// not depend on which thread computed a set.
inline void add_up_sets(int64_t sets, int64_t size, const double* sums, float* grad) {
  constexpr int64_t step = 256;
  double totals[step];
  for (int64_t i = 0; i < size; i += step) {
    const int64_t count = std::min(step, size - i);
    std::fill_n(totals, count, 0.);
    for (int64_t set = 0; set < sets; ++set)
      for (int64_t j = 0; j < count; ++j) totals[j] += sums[set * size + i + j];
    std::copy_n(totals, count, grad + i);
  }
}

// Pixels [at, at + length) of x, with `margin` floats before and after them that may be read: those of x or, near the ends
// of x's memory, a copy in `scratch`.
inline const float* with_margins(const Maps& maps, const float* x, int64_t at, int64_t length, int64_t margin, float* scratch) {
  const int64_t first = at - margin, last = at + length + margin;
  if (first >= 0 && last <= maps.numel()) return x + at;
  const int64_t begin = std::max<int64_t>(0, first), end = std::min(last, maps.numel());
  std::fill_n(scratch, last - first, 0.f);
  std::copy(x + begin, x + end, scratch + begin - first);
  return scratch + margin;
}

// Map `i` of x, likewise.
inline const float* with_margins(const Maps& maps, const float* x, int64_t i, int64_t margin, float* scratch) {
  return with_margins(maps, x, i * maps.pixels(), maps.pixels(), margin, scratch);
}

}  // namespace efficientconv
