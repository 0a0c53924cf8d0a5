// A network's first layer for inference: a strided convolution of few channels, batch norm, ReLU and max pool in one go.
// The library's convolutions are slow on three channels, and the map before the pool is the largest of the network.
#pragma once

#include "connections.h"

namespace efficientconv {

// What a k x k kernel with a stride sees from rows [first_row, first_row + maps.height) of the outputs of one image.
struct StridedPatches {
  Maps maps;  // of the outputs: one image, input channels
  const float* x;
  int64_t height, width, kernel, stride, padding, first_row;

  int64_t rows() const { return maps.channels * kernel * kernel; }

  void fill(const std::vector<Run>& runs, int64_t panel_stride, float* panels) const {
    for (const Run& run : runs) {
      float* panel = panels + run.block * panel_stride + run.at;
      for (int64_t done = 0, length; done < run.length; done += length) {  // one row of outputs after the other
        const int64_t row = (run.pixel + done) / maps.width, column = (run.pixel + done) % maps.width;
        length = std::min(run.length - done, maps.width - column);
        const int64_t y = (first_row + row) * stride - padding, left = column * stride - padding;
        // two input columns for each output, and as many more as the last taps reach
        const bool fast = stride == 2 && y >= 0 && y + kernel <= height && left >= 0 &&
                          left + 2 * round_up(length, 4) + kernel + kLanes <= width && length % 4 == 0;
        for (int64_t c = 0; c < maps.channels; ++c)
          for (int64_t dy = 0; dy < kernel; ++dy) {
            float* to = panel + (c * kernel + dy) * kernel * kBlock + done;
            const float* from = x + (c * height + y + dy) * width + left;
            for (int64_t dx = 0; dx < kernel; ++dx, to += kBlock)
              if (fast) every_second(from + dx, length, to);
              else fill_row(c, y + dy, left + dx, length, to);
          }
      }
    }
  }

 private:
  // `count` pixels, a multiple of four, a stride of 2 apart
  EC_INLINE static void every_second(const float* from, int64_t count, float* to) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      store(to + i, shuffle<0, 2, 4, 6, 8, 10, 12, 14>(load(from + 2 * i), load(from + 2 * i + kLanes)));
    if (i < count) {
      const Vec v = load(from + 2 * i);
      to[i] = v[0], to[i + 1] = v[2], to[i + 2] = v[4], to[i + 3] = v[6];
    }
  }

  // `count` pixels of input row `row`, from `column`, a stride apart
  void fill_row(int64_t c, int64_t row, int64_t column, int64_t count, float* to) const {
    const float* from = x + (c * height + row) * width + column;
    const bool inside = row >= 0 && row < height && column >= 0 && column + (count - 1) * stride < width;
    const float* const end = x + maps.channels * height * width;
    for_each_piece(count, [&](int64_t i, auto n) {
      if constexpr (n == 8) {
        if (inside && stride == 1) return store(to + i, load(from + i));
        if (inside && stride == 2 && from + 2 * i + 2 * kLanes <= end)
          return store(to + i, shuffle<0, 2, 4, 6, 8, 10, 12, 14>(load(from + 2 * i), load(from + 2 * i + kLanes)));
      }
      for (int64_t j = i; j < i + n; ++j) {
        const int64_t at = column + j * stride;
        to[j] = inside || (row >= 0 && row < height && at >= 0 && at < width) ? from[j * stride] : 0.f;
      }
    });
  }
};

EC_INLINE float larger(float a, float b) { return a > b || a != a ? a : b; }  // NaN stays
EC_INLINE Vec larger(Vec a, Vec b) { return (a > b) | (a != a) ? a : b; }

// Max over windows of k x k side by side; what fills none at the right and at the bottom is left out, as in torch.
inline void pool_map(const float* map, int64_t width, int64_t kernel, int64_t rows, float* highest, float* to) {
  const int64_t columns = width / kernel;
  for (int64_t r = 0; r < rows; ++r, map += kernel * width, to += columns) {
    int64_t x = 0;
    for (; x + kLanes <= width; x += kLanes) {
      Vec most = load(map + x);
      for (int64_t dy = 1; dy < kernel; ++dy) most = larger(most, load(map + dy * width + x));
      store(highest + x, most);
    }
    for (; x < width; ++x) {
      highest[x] = map[x];
      for (int64_t dy = 1; dy < kernel; ++dy) highest[x] = larger(highest[x], map[dy * width + x]);
    }
    x = 0;
    for (; kernel == 2 && x + kLanes <= columns; x += kLanes) {
      const Vec a = load(highest + 2 * x), b = load(highest + 2 * x + kLanes);
      store(to + x, larger(shuffle<0, 2, 4, 6, 8, 10, 12, 14>(a, b), shuffle<1, 3, 5, 7, 9, 11, 13, 15>(a, b)));
    }
    if (x == columns) continue;
    // the highest of each window of columns, in vectors and in place, of which every k-th is taken
    int64_t from = x * kernel;
    for (; from + kLanes + kernel <= width; from += kLanes) {
      Vec most = load(highest + from);
      for (int64_t dx = 1; dx < kernel; ++dx) most = larger(most, load(highest + from + dx));
      store(highest + from, most);
    }
    for (; from + kernel <= width; ++from)
      for (int64_t dx = 1; dx < kernel; ++dx) highest[from] = larger(highest[from], highest[from + dx]);
    for (; x < columns; ++x) to[x] = highest[x * kernel];
  }
}

// maps: B x C x H x W -> B x C x H / k x W / k
inline void max_pool(const Maps& maps, const float* x, int64_t kernel, float* y) {
  const int64_t rows = maps.height / kernel, columns = maps.width / kernel;
  parallel(maps.images * maps.channels, 8, [&](int64_t begin, int64_t end) {
    float* highest = thread_scratch(kRows, maps.width);
    for (int64_t i = begin; i < end; ++i)
      pool_map(x + i * maps.pixels(), maps.width, kernel, rows, highest, y + i * rows * columns);
  });
}

// x: B x C x H x W, in.maps -> B x m x rows x columns, pooled by pool x pool (1: not)
inline void stem(const Maps& in, const float* x, int64_t kernel, int64_t stride, int64_t padding, const PlanView& plan,
                 const float* weight, const Epilogue& epilogue, int64_t pool, float* y) {
  const int64_t height = (in.height + 2 * padding - kernel) / stride + 1;
  const int64_t width = (in.width + 2 * padding - kernel) / stride + 1;
  const int64_t rows = height / pool, columns = width / pool, m = plan.outputs;
  float* packed = thread_scratch(kWeights, plan.steps * kOutputs);
  pack_weights(plan, weight, epilogue.scale, packed);
  const int64_t strip = std::max<int64_t>(1, 640 / (pool * width));  // rows of the result that are made together
  const int64_t strips = (rows + strip - 1) / strip;
  parallel(in.images * strips, 1, [&](int64_t begin, int64_t end) {
    float* made = thread_scratch(kProjected, m * strip * pool * width);
    float* highest = thread_scratch(kRows, width);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / strips, row = item % strips * strip, count = std::min(strip, rows - row);
      const StridedPatches source{{1, in.channels, count * pool, width},
                                  x + image * in.numel() / in.images, in.height, in.width, kernel, stride, padding, row * pool};
      const Division division(source.maps, source.rows(), 1);
      convolve_items(source, plan, packed, epilogue, division, 0, division.items(), made);
      for (int64_t o = 0; o < m; ++o)
        pool_map(made + o * count * pool * width, width, pool, count, highest, y + ((image * m + o) * rows + row) * columns);
    }
  });
}

}  // namespace efficientconv
