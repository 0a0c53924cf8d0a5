// The depthwise convolution, either over a group of blocks, whose results fill a projection's panels, or over whole maps.
#pragma once

#include "panels.h"

namespace efficientconv {

// A 3 x 3 filter. The class copies the weights and the sizes, so that they stay in registers: the compiler loads a number
// behind a pointer again after each store, which might have changed it.
//
// For each vector of pixels three vectors are loaded: above, here and below. The sums of the filter's left and right
// columns are then moved by one pixel in registers. To load nine vectors, which are seldom aligned, would take longer.
class Kernel3 {
 public:
  Kernel3(const Maps& maps, const TapMasks& masks, const float* filter)
      : width_(maps.width), pixels_(maps.pixels()), above_(masks.of(1)), left_(masks.of(3)), right_(masks.of(5)),
        below_(masks.of(7)) {
    for (int i = 0; i < 9; ++i) taps_[i] = splat(filter[i]);
  }

  // Calls out(i, sum) for each vector of pixels [pixel, pixel + length). Pixel `pixel` is at `from`. kBetween: the
  // caller knows that no pixel is in the map's first or last row.
  template <bool kBetween, class Out>
  EC_INLINE void convolve(int64_t pixel, int64_t length, const float* from, Out out) const {
    Vec left = splat(beside<kBetween>(pixel, from - 1, 0)), sum = {}, right = {};
    int64_t i = 0;
#pragma GCC unroll 3
    for (; i < length; i += kLanes) {
      const Columns c = columns<kBetween>(pixel + i, from + i);
      if (i > 0) out(i - kLanes, sum + masked(moved_down(right, c.right), right_ + pixel + i - kLanes));
      sum = c.middle + masked(moved_up(left, c.left), left_ + pixel + i);
      left = c.left, right = c.right;
    }
    const Vec last = splat(beside<kBetween>(pixel + i - 1, from + i, 2));
    out(i - kLanes, sum + masked(moved_down(right, last), right_ + pixel + i - kLanes));
  }

 private:
  struct Columns {
    Vec left, middle, right;
  };

  template <bool kBetween>
  EC_INLINE Columns columns(int64_t pixel, const float* from) const {
    Vec above = load_once(from - width_), here = load_once(from), below = load_once(from + width_);
    if (!kBetween && (pixel < width_ || pixel + kLanes > pixels_ - width_)) {
      above = masked(above, above_ + pixel);
      below = masked(below, below_ + pixel);
    }
    return {above * taps_[0] + here * taps_[3] + below * taps_[6], above * taps_[1] + here * taps_[4] + below * taps_[7],
            above * taps_[2] + here * taps_[5] + below * taps_[8]};
  }

  // The sum of one of the filter's columns just before or after the vectors. The caller masks it if the pixel beside it
  // is of another row.
  template <bool kBetween>
  EC_INLINE float beside(int64_t pixel, const float* from, int column) const {
    const float above = kBetween || above_[pixel] ? from[-width_] : 0.f, below = kBetween || below_[pixel] ? from[width_] : 0.f;
    return above * taps_[column][0] + from[0] * taps_[column + 3][0] + below * taps_[column + 6][0];
  }

  int64_t width_, pixels_;
  const int32_t *above_, *left_, *right_, *below_;
  Vec taps_[9];
};

// A k x k filter.
class KernelAny {
 public:
  KernelAny(const Maps& maps, const TapMasks& masks, const float* filter, int64_t kernel)
      : width_(maps.width), pixels_(maps.pixels()), kernel_(kernel), masks_(masks), filter_(filter) {}

  template <bool kBetween, class Out>
  EC_INLINE void convolve(int64_t pixel, int64_t length, const float* from, Out out) const {
    const int64_t k = kernel_, p = k / 2;
    for (int64_t i = 0; i < length; i += kLanes) {
      Vec sum = {};
      if (kBetween || (pixel + i >= p * width_ && pixel + i + kLanes <= pixels_ - p * width_)) {
        for (int64_t dx = 0; dx < k; ++dx) {  // between those rows, one mask serves all taps of a column
          Vec column = {};
          for (int64_t dy = 0; dy < k; ++dy) column += load(from + i + (dy - p) * width_ + dx - p) * splat(filter_[dy * k + dx]);
          sum += dx == p ? column : masked(column, masks_.of(p * k + dx) + pixel + i);
        }
      } else {
        for (int64_t tap = 0; tap < k * k; ++tap)
          sum += masked(load(from + i + masks_.shift(tap)), masks_.of(tap) + pixel + i) * splat(filter_[tap]);
      }
      out(i, sum);
    }
  }

