// The convolution over a plan's connections: forward and, with a transposed plan, the gradient of the input. A source
// (panels.h) supplies the input of the steps. weight_gradient.h has the gradient of the weights.
#pragma once

#include <optional>

#include "panels.h"
#include "parallel.h"

namespace efficientconv {

constexpr int64_t kFirstCache = 32 * 1024;   // bytes
constexpr int64_t kPanelFloats = 72 * 1024;  // of a group's panels: 288 KiB, so that a second cache of 512 KiB holds them

// The blocks of a batch in groups. The panels of a group are filled together, so that long pieces of the maps are read
// at once.
struct Groups : Parts {
  Groups(const Maps& maps, int64_t rows, int64_t least, int64_t most, int64_t threads)
      : Parts((maps.images * maps.pixels() + kBlock - 1) / kBlock, std::clamp<int64_t>(kPanelFloats / (rows * kBlock), least, most), threads) {}
  std::vector<Run> runs(const Maps& maps, int64_t group) const {
    const Line line(maps);
    return line.runs(first(group) * kBlock, std::min(line.size(), (first(group) + size(group)) * kBlock));
  }
};

// The part of a weight gradient that one of `workers` threads computes: groups of pixels or, `by_tiles`, tiles of outputs.
struct Share {
  int64_t first_group, last_group, first_tile, last_tile;

