// A projection of fewer pixels than a vector has lanes. The lanes hold inputs here, not pixels: most lanes of a vector of
// pixels would be empty.
#pragma once

#include "kernels.h"
#include "parallel.h"
#include "tile.h"

namespace efficientconv {

constexpr int kFewTogether = kLanes == 16 ? 4 : 2;  // pixels whose sums stay in registers together
constexpr int64_t kFewSerial = 64 * 1024;           // multiplications that one thread does as fast as several threads

// sums[p * kOutputs + o] = the dot product of weight row o and pixel p, for four rows and kP pixels. Meanwhile the caches load
// the weights `ahead` floats behind these rows.
template <int kP>
inline void dot_products(const float* const (&rows)[kOutputs], int64_t ahead, const float* inputs, int64_t channels, float* sums) {
  Vec acc[kP][kOutputs] = {};
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Vec input[kP];
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) input[p] = load(inputs + p * channels + c);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      prefetch_weights(rows[o] + c + ahead);
      const Vec w = load_once(rows[o] + c);
#pragma GCC unroll 4
      for (int p = 0; p < kP; ++p) acc[p][o] += w * input[p];
    }
  }
  for (int p = 0; p < kP; ++p) {
    float* const to = sums + p * kOutputs;
    std::fill_n(to, kOutputs, 0.f);
    for (int64_t i = c; i < channels; ++i)
      for (int o = 0; o < kOutputs; ++o) to[o] += rows[o][i] * inputs[p * channels + i];
    add_sums(acc[p][0], acc[p][1], acc[p][2], acc[p][3], to);
  }
}

// x (B x C x H x W) as pixels x channels.
inline std::vector<float> inputs_of_pixels(const Maps& maps, const float* x) {
  std::vector<float> inputs(maps.numel());
  float* to = inputs.data();
  for (int64_t image = 0; image < maps.images; ++image, x += maps.channels * maps.pixels())
    for (int64_t p = 0; p < maps.pixels(); ++p)
      for (int64_t c = 0; c < maps.channels; ++c) *to++ = x[c * maps.pixels() + p];
  return inputs;
}

// Whether project_few computes the 1 x 1 convolution of `plan`.
inline bool are_few(const Maps& maps, const PlanView& plan) {
  return !plan.weight_at && plan.step_stride == 1 && maps.images * maps.pixels() < kLanes;
}

// y = epilogue(projection(x)): B x n x H x W -> B x m x H x W.
inline void project_few(const Maps& maps, const float* x, const PlanView& plan, const float* weight, const Epilogue& epilogue, float* y) {
  const int64_t pixels = maps.images * maps.pixels(), channels = maps.channels, one = maps.pixels();
  const std::vector<float> gathered = one > 1 ? inputs_of_pixels(maps, x) : std::vector<float>();
  const float* const inputs = one > 1 ? gathered.data() : x;
  const auto finish = [&](int64_t pixel, int64_t o, float sum) {
    const int64_t to = (pixel / one * plan.outputs + o) * one + pixel % one;
    const float v = sum * (epilogue.scale ? epilogue.scale[o] : 1.f) + (epilogue.bias ? epilogue.bias[o] : 0.f) +
                    (epilogue.residual ? epilogue.residual[to] : 0.f);
    y[to] = epilogue.relu && v < 0 ? 0.f : v;
  };
  const int64_t fours = (plan.outputs + kOutputs - 1) / kOutputs;
  parallel(fours, std::max<int64_t>(1, kFewSerial / (kOutputs * channels * pixels)), [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kOutputs; first < std::min(end * kOutputs, plan.outputs); first += kOutputs) {
      const float* rows[kOutputs];
      for (int64_t o = 0; o < kOutputs; ++o) rows[o] = weight + std::min(first + o, plan.outputs - 1) * plan.output_stride;
      const int64_t ahead = first + 2 * kOutputs <= plan.outputs ? kOutputs * plan.output_stride : 0;
      for (int64_t p = 0, count; p < pixels; p += count) {
        float sums[kFewTogether * kOutputs];
        count = pixels - p >= kFewTogether ? kFewTogether : 1;
        if (count == 1) dot_products<1>(rows, ahead, inputs + p * channels, channels, sums);
        else dot_products<kFewTogether>(rows, ahead, inputs + p * channels, channels, sums);
        for (int64_t i = 0; i < count; ++i)
          for (int64_t o = first; o < std::min(first + kOutputs, plan.outputs); ++o) finish(p + i, o, sums[i * kOutputs + o - first]);
      }
    }
  });
}

}  // namespace efficientconv
