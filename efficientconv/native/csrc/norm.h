// The arithmetic of batch norm with the batch's own statistics, for one channel, forward and backward.
#pragma once

#include <cmath>

#include "vec.h"

namespace efficientconv {

// A variance, or 0 if rounding has made it negative. NaN stays NaN.
inline double not_negative(double var) { return var <= 0 ? 0. : var; }

// The number from which deviations are taken, never infinite. Deviations from infinity would be NaN, and a
// mean that is infinite would become NaN.
inline float finite_or_zero(float pilot) { return std::isfinite(pilot) ? pilot : 0.f; }

// y * scale + shift
struct Norm {
  float scale, shift;

  Norm(float mean, float var, float gamma, float beta, double eps)
      : scale(gamma / static_cast<float>(std::sqrt(var + eps))), shift(beta - mean * scale) {}
};

// Given g, the gradient of batch norm's result: the gradient of its input y, which is
// scale * (g - average - slope * (y - mean)), and the gradients of gamma and beta.
struct NormGradient {
  double mean, scale, average, slope, gamma, beta;

  // sum: of g over the channel's `count` pixels. product: of g * (y - mean). weight: the channel's gamma.
  NormGradient(double sum, double product, double count, float mean, float var, float weight, double eps) : mean(mean) {
    const double inverse = 1 / std::sqrt(var + eps);
    scale = weight * inverse;
    average = sum / count;
    slope = product * inverse * inverse / count;
    gamma = product * inverse;
    beta = sum;
  }
  double offset() const { return average - mean * slope; }  // the gradient is also scale * (g - offset - slope * y)
};

// The gradient that ReLU passes, for a map or a row of a map: 0 where its output `out` is 0.
struct Passed {
  const float *grad, *out;
  template <class V>
  EC_INLINE V as(int64_t i) const {
    const V g = load_as<V>(grad + i);
    return load_as<V>(out + i) <= V{} ? V{} : g;
  }
  EC_INLINE Vec vector(int64_t i) const { return as<Vec>(i); }
  EC_INLINE float one(int64_t i) const { return as<float>(i); }
};

// The same for a layer with the output relu(norm(y) + x). The output is computed again, bit for bit. The caller reads y
// and x anyway, so that it reads one map less from memory. x is null if the layer has no residual connection.
struct PassedNormed {
  const float *grad, *y, *x;
  Norm norm;
  template <class V>
  EC_INLINE V as(int64_t i) const {
    const V g = load_as<V>(grad + i);
    V v = load_as<V>(y + i) * norm.scale + norm.shift;
    if (x) v += load_as<V>(x + i);
    return v <= V{} ? V{} : g;
  }
  EC_INLINE Vec vector(int64_t i) const { return as<Vec>(i); }
  EC_INLINE float one(int64_t i) const { return as<float>(i); }
};

// Adds a map of gradients to a gradient before it is stored. Null: adds nothing.
struct AddMap {
  const float* map;
  template <class V>
  EC_INLINE V operator()(V v, int64_t at) const { return map ? v + load_as<V>(map + at) : v; }
};

// Adds the gradient that comes through the residual connection: what ReLU passes.
template <class P>
struct AddPassed {
  P passed;
  template <class V>
  EC_INLINE V operator()(V v, int64_t at) const { return v + passed.template as<V>(at); }
};

template <class P>
AddPassed(P) -> AddPassed<P>;

}  // namespace efficientconv
