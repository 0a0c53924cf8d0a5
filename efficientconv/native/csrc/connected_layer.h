// The operators sic and topological, and the whole layers around them. Both are convolutions over connections; sic has a
// depthwise convolution first.
#pragma once

#include "layer_end.h"
#include "parallel.h"

namespace efficientconv {

// filters: those of the depthwise convolution, or null if there is none.
inline Tensor convolve(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, int64_t kernel, const Plan& plan,
                       const Epilogue& output = {}) {
  const Maps maps = maps_of(x);
  const Filters f{data(filters), kernel, filters ? filters->size(0) / maps.channels : 1};
  Tensor y = new_tensor({maps.images, plan.outputs, maps.height, maps.width});
  run_convolution(maps, data(x), f, plan.view(), data(weight), output, written(y));
  return y;
}

constexpr int64_t kMostWeights = int64_t{1} << 28;  // a plan counts places of packed weights in 32 bits, at most four for each weight

using Wanted = std::array<bool, 3>;  // the gradients of x, filters and weight

// The arguments of the operator sic, or of topological if `filters` is null.
struct ConnectedConv {
  Tensor x;
  MaybeTensor filters;
  Tensor weight;
  int64_t channels, padding;
  Topology topology;

  // Whether the kernels can compute this convolution: float32, odd kernels, channels that fit the topology. If not, the
  // reference runs, and it also says what is wrong with wrong arguments.
  bool fits() const {
    const bool square = weight.dim() == 4 && weight.size(2) == weight.size(3) && weight.size(2) % 2 == 1 && weight.size(0) > 0;
    if (!plain_maps(x) || !plain(weight) || !square || !topology.sound() || channels < 1 || x.size(1) != channels) return false;
    if (filters) {
      const bool odd = plain(*filters) && filters->dim() == 4 && filters->size(2) % 2 == 1;
      if (!odd || filters->size(0) < 1 || filters->size(0) % channels || weight.size(2) != 1) return false;
      if (filters->sizes() != at::IntArrayRef({filters->size(0), 1, filters->size(2), filters->size(2)})) return false;
    }
    if (padding != kernel() / 2 || weight.numel() > kMostWeights) return false;
    if (topology.full()) return weight.size(1) == rows() && (filters || weight.size(2) == 1);
    return topology.channels() == rows() && weight.size(0) == rows() && weight.size(1) == topology.fan();
  }

  int64_t rows() const { return filters ? filters->size(0) : channels; }
  std::vector<int64_t> sizes() const { return {x.size(0), weight.size(0), x.size(2), x.size(3)}; }
  KeptPlans plans() const { return PlanCache::get().find(topology, rows(), weight.size(0), weight.size(2)); }
  ConnectedConv contiguous() const {
    return {x.contiguous(), efficientconv::contiguous(filters), weight.contiguous(), channels, padding, topology};
  }
  variable_list tensors() const {
    return filters ? variable_list{x, *filters, weight} : variable_list{x, weight};
  }
  int64_t kernel() const { return filters ? filters->size(2) : weight.size(2); }

  // All functions from here to `gradients` want contiguous tensors.
  Tensor forward(const Epilogue& end = {}) const { return convolve(x, filters, weight, kernel(), plans()->forward, end); }

  Tensor infer(const Epilogue& end) const { return forward(end); }

  // The gradients of x, of filters and of weight, undefined where not wanted. `add` is added to that of x.
  variable_list gradients(const Tensor& grad, const MaybeTensor& add, const Wanted& wanted) const {
    const KeptPlans both = plans();
    const Maps maps = maps_of(x);
    const Filters f{data(filters), kernel(), rows() / channels};
    Tensor grad_x, grad_filters, grad_weight;
    const auto to_rows = [&](const MaybeTensor& end) {
      return convolve(grad, std::nullopt, weight, weight.size(2), both->backward, {nullptr, nullptr, data(end), false});
    };
    if (!filters) {
      if (wanted[0]) grad_x = to_rows(add);
    } else if (wanted[0] || wanted[1]) {
      grad_x = new_tensor(x.sizes()), grad_filters = at::zeros_like(*filters);
      run_depthwise_backward(maps, data(x), f, data(to_rows(std::nullopt)), data(add), written(grad_x), written(grad_filters));
    }
    if (wanted[2]) {
      grad_weight = new_tensor(weight.sizes());
      if (both->dense) run_dense_weight_gradient(maps, data(x), f, weight.size(0), data(grad), written(grad_weight));
      else run_weight_gradient(maps, data(x), f, both->forward.view(), data(grad), written(grad_weight));
    }
    return {grad_x, grad_filters, grad_weight};
  }

  // Whether sic_gradients may compute the backward pass: all threads get the same number of images, and there are more
  // pixels than outputs.
  bool image_by_image() const {
    const int64_t images = x.size(0), pixels = x.size(2) * x.size(3);
    return filters && images % thread_count() == 0 && images * pixels > weight.size(0);
  }

