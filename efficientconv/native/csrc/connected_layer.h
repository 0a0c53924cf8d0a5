// Convolutions over planned connections and the layers around them, in training.
#pragma once

#include "autograd.h"
#include "connected_ops.h"
#include "norm_ops.h"
#include "parallel.h"

namespace efficientconv {

// A k x k convolution over connections, or a depthwise one and a 1 x 1.
struct Connected {
  Tensor x;
  MaybeTensor filters;  // of the depthwise convolution
  Tensor weight;
  const Plans& plans;

  int64_t kernel() const { return filters ? 1 : weight.size(-1); }
  int64_t inputs() const { return filters ? filters->size(0) : x.size(1); }

  Tensor forward() const {
    return convolve(x, filters, weight, kernel(), plans.forward, weight.size(0));
  }

  // of x, with `add` added, of filters and weight
  variable_list gradients(const Tensor& grad, const MaybeTensor& add) const {
    const auto to_inputs = [&](const MaybeTensor& add) {
      return convolve(grad, std::nullopt, weight, kernel(), plans.backward, inputs(), NormTensors(), 0, add);
    };
    const auto of_weight = [&] {
      if (plans.dense()) return dense_weight_gradient(x, filters, weight, grad);
      return weight_gradient(x, filters, weight, kernel(), plans.forward, weight.size(0), grad);
    };
    if (!filters) return {to_inputs(add), Tensor(), of_weight()};
    const auto [grad_x, grad_filters] = depthwise_backward(x, *filters, to_inputs(std::nullopt), add);
    return {grad_x, grad_filters, of_weight()};
  }

  // Whether the whole backward pass may share images out between threads: as many for each, of enough pixels.
  bool image_by_image() const {
    const int64_t images = x.size(0), pixels = x.size(2) * x.size(3);
    return filters && plans.dense() && images % thread_count() == 0 && images * pixels > weight.size(0);
  }
};

class ConnectedFunction : public torch::autograd::Function<ConnectedFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const MaybeTensor& filters, const Tensor& weight,
                        const Plans& plans) {
    ctx->save_for_backward({x, filters.value_or(Tensor()), weight});
    plans.save(ctx);
    return Connected{x, filters, weight, plans}.forward();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const Plans plans(ctx);
      const Connected conv{saved[0], maybe(saved[1]), saved[2], plans};
      variable_list found = conv.gradients(grads[0].contiguous(), std::nullopt);
      found.emplace_back();
      return found;
    });
  }
};

// relu(batch_norm(convolution(x)) + x) with the batch's own statistics, or without the + x; also mean and biased variance.
class ConnectedLayer : public torch::autograd::Function<ConnectedLayer> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const MaybeTensor& filters, const Tensor& weight,
                               const Tensor& gamma, const Tensor& beta, const Plans& plans, const LayerEnd& end) {
    const Connected conv{x, filters, weight, plans};
    const Tensor y = conv.forward();
    const auto [out, mean, var] = batch_norm(y, only_if(end.residual, x), gamma, beta, end.eps);
    const bool by_image = conv.image_by_image();
    ctx->save_for_backward({x, filters.value_or(Tensor()), weight, gamma, beta, y, mean, var, by_image ? Tensor() : out});
    plans.save(ctx);
    return end.result(ctx, out, mean, var);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const Plans plans(ctx);
      const Connected conv{saved[0], maybe(saved[1]), saved[2], plans};
      const Tensor grad = grads[0].contiguous(), &gamma = saved[3], &beta = saved[4], &y = saved[5], &mean = saved[6],
                   &var = saved[7], &out = saved[8];
      const LayerEnd end(ctx);
      if (!out.defined()) {
        const auto [grad_x, grad_filters, grad_weight, grad_gamma, grad_beta] =
            sic_backward(grad, y, conv.x, *conv.filters, conv.weight, plans.backward, mean, var, gamma, beta, end.eps,
                         end.residual);
        return {grad_x, grad_filters, grad_weight, grad_gamma, grad_beta, {}, {}};
      }
      const auto [grad_residual, grad_y, grad_gamma, grad_beta] =
          batch_norm_backward(grad, out, y, mean, var, gamma, end.eps, end.residual);
      const variable_list found = conv.gradients(grad_y, only_if(end.residual, grad_residual));
      return {found[0], found[1], found[2], grad_gamma, grad_beta, {}, {}};
    });
  }
};

}  // namespace efficientconv
