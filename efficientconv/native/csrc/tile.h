// The register tile of all kernels over connections: four output channels by up to three vectors of pixels.
//
// A tile's work is a list of steps. A step reads the pixels of one input channel, A, and multiplies them by one weight
// for each output that sees A. Neighbouring outputs of a topology see almost the same inputs. If only some of the four
// outputs see A, the step reads a second input, B, for the others, where the plan finds one. So the twelve accumulators
// stay busy, and no step multiplies by zero.
//
// The plan (plan.h) sorts the steps by kind. The kind is a mask of the outputs that read A, plus 16 if the others read
// B. The kind is a template argument, so that a step has no branches. docs/kernels.md draws tiles and steps.
#pragma once

#include <algorithm>

#include "kernels.h"

namespace efficientconv {

constexpr int kOutputs = 4;
constexpr int kVectors = 3;
// Outputs of a tile whose outputs see all inputs: with 32 registers two tiles are computed as one, which halves the loads.
constexpr int kDenseOutputs = kLanes == 16 ? 2 * kOutputs : kOutputs;
constexpr int kBlock = kVectors * kLanes;  // pixels

// f(kind) for every kind that a plan can have. In a pair (16 and more) the first output always reads A.
#define EC_FOR_EACH_KIND(f)                                                                                      \
  f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15) f(17) f(19) f(21) f(23) f(25) \
      f(27) f(29)

// acc[o][v] += weight * input for steps of one kind and kV vectors of pixels.
template <int kKind, int kV>
EC_INLINE void accumulate(const Offsets* at, const float* weight, int steps, const float* x, Vec (&acc)[kOutputs][kV]) {
  constexpr bool pair = (kKind & 16) != 0;
  for (int s = 0; s < steps; ++s, weight += kOutputs) {
    const float* a = x + at[s].a;
    Vec input[kV];
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) input[v] = load(a + v * kLanes);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      if (!(kKind >> o & 1)) continue;
      const Vec w = splat(weight[o]);
#pragma GCC unroll 3
      for (int v = 0; v < kV; ++v) acc[o][v] += input[v] * w;
    }
    if constexpr (pair) {
      const float* b = x + at[s].b;
#pragma GCC unroll 3
      for (int v = 0; v < kV; ++v) input[v] = load(b + v * kLanes);
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        if (kKind >> o & 1) continue;
        const Vec w = splat(weight[o]);
#pragma GCC unroll 3
        for (int v = 0; v < kV; ++v) acc[o][v] += input[v] * w;
      }
    }
  }
}

// Calls out(o, v, bias[o] + sum over the steps) for four outputs and kV vectors of pixels. x: the panel of the block.
template <int kV, class Out>
inline void tile_forward(const Segment* begin, const Segment* end, const Offsets* at, const float* weight,
                         const float* x, const float* bias, const Out& out) {
  Vec acc[kOutputs][kV];
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) acc[o][v] = splat(bias[o]);
  for (const Segment* segment = begin; segment != end; ++segment) {
    const int steps = segment->end - segment->begin;
    const Offsets* first = at + segment->begin;
    const float* w = weight + static_cast<int64_t>(segment->begin) * kOutputs;
    switch (segment->kind) {
#define EC_CASE(kind)                           \
  case kind:                                    \
    accumulate<kind, kV>(first, w, steps, x, acc); \
    break;
      EC_FOR_EACH_KIND(EC_CASE)
#undef EC_CASE
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) out(o, v, acc[o][v]);
}

// Calls f with the number of vectors, 1 to kVectors, as a compile-time constant.
template <class F>
EC_INLINE void with_vectors(int64_t vectors, F f) {
  if (vectors == 3) f(std::integral_constant<int, 3>());
  else if (vectors == 2) f(std::integral_constant<int, 2>());
  else f(std::integral_constant<int, 1>());
}

// The outputs of the next dense tile, if `left` outputs are left.
inline int64_t dense_outputs(int64_t left) { return left >= kDenseOutputs ? kDenseOutputs : std::min<int64_t>(kOutputs, left); }

// The weights of a dense tile: rows of the layer's own weight, one for each output, or packed weights.
struct WeightRows {
  const float* first;
  int64_t stride;
  EC_INLINE float at(int o, int64_t s) const { return first[o * stride + s]; }
};
struct PackedWeights {
  const float* first;
  int64_t steps;
  EC_INLINE float at(int o, int64_t s) const { return first[(o / kOutputs * steps + s) * kOutputs + o % kOutputs]; }
};

