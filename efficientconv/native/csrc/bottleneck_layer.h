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
  Plans plans;

  // As `save` left it; its own tensors come first among those saved.
  static SpatialBottleneck saved(AutogradContext* ctx, const variable_list& tensors) {
    return {tensors[0], tensors[1], tensors[2], tensors[3], ctx->saved_data["padding"].toInt(), Plans(ctx)};
  }
  void save(AutogradContext* ctx) const {
    ctx->saved_data["padding"] = padding;
    plans.save(ctx);
  }

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
    conv.save(ctx);
    return expand(projected, expansion, padding, x.size(2), x.size(3));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const SpatialBottleneck conv = SpatialBottleneck::saved(ctx, saved);
      const Tensor grad = grads[0].contiguous(), &reduced = saved[4], &projected = saved[5];
      const Tensor grad_expansion = cell_filter_gradient(projected, grad, conv.expansion, conv.padding);
      const auto [cells, grad_projection] = conv.project_backward(reduced, reduce(grad, conv.expansion, conv.padding));
      const Tensor grad_reduction = cell_filter_gradient(cells, conv.x, conv.reduction, conv.padding);
      const Tensor grad_x = expand(cells, conv.reduction, conv.padding, conv.x.size(2), conv.x.size(3));
      return {grad_x, grad_reduction, grad_projection, grad_expansion, {}, {}};
    });
  }
};

// As ConnectedLayer.
class BottleneckLayer : public torch::autograd::Function<BottleneckLayer> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& reduction, const Tensor& projection,
                               const Tensor& expansion, const Tensor& gamma, const Tensor& beta, int64_t padding,
                               const Plans& plans, const LayerEnd& end) {
    const SpatialBottleneck conv{x, reduction, projection, expansion, padding, plans};
    const Tensor reduced = conv.reduce_x(), projected = conv.project(reduced);
    const auto [mean, var] = cell_statistics(projected, expansion, padding, x.size(2), x.size(3));
    const NormTensors norm({MaybeTensor(mean), MaybeTensor(var), MaybeTensor(gamma), MaybeTensor(beta)});
    const Tensor out = expand(projected, expansion, padding, x.size(2), x.size(3), norm, end.eps,
                              only_if(end.residual, x), true);
    ctx->save_for_backward({x, reduction, projection, expansion, gamma, reduced, projected, mean, var, out});
    conv.save(ctx);
    return end.result(ctx, out, mean, var);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return differentiable_once([&]() -> variable_list {
      const variable_list saved = ctx->get_saved_variables();
      const SpatialBottleneck conv = SpatialBottleneck::saved(ctx, saved);
      const Tensor &gamma = saved[4], &reduced = saved[5], &projected = saved[6], &mean = saved[7], &var = saved[8],
                   &out = saved[9], grad = grads[0].contiguous();
      const LayerEnd end(ctx);
      const auto [grad_projected, grad_expansion, grad_gamma, grad_beta] =
          expand_backward(grad, out, projected, conv.expansion, conv.padding, mean, var, gamma, end.eps);
      const auto [cells, grad_projection] = conv.project_backward(reduced, grad_projected);
      const auto [grad_x, grad_reduction] = reduce_backward(conv.x, conv.reduction, conv.padding, cells,
                                                            only_if(end.residual, grad), only_if(end.residual, out));
      return {grad_x, grad_reduction, grad_projection, grad_expansion, grad_gamma, grad_beta, {}, {}, {}};
    });
  }
};

}  // namespace efficientconv
