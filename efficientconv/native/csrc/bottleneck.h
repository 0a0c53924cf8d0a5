// A whole spatial bottleneck in inference. The cells never leave the caches.
#pragma once

#include "cells.h"
#include "connections.h"

namespace efficientconv {

// y = epilogue(expand(project(reduce(x)))): B x n x H x W -> B x m x H x W. `plan`: the projection's, from n to m channels.
void run_bottleneck(const Grid& grid, const float* x, const float* reduce_filters, const PlanView& plan,
                       const float* weight, const float* expand_filters, const Epilogue& epilogue, float* y) {
  const Maps& in = grid.maps;
  const int64_t m = plan.outputs, cells = grid.cells();
  Grid out = grid;
  out.maps.channels = m;
  const Weights weights(plan, weight, nullptr);
  const Parts parts = images_together(in.images, cells, thread_count());
  parallel(parts.count, 1, [&](int64_t begin, int64_t end) {
    const CellScratch scratch(grid);
    const Floats reduced(parts.most() * in.channels * cells);
    const Floats projected(parts.most() * m * cells);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t image = parts.first(part), images = parts.size(part);
      reduce_range(grid, x, reduce_filters, image * in.channels, (image + images) * in.channels, scratch, reduced);
      const Pixels source{{images, in.channels, grid.rows, grid.columns}, reduced};
      const Division division(source.line(), source.rows(), 1);
      convolve_items(source, plan, weights, Epilogue{}, division, 0, division.items(), projected);
      expand_range(out, projected, expand_filters, epilogue, image * m, (image + images) * m, scratch, y);
    }
  });
}

}  // namespace efficientconv
