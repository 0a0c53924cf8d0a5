// The input of the steps. The cache holds it for a group of blocks at a time.
//
// A source fills it from the maps: row r of block b starts at b * block_stride + r * row_stride. Row `channel` of `Pixels`
// holds the channel's pixels. Row channel * k^2 + tap of `Patches` holds the channel's pixels under the tap. Row `channel` of
// `Depthwise` (depthwise.h) holds the channel's k x k convolution. A source may write any numbers into the lanes behind the
// last pixel, up to a whole vector: clear_tail makes them zero.
#pragma once

#include <mutex>

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

  // Those that were asked for last are kept, up to 4 MiB: one layer after the other has maps of the same size.
  static std::shared_ptr<const TapMasks> find(const Maps& maps, int64_t kernel) {
    constexpr int64_t most = 1 << 20;  // bits are 4 bytes for each tap and pixel
    if (kernel * kernel * maps.pixels() > most) return std::make_shared<const TapMasks>(maps, kernel);
    using Key = std::array<int64_t, 3>;
    static std::mutex mutex;
    static Key last{};
    static std::shared_ptr<const TapMasks> kept;
    const Key key{maps.height, maps.width, kernel};
    const std::lock_guard<std::mutex> lock(mutex);
    if (key != last) kept = std::make_shared<const TapMasks>(maps, kernel), last = key;
    return kept;
  }

 private:
  int64_t stride_;
  std::vector<int64_t> shifts_;
  std::vector<int32_t> bits_;
};

// Prefetches the pixels that a group of blocks reads from the channel after the next one. These reads are too short and
// too far apart for the processor to foresee. It does foresee those of small maps, which lie side by side.
EC_INLINE void prefetch_channel(const Maps& maps, const std::vector<Run>& runs, int64_t channel, int64_t reach,
                                const float* x) {
  constexpr int64_t line = 16, small = 64;
  const int64_t c = channel + 2;
  if (c >= maps.channels || maps.pixels() <= small) return;
  for (size_t i = 0, j; i < runs.size(); i = j) {
    int64_t length = runs[i].length;
    for (j = i + 1; j < runs.size() && runs[j].image == runs[i].image; ++j) length += runs[j].length;
    const float* from = x + (runs[i].image * maps.channels + c) * maps.pixels() + runs[i].pixel;
    for (const float* p = from - reach; p < from + length + reach; p += line) __builtin_prefetch(p);
  }
}

// The pixels of the maps. With a kernel the line has gaps, so that all taps can be read from the same pixels.
struct Pixels {
  Maps maps;
  const float* x;
  int64_t kernel = 1;

  int64_t rows() const { return maps.channels; }
  int64_t rows_of_input() const { return 1; }
  Line line() const { return Line(maps, kernel / 2); }

  void fill(const std::vector<Run>& runs, int64_t block_stride, int64_t row_stride, float* to) const {
    for (int64_t c = 0; c < maps.channels; ++c, to += row_stride) {
      if (maps.pixels() == 1) {  // as for fully connected layers: the way through the pieces takes longer than the copy
        for (const Run& run : runs) to[run.block * block_stride + run.at] = x[run.image * maps.channels + c];
        continue;
      }
      prefetch_channel(maps, runs, c, 0, x);
      for (const Run& run : runs)
        copy(x + (run.image * maps.channels + c) * maps.pixels() + run.pixel, run.length, to + run.block * block_stride + run.at);
    }
  }

  // The same for one long block of `length` places, with zeros before, between and after the runs. Zeros are written a vector at
  // a time, so that up to kLanes floats after the last row are written, too.
  void fill_line(const std::vector<Run>& runs, int64_t length, float* to) const {
    const int64_t channels = maps.channels, pixels = maps.pixels();  // in registers: see Kernel3 in depthwise.h
    const Run *const first = runs.data(), *const last = first + runs.size();
    const float* channel = x;
    for (int64_t c = 0; c < channels; ++c, channel += pixels, to += length) {
      prefetch_channel(maps, runs, c, 0, x);
      int64_t done = 0;
      for (const Run* run = first; run != last; ++run) {
        const int64_t at = run->at, count = run->length;
        for (; done < at; done += kLanes) store(to + done, Vec{});
        copy(channel + run->image * channels * pixels + run->pixel, count, to + at);
        done = at + count;
      }
      for (; done < length; done += kLanes) store(to + done, Vec{});
    }
  }

 private:
  static EC_INLINE void copy(const float* from, int64_t length, float* to) {
    for_each_piece(length, [&](int64_t i, auto n) { store_as(to + i, load_as<VecOf<n>>(from + i)); });
  }
};

// The pixels under each tap of a k x k kernel.
struct Patches {
  Maps maps;
  const float* x;
  int64_t kernel;
  const TapMasks* masks;

  int64_t rows() const { return maps.channels * kernel * kernel; }
  int64_t rows_of_input() const { return kernel * kernel; }
  Line line() const { return Line(maps); }

  void fill(const std::vector<Run>& runs, int64_t block_stride, int64_t row_stride, float* to) const {
    const int64_t reach = kernel / 2 * (maps.width + 1);
    for (int64_t c = 0; c < maps.channels; ++c) {
      prefetch_channel(maps, runs, c, reach, x);
      for (const Run& run : runs) {
        const int64_t first = (run.image * maps.channels + c) * maps.pixels() + run.pixel;
        // whether the vectors, moved by any tap, stay inside the memory of the maps
        const bool safe = first >= reach && first + round_up(run.length, kLanes) + reach <= maps.numel();
        float* at = to + run.block * block_stride + c * kernel * kernel * row_stride + run.at;
        for (int64_t tap = 0; tap < kernel * kernel; ++tap, at += row_stride)
          fill_tap(x + first + masks->shift(tap), masks->of(tap) + run.pixel, run.length, safe, at);
      }
    }
  }

 private:
  static void fill_tap(const float* from, const int32_t* mask, int64_t length, bool safe, float* to) {
    int64_t i = 0;
    for (; safe && i + kLanes <= length; i += kLanes) store(to + i, masked(load(from + i), mask + i));
    if (safe && i < length)
      return for_first_lanes(masked(load(from + i), mask + i), length - i, [&](int64_t j, auto piece) { store_as(to + i + j, piece); });
    for (; i < length; ++i) to[i] = mask[i] ? from[i] : 0.f;
  }
};

// Zeros in the lanes after the last pixel. A tile multiplies them, too, and what the memory held before may be denormal numbers,
// which take a hundred times as long. Block b starts at b * block_stride, and its rows are row_stride floats apart.
inline void clear_tail(const Run& last, int64_t rows, int64_t block_stride, int64_t row_stride, float* to) {
  const int64_t begin = last.at + last.length, end = round_up(begin, kLanes);
  float* row = to + last.block * block_stride;
  for (int64_t i = 0; begin < end && i < rows; ++i, row += row_stride) std::fill(row + begin, row + end, 0.f);
}

}  // namespace efficientconv