  // The gradients of x, filters, weight, gamma and beta of a whole layer, image by image.
  variable_list sic_gradients(const NormedLayer& layer, const Tensor& like_gamma) const {
    Tensor grad_x = new_tensor(x.sizes()), grad_filters = at::empty_like(*filters), grad_weight = new_tensor(weight.sizes());
    Tensor grad_gamma = at::empty_like(like_gamma), grad_beta = at::empty_like(like_gamma);
    run_sic_backward(maps_of(x), data(x), {data(filters), kernel(), rows() / channels}, plans()->forward.view(),
                     plans()->backward.view(), data(weight), layer,
                     {written(grad_x), written(grad_filters), written(grad_weight), written(grad_gamma), written(grad_beta)});
    return {grad_x, grad_filters, grad_weight, grad_gamma, grad_beta};
  }

  // Calls the reference of the operator or, with the arguments of a layer's end, that of the whole layer.
  template <class Out, class... Ends>
  Out reference(const std::string& kind, DispatchKey key, const Ends&... ends) const {
    const auto& [dims, connections, anchor] = topology;
    if (filters) return call_reference<Out>("sic" + kind, key, x, *filters, weight, channels, padding, dims, connections, anchor, ends...);
    return call_reference<Out>("topological" + kind, key, x, weight, padding, dims, connections, anchor, ends...);
  }
};

// relu(batch_norm(convolution(x)) + x) with the batch's own statistics. A layer without a residual connection has no
// + x.
class ConnectedLayer : public torch::autograd::Function<ConnectedLayer> {
 public:
  static variable_list train(const ConnectedConv& conv, const End& end) {
    return apply(conv.x, conv.filters, conv.weight, *end.gamma, *end.beta, conv, end);
  }

  static variable_list forward(AutogradContext* ctx, const Tensor& x, const MaybeTensor& filters, const Tensor& weight,
                               const Tensor& gamma, const Tensor& beta, const ConnectedConv& conv, const End& end) {
    const ConnectedConv here = conv.contiguous();
    const Tensor y = here.forward();
    const auto [out, mean, var] = batch_norm(y, only_if(end.residual.has_value(), here.x), gamma.contiguous(), beta.contiguous(), end.eps);
    ctx->save_for_backward({x, filters.value_or(Tensor()), weight, gamma, beta, y, mean, var,
                            here.image_by_image() && weight.requires_grad() ? Tensor() : out});
    ctx->saved_data["channels"] = conv.channels;
    ctx->saved_data["padding"] = conv.padding;
    ctx->saved_data["dims"] = conv.topology.dims;
    ctx->saved_data["connections"] = conv.topology.connections;
    ctx->saved_data["anchor"] = std::string(conv.topology.anchor);
    ctx->saved_data["eps"] = end.eps;
    ctx->saved_data["residual"] = end.residual.has_value();
    return layer_result(ctx, out.contiguous(order_of(x)), mean, var);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto dims = ctx->saved_data["dims"].toIntVector(), connections = ctx->saved_data["connections"].toIntVector();
    const std::string anchor = ctx->saved_data["anchor"].toStringRef();
    const ConnectedConv conv{saved[0], only_if(saved[1].defined(), saved[1]), saved[2], ctx->saved_data["channels"].toInt(),
                             ctx->saved_data["padding"].toInt(), {dims, connections, anchor}};
    const double eps = ctx->saved_data["eps"].toDouble();
    const bool residual = ctx->saved_data["residual"].toBool();
    variable_list found;
    if (wants_reference_gradients(grads[0])) {
      found = differentiable(conv, saved, grads[0], eps, residual);
    } else {
      found = gradients(conv.contiguous(), saved, grads[0].contiguous(), eps, residual);
      if (found[0].defined()) found[0] = found[0].contiguous(order_of(conv.x));
    }
    found.resize(7);
    return found;
  }

 private:
  static variable_list gradients(const ConnectedConv& conv, const variable_list& saved, const Tensor& grad, double eps,
                                 bool residual) {
    const Tensor gamma = saved[3].contiguous(), beta = saved[4].contiguous();
    const Tensor &y = saved[5], &mean = saved[6], &var = saved[7], &out = saved[8];
    if (!out.defined())
      return conv.sic_gradients({data(grad), data(y), data(mean), data(var), data(gamma), data(beta), eps, residual}, gamma);
    const auto [grad_residual, grad_y, grad_gamma, grad_beta] = batch_norm_backward(grad, out, y, mean, var, gamma, eps, residual);
    const Wanted wanted{saved[0].requires_grad(), saved[1].defined() && saved[1].requires_grad(), saved[2].requires_grad()};
    variable_list found = conv.gradients(grad_y, only_if(residual, grad_residual), wanted);
    found.insert(found.end(), {grad_gamma, grad_beta});
    return found;
  }

