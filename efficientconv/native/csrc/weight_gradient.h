// The gradient of the weights over a plan's connections: sums over pixels.
#pragma once

#include "connections.h"
#include "depthwise.h"

namespace efficientconv {

// Places of a group. The sums are long, and the first cache holds the gradients of a tile's outputs. Layers of very many
// channels get fewer places, so that a thread's inputs and gradients take 8 MiB at most.
inline int64_t places_together(int64_t rows) { return std::clamp<int64_t>((int64_t{2} << 20) / rows, 96, 768); }

// The inputs of a group of pixels: a long row for each row of the source. If the source's line has gaps, the taps of a k x k
// kernel are read from the same row.
class LongRows {
 public:
  template <class Source>
  LongRows(const Source& source, int64_t places)
      : line_(source.line()), rows_(source.rows()), stride_(round_up(places + 2 * line_.margin(), kLanes)),
        floats_(rows_ * stride_ + kLanes) {
    const int64_t gap = line_.gap, kernel = 2 * gap + 1;
    for (int64_t tap = 0; tap < kernel * kernel; ++tap) shifts_.push_back((tap / kernel - gap) * line_.pitch + tap % kernel - gap);
  }

  Inputs inputs() const { return {floats_ + line_.margin(), stride_, static_cast<int64_t>(shifts_.size()), shifts_.data()}; }

  // Fills places [begin, end) of the line and those beside them.
  void fill(const Pixels& source, int64_t begin, int64_t end) {
    const int64_t left = begin - line_.margin(), first = std::max<int64_t>(0, left);
    std::vector<Run> runs;
    line_.add_runs(first, std::min(line_.size(), end + line_.margin()), 0, runs);
    for (Run& run : runs) run.at += first - left;
    source.fill_line(runs, stride_, floats_);
  }
  void fill(const Depthwise& source, int64_t begin, int64_t end) { fill(source, line_.runs(begin, end)); }
  void fill(const Depthwise& source, const std::vector<Run>& runs) {
    source.fill(runs, kBlock, stride_, floats_);
    clear_tail(runs.back(), rows_, kBlock, stride_, floats_);
  }

 private:
  Line line_;
  int64_t rows_, stride_;
  Floats floats_;
  std::vector<int64_t> shifts_;
};

// The packed weights of the tiles before `tile`.
inline int64_t weights_before(const PlanView& plan, int64_t tile) {
  return tile < plan.tiles ? plan.segments[plan.tile_segments[tile]].weights : plan.weights;
}

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
inline void add_tile_gradient(const PlanView& plan, int64_t tile, const Inputs& x, const float* g, int64_t stride, int64_t vectors, float* sum) {
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
  const int64_t together = places_together(source.rows() + rows);
  // With few pixels the threads share the tiles, and each thread reads all pixels.
  const bool by_tiles = places < threads * together && plan.tiles >= threads;
  const Parts groups((places + kLanes - 1) / kLanes, together / kLanes, by_tiles ? 1 : threads);
  const int64_t workers = std::min(threads, by_tiles ? plan.tiles : groups.count), sets = by_tiles ? 1 : workers;
  const int64_t stride = round_up(groups.most() * kLanes, kBlock);
  const Floats sums(sets * plan.weights);
  parallel(workers, 1, [&](int64_t first, int64_t last) {
    LongRows inputs(source, stride);
    const Floats g(rows * stride + kLanes);
    for (int64_t worker = first; worker < last; ++worker) {
      const Share share(worker, workers, groups.count, plan.tiles, by_tiles);
      float* sum = sums + (by_tiles ? 0 : worker * plan.weights);
      std::fill(sum + weights_before(plan, share.first_tile), sum + weights_before(plan, share.last_tile), 0.f);
      for (int64_t group = share.first_group; group < share.last_group; ++group) {
        const int64_t begin = groups.first(group) * kLanes, end = std::min(places, begin + groups.size(group) * kLanes);
        inputs.fill(source, begin, end);
        gradients.fill_line(line.runs(begin, end, end - begin), stride, g);
        std::fill(g + plan.outputs * stride, g + rows * stride, 0.f);  // the outputs that the last tile lacks
        for (int64_t tile = share.first_tile; tile < share.last_tile; ++tile)
          add_tile_gradient(plan, tile, inputs.inputs(), g, stride, groups.size(group), sum);
      }
    }
  });
  add_up_weights(plan, sums, sets, grad);
}

}  // namespace efficientconv
