// The gradient of the weights over a plan's connections: sums over pixels. One group of pixels at a time is in the
// cache.
//
// The factors lie in rows, one row for each input and one for each output. For a k x k convolution an input's row has
// the rows of its map, with zeros between them, and a tap is an offset. For a projection after a depthwise convolution
// an input's row has the results of the depthwise convolution.
#pragma once

#include "connections.h"
#include "depthwise.h"

namespace efficientconv {

// The inputs of a k x k convolution: maps with k / 2 zeros after each row of pixels, and k / 2 rows of zeros below each
// image. A group is a band of such rows.
class Bands {
 public:
  Bands(const Maps& maps, const float* x, int64_t kernel)
      : maps_(maps), x_(x), kernel_(kernel), pad_(kernel / 2), pitch_(maps.width + pad_),
        rows_(maps.images * (maps.height + pad_)) {
    const int64_t fit = kPanelFloats / (maps.channels * pitch_) - 2 * pad_, least = (4 * kLanes - 1) / pitch_ + 1;
    band_ = std::min(std::max(fit, least), rows_);
    length_ = round_up(band_ * pitch_, kLanes);
    stride_ = round_up(length_ + 2 * margin(), kLanes);
  }

  int64_t rows() const { return maps_.channels * kernel_ * kernel_; }  // as the plan counts them
  int64_t groups() const { return (rows_ + band_ - 1) / band_; }
  int64_t length() const { return length_; }  // floats of a row of gradients
  int64_t input_floats() const { return maps_.channels * stride_; }
  int64_t vectors(int64_t group) const { return (std::min(band_, rows_ - group * band_) * pitch_ + kLanes - 1) / kLanes; }

  // Where the plan's row `channel * k^2 + tap` starts in the inputs.
  int32_t offset(int64_t row) const {
    const int64_t channel = row / (kernel_ * kernel_), tap = row % (kernel_ * kernel_);
    return static_cast<int32_t>(channel * stride_ + margin() + (tap / kernel_ - pad_) * pitch_ + tap % kernel_ - pad_);
  }

  // Writes the pixels alone: the caller has zeroed `inputs`, and the zeros between the pixels stay.
  void fill(int64_t group, float* inputs) const { copy(maps_, x_, group * band_ - pad_, band_ + 2 * pad_, stride_, inputs + pad_); }

  void fill_gradients(int64_t group, int64_t outputs, const float* grad_output, float* g) const {
    copy({maps_.images, outputs, maps_.height, maps_.width}, grad_output, group * band_, band_, length_, g);
  }

 private:
  int64_t margin() const { return pad_ * (pitch_ + 1); }

  // Copies the pixels of `count` rows from row `first` on, for all channels. In `to`, channels are `stride` floats apart.
  void copy(const Maps& maps, const float* from, int64_t first, int64_t count, int64_t stride, float* to) const {
    std::vector<const float*> rows(count);  // addresses in channel 0; null: a row of zeros
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i, image = row / (maps.height + pad_), y = row % (maps.height + pad_);
      const bool inside = row >= 0 && row < rows_ && y < maps.height;
      rows[i] = inside ? from + image * maps.channels * maps.pixels() + y * maps.width : nullptr;
    }
    for (int64_t c = 0; c < maps.channels; ++c)
      for (int64_t i = 0; i < count; ++i) {
        float* const at = to + c * stride + i * pitch_;
        const float* const row = rows[i];
        const int64_t channel = c * maps.pixels();
        if (row) for_each_piece(maps.width, [&](int64_t p, auto n) { std::copy_n(row + channel + p, n(), at + p); });
        else std::fill_n(at, maps.width, 0.f);
      }
  }

  Maps maps_;
  const float* x_;
  int64_t kernel_, pad_, pitch_, rows_, band_, length_, stride_;
};

// The inputs of a projection: the results of a depthwise convolution, blocks side by side.
class Blocks {
 public:
  explicit Blocks(const Depthwise& source)
      : source_(source), groups_(source.maps, source.rows(), 96 / kBlock, 8, thread_count()) {}

