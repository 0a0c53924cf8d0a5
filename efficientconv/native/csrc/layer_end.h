// A layer's end behind its convolution: relu(batch_norm(y) + residual). Some layers have no residual connection.
#pragma once

#include "dispatch.h"
#include "vec.h"

namespace efficientconv {

// The end in the form of the operators' arguments. Batch norm uses the batch's own statistics in training, and also if
// there are no running statistics.
struct End {
  MaybeTensor residual, gamma, beta, mean, var, batches;
  bool training;
  std::optional<double> momentum;
  double eps;

  bool own_statistics() const { return training || (!mean && !var); }

  // Whether the kernels can compute this end behind maps of the sizes `y`.
  bool fits(at::IntArrayRef y) const {
    const bool counted = mean.has_value() == var.has_value() && mean.has_value() == batches.has_value() &&
                         (!batches || (batches->is_cpu() && batches->scalar_type() == at::kLong && batches->numel() == 1));
    const bool trainable = gamma && beta && c10::multiply_integers(y) > y[1];
    return plain(residual, y) && plain(gamma, y[1]) && plain(beta, y[1]) && plain(mean, y[1]) && plain(var, y[1]) && counted &&
           (trainable || !own_statistics());
  }

  variable_list tensors() const {
    variable_list found;
    for (const MaybeTensor& t : {residual, gamma, beta, mean, var})
      if (t) found.push_back(*t);
    return found;
  }

  // Updates the running statistics as nn.BatchNorm2d does in training. They are a moving average of the batch's mean
  // and unbiased variance or, without a momentum, the average over all batches. `count`: the positions of a channel in
  // the batch. One function computes all of it, because five small operators of torch can take longer than the layer.
  void track(const Tensor& batch_mean, const Tensor& batch_var, int64_t count) const {
    if (!training || !mean) return;
    const int64_t seen = ++*batches->mutable_data_ptr<int64_t>();
    const float share = static_cast<float>(momentum.value_or(1. / static_cast<double>(seen)));
    const float unbiased = static_cast<float>(static_cast<double>(count) / static_cast<double>(count - 1));
    average(*mean, data(batch_mean), share, 1.f);
    average(*var, data(batch_var), share, unbiased);
    for (const Tensor& t : {*mean, *var, *batches})
      if (!t.is_inference()) t.unsafeGetTensorImpl()->bump_version();
  }

 private:
  static void average(const Tensor& running, const float* of_batch, float share, float factor) {
    const Tensor kept = running.contiguous();  // seldom a copy
    float* to = written(kept);
    for (int64_t c = 0; c < kept.numel(); ++c) to[c] = (1 - share) * to[c] + share * (of_batch[c] * factor);
    if (!running.is_contiguous()) running.copy_(kept);
  }
};

// Batch norm with given statistics, folded into one scale and one bias for each channel.
class Folded {
 public:
  explicit Folded(const End& end) : Folded(*end.mean, *end.var, end.gamma, end.beta, end.eps) {}
  Folded(const Tensor& mean, const Tensor& var, const MaybeTensor& gamma, const MaybeTensor& beta, double eps)
      : values_(2 * mean.numel()) {
    const MaybeTensor tensors[] = {mean.contiguous(), var.contiguous(), contiguous(gamma), contiguous(beta)};
    const float *m = data(tensors[0]), *v = data(tensors[1]), *g = data(tensors[2]), *b = data(tensors[3]);
    const int64_t channels = mean.numel();
    for (int64_t c = 0; c < channels; ++c) {
      const double scale = (g ? g[c] : 1.) / std::sqrt(v[c] + eps);
      values_[c] = static_cast<float>(scale);
      values_[channels + c] = static_cast<float>((b ? b[c] : 0.) - m[c] * scale);
    }
  }
  Epilogue output(const MaybeTensor& residual) const {
    return {values_.data(), values_.data() + values_.size() / 2, data(residual), true};
  }

 private:
  std::vector<float> values_;
};

inline std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& y, const MaybeTensor& residual, const Tensor& gamma,
                                                     const Tensor& beta, double eps) {
  Tensor out = new_tensor(y.sizes(), order_of(y)), mean = new_tensor({y.size(1)}), var = new_tensor({y.size(1)});
  run_batch_norm_forward(maps_of(y), y.is_contiguous(), data(y), data(residual), data(gamma), data(beta), eps, written(out),
                         written(mean), written(var));
  return {out, mean, var};
}

