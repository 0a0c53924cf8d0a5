// The convolution over a plan's connections: forward and, with a transposed plan, the gradient of the input. A source
// (panels.h) supplies the input of the steps. weight_gradient.h has the gradient of the weights.
#pragma once

#include <optional>

#include "panels.h"
#include "parallel.h"

namespace efficientconv {

constexpr int64_t kSerial = 128 * 1024;      // elements that one thread copies as fast as several threads do
constexpr int64_t kFirstCache = 32 * 1024;   // bytes
constexpr int64_t kPanelFloats = 72 * 1024;  // of a group's panels: 288 KiB, so that a second cache of 512 KiB holds them

// The blocks of a batch in groups. The panels of a group are filled together, so that long pieces of the maps are read
// at once.
struct Groups : Parts {
  Groups(const Maps& maps, int64_t rows, int64_t least, int64_t most, int64_t threads)
      : Parts(block_count(maps), std::clamp<int64_t>(kPanelFloats / (rows * kBlock), least, most), threads) {}
  std::vector<Run> runs(const Maps& maps, int64_t group) const {
    std::vector<Run> runs;
    const int64_t begin = first(group), pixels = maps.images * maps.pixels();
    for (int64_t b = begin; b < begin + size(group); ++b) add_block(maps, b - begin, b * kBlock, std::min((b + 1) * kBlock, pixels), runs);
    return runs;
  }
};

// Packs the weights of a tile whose outputs see all inputs: packed[s][o] = weight[s * step_stride + o * output_stride] *
// factor[o]. If step_stride is 1, four rows of weights are zipped, a vector at a time.
inline void pack_dense(const float* weight, int64_t output_stride, int64_t step_stride, int64_t outputs, int64_t steps,
                       const float* factor, float* packed) {
  int64_t s = 0;
  if (step_stride == 1 && outputs == kOutputs)
    for (; s + kLanes <= steps; s += kLanes)
      zip_four([&](int o) { return load(weight + s + o * output_stride) * splat(factor[o]); }, packed + s * kOutputs);
  for (; s < steps; ++s)
    for (int o = 0; o < kOutputs; ++o)
      packed[s * kOutputs + o] = o < outputs ? weight[s * step_stride + o * output_stride] * factor[o] : 0.f;
}

// Packs the weights into the order of the steps, times the scale of their output.
inline void pack_weights(const PlanView& plan, const float* weight, const float* scale, float* packed) {
  // One thread packs a small layer's weights in less time than it takes to start the threads. Weights that are gathered
  // one by one take longer, so that the limit is lower for them.
  const int64_t serial = plan.step_weights ? kSerial / 8 : kSerial;
  const int64_t grain = std::max<int64_t>(1, serial / std::max<int64_t>(1, plan.steps * kOutputs / plan.tiles));
  parallel(plan.tiles, grain, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t outputs = std::min<int64_t>(kOutputs, plan.outputs - tile * kOutputs);
      float factor[kOutputs] = {1, 1, 1, 1};
      if (scale) std::copy_n(scale + tile * kOutputs, outputs, factor);
      const int64_t first = plan.segments[plan.tile_segments[tile]].begin;
      const int64_t last = plan.segments[plan.tile_segments[tile + 1] - 1].end;
      if (!plan.step_weights) {
        pack_dense(weight + tile * kOutputs * plan.output_stride, plan.output_stride, plan.step_stride, outputs, last - first,
                   factor, packed + first * kOutputs);
        continue;
      }
      for (int64_t s = first; s < last; ++s)
        for (int o = 0; o < kOutputs; ++o) {
          const int32_t from = plan.step_weights[s * kOutputs + o];
          packed[s * kOutputs + o] = from < 0 ? 0.f : weight[from] * factor[o];
        }
    }
  });
}

// The weights that the steps use: packed and scaled, or rows of the layer's own weight. Rows are used if every output
// sees all inputs and an output's weights lie side by side, because packing gains nothing there. Rows are scaled after
// the sums.
struct Weights {
  std::optional<Floats> own;
  const float *packed = nullptr, *rows = nullptr;
  int64_t stride = 0;
  const float* scale = nullptr;  // for rows only: one number for each output, or null

  Weights(const PlanView& plan, const float* weight, const float* scale) {
    if (!plan.step_weights && plan.step_stride == 1) {
      rows = weight, stride = plan.output_stride, this->scale = scale;
      return;
    }
    if (plan.packed) {
      packed = weight;
      return;
    }
    packed = own.emplace(plan.steps * kOutputs);
    pack_weights(plan, weight, scale, *own);
  }
};

// Passes sum * scale + bias on to `out`, the end of a tile.
template <class Out>
struct Scaled {
  const Out& out;
  const float *scale, *bias;
  EC_INLINE void operator()(int o, int v, Vec sum) const { out(o, v, sum * splat(scale[o]) + splat(bias[o])); }
};

