// Batch norm, residual addition and ReLU in training as in batch_norm.h, for channels-last maps. Threads take ranges of groups
// of pixels. A group is the fewest neighbouring pixels whose channels fill whole vectors: one pixel of 64 channels, eight
// pixels of 14 channels where a vector has 16 lanes. The maps have a whole number of groups.
#pragma once

#include <numeric>

#include "batch_norm.h"

namespace efficientconv {

struct PixelGroups {
  int64_t channels, pixels, count;  // pixels: of a group

  explicit PixelGroups(const Maps& maps)
      : channels(maps.channels), pixels(kLanes / std::gcd<int64_t>(channels, kLanes)),
        count(maps.images * maps.pixels() / pixels) {}

  int64_t floats() const { return channels * pixels; }  // of a group

  // A channel's value for each float of a group.
  std::vector<float> spread(const float* values) const {
    std::vector<float> all(floats());
    for (int64_t i = 0; i < floats(); ++i) all[i] = values[i % channels];
    return all;
  }
};

// Pixels of a strip: their sums stay in the lanes of vectors, and a cache holds all their channels.
constexpr int64_t kStrip = 256;

// Two sums over all pixels for each channel, in double. f(at, i, first, second) adds the vector at `at`, which is at `i` in its
// group, to both.
template <class F>
std::vector<double> sums_over_pixels(const PixelGroups& groups, F f) {
  const int64_t wide = groups.floats(), of_strip = kStrip / groups.pixels, strips = (groups.count + of_strip - 1) / of_strip;
  const int64_t workers = std::min(thread_count(), strips);
  std::vector<double> partial(workers * 2 * wide), sums(2 * groups.channels);
  parallel(workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      double *first = partial.data() + worker * 2 * wide, *second = first + wide;
      for (int64_t strip = strips * worker / workers; strip < strips * (worker + 1) / workers; ++strip) {
        const int64_t from = strip * of_strip, to = std::min(from + of_strip, groups.count);
        for (int64_t i = 0; i < wide; i += kLanes) {
          Vec a[2] = {}, b[2] = {};
          for (int64_t group = from; group < to; ++group) f(group * wide + i, i, a[group % 2], b[group % 2]);
          for (int lane = 0; lane < kLanes; ++lane) {
            first[i + lane] += static_cast<double>(a[0][lane]) + a[1][lane];
            second[i + lane] += static_cast<double>(b[0][lane]) + b[1][lane];
          }
        }
      }
    }
  });
  for (int64_t i = 0; i < workers * 2 * wide; ++i) {
    const int64_t second = i / wide % 2, channel = i % wide % groups.channels;
    sums[second * groups.channels + channel] += partial[i];
  }
  return sums;
}

// Calls f(at, i) for each vector, which is at `i` in its group.
template <class F>
void for_each_vector(const PixelGroups& groups, F f) {
  const int64_t wide = groups.floats();
  parallel(groups.count, std::max<int64_t>(1, 32 * 1024 / wide), [&](int64_t first, int64_t last) {
    for (int64_t group = first; group < last; ++group)
      for (int64_t i = 0; i < wide; i += kLanes) f(group * wide + i, i);
  });
}

inline void batch_norm_forward_last(const Maps& maps, const float* y, const float* residual, const float* gamma,
                                    const float* beta, double eps, float* out, float* mean, float* var) {
  const PixelGroups groups(maps);
  const int64_t channels = maps.channels, some = std::min<int64_t>(64, maps.images * maps.pixels());
  const double count = static_cast<double>(maps.images) * maps.pixels();
  std::vector<float> pilot(channels), scale(channels), shift(channels);  // pilot: as in batch_norm.h
  for (int64_t p = 0; p < some; ++p)
    for (int64_t c = 0; c < channels; ++c) pilot[c] += y[p * channels + c] / some;
  std::transform(pilot.begin(), pilot.end(), pilot.begin(), finite_or_zero);
  const std::vector<float> pilots = groups.spread(pilot.data());
  const auto sums = sums_over_pixels(groups, [&](int64_t at, int64_t i, Vec& squares, Vec& sum) {
    const Vec d = load(y + at) - load(&pilots[i]);
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
  const std::vector<float> scales = groups.spread(scale.data()), shifts = groups.spread(shift.data());
  for_each_vector(groups, [&](int64_t at, int64_t i) {
    Vec v = load(y + at) * load(&scales[i]) + load(&shifts[i]);
    if (residual) v += load(residual + at);
    store(out + at, positive(v));
  });
}

inline void batch_norm_backward_last(const Maps& maps, const float* grad_out, const float* out, const float* y,
                                     const float* mean, const float* var, const float* gamma, double eps, float* grad_residual,
                                     float* grad_y, float* grad_gamma, float* grad_beta) {
  const PixelGroups groups(maps);
  const int64_t channels = maps.channels;
  const double count = static_cast<double>(maps.images) * maps.pixels();
  const Passed passed{grad_out, out};
  const std::vector<float> means = groups.spread(mean);
  const auto sums = sums_over_pixels(groups, [&](int64_t at, int64_t i, Vec& sum, Vec& product) {
    const Vec here = passed.vector(at);
    store(grad_residual + at, here);
    sum += here;
    product += here * (load(y + at) - load(&means[i]));
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
  const std::vector<float> scales = groups.spread(scale.data()), averages = groups.spread(average.data());
  const std::vector<float> slopes = groups.spread(slope.data());
  for_each_vector(groups, [&](int64_t at, int64_t i) {
    const Vec d = (load(y + at) - load(&means[i])) * load(&slopes[i]);
    store(grad_y + at, (load(grad_residual + at) - load(&averages[i]) - d) * load(&scales[i]));
  });
}

}  // namespace efficientconv
