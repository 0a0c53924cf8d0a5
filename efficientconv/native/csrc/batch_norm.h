// Batch norm, residual addition and ReLU in training, forward and backward, one channel after the other. If the second cache
// holds one channel's maps of the whole batch, maps that are read twice come from memory once.
#pragma once

#include "blocks.h"
#include "norm.h"
#include "parallel.h"

namespace efficientconv {

// Two sums over the maps of a channel, in double. The lanes of vectors hold the sums over a few thousand pixels at most.
class Sums {
 public:
  double first = 0, second = 0;

  // Calls f(pixel, first, second), which adds a vector of pixels to both sums, for all whole vectors of a map. The
  // caller adds the pixels after the last whole vector.
  template <class F>
  EC_INLINE void add_map(int64_t pixels, F f) {
    int64_t p = 0;
    Vec firsts[2] = {first_[0], first_[1]}, seconds[2] = {second_[0], second_[1]};  // copies stay in registers
    for (; p + 2 * kLanes <= pixels; p += 2 * kLanes) {
      f(p, firsts[0], seconds[0]);
      f(p + kLanes, firsts[1], seconds[1]);
    }
    if (p + kLanes <= pixels) f(p, firsts[0], seconds[0]), p += kLanes;
    std::copy(firsts, firsts + 2, first_);
    std::copy(seconds, seconds + 2, second_);
    pending_ += p;
    if (pending_ >= kMostPending) settle();
  }

  void settle() {
    float totals[4] = {};
    add_sums(first_[0], first_[1], second_[0], second_[1], totals);
    first += static_cast<double>(totals[0]) + totals[1];
    second += static_cast<double>(totals[2]) + totals[3];
    for (int turn = 0; turn < 2; ++turn) first_[turn] = second_[turn] = Vec{};
    pending_ = 0;
  }

 private:
  Vec first_[2] = {}, second_[2] = {};
  int64_t pending_ = 0;
};

// relu((y - mean) / sqrt(var + eps) * gamma + beta + residual), with the batch's own mean and biased variance.
inline void batch_norm_forward(const Maps& maps, const float* y, const float* residual, const float* gamma,
                               const float* beta, double eps, float* out, float* mean, float* var) {
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes;
  parallel(maps.channels, 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const double count = static_cast<double>(maps.images) * pixels;
      Sums pilot, deviations;  // deviations from the first map's mean, squared and plain: sums of y * y would lose digits
      pilot.add_map(pixels, [&](int64_t p, Vec& sum, Vec&) { sum += load(y + c * pixels + p); });
      pilot.settle();
      const float m = finite_or_zero(whole ? static_cast<float>(pilot.first / whole) : y[c * pixels]);
      for (int64_t image = 0; image < maps.images; ++image) {
        const float* map = y + (image * maps.channels + c) * pixels;
        deviations.add_map(pixels, [&](int64_t p, Vec& squares, Vec& sum) {
          const Vec d = load(map + p) - splat(m);
          squares += d * d;
          sum += d;
        });
        for (int64_t p = whole; p < pixels; ++p) {
          const double d = map[p] - m;
          deviations.first += d * d;
          deviations.second += d;
        }
      }
      deviations.settle();
      const double off = deviations.second / count;
      mean[c] = static_cast<float>(m + off);
      var[c] = static_cast<float>(not_negative(deviations.first / count - off * off));
      const Norm norm(mean[c], var[c], gamma ? gamma[c] : 1.f, beta ? beta[c] : 0.f, eps);
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const float *map = y + at, *add = residual ? residual + at : nullptr;
        float* to = out + at;
        for_each_piece(pixels, [&](int64_t p, auto n) {
          using V = VecOf<n>;
          V v = load_as<V>(map + p) * norm.scale + norm.shift;
          if (add) v += load_as<V>(add + p);
          store_as(to + p, positive(v));
        });
      }
    }
  });
}

// The gradients of the residual, y, gamma and beta, given that of `out`. grad_residual and grad_y may be the same memory.
inline void batch_norm_backward(const Maps& maps, const float* grad_out, const float* out, const float* y,
                                const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                                float* grad_y, float* grad_gamma, float* grad_beta) {
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes;
  parallel(maps.channels, 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      Sums totals;
      const float m = mean[c];
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const Passed passed{grad_out + at, out + at};
        const float* map = y + at;
        float* g = grad_residual + at;
        totals.add_map(pixels, [&](int64_t p, Vec& sum, Vec& product) {
          const Vec here = passed.vector(p);
          store(g + p, here);
          sum += here;
          product += here * (load(map + p) - splat(m));
        });
        for (int64_t p = whole; p < pixels; ++p) {
          g[p] = passed.one(p);
          totals.first += g[p];
          totals.second += g[p] * static_cast<double>(map[p] - m);
        }
      }
      totals.settle();
      const NormGradient norm(totals.first, totals.second, static_cast<double>(maps.images) * pixels, mean[c], var[c],
                              gamma ? gamma[c] : 1.f, eps);
      grad_beta[c] = static_cast<float>(norm.beta);
      grad_gamma[c] = static_cast<float>(norm.gamma);
      const float scale = norm.scale, average = norm.average, slope = norm.slope;
      for (int64_t image = 0; image < maps.images; ++image) {
        const int64_t at = (image * maps.channels + c) * pixels;
        const float *g = grad_residual + at, *map = y + at;
        float* to = grad_y + at;
        for_each_piece(pixels, [&](int64_t p, auto n) {
          using V = VecOf<n>;
          store_as(to + p, (load_as<V>(g + p) - average - (load_as<V>(map + p) - m) * slope) * scale);
        });
      }
    }
  });
}

}  // namespace efficientconv
