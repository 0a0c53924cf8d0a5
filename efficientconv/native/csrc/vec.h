// Vectors of floats in the compiler's own vector type: sixteen floats with AVX-512, eight otherwise. With AVX2 a vector
// of eight is one register. Without AVX2 the compiler splits a vector into the registers that the processor has. The
// code uses no intrinsics, so that the portable build has the same source.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#define EC_INLINE inline __attribute__((always_inline))

namespace efficientconv {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kVecBytes = kLanes * sizeof(float);

typedef float Vec __attribute__((vector_size(kVecBytes)));
typedef int32_t IntVec __attribute__((vector_size(kVecBytes)));
typedef float UnalignedVec __attribute__((vector_size(kVecBytes), aligned(4)));
typedef int32_t UnalignedIntVec __attribute__((vector_size(kVecBytes), aligned(4)));

// A vector of n floats at any address; n is a power of two.
template <int n>
struct VecType {
  typedef float Type __attribute__((vector_size(n * sizeof(float)), aligned(4)));
};
template <int n>
using VecOf = typename VecType<n>::Type;

template <class V>
EC_INLINE V load_as(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}
template <class V>
EC_INLINE void store_as(float* p, V v) { std::memcpy(p, &v, sizeof(V)); }

EC_INLINE Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
EC_INLINE void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }

// The vector at p in a register. Without the asm statement, GCC loads the vector again for each multiplication that uses it,
// which makes a loop slower whose limit is the number of loads.
EC_INLINE Vec load_once(const float* p) {
  Vec v = load(p);
#if defined(__AVX2__) || defined(__AVX512F__)
  asm("" : "+v"(v));
#endif
  return v;
}

using Lanes = std::make_integer_sequence<int, kLanes>;

template <int... kI>
EC_INLINE Vec alternating(float a, float b, std::integer_sequence<int, kI...>) {
  return Vec{(kI % 2 ? b : a)...};
}
EC_INLINE Vec alternating(float a, float b) { return alternating(a, b, Lanes()); }
EC_INLINE Vec splat(float a) { return alternating(a, a); }

// v where the mask's bits are set, 0 elsewhere. Multiplying by zero instead would keep NaN.
EC_INLINE Vec masked(Vec v, const int32_t* mask) {
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(v) & *reinterpret_cast<const UnalignedIntVec*>(mask));
}

// ReLU without a branch. NaN stays NaN, as in torch.
template <class V>
EC_INLINE V positive(V v) {
  return V{} > v ? V{} : v;
}

// Lane i of the result is lane From()(i) of a followed by b: numbers from kLanes on are lanes of b.
template <class From, int... kI>
EC_INLINE Vec shuffle(Vec a, Vec b, From, std::integer_sequence<int, kI...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, From()(kI)...);
#else
  return __builtin_shuffle(a, b, IntVec{From()(kI)...});
#endif
}

EC_INLINE Vec evens(Vec a, Vec b) { return shuffle(a, b, [](int i) { return 2 * i; }, Lanes()); }
EC_INLINE Vec odds(Vec a, Vec b) { return shuffle(a, b, [](int i) { return 2 * i + 1; }, Lanes()); }

// Every third lane of a, b and c.
EC_INLINE Vec thirds(Vec a, Vec b, Vec c) {
  const Vec ab = shuffle(a, b, [](int i) { return 3 * i < 2 * kLanes ? 3 * i : 0; }, Lanes());
  return shuffle(ab, c, [](int i) { return 3 * i < 2 * kLanes ? i : 3 * i - kLanes; }, Lanes());
}

// Lanes moved by one place. moved_up: a's last lane, then b without its last. moved_down: a without its first, then b's
// first.
EC_INLINE Vec moved_up(Vec a, Vec b) { return shuffle(a, b, [](int i) { return i + kLanes - 1; }, Lanes()); }
EC_INLINE Vec moved_down(Vec a, Vec b) { return shuffle(a, b, [](int i) { return i + 1; }, Lanes()); }

// Each lane of v's lower or upper half, twice.
EC_INLINE Vec doubled_lower(Vec v) { return shuffle(v, v, [](int i) { return i / 2; }, Lanes()); }
EC_INLINE Vec doubled_upper(Vec v) { return shuffle(v, v, [](int i) { return (kLanes + i) / 2; }, Lanes()); }

// The lower or upper halves of a and b in turn: a0 b0 a1 b1 ..
EC_INLINE Vec zip_lower(Vec a, Vec b) { return shuffle(a, b, [](int i) { return i / 2 + i % 2 * kLanes; }, Lanes()); }
EC_INLINE Vec zip_upper(Vec a, Vec b) {
  return shuffle(a, b, [](int i) { return kLanes / 2 + i / 2 + i % 2 * kLanes; }, Lanes());
}

// Stores the vectors row(0) to row(3) column by column: kLanes columns of four floats.
template <class Row>
EC_INLINE void zip_four(Row row, float* to) {
  const Vec a = row(0), b = row(1), c = row(2), d = row(3);
  const Vec halves[4] = {zip_lower(a, c), zip_lower(b, d), zip_upper(a, c), zip_upper(b, d)};
  for (int half = 0; half < 2; ++half, to += 2 * kLanes) {
    store(to, zip_lower(halves[2 * half], halves[2 * half + 1]));
    store(to + kLanes, zip_upper(halves[2 * half], halves[2 * half + 1]));
  }
}

// to[0..3] += the sums of the lanes of a, b, c and d, all four at once. Shuffles stay inside quads, which are four
// neighbouring lanes: to move lanes between quads is slower.
EC_INLINE void add_sums(Vec a, Vec b, Vec c, Vec d, float* to) {
  const auto zip = [](Vec p, Vec q) {  // p0 + p2, q0 + q2, p1 + p3, q1 + q3 of each quad
    return shuffle(p, q, [](int i) { return i / 4 * 4 + i % 4 / 2 + i % 2 * kLanes; }, Lanes()) +
           shuffle(p, q, [](int i) { return i / 4 * 4 + 2 + i % 4 / 2 + i % 2 * kLanes; }, Lanes());
  };
  const Vec ab = zip(a, b), cd = zip(c, d);
  const Vec abcd = shuffle(ab, cd, [](int i) { return i / 4 * 4 + i % 2 + i % 4 / 2 * kLanes; }, Lanes()) +
                   shuffle(ab, cd, [](int i) { return i / 4 * 4 + 2 + i % 2 + i % 4 / 2 * kLanes; }, Lanes());
  typedef float Quad __attribute__((vector_size(16)));
  typedef float UnalignedQuad __attribute__((vector_size(16), aligned(4)));
  Quad quads[kLanes / 4];
  std::memcpy(quads, &abcd, sizeof(abcd));
  for (int i = 1; i < kLanes / 4; ++i) quads[0] += quads[i];
  *reinterpret_cast<UnalignedQuad*>(to) += quads[0];
}

EC_INLINE int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace efficientconv
