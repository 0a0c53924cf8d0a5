// How the maps of a batch are cut into blocks: small enough for a core's second cache, and enough for every thread.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "tile.h"

namespace efficientconv {

constexpr int64_t kScratchFloats = 96 * 1024;  // 384 KiB of a 512 KiB cache: the packed weights stream past it

// Maps of a batch, B x C x H x W, contiguous.
struct Maps {
  int64_t images, channels, height, width;
  int64_t pixels() const { return height * width; }
};

// The part of a block that lies in one image: `rows` rows from `row`, at `pixel` of the block.
struct Chunk {
  int64_t image, row, rows, pixel;
};

// A block is `rows` rows of one image, or whole images.
struct Blocking {
  int64_t rows, images, row_blocks, count, pixels;

  Blocking(const Maps& maps, int64_t rows_, int64_t images_)
      : rows(rows_),
        images(images_),
        row_blocks((maps.height + rows - 1) / rows),
        count(row_blocks * ((maps.images + images - 1) / images)),
        pixels(rows * images * maps.width) {}

  // calls f(chunk) for each part of block `index`, and returns the block's pixels
  template <class F>
  int64_t for_each_chunk(const Maps& maps, int64_t index, F f) const {
    const int64_t row = index % row_blocks * rows, first = index / row_blocks * images;
    const int64_t last = std::min(first + images, maps.images), height = std::min(rows, maps.height - row);
    int64_t pixel = 0;
    for (int64_t image = first; image < last; ++image, pixel += height * maps.width)
      f(Chunk{image, row, height, pixel});
    return pixel;
  }
};

// Rows a block for `channels` scratch planes, each with `halo` more rows: those that waste least in partly filled
// vectors and repeated halos, within the scratch space. Whole images share a block where `join` allows.
inline Blocking choose_blocking(const Maps& maps, int64_t channels, int64_t halo, bool join) {
  const int64_t budget = std::max<int64_t>(kScratchFloats / std::max<int64_t>(channels, 1), 1);
  const int64_t most = std::clamp<int64_t>(budget / maps.width - halo, 1, maps.height);
  if (join && most == maps.height) {
    const int64_t images = std::clamp<int64_t>(budget / maps.pixels(), 1, maps.images);
    const int64_t parts = (maps.images + images - 1) / images;
    return Blocking(maps, maps.height, (maps.images + parts - 1) / parts);
  }
  int64_t best = 1;
  double least = 1e300;
  for (int64_t rows = 1; rows <= most; ++rows) {
    const int64_t full = maps.height / rows, rest = maps.height % rows;
    const double cost = full * (round_up(rows * maps.width, kLanes) + 0.1 * halo * maps.width + 4) +
                        (rest ? round_up(rest * maps.width, kLanes) + 0.1 * halo * maps.width + 4 : 0);
    if (cost <= least) best = rows, least = cost;
  }
  return Blocking(maps, best, 1);
}

// A plane's stride in the scratch space: room for a whole last block of pixels, and no multiple of 256 bytes, lest the
// planes fall into the same cache sets.
inline int64_t plane_stride(int64_t pixels) {
  const int64_t stride = round_up(pixels + kBlock, 16);
  return stride % 64 ? stride : stride + 16;
}

// Aligned memory that a thread keeps from call to call, one for each `slot` in use at the same time.
inline float* thread_scratch(int slot, int64_t floats) {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<float, Free> memory[4];
  thread_local int64_t sizes[4] = {};
  if (sizes[slot] < floats) {
    sizes[slot] = round_up(floats, 1024);
    memory[slot].reset(static_cast<float*>(std::aligned_alloc(4096, sizes[slot] * sizeof(float))));
    if (!memory[slot]) throw std::bad_alloc();
  }
  return memory[slot].get();
}

}  // namespace efficientconv
