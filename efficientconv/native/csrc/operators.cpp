// Registers the kernels in PyTorch: they compute the operators of layers/operators.py on the CPU, on torch's threads.
#include <torch/library.h>

#include "program.h"

namespace efficientconv {

int64_t thread_count() { return Team::mine() ? Team::mine()->size() : at::get_num_threads(); }

void on_threads(int64_t n, const std::function<void(int64_t)>& f) {
  if (Team::mine()) return Team::mine()->run(n, f);
  at::parallel_for(0, n, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) f(thread);
  });
}

namespace {

using at::IntArrayRef;
using Text = std::string_view;
using SicGradient = std::tuple<Tensor, Tensor, Tensor>;

ConnectedConv sic_conv(const Tensor& x, const Tensor& filters, const Tensor& weight, int64_t channels, int64_t padding,
                       IntArrayRef dims, IntArrayRef connections, Text anchor) {
  return {x, filters, weight, channels, padding, {dims, connections, anchor}};
}

ConnectedConv topological_conv(const Tensor& x, const Tensor& weight, int64_t padding, IntArrayRef dims, IntArrayRef connections,
                               Text anchor) {
  const Topology topology{dims, connections, anchor};
  const int64_t inputs = weight.dim() == 4 ? weight.size(1) : 0;
  return {x, std::nullopt, weight, topology.full() ? inputs : topology.channels(), padding, topology};
}

Tensor sic(const Tensor& x, const Tensor& filters, const Tensor& weight, int64_t channels, int64_t padding, IntArrayRef dims,
           IntArrayRef connections, Text anchor) {
  return connected(sic_conv(x, filters, weight, channels, padding, dims, connections, anchor));
}

Tensor topological(const Tensor& x, const Tensor& weight, int64_t padding, IntArrayRef dims, IntArrayRef connections, Text anchor) {
  return connected(topological_conv(x, weight, padding, dims, connections, anchor));
}

SicGradient sic_backward(const Tensor& grad, const Tensor& x, const Tensor& filters, const Tensor& weight, int64_t channels,
                         int64_t padding, IntArrayRef dims, IntArrayRef connections, Text anchor, Wanted wanted) {
  const ConnectedConv conv = sic_conv(x, filters, weight, channels, padding, dims, connections, anchor);
  if (!conv.fits() || !plain(grad, conv.sizes()))
    return call_reference<SicGradient>("sic_backward", kReference, grad, x, filters, weight, channels, padding, dims, connections, anchor,
                                       wanted);
  const variable_list found = connected_backward(grad, conv, wanted);
  return {found[0], found[1], found[2]};
}

std::tuple<Tensor, Tensor> topological_backward(const Tensor& grad, const Tensor& x, const Tensor& weight, int64_t padding,
                                                IntArrayRef dims, IntArrayRef connections, Text anchor, std::array<bool, 2> wanted) {
  const ConnectedConv conv = topological_conv(x, weight, padding, dims, connections, anchor);
  if (!conv.fits() || !plain(grad, conv.sizes()))
    return call_reference<std::tuple<Tensor, Tensor>>("topological_backward", kReference, grad, x, weight, padding, dims, connections, anchor,
                                                     wanted);
  const variable_list found = connected_backward(grad, conv, {wanted[0], false, wanted[1]});
  return {found[0], found[2]};
}

Tensor sic_layer(const Tensor& x, const Tensor& filters, const Tensor& weight, int64_t channels, int64_t padding, IntArrayRef dims,
                 IntArrayRef connections, Text anchor, const MaybeTensor& residual, const MaybeTensor& gamma,
                 const MaybeTensor& beta, const MaybeTensor& mean, const MaybeTensor& var, const MaybeTensor& batches,
                 bool training, std::optional<double> momentum, double eps) {
  return whole_layer<ConnectedLayer>(sic_conv(x, filters, weight, channels, padding, dims, connections, anchor),
                                     {residual, gamma, beta, mean, var, batches, training, momentum, eps});
}

Tensor topological_layer(const Tensor& x, const Tensor& weight, int64_t padding, IntArrayRef dims, IntArrayRef connections, Text anchor,
                         const MaybeTensor& residual, const MaybeTensor& gamma, const MaybeTensor& beta, const MaybeTensor& mean,
                         const MaybeTensor& var, const MaybeTensor& batches, bool training, std::optional<double> momentum,
                         double eps) {
  return whole_layer<ConnectedLayer>(topological_conv(x, weight, padding, dims, connections, anchor),
                                     {residual, gamma, beta, mean, var, batches, training, momentum, eps});
}

Tensor spatial_bottleneck_layer(const Tensor& x, const Tensor& reduction, const Tensor& projection, const Tensor& expansion,
                                int64_t stride, int64_t padding, const MaybeTensor& residual, const MaybeTensor& gamma, const MaybeTensor& beta,
                                const MaybeTensor& mean, const MaybeTensor& var, const MaybeTensor& batches, bool training,
                                std::optional<double> momentum, double eps) {
  return whole_layer<SpatialLayer>(SpatialConv{x, reduction, projection, expansion, stride, padding},
                                   {residual, gamma, beta, mean, var, batches, training, momentum, eps});
}

void empty_cache() {
  Pool::get().empty();
  PlanCache::get().empty();
}

int64_t kept_bytes() { return static_cast<int64_t>(Pool::get().kept_bytes()) + PlanCache::get().kept_bytes(); }

void register_layers(torch::Library& m) {
  m.impl("sic_layer", &sic_layer);
  m.impl("topological_layer", &topological_layer);
  m.impl("spatial_bottleneck_layer", &spatial_bottleneck_layer);
  m.impl("norm_relu", &norm_relu);
  m.impl("stem", &stem);
  m.impl("max_pool", &max_pool);
}

}  // namespace
}  // namespace efficientconv

