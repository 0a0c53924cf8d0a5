// The input of the steps. Each block of pixels has a panel, whose rows are one block of floats long. The cache holds
// the panels.
//
// A source fills the panels of a group of blocks from the maps: row r of block b starts at b * panel_stride + r *
// row_stride. Row channel * k^2 + tap of `Patches` holds the channel's pixels under the tap. Row `channel` of
// `Depthwise` (depthwise.h) holds the channel's k x k convolution.
#pragma once

#include "blocks.h"

namespace efficientconv {

// For each tap of a k x k kernel and each pixel: all bits are set if the tap reads inside the map, else none.
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

// Whether the vectors of a run, moved by any tap, stay inside the memory of the maps.
inline bool readable(const Maps& maps, const Run& run, int64_t channel, int64_t kernel) {
  const int64_t reach = kernel / 2 * (maps.width + 1);
  const int64_t from = (run.image * maps.channels + channel) * maps.pixels() + run.pixel;
  return from >= reach && from + round_up(run.length, kLanes) + reach <= maps.numel();
}

// Prefetches the pixels that a group of blocks reads from the channel after the next one. These reads are too short and
// too far apart for the processor to foresee.
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
  const TapMasks* masks;  // null if kernel is 1

  int64_t rows() const { return maps.channels * kernel * kernel; }

  void fill(const std::vector<Run>& runs, int64_t panel_stride, int64_t row_stride, float* panels) const {
    if (kernel == 1) return copy(runs, panel_stride, row_stride, panels);
    const int64_t taps = kernel * kernel;
    for (int64_t c = 0; c < maps.channels; ++c) {
      prefetch_channel(maps, runs, c, kernel / 2 * (maps.width + 1), x);
      for (const Run& run : runs) {
        const float* from = x + (run.image * maps.channels + c) * maps.pixels() + run.pixel;
        float* to = panels + run.block * panel_stride + c * taps * row_stride + run.at;
        const bool safe = readable(maps, run, c, kernel);
        for (int64_t tap = 0; tap < taps; ++tap, to += row_stride) {
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

 private:
  // for a kernel of 1
  void copy(const std::vector<Run>& runs, int64_t panel_stride, int64_t row_stride, float* panels) const {
    for (int64_t c = 0; c < maps.channels; ++c, panels += row_stride) {
      if (maps.pixels() == 1) {  // as for fully connected layers: the way through the pieces takes longer than the copy
        for (const Run& run : runs) panels[run.block * panel_stride + run.at] = x[run.image * maps.channels + c];
        continue;
      }
      prefetch_channel(maps, runs, c, 0, x);
      for (const Run& run : runs) {
        const float* from = x + (run.image * maps.channels + c) * maps.pixels() + run.pixel;
        float* to = panels + run.block * panel_stride + run.at;
        for_each_piece(run.length, [&](int64_t i, auto n) { std::copy_n(from + i, n(), to + i); });
      }
    }
  }
};

}  // namespace efficientconv
