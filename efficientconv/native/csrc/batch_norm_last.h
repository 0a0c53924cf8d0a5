// Batch norm, residual addition and ReLU in training as in batch_norm.h, for channels-last maps. A vector holds neighbouring
// channels of one pixel, and the number of channels is a multiple of a vector's length. Threads take ranges of pixels.
#pragma once

#include "batch_norm.h"

namespace efficientconv {

// Pixels of a strip: their sums stay in the lanes of vectors, and a cache holds all their channels.
constexpr int64_t kStrip = 256;

// Two sums over all pixels for each channel, in double. f(at, channel, first, second) adds the vector at `at` to both.
template <class F>
std::vector<double> sums_over_pixels(const Maps& maps, F f) {
  const int64_t channels = maps.channels, strips = (maps.images * maps.pixels() + kStrip - 1) / kStrip;
  const int64_t workers = std::min(thread_count(), strips);
  std::vector<double> partial(workers * 2 * channels);
  parallel(workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      double *first = partial.data() + worker * 2 * channels, *second = first + channels;
      for (int64_t strip = strips * worker / workers; strip < strips * (worker + 1) / workers; ++strip) {
        const int64_t from = strip * kStrip, to = std::min(from + kStrip, maps.images * maps.pixels());
        for (int64_t c = 0; c < channels; c += kLanes) {
          Vec a[2] = {}, b[2] = {};
          for (int64_t p = from; p < to; ++p) f(p * channels + c, c, a[p % 2], b[p % 2]);
          for (int lane = 0; lane < kLanes; ++lane) {
            first[c + lane] += static_cast<double>(a[0][lane]) + a[1][lane];
            second[c + lane] += static_cast<double>(b[0][lane]) + b[1][lane];
          }
        }
      }
    }
  });
  for (int64_t i = 2 * channels; i < workers * 2 * channels; ++i) partial[i % (2 * channels)] += partial[i];
  partial.resize(2 * channels);
  return partial;
}

// Calls f(at, channel) for each vector of each pixel.
template <class F>
void for_each_vector(const Maps& maps, F f) {
  const int64_t channels = maps.channels;
  parallel(maps.images * maps.pixels(), std::max<int64_t>(1, 32 * 1024 / channels), [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p)
      for (int64_t c = 0; c < channels; c += kLanes) f(p * channels + c, c);
  });
}

inline void batch_norm_forward_last(const Maps& maps, const float* y, const float* residual, const float* gamma,
                                    const float* beta, double eps, float* out, float* mean, float* var) {
  const int64_t channels = maps.channels, some = std::min<int64_t>(64, maps.images * maps.pixels());
  const double count = static_cast<double>(maps.images) * maps.pixels();
  std::vector<float> pilot(channels), scale(channels), shift(channels);  // pilot: as in batch_norm.h
  for (int64_t p = 0; p < some; ++p)
    for (int64_t c = 0; c < channels; ++c) pilot[c] += y[p * channels + c] / some;
  std::transform(pilot.begin(), pilot.end(), pilot.begin(), finite_or_zero);
  const auto sums = sums_over_pixels(maps, [&](int64_t at, int64_t c, Vec& squares, Vec& sum) {
    const Vec d = load(y + at) - load(&pilot[c]);
    squares += d * d;
    sum += d;
  });
  for (int64_t c = 0; c < channels; ++c) {
    const double off = sums[channels + c] / count;
    mean[c] = static_cast<float>(pilot[c] + off);
    var[c] = static_cast<float>(not_negative(sums[c] / count - off * off));
    const Norm norm(mean[c], var[c], gamma ? gamma[c] : 1.f, beta ? beta[c] : 0.f, eps);
    scale[c] = norm.scale;
    shift[c] = norm.shift;
  }
  for_each_vector(maps, [&](int64_t at, int64_t c) {
    Vec v = load(y + at) * load(&scale[c]) + load(&shift[c]);
    if (residual) v += load(residual + at);
    store(out + at, positive(v));
  });
}

inline void batch_norm_backward_last(const Maps& maps, const float* grad_out, const float* out, const float* y,
                                     const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                                     float* grad_y, float* grad_gamma, float* grad_beta) {
  const int64_t channels = maps.channels;
  const double count = static_cast<double>(maps.images) * maps.pixels();
  const Passed passed{grad_out, out};
  const auto sums = sums_over_pixels(maps, [&](int64_t at, int64_t c, Vec& sum, Vec& product) {
    const Vec here = passed.vector(at);
    store(grad_residual + at, here);
    sum += here;
    product += here * (load(y + at) - load(mean + c));
  });
  std::vector<float> scale(channels), average(channels), slope(channels);
  for (int64_t c = 0; c < channels; ++c) {
    const NormGradient norm(sums[c], sums[channels + c], count, mean[c], var[c], gamma ? gamma[c] : 1.f, eps);
    grad_beta[c] = static_cast<float>(norm.beta);
    grad_gamma[c] = static_cast<float>(norm.gamma);
    scale[c] = static_cast<float>(norm.scale);
    average[c] = static_cast<float>(norm.average);
    slope[c] = static_cast<float>(norm.slope);
  }
  for_each_vector(maps, [&](int64_t at, int64_t c) {
    const Vec d = (load(y + at) - load(mean + c)) * load(&slope[c]);
    store(grad_y + at, (load(grad_residual + at) - load(&average[c]) - d) * load(&scale[c]));
  });
}

}  // namespace efficientconv
