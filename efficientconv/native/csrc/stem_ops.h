// The first layer and the max pools, on tensors.
#pragma once

#include "tensors.h"

namespace efficientconv {

// kernel, stride, padding
inline PoolWindow pool_of(at::IntArrayRef pool) {
  TORCH_CHECK(pool.size() == 3 && pool[0] > 0 && pool[1] > 0 && pool[2] >= 0 && 2 * pool[2] <= pool[0],
              "efficientconv: expected a pool's kernel, stride and padding");
  return {pool[0], pool[1], pool[2]};
}

inline int64_t pooled_size(int64_t size, const PoolWindow& pool) {
  TORCH_CHECK(size + 2 * pool.padding >= pool.kernel, "efficientconv: maps too small for their pool");
  return (size + 2 * pool.padding - pool.kernel) / pool.stride + 1;
}

inline Tensor stem(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding, at::TensorList plan, int64_t outputs,
                   const NormTensors& norm, double eps, at::IntArrayRef pool) {
  const Shape shape = shape_of(x);
  const PoolWindow p = pool_of(pool);
  TORCH_CHECK(stride > 0 && padding >= 0 && outputs > 0 && weight.dim() == 4 && weight.size(0) == outputs && weight.size(2) > 0 &&
                  weight.size(2) == weight.size(3),
              "efficientconv: no first layer");
  const int64_t kernel = weight.size(3);
  TORCH_CHECK(shape.height + 2 * padding >= kernel && shape.width + 2 * padding >= kernel && weight.size(1) == shape.channels,
              "efficientconv: images too small for the first layer, or of other channels");
  const auto size = [&](int64_t n) { return pooled_size((n + 2 * padding - kernel) / stride + 1, p); };
  Tensor y = new_tensor({shape.images, outputs, size(shape.height), size(shape.width)});
  const Folded folded(norm, eps, outputs);
  run_stem(shape, data(x), kernel, stride, padding, arrays(plan, outputs, shape.channels * kernel * kernel, weight), data(weight), folded.output(nullptr, true), p,
           y.mutable_data_ptr<float>());
  return y;
}

inline Tensor max_pool(const Tensor& x, at::IntArrayRef pool) {
  const Shape shape = shape_of(x);
  const PoolWindow p = pool_of(pool);
  Tensor y = new_tensor({shape.images, shape.channels, pooled_size(shape.height, p), pooled_size(shape.width, p)});
  run_max_pool(shape, data(x), p, y.mutable_data_ptr<float>());
  return y;
}

}  // namespace efficientconv
