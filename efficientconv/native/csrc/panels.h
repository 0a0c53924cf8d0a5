// What the steps read: for each block of pixels a panel of rows, one block of floats each, written where the cache can hold it.
//
// A source fills the panels of a group of blocks from the maps. Row channel * k^2 + tap of `Patches` holds what the tap
// sees of the channel; row `channel` of `Depthwise` holds the channel's k x k convolution.
#pragma once

#include "blocks.h"

namespace efficientconv {

// For each tap of a k x k kernel and each pixel, all bits set where the tap reads inside the map.
class TapMasks {
 public:
  TapMasks(const Maps& maps, int64_t kernel)
      : stride_(maps.pixels() + kBlock), shifts_(kernel * kernel), bits_(kernel * kernel * stride_) {
    const int64_t p = kernel / 2;
    for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
      const int64_t dy = tap / kernel - p, dx = tap % kernel - p;
      shifts_[tap] = dy * maps.width + dx;
      for (int64_t y = std::max<int64_t>(0, -dy); y < std::min(maps.height, maps.height - dy); ++y)
        for (int64_t x = std::max<int64_t>(0, -dx); x < std::min(maps.width, maps.width - dx); ++x)
          bits_[tap * stride_ + y * maps.width + x] = -1;
    }
  }
  const int32_t* of(int64_t tap) const { return bits_.data() + tap * stride_; }
  int64_t shift(int64_t tap) const { return shifts_[tap]; }

 private:
  int64_t stride_;
  std::vector<int64_t> shifts_;
  std::vector<int32_t> bits_;
};

// Whether vectors of pixels from the run, moved by any tap, stay inside the memory of the maps.
inline bool readable(const Maps& maps, const Run& run, int64_t channel, int64_t kernel) {
  const int64_t reach = kernel / 2 * (maps.width + 1);
  const int64_t from = (run.image * maps.channels + channel) * maps.pixels() + run.pixel;
  return from >= reach && from + round_up(run.length, kLanes) + reach <= maps.numel();
}

// What a group of blocks reads of the channel after next: too short and too far apart for the hardware to foresee.
EC_INLINE void prefetch_channel(const Maps& maps, const std::vector<Run>& runs, int64_t channel, int64_t reach,
                                const float* x) {
  constexpr int64_t line = 16;
  const int64_t c = channel + 2;
  if (c >= maps.channels) return;
  for (size_t i = 0, j; i < runs.size(); i = j) {
    int64_t length = runs[i].length;
    for (j = i + 1; j < runs.size() && runs[j].image == runs[i].image; ++j) length += runs[j].length;
    const float* from = x + (runs[i].image * maps.channels + c) * maps.pixels() + runs[i].pixel;
    for (const float* p = from - reach; p < from + length + reach; p += line) __builtin_prefetch(p);
  }
}

struct Patches {
  Maps maps;
  const float* x;
  int64_t kernel;
  const TapMasks* masks;

  int64_t rows() const { return maps.channels * kernel * kernel; }

  void fill(const std::vector<Run>& runs, int64_t panel_stride, float* panels) const {
    const int64_t taps = kernel * kernel;
    for (int64_t c = 0; c < maps.channels; ++c) {
      prefetch_channel(maps, runs, c, kernel / 2 * (maps.width + 1), x);
      for (const Run& run : runs) {
        const float* from = x + (run.image * maps.channels + c) * maps.pixels() + run.pixel;
        float* to = panels + run.block * panel_stride + c * taps * kBlock + run.at;
        const bool safe = readable(maps, run, c, kernel);
        for (int64_t tap = 0; tap < taps; ++tap, to += kBlock) {
          const float* moved = from + masks->shift(tap);
          const int32_t* mask = masks->of(tap) + run.pixel;
          if (!safe)
            for (int64_t i = 0; i < run.length; ++i) to[i] = mask[i] ? moved[i] : 0.f;
          else if (run.length == kBlock)
            for (int64_t i = 0; i < kBlock; i += kLanes) store(to + i, masked(load(moved + i), mask + i));
          else
            for_each_piece(run.length, [&](int64_t i, auto n) {
              if constexpr (n == kLanes) store(to + i, masked(load(moved + i), mask + i));
              else
                for (int64_t j = i; j < i + n; ++j) to[j] = mask[j] ? moved[j] : 0.f;
            });
        }
      }
    }
  }
};

struct Depthwise {
  Maps maps;
  const float* x;
  int64_t kernel, multiplier;  // filters a channel
  const TapMasks* masks;
  const float* filters;  // channels * multiplier x k x k

  int64_t rows() const { return maps.channels * multiplier; }