// Computes the tile of `outputs` outputs from `output` on over kV vectors of a panel.
template <int kV, class Out>
inline void run_tile(const PlanView& plan, int64_t output, int64_t outputs, const Weights& weights, const float* panel,
                     const float* bias, const Out& out) {
  static constexpr float zeros[kDenseOutputs] = {};
  const PanelRows x{panel};
  const int64_t tile = output / kOutputs;
  const Segment* begin = plan.segments + plan.tile_segments[tile];
  const Segment* end = plan.segments + plan.tile_segments[tile + 1];
  if (plan.step_weights) return tile_forward<kV>(begin, end, plan.offsets, weights.packed, panel, bias, out);
  const int64_t steps = begin->end - begin->begin;
  if (weights.packed)
    return dense_tile<kV>(outputs, PackedWeights{weights.packed + output * steps, steps}, steps, x, bias, out);
  const WeightRows rows{weights.rows + output * weights.stride, weights.stride};
  if (weights.scale) dense_tile<kV>(outputs, rows, steps, x, zeros, Scaled<Out>{out, weights.scale + output, bias});
  else dense_tile<kV>(outputs, rows, steps, x, bias, out);
}

// Stores one output channel's run of pixels: `from`, + residual (null: none), ReLU.
EC_INLINE void store_run(const float* from, const float* residual, bool relu, int64_t pixels, float* to) {
  for_each_piece(pixels, [&](int64_t p, auto n) {
    VecOf<n> v = load_as<VecOf<n>>(from + p);
    if (residual) v += load_as<VecOf<n>>(residual + p);
    store_as(to + p, relu ? positive(v) : v);
  });
}

// The end of a tile whose block lies in one image: stores the registers to rows of the maps.
struct StoreRows {
  float* to[kDenseOutputs];
  const float* residual[kDenseOutputs];
  bool add, relu;

  EC_INLINE void operator()(int o, int v, Vec sum) const {
    if (add) sum += load(residual[o] + v * kLanes);
    store(to[o] + v * kLanes, relu ? positive(sum) : sum);
  }
};

// The end of any other tile: stores the registers to a buffer of rows.
struct Stage {
  alignas(kVecBytes) mutable float rows[kDenseOutputs * kBlock];
  EC_INLINE void operator()(int o, int v, Vec sum) const { store(rows + o * kBlock + v * kLanes, sum); }
};

// Computes the tile of `outputs` outputs from `output` on over one block, from the panel through the registers to the maps.
inline void tile_block(const PlanView& plan, const Maps& maps, int64_t output, int64_t outputs, const Weights& weights,
                       const float* panel, const Run* runs, const Run* runs_end, const Epilogue& epilogue, float* y) {
  static constexpr float zeros[kDenseOutputs] = {};
  const auto place = [&](const Run& run, int64_t o) {
    return (run.image * plan.outputs + output + o) * maps.pixels() + run.pixel;
  };
  for (const Run* run = runs; run != runs_end; ++run)  // the caches load the output's memory while the tile is computed
    for (int64_t o = 0; o < outputs; ++o) {
      prefetch_run<1>(y + place(*run, o), run->length);
      if (epilogue.residual) prefetch_run<0>(epilogue.residual + place(*run, o), run->length);
    }
  if (outputs % kOutputs == 0 && runs->length == kBlock) {
    StoreRows rows{{}, {}, epilogue.residual != nullptr, epilogue.relu};
    for (int64_t o = 0; o < outputs; ++o) {
      rows.to[o] = y + place(*runs, o);
      if (rows.add) rows.residual[o] = epilogue.residual + place(*runs, o);
    }
    const float* bias = epilogue.bias ? epilogue.bias + output : zeros;
    return run_tile<3>(plan, output, outputs, weights, panel, bias, rows);
  }
  Stage stage;
  float bias[kDenseOutputs] = {};
  if (epilogue.bias) std::copy(epilogue.bias + output, epilogue.bias + output + outputs, bias);
  const int64_t pixels = runs_end[-1].at + runs_end[-1].length;
  with_vectors((pixels + kLanes - 1) / kLanes, [&](auto n) { run_tile<n>(plan, output, outputs, weights, panel, bias, stage); });
  for (const Run* run = runs; run != runs_end; ++run)
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t to = place(*run, o);
      store_run(stage.rows + o * kBlock + run->at, epilogue.residual ? epilogue.residual + to : nullptr, epilogue.relu,
                run->length, y + to);
    }
}

// How the threads share a convolution: an item is one of `parts` parts of the tiles of a group of blocks. The blocks of a group
// have equal lengths, in vectors of pixels.
struct Division {
  int64_t vectors, parts;
  Parts groups;  // of vectors

