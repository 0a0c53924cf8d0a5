// The register tile of all kernels over connections: up to eight output channels by up to three vectors of pixels. With 16
// registers the tile has four outputs.
//
// A tile's work is a list of steps. A step reads the pixels of one input channel, A, and multiplies them by one weight
// for each output that sees A. Neighbouring outputs of a topology see almost the same inputs. If only some of four
// outputs see A, the step reads a second input, B, for the others, where the plan finds one. No step multiplies by zero.
//
// The plan (plan.h) sorts the steps by kind. The kind is a mask of the outputs that read A, plus 16 if the others read
// B. A tile has two fours of outputs, which see most inputs alike. A step is for one four or, with the same mask, for
// both. Kind and fours are template arguments, so that a step has no branches. docs/kernels.md draws tiles and steps.
#pragma once

#include <algorithm>

#include "kernels.h"

namespace efficientconv {

constexpr int kTileOutputs = kLanes == 16 ? 2 * kOutputs : kOutputs;  // two fours with 32 registers: that halves the loads
constexpr int kVectors = 3;
constexpr int kBlock = kVectors * kLanes;  // pixels

// f(kind) for every kind that a plan can have. In a pair (16 and more) the first output always reads A.
#define EC_FOR_EACH_KIND(f)                                                                                      \
  f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15) f(17) f(19) f(21) f(23) f(25) \
      f(27) f(29)

// Where the inputs of the steps lie: the pixels of input `row` start at first + row * stride, and those under tap t of a
// k x k kernel are moved by shifts[t].
struct Inputs {
  const float* first;
  int64_t stride, taps;
  const int64_t* shifts;
  EC_INLINE const float* row(int64_t row) const { return first + row * stride; }
};
inline constexpr int64_t kNoShift = 0;

// acc[o][v] += weight[o] * input for kV vectors of pixels and those of kN outputs that are in the mask.
template <int kMask, int kN, int kV>
EC_INLINE void multiply(const float* pixels, const float* weight, Vec (*acc)[kV]) {
  Vec input[kV];
#pragma GCC unroll 3
  for (int v = 0; v < kV; ++v) input[v] = load_once(pixels + v * kLanes);
#pragma GCC unroll 8
  for (int o = 0; o < kN; ++o) {
    if (!(kMask >> o % kOutputs & 1)) continue;
    const Vec w = splat(weight[o]);
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) acc[o][v] += input[v] * w;
  }
}

// The same for `steps` steps of one kind, for kN outputs from acc[0] on.
template <int kKind, int kN, int kV>
EC_INLINE void accumulate(const Step* step, int steps, const float* weight, const Inputs& x, Vec (*acc)[kV]) {
  constexpr bool pair = (kKind & 16) != 0;
  for (const Step* end = step + steps; step != end; ++step) {
    const float *a = x.row(step->a), *b = x.row(step->b);
    for (int64_t tap = 0; tap < x.taps; ++tap, weight += kN) {
      multiply<kKind & 15, kN>(a + x.shifts[tap], weight, acc);
      if constexpr (pair) multiply<15 - (kKind & 15), kN>(b + x.shifts[tap], weight, acc);
    }
  }
}

// Calls out(o, v, bias[o] + sum over the steps of the segments) for a tile's `outputs` outputs and kV vectors of pixels.
template <int kV, class Out>
inline void tile_forward(int64_t outputs, const Segment* begin, const Segment* end, const Step* steps, const float* weights, const Inputs& x,
                         const float* bias, const Out& out) {
  Vec acc[kTileOutputs][kV];
#pragma GCC unroll 8
  for (int o = 0; o < kTileOutputs; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) acc[o][v] = splat(bias[o]);
  for (const Segment* segment = begin; segment != end; ++segment) {
    const Step* step = steps + segment->begin;
    const int count = segment->end - segment->begin;
    const float* weight = weights + segment->weights;
    switch (segment->kind + 32 * static_cast<int>(segment->fours)) {
#define EC_CASE(kind)                                                                                            \
  case kind: accumulate<kind, kOutputs>(step, count, weight, x, acc); break;                                     \
  case kind + 32:                                                                                                \
    if constexpr (kTileOutputs > kOutputs) accumulate<kind, kOutputs>(step, count, weight, x, acc + kOutputs);   \
    break;                                                                                                       \
  case kind + 64:                                                                                                \
    if constexpr (kTileOutputs > kOutputs) accumulate<kind, kTileOutputs>(step, count, weight, x, acc);          \
    break;
      EC_FOR_EACH_KIND(EC_CASE)
#undef EC_CASE
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < kTileOutputs; ++o) {
    if (o >= outputs) continue;
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) out(o, v, acc[o][v]);
  }
}