  void fill(const std::vector<Run>& runs, int64_t panel_stride, float* panels) const {
    for (int64_t row = 0; row < rows(); ++row) {
      const int64_t c = row / multiplier;
      if (row % multiplier == 0) prefetch_channel(maps, runs, c, kernel / 2 * (maps.width + 1), x);
      const float* filter = filters + row * kernel * kernel;
      if (kernel == 3) fill_row<3>(runs, c, filter, panel_stride, panels + row * kBlock);
      else fill_row<0>(runs, c, filter, panel_stride, panels + row * kBlock);
    }
  }

 private:
  // a filter's taps, each in all lanes: a local copy, which stores to the panels cannot change
  template <int kKernel>
  struct Taps {
    Vec tap[kKernel ? kKernel * kKernel : 1];
    const float* filter;
    explicit Taps(const float* filter_) : filter(filter_) {
      for (int i = 0; i < kKernel * kKernel; ++i) tap[i] = splat(filter[i]);
    }
    EC_INLINE Vec operator[](int64_t i) const { return kKernel ? tap[i] : splat(filter[i]); }
  };

  template <int kKernel>
  void fill_row(const std::vector<Run>& runs, int64_t c, const float* filter, int64_t panel_stride, float* panels) const {
    const Taps<kKernel> taps(filter);
    const int64_t margin = kernel / 2 * maps.width;
    for (const Run& run : runs) {
      const float* from = x + (run.image * maps.channels + c) * maps.pixels() + run.pixel;
      float* to = panels + run.block * panel_stride + run.at;
      const bool inside = run.pixel >= margin && run.pixel + run.length <= maps.pixels() - margin;
      if (!readable(maps, run, c, kernel)) {
        convolve_checked(run, from, filter, to);
      } else if (inside && run.length == kBlock) {
#pragma GCC unroll 3
        for (int64_t i = 0; i < kBlock; i += kLanes) store(to + i, convolve_inside(run.pixel + i, from + i, taps));
      } else {
        for (int64_t i = 0; i < run.length; i += kLanes) {
          const Vec sum = inside ? convolve_inside(run.pixel + i, from + i, taps) : convolve(run.pixel + i, from + i, taps);
          if (i + kLanes <= run.length) store(to + i, sum);
          else
            for (int64_t j = 0; i + j < run.length; ++j) to[i + j] = sum[j];
        }
      }
    }
  }

  template <int kKernel>
  EC_INLINE Vec convolve(int64_t pixel, const float* from, const Taps<kKernel>& taps) const {
    const int64_t k = kKernel ? kKernel : kernel;
    Vec sum = {};
#pragma GCC unroll 9
    for (int64_t tap = 0; tap < k * k; ++tap)
      sum += masked(load(from + masks->shift(tap)), masks->of(tap) + pixel) * taps[tap];
    return sum;
  }

  // between the first and the last rows only the columns beside the map need a mask, one for all rows
  template <int kKernel>
  EC_INLINE Vec convolve_inside(int64_t pixel, const float* from, const Taps<kKernel>& taps) const {
    const int64_t k = kKernel ? kKernel : kernel, p = k / 2, w = maps.width;
    Vec sum = {};
#pragma GCC unroll 3
    for (int64_t dx = 0; dx < k; ++dx) {
      Vec column = {};
#pragma GCC unroll 3
      for (int64_t dy = 0; dy < k; ++dy) column += load(from + (dy - p) * w + dx - p) * taps[dy * k + dx];
      sum += dx == p ? column : masked(column, masks->of(p * k + dx) + pixel);
    }
    return sum;
  }

  void convolve_checked(const Run& run, const float* from, const float* filter, float* to) const {
    for (int64_t i = 0; i < run.length; ++i) {
      float sum = 0;
      for (int64_t tap = 0; tap < kernel * kernel; ++tap)
        if (masks->of(tap)[run.pixel + i]) sum += from[i + masks->shift(tap)] * filter[tap];
      to[i] = sum;
    }
  }

 public:
  // One whole map with readable margins on both sides, plus `add` (may be `to` itself, or null).
  template <int kKernel>
  void convolve_map(const float* from, const float* filter, const float* add, float* to) const {
    const Taps<kKernel> taps(filter);
    const int64_t pixels = maps.pixels(), margin = kernel / 2 * maps.width;
    for (int64_t q = 0; q < pixels; q += kLanes) {
      const bool inside = q >= margin && q + kLanes <= pixels - margin;
      const Vec sum = inside ? convolve_inside(q, from + q, taps) : convolve(q, from + q, taps);
      if (q + kLanes <= pixels) store(to + q, add ? load(add + q) + sum : sum);
      else
        for (int64_t i = 0; q + i < pixels; ++i) to[q + i] = (add ? add[q + i] : 0.f) + sum[i];
    }
  }
};

}  // namespace efficientconv