  Division(const Maps& maps, int64_t rows, int64_t threads)
      : vectors((maps.images * maps.pixels() + kLanes - 1) / kLanes),
        // Few vectors: the threads share the tiles, and each thread fills the panels for itself.
        parts(round_up(vectors, threads) - vectors > vectors / 8 ? threads : 1),
        groups(vectors, kVectors * std::clamp<int64_t>(kPanelFloats / (rows * kBlock), 1, 8), parts > 1 ? 1 : threads) {}
  int64_t items() const { return groups.count * parts; }
  // With parts, each thread takes its share in one piece, because each piece fills its panels anew.
  int64_t grain() const { return parts > 1 ? groups.count : 1; }
  int64_t most_blocks() const { return (groups.most() + kVectors - 1) / kVectors; }
  std::vector<Run> runs(const Maps& maps, int64_t group) const {
    const Parts blocks(groups.size(group), kVectors, 1);
    const int64_t pixels = maps.images * maps.pixels();
    const auto start = [&](int64_t block) { return std::min(pixels, (groups.first(group) + blocks.first(block)) * kLanes); };
    std::vector<Run> runs;
    for (int64_t b = 0; b < blocks.count; ++b) add_block(maps, b, start(b), start(b + 1), runs);
    return runs;
  }
};

// The outputs of the next tile, if `left` outputs are left.
inline int64_t tile_outputs(const PlanView& plan, int64_t left) {
  return plan.step_weights ? std::min<int64_t>(kOutputs, left) : dense_outputs(left);
}

// Lets the caches load the weights of outputs [first, last), for the next tile.
inline void prefetch_weights(const PlanView& plan, const Weights& weights, int64_t first, int64_t last) {
  constexpr int64_t line = 16;
  if (!weights.rows) return;
  for (int64_t o = first; o < last; ++o)
    for (int64_t s = 0; s < plan.steps / plan.tiles; s += line) __builtin_prefetch(weights.rows + o * weights.stride + s);
}

// Computes tiles [begin, end) over a group of blocks. The panels are filled, `panel` floats each.
inline void convolve_panels(const PlanView& plan, const Maps& maps, const Weights& weights, const Epilogue& epilogue,
                            const std::vector<Run>& runs, int64_t panel, const float* panels, int64_t begin, int64_t end,
                            float* y) {
  // If the first cache holds a panel, all tiles run over one block before the next block. Else all blocks run through
  // one tile before the next tile, so that the cache keeps the tile's weights.
  const bool fits = panel * static_cast<int64_t>(sizeof(float)) <= kFirstCache;
  const int64_t last_output = std::min(end * kOutputs, plan.outputs);
  for (int64_t first = begin * kOutputs, after; first < last_output; first = after) {
    after = fits ? last_output : first + tile_outputs(plan, last_output - first);
    for (const Run *run = runs.data(), *last_run = run + runs.size(), *next; run != last_run; run = next) {
      for (next = run; next != last_run && next->block == run->block;) ++next;
      for (int64_t o = first, outputs; o < after; o += outputs) {
        outputs = tile_outputs(plan, after - o);
        if (run == runs.data()) prefetch_weights(plan, weights, o + outputs, std::min(last_output, o + 2 * outputs));
        tile_block(plan, maps, o, outputs, weights, panels + run->block * panel, run, next, epilogue, y);
      }
    }
  }
}

// Zeros in the lanes after the last pixel. A tile multiplies them, too, and what the memory held before may be denormal numbers,
// which take a hundred times as long.
inline void clear_tail(const Run& last, int64_t rows, int64_t panel, float* panels) {
  const int64_t begin = last.at + last.length, end = round_up(begin, kLanes);
  for (int64_t row = 0; begin < end && row < rows; ++row) {
    float* const at = panels + last.block * panel + row * kBlock;
    std::fill(at + begin, at + end, 0.f);
  }
}

// Computes items [first, last) of the division on the calling thread.
template <class Source>
void convolve_items(const Source& source, const PlanView& plan, const Weights& weights, const Epilogue& epilogue,
                    const Division& division, int64_t first, int64_t last, float* y) {
  const int64_t panel = source.rows() * kBlock;
  const Floats panels(division.most_blocks() * panel);
  for (int64_t item = first, next_item; item < last; item = next_item) {
    const int64_t group = item / division.parts, part = item - group * division.parts;
    next_item = std::min(last, (group + 1) * division.parts);  // the items of one group are computed together
    const std::vector<Run> runs = division.runs(source.maps, group);
    source.fill(runs, panel, kBlock, panels);
    clear_tail(runs.back(), source.rows(), panel, panels);
    const int64_t begin = plan.tiles * part / division.parts;
    const int64_t end = plan.tiles * (part + next_item - item) / division.parts;
    convolve_panels(plan, source.maps, weights, epilogue, runs, panel, panels, begin, end, y);
  }
}

// y = epilogue(convolution(source)): B x n x H x W -> B x m x H x W.
template <class Source>
void convolve(const Source& source, const PlanView& plan, const float* weight, const Epilogue& epilogue, float* y) {
  const Weights weights(plan, weight, epilogue.scale);
  const Division division(source.maps, source.rows(), thread_count());
  parallel(division.items(), division.grain(), [&](int64_t first, int64_t last) {
    convolve_items(source, plan, weights, epilogue, division, first, last, y);
  });
}

}  // namespace efficientconv
