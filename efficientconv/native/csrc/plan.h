// The order in which the kernels go through the connections: the steps of each tile of four output channels (tile.h).
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
  int64_t outputs;
  std::vector<int32_t> tiles{0}, weights;
  std::vector<Segment> segments;
  std::vector<Offsets> steps;
  int64_t output_stride = 0, step_stride = 0;  // used if `weights` is empty

  // flip: turns the k x k kernels by 180 degrees, as the gradient of the input needs them.
  Plan(const Connections& connections, int64_t kernel, bool flip = false)
      : outputs(connections.outputs), area_(kernel * kernel), flip_(flip) {
    for (int64_t first = 0; first < outputs; first += kOutputs) {
      add_tile(connections, first);
      tiles.push_back(static_cast<int32_t>(segments.size()));
    }
  }

  // The plan in which every output sees every input. The strides are the weight's, from output to output and from input
  // to input.
  static Plan dense(int64_t inputs, int64_t outputs, int64_t output_stride, int64_t step_stride) {
    Plan plan(Connections::full(inputs, outputs), 1);
    plan.weights = {};
    plan.output_stride = output_stride, plan.step_stride = step_stride;
    return plan;
  }

  PlanView view() const {
    return {outputs, static_cast<int64_t>(tiles.size()) - 1, static_cast<int64_t>(steps.size()), tiles.data(), segments.data(),
            steps.data(), weights.empty() ? nullptr : weights.data(), output_stride, step_stride};
  }

 private:
  static constexpr int kAll = 15, kPair = 16;  // the mask of all four outputs, and the bit that marks a pair

  // An input of a tile. slots[o]: the slot by which output o sees the input, -1 if it does not see it.
  struct Row {
    int64_t channel;
    std::array<int64_t, kOutputs> slots;

    int mask() const {
      int mask = 0;
      for (int o = 0; o < kOutputs; ++o) mask |= (slots[o] >= 0) << o;
      return mask;
    }
  };
  using Rows = std::vector<Row>;

  void add_tile(const Connections& connections, int64_t first) {
    std::array<Rows, kAll + 1> of_mask;
    for (const Row& row : rows_of(connections, first)) of_mask[row.mask()].push_back(row);
    // pairs: an input that only the mask's outputs see, with an input that only the other outputs see
    for (int mask = 1; mask < kAll; mask += 2) {
      Rows &a = of_mask[mask], &b = of_mask[kAll - mask];
      const auto pairs = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
      add_segment(kPair + mask, {a.begin(), a.begin() + pairs}, {b.begin(), b.begin() + pairs});
      a.erase(a.begin(), a.begin() + pairs);
      b.erase(b.begin(), b.begin() + pairs);
    }
    for (int mask = 1; mask <= kAll; ++mask) add_segment(mask, of_mask[mask], of_mask[mask]);
  }

  // The inputs of the tile whose first output is `first`, sorted by channel.
  static Rows rows_of(const Connections& connections, int64_t first) {
    Rows rows;
    for (int64_t o = 0; o < std::min<int64_t>(kOutputs, connections.outputs - first); ++o)
      for (int64_t i = 0; i < connections.fan; ++i) {
        Row row{connections.input(first + o, i), {-1, -1, -1, -1}};
        row.slots[o] = connections.slots[(first + o) * connections.fan + i];
        rows.push_back(row);
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
    for (int o = 0; o < kOutputs; ++o) into.slots[o] = std::max(into.slots[o], row.slots[o]);
  }

  void add_segment(int kind, const Rows& a, const Rows& b) {
    if (a.empty()) return;
    const auto done = static_cast<int32_t>(steps.size());
    segments.push_back({kind, done, done + static_cast<int32_t>(a.size() * area_)});
    for (size_t i = 0; i < a.size(); ++i) {
      Row both = a[i];
      merge(b[i], both);
      for (int64_t tap = 0; tap < area_; ++tap) {
        const auto start = [&](const Row& row) { return static_cast<int32_t>((row.channel * area_ + tap) * kBlock); };
        steps.push_back({start(a[i]), start(b[i])});
        for (const int64_t slot : both.slots)
          weights.push_back(slot < 0 ? -1 : static_cast<int32_t>(slot * area_ + (flip_ ? area_ - 1 - tap : tap)));
      }
    }
  }

  int64_t area_;
  bool flip_;
};

// The plans of a convolution and of the gradient of its input.
struct Plans {
  Plan forward, backward;
  int64_t kernel;
  bool dense;  // 1 x 1, and every output sees every input

  static Plans of(const Connections& connections, int64_t inputs, int64_t kernel) {
    return {Plan(connections, kernel), Plan(connections.transposed(inputs), kernel, true), kernel, false};
  }
  static Plans full(int64_t inputs, int64_t outputs) {
    return {Plan::dense(inputs, outputs, inputs, 1), Plan::dense(outputs, inputs, 1, inputs), 1, true};
  }
};

}  // namespace efficientconv
