// Eight floats at a time, in the compiler's own vector type: with -mavx2 -mfma one register and fused multiply-adds,
// without them whatever the machine has. No intrinsics, so that the portable build is the same code.
#pragma once

#include <cstdint>
#include <cstring>

#define EC_INLINE inline __attribute__((always_inline))

namespace efficientconv {

constexpr int kLanes = 8;

typedef float Vec __attribute__((vector_size(32)));
typedef int32_t IntVec __attribute__((vector_size(32)));
typedef float UnalignedVec __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t UnalignedIntVec __attribute__((vector_size(32), aligned(4), may_alias));

EC_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
EC_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
EC_INLINE Vec splat(float a) { return Vec{a, a, a, a, a, a, a, a}; }

// v where the mask's bits are set, 0 elsewhere: also where v is NaN, as a multiplication by zero would not be.
EC_INLINE Vec masked(Vec v, const int32_t* mask) {
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(v) & *reinterpret_cast<const UnalignedIntVec*>(mask));
}

EC_INLINE Vec positive(Vec v) { return v > Vec{} ? v : Vec{}; }

EC_INLINE float sum(Vec v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

EC_INLINE int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace efficientconv