  Share(int64_t worker, int64_t workers, int64_t groups, int64_t tiles, bool by_tiles)
      : first_group(by_tiles ? 0 : groups * worker / workers), last_group(by_tiles ? groups : groups * (worker + 1) / workers),
        first_tile(by_tiles ? tiles * worker / workers : 0), last_tile(by_tiles ? tiles * (worker + 1) / workers : tiles) {}
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

inline int64_t packed_floats(const PlanView& plan) {
  return plan.weight_at ? plan.weights : round_up(plan.outputs, kOutputs) * plan.inputs;
}

// Packs the weights of the plan's tile `tile` into the order of its steps, times the scale of their output.
inline void pack_tile(const PlanView& plan, int64_t tile, const float* weight, const float* scale, float* packed) {
  const TileOutputs outputs = plan.tile_outputs[tile];
  float factor[kTileOutputs];
  for (int64_t o = 0; o < kTileOutputs; ++o) factor[o] = scale && o < outputs.count ? scale[outputs.at(o)] : 1.f;
  if (!plan.weight_at) {
    for (int64_t o = 0; o < outputs.count; o += kOutputs)
      pack_dense(weight + outputs.at(o) * plan.output_stride, plan.output_stride, plan.step_stride,
                 std::min<int64_t>(kOutputs, outputs.count - o), plan.inputs, factor + o, packed + outputs.at(o) * plan.inputs);
    return;
  }
  for (int64_t s = plan.tile_segments[tile]; s < plan.tile_segments[tile + 1]; ++s) {
    const Segment& segment = plan.segments[s];
    const int64_t count = segment.fours == Fours::both ? 2 * kOutputs : kOutputs;
    const int64_t end = s + 1 < plan.tile_segments[plan.tiles] ? plan.segments[s + 1].weights : plan.weights;
    const float* factors = factor + (segment.fours == Fours::second ? kOutputs : 0);
    for (int64_t i = segment.weights; i < end; i += count)
      for (int64_t o = 0; o < count; ++o) packed[i + o] = plan.weight_at[i + o] < 0 ? 0.f : weight[plan.weight_at[i + o]] * factors[o];
  }
}

inline void pack_weights(const PlanView& plan, const float* weight, const float* scale, float* packed) {
  // One thread packs a small layer's weights in less time than it takes to start the threads. Weights that are gathered
  // one by one take longer, so that the limit is lower for them.
  const int64_t serial = plan.weight_at ? kSerial / 8 : kSerial;
  const int64_t grain = std::max<int64_t>(1, serial / std::max<int64_t>(1, packed_floats(plan) / plan.tiles));
  parallel(plan.tiles, grain, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) pack_tile(plan, tile, weight, scale, packed);
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
    if (!plan.weight_at && plan.step_stride == 1) {
      rows = weight, stride = plan.output_stride, this->scale = scale;
      return;
    }
    if (plan.packed) {
      packed = weight;
      return;
    }
    packed = own.emplace(packed_floats(plan));
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

// Computes a tile over kV vectors of pixels. `bias`: those of the tile's outputs. `next`: the tile whose rows of weights the
// caches load meanwhile.
template <int kV, class Out>
inline void run_tile(const PlanView& plan, int64_t tile, int64_t next, const Weights& weights, const Inputs& x, const float* bias,
                     const Out& out) {
  static constexpr float zeros[kTileOutputs] = {};
  if (plan.weight_at)
    return tile_forward<kV>(plan.tile_outputs[tile].count, plan.segments + plan.tile_segments[tile], plan.segments + plan.tile_segments[tile + 1], plan.steps,
                            weights.packed, x, bias, out);
  const int64_t steps = plan.inputs, first = plan.tile_outputs[tile].first, count = plan.tile_outputs[tile].count;
  const PanelRows rows{x.first};
  if (weights.packed) return dense_tile<kV>(count, PackedWeights{weights.packed + first * steps, steps}, steps, rows, bias, out);
  const int64_t ahead = (plan.tile_outputs[next].first - first) * weights.stride;
  const WeightRows own{weights.rows + first * weights.stride, weights.stride, ahead};
  if (weights.scale) dense_tile<kV>(count, own, steps, rows, zeros, Scaled<Out>{out, weights.scale + first, bias});
  else dense_tile<kV>(count, own, steps, rows, bias, out);
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
  float* to[kTileOutputs];
  const float* residual[kTileOutputs];
  bool add, relu;

  EC_INLINE void operator()(int o, int v, Vec sum) const {
    if (add) sum += load(residual[o] + v * kLanes);
    store(to[o] + v * kLanes, relu ? positive(sum) : sum);
  }
};

// The end of any other tile: stores the registers to a buffer of rows.
struct Stage {
  alignas(kVecBytes) mutable float rows[kTileOutputs * kBlock];
  EC_INLINE void operator()(int o, int v, Vec sum) const { store(rows + o * kBlock + v * kLanes, sum); }
};

// Computes a tile over one block, from the inputs through the registers to the maps.
inline void tile_block(const PlanView& plan, const Maps& maps, int64_t tile, int64_t next, const Weights& weights, const Inputs& x,
                       const Run* runs, const Run* runs_end, const Epilogue& epilogue, float* y) {
  static constexpr float zeros[kTileOutputs] = {};
  const TileOutputs outputs = plan.tile_outputs[tile];
  const int64_t count = outputs.count, pixels = maps.pixels();
  int64_t map[kTileOutputs];  // where the outputs' maps start in an image
  for (int64_t o = 0; o < count; ++o) map[o] = outputs.at(o) * pixels;
  const auto start = [&](const Run& run) { return run.image * plan.outputs * pixels + run.pixel; };
  for (const Run* run = runs; run != runs_end; ++run)  // the caches load the output's memory while the tile is computed
    for (int64_t o = 0, at = start(*run); o < count; ++o) {
      prefetch_run<1>(y + at + map[o], run->length);
      if (epilogue.residual) prefetch_run<0>(epilogue.residual + at + map[o], run->length);
    }
  float gathered[kTileOutputs] = {};
  for (int64_t o = 0; plan.weight_at && epilogue.bias && o < count; ++o) gathered[o] = epilogue.bias[outputs.at(o)];
  const float* bias = plan.weight_at ? gathered : epilogue.bias ? epilogue.bias + outputs.first : zeros;
  if (count % kOutputs == 0 && runs->length == kBlock) {
    StoreRows rows{{}, {}, epilogue.residual != nullptr, epilogue.relu};
    for (int64_t o = 0, at = start(*runs); o < count; ++o) {
      rows.to[o] = y + at + map[o];
      if (rows.add) rows.residual[o] = epilogue.residual + at + map[o];
    }
    return run_tile<3>(plan, tile, next, weights, x, bias, rows);
  }
  Stage stage;
  const int64_t places = runs_end[-1].at + runs_end[-1].length;
  with_vectors((places + kLanes - 1) / kLanes, [&](auto n) { run_tile<n>(plan, tile, next, weights, x, bias, stage); });
  for (const Run* run = runs; run != runs_end; ++run)
    for (int64_t o = 0, at = start(*run); o < count; ++o)
      store_run(stage.rows + o * kBlock + run->at, epilogue.residual ? epilogue.residual + at + map[o] : nullptr, epilogue.relu,
                run->length, y + at + map[o]);
}

// How the threads share a convolution: an item is one of `parts` parts of the tiles of a group of blocks. The blocks of a group
// have equal lengths, in vectors of pixels.
struct Division {
  Line line;
  int64_t vectors, parts;
  Parts groups;  // of vectors

  Division(const Line& line, int64_t rows, int64_t threads)
      : line(line), vectors((line.size() + kLanes - 1) / kLanes),
        // Few vectors: the threads share the tiles, and each thread fills the panels for itself.
        parts(round_up(vectors, threads) - vectors > vectors / 8 ? threads : 1),
        groups(vectors, kVectors * std::clamp<int64_t>(kPanelFloats / (rows * kBlock), 1, 8), parts > 1 ? 1 : threads) {}
  int64_t items() const { return groups.count * parts; }
  // With parts, each thread takes its share in one piece, because each piece fills its panels anew.
  int64_t grain() const { return parts > 1 ? groups.count : 1; }
  int64_t most_blocks() const { return (groups.most() + kVectors - 1) / kVectors; }
  std::vector<Run> runs(int64_t group) const {
    const Parts blocks(groups.size(group), kVectors, 1);
    const auto start = [&](int64_t block) { return std::min(line.size(), (groups.first(group) + blocks.first(block)) * kLanes); };
    std::vector<Run> runs;
    for (int64_t b = 0; b < blocks.count; ++b) line.add_runs(start(b), start(b + 1), b, runs);
    return runs;
  }
};

// Computes tiles [begin, end) over a group of blocks. `input`(b): the input of block b, which has `floats` floats.
template <class Input>
void convolve_panels(const PlanView& plan, const Maps& maps, const Weights& weights, const Epilogue& epilogue,
                     const std::vector<Run>& runs, const Input& input, int64_t floats, int64_t begin, int64_t end, float* y) {
  // If the first cache holds a panel, all tiles run over one block before the next block. Else all blocks run through
  // one tile before the next tile, so that the cache keeps the tile's weights.
  const bool fits = floats * static_cast<int64_t>(sizeof(float)) <= kFirstCache;
  for (int64_t first = begin, after; first < end; first = after) {
    after = fits ? end : first + 1;
    for (const Run *run = runs.data(), *last_run = run + runs.size(), *next; run != last_run; run = next) {
      for (next = run; next != last_run && next->block == run->block;) ++next;
      const Inputs x = input(run->block);
      for (int64_t tile = first; tile < after; ++tile) {
        // The first block loads the weights of the next tile, and the other blocks find them in the cache.
        const int64_t to_load = run == runs.data() && tile + 1 < end ? tile + 1 : tile;
        tile_block(plan, maps, tile, to_load, weights, x, run, next, epilogue, y);
      }
    }
  }
}

// Computes items [first, last) of the division on the calling thread.
template <class Source>
void convolve_items(const Source& source, const PlanView& plan, const Weights& weights, const Epilogue& epilogue,
                    const Division& division, int64_t first, int64_t last, float* y) {
  const int64_t panel = source.rows() * kBlock, taps = source.rows_of_input();
  const Floats panels(division.most_blocks() * panel);
  std::vector<int64_t> shifts(taps);
  for (int64_t tap = 0; tap < taps; ++tap) shifts[tap] = tap * kBlock;
  const auto input = [&](int64_t block) { return Inputs{panels + block * panel, taps * kBlock, taps, shifts.data()}; };
  for (int64_t item = first, next_item; item < last; item = next_item) {
    const int64_t group = item / division.parts, part = item - group * division.parts;
    next_item = std::min(last, (group + 1) * division.parts);  // the items of one group are computed together
    const int64_t begin = plan.tiles * part / division.parts;
    const int64_t end = plan.tiles * (part + next_item - item) / division.parts;
    if (begin == end) continue;  // more threads than tiles
    const std::vector<Run> runs = division.runs(group);
    source.fill(runs, panel, kBlock, panels);
    clear_tail(runs.back(), source.rows(), panel, kBlock, panels);
    convolve_panels(plan, source.maps, weights, epilogue, runs, input, panel, begin, end, y);
  }
}

// y = epilogue(convolution(source)): B x n x H x W -> B x m x H x W.
template <class Source>
void convolve(const Source& source, const PlanView& plan, const float* weight, const Epilogue& epilogue, float* y) {
  const Weights weights(plan, weight, epilogue.scale);
  const Division division(source.line(), source.rows(), thread_count());
  parallel(division.items(), division.grain(), [&](int64_t first, int64_t last) {
    convolve_items(source, plan, weights, epilogue, division, first, last, y);
  });
}

}  // namespace efficientconv
