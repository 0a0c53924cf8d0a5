// The gradients of a SIC layer in training: depthwise convolution, projection, batch norm, residual, ReLU.
//
// A few images at a time go through the whole layer, so that the gradients inside the layer stay in the caches. With
// large maps most of a step's time is memory traffic.
#pragma once

#include "batch_norm.h"
#include "dense_gradient.h"
#include "depthwise_gradient.h"
#include "kernels.h"
#include "weight_gradient.h"

namespace efficientconv {

// The maps of a whole SIC layer from batch norm on: batch norm's input y, and the gradient that ReLU passes.
class NormedMaps {
 public:
  const Maps maps;
  const NormedLayer& layer;

  // x: the input of the residual connection, or null
  NormedMaps(const Maps& maps, const NormedLayer& layer, const float* x) : maps(maps), layer(layer), x_(x) {
    for (int64_t c = 0; c < maps.channels; ++c)
      norms_.emplace_back(layer.mean[c], layer.var[c], layer.gamma ? layer.gamma[c] : 1.f, layer.beta ? layer.beta[c] : 0.f,
                          layer.eps);
  }
  void prefetch(const std::vector<Run>& runs, int64_t image, int64_t channel) const {
    const int64_t at = image * maps.channels * maps.pixels();
    prefetch_channel(maps, runs, channel, 0, layer.grad_out + at);
    prefetch_channel(maps, runs, channel, 0, layer.y + at);
    if (x_) prefetch_channel(maps, runs, channel, 0, x_ + at);
  }
  PassedNormed passed(int64_t map) const {
    const int64_t at = map * maps.pixels();
    return {layer.grad_out + at, layer.y + at, x_ ? x_ + at : nullptr, norms_[map % maps.channels]};
  }

 private:
  const float* x_;
  std::vector<Norm> norms_;
};

// Batch norm's gradient for each channel. The sums run over the maps of a part of the images.
inline std::vector<NormGradient> norm_gradients(const NormedMaps& normed, const Parts& parts) {
  const Maps& maps = normed.maps;
  const NormedLayer& layer = normed.layer;
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes, channels = maps.channels;
  std::vector<double> sums(2 * parts.count * channels);
  parallel(parts.count * channels, 8, [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t part = item / channels, c = item % channels, image = parts.first(part);
      Sums totals;
      for (int64_t i = 0; i < parts.size(part); ++i) {
        const PassedNormed passed = normed.passed((image + i) * channels + c);
        const float *y = passed.y, mean = layer.mean[c];
        totals.add_map(pixels, [&](int64_t p, Vec& sum, Vec& product) {
          const Vec g = passed.vector(p);
          sum += g;
          product += g * (load(y + p) - splat(mean));
        });
        for (int64_t p = whole; p < pixels; ++p) {
          totals.first += passed.one(p);
          totals.second += passed.one(p) * static_cast<double>(y[p] - mean);
        }
      }
      totals.settle();
      sums[2 * item] = totals.first;
      sums[2 * item + 1] = totals.second;
    }
  });
  for (int64_t part = 1; part < parts.count; ++part)
    for (int64_t i = 0; i < 2 * channels; ++i) sums[i] += sums[2 * part * channels + i];
  std::vector<NormGradient> norms;
  for (int64_t c = 0; c < channels; ++c)
    norms.emplace_back(sums[2 * c], sums[2 * c + 1], static_cast<double>(maps.images) * pixels, layer.mean[c], layer.var[c],
                       layer.gamma ? layer.gamma[c] : 1.f, layer.eps);
  return norms;
}

// A source of panels (panels.h): the gradient of y, for the images from `image` on.
struct NormedGradients {
  const NormedMaps& normed;
  const std::vector<NormGradient>& norms;
  int64_t image;

  void fill(const std::vector<Run>& runs, int64_t block_stride, int64_t row_stride, float* panels) const {
    const Maps& maps = normed.maps;
    for (int64_t c = 0; c < maps.channels; ++c, panels += row_stride) {
      normed.prefetch(runs, image, c);
      const float mean = norms[c].mean, scale = norms[c].scale, average = norms[c].average, slope = norms[c].slope;
      for (const Run& run : runs) {
        const int64_t map = (image + run.image) * maps.channels + c;
        const PassedNormed passed = normed.passed(map);
        float* to = panels + run.block * block_stride + run.at - run.pixel;
        for_each_piece(run.length, [&](int64_t i, auto n) {
          using V = VecOf<n>;
          const int64_t p = run.pixel + i;
          store_as(to + p, (passed.template as<V>(p) - average - (load_as<V>(passed.y + p) - mean) * slope) * scale);
        });
      }
    }
  }
};