  int64_t rows() const { return source_.rows(); }
  int64_t groups() const { return groups_.count; }
  int64_t length() const { return groups_.most() * kBlock; }
  int64_t input_floats() const { return source_.rows() * length(); }
  int64_t vectors(int64_t group) const { return groups_.size(group) * kVectors; }
  int32_t offset(int64_t row) const { return static_cast<int32_t>(row * length()); }

  void fill(int64_t group, float* inputs) const {
    std::fill_n(inputs, is_last(group) ? input_floats() : 0, 0.f);  // zeros past the last pixel
    source_.fill(groups_.runs(source_.maps, group), kBlock, length(), inputs);
  }

  void fill_gradients(int64_t group, int64_t outputs, const float* grad_output, float* g) const {
    const Maps maps{source_.maps.images, outputs, source_.maps.height, source_.maps.width};
    std::fill_n(g, is_last(group) ? outputs * length() : 0, 0.f);
    Patches{maps, grad_output, 1, nullptr}.fill(groups_.runs(maps, group), kBlock, length(), g);
  }

 private:
  bool is_last(int64_t group) const { return group + 1 == groups(); }

  const Depthwise& source_;
  Groups groups_;
};

// The steps' offsets in the source's inputs. The plan's own offsets count rows of kBlock floats.
template <class Source>
std::vector<Offsets> offsets_of(const Source& source, const PlanView& plan) {
  std::vector<int32_t> rows(source.rows());
  for (size_t row = 0; row < rows.size(); ++row) rows[row] = source.offset(row);
  std::vector<Offsets> at(plan.steps);
  parallel(plan.steps, kSerial / 4, [&](int64_t first, int64_t last) {
    for (int64_t s = first; s < last; ++s) at[s] = {rows[plan.offsets[s].a / kBlock], rows[plan.offsets[s].b / kBlock]};
  });
  return at;
}

// grad (of the weight's shape, each element written once) = the total of `sets` sets of sums, which stand one after the
// other.
inline void add_up_weights(const PlanView& plan, const float* sums, int64_t sets, float* grad) {
  const int64_t size = plan.steps * kOutputs;
  parallel(plan.steps, kSerial / kOutputs, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * kOutputs; i < end * kOutputs; ++i) {
      if (plan.step_weights[i] < 0) continue;
      float total = 0;
      for (int64_t set = 0; set < sets; ++set) total += sums[set * size + i];
      grad[plan.step_weights[i]] = total;
    }
  });
}

// grad = the gradient of the weights, given that of the outputs, B x m x H x W.
template <class Source>
void weight_gradient(const Source& source, const PlanView& plan, const float* grad_output, float* grad) {
  const int64_t groups = source.groups(), workers = std::min(thread_count(), groups), size = plan.steps * kOutputs;
  const int64_t g_floats = plan.tiles * kOutputs * source.length();
  const std::vector<Offsets> at = offsets_of(source, plan);
  const Floats sums(workers * size);
  parallel(workers, 1, [&](int64_t first, int64_t last) {
    for (int64_t worker = first; worker < last; ++worker) {
      const Floats inputs(source.input_floats()), g(g_floats);
      float* sum = sums + worker * size;
      std::fill_n(sum, size, 0.f);
      std::fill_n(inputs.get(), source.input_floats(), 0.f);
      std::fill_n(g.get(), g_floats, 0.f);  // also where outputs are missing in the last tile
      for (int64_t group = groups * worker / workers; group < groups * (worker + 1) / workers; ++group) {
        source.fill(group, inputs);
        source.fill_gradients(group, plan.outputs, grad_output, g);
        for (int64_t tile = 0; tile < plan.tiles; ++tile)
          tile_weight_gradient(plan.segments + plan.tile_segments[tile], plan.segments + plan.tile_segments[tile + 1], at.data(),
                               inputs, g + tile * kOutputs * source.length(), source.length(), source.vectors(group), sum);
      }
    }
  });
  add_up_weights(plan, sums, workers, grad);
}

}  // namespace efficientconv
