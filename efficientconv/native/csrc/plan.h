// The order in which the kernels go through the connections: the steps of each tile of output channels (tile.h).
//
// A step reads input channel A for the outputs of the step's mask and, in a pair, input channel B for the other
// outputs. A plan is made once for each connectivity. Each call of a kernel packs the weights into the order of the
// steps.
#pragma once

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "kernels.h"
#include "tile.h"

namespace efficientconv {

// Each output sees `fan` inputs. inputs (outputs x fan): their channels. slots (outputs x fan): which k x k kernel of
// the weight joins the output and the input.
struct Connections {
  int64_t outputs, fan;
  std::vector<int64_t> inputs, slots;

  int64_t input(int64_t output, int64_t i) const { return inputs[output * fan + i]; }

  // Every output sees every input.
  static Connections full(int64_t inputs, int64_t outputs) {
    Connections all{outputs, inputs, std::vector<int64_t>(inputs * outputs), std::vector<int64_t>(inputs * outputs)};
    std::iota(all.slots.begin(), all.slots.end(), 0);
    for (const int64_t slot : all.slots) all.inputs[slot] = slot % inputs;
    return all;
  }

  // The connections of layers/topology.py: output (j1..js) of dims d1 x ... x ds sees the c1 x ... x cs channels around
  // it or, with `corner`, from it on.
  template <class Sizes>
  static Connections of(const Sizes& dims, const Sizes& connections, bool corner) {
    Connections found{1, 1, {0}, {}};
    for (size_t i = 0; i < dims.size(); ++i) {
      const int64_t d = dims[i], c = connections[i], first = corner ? 0 : -((c - 1) / 2);
      Connections next{found.outputs * d, found.fan * c, {}, {}};
      for (int64_t output = 0; output < next.outputs; ++output)
        for (int64_t seen = 0; seen < next.fan; ++seen)
          next.inputs.push_back(found.input(output / d, seen / c) * d + (output % d + first + seen % c + d) % d);
      found = std::move(next);
    }
    found.slots.resize(found.inputs.size());
    std::iota(found.slots.begin(), found.slots.end(), 0);
    return found;
  }

  // The reverse: which outputs see each of `count` inputs. All inputs must be seen by the same number of outputs.
  Connections transposed(int64_t count) const {
    Connections turned{count, static_cast<int64_t>(inputs.size()) / count, {}, slots};
    std::stable_sort(turned.slots.begin(), turned.slots.end(), [&](int64_t a, int64_t b) { return inputs[a] < inputs[b]; });
    for (const int64_t slot : turned.slots) turned.inputs.push_back(slot / fan);
    return turned;
  }
};

// The steps of a convolution, tile by tile. PlanView says what the members mean.
struct Plan {
  int64_t inputs, outputs;
  std::vector<TileOutputs> tiles;
  std::vector<int32_t> tile_segments{0}, weight_at;
  std::vector<Segment> segments;
  std::vector<Step> steps;
  int64_t output_stride = 0, step_stride = 0;  // used if `weight_at` is empty

  // flip: turns the k x k kernels by 180 degrees, as the gradient of the input needs them.
  Plan(const Connections& connections, int64_t inputs, int64_t kernel, bool flip = false)
      : inputs(inputs), outputs(connections.outputs), area_(kernel * kernel), flip_(flip) {
    const int64_t whole = outputs / kOutputs, gap = kTileOutputs > kOutputs ? best_gap(connections, whole, inputs) : whole + 1;
    for (int64_t four = 0; four * kOutputs < outputs; ++four) {
      const bool odd = four / gap % 2;
      if (odd && four < whole) continue;  // in a tile with four - gap
      add_tile(connections, four * kOutputs, !odd && four + gap < whole ? (four + gap) * kOutputs : outputs);
      tile_segments.push_back(static_cast<int32_t>(segments.size()));
    }
  }

  // The plan in which every output sees every input. The strides are the weight's, from output to output and from input
  // to input.
  Plan(int64_t inputs, int64_t outputs, int64_t output_stride, int64_t step_stride)
      : inputs(inputs), outputs(outputs), output_stride(output_stride), step_stride(step_stride) {
    for (int64_t first = 0, count; first < outputs; first += count) {
      count = dense_outputs(outputs - first);
      tiles.push_back({first, 0, count});
    }
  }

  int64_t bytes() const {
    return static_cast<int64_t>(tiles.size() * sizeof(TileOutputs) + segments.size() * sizeof(Segment) + steps.size() * sizeof(Step) +
                                (tile_segments.size() + weight_at.size()) * sizeof(int32_t));
  }

  PlanView view() const {
    return {inputs, outputs, static_cast<int64_t>(tiles.size()), static_cast<int64_t>(weight_at.size()), tiles.data(),
            tile_segments.data(), segments.data(), steps.data(), weight_at.empty() ? nullptr : weight_at.data(), output_stride,
            step_stride};
  }

 private:
  static constexpr int kAll = 15, kPair = 16;  // the mask of all four outputs, and the bit that marks a pair
  using Slots = std::array<int64_t, 2 * kOutputs>;

  // An input of a tile. slots[o]: the slot by which output o sees the input, -1 if it does not see it.
  struct Row {
    int64_t channel;
    Slots slots;

    int mask(int four) const {
      int mask = 0;
      for (int o = 0; o < kOutputs; ++o) mask |= (slots[four * kOutputs + o] >= 0) << o;
      return mask;
    }
  };
  using Rows = std::vector<Row>;