// Calls f with the number of vectors, 1 to kVectors, as a compile-time constant.
template <class F>
EC_INLINE void with_vectors(int64_t vectors, F f) {
  if (vectors == 3) f(std::integral_constant<int, 3>());
  else if (vectors == 2) f(std::integral_constant<int, 2>());
  else f(std::integral_constant<int, 1>());
}

// The outputs of the next dense tile, if `left` outputs are left.
inline int64_t dense_outputs(int64_t left) { return left >= kTileOutputs ? kTileOutputs : std::min<int64_t>(kOutputs, left); }

// Lets the caches load weights that are needed soon. The rows of a layer's weights are too short for the processor to foresee
// these reads.
EC_INLINE void prefetch_weights(const float* p) { __builtin_prefetch(p); }

// The weights of a dense tile: rows of the layer's own weight, one for each output, or packed weights.
struct WeightRows {
  const float* first;
  int64_t stride;
  int64_t ahead = 0;  // floats from a weight to the weight that the caches load meanwhile
  EC_INLINE float at(int o, int64_t s) const { return first[o * stride + s]; }
  template <int kN>
  EC_INLINE void prefetch(int64_t s) const {
    constexpr int64_t line = 16;
    if (s % line) return;
#pragma GCC unroll 8
    for (int o = 0; o < kN; ++o) prefetch_weights(first + o * stride + s + ahead);
  }
};
struct PackedWeights {
  const float* first;
  int64_t steps;
  EC_INLINE float at(int o, int64_t s) const { return first[(o / kOutputs * steps + s) * kOutputs + o % kOutputs]; }
  template <int kN>
  EC_INLINE void prefetch(int64_t) const {}
};

// The pixels that step s reads: row s of a panel.
struct PanelRows {
  const float* first;
  EC_INLINE const float* at(int64_t s) const { return first + s * kBlock; }
};

