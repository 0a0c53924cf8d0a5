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

EC_INLINE Vec alternating(float a, float b) { return Vec{a, b, a, b, a, b, a, b}; }

// v where the mask's bits are set, 0 elsewhere: also where v is NaN, as a multiplication by zero would not be.
EC_INLINE Vec masked(Vec v, const int32_t* mask) {
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(v) & *reinterpret_cast<const UnalignedIntVec*>(mask));
}

// ReLU; NaN stays, as in torch, and nothing branches on the data
EC_INLINE Vec positive(Vec v) { return Vec{} > v ? Vec{} : v; }
EC_INLINE float positive(float v) { return 0.f > v ? 0.f : v; }

// Lanes of a (0 to 7) and b (8 to 15).
template <int... kLane>
EC_INLINE Vec shuffle(Vec a, Vec b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, kLane...);
#else
  return __builtin_shuffle(a, b, IntVec{kLane...});
#endif
}

// to[0..3] += the sums of a, b, c and d: three rounds of adding halves, for all four at once.
EC_INLINE void add_sums(Vec a, Vec b, Vec c, Vec d, float* to) {
  const Vec ab = shuffle<0, 8, 1, 9, 4, 12, 5, 13>(a, b) + shuffle<2, 10, 3, 11, 6, 14, 7, 15>(a, b);
  const Vec cd = shuffle<0, 8, 1, 9, 4, 12, 5, 13>(c, d) + shuffle<2, 10, 3, 11, 6, 14, 7, 15>(c, d);
  const Vec abcd = shuffle<0, 1, 8, 9, 4, 5, 12, 13>(ab, cd) + shuffle<2, 3, 10, 11, 6, 7, 14, 15>(ab, cd);
  typedef float Quad __attribute__((vector_size(16)));
  typedef float UnalignedQuad __attribute__((vector_size(16), aligned(4), may_alias));
  const Quad sums = Quad{abcd[0], abcd[1], abcd[2], abcd[3]} + Quad{abcd[4], abcd[5], abcd[6], abcd[7]};
  *reinterpret_cast<UnalignedQuad*>(to) += sums;
}

EC_INLINE int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace efficientconv