  // For each input the mask of the outputs of a four that see it.
  static std::vector<uint8_t> masks_of(const Connections& connections, int64_t four, int64_t inputs) {
    std::vector<uint8_t> masks(inputs);
    for (int64_t o = 0; o < kOutputs; ++o)
      for (int64_t i = 0; i < connections.fan; ++i) masks[connections.input(four * kOutputs + o, i)] |= 1 << o;
    return masks;
  }

  // How far apart two fours are that see most inputs alike, counted in fours: more than all fours if none do.
  static int64_t best_gap(const Connections& connections, int64_t whole, int64_t inputs) {
    int64_t best = whole + 1, most = 0;
    const std::vector<uint8_t> first = whole > 0 ? masks_of(connections, 0, inputs) : std::vector<uint8_t>();
    for (int64_t gap = 1; gap <= whole / 2; ++gap) {
      const std::vector<uint8_t> other = masks_of(connections, gap, inputs);
      int64_t alike = 0;
      for (int64_t i = 0; i < inputs; ++i) alike += first[i] && first[i] == other[i];
      if (alike > most) best = gap, most = alike;
    }
    return best;
  }

  // The tile of the four from `first` on and, if it is not past the last output, the four from `second` on.
  void add_tile(const Connections& connections, int64_t first, int64_t second) {
    std::array<std::array<Rows, kAll + 1>, 3> of;  // by fours and mask
    for (const Row& row : rows_of(connections, first, second)) {
      const int a = row.mask(0), b = row.mask(1);
      if (a == b) of[2][a].push_back(row);
      else of[0][a].push_back(row), of[1][b].push_back(row);
    }
    if (second < outputs) tiles.push_back({first, second - first - kOutputs, 2 * kOutputs});
    else tiles.push_back({first, 0, std::min<int64_t>(kOutputs, outputs - first)});
    for (const Fours fours : {Fours::first, Fours::second, Fours::both}) add_steps(fours, of[static_cast<int>(fours)]);
  }

  // Joins inputs that only a mask's outputs see with inputs that only the other outputs see.
  void add_steps(Fours fours, std::array<Rows, kAll + 1>& of_mask) {
    for (int mask = 1; mask < kAll; mask += 2) {
      Rows &a = of_mask[mask], &b = of_mask[kAll - mask];
      const auto pairs = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
      add_segment(kPair + mask, fours, {a.begin(), a.begin() + pairs}, {b.begin(), b.begin() + pairs});
      a.erase(a.begin(), a.begin() + pairs);
      b.erase(b.begin(), b.begin() + pairs);
    }
    for (int mask = 1; mask <= kAll; ++mask) add_segment(mask, fours, of_mask[mask], of_mask[mask]);
  }

  // The inputs of the outputs from `first` and from `second` on, four each, sorted by channel.
  static Rows rows_of(const Connections& connections, int64_t first, int64_t second) {
    Rows rows;
    for (int o = 0; o < 2 * kOutputs; ++o) {
      const int64_t output = o < kOutputs ? first + o : second + o - kOutputs;
      for (int64_t i = 0; i < connections.fan && output < connections.outputs; ++i) {
        rows.push_back({connections.input(output, i), {-1, -1, -1, -1, -1, -1, -1, -1}});
        rows.back().slots[o] = connections.slots[output * connections.fan + i];
      }
    }
    std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.channel < b.channel; });
    Rows merged;
    for (const Row& row : rows) {
      if (merged.empty() || merged.back().channel != row.channel) merged.push_back(row);
      else merge(row, merged.back());
    }
    return merged;
  }

  static void merge(const Row& row, Row& into) {
    for (size_t o = 0; o < into.slots.size(); ++o) into.slots[o] = std::max(into.slots[o], row.slots[o]);
  }

  void add_segment(int kind, Fours fours, const Rows& a, const Rows& b) {
    if (a.empty()) return;
    const auto done = static_cast<int32_t>(steps.size());
    segments.push_back({kind, fours, done, done + static_cast<int32_t>(a.size()), static_cast<int32_t>(weight_at.size())});
    const int first = fours == Fours::second ? kOutputs : 0, last = fours == Fours::first ? kOutputs : 2 * kOutputs;
    for (size_t i = 0; i < a.size(); ++i) {
      steps.push_back({static_cast<int32_t>(a[i].channel), static_cast<int32_t>(b[i].channel)});
      for (int64_t tap = 0; tap < area_; ++tap)
        for (int o = first; o < last; ++o) {
          const int64_t slot = std::max(a[i].slots[o], b[i].slots[o]);
          weight_at.push_back(slot < 0 ? -1 : static_cast<int32_t>(slot * area_ + (flip_ ? area_ - 1 - tap : tap)));
        }
    }
  }

  int64_t area_ = 1;
  bool flip_ = false;
};

// The plans of a convolution and of the gradient of its input.
struct Plans {
  Plan forward, backward;
  bool dense;  // 1 x 1, and every output sees every input

  int64_t bytes() const { return forward.bytes() + backward.bytes(); }

  static Plans of(const Connections& connections, int64_t inputs, int64_t kernel) {
    return {Plan(connections, inputs, kernel), Plan(connections.transposed(inputs), connections.outputs, kernel, true), false};
  }
  static Plans full(int64_t inputs, int64_t outputs) {
    return {Plan(inputs, outputs, inputs, 1), Plan(outputs, inputs, 1, inputs), true};
  }
};

}  // namespace efficientconv