// The same as tile_forward for kN outputs that see all inputs.
template <int kV, int kN, class W, class X, class Out>
inline void dense_tile(const W& weights, int64_t steps, const X& x, const float* bias, const Out& out) {
  Vec acc[kN][kV];
#pragma GCC unroll 8
  for (int o = 0; o < kN; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kV; ++v) acc[o][v] = splat(bias[o]);
  for (int64_t s = 0; s < steps; ++s) {
    const float* pixels = x.at(s);
    weights.template prefetch<kN>(s);
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

// The same for `outputs` outputs: 1 to kOutputs, or kTileOutputs.
template <int kV, class W, class X, class Out>
inline void dense_tile(int64_t outputs, const W& weights, int64_t steps, const X& x, const float* bias, const Out& out) {
  switch (outputs) {
    case 1: return dense_tile<kV, 1>(weights, steps, x, bias, out);
    case 2: return dense_tile<kV, 2>(weights, steps, x, bias, out);
    case 3: return dense_tile<kV, 3>(weights, steps, x, bias, out);
    case kOutputs: return dense_tile<kV, kOutputs>(weights, steps, x, bias, out);
    default: return dense_tile<kV, kTileOutputs>(weights, steps, x, bias, out);
  }
}

// The gradients of a tile's outputs: a row for each output, the rows of a four side by side.
struct OutputRows {
  const float* fours[2];
  int64_t stride;
  EC_INLINE const float* row(int o) const { return fours[o / kOutputs] + o % kOutputs * stride; }
};

// acc[o][i] += input i * gradient of output o, for one vector of pixels and those of kN outputs that are in the mask.
template <int kMask, int kN, int kCount>
EC_INLINE void multiply_gradients(const float* const (&inputs)[kCount], int64_t p, const OutputRows& g, Vec (*acc)[kCount]) {
  Vec input[kCount];
#pragma GCC unroll 3
  for (int i = 0; i < kCount; ++i) input[i] = load(inputs[i] + p);
#pragma GCC unroll 8
  for (int o = 0; o < kN; ++o) {
    if (!(kMask >> o % kOutputs & 1)) continue;
    const Vec go = load_once(g.row(o) + p);
#pragma GCC unroll 3
    for (int i = 0; i < kCount; ++i) acc[o][i] += input[i] * go;
  }
}

// grad += the gradient of the weights of kCount taps, from `tap` of `step` on, which move on. There are `vectors` vectors of
// pixels.
template <int kKind, int kN, int kCount>
inline void weight_gradient_taps(const Step*& step, int64_t& tap, const Inputs& x, const OutputRows& g, int64_t vectors, float* grad) {
  constexpr bool pair = (kKind & 16) != 0;
  const float *a[kCount], *b[kCount];
  for (int i = 0; i < kCount; ++i) {
    a[i] = x.row(step->a) + x.shifts[tap];
    b[i] = x.row(step->b) + x.shifts[tap];
    if (++tap == x.taps) tap = 0, ++step;
  }
  Vec acc[kN][kCount] = {};
  for (int64_t p = 0; p < vectors * kLanes; p += kLanes) {
    multiply_gradients<kKind & 15, kN>(a, p, g, acc);
    if constexpr (pair) multiply_gradients<15 - (kKind & 15), kN>(b, p, g, acc);
  }
  // an output that reads nothing adds zeros
#pragma GCC unroll 3
  for (int i = 0; i < kCount; ++i)
#pragma GCC unroll 2
    for (int o = 0; o < kN; o += kOutputs)
      add_sums(acc[o][i], acc[o + 1][i], acc[o + 2][i], acc[o + 3][i], grad + i * kN + o);
}

// The same for a whole segment of `steps` steps.
template <int kKind, int kN>
void segment_weight_gradient(const Step* step, int64_t steps, const Inputs& x, const OutputRows& g, int64_t vectors, float* grad) {
  int64_t tap = 0, left = steps * x.taps;
  for (; left >= 3; left -= 3, grad += 3 * kN) weight_gradient_taps<kKind, kN, 3>(step, tap, x, g, vectors, grad);
  for (; left > 0; --left, grad += kN) weight_gradient_taps<kKind, kN, 1>(step, tap, x, g, vectors, grad);
}

// grad += the gradient of the packed weights of a tile's segments.
inline void tile_weight_gradient(const Segment* begin, const Segment* end, const Step* steps, const Inputs& x, const OutputRows& g,
                                 int64_t vectors, float* grad) {
  for (const Segment* segment = begin; segment != end; ++segment) {
    const Step* step = steps + segment->begin;
    const int count = segment->end - segment->begin;
    float* to = grad + segment->weights;
    const bool both = segment->fours == Fours::both;
    const OutputRows rows = segment->fours == Fours::second ? OutputRows{{g.fours[1], nullptr}, g.stride} : g;
    switch (segment->kind) {
#define EC_CASE(kind)                                                                                           \
  case kind:                                                                                                    \
    if (kTileOutputs > kOutputs && both) segment_weight_gradient<kind, kTileOutputs>(step, count, x, rows, vectors, to); \
    else segment_weight_gradient<kind, kOutputs>(step, count, x, rows, vectors, to);                            \
    break;
      EC_FOR_EACH_KIND(EC_CASE)
#undef EC_CASE
    }
  }
}

}  // namespace efficientconv