// The backward pass of a whole SIC layer. `forward` is the plan from the rows of the source to the outputs, `weight` has its
// weights, and `backward` is the plan from the outputs back to the rows.
class SicBackward {
 public:
  SicBackward(const Depthwise& source, const PlanView& forward, const PlanView& backward, const float* weight,
              const NormedLayer& layer)
      : source_(source), out_{source.maps.images, forward.outputs, source.maps.height, source.maps.width},
        forward_(forward), backward_(backward), adds_(layer.residual), normed_(out_, layer, adds_ ? source.x : nullptr),
        parts_(images_together(out_.images, out_.pixels(), thread_count())), norms_(norm_gradients(normed_, parts_)),
        turned_(turned_filters(source)), dense_(forward.outputs, source.rows()), weights_(backward, weight, nullptr) {}

  void run(const SicGradients& grads) const {
    const int64_t workers = std::min(thread_count(), parts_.count), size = joins_all() ? dense_.size() : forward_.weights;
    std::vector<double> filter_sums(parts_.count * turned_.size());
    const Floats sums(workers * size);
    parallel(workers, 1, [&](int64_t first, int64_t last) {
      for (int64_t worker = first; worker < last; ++worker) {
        float* sum = sums + worker * size;
        std::fill_n(sum, size, 0.f);
        // the last images first, because norm_gradients has read them last and the caches still hold them
        for (int64_t part = parts_.count * (worker + 1) / workers; part-- > parts_.count * worker / workers;)
          add_images(parts_.first(part), parts_.size(part), sum, filter_sums.data() + part * turned_.size(), grads.x);
      }
    });
    add_up_sets(parts_.count, turned_.size(), filter_sums.data(), grads.filters);
    if (joins_all()) dense_.add_up(sums, workers, grads.weight);
    else add_up_weights(forward_, sums, workers, grads.weight);
    for (int64_t c = 0; c < out_.channels; ++c) {
      grads.gamma[c] = static_cast<float>(norms_[c].gamma);
      grads.beta[c] = static_cast<float>(norms_[c].beta);
    }
  }

 private:
  bool joins_all() const { return !forward_.weight_at; }

  // sum += the gradient of the weights from one group of blocks, where outputs see only some rows. g: rows of `stride` floats
  void add_connected_group(const Depthwise& here, const std::vector<Run>& runs, int64_t blocks, const float* g, int64_t stride,
                           float* sum) const {
    const int64_t places = runs.back().block * kBlock + runs.back().at + runs.back().length;
    LongRows inputs(here, blocks * kBlock);
    inputs.fill(here, runs);
    for (int64_t tile = 0; tile < forward_.tiles; ++tile)
      add_tile_gradient(forward_, tile, inputs.inputs(), g, stride, (places + kLanes - 1) / kLanes, sum);
  }

  // The backward pass of images [image, image + count), from their outputs to their inputs.
  void add_images(int64_t image, int64_t count, float* sum, double* filter_sums, float* grad_x) const {
    const int64_t pixels = out_.pixels(), rows = source_.rows();
    const Floats between(parts_.most() * rows * pixels);
    const NormedGradients gradients{normed_, norms_, image};
    const Maps to{count, out_.channels, out_.height, out_.width};
    Depthwise here = source_;
    const int64_t at = image * source_.maps.channels * pixels;
    here.maps.images = count;
    here.x += at;
    const Groups groups = dense_groups(here.maps, std::max(rows, out_.channels), 1);
    const Floats g(groups.most() * dense_.panel());
    // one panel for each block, or long rows, so that the sums of the weights' gradient are long
    const int64_t row = joins_all() ? kBlock : groups.most() * kBlock, block = joins_all() ? dense_.panel() : kBlock;
    const auto input = [&](int64_t b) { return Inputs{g + b * block, row, 1, &kNoShift}; };
    for (int64_t group = 0; group < groups.count; ++group) {
      const std::vector<Run> runs = groups.runs(here.maps, group);
      fill_gradients(gradients, runs, out_.channels, block, row, groups.most() * dense_.panel(), g);
      convolve_panels(backward_, to, weights_, Epilogue{}, runs, input, dense_.panel(), 0, backward_.tiles, between);
      if (joins_all()) add_dense_group(here, runs, groups.size(group), 0, dense_.tiles, dense_, g, sum);
      else add_connected_group(here, runs, groups.size(group), g, row, sum);
    }
    DepthwiseScratch scratch(here);
    const int64_t filters = static_cast<int64_t>(turned_.size()) / here.maps.channels;
    const auto go_on = [&](const auto& end_of) {
      for (int64_t c = 0; c < here.maps.channels; ++c)
        depthwise_backward_channel(here, turned_.data(), between, end_of, c, 0, count, scratch, filter_sums + c * filters, grad_x + at);
    };
    if (!adds_) return go_on([](int64_t) { return AddMap{nullptr}; });
    go_on([&](int64_t map) { return AddPassed{normed_.passed(image * out_.channels + map)}; });
  }

  const Depthwise& source_;
  Maps out_;
  const PlanView &forward_, &backward_;
  bool adds_;
  NormedMaps normed_;
  Parts parts_;
  std::vector<NormGradient> norms_;
  std::vector<float> turned_;
  DenseSums dense_;
  Weights weights_;
};

}  // namespace efficientconv
