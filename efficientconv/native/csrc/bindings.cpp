// torch.ops.efficientconv.*, on torch's threads.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "bottleneck_layer.h"
#include "connected_layer.h"
#include "norm_layer.h"
#include "parallel.h"
#include "stem_ops.h"

namespace efficientconv {

int64_t thread_count() { return at::get_num_threads(); }

void on_threads(int64_t n, const std::function<void(int64_t)>& f) {
  at::parallel_for(0, n, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) f(thread);
  });
}

namespace {

using LayerResult = std::tuple<Tensor, Tensor, Tensor>;  // output, mean, biased variance

LayerResult as_result(const variable_list& found) { return {found[0], found[1], found[2]}; }

Tensor connected(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, at::TensorList forward,
                 at::TensorList backward) {
  return ConnectedFunction::apply(x.contiguous(), contiguous(filters), weight.contiguous(), Plans(forward, backward));
}

LayerResult connected_layer(const Tensor& x, const MaybeTensor& filters, const Tensor& weight, const Tensor& gamma,
                            const Tensor& beta, double eps, bool residual, at::TensorList forward, at::TensorList backward) {
  return as_result(ConnectedLayer::apply(x, contiguous(filters), weight.contiguous(), gamma.contiguous(), beta.contiguous(),
                                         Plans(forward, backward), LayerEnd(eps, residual)));
}

LayerResult norm_layer(const Tensor& y, const MaybeTensor& residual, const Tensor& gamma, const Tensor& beta, double eps) {
  return as_result(NormLayer::apply(y, residual, gamma.contiguous(), beta.contiguous(), eps));
}

Tensor bottleneck_train(const Tensor& x, const Tensor& reduction, const Tensor& projection, const Tensor& expansion,
                        int64_t padding, at::TensorList forward, at::TensorList backward) {
  return BottleneckFunction::apply(x.contiguous(), reduction.contiguous(), projection.contiguous(), expansion.contiguous(),
                                   padding, Plans(forward, backward));
}

LayerResult bottleneck_layer(const Tensor& x, const Tensor& reduction, const Tensor& projection, const Tensor& expansion,
                             const Tensor& gamma, const Tensor& beta, double eps, bool residual, int64_t padding,
                             at::TensorList forward, at::TensorList backward) {
  return as_result(BottleneckLayer::apply(x, reduction.contiguous(), projection.contiguous(), expansion.contiguous(),
                                          gamma.contiguous(), beta.contiguous(), padding, Plans(forward, backward),
                                          LayerEnd(eps, residual)));
}

// Of freed results, and the scratch memory of this thread and of torch's.
void empty_cache() {
  Pool::get().empty();
  on_threads(thread_count(), [](int64_t) { Scratch::of_this_thread().empty(); });
}

int64_t kept_bytes() { return static_cast<int64_t>(Pool::get().kept_bytes()) + Scratch::bytes; }

}  // namespace
}  // namespace efficientconv

// without a key: in inference mode too, and where autograd is, the functions themselves tell it
TORCH_LIBRARY(efficientconv, m) {
  namespace ec = efficientconv;
  m.def("connected(Tensor x, Tensor? filters, Tensor weight, Tensor[] forward, Tensor[] backward) -> Tensor", &ec::connected);
  m.def(
      "connected_layer(Tensor x, Tensor? filters, Tensor weight, Tensor gamma, Tensor beta, float eps, bool residual, "
      "Tensor[] forward, Tensor[] backward) -> (Tensor, Tensor, Tensor)",
      &ec::connected_layer);
  m.def(
      "norm_layer(Tensor y, Tensor? residual, Tensor gamma, Tensor beta, float eps) -> (Tensor, Tensor, Tensor)",
      &ec::norm_layer);
  m.def(
      "bottleneck_train(Tensor x, Tensor reduction, Tensor projection, Tensor expansion, int padding, Tensor[] forward, "
      "Tensor[] backward) -> Tensor",
      &ec::bottleneck_train);
  m.def(
      "bottleneck_layer(Tensor x, Tensor reduction, Tensor projection, Tensor expansion, Tensor gamma, Tensor beta, float eps, "
      "bool residual, int padding, Tensor[] forward, Tensor[] backward) -> (Tensor, Tensor, Tensor)",
      &ec::bottleneck_layer);
  m.def(
      "track_statistics(Tensor mean, Tensor var, int count, float? momentum, Tensor(a!) running_mean, "
      "Tensor(b!) running_var, Tensor(c!) batches) -> ()",
      &ec::track_statistics);
  m.def(
      "convolve(Tensor x, Tensor? filters, Tensor weight, int kernel, Tensor[] plan, int outputs, Tensor?[] norm, float eps, "
      "Tensor? residual, bool relu) -> Tensor",
      &ec::convolve);
  m.def("reduce(Tensor x, Tensor filters, int padding) -> Tensor", &ec::reduce);
  m.def(
      "expand(Tensor cells, Tensor filters, int padding, int height, int width, Tensor?[] norm, float eps, Tensor? residual, "
      "bool relu) -> Tensor",
      &ec::expand);
  m.def(
      "bottleneck(Tensor x, Tensor reduce_filters, Tensor weight, Tensor expand_filters, int padding, Tensor[] plan, int outputs, "
      "Tensor?[] norm, float eps, Tensor? residual, bool relu) -> Tensor",
      &ec::bottleneck);
  m.def(
      "stem(Tensor x, Tensor weight, int stride, int padding, Tensor[] plan, int outputs, Tensor?[] norm, float eps, int[] pool) "
      "-> Tensor",
      &ec::stem);
  m.def("max_pool(Tensor x, int[] pool) -> Tensor", &ec::max_pool);
  m.def("empty_cache() -> ()", &ec::empty_cache);
  m.def("kept_bytes() -> int", &ec::kept_bytes);
}
