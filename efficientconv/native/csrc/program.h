// The layers of a frozen network in one call. The way from one layer to the next through Python takes as long as the arithmetic
// of a small layer.
#pragma once

#include <torch/custom_class.h>

#include <functional>

#include "spatial_layer.h"
#include "stem_ops.h"
#include "team.h"

namespace efficientconv {

inline float mean_of(const float* from, int64_t count) {
  Vec sums = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += load(from + i);
  double lanes[kLanes], total = std::accumulate(from + i, from + count, 0.);
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = sums[lane];
  for (int half = kLanes / 2; half > 0; half /= 2)  // not one lane after the other, which would wait for each addition
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return static_cast<float>((total + lanes[0]) / static_cast<double>(count));
}

// B x C x H x W -> B x C x 1 x 1
inline Tensor averages(const Tensor& x) {
  const Tensor maps = x.contiguous();
  const int64_t pixels = x.size(2) * x.size(3);
  Tensor y = new_tensor({x.size(0), x.size(1), 1, 1});
  const float* from = data(maps);
  float* to = written(y);
  parallel(y.numel(), std::max<int64_t>(1, kSerial / pixels), [&](int64_t first, int64_t last) {
    for (int64_t map = first; map < last; ++map) to[map] = mean_of(from + map * pixels, pixels);
  });
  return y;
}

// A convolution whose weights oneDNN has packed, with a bias: channels-last maps B x n x H x W -> B x m x H' x W'. It computes
// what PackedLayer (frozen.py) computes, which also runs where there is no compiler.
struct PackedConvolution {
  Tensor weight, bias;
  std::vector<int64_t> padding, stride, dilation;
  int64_t groups;

  // relu(convolution(x) + bias + residual), or without the residual
  Tensor layer(const Tensor& images, const MaybeTensor& residual) const {
    const Tensor x = images.contiguous(at::MemoryFormat::ChannelsLast);
    if (!residual) return run(x).relu_();  // not oneDNN's ReLU, which makes 0 of NaN
    if (x.size(2) * x.size(3) == 1) return run(x).add_(*residual).relu_();  // oneDNN of torch 2.11 refuses maps of one pixel
    static const c10::OperatorHandle adds = c10::Dispatcher::singleton().findSchemaOrThrow(kName, "binary");
    const at::Scalar one = 1.;
    return call(adds, {x, residual->contiguous(at::MemoryFormat::ChannelsLast), weight, bias, padding, stride, dilation, groups,
                       "add", one, c10::IValue(), Scalars(), c10::IValue()}).relu_();
  }

 private:
  using Scalars = c10::List<std::optional<at::Scalar>>;
  static constexpr const char* kName = "mkldnn::_convolution_pointwise";

  Tensor run(const Tensor& x) const {
    static const c10::OperatorHandle plain = c10::Dispatcher::singleton().findSchemaOrThrow(kName, "");
    return call(plain, {x, weight, bias, padding, stride, dilation, groups, "none", Scalars(), ""});
  }

  static Tensor call(const c10::OperatorHandle& operation, Stack stack) {
    operation.callBoxed(stack);
    return stack.back().toTensor();
  }
};

// Functions that run one after the other. Each gets the result of the function before, and the map that was kept last, which is
// the input of a layer with a residual connection. The methods add a function; their arguments are those of the operators.
class Program : public torch::CustomClassHolder {
 public:
  using Sizes = std::vector<int64_t>;
  using This = c10::intrusive_ptr<Program>;

  static void stem(const This& program, Tensor weight, int64_t stride, int64_t padding, MaybeTensor gamma, MaybeTensor beta,
                   Tensor mean, Tensor var, double eps, Sizes pool) {
    program->add(false, [=](const Tensor& x, const Tensor&) {
      return efficientconv::stem(x.contiguous(), weight, stride, padding, gamma, beta, mean, var, eps, pool);
    });
  }

  static void max_pool(const This& program, Sizes pool) {
    program->add(false, [=](const Tensor& x, const Tensor&) { return efficientconv::max_pool(x, pool); });
  }

  // keep: keeps this function's input. residual: adds the map that was kept last.
  static void layer(const This& program, bool keep, bool residual, MaybeTensor filters, Tensor weight, Tensor bias,
                    int64_t kernel, Sizes dims, Sizes connections, std::string anchor) {
    const FrozenConv conv(filters, weight, bias, kernel, {dims, connections, anchor}, true);
    program->add(keep, [=](const Tensor& x, const Tensor& kept) { return conv(x, only_if(residual, kept)); });
  }

  static void spatial_bottleneck(const This& program, bool keep, bool residual, Tensor reduction, Tensor projection,
                                 Tensor expansion, Tensor bias, int64_t stride, int64_t padding) {
    program->add(keep, [=](const Tensor& x, const Tensor& kept) {
      return frozen_spatial_bottleneck(x, only_if(residual, kept), reduction, projection, expansion, bias, stride, padding);
    });
  }

  static void packed(const This& program, bool keep, bool residual, Tensor weight, Tensor bias, Sizes padding, Sizes stride,
                     Sizes dilation, int64_t groups) {
    program->threads_of_torch_ = true;
    const PackedConvolution convolution{weight, bias, padding, stride, dilation, groups};
    program->add(keep, [=](const Tensor& x, const Tensor& kept) { return convolution.layer(x, only_if(residual, kept)); });
  }

  static void average(const This& program) {
    program->add(false, [](const Tensor& x, const Tensor&) { return averages(x); });
  }

  // A fully connected layer, with ReLU if wanted: B x n x 1 x 1 -> B x m x 1 x 1.
  static void linear(const This& program, Tensor weight, Tensor bias, bool relu) {
    const FrozenConv conv(std::nullopt, weight, bias, 1, {{}, {}, "center"}, relu);
    program->add(false, [=](const Tensor& x, const Tensor&) { return conv(x, std::nullopt); });
  }

  Tensor run(const Tensor& x) const {
    const at::AutoDispatchBelowADInplaceOrView below;
    Tensor y = x, kept = x;
    const auto all = [&] {
      for (const auto& [keep, function] : functions_) {
        if (keep) kept = y;
        y = function(y, kept);
      }
    };
    if (threads_of_torch_) all();
    else Team::lead(all);
    return y;
  }

 private:
  using Function = std::function<Tensor(const Tensor& x, const Tensor& kept)>;

  void add(bool keep, Function function) { functions_.emplace_back(keep, std::move(function)); }

  std::vector<std::pair<bool, Function>> functions_;
  bool threads_of_torch_ = false;  // whether a function of torch starts torch's threads itself
};

}  // namespace efficientconv
