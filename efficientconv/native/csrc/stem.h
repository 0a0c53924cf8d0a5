// A network's first layer in inference: a strided convolution of few channels, batch norm, ReLU and max pool in one pass.
// PyTorch's convolutions are slow on three channels, and the map before the pool is the largest of the network.
#pragma once

#include "connections.h"
#include "max_pool.h"

namespace efficientconv {

// The input rows that a strip of output rows sees, padding included. Each row is split by its columns modulo the
// stride. Then the pixels that neighbouring outputs read by one tap lie side by side, and the register tile reads them
// without a copy.
struct Strip {
  Maps in;
  int64_t kernel, stride, padding, rows, width;  // rows and width: of the outputs

  int64_t in_rows() const { return (rows - 1) * stride + kernel; }
  int64_t length() const { return round_up(width, kLanes) + (kernel - 1) / stride; }  // of a split row
  int64_t numel() const { return in.channels * in_rows() * stride * length(); }

  // Where the pixels of each tap of each channel start for the first row of outputs. For row r they start r * step() later.
  std::vector<int64_t> taps() const {
    std::vector<int64_t> starts;
    for (int64_t c = 0; c < in.channels; ++c)
      for (int64_t dy = 0; dy < kernel; ++dy)
        for (int64_t dx = 0; dx < kernel; ++dx)
          starts.push_back(((c * in_rows() + dy) * stride + dx % stride) * length() + dx / stride);
    return starts;
  }
  int64_t step() const { return stride * stride * length(); }

  // x: one image, C x H x W. padded: working memory for one row.
  void fill(const float* x, int64_t first_row, float* padded, float* to) const {
    std::fill(padded, padded + padded_width(), 0.f);
    const int64_t columns = std::min(in.width, padded_width() - padding);
    for (int64_t c = 0; c < in.channels; ++c)
      for (int64_t r = 0; r < in_rows(); ++r, to += stride * length()) {
        const int64_t y = first_row * stride + r - padding;
        const bool inside = y >= 0 && y < in.height;
        if (inside) std::copy_n(x + (c * in.height + y) * in.width, columns, padded + padding);
        else std::fill_n(padded + padding, columns, 0.f);
        split(padded, to);
      }
  }

  int64_t padded_width() const { return stride * length() + 2 * kLanes; }

