// Batch norm, residual addition and ReLU in one go, forward and backward, in training. A channel's maps of the whole batch
// fit the second cache, so that what is read twice comes from memory once.
#pragma once

#include <cmath>

#include "blocks.h"
#include "parallel.h"

namespace efficientconv {

// total += f(vector of pixels) over one map, in double: f's vector holds zeros where the last pixels leave lanes empty
template <class F>
EC_INLINE void add_map(int64_t pixels, double* totals, F f) {
  Vec first[2] = {}, second[2] = {};
  int64_t p = 0;
  for (int turn = 0; p + kLanes <= pixels; p += kLanes, turn ^= 1) f(p, first[turn], second[turn]);
  for (int i = 0; i < kLanes; ++i) {
    totals[0] += static_cast<double>(first[0][i]) + first[1][i];
    totals[1] += static_cast<double>(second[0][i]) + second[1][i];
  }
}

// relu((y - mean) / sqrt(var + eps) * gamma + beta + residual), with the batch's own mean and (biased) variance.
inline void batch_norm_forward(const Maps& maps, const float* y, const float* residual, const float* gamma,
                               const float* beta, double eps, float* out, float* mean, float* var) {
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes;
  parallel(maps.channels, 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const double count = static_cast<double>(maps.images) * pixels;
      double pilot[2] = {0, 0}, deviations[2] = {0, 0};  // from the mean of the first map, lest digits cancel
      add_map(pixels, pilot, [&](int64_t p, Vec& sum, Vec&) { sum += load(y + c * pixels + p); });
      const float m = whole ? static_cast<float>(pilot[0] / whole) : y[c * pixels];
      for (int64_t image = 0; image < maps.images; ++image) {
        const float* map = y + (image * maps.channels + c) * pixels;
        add_map(pixels, deviations, [&](int64_t p, Vec& squares, Vec& sum) {
          const Vec d = load(map + p) - splat(m);
          squares += d * d;
          sum += d;
        });
        for (int64_t p = whole; p < pixels; ++p) {
          const double d = map[p] - m;
          deviations[0] += d * d;
          deviations[1] += d;
        }
      }
      const double off = deviations[1] / count;
      mean[c] = static_cast<float>(m + off);
      var[c] = static_cast<float>(std::max(0., deviations[0] / count - off * off));
      const float scale = (gamma ? gamma[c] : 1.f) / static_cast<float>(std::sqrt(var[c] + eps));
      const float shift = (beta ? beta[c] : 0.f) - mean[c] * scale;
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const float *map = y + at, *add = residual ? residual + at : nullptr;
        float* to = out + at;
        for (int64_t p = 0; p < whole; p += kLanes) {
          Vec v = load(map + p) * splat(scale) + splat(shift);
          if (add) v += load(add + p);
          store(to + p, positive(v));
        }
        for (int64_t p = whole; p < pixels; ++p) {
          const float v = map[p] * scale + shift + (add ? add[p] : 0.f);
          to[p] = positive(v);
        }
      }
    }
  });
}

// Given the gradient of `out`: that of the residual (zero where out is), of y, gamma and beta.
inline void batch_norm_backward(const Maps& maps, const float* grad_out, const float* out, const float* y,
                                const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                                float* grad_y, float* grad_gamma, float* grad_beta) {
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes;
  parallel(maps.channels, 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      double totals[2] = {0, 0};
      const float m = mean[c], inverse = static_cast<float>(1 / std::sqrt(var[c] + eps));
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const float *from = grad_out + at, *result = out + at, *map = y + at;
        float* g = grad_residual + at;
        add_map(pixels, totals, [&](int64_t p, Vec& sum, Vec& product) {
          const Vec here = load(result + p) <= Vec{} ? Vec{} : load(from + p);
          store(g + p, here);
          sum += here;
          product += here * (load(map + p) - splat(m));
        });
        for (int64_t p = whole; p < pixels; ++p) {
          g[p] = result[p] <= 0.f ? 0.f : from[p];
          totals[0] += g[p];
          totals[1] += g[p] * static_cast<double>(map[p] - m);
        }
      }
      grad_beta[c] = static_cast<float>(totals[0]);
      grad_gamma[c] = static_cast<float>(totals[1] * inverse);
      const double count = static_cast<double>(maps.images) * pixels;
      const float scale = (gamma ? gamma[c] : 1.f) * inverse, average = static_cast<float>(totals[0] / count);
      const float slope = static_cast<float>(totals[1] * inverse * inverse / count);
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const float *g = grad_residual + at, *map = y + at;
        float* to = grad_y + at;
        for (int64_t p = 0; p < whole; p += kLanes)
          store(to + p, (load(g + p) - splat(average) - (load(map + p) - splat(m)) * splat(slope)) * splat(scale));
        for (int64_t p = whole; p < pixels; ++p) to[p] = (g[p] - average - (map[p] - m) * slope) * scale;
      }
    }
  });
}

}  // namespace efficientconv