// The pixels that step s reads: row s of a panel.
struct PanelRows {
  const float* first;
  EC_INLINE const float* at(int64_t s) const { return first + s * kBlock; }
};

// The same for kN outputs that see all inputs.
template <int kV, int kN, class W, class X, class Out>
inline void dense_tile(const W& weights, int64_t steps, const X& x, const float* bias, const Out& out) {
  Vec acc[kN][kV];
#pragma GCC unroll 8
  for (int o = 0; o < kN; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) acc[o][v] = splat(bias[o]);
  for (int64_t s = 0; s < steps; ++s) {
    const float* pixels = x.at(s);
    Vec input[kV];
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) input[v] = load(pixels + v * kLanes);
#pragma GCC unroll 8
    for (int o = 0; o < kN; ++o) {
      const Vec w = splat(weights.at(o, s));
#pragma GCC unroll 3
      for (int v = 0; v < kV; ++v) acc[o][v] += input[v] * w;
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < kN; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) out(o, v, acc[o][v]);
}

// The same for `outputs` outputs: 1 to kOutputs, or kDenseOutputs.
template <int kV, class W, class X, class Out>
inline void dense_tile(int64_t outputs, const W& weights, int64_t steps, const X& x, const float* bias, const Out& out) {
  switch (outputs) {
    case 1: return dense_tile<kV, 1>(weights, steps, x, bias, out);
    case 2: return dense_tile<kV, 2>(weights, steps, x, bias, out);
    case 3: return dense_tile<kV, 3>(weights, steps, x, bias, out);
    case kOutputs: return dense_tile<kV, kOutputs>(weights, steps, x, bias, out);
    default: return dense_tile<kV, kDenseOutputs>(weights, steps, x, bias, out);
  }
}

// For kSteps steps: grad[s * 4 + o] += the sum over the pixels of g[o] times the input that output o reads in step s.
// There are `vectors` vectors of pixels. The four rows of g are g_stride floats apart.
template <int kKind, int kSteps>
inline void weight_gradient_steps(const Offsets* at, const float* x, const float* g, int64_t g_stride, int64_t vectors,
                                  float* grad) {
  constexpr bool pair = (kKind & 16) != 0;
  Vec acc[kOutputs][kSteps];
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o)
#pragma GCC unroll 3
    for (int s = 0; s < kSteps; ++s) acc[o][s] = Vec{};
  for (int64_t p = 0; p < vectors * kLanes; p += kLanes) {
    Vec input[kSteps];
#pragma GCC unroll 3
    for (int s = 0; s < kSteps; ++s) input[s] = load(x + at[s].a + p);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      if (!(kKind >> o & 1)) continue;
      const Vec go = load_once(g + o * g_stride + p);
#pragma GCC unroll 3
      for (int s = 0; s < kSteps; ++s) acc[o][s] += input[s] * go;
    }
    if constexpr (pair) {
#pragma GCC unroll 3
      for (int s = 0; s < kSteps; ++s) input[s] = load(x + at[s].b + p);
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        if (kKind >> o & 1) continue;
        const Vec go = load_once(g + o * g_stride + p);
#pragma GCC unroll 3
        for (int s = 0; s < kSteps; ++s) acc[o][s] += input[s] * go;
      }
    }
  }
  // an output that reads nothing in these steps adds zeros
#pragma GCC unroll 3
  for (int s = 0; s < kSteps; ++s) add_sums(acc[0][s], acc[1][s], acc[2][s], acc[3][s], grad + s * kOutputs);
}

// grad += the gradient of a tile's packed weights. g: the gradients of the tile's four outputs.
inline void tile_weight_gradient(const Segment* begin, const Segment* end, const Offsets* at, const float* x, const float* g,
                                 int64_t g_stride, int64_t vectors, float* grad) {
  for (const Segment* segment = begin; segment != end; ++segment) {
    int s = segment->begin;
    switch (segment->kind) {
#define EC_CASE(kind)                                                                                         \
  case kind:                                                                                                  \
    for (; s + 3 <= segment->end; s += 3)                                                                     \
      weight_gradient_steps<kind, 3>(at + s, x, g, g_stride, vectors, grad + int64_t{s} * kOutputs);          \
    for (; s < segment->end; ++s)                                                                             \
      weight_gradient_steps<kind, 1>(at + s, x, g, g_stride, vectors, grad + int64_t{s} * kOutputs);          \
    break;
      EC_FOR_EACH_KIND(EC_CASE)
#undef EC_CASE
    }
  }
}

}  // namespace efficientconv