 private:
  // Splits a row: columns 0, stride, 2 stride, .. come first. Whole vectors are written, and the next columns overwrite
  // what is past the end.
  void split(const float* padded, float* to) const {
    for (int64_t phase = 0; phase < stride; ++phase, to += length()) {
      if (stride > 2) {
        for (int64_t i = 0; i < length(); ++i) to[i] = padded[i * stride + phase];
        continue;
      }
      for (int64_t i = 0; i < length(); i += kLanes) {
        const float* from = padded + i * stride;
        if (stride == 1) store(to + i, load(from));
        else store(to + i, phase ? odds(load(from), load(from + kLanes)) : evens(load(from), load(from + kLanes)));
      }
    }
  }
};

// The pixels that the taps of a strip read, from a row of outputs and a column on.
struct StripRows {
  const float* first;
  const int64_t* taps;
  EC_INLINE const float* at(int64_t s) const { return first + taps[s]; }
};

// The end of a tile: stores it to maps that are `map` floats apart, in whole vectors, also past the end of a row.
struct StoreMaps {
  float* to;
  int64_t map;
  bool relu;
  EC_INLINE void operator()(int o, int v, Vec sum) const { store(to + o * map + v * kLanes, relu ? positive(sum) : sum); }
};

// Computes rows [first, last) of a strip's convolution for `outputs` outputs of one tile. split: the strip's pixels. weight:
// outputs x taps. made: outputs x rows x `pitch`.
inline void convolve_rows(const Strip& strip, const std::vector<int64_t>& taps, const float* split, int64_t outputs,
                          const float* weight, const float* bias, bool relu, int64_t first, int64_t last, int64_t pitch,
                          float* made) {
  const int64_t steps = static_cast<int64_t>(taps.size());
  for (int64_t row = first; row < last; ++row)
    for (int64_t column = 0, vectors; column < strip.width; column += vectors * kLanes) {
      const int64_t left = (strip.width - column + kLanes - 1) / kLanes;
      vectors = left == kVectors + 1 ? 2 : std::min<int64_t>(kVectors, left);  // not 3 + 1: a tile of 1 is slow
      const StripRows x{split + row * strip.step() + column, taps.data()};
      const StoreMaps out{made + row * pitch + column, strip.rows * pitch, relu};
      with_vectors(vectors, [&](auto n) { dense_tile<n>(outputs, WeightRows{weight, steps}, steps, x, bias, out); });
    }
}

// The windows of two neighbouring strips share rows. Moves these rows from the end of `made` to its start and returns their
// number.
inline int64_t keep_overlap(const Strip& strip, const Window& pool, int64_t outputs, int64_t pitch, float* made) {
  const int64_t shared = std::max<int64_t>(0, pool.kernel - pool.stride), map = strip.rows * pitch;
  for (float* to = made; to < made + outputs * map; to += map) std::copy_n(to + map - shared * pitch, shared * pitch, to);
  return shared;
}

// x (B x C x H x W) -> y (B x m x rows x columns), pooled
void run_stem(const Maps& in, const float* x, int64_t kernel, int64_t stride, int64_t padding, int64_t m,
              const float* weight, const Epilogue& epilogue, const Window& pool, float* y) {
  const int64_t height = (in.height + 2 * padding - kernel) / stride + 1;
  const int64_t width = (in.width + 2 * padding - kernel) / stride + 1, pitch = round_up(width, kLanes);
  const int64_t rows = pool.outputs(height), columns = pool.outputs(width);
  const int64_t steps = in.channels * kernel * kernel;
  const Floats scaled(m * steps);
  for (int64_t o = 0; o < m; ++o)
    for (int64_t s = 0; s < steps; ++s) scaled[o * steps + s] = weight[o * steps + s] * epilogue.scale[o];
  // Pooled rows of a strip. The strips are of equal height: threads that share one image's strips should take equally long.
  const Parts parts(rows, std::max<int64_t>(0, 1152 / width - pool.kernel) / pool.stride + 1, in.images == 1 ? thread_count() : 1);
  const int64_t together = parts.most(), strips = (rows + together - 1) / together;
  const Strip strip{in, kernel, stride, padding, (together - 1) * pool.stride + pool.kernel, width};
  const std::vector<int64_t> taps = strip.taps();
  parallel(in.images * strips, 1, [&](int64_t begin, int64_t end) {
    const Floats split(strip.numel() + kLanes);
    const Floats padded(strip.padded_width());
    const Floats made(m * strip.rows * pitch);
    const Floats highest(together * pool.pitch(width));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / strips, row = item % strips * together, count = std::min(together, rows - row);
      const int64_t top = row * pool.stride - pool.padding;  // the strip's first row of the convolution
      const int64_t first = std::max<int64_t>(0, -top), last = std::min(strip.rows, height - top);
      strip.fill(x + image * in.channels * in.height * in.width, top, padded, split);
      const int64_t kept = item > begin && row > 0 ? keep_overlap(strip, pool, m, pitch, made) : 0;
      for (int64_t o = 0, tile; o < m; o += tile) {
        tile = dense_outputs(m - o);
        float* maps = made + o * strip.rows * pitch;
        convolve_rows(strip, taps, split, tile, scaled + o * steps, epilogue.bias + o, epilogue.relu, std::max(first, kept), last,
                      pitch, maps);
        for (int64_t i = o; i < o + tile; ++i, maps += strip.rows * pitch)
          pool_map(pool, {maps, first, last, width, pitch, strip.rows * pitch}, 0, count, highest,
                   y + ((image * m + i) * rows + row) * columns);
      }
    }
  });
}

}  // namespace efficientconv
