// A whole spatial bottleneck for inference: what is on the cells never leaves the caches.
#pragma once

#include "cells.h"
#include "connections.h"

namespace efficientconv {

// y = epilogue(expand(project(reduce(x)))): B x n x H x W -> B x m x H x W. The projection's plan has n inputs, m outputs.
inline void bottleneck(const Grid& grid, const float* x, const float* reduce_filters, const PlanView& plan,
                       const float* weight, const float* expand_filters, const Epilogue& epilogue, float* y) {
  const Maps& in = grid.maps;
  const int64_t m = plan.outputs, cells = grid.cells();
  Grid out = grid;
  out.maps.channels = m;
  float* packed = thread_scratch(kWeights, plan.steps * kOutputs);
  pack_weights(plan, weight, nullptr, packed);
  const int64_t together = images_together(in.images, cells, thread_count());
  parallel((in.images + together - 1) / together, 1, [&](int64_t begin, int64_t end) {
    const CellScratch scratch(grid);
    float* reduced = thread_scratch(kReduced, together * in.channels * cells);
    float* projected = thread_scratch(kProjected, together * m * cells);
    for (int64_t image = begin * together; image < std::min(end * together, in.images); image += together) {
      const int64_t images = std::min(together, in.images - image);
      reduce_range(grid, x, reduce_filters, image * in.channels, (image + images) * in.channels, scratch, reduced);
      const Maps small{images, in.channels, grid.rows, grid.columns};
      const TapMasks all(small, 1);
      const Patches source{small, reduced, 1, &all};
      const Division division(small, source.rows(), 1);
      convolve_items(source, plan, packed, Epilogue{}, division, 0, division.items(), projected);
      expand_range(out, projected, expand_filters, epilogue, image * m, (image + images) * m, scratch, y);
    }
  });
}

}  // namespace efficientconv
