// The convolution over a plan's connections: forward (and, with a transposed plan, the gradient of the input), and the
// gradient of the weights. What the steps read comes from a `Planes` (planes.h).
#pragma once

#include <vector>

#include "planes.h"

namespace efficientconv {

struct PlanView {
  int64_t outputs, tiles, steps;
  const int32_t* tile_segments;  // tiles + 1
  const Segment* segments;
  const int32_t* step_inputs;  // steps x 3: channels A and B, tap
  const int32_t* step_weights;  // steps x 4, -1: none
};

// What happens to an output before it is stored: y * scale + bias, + residual, ReLU. Null pointers: left out.
struct Epilogue {
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;  // of the output's shape
  bool relu = false;
};

template <class Planes>
inline std::vector<Offsets> step_offsets(const PlanView& plan, const Planes& planes, int64_t stride) {
  std::vector<Offsets> offsets(plan.steps);
  parallel(plan.steps, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int32_t* in = plan.step_inputs + 3 * s;
      offsets[s] = {static_cast<int32_t>(planes.offset(in[0], in[2], stride)),
                    static_cast<int32_t>(planes.offset(in[1], in[2], stride))};
    }
  });
  return offsets;
}

// The weights in the order of the steps, times the scale of their output.
inline void pack_weights(const PlanView& plan, const float* weight, const float* scale, float* packed) {
  parallel(plan.tiles, 4, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      float factor[kOutputs] = {1, 1, 1, 1};
      for (int o = 0; scale && o < kOutputs && tile * kOutputs + o < plan.outputs; ++o)
        factor[o] = scale[tile * kOutputs + o];
      const int64_t first = plan.segments[plan.tile_segments[tile]].begin;
      const int64_t last = plan.segments[plan.tile_segments[tile + 1] - 1].end;
      for (int64_t s = first; s < last; ++s)
        for (int o = 0; o < kOutputs; ++o) {
          const int32_t from = plan.step_weights[s * kOutputs + o];
          packed[s * kOutputs + o] = from < 0 ? 0.f : weight[from] * factor[o];
        }
    }
  });
}

// One output channel's pixels of one image: `from` with its epilogue to `to`.
inline void store_row(const float* from, const float* residual, bool relu, int64_t pixels, float* to) {
  int64_t p = 0;
  for (; p + kLanes <= pixels; p += kLanes) {
    Vec v = load(from + p);
    if (residual) v += load(residual + p);
    store(to + p, relu ? positive(v) : v);
  }
  for (; p < pixels; ++p) {
    const float v = from[p] + (residual ? residual[p] : 0.f);
    to[p] = relu && !(v > 0.f) ? 0.f : v;
  }
}

// The four rows `stage` of a tile, over the block's pixels.
inline void tile_pixels(const PlanView& plan, int64_t tile, const Offsets* at, const float* packed, const float* scratch,
                        int64_t pixels, const float* bias, float* stage, int64_t stage_stride) {
  const Segment* begin = plan.segments + plan.tile_segments[tile];
  const Segment* end = plan.segments + plan.tile_segments[tile + 1];
  int64_t p = 0;
  for (; p + 2 * kLanes < pixels; p += kBlock)
    tile_forward<3>(begin, end, at, packed, scratch + p, bias, stage + p, stage_stride);
  if (p + kLanes < pixels)
    tile_forward<2>(begin, end, at, packed, scratch + p, bias, stage + p, stage_stride);
  else if (p < pixels)
    tile_forward<1>(begin, end, at, packed, scratch + p, bias, stage + p, stage_stride);
}

