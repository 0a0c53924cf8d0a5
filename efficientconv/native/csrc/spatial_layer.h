// The operator spatial_bottleneck, and the whole layer around it.
#pragma once

#include "connected_layer.h"

namespace efficientconv {

// The arguments of the operator spatial_bottleneck: reduction to cells, projection of the cells, expansion.
struct SpatialConv {
  Tensor x, reduction, projection, expansion;
  int64_t kernel, padding;

  bool fits() const {
    if (!plain_maps(x) || projection.dim() != 4) return false;
    const int64_t n = x.size(1), m = projection.size(0), k = kernel;
    return m > 0 && padding >= 0 && padding < k && plain(reduction, {n, 1, k, k}) && plain(projection, {m, n, 1, 1}) &&
           plain(expansion, {m, 1, k, k});
  }

  std::vector<int64_t> sizes() const { return {x.size(0), projection.size(0), x.size(2), x.size(3)}; }
  Grid grid(const Tensor& maps) const { return {maps_of(maps), kernel, padding}; }
  // of the output
  Grid grid() const { return {{x.size(0), projection.size(0), x.size(2), x.size(3)}, kernel, padding}; }
  KeptPlans plans() const { return PlanCache::get().find({}, x.size(1), projection.size(0), 1); }
  variable_list tensors() const { return {x, reduction, projection, expansion}; }
  SpatialConv contiguous() const {
    return {x.contiguous(), reduction.contiguous(), projection.contiguous(), expansion.contiguous(), kernel, padding};
  }

  // All functions from here to `projection_gradient` want contiguous tensors.
  Tensor reduce(const Tensor& maps, const Tensor& filters) const {
    const Grid cells = grid(maps);
    Tensor reduced = new_tensor({maps.size(0), maps.size(1), cells.rows, cells.columns});
    run_reduce(cells, data(maps), data(filters), written(reduced));
    return reduced;
  }
  Tensor project(const Tensor& cells) const { return convolve(cells, std::nullopt, projection, 1, plans()->forward); }
  Tensor expand(const Tensor& cells, const Tensor& filters, const Epilogue& end = {}) const {
    Tensor y = new_tensor({x.size(0), cells.size(1), x.size(2), x.size(3)});
    run_expand(grid(y), data(cells), data(filters), end, written(y));
    return y;
  }

  Tensor infer(const Epilogue& end) const {
    // run_bottleneck gives each thread whole images, so that it needs as many images as threads. It fills vectors with cells.
    if (x.size(0) < thread_count() || x.size(0) * grid().cells() < kLanes)
      return expand(project(reduce(x, reduction)), expansion, end);
    Tensor y = new_tensor(sizes());
    run_bottleneck(grid(x), data(x), data(reduction), plans()->forward.view(), data(projection),
                   data(expansion), end, written(y));
    return y;
  }

  Tensor filter_gradient(const Tensor& cells, const Tensor& maps, const Tensor& filters) const {
    Tensor grad = at::zeros_like(filters);
    run_cell_filter_gradient(grid(maps), data(cells), data(maps), written(grad));
    return grad;
  }
  // The gradients of the reduced cells and of the projection, given that of the projected cells.
  Tensor cells_gradient(const Tensor& grad) const { return convolve(grad, std::nullopt, projection, 1, plans()->backward); }
  Tensor projection_gradient(const Tensor& reduced, const Tensor& grad) const {
    Tensor found = new_tensor(projection.sizes());
    run_dense_weight_gradient(maps_of(reduced), data(reduced), {nullptr, 1, 1}, projection.size(0), data(grad), written(found));
    return found;
  }

  template <class Out, class... Ends>
  Out reference(const std::string& kind, DispatchKey key, const Ends&... ends) const {
    return call_reference<Out>("spatial_bottleneck" + kind, key, x, reduction, projection, expansion, kernel, padding, ends...);
  }
};

// Like ConnectedLayer. Batch norm's input, the expanded map, is never in memory.
class SpatialLayer : public torch::autograd::Function<SpatialLayer> {
 public:
  static variable_list train(const SpatialConv& conv, const End& end) {
    return apply(conv.x, conv.reduction, conv.projection, conv.expansion, *end.gamma, *end.beta, conv.kernel, conv.padding, end);
  }

  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& reduction, const Tensor& projection,
                               const Tensor& expansion, const Tensor& gamma, const Tensor& beta, int64_t kernel, int64_t padding,
                               const End& end) {
    const SpatialConv conv = SpatialConv{x, reduction, projection, expansion, kernel, padding}.contiguous();
    const Tensor reduced = conv.reduce(conv.x, conv.reduction), projected = conv.project(reduced);
    Tensor mean = new_tensor({projected.size(1)}), var = new_tensor({projected.size(1)});
    run_cell_statistics(conv.grid(), data(projected), data(conv.expansion), written(mean), written(var));
    const Folded folded(mean, var, gamma, beta, end.eps);
    const Tensor out = conv.expand(projected, conv.expansion, folded.output(only_if(end.residual.has_value(), conv.x)));
    ctx->save_for_backward({x, reduction, projection, expansion, gamma, beta, reduced, projected, mean, var, out});
    ctx->saved_data["kernel"] = kernel;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["eps"] = end.eps;
    ctx->saved_data["residual"] = end.residual.has_value();
    return layer_result(ctx, out.contiguous(order_of(x)), mean, var);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const SpatialConv conv{saved[0], saved[1], saved[2], saved[3], ctx->saved_data["kernel"].toInt(),
                           ctx->saved_data["padding"].toInt()};
    const double eps = ctx->saved_data["eps"].toDouble();
    const bool residual = ctx->saved_data["residual"].toBool();
    variable_list found;
    if (wants_reference_gradients(grads[0])) {
      found = reference_gradients({saved.begin(), saved.begin() + 6}, grads[0], [&](const variable_list& views) {
        const MaybeTensor none;
        const SpatialConv here{views[0], views[1], views[2], views[3], conv.kernel, conv.padding};
        return here.reference<Tensor>("_layer", kComposite, only_if(residual, here.x), views[4], views[5], none, none, none, true, 0., eps);
      });
    } else {
      found = gradients(conv.contiguous(), saved, grads[0].contiguous(), eps, residual);
      if (found[0].defined()) found[0] = found[0].contiguous(order_of(conv.x));
    }
    found.resize(9);
    return found;
  }

