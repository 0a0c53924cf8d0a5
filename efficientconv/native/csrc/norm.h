// Batch norm with the batch's own statistics, of one channel and of the channel's gradient.
#pragma once

#include <cmath>

#include "vec.h"

namespace efficientconv {

// A variance, which rounding may have made less than nothing. NaN stays.
inline double not_negative(double var) { return var <= 0 ? 0. : var; }

// What deviations are taken from: no infinity, which would make them NaN and hide that the mean is one.
inline float finite_or_zero(float pilot) { return std::isfinite(pilot) ? pilot : 0.f; }

// y * scale + shift
struct Norm {
  float scale, shift;

  Norm(float mean, float var, float gamma, float beta, double eps)
      : scale(gamma / static_cast<float>(std::sqrt(var + eps))), shift(beta - mean * scale) {}
};

// The gradient of y, scale * (g - average - slope * (y - mean)), where g is that of the result; and those of gamma and beta.
struct NormGradient {
  double mean, scale, average, slope, gamma, beta;

  // sum and product: of g and of g * (y - mean), over the channel's `count` pixels
  NormGradient(double sum, double product, double count, float mean, float var, float weight, double eps) : mean(mean) {
    const double inverse = 1 / std::sqrt(var + eps);
    scale = weight * inverse;
    average = sum / count;
    slope = product * inverse * inverse / count;
    gamma = product * inverse;
    beta = sum;
  }
  double offset() const { return average - mean * slope; }  // scale * (g - offset - slope * y) is the same
};

// What ReLU lets through of the gradient of its output, of a map or of a row of it.
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

// The same of a layer whose output was relu(norm(y) + x), with every digit as then: y and x are read here anyway, and one map less
// from the memory. x is null where it was not added.
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

// What a gradient on its way out is added to: a map of gradients, or null.
struct AddMap {
  const float* map;
  template <class V>
  EC_INLINE V operator()(V v, int64_t at) const { return map ? v + load_as<V>(map + at) : v; }
};

// The same: what ReLU let through, where the residual connection brings it.
template <class P>
struct AddPassed {
  P passed;
  template <class V>
  EC_INLINE V operator()(V v, int64_t at) const { return v + passed.template as<V>(at); }
};

template <class P>
AddPassed(P) -> AddPassed<P>;

}  // namespace efficientconv
