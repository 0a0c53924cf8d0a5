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

  // Where the pixels of tap (dy, dx) of channel c start for the first row of outputs. For row r they start r * step() later.
  int64_t offset(int64_t c, int64_t dy, int64_t dx) const {
    return ((c * in_rows() + dy) * stride + dx % stride) * length() + dx / stride;
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

// The steps' offsets in a strip, instead of those in a panel.
inline std::vector<Offsets> offsets_in(const Strip& strip, const PlanView& plan) {
  std::vector<Offsets> offsets(plan.steps);
  const auto in_strip = [&](int32_t in_panel) {
    const int64_t row = in_panel / kBlock, area = strip.kernel * strip.kernel, tap = row % area;
    return static_cast<int32_t>(strip.offset(row / area, tap / strip.kernel, tap % strip.kernel));
  };
  for (int64_t s = 0; s < plan.steps; ++s) offsets[s] = {in_strip(plan.offsets[s].a), in_strip(plan.offsets[s].b)};
  return offsets;
}

// The end of a tile: stores it to maps that are `map` floats apart, in whole vectors, also past the end of a row.
struct StoreMaps {
  float* to;
  int64_t map;
  bool relu;
  EC_INLINE void operator()(int o, int v, Vec sum) const { store(to + o * map + v * kLanes, relu ? positive(sum) : sum); }
};

// Computes rows [first, last) of a strip's convolution. `bias` is padded to a multiple of four outputs. made: outputs x
// rows x `pitch`.
inline void convolve_strip(const Strip& strip, const PlanView& plan, const Offsets* offsets, const float* packed,
                           const float* bias, bool relu, const float* split, int64_t first, int64_t last, int64_t pitch,
                           float* made) {
  const int64_t map = strip.rows * pitch;
  for (int64_t row = first; row < last; ++row)
    for (int64_t column = 0, vectors; column < strip.width; column += vectors * kLanes) {
      const int64_t left = (strip.width - column + kLanes - 1) / kLanes;
      vectors = left == kVectors + 1 ? 2 : std::min<int64_t>(kVectors, left);  // not 3 + 1: a tile of 1 is slow
      const float* from = split + row * strip.step() + column;
      for (int64_t tile = 0; tile < plan.tiles; ++tile) {
        const Segment* begin = plan.segments + plan.tile_segments[tile];
        const Segment* end = plan.segments + plan.tile_segments[tile + 1];
        const float* b = bias + tile * kOutputs;
        const StoreMaps out{made + tile * kOutputs * map + row * pitch + column, map, relu};
        tile_forward(vectors, begin, end, offsets, packed, from, b, out);
      }
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
void run_stem(const Maps& in, const float* x, int64_t kernel, int64_t stride, int64_t padding, const PlanView& plan,
                 const float* weight, const Epilogue& epilogue, const Window& pool, float* y) {
  const int64_t height = (in.height + 2 * padding - kernel) / stride + 1;
  const int64_t width = (in.width + 2 * padding - kernel) / stride + 1, pitch = round_up(width, kLanes);
  const int64_t rows = pool.outputs(height), columns = pool.outputs(width), m = plan.outputs;
  const Floats packed(plan.steps * kOutputs);
  pack_weights(plan, weight, epilogue.scale, packed);
  std::vector<float> bias(plan.tiles * kOutputs);
  if (epilogue.bias) std::copy(epilogue.bias, epilogue.bias + m, bias.data());
  // Pooled rows of a strip. The strips are of equal height: threads that share one image's strips should take equally long.
  const Parts parts(rows, std::max<int64_t>(0, 768 / width - pool.kernel) / pool.stride + 1, in.images == 1 ? thread_count() : 1);
  const int64_t together = parts.most(), strips = (rows + together - 1) / together;
  const Strip strip{in, kernel, stride, padding, (together - 1) * pool.stride + pool.kernel, width};
  const std::vector<Offsets> offsets = offsets_in(strip, plan);
  parallel(in.images * strips, 1, [&](int64_t begin, int64_t end) {
    const Floats split(strip.numel() + kLanes);
    const Floats padded(strip.padded_width());
    const Floats made(plan.tiles * kOutputs * strip.rows * pitch);
    const Floats highest(m * together * pool.pitch(width));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / strips, row = item % strips * together, count = std::min(together, rows - row);
      const int64_t top = row * pool.stride - pool.padding;  // the strip's first row of the convolution
      const int64_t first = std::max<int64_t>(0, -top), last = std::min(strip.rows, height - top);
      strip.fill(x + image * in.channels * in.height * in.width, top, padded, split);
      const int64_t kept = item > begin && row > 0 ? keep_overlap(strip, pool, plan.tiles * kOutputs, pitch, made) : 0;
      convolve_strip(strip, plan, offsets.data(), packed, bias.data(), epilogue.relu, split, std::max(first, kept), last, pitch,
                     made);
      float* to = highest;
      for (int64_t o = 0; o < m; ++o)
        for (int64_t r = 0; r < count; ++r, to += pool.pitch(width)) {
          const int64_t begins = std::max(first, r * pool.stride), ends = std::min(last, r * pool.stride + pool.kernel);
          pool_rows(pool, made + o * strip.rows * pitch, pitch, width, begins, ends, strip.rows * pitch, to);
        }
      float* from = highest;
      for (int64_t o = 0; o < m; ++o)
        for (int64_t r = 0; r < count; ++r, from += pool.pitch(width))
          pool_columns(pool, from, columns, y + ((image * m + o) * rows + row + r) * columns);
    }
  });
}

}  // namespace efficientconv
