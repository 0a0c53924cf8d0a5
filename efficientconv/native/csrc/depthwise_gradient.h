// Backward of the depthwise convolution, channel by channel: a channel's maps and gradients stay in the first cache.
#pragma once

#include "depthwise.h"
#include "parallel.h"

namespace efficientconv {

// grad_input[p] = sum over the taps of g[p - tap] * filter: the convolution with the filter turned round.
inline void turn_filters(const float* filters, int64_t count, int64_t area, float* turned) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t tap = 0; tap < area; ++tap) turned[i * area + tap] = filters[i * area + area - 1 - tap];
}

// sums[tap] += over the pixels of one map with readable margins: g[p] * x[p + tap]
inline void filter_gradient(const Maps& maps, const TapMasks& masks, int64_t kernel, const float* x, const float* g,
                            Vec* sums) {
  const int64_t p = kernel / 2, w = maps.width;
  for (int64_t q = 0; q < maps.pixels(); q += kLanes) {
    const Vec here = masked(load(g + q), masks.of(p * kernel + p) + q);
    if (q >= p * w && q + kLanes <= maps.pixels() - p * w) {
      for (int64_t dx = 0; dx < kernel; ++dx) {
        const Vec column = dx == p ? here : masked(here, masks.of(p * kernel + dx) + q);
        for (int64_t dy = 0; dy < kernel; ++dy) sums[dy * kernel + dx] += column * load(x + q + (dy - p) * w + dx - p);
      }
    } else {
      for (int64_t tap = 0; tap < kernel * kernel; ++tap)
        sums[tap] += here * masked(load(x + q + masks.shift(tap)), masks.of(tap) + q);
    }
  }
}

// The same for 3 x 3, where the sums stay in registers. The gradients are moved by a column, not x: two vectors, not six.
inline void filter_gradient_3(const Maps& maps, const TapMasks& masks, const float* x, const float* g, Vec* sums) {
  const int64_t w = maps.width;
  Vec total[9];
  std::copy(sums, sums + 9, total);
  Vec before = {}, here = masked(load(g), masks.of(4));
  for (int64_t q = 0; q < maps.pixels(); q += kLanes) {
    const Vec after = masked(load(g + q + kLanes), masks.of(4) + q + kLanes);
    const Vec moved[3] = {masked(moved_down(here, after), masks.of(5) + q), here,
                          masked(moved_up(before, here), masks.of(3) + q)};
    Vec rows[3] = {load(x + q - w), load(x + q), load(x + q + w)};
    if (q < w || q + kLanes > maps.pixels() - w)
      for (int dy = 0; dy < 3; ++dy) rows[dy] = masked(rows[dy], masks.of(3 * dy + 1) + q);
#pragma GCC unroll 3
    for (int dy = 0; dy < 3; ++dy)
#pragma GCC unroll 3
      for (int dx = 0; dx < 3; ++dx) total[3 * dy + dx] += moved[dx] * rows[dy];
    before = here, here = after;
  }
  std::copy(total, total + 9, sums);
}

// The gradients of x (B x n x H x W) and of the filters (n * multiplier x k x k), given that of the result. To the
// former `add` is added, of x's shape or null.
inline void depthwise_backward(const Maps& maps, int64_t kernel, int64_t multiplier, const float* x, const float* filters,
                               const float* grad_output, const float* add, float* grad_x, float* grad_filters) {
  const int64_t area = kernel * kernel, pixels = maps.pixels(), rows = maps.channels * multiplier;
  const TapMasks masks(maps, kernel);
  std::vector<float> turned(rows * area);
  turn_filters(filters, rows, area, turned.data());
  parallel(maps.channels, 1, [&](int64_t first, int64_t last) {
    const int64_t margin = kernel / 2 * (maps.width + 1) + kBlock;  // what the taps read past a map's ends is masked
    float* scratch = thread_scratch(kMap, 2 * (pixels + 2 * margin));
    std::vector<Vec> sums(area);
    const Maps grad_maps{maps.images, rows, maps.height, maps.width};
    for (int64_t row = first * multiplier; row < last * multiplier; ++row) {
      const int64_t c = row / multiplier;
      const float* filter = turned.data() + row * area;
      std::fill(sums.begin(), sums.end(), Vec{});
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t map = image * maps.channels + c, at = map * pixels;
        const float* x_map = with_margins(maps, x, map, margin, scratch);
        const float* g_map = with_margins(grad_maps, grad_output, image * rows + row, margin, scratch + pixels + 2 * margin);
        const float* sum_of = row % multiplier != 0 ? grad_x + at : add ? add + at : nullptr;
        if (kernel == 3) {
          filter_gradient_3(maps, masks, x_map, g_map, sums.data());
          convolve_map(Kernel3(maps, masks, filter), pixels, g_map, sum_of, grad_x + at);
        } else {
          filter_gradient(maps, masks, kernel, x_map, g_map, sums.data());
          convolve_map(KernelAny(maps, masks, filter, kernel), pixels, g_map, sum_of, grad_x + at);
        }
      }
      for (int64_t tap = 0; tap < area; ++tap) {
        float total = 0;
        for (int lane = 0; lane < kLanes; ++lane) total += sums[tap][lane];
        grad_filters[row * area + tap] = total;
      }
    }
  });
}

}  // namespace efficientconv
