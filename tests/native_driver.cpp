// Runs every native kernel over buffers of exactly the size that it may touch, for the address and undefined-behaviour
// sanitizers, and prints a checksum. Cases come from test_native_sanitizers.py: int32 records in the file named first.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "kernels.h"
#include "parallel.h"
#include "plan.h"
#include "vec.h"

namespace efficientconv {

int64_t thread_count() { return 3; }

void on_threads(int64_t n, const std::function<void(int64_t)>& f) {
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < n; ++t) threads.emplace_back(f, t);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace efficientconv

using namespace efficientconv;
using Floats = std::vector<float>;

static FILE* file;

static std::vector<int32_t> read_ints() {
  int32_t count = 0;
  if (std::fread(&count, 4, 1, file) != 1) return {};
  std::vector<int32_t> values(count);
  if (std::fread(values.data(), 4, count, file) != static_cast<size_t>(count)) std::abort();
  return values;
}

static Floats numbers(int64_t n) {
  Floats values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(i * 7919 % 1000) / 1000.f - 0.4f;
  return values;
}

static double total(const Floats& values) {
  double sum = 0;
  for (float v : values) sum += v;
  return sum;
}

// dims and connections of a topology, and whether it is anchored at the corner; no dims: every row sees every output
static Plans read_plans(int64_t rows, int64_t outputs, int64_t kernel) {
  const auto dims = read_ints(), connections = read_ints(), corner = read_ints();
  if (dims.empty()) return Plans::full(rows, outputs);
  return Plans::of(Connections::of(dims, connections, corner[0]), rows, kernel);
}

static const Window pools[] = {{1, 1, 0}, {2, 2, 0}, {3, 2, 1}, {4, 3, 2}};
static const std::pair<int64_t, int64_t> cells[] = {{1, 0}, {2, 0}, {2, 1}, {3, 2}};  // side and padding

static int64_t pooled(int64_t size, const Window& pool) {
  return size + 2 * pool.padding < pool.kernel ? 0 : pool.outputs(size);
}

int main(int, char** argv) {
  file = std::fopen(argv[1], "rb");
  if (!file) return 2;
  double sum = 0;
  // images, channels, height, width, kernel, multiplier (0: no depthwise convolution), outputs, weights
  for (std::vector<int32_t> h; !(h = read_ints()).empty();) {
    const Maps shape{h[0], h[1], h[2], h[3]};
    const int64_t kernel = h[4], multiplier = h[5], outputs = h[6], pixels = shape.height * shape.width;
    const int64_t rows = multiplier ? shape.channels * multiplier : shape.channels;
    const Plans plans = read_plans(rows, outputs, multiplier ? 1 : kernel);
    const PlanView forward = plans.forward.view(), backward = plans.backward.view();
    const Floats x = numbers(shape.images * shape.channels * pixels), weight = numbers(h[7]), scale = numbers(outputs);
    const Floats filters = numbers(shape.channels * multiplier * kernel * kernel);
    const Filters depthwise{multiplier ? filters.data() : nullptr, kernel, multiplier ? multiplier : 1};
    Floats y(shape.images * outputs * pixels), residual = numbers(y.size()), grad(weight.size());
    run_convolution(shape, x.data(), depthwise, forward, weight.data(),
                    {scale.data(), scale.data(), residual.data(), true}, y.data());
    if (plans.dense) run_dense_weight_gradient(shape, x.data(), depthwise, outputs, y.data(), grad.data());
    else run_weight_gradient(shape, x.data(), depthwise, forward, y.data(), grad.data());
    const Maps out_shape{shape.images, outputs, shape.height, shape.width};
    Floats between(shape.images * rows * pixels);
    run_convolution(out_shape, y.data(), {nullptr, multiplier ? 1 : kernel, 1}, backward, weight.data(),
                    {nullptr, nullptr, nullptr, false}, between.data());
    if (multiplier) {
      Floats grad_x(x.size()), grad_filters(filters.size());
      run_depthwise_backward(shape, x.data(), depthwise, between.data(), x.data(), grad_x.data(), grad_filters.data());
      sum += total(grad_x) + total(grad_filters);
    }
    Floats out(y.size()), mean(outputs), var(outputs), g(y.size()), gy(y.size()), gg(outputs), gb(outputs);
    for (bool contiguous : {true, false}) {
      if (!contiguous && y.size() % kLanes) continue;  // channels-last, whole vectors only
      run_batch_norm_forward(out_shape, contiguous, y.data(), residual.data(), scale.data(), scale.data(), 1e-5, out.data(),
                             mean.data(), var.data());
      run_batch_norm_backward(out_shape, contiguous, residual.data(), out.data(), y.data(), mean.data(), var.data(),
                              scale.data(), 1e-5, g.data(), gy.data(), gg.data(), gb.data());
      sum += total(gy) + total(g);
    }
    for (bool adds : {false, true}) {
      if (!multiplier || (adds && outputs != shape.channels)) continue;
      Floats gx(x.size()), gf(filters.size());
      const NormedLayer layer{residual.data(), y.data(), mean.data(), var.data(), scale.data(), scale.data(), 1e-5, adds};
      run_sic_backward(shape, x.data(), depthwise, forward, backward, weight.data(), layer,
                       {gx.data(), gf.data(), grad.data(), gg.data(), gb.data()});
      sum += total(gx) + total(gf) + total(grad);
    }
    for (const auto& [cell, padding] : cells) {
      const Grid grid(shape, cell, padding);
      Floats small(shape.images * shape.channels * grid.cells()), taps = numbers(shape.channels * cell * cell), gt(taps.size());
      Floats big(x.size());
      run_reduce(grid, x.data(), taps.data(), small.data());
      run_expand(grid, small.data(), taps.data(), {nullptr, nullptr, x.data(), true}, big.data());
      run_cell_filter_gradient(grid, small.data(), x.data(), gt.data());
      Floats cell_mean(shape.channels), cell_var(shape.channels), gc(small.size()), cg(shape.channels), cb(shape.channels);
      run_cell_statistics(grid, small.data(), taps.data(), cell_mean.data(), cell_var.data());
      run_expand_backward(grid, x.data(), big.data(), small.data(), taps.data(), cell_mean.data(),
                          cell_var.data(), taps.data(), 1e-5, {gc.data(), gt.data(), cg.data(), cb.data()});
      sum += total(gc) + total(gt) + total(cg) + total(cb);
      for (const float* out : {static_cast<const float*>(nullptr), static_cast<const float*>(big.data())}) {
        Floats grad_x(x.size());
        run_reduce_backward(grid, x.data(), taps.data(), gc.data(), out ? x.data() : nullptr, out, grad_x.data(),
                            gt.data());
        sum += total(grad_x) + total(gt);
      }
      if (multiplier == 1) {  // the plan is a projection of the channels themselves
        Floats whole(y.size()), back = numbers(outputs * cell * cell);
        run_bottleneck(grid, x.data(), taps.data(), forward, weight.data(), back.data(),
                       {scale.data(), scale.data(), residual.data(), true}, whole.data());
        sum += total(whole);
      }
      sum += total(big) + total(gt);
    }
    for (int64_t stride = 1; !multiplier && stride <= 3; ++stride)
      for (const Window& pool : pools) {
        const int64_t edge = kernel / 2;
        const auto size = [&](int64_t n) { return pooled((n + 2 * edge - kernel) / stride + 1, pool); };
        if (size(shape.height) < 1 || size(shape.width) < 1) continue;
        Floats first(shape.images * outputs * size(shape.height) * size(shape.width));
        const Floats all = numbers(outputs * shape.channels * kernel * kernel);
        run_stem(shape, x.data(), kernel, stride, edge, outputs, all.data(),
                 {scale.data(), scale.data(), nullptr, true}, pool, first.data());
        sum += total(first);
      }
    for (const Window& pool : pools) {
      if (pooled(shape.height, pool) < 1 || pooled(shape.width, pool) < 1) continue;
      Floats less(shape.images * shape.channels * pooled(shape.height, pool) * pooled(shape.width, pool));
      for (bool contiguous : {true, false}) {
        Floats grad_x(x.size());
        run_max_pool(shape, contiguous, x.data(), pool, less.data());
        run_max_pool_backward(shape, contiguous, x.data(), pool, less.data(), grad_x.data());
        sum += total(less) + total(grad_x);
      }
    }
    sum += total(y) + total(grad) + total(between);
  }
  std::printf("checksum %.6g\n", sum);
  return 0;
}
