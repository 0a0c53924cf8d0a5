// The weight gradient of a projection that joins all channels: a matrix product whose sums run over pixels.
//
// If pixels lay along the vectors, as in connections.h, each sum would go across lanes. So the projection's input is
// transposed first: the register tile then has inputs along the vectors and goes through the pixels.
#pragma once

#include "connections.h"

namespace efficientconv {

// Transposes a square of kLanes x kLanes floats in log2(kLanes) rounds. A round zips each row of the upper half with the
// row kLanes / 2 further down.
EC_INLINE void transpose_square(const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  Vec rows[kLanes], zipped[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = load(from + i * from_stride);
#pragma GCC unroll 4
  for (int length = kLanes; length > 1; length /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      zipped[2 * i] = zip_lower(rows[i], rows[i + kLanes / 2]);
      zipped[2 * i + 1] = zip_upper(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = zipped[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(to + i * to_stride, rows[i]);
}

// Transposes a block of `vectors` * kLanes rows and kBlock columns. The rows of both blocks are kBlock floats apart.
inline void transpose_block(int64_t vectors, const float* from, float* to) {
  for (int64_t r = 0; r < vectors; ++r)
    for (int c = 0; c < kVectors; ++c)
      transpose_square(from + r * kLanes * kBlock + c * kLanes, kBlock, to + c * kLanes * kBlock + r * kLanes, kBlock);
}

// Stores four rows of kBlock floats column by column: kBlock columns of four floats.
inline void zip_rows(const float* from, float* to) {
  for (int p = 0; p < kBlock; p += kLanes, to += kOutputs * kLanes)
    zip_four([&](int row) { return load(from + row * kBlock + p); }, to);
}

struct AddTo {
  float* to;
  int64_t stride;
  EC_INLINE void operator()(int o, int v, Vec sum) const {
    float* at = to + o * stride + v * kLanes;
    store(at, load(at) + sum);
  }
};

// The layout of the sums: a set has outputs x `width` of them, both rounded up to whole tiles. Each thread may have its
// own set.
struct DenseSums {
  int64_t outputs, rows, width, tiles;

  DenseSums(int64_t outputs, int64_t rows)
      : outputs(outputs), rows(rows), width(round_up(rows, kBlock)), tiles((outputs + kOutputs - 1) / kOutputs) {}
  int64_t size() const { return tiles * kOutputs * width; }
  int64_t panel() const { return tiles * kOutputs * kBlock; }  // floats of a panel of the outputs' gradients

  // grad (outputs x rows) = the total of `sets` sets, which stand one after the other
  void add_up(const float* sums, int64_t sets, float* grad) const {
    parallel(outputs, std::max<int64_t>(1, kSerial / rows), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        const float* from = sums + o * width;
        float* to = grad + o * rows;
        std::copy_n(from, rows, to);
        for (int64_t set = 1; set < sets; ++set)
          for (int64_t i = 0; i < rows; ++i) to[i] += from[set * size() + i];
      }
    });
  }
};

inline Groups dense_groups(const Maps& maps, int64_t rows, int64_t threads) { return {maps, rows, 1, 384 / kBlock, threads}; }

// Fills g, which has `floats` floats, with the gradients of the outputs. Zeros follow the last pixel and the last output.
template <class Gradients>
void fill_gradients(const Gradients& gradients, const std::vector<Run>& runs, int64_t outputs, int64_t block_stride,
                    int64_t row_stride, int64_t floats, float* g) {
  if (runs.back().at + runs.back().length < kBlock || outputs % kOutputs) std::fill_n(g, floats, 0.f);
  gradients.fill(runs, block_stride, row_stride, g);
}

// sum += the products of one group of `blocks` blocks, for tiles [first, last) of outputs. g: the panels of the outputs'
// gradients.
template <class Source>
void add_dense_group(const Source& source, const std::vector<Run>& runs, int64_t blocks, int64_t first, int64_t last,
                     const DenseSums& dense, const float* g, float* sum) {
  static constexpr float zeros[kTileOutputs] = {};
  const int64_t rows = dense.rows, width = dense.width, steps = blocks * kBlock, panel = rows * kBlock;
  // kLanes rows of zeros more, because transpose_block reads whole vectors of rows
  const Floats panels(blocks * panel + kLanes * kBlock);
  const Floats inputs(steps * kBlock);
  const Floats packed(blocks * dense.panel());
  if (runs.back().at + runs.back().length < kBlock) std::fill_n(panels.get(), blocks * panel, 0.f);
  std::fill_n(panels + blocks * panel, kLanes * kBlock, 0.f);
  source.fill(runs, panel, kBlock, panels);
  clear_tail(runs.back(), rows, panel, kBlock, panels);
  for (int64_t tile = first; tile < last; ++tile)
    for (int64_t b = 0; b < blocks; ++b)
      zip_rows(g + b * dense.panel() + tile * kOutputs * kBlock, packed + (tile * steps + b * kBlock) * kOutputs);
  for (int64_t column = 0; column < width; column += kBlock) {
    const int64_t vectors = std::min<int64_t>(kVectors, (rows - column + kLanes - 1) / kLanes);
    for (int64_t b = 0; b < blocks; ++b) transpose_block(vectors, panels + b * panel + column * kBlock, inputs + b * kBlock * kBlock);
    for (int64_t output = first * kOutputs, outputs; output < last * kOutputs; output += outputs) {
      outputs = dense_outputs(last * kOutputs - output);
      const PackedWeights weights{packed + output * steps, steps};
      const AddTo out{sum + output * width + column, width};
      with_vectors(vectors, [&](auto n) { dense_tile<n>(outputs, weights, steps, PanelRows{inputs}, zeros, out); });
    }
  }
}

// grad (m x rows of the source) = the gradient of the projection's weights, given that of the outputs, B x m x H x W.
template <class Source>
void dense_weight_gradient(const Source& source, int64_t outputs, const float* grad_output, float* grad) {
  const Maps& maps = source.maps;
  const Maps output_maps{maps.images, outputs, maps.height, maps.width};
  const Pixels gradients{output_maps, grad_output};
  const DenseSums dense(outputs, source.rows());
  // With more outputs than pixels, the threads share the outputs, and each thread reads all pixels. That takes less
  // time than adding up one set of sums for each thread.
  const bool by_tiles = maps.images * maps.pixels() <= outputs;
  const Groups groups = dense_groups(maps, dense.rows, by_tiles ? 1 : thread_count());
  const int64_t workers = std::min(thread_count(), by_tiles ? dense.tiles : groups.count), sets = by_tiles ? 1 : workers;
  const Floats sums(sets * dense.size());
  parallel(workers, 1, [&](int64_t first, int64_t last) {
    for (int64_t w = first; w < last; ++w) {
      const Share share(w, workers, groups.count, dense.tiles, by_tiles);
      float* sum = sums + (by_tiles ? 0 : w * dense.size());
      std::fill(sum + share.first_tile * kOutputs * dense.width, sum + share.last_tile * kOutputs * dense.width, 0.f);
      const Floats g(groups.most() * dense.panel());
      for (int64_t group = share.first_group; group < share.last_group; ++group) {
        const std::vector<Run> runs = groups.runs(maps, group);
        fill_gradients(gradients, runs, outputs, dense.panel(), kBlock, groups.size(group) * dense.panel(), g);
        add_dense_group(source, runs, groups.size(group), share.first_tile, share.last_tile, dense, g, sum);
      }
    }
  });
  dense.add_up(sums, sets, grad);
}

}  // namespace efficientconv
