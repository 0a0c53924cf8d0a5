// A layer's end behind a convolution of the library's, in training.
#pragma once

#include "autograd.h"
#include "norm_ops.h"

namespace efficientconv {

// relu(batch_norm(y) + residual) with the batch's own statistics, or without the residual; also mean and biased variance. On
// maps of one order: contiguous, or channels-last of whole vectors of channels.
class NormLayer : public torch::autograd::Function<NormLayer> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& y, const MaybeTensor& residual, const Tensor& gamma,
                               const Tensor& beta, double eps) {
    const auto [out, mean, var] = batch_norm(y, residual, gamma, beta, eps);
    ctx->save_for_backward({y, out, mean, var, gamma});
    return LayerEnd(eps, residual.has_value()).result(ctx, out, mean, var);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const Tensor &y = saved[0], grad = grads[0].contiguous(format_of(y));
      const LayerEnd end(ctx);
      const auto [grad_residual, grad_y, grad_gamma, grad_beta] =
          batch_norm_backward(grad, saved[1], y, saved[2], saved[3], saved[4], end.eps, end.residual);
      return {grad_y, end.residual ? grad_residual : Tensor(), grad_gamma, grad_beta, {}};
    });
  }
};

}  // namespace efficientconv