TORCH_LIBRARY_IMPL(efficientconv, CPU, m) {
  namespace ec = efficientconv;
  m.impl("sic", &ec::sic);
  m.impl("sic_backward", &ec::sic_backward);
  m.impl("topological", &ec::topological);
  m.impl("topological_backward", &ec::topological_backward);
  m.impl("spatial_bottleneck", &ec::spatial_bottleneck);
  m.impl("spatial_bottleneck_backward", &ec::spatial_bottleneck_backward);
  ec::register_layers(m);
  m.impl("frozen_weight", &ec::frozen_weight);
  m.impl("frozen_layer", &ec::frozen_layer);
  m.impl("frozen_spatial_bottleneck", &ec::frozen_spatial_bottleneck);
}

TORCH_LIBRARY_IMPL(efficientconv, AutogradCPU, m) {
  for (const char* name : {"sic", "topological", "spatial_bottleneck"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&efficientconv::differentiate>());
  efficientconv::register_layers(m);
}

TORCH_LIBRARY_IMPL(efficientconv, AutocastCPU, m) {
  for (const char* name : {"sic", "topological", "spatial_bottleneck", "sic_layer", "topological_layer", "spatial_bottleneck_layer"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&efficientconv::keep_float32>());
}

TORCH_LIBRARY_FRAGMENT(efficientconv, m) {
  m.def("empty_cache() -> ()", &efficientconv::empty_cache);
  m.def("kept_bytes() -> int", &efficientconv::kept_bytes);
  using efficientconv::Program;
  m.class_<Program>("Program")
      .def(torch::init<>())
      .def("stem", &Program::stem)
      .def("max_pool", &Program::max_pool)
      .def("layer", &Program::layer)
      .def("spatial_bottleneck", &Program::spatial_bottleneck)
      .def("packed", &Program::packed)
      .def("average", &Program::average)
      .def("linear", &Program::linear)
      .def("run", [](const Program::This& program, const at::Tensor& x) { return program->run(x); });
}