  static variable_list differentiable(const ConnectedConv& conv, const variable_list& saved, const Tensor& grad, double eps,
                                      bool residual) {
    return reference_gradients({saved.begin(), saved.begin() + 5}, grad, [&](const variable_list& views) {
      const MaybeTensor none, filters = only_if(views[1].defined(), views[1]);
      const ConnectedConv here{views[0], filters, views[2], conv.channels, conv.padding, conv.topology};
      return here.reference<Tensor>("_layer", kComposite, only_if(residual, here.x), views[3], views[4], none, none, none, true, 0., eps);
    });
  }
};

// ---- the operators

inline Tensor connected(const ConnectedConv& conv) {
  if (!conv.fits()) return conv.reference<Tensor>("", kReference);
  return conv.contiguous().forward().contiguous(order_of(conv.x));
}

// The gradients of x, of the filters and of the weight, undefined where not wanted.
inline variable_list connected_backward(const Tensor& grad, const ConnectedConv& conv, const Wanted& wanted) {
  variable_list found = conv.contiguous().gradients(grad.contiguous(), std::nullopt, wanted);
  if (found[0].defined()) found[0] = found[0].contiguous(order_of(conv.x));
  return found;
}

// ---- frozen layers, whose batch norm is folded into weights that are packed once

inline Tensor frozen_weight(const Tensor& weight, const Tensor& scale, int64_t inputs, at::IntArrayRef dims, at::IntArrayRef connections,
                            std::string_view anchor) {
  const Tensor w = weight.contiguous();
  const ConnectedConv conv{at::empty({1, inputs, 1, 1}, at::kFloat), std::nullopt, w, inputs, w.size(2) / 2, {dims, connections, anchor}};
  TORCH_CHECK(conv.fits() && plain(scale, w.size(0)), "efficientconv: weights that cannot be frozen");
  const KeptPlans plans = conv.plans();
  if (plans->dense) return w * scale.view({-1, 1, 1, 1});
  Tensor packed = at::empty({plans->forward.view().weights}, at::kFloat);
  run_pack(plans->forward.view(), data(w), data(scale.contiguous()), written(packed));
  return packed;
}

// convolution(x) + bias + residual, or without the residual, and ReLU if wanted. `weight` is that of frozen_weight.
class FrozenConv {
 public:
  FrozenConv(const MaybeTensor& filters, const Tensor& weight, const Tensor& bias, int64_t kernel, const Topology& topology, bool relu)
      : kernel_(kernel), relu_(relu) {
    TORCH_CHECK(plain(bias) && bias.dim() == 1 && bias.numel() > 0 && kernel > 0 && kernel % 2 == 1 && plain(weight) && topology.sound(),
                "efficientconv::frozen_layer: not the arguments of a frozen layer");
    const bool full = topology.full();
    const int64_t outputs = bias.numel(), k = filters ? 1 : kernel, rows = full ? weight.numel() / outputs : topology.channels();
    TORCH_CHECK(rows > 0 && plain(filters, {rows, 1, kernel, kernel}) &&
                    (full ? k == 1 && weight.numel() == rows * outputs : rows == outputs) &&
                    weight.numel() / k / k >= outputs * (full ? rows : topology.fan()) && weight.numel() <= kMostWeights * 4,
                "efficientconv::frozen_layer: sizes that do not fit each other");
    plans_ = PlanCache::get().find(topology, rows, outputs, k);
    plan_ = plans_->forward.view();
    plan_.packed = !full;
    TORCH_CHECK(full || weight.numel() == plan_.weights, "efficientconv::frozen_layer: a weight that frozen_weight did not make");
    filters_ = contiguous(filters), weight_ = weight.contiguous(), bias_ = bias.contiguous();
  }

  Tensor operator()(const Tensor& x, const MaybeTensor& residual) const {
    TORCH_CHECK(plain_maps(x), "efficientconv::frozen_layer: not the maps of a frozen layer");
    const int64_t n = x.size(1), rows = plan_.inputs;
    const std::array<int64_t, 4> sizes{x.size(0), plan_.outputs, x.size(2), x.size(3)};
    TORCH_CHECK((filters_ ? rows % n == 0 : rows == n) && plain(residual, sizes),
                "efficientconv::frozen_layer: sizes that do not fit each other");
    const Tensor maps = x.contiguous();
    const MaybeTensor added = contiguous(residual);
    Tensor y = new_tensor(sizes);
    run_convolution(maps_of(maps), data(maps), {data(filters_), kernel_, rows / n}, plan_, data(weight_),
                    {nullptr, data(bias_), data(added), relu_}, written(y));
    return y;
  }

 private:
  int64_t kernel_;
  bool relu_;
  KeptPlans plans_;
  PlanView plan_;
  MaybeTensor filters_;
  Tensor weight_, bias_;
};

inline Tensor frozen_layer(const Tensor& x, const MaybeTensor& residual, const MaybeTensor& filters, const Tensor& weight,
                           const Tensor& bias, int64_t kernel, at::IntArrayRef dims, at::IntArrayRef connections,
                           std::string_view anchor) {
  return FrozenConv(filters, weight, bias, kernel, {dims, connections, anchor}, true)(x, residual);
}

}  // namespace efficientconv
