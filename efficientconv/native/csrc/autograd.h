// The layers in training as functions that autograd knows, in C++: around the kernels of a small layer, Python's would take as
// long as they do.
//
// Little is kept for backward: the result of a depthwise convolution is computed again, tile by tile, what ReLU let through is
// read off the output or taken again, and the map that a bottleneck's batch norm stands on is never made.
#pragma once

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>

#include "tensors.h"

namespace efficientconv {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The gradients, from kernels that have none of their own: who differentiates them again is told so then, as by PyTorch's
// once_differentiable.
template <class F>
variable_list differentiable_once(F gradients) {
  variable_list grads;
  {
    at::NoGradGuard guard;
    grads = gradients();
  }
  if (!at::GradMode::is_enabled()) return grads;
  for (Tensor& grad : grads)
    if (grad.defined()) grad = grad.detach().requires_grad_();
  torch::autograd::DelayedError error(
      "efficientconv: the native layers have no gradients of gradients; choose layers.backend=reference",
      static_cast<int64_t>(grads.size()));
  return error.apply(std::move(grads));
}

inline MaybeTensor only_if(bool wanted, const Tensor& t) { return wanted ? MaybeTensor(t) : std::nullopt; }
inline MaybeTensor maybe(const Tensor& t) { return only_if(t.defined(), t); }

// A convolution's connections, both ways. Not seen by autograd.
struct Plans {
  std::vector<Tensor> forward, backward;

  Plans(at::TensorList forward, at::TensorList backward) : forward(forward.vec()), backward(backward.vec()) {
    TORCH_CHECK(forward.size() == 4 && backward.size() == 4, "efficientconv: expected two plans of four tensors");
  }
  explicit Plans(AutogradContext* ctx)
      : Plans(ctx->saved_data["forward"].toTensorVector(), ctx->saved_data["backward"].toTensorVector()) {}
  void save(AutogradContext* ctx) const {
    ctx->saved_data["forward"] = forward;
    ctx->saved_data["backward"] = backward;
  }
  bool dense() const { return forward[3].dim() == 1; }
};

// A layer's end beside its tensors: batch norm's eps, and whether there is a residual connection.
struct LayerEnd {
  double eps;
  bool residual;

  LayerEnd(double eps, bool residual) : eps(eps), residual(residual) {}
  explicit LayerEnd(AutogradContext* ctx)
      : eps(ctx->saved_data["eps"].toDouble()), residual(ctx->saved_data["residual"].toBool()) {}

  // what a layer returns: its output, and the batch's mean and variance, which have no gradients
  variable_list result(AutogradContext* ctx, const Tensor& out, const Tensor& mean, const Tensor& var) const {
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["residual"] = residual;
    ctx->mark_non_differentiable({mean, var});
    return {out, mean, var};
  }
};

}  // namespace efficientconv
