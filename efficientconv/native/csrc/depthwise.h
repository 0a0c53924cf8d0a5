// Backward of the depthwise convolution, channel by channel: a channel's maps and gradients stay in the first cache.
#pragma once

#include "panels.h"
#include "parallel.h"

namespace efficientconv {

// grad_input[p] = sum over the taps of g[p - tap] * filter: the convolution with the filter turned round.
inline void turn_filters(const float* filters, int64_t count, int64_t area, float* turned) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t tap = 0; tap < area; ++tap) turned[i * area + tap] = filters[i * area + area - 1 - tap];
}

// sums[tap] += over the pixels of one map with readable margins: g[p] * x[p + tap]
template <int kKernel>
inline void filter_gradient(const Maps& maps, const TapMasks& masks, int64_t kernel, const float* x, const float* g,
                            Vec* sums) {
  const int64_t k = kKernel ? kKernel : kernel, p = k / 2, w = maps.width;
  Vec local[kKernel ? kKernel * kKernel : 1];  // registers, where their number is known
  Vec* total = kKernel ? local : sums;
  for (int64_t tap = 0; tap < kKernel * kKernel; ++tap) local[tap] = sums[tap];
  for (int64_t q = 0; q < maps.pixels(); q += kLanes) {
    const Vec here = load(g + q);
    if (q >= p * w && q + kLanes <= maps.pixels() - p * w) {
#pragma GCC unroll 3
      for (int64_t dx = 0; dx < k; ++dx) {
        const Vec column = dx == p ? here : masked(here, masks.of(p * k + dx) + q);
#pragma GCC unroll 3
        for (int64_t dy = 0; dy < k; ++dy) total[dy * k + dx] += column * load(x + q + (dy - p) * w + dx - p);
      }
    } else {
#pragma GCC unroll 9
      for (int64_t tap = 0; tap < k * k; ++tap)
        total[tap] += here * masked(load(x + q + masks.shift(tap)), masks.of(tap) + q);
    }
  }
  for (int64_t tap = 0; tap < kKernel * kKernel; ++tap) sums[tap] = local[tap];
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
    // a map with a margin of zeros on both sides: what the taps read past its ends is masked, but must be there
    const int64_t margin = round_up(kernel / 2 * (maps.width + 1), kLanes), size = pixels + 2 * margin + kBlock;
    float* x_map = thread_scratch(kMap, 2 * size) + margin;
    float* g_map = x_map + size;
    std::fill(x_map - margin, x_map - margin + 2 * size, 0.f);
    std::vector<Vec> sums(area);
    const Maps one{1, 1, maps.height, maps.width};
    for (int64_t row = first * multiplier; row < last * multiplier; ++row) {
      const int64_t c = row / multiplier;
      std::fill(sums.begin(), sums.end(), Vec{});
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const float* g = grad_output + (image * rows + row) * pixels;
        std::copy(x + at, x + at + pixels, x_map);
        std::copy(g, g + pixels, g_map);
        const Depthwise turned_round{one, g_map, kernel, 1, &masks, nullptr};
        const float* filter = turned.data() + row * area;
        const float* sum_of = row % multiplier != 0 ? grad_x + at : add ? add + at : nullptr;
        if (kernel == 3) {
          filter_gradient<3>(maps, masks, kernel, x_map, g_map, sums.data());
          turned_round.convolve_map<3>(g_map, filter, sum_of, grad_x + at);
        } else {
          filter_gradient<0>(maps, masks, kernel, x_map, g_map, sums.data());
          turned_round.convolve_map<0>(g_map, filter, sum_of, grad_x + at);
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