// grad_residual is undefined if `residual` is false, which saves the memory of a map.
inline std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(const Tensor& grad_out, const Tensor& out, const Tensor& y,
                                                                      const Tensor& mean, const Tensor& var, const Tensor& gamma,
                                                                      double eps, bool residual) {
  Tensor grad_y = new_tensor(y.sizes(), order_of(y));
  Tensor grad_residual = residual ? new_tensor(y.sizes(), order_of(y)) : Tensor();
  Tensor grad_gamma = at::empty_like(mean), grad_beta = at::empty_like(mean);
  run_batch_norm_backward(maps_of(y), y.is_contiguous(), data(grad_out), data(out), data(y), data(mean), data(var), data(gamma),
                          eps, written(residual ? grad_residual : grad_y), written(grad_y), written(grad_gamma),
                          written(grad_beta));
  return {grad_residual, grad_y, grad_gamma, grad_beta};
}

// What a layer in training returns: its output, and the batch's mean and biased variance, which have no gradients.
inline variable_list layer_result(AutogradContext* ctx, const Tensor& out, const Tensor& mean, const Tensor& var) {
  ctx->mark_non_differentiable({mean, var});
  return {out, mean, var};
}

// relu(batch_norm(y) + residual) with the batch's own statistics. All maps have one memory order: contiguous, or
// channels-last with numbers that fill whole vectors.
class NormLayer : public torch::autograd::Function<NormLayer> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& y, const MaybeTensor& residual, const Tensor& gamma,
                               const Tensor& beta, double eps) {
    const at::MemoryFormat order = order_of(y);
    const auto [out, mean, var] =
        batch_norm(y, residual ? MaybeTensor(residual->contiguous(order)) : residual, gamma.contiguous(), beta.contiguous(), eps);
    ctx->save_for_backward({y, residual.value_or(Tensor()), gamma, beta, out, mean, var});
    ctx->saved_data["eps"] = eps;
    return layer_result(ctx, out, mean, var);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &y = saved[0], &residual = saved[1], &gamma = saved[2], &beta = saved[3];
    const double eps = ctx->saved_data["eps"].toDouble();
    if (wants_reference_gradients(grads[0])) {
      variable_list found = reference_gradients({y, residual, gamma, beta}, grads[0], [&](const variable_list& views) {
        const MaybeTensor none, added = only_if(residual.defined(), views[1]);
        return call_reference<Tensor>("norm_relu", kComposite, views[0], added, views[2], views[3], none, none, none, true, 0., eps);
      });
      found.emplace_back();
      return found;
    }
    const auto [grad_residual, grad_y, grad_gamma, grad_beta] =
        batch_norm_backward(grads[0].contiguous(order_of(y)), saved[4], y, saved[5], saved[6], gamma.contiguous(), eps,
                            residual.defined());
    return {grad_y, grad_residual, grad_gamma, grad_beta, {}};
  }
};

inline bool norm_applies(const Tensor& y, const End& end) {
  variable_list tensors = end.tensors();
  tensors.push_back(y);
  if (!eager(tensors) || !plain_maps(y)) return false;
  const bool ordered = y.is_contiguous() || (y.is_contiguous(at::MemoryFormat::ChannelsLast) && y.numel() % kLanes == 0);
  return ordered && end.fits(y.sizes()) && end.own_statistics();
}

// The operator norm_relu: a layer's end behind one of PyTorch's own convolutions, in training.
inline Tensor norm_relu(const Tensor& y, const MaybeTensor& residual, const MaybeTensor& gamma, const MaybeTensor& beta,
                        const MaybeTensor& mean, const MaybeTensor& var, const MaybeTensor& batches, bool training,
                        std::optional<double> momentum, double eps) {
  const End end{residual, gamma, beta, mean, var, batches, training, momentum, eps};
  if (!norm_applies(y, end))
    return call_reference<Tensor>("norm_relu", kComposite, y, residual, gamma, beta, mean, var, batches, training, momentum, eps);
  const variable_list found = NormLayer::apply(y, residual, *gamma, *beta, eps);
  end.track(found[1], found[2], y.numel() / y.size(1));
  return found[0];
}

// A whole layer, which is a convolution and its end. In training the autograd function Layer computes both, in inference the
// convolution's own kernel does.
template <class Layer, class Conv>
Tensor whole_layer(const Conv& conv, const End& end) {
  variable_list tensors = conv.tensors(), of_end = end.tensors();
  tensors.insert(tensors.end(), of_end.begin(), of_end.end());
  const bool own = end.own_statistics(), other_residual = end.residual && !end.residual->is_same(conv.x);
  if (!eager(tensors) || !conv.fits() || !end.fits(conv.sizes()) || (own ? other_residual : wants_gradient(tensors)))
    return conv.template reference<Tensor>("_layer", kComposite, end.residual, end.gamma, end.beta, end.mean, end.var, end.batches,
                                           end.training, end.momentum, end.eps);
  if (own) {
    const variable_list found = Layer::train(conv, end);
    end.track(found[1], found[2], found[0].numel() / found[0].size(1));
    return found[0];
  }
  at::AutoDispatchBelowADInplaceOrView below;
  const Folded folded(end);
  return conv.contiguous().infer(folded.output(contiguous(end.residual))).contiguous(order_of(conv.x));
}

}  // namespace efficientconv