 private:
  int64_t width_, pixels_, kernel_;
  const TapMasks& masks_;
  const float* filter_;
};

// Convolves one whole map, before and after which a margin may be read: to[i] = end(sum, i).
template <class Kernel, class End>
void convolve_map(const Kernel& kernel, int64_t pixels, const float* from, const End& end, float* to) {
  kernel.template convolve<false>(0, pixels, from, [&](int64_t i, Vec sum) {
    if (i + kLanes <= pixels) return store(to + i, end(sum, i));
    for_first_lanes(sum, pixels - i, [&](int64_t j, auto piece) { store_as(to + i + j, end(piece, i + j)); });
  });
}

// A source of panels (panels.h): a panel's row is the convolution of a channel by one of its filters.
struct Depthwise {
  Maps maps;
  const float* x;
  int64_t kernel, multiplier;  // multiplier: filters for each channel
  const TapMasks* masks;
  const float* filters;  // channels * multiplier x k x k

  int64_t rows() const { return maps.channels * multiplier; }
  int64_t rows_of_input() const { return 1; }
  Line line() const { return Line(maps); }

  void fill(const std::vector<Run>& runs, int64_t block_stride, int64_t row_stride, float* to) const {
    const int64_t margin = kernel / 2 * maps.width;
    std::vector<Piece> pieces;
    for (const Run& run : runs) {
      const bool between = run.pixel >= margin && run.pixel + run.length <= maps.pixels() - margin;
      pieces.push_back({run.pixel, run.length, run.image * maps.channels * maps.pixels() + run.pixel,
                        run.block * block_stride + run.at, between && run.length == kBlock});
    }
    for (int64_t row = 0; row < rows(); ++row) {
      const int64_t c = row / multiplier;
      if (row % multiplier == 0) prefetch_channel(maps, runs, c, kernel / 2 * (maps.width + 1), x);
      const float* filter = filters + row * kernel * kernel;
      if (kernel == 3) fill_row(Kernel3(maps, *masks, filter), filter, pieces, c, to + row * row_stride);
      else fill_row(KernelAny(maps, *masks, filter, kernel), filter, pieces, c, to + row * row_stride);
    }
  }

 private:
  struct Piece {  // the part of a run that is the same for all channels
    int64_t pixel, length, from, to;  // from: its start in the maps of channel 0. to: its start in row 0 of the panels
    bool whole;                       // a whole block between the map's first and last rows
  };

  template <class Kernel>
  void fill_row(Kernel local, const float* filter, const std::vector<Piece>& pieces, int64_t c, float* panels) const {
    const int64_t reach = kernel / 2 * (maps.width + 1), end = maps.numel() - reach, channel = c * maps.pixels();
    const float* const maps_begin = x;
    for (const Piece& piece : pieces) {
      const int64_t pixel = piece.pixel, length = piece.length, at = channel + piece.from;
      float* to = panels + piece.to;
      if (at < reach || at + round_up(length, kLanes) > end) convolve_checked(pixel, length, maps_begin + at, filter, to);
      else if (piece.whole)
        local.template convolve<true>(pixel, kBlock, maps_begin + at, [to](int64_t i, Vec sum) { store(to + i, sum); });
      else
        local.template convolve<false>(pixel, length, maps_begin + at, [to, length](int64_t i, Vec sum) {
          if (i + kLanes <= length) store(to + i, sum);
          else for_first_lanes(sum, length - i, [&](int64_t j, auto piece) { store_as(to + i + j, piece); });
        });
    }
  }

  // The same one pixel at a time, near the ends of x's memory, where vectors would read outside.
  void convolve_checked(int64_t pixel, int64_t length, const float* from, const float* filter, float* to) const {
    for (int64_t i = 0; i < length; ++i) {
      float sum = 0;
      for (int64_t tap = 0; tap < kernel * kernel; ++tap)
        if (masks->of(tap)[pixel + i]) sum += from[i + masks->shift(tap)] * filter[tap];
      to[i] = sum;
    }
  }
};

}  // namespace efficientconv