// y = epilogue(convolution(x)): B x n x H x W -> B x m x H x W.
template <class Planes>
void convolve(const Planes& planes, const Blocking& blocking, const PlanView& plan, const float* weight,
              const Epilogue& epilogue, float* y) {
  const Maps& maps = planes.maps;
  const int64_t stride = planes.stride(blocking), stage_stride = plane_stride(blocking.pixels);
  const std::vector<Offsets> at = step_offsets(plan, planes, stride);
  std::vector<float> packed(plan.steps * kOutputs);
  pack_weights(plan, weight, epilogue.scale, packed.data());
  // few blocks: each is shared out between the threads, which all fill its planes
  const int64_t threads = thread_count();
  const int64_t parts = blocking.count < 4 * threads && blocking.count % threads ? threads : 1;
  parallel(blocking.count * parts, 1, [&](int64_t first, int64_t last) {
    float* scratch = thread_scratch(0, planes.planes() * stride + kBlock);
    float* stage = thread_scratch(2, kOutputs * stage_stride);
    for (int64_t item = first; item < last; ++item) {
      const int64_t block = item / parts, part = item % parts;
      const int64_t pixels = planes.fill(blocking, block, scratch, stride);
      for (int64_t tile = plan.tiles * part / parts; tile < plan.tiles * (part + 1) / parts; ++tile) {
        const int64_t output = tile * kOutputs, outputs = std::min<int64_t>(kOutputs, plan.outputs - output);
        float bias[kOutputs] = {};
        if (epilogue.bias) std::copy(epilogue.bias + output, epilogue.bias + output + outputs, bias);
        tile_pixels(plan, tile, at.data(), packed.data(), scratch, pixels, bias, stage, stage_stride);
        blocking.for_each_chunk(maps, block, [&](const Chunk& chunk) {
          for (int64_t o = 0; o < outputs; ++o) {
            const int64_t to = (chunk.image * plan.outputs + output + o) * maps.pixels() + chunk.row * maps.width;
            store_row(stage + o * stage_stride + chunk.pixel, epilogue.residual ? epilogue.residual + to : nullptr,
                      epilogue.relu, chunk.rows * maps.width, y + to);
          }
        });
      }
    }
  });
}

// grad (of the weight's shape, zero before) = the gradient of the weights, given that of the outputs, B x m x H x W.
template <class Planes>
void weight_gradient(const Planes& planes, const Blocking& blocking, const PlanView& plan, const float* grad_output,
                     float* grad) {
  const ShiftedPlanes gradients{{planes.maps.images, plan.outputs, planes.maps.height, planes.maps.width}, grad_output, 1};
  const int64_t stride = planes.stride(blocking), g_stride = gradients.stride(blocking);
  const std::vector<Offsets> at = step_offsets(plan, planes, stride);
  const int64_t workers = std::min(thread_count(), blocking.count);
  std::vector<float> sums(workers * plan.steps * kOutputs);
  parallel(workers, 1, [&](int64_t first, int64_t last) {
    for (int64_t worker = first; worker < last; ++worker) {
      float* scratch = thread_scratch(0, planes.planes() * stride + kBlock);
      float* g = thread_scratch(2, plan.tiles * kOutputs * g_stride);
      std::fill(g + plan.outputs * g_stride, g + plan.tiles * kOutputs * g_stride, 0.f);
      float* sum = sums.data() + worker * plan.steps * kOutputs;
      for (int64_t b = blocking.count * worker / workers; b < blocking.count * (worker + 1) / workers; ++b) {
        const int64_t pixels = planes.fill(blocking, b, scratch, stride);
        gradients.fill(blocking, b, g, g_stride);
        for (int64_t tile = 0; tile < plan.tiles; ++tile)
          tile_weight_gradient(plan.segments + plan.tile_segments[tile], plan.segments + plan.tile_segments[tile + 1],
                               at.data(), scratch, g + tile * kOutputs * g_stride, g_stride,
                               round_up(pixels, kLanes) / kLanes, sum);
      }
    }
  });
  parallel(plan.steps, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * kOutputs; i < end * kOutputs; ++i) {
      if (plan.step_weights[i] < 0) continue;
      float total = 0;
      for (int64_t worker = 0; worker < workers; ++worker) total += sums[worker * plan.steps * kOutputs + i];
      grad[plan.step_weights[i]] = total;
    }
  });
}

}  // namespace efficientconv
