// The gradients of the depthwise convolution, map by map, so that a map and its gradients stay in the first cache.
#pragma once

#include "depthwise.h"
#include "norm.h"
#include "parallel.h"

namespace efficientconv {

// The filters turned by 180 degrees. The gradient of the input is a convolution with them: grad_input[p] = the sum over
// the taps of g[p - tap] * filter[tap].
inline std::vector<float> turned_filters(const Depthwise& source) {
  const int64_t area = source.kernel * source.kernel;
  std::vector<float> turned(source.rows() * area);
  for (int64_t i = 0; i < source.rows(); ++i)
    std::reverse_copy(source.filters + i * area, source.filters + (i + 1) * area, turned.begin() + i * area);
  return turned;
}

// sums[tap] += the sum over the pixels p of one map of g[p] * x[p + tap]. Margins before and after the map may be read.
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

// The same for 3 x 3. The sums stay in registers. The gradients are moved by a column instead of x, so that two vectors
// are moved instead of six.
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

// For one map x and the gradient g of its convolution, both with margins that may be read: grad_x = end(the gradient of
// x), and lanes += the gradient of the filter, one vector for each tap.
template <class End>
inline void depthwise_backward_map(const Depthwise& source, const float* turned, const float* x, const float* g, const End& end,
                                   Vec* lanes, float* grad_x) {
  const Maps& maps = source.maps;
  if (source.kernel == 3) {
    filter_gradient_3(maps, *source.masks, x, g, lanes);
    convolve_map(Kernel3(maps, *source.masks, turned), maps.pixels(), g, end, grad_x);
  } else {
    filter_gradient(maps, *source.masks, source.kernel, x, g, lanes);
    convolve_map(KernelAny(maps, *source.masks, turned, source.kernel), maps.pixels(), g, end, grad_x);
  }
}

// For maps [first, last) of the source: the gradient of map i, as end_of(i) completes it, and `sums` for the gradient of
// each map's filters, one number for each tap.
template <class EndOf>
void depthwise_backward_range(const Depthwise& source, const float* turned, const float* grad_output, const EndOf& end_of,
                              int64_t first, int64_t last, double* sums, float* grad_x) {
  const Maps &maps = source.maps, grads{maps.images, source.rows(), maps.height, maps.width};
  const int64_t area = source.kernel * source.kernel, pixels = maps.pixels();
  const int64_t margin = source.kernel / 2 * (maps.width + 1) + kBlock;  // what the taps read past a map's ends is masked
  const Floats scratch(2 * (pixels + 2 * margin));
  std::vector<Vec> lanes(round_up(area, 4));
  std::vector<float> totals(lanes.size());
  for (int64_t row = first * source.multiplier; row < last * source.multiplier; ++row) {
    const int64_t map = row / source.multiplier;
    const float* filter = turned + row % source.rows() * area;
    const float* x_map = with_margins(maps, source.x, map, margin, scratch);
    const float* g_map = with_margins(grads, grad_output, row, margin, scratch + pixels + 2 * margin);
    float* to = grad_x + map * pixels;
    std::fill(lanes.begin(), lanes.end(), Vec{});
    if (row % source.multiplier == 0) depthwise_backward_map(source, filter, x_map, g_map, end_of(map), lanes.data(), to);
    else depthwise_backward_map(source, filter, x_map, g_map, AddMap{to}, lanes.data(), to);
    std::fill(totals.begin(), totals.end(), 0.f);
    for (int64_t tap = 0; tap < area; tap += 4)
      add_sums(lanes[tap], lanes[tap + 1], lanes[tap + 2], lanes[tap + 3], &totals[tap]);
    std::copy_n(totals.begin(), area, sums + row * area);
  }
}

// The gradients of x (B x n x H x W) and of the filters (n * multiplier x k x k), given that of the result. `add`, of
// x's shape or null, is added to the gradient of x.
inline void depthwise_backward(const Depthwise& source, const float* grad_output, const float* add, float* grad_x,
                               float* grad_filters) {
  const Maps& maps = source.maps;
  const std::vector<float> turned = turned_filters(source);
  std::vector<double> sums(maps.images * turned.size());
  const auto end_of = [&](int64_t map) { return AddMap{add ? add + map * maps.pixels() : nullptr}; };
  parallel(maps.images * maps.channels, 1, [&](int64_t first, int64_t last) {
    depthwise_backward_range(source, turned.data(), grad_output, end_of, first, last, sums.data(), grad_x);
  });
  sum_over_images(maps.images, turned.size(), sums.data(), grad_filters);
}

}  // namespace efficientconv
