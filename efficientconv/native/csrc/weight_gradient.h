// The gradient of the weights over a plan's connections: sums over pixels. One group of pixels at a time is in the
// caches.
#pragma once

#include "connections.h"
#include "depthwise.h"

namespace efficientconv {

constexpr int64_t kSumPlaces = 768;  // so that the first cache holds the gradients of a tile's outputs

// grad (of the weight's shape, each element written once) = the total of `sets` sets of sums, which stand one after the
// other.
inline void add_up_weights(const PlanView& plan, const float* sums, int64_t sets, float* grad) {
  parallel(plan.weights, kSerial, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (plan.weight_at[i] < 0) continue;
      float total = 0;
      for (int64_t set = 0; set < sets; ++set) total += sums[set * plan.weights + i];
      grad[plan.weight_at[i]] = total;
    }
  });
}

// sum += the gradient of the weights of tile `tile`. g: the gradients of the outputs, rows of `stride` floats.
inline void add_tile(const PlanView& plan, int64_t tile, const Inputs& x, const float* g, int64_t stride, int64_t vectors, float* sum) {
  const TileOutputs outputs = plan.tile_outputs[tile];
  const OutputRows rows{{g + outputs.first * stride, g + outputs.at(kOutputs) * stride}, stride};
  tile_weight_gradient(plan.segments + plan.tile_segments[tile], plan.segments + plan.tile_segments[tile + 1], plan.steps, x, rows,
                       vectors, sum);
}

// grad = the gradient of the weights, given that of the outputs, B x m x H x W.
template <class Source>
void weight_gradient(const Source& source, const PlanView& plan, const float* grad_output, float* grad) {
  const Line line = source.line();
  const Pixels gradients{{source.maps.images, plan.outputs, source.maps.height, source.maps.width}, grad_output};
  const int64_t threads = thread_count(), places = line.size(), rows = round_up(plan.outputs, kOutputs);
  // With few pixels the threads share the tiles, and each thread reads all pixels.
  const bool by_tiles = places < threads * kSumPlaces;
  const Parts groups((places + kLanes - 1) / kLanes, kSumPlaces / kLanes, by_tiles ? 1 : threads);
  const int64_t workers = std::min(threads, by_tiles ? plan.tiles : groups.count), sets = by_tiles ? 1 : workers;
  const int64_t blocks = (groups.most() + kVectors - 1) / kVectors, stride = blocks * kBlock;
  const Floats sums(sets * plan.weights);
  std::fill_n(sums.get(), sets * plan.weights, 0.f);
  parallel(workers, 1, [&](int64_t first, int64_t last) {
    Panels inputs(source, blocks, true);
    const Floats g(rows * stride + kLanes);
    for (int64_t worker = first; worker < last; ++worker) {
      const Share share(worker, workers, groups.count, plan.tiles, by_tiles);
      float* sum = sums + (by_tiles ? 0 : worker * plan.weights);
      for (int64_t group = share.first_group; group < share.last_group; ++group) {
        const int64_t begin = groups.first(group) * kLanes, end = std::min(places, begin + groups.size(group) * kLanes);
        inputs.fill(source, begin, end, line.runs(begin, end));
        gradients.fill_line(line.runs(begin, end, end - begin), stride, g);
        std::fill(g + plan.outputs * stride, g + rows * stride, 0.f);  // the outputs that the last tile lacks
        for (int64_t tile = share.first_tile; tile < share.last_tile; ++tile)
          add_tile(plan, tile, inputs.block(0, 0), g, stride, groups.size(group), sum);
      }
    }
  });
  add_up_weights(plan, sums, sets, grad);
}

}  // namespace efficientconv