 private:
  static variable_list gradients(const SpatialConv& conv, const variable_list& saved, const Tensor& grad, double eps,
                                 bool residual) {
    const Tensor &reduced = saved[6], &projected = saved[7], &mean = saved[8], &var = saved[9], &out = saved[10];
    const Tensor gamma = saved[4].contiguous();
    Tensor grad_projected = new_tensor(projected.sizes()), grad_expansion = new_tensor(conv.expansion.sizes());
    Tensor grad_gamma = at::empty_like(mean), grad_beta = at::empty_like(mean);
    run_expand_backward(conv.grid(), data(grad), data(out), data(projected), data(conv.expansion), data(mean), data(var),
                        data(gamma), eps,
                        {written(grad_projected), written(grad_expansion), written(grad_gamma), written(grad_beta)});
    Tensor grad_x, grad_reduction, grad_projection;
    if (saved[2].requires_grad()) grad_projection = conv.projection_gradient(reduced, grad_projected);
    if (saved[0].requires_grad() || saved[1].requires_grad()) {
      const Tensor cells = conv.cells_gradient(grad_projected);
      grad_x = new_tensor(conv.x.sizes()), grad_reduction = new_tensor(conv.reduction.sizes());
      run_reduce_backward(conv.grid(conv.x), data(conv.x), data(conv.reduction), data(cells),
                          residual ? data(grad) : nullptr, residual ? data(out) : nullptr, written(grad_x), written(grad_reduction));
    }
    return {grad_x, grad_reduction, grad_projection, grad_expansion, grad_gamma, grad_beta};
  }
};

// ---- the operators

using SpatialResult = std::tuple<Tensor, Tensor, Tensor>;                   // the maps, the reduced and the projected cells
using SpatialGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // of x and the three weights

inline SpatialResult spatial_bottleneck(const Tensor& x, const Tensor& reduction, const Tensor& projection, const Tensor& expansion,
                                        int64_t stride, int64_t padding) {
  const SpatialConv given{x, reduction, projection, expansion, stride, padding};
  if (!given.fits()) return given.reference<SpatialResult>("", kReference);
  const SpatialConv conv = given.contiguous();
  const Tensor reduced = conv.reduce(conv.x, conv.reduction), projected = conv.project(reduced);
  return {conv.expand(projected, conv.expansion).contiguous(order_of(x)), reduced, projected};
}

inline SpatialGradients spatial_bottleneck_backward(const Tensor& grad, const Tensor& x, const Tensor& reduction,
                                                    const Tensor& projection, const Tensor& expansion, const Tensor& reduced,
                                                    const Tensor& projected, int64_t stride, int64_t padding,
                                                    std::array<bool, 4> wanted) {
  const SpatialConv given{x, reduction, projection, expansion, stride, padding};
  if (!given.fits() || !plain(grad, given.sizes()) || !plain(reduced) || !plain(projected))
    return call_reference<SpatialGradients>("spatial_bottleneck_backward", kReference, grad, x, reduction, projection, expansion,
                                            reduced, projected, stride, padding, wanted);
  const SpatialConv conv = given.contiguous();
  const Tensor g = grad.contiguous(), r = reduced.contiguous(), p = projected.contiguous();
  const Tensor grad_cells = conv.reduce(g, conv.expansion);
  TORCH_CHECK(p.sizes() == grad_cells.sizes() && r.size(0) == p.size(0) && r.size(1) == x.size(1) && r.size(2) == p.size(2) &&
                  r.size(3) == p.size(3), "efficientconv: cells that do not cover the maps");
  const Tensor cells = wanted[0] || wanted[1] ? conv.cells_gradient(grad_cells) : Tensor();
  return {wanted[0] ? conv.expand(cells, conv.reduction).contiguous(order_of(x)) : Tensor(),
          wanted[1] ? conv.filter_gradient(cells, conv.x, conv.reduction) : Tensor(),
          wanted[2] ? conv.projection_gradient(r, grad_cells) : Tensor(),
          wanted[3] ? conv.filter_gradient(p, g, conv.expansion) : Tensor()};
}

// A frozen layer, relu(expand(project(reduce(x))) + bias + residual), or without the residual. Batch norm is folded into the
// expansion.
inline Tensor frozen_spatial_bottleneck(const Tensor& x, const MaybeTensor& residual, const Tensor& reduction, const Tensor& projection,
                                        const Tensor& expansion, const Tensor& bias, int64_t stride, int64_t padding) {
  const SpatialConv conv{x, reduction, projection, expansion, stride, padding};
  TORCH_CHECK(conv.fits() && plain(residual, conv.sizes()) && plain(bias, {projection.size(0)}),
              "efficientconv::frozen_spatial_bottleneck: not the maps or the weights of a frozen layer");
  const Tensor b = bias.contiguous();
  const MaybeTensor added = contiguous(residual);
  return conv.contiguous().infer({nullptr, data(b), data(added), true});
}

}  // namespace efficientconv
