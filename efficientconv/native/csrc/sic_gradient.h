// The gradients of a SIC layer in training: depthwise convolution, projection of all channels, batch norm, residual, ReLU.
//
// A few images at a time go through all of it, so that the gradients between the layer's ends stay in the caches. Where maps are
// large, most of a step's time is the memory's.
#pragma once

#include "batch_norm.h"
#include "dense_gradient.h"
#include "depthwise_gradient.h"
#include "kernels.h"

namespace efficientconv {

// One a channel; the sums are taken map by map.
inline std::vector<NormGradient> norm_gradients(const Maps& maps, const NormedLayer& layer) {
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes, channels = maps.channels;
  std::vector<double> sums(2 * maps.images * channels);
  parallel(maps.images * channels, 8, [&](int64_t first, int64_t last) {
    for (int64_t map = first; map < last; ++map) {
      const Passed passed{layer.grad_out + map * pixels, layer.out + map * pixels};
      const float *y = layer.y + map * pixels, mean = layer.mean[map % channels];
      Sums totals;
      totals.add_map(pixels, [&](int64_t p, Vec& sum, Vec& product) {
        const Vec g = passed.vector(p);
        sum += g;
        product += g * (load(y + p) - splat(mean));
      });
      totals.settle();
      for (int64_t p = whole; p < pixels; ++p) {
        totals.first += passed.one(p);
        totals.second += passed.one(p) * static_cast<double>(y[p] - mean);
      }
      sums[2 * map] = totals.first;
      sums[2 * map + 1] = totals.second;
    }
  });
  std::vector<NormGradient> norms;
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (int64_t map = c; map < maps.images * channels; map += channels) sum += sums[2 * map], product += sums[2 * map + 1];
    norms.emplace_back(sum, product, static_cast<double>(maps.images) * pixels, layer.mean[c], layer.var[c],
                       layer.gamma ? layer.gamma[c] : 1.f, layer.eps);
  }
  return norms;
}

// Maps [first, last): the gradient of y, the first map's at grad_y.
inline void norm_backward_range(const Maps& maps, const NormedLayer& layer, const std::vector<NormGradient>& norms,
                                int64_t first, int64_t last, float* grad_y) {
  const int64_t pixels = maps.pixels(), whole = pixels / kLanes * kLanes;
  for (int64_t map = first; map < last; ++map, grad_y += pixels) {
    const NormGradient& norm = norms[map % maps.channels];
    const float mean = norm.mean, scale = norm.scale, average = norm.average, slope = norm.slope, *y = layer.y + map * pixels;
    const Passed passed{layer.grad_out + map * pixels, layer.out + map * pixels};
    for (int64_t p = 0; p < whole; p += kLanes) {
      const Vec g = passed.vector(p) - splat(average) - (load(y + p) - splat(mean)) * splat(slope);
      store(grad_y + p, g * splat(scale));
    }
    for (int64_t p = whole; p < pixels; ++p) grad_y[p] = (passed.one(p) - average - (y[p] - mean) * slope) * scale;
  }
}

// weight: outputs x rows of the source; `backward`: its plan from outputs to rows.
inline void sic_backward(const Depthwise& source, int64_t outputs, const PlanView& backward, const float* weight,
                         const NormedLayer& layer, const SicGradients& grads) {
  const Maps &in = source.maps, out{in.images, outputs, in.height, in.width};
  const int64_t pixels = in.pixels(), rows = source.rows(), together = images_together(in.images, pixels, thread_count());
  const int64_t groups = (in.images + together - 1) / together, workers = std::min(thread_count(), groups);
  const std::vector<NormGradient> norms = norm_gradients(out, layer);
  const std::vector<float> turned = turned_filters(source);
  const TapMasks all(out, 1);
  const DenseSums dense(outputs, rows);
  float *packed = thread_scratch(kWeights, backward.steps * kOutputs), *sums = thread_scratch(kSums, workers * dense.size());
  pack_weights(backward, weight, nullptr, packed);
  std::vector<double> filter_sums(in.images * turned.size());
  parallel(workers, 1, [&](int64_t begin, int64_t end) {
    float* grad_y = thread_scratch(kReduced, together * outputs * pixels);
    float* between = thread_scratch(kProjected, together * rows * pixels);
    std::fill(sums + begin * dense.size(), sums + end * dense.size(), 0.f);
    for (int64_t image = groups * begin / workers * together, images; image < std::min(in.images, groups * end / workers * together);
         image += images) {
      images = std::min(together, in.images - image);
      const int64_t at = image * in.channels * pixels;
      const Depthwise here{{images, in.channels, in.height, in.width}, source.x + at, source.kernel, source.multiplier,
                           source.masks, source.filters};
      const Patches gradients{{images, outputs, in.height, in.width}, grad_y, 1, &all};
      norm_backward_range(out, layer, norms, image * outputs, (image + images) * outputs, grad_y);
      const Division division(gradients.maps, outputs, 1);
      convolve_items(gradients, backward, packed, Epilogue{}, division, 0, division.items(), between);
      const Groups blocks = dense_groups(here.maps, rows, 1);
      add_dense_gradient(here, gradients, blocks, {0, blocks.count, 0, dense.tiles}, dense.width, sums + begin * dense.size());
      const auto run = [&](const auto& end_of) {
        depthwise_backward_range(here, turned.data(), between, end_of, 0, images * in.channels,
                                 filter_sums.data() + image * turned.size(), grads.x + at);
      };
      if (layer.residual) run([&](int64_t map) { return AddPassed{{layer.grad_out + at + map * pixels, layer.out + at + map * pixels}}; });
      else run([](int64_t) { return AddMap{nullptr}; });
    }
  });
  sum_over_images(in.images, turned.size(), filter_sums.data(), grads.filters);
  dense.add_up(sums, workers, grads.weight);
  for (int64_t c = 0; c < outputs; ++c) {
    grads.gamma[c] = static_cast<float>(norms[c].gamma);
    grads.beta[c] = static_cast<float>(norms[c].beta);
  }
}

}  // namespace efficientconv
