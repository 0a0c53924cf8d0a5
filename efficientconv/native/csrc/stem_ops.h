// The operators stem, which is a network's first layer in inference, and max_pool.
#pragma once

#include "layer_end.h"

namespace efficientconv {

// Whether the kernels can compute a max pool of this kernel, stride and padding.
inline bool pool_fits(at::IntArrayRef pool, int64_t height, int64_t width) {
  return pool.size() == 3 && pool[0] > 0 && pool[1] > 0 && pool[2] >= 0 && 2 * pool[2] <= pool[0] &&
         std::min(height, width) + 2 * pool[2] >= pool[0];
}

inline int64_t pooled(int64_t size, at::IntArrayRef pool) { return (size + 2 * pool[2] - pool[0]) / pool[1] + 1; }

// max_pool(relu(batch_norm(conv(x)))), where every output of the convolution sees every input.
inline Tensor stem(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding, const MaybeTensor& gamma,
                   const MaybeTensor& beta, const Tensor& mean, const Tensor& var, double eps, at::IntArrayRef pool) {
  variable_list tensors{x, weight, mean, var};
  for (const MaybeTensor& t : {gamma, beta})
    if (t) tensors.push_back(*t);
  const bool square = weight.dim() == 4 && weight.size(0) > 0 && weight.size(2) > 0 && weight.size(2) == weight.size(3);
  const bool fits = eager(tensors) && !wants_gradient(tensors) && plain_maps(x) && plain(weight) && square && stride > 0 &&
                    padding >= 0 && weight.size(1) == x.size(1) && plain(gamma, {weight.size(0)}) &&
                    plain(beta, {weight.size(0)}) && plain(mean, {weight.size(0)}) && plain(var, {weight.size(0)});
  const std::array<int64_t, 3> window{fits ? weight.size(3) : 1, stride, padding};
  const auto size = [&](int64_t n) { return pooled(n, window); };
  const bool room = fits && std::min(x.size(2), x.size(3)) + 2 * padding >= window[0];
  if (!room || !pool_fits(pool, size(x.size(2)), size(x.size(3))))
    return call_reference<Tensor>("stem", kComposite, x, weight, stride, padding, gamma, beta, mean, var, eps, pool);
  at::AutoDispatchBelowADInplaceOrView below;
  const Tensor images = x.contiguous(), kernels = weight.contiguous();
  Tensor y = new_tensor({x.size(0), weight.size(0), pooled(size(x.size(2)), pool), pooled(size(x.size(3)), pool)});
  const Folded folded(mean, var, gamma, beta, eps);
  run_stem(maps_of(images), data(images), window[0], stride, padding, weight.size(0), data(kernels),
           folded.output(std::nullopt), {pool[0], pool[1], pool[2]}, written(y));
  return y.contiguous(order_of(x));
}

class MaxPool : public torch::autograd::Function<MaxPool> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, at::IntArrayRef pool) {
    ctx->save_for_backward({x});
    ctx->saved_data["pool"] = pool;
    const auto order = order_of(x);
    Tensor y = new_tensor({x.size(0), x.size(1), pooled(x.size(2), pool), pooled(x.size(3), pool)}, order);
    run_max_pool(maps_of(x), x.is_contiguous(), data(x), {pool[0], pool[1], pool[2]}, written(y));
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Tensor x = ctx->get_saved_variables()[0];
    const auto pool = ctx->saved_data["pool"].toIntVector();
    if (wants_reference_gradients(grads[0])) {
      variable_list found = reference_gradients({x}, grads[0], [&](const variable_list& views) {
        return call_reference<Tensor>("max_pool", kComposite, views[0], at::IntArrayRef(pool));
      });
      return {found[0], {}};
    }
    Tensor grad_x = new_tensor(x.sizes(), order_of(x));
    run_max_pool_backward(maps_of(x), x.is_contiguous(), data(x), {pool[0], pool[1], pool[2]},
                          data(grads[0].contiguous(order_of(x))), written(grad_x));
    return {grad_x, {}};
  }
};

// Wrong arguments go to the reference, so that the user reads torch's own message.
inline Tensor max_pool(const Tensor& x, at::IntArrayRef pool) {
  const bool ordered = x.is_contiguous() || (x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast));
  if (!eager(x) || !plain_maps(x) || !ordered || !pool_fits(pool, x.size(2), x.size(3)))
    return call_reference<Tensor>("max_pool", kComposite, x, pool);
  return MaxPool::apply(x, pool);
}

}  // namespace efficientconv
