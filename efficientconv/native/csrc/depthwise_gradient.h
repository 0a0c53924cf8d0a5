// The gradients of the depthwise convolution, map by map, so that a map and its gradients stay in the first cache. The sums
// for a channel's filters run over the maps of a few images: to add up a vector's lanes takes longer than a small map.
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
    if (Kernel3Rows::fits(maps)) convolve_map(Kernel3Rows(maps, *source.masks, turned), maps.pixels(), g, end, grad_x);
    else convolve_map(Kernel3(maps, *source.masks, turned), maps.pixels(), g, end, grad_x);
  } else {
    filter_gradient(maps, *source.masks, source.kernel, x, g, lanes);
    convolve_map(KernelAny(maps, *source.masks, turned, source.kernel), maps.pixels(), g, end, grad_x);
  }
}

// Working memory for the gradients of one map after the other.
struct DepthwiseScratch {
  int64_t margin;  // what the taps read past a map's ends is masked
  Floats map, grad;
  std::vector<Vec> lanes;
  std::vector<float> totals;

  explicit DepthwiseScratch(const Depthwise& source)
      : margin(source.kernel / 2 * (source.maps.width + 1) + kBlock), map(source.maps.pixels() + 2 * margin),
        grad(source.maps.pixels() + 2 * margin), lanes(round_up(source.kernel * source.kernel, 4)), totals(lanes.size()) {}
};

// For channel c of images [first, last): the gradient of each map, as end_of(map) completes it, and `sums` for the gradient of
// the channel's filters, multiplier x k x k.
template <class EndOf>
void depthwise_backward_channel(const Depthwise& source, const float* turned, const float* grad_output, const EndOf& end_of,
                                int64_t c, int64_t first, int64_t last, DepthwiseScratch& scratch, double* sums, float* grad_x) {
  const Maps &maps = source.maps, grads{maps.images, source.rows(), maps.height, maps.width};
  const int64_t area = source.kernel * source.kernel;
  for (int64_t i = 0; i < source.multiplier; ++i) {
    const int64_t row = c * source.multiplier + i;
    const float* filter = turned + row * area;
    std::fill(scratch.lanes.begin(), scratch.lanes.end(), Vec{});
    for (int64_t image = first; image < last; ++image) {
      const int64_t map = image * maps.channels + c;
      const float* x_map = with_margins(maps, source.x, map, scratch.margin, scratch.map);
      const float* g_map = with_margins(grads, grad_output, image * grads.channels + row, scratch.margin, scratch.grad);
      float* to = grad_x + map * maps.pixels();
      if (i == 0) depthwise_backward_map(source, filter, x_map, g_map, end_of(map), scratch.lanes.data(), to);
      else depthwise_backward_map(source, filter, x_map, g_map, AddMap{to}, scratch.lanes.data(), to);
    }
    std::fill(scratch.totals.begin(), scratch.totals.end(), 0.f);
    const Vec* lanes = scratch.lanes.data();
    for (int64_t tap = 0; tap < area; tap += 4)
      add_sums(lanes[tap], lanes[tap + 1], lanes[tap + 2], lanes[tap + 3], &scratch.totals[tap]);
    std::copy_n(scratch.totals.begin(), area, sums + i * area);
  }
}

// The gradients of x (B x n x H x W) and of the filters (n * multiplier x k x k), given that of the result. `add`, of
// x's shape or null, is added to the gradient of x.
inline void depthwise_backward(const Depthwise& source, const float* grad_output, const float* add, float* grad_x,
                               float* grad_filters) {
  const Maps& maps = source.maps;
  const std::vector<float> turned = turned_filters(source);
  const Parts parts = images_together(maps.images, maps.pixels(), thread_count());
  const int64_t filters = source.multiplier * source.kernel * source.kernel;  // numbers of a channel
  std::vector<double> sums(parts.count * turned.size());
  const auto end_of = [&](int64_t map) { return AddMap{add ? add + map * maps.pixels() : nullptr}; };
  parallel(parts.count * maps.channels, 1, [&](int64_t begin, int64_t end) {
    DepthwiseScratch scratch(source);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t part = item / maps.channels, c = item % maps.channels, first = parts.first(part);
      depthwise_backward_channel(source, turned.data(), grad_output, end_of, c, first, first + parts.size(part), scratch,
                                 sums.data() + item * filters, grad_x);
    }
  });
  add_up_sets(parts.count, turned.size(), sums.data(), grad_filters);
}

}  // namespace efficientconv
