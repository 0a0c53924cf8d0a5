// Spatial bottlenecks and the layers around them, in training.
#pragma once

#include "autograd.h"
#include "bottleneck_ops.h"
#include "connected_ops.h"

namespace efficientconv {

// A spatial bottleneck: reduction onto cells, projection, expansion.
struct SpatialBottleneck {
  Tensor x, reduction, projection, expansion;
  int64_t padding;
  const Plans& plans;

  Tensor reduce_x() const { return reduce(x, reduction, padding); }
  Tensor project(const Tensor& reduced) const {
    return convolve(reduced, std::nullopt, projection, 1, plans.forward, projection.size(0));
  }
  // the gradients of the reduced cells and of the projection, given that of the projected ones
  std::tuple<Tensor, Tensor> project_backward(const Tensor& reduced, const Tensor& grad) const {
    return {convolve(grad, std::nullopt, projection, 1, plans.backward, x.size(1)),
            dense_weight_gradient(reduced, std::nullopt, projection, grad)};
  }
};

class BottleneckFunction : public torch::autograd::Function<BottleneckFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& reduction, const Tensor& projection,
                        const Tensor& expansion, int64_t padding, const Plans& plans) {
    const SpatialBottleneck conv{x, reduction, projection, expansion, padding, plans};
    const Tensor reduced = conv.reduce_x(), projected = conv.project(reduced);
    ctx->save_for_backward({x, reduction, projection, expansion, reduced, projected});
    ctx->saved_data["padding"] = padding;
    plans.save(ctx);
    return expand(projected, expansion, padding, x.size(2), x.size(3));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const Plans plans(ctx);
      const int64_t padding = ctx->saved_data["padding"].toInt();
      const SpatialBottleneck conv{saved[0], saved[1], saved[2], saved[3], padding, plans};
      const Tensor grad = grads[0].contiguous(), &reduced = saved[4], &projected = saved[5];
      const Tensor grad_expansion = cell_filter_gradient(projected, grad, conv.expansion, padding);
      const auto [cells, grad_projection] = conv.project_backward(reduced, reduce(grad, conv.expansion, padding));
      const Tensor grad_reduction = cell_filter_gradient(cells, conv.x, conv.reduction, padding);
      const Tensor grad_x = expand(cells, conv.reduction, padding, conv.x.size(2), conv.x.size(3));
      return {grad_x, grad_reduction, grad_projection, grad_expansion, {}, {}};
    });
  }
};

// As ConnectedLayer.
class BottleneckLayer : public torch::autograd::Function<BottleneckLayer> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& reduction, const Tensor& projection,
                               const Tensor& expansion, const Tensor& gamma, const Tensor& beta, int64_t padding,
                               const Plans& plans, double eps, bool residual) {
    const SpatialBottleneck conv{x, reduction, projection, expansion, padding, plans};
    const Tensor reduced = conv.reduce_x(), projected = conv.project(reduced);
    const auto [mean, var] = cell_statistics(projected, expansion, padding, x.size(2), x.size(3));
    const NormTensors norm({MaybeTensor(mean), MaybeTensor(var), MaybeTensor(gamma), MaybeTensor(beta)});
    const Tensor out = expand(projected, expansion, padding, x.size(2), x.size(3), norm, eps,
                              residual ? MaybeTensor(x) : std::nullopt, true);
    ctx->save_for_backward({x, reduction, projection, expansion, gamma, reduced, projected, mean, var, out});
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["residual"] = residual;
    plans.save(ctx);
    ctx->mark_non_differentiable({mean, var});
    return {out, mean, var};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const Plans plans(ctx);
      const int64_t padding = ctx->saved_data["padding"].toInt();
      const SpatialBottleneck conv{saved[0], saved[1], saved[2], saved[3], padding, plans};
      const Tensor &gamma = saved[4], &reduced = saved[5], &projected = saved[6], &mean = saved[7], &var = saved[8],
                   &out = saved[9], grad = grads[0].contiguous();
      const auto [grad_projected, grad_expansion, grad_gamma, grad_beta] = expand_backward(
          grad, out, projected, conv.expansion, padding, mean, var, gamma, ctx->saved_data["eps"].toDouble());
      const auto [cells, grad_projection] = conv.project_backward(reduced, grad_projected);
      const bool residual = ctx->saved_data["residual"].toBool();
      const auto [grad_x, grad_reduction] =
          reduce_backward(conv.x, conv.reduction, padding, cells, residual ? MaybeTensor(grad) : std::nullopt,
                          residual ? MaybeTensor(out) : std::nullopt);
      return {grad_x, grad_reduction, grad_projection, grad_expansion, grad_gamma, grad_beta, {}, {}, {}, {}};
    });
  }
};

}  // namespace efficientconv
