// What fills a block's scratch space: the planes that the steps read, zero where the kernel hangs over the map's edge.
#pragma once

#include "blocks.h"

namespace efficientconv {

// Copies rows [row, row + rows) of a plane, moved `shift` columns to the left, into dst; zero outside the map.
inline void copy_rows(const float* plane, const Maps& maps, int64_t row, int64_t rows, int64_t shift, float* dst) {
  const int64_t w = maps.width, from = row * w + shift, to = (row + rows) * w + shift;
  const int64_t begin = std::clamp<int64_t>(from, 0, maps.pixels()), end = std::clamp<int64_t>(to, begin, maps.pixels());
  std::fill(dst, dst + (begin - from), 0.f);
  std::copy(plane + begin, plane + end, dst + (begin - from));
  std::fill(dst + (end - from), dst + rows * w, 0.f);
  if (shift == 0) return;
  const int64_t edge = std::min(std::abs(shift), w);  // columns that came from the row above or below
  float* column = dst + (shift > 0 ? w - edge : 0);
  for (int64_t r = 0; r < rows; ++r, column += w)
    for (int64_t c = 0; c < edge; ++c) column[c] = 0.f;
}

// For each of the k column shifts a copy of every channel's rows, so that a tap is a move by whole rows.
struct ShiftedPlanes {
  Maps maps;
  const float* x;
  int64_t kernel;

  int64_t halo() const { return kernel - 1; }
  int64_t planes() const { return kernel * maps.channels; }
  int64_t stride(const Blocking& b) const { return plane_stride(b.pixels + halo() * maps.width); }
  int64_t offset(int64_t channel, int64_t tap, int64_t stride) const {
    return (tap % kernel * maps.channels + channel) * stride + tap / kernel * maps.width;
  }
  bool joins_images() const { return kernel == 1; }

  // returns the block's pixels
  int64_t fill(const Blocking& blocking, int64_t block, float* scratch, int64_t stride) const {
    const int64_t p = kernel / 2, w = maps.width;
    const int64_t pixels = blocking.for_each_chunk(maps, block, [&](const Chunk& chunk) {
      const float* image = x + chunk.image * maps.channels * maps.pixels();
      for (int64_t dx = 0; dx < kernel; ++dx)
        for (int64_t c = 0; c < maps.channels; ++c)
          copy_rows(image + c * maps.pixels(), maps, chunk.row - p, chunk.rows + 2 * p, dx - p,
                    scratch + (dx * maps.channels + c) * stride + chunk.pixel);
    });
    const int64_t used = pixels + halo() * w;  // the last vectors read on: let them read zeros
    for (int64_t plane = 0; plane < planes(); ++plane)
      std::fill(scratch + plane * stride + used, scratch + (plane + 1) * stride, 0.f);
    return pixels;
  }
};

// The result of a depthwise k x k convolution, computed where the projection reads it.
struct DepthwisePlanes {
  Maps maps;
  const float* x;
  const float* filters;  // channels x k x k
  int64_t kernel;
  const int32_t* masks;  // k x mask_stride: the columns that each column of the filter may read
  int64_t mask_stride;   // pixels of a block in one image, and 8

  int64_t halo() const { return 0; }
  int64_t planes() const { return maps.channels; }
  int64_t stride(const Blocking& b) const { return plane_stride(b.pixels); }
  int64_t offset(int64_t channel, int64_t, int64_t stride) const { return channel * stride; }
  bool joins_images() const { return true; }

  int64_t fill(const Blocking& blocking, int64_t block, float* scratch, int64_t stride) const {
    const int64_t pixels = blocking.for_each_chunk(maps, block, [&](const Chunk& chunk) {
      for (int64_t c = 0; c < maps.channels; ++c) convolve(chunk, c, scratch + c * stride + chunk.pixel);
    });
    for (int64_t c = 0; c < maps.channels; ++c)
      std::fill(scratch + c * stride + pixels, scratch + (c + 1) * stride, 0.f);
    return pixels;
  }

  void convolve(const Chunk& chunk, int64_t c, float* dst) const;
};

inline void make_column_masks(int64_t kernel, int64_t width, int64_t stride, int32_t* masks) {
  const int64_t p = kernel / 2;
  for (int64_t dx = 0; dx < kernel; ++dx)
    for (int64_t q = 0; q < stride; ++q) {
      const int64_t column = q % width + dx - p;
      masks[dx * stride + q] = column >= 0 && column < width ? -1 : 0;
    }
}

// Pixels [0, pixels) of rows that start at src, whose k - 1 rows more and k - 1 + 8 pixels more are readable.
template <int kKernel>
inline void convolve_rows(const float* src, int64_t width, int64_t pixels, const float* filter, int64_t kernel,
                          const int32_t* masks, int64_t mask_stride, float* dst) {
  const int64_t k = kKernel ? kKernel : kernel, p = k / 2;
  for (int64_t q = 0; q < pixels; q += kLanes) {
    Vec total = {};
#pragma GCC unroll 5
    for (int64_t dx = 0; dx < k; ++dx) {
      Vec column = {};
#pragma GCC unroll 5
      for (int64_t dy = 0; dy < k; ++dy) column += load(src + q + dy * width + dx) * splat(filter[dy * k + dx]);
      total += dx == p ? column : masked(column, masks + dx * mask_stride + q);
    }
    store(dst + q, total);
  }
}

inline void DepthwisePlanes::convolve(const Chunk& chunk, int64_t c, float* dst) const {
  const int64_t w = maps.width, p = kernel / 2, pixels = chunk.rows * w;
  const float* plane = x + (chunk.image * maps.channels + c) * maps.pixels();
  const float* src = plane + (chunk.row - p) * w - p;
  const int64_t begin = (chunk.row - p) * w - p, read = round_up(pixels, kLanes) + (kernel - 1) * (w + 1);
  if (begin < 0 || begin + read > maps.pixels()) {
    float* rows = thread_scratch(1, read + kLanes);
    std::fill(rows, rows + p, 0.f);
    copy_rows(plane, maps, chunk.row - p, chunk.rows + 2 * p, 0, rows + p);
    const int64_t copied = p + (chunk.rows + 2 * p) * w;
    std::fill(rows + copied, rows + std::max(copied, read + kLanes), 0.f);
    src = rows;
  }
  const float* filter = filters + c * kernel * kernel;
  switch (kernel) {
    case 3: return convolve_rows<3>(src, w, pixels, filter, kernel, masks, mask_stride, dst);
    case 5: return convolve_rows<5>(src, w, pixels, filter, kernel, masks, mask_stride, dst);
    default: return convolve_rows<0>(src, w, pixels, filter, kernel, masks, mask_stride, dst);
  }
}

}  // namespace efficientconv
